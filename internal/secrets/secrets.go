// Package secrets answers: what does a project keep from everybody but its jobs,
// and where? Values stand in a file beside belfry.yaml that is encrypted with
// age, and one private file holds the key. It knows no jobs and no runs.
package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// FileName is the name of a project's encrypted file, beside its belfry.yaml.
const FileName = "secrets.age"

// File is an encrypted file and the file with the key that opens it.
type File struct {
	Path string // absolute
	Key  string // absolute
}

// Read opens the file. One that is not there is an error that wraps
// fs.ErrNotExist. No error holds anything of what is inside.
func (f File) Read() (*Set, error) {
	sealed, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("read the secrets: %w", err)
	}
	keys, err := readKey(f.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key that opens %s is not in %s; copy that file from where the secrets were made, or name it in BELFRY_KEY_FILE", f.Path, f.Key)
	} else if err != nil {
		return nil, err
	}
	text, err := open(sealed, keys)
	var other *age.NoIdentityMatchError
	switch {
	case errors.As(err, &other):
		return nil, fmt.Errorf("%s was made with another key than the one in %s; copy that one here, or name it in BELFRY_KEY_FILE", f.Path, f.Key)
	case err != nil:
		return nil, fmt.Errorf("%s is damaged, or not a file of age (%w); put back a copy from before", f.Path, err)
	}
	set, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("what is in %s cannot be used: %w", f.Path, err)
	}
	return set, nil
}

// Opener gives the one key that opens the file, as age-keygen writes it: what
// another machine needs to read it. The others of the key's file are not for it.
func (f File) Opener() (string, error) {
	if _, err := f.Read(); err != nil {
		return "", err
	}
	sealed, err := os.ReadFile(f.Path)
	if err != nil {
		return "", fmt.Errorf("read the secrets: %w", err)
	}
	keys, err := readKey(f.Key)
	if err != nil {
		return "", err
	}
	for _, key := range keys {
		if _, err := open(sealed, []age.Identity{key}); err == nil {
			return fmt.Sprint(key), nil
		}
	}
	return "", fmt.Errorf("%s was changed meanwhile", f.Path)
}

func open(sealed []byte, keys []age.Identity) ([]byte, error) {
	var in io.Reader = bytes.NewReader(sealed)
	if bytes.HasPrefix(bytes.TrimSpace(sealed), []byte(armor.Header)) {
		in = armor.NewReader(in)
	}
	plain, err := age.Decrypt(in, keys...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// Change reads the file, lets change work on what is in it, and puts the result
// in its place, whole or not at all. The first time it makes the file and, where
// there is none, the key: made says so. Two changes never run at once: waits, if
// it is not nil, is called before the second waits for the first.
func (f File) Change(waits func(), change func(*Set) error) (made bool, err error) {
	unlock, err := lock(f.Path, waits)
	if err != nil {
		return false, err
	}
	defer unlock()
	set := new(Set)
	mode := fs.FileMode(0o600)
	switch info, err := os.Stat(f.Path); {
	case err == nil:
		mode = info.Mode().Perm()
		if set, err = f.Read(); err != nil {
			return false, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("read the secrets: %w", err)
	}
	if err := change(set); err != nil {
		return false, err
	}
	if made, err = makeKey(f.Key); err != nil {
		return false, err
	}
	keys, err := readKey(f.Key)
	if err != nil {
		return made, err
	}
	sealed, err := seal(set.all(), keys)
	if err != nil {
		return made, fmt.Errorf("encrypt the secrets: %w", err)
	}
	if err := replace(f.Path, sealed, mode); err != nil {
		return made, fmt.Errorf("write the secrets: %w", err)
	}
	return made, nil
}

// seal encrypts a text as lines of ASCII, so that it may stand in a repository.
func seal(text string, keys []age.Identity) ([]byte, error) {
	var recipients []age.Recipient
	for _, key := range keys {
		switch key := key.(type) {
		case *age.X25519Identity:
			recipients = append(recipients, key.Recipient())
		case *age.HybridIdentity:
			recipients = append(recipients, key.Recipient())
		}
	}
	var sealed bytes.Buffer
	lines := armor.NewWriter(&sealed)
	plain, err := age.Encrypt(lines, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(plain, text); err != nil {
		return nil, err
	}
	if err := errors.Join(plain.Close(), lines.Close()); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// lock keeps a file for one change at a time or, before there is one, its folder:
// that alone would keep who publishes to a folder in it waiting for an editor.
// The kernel lets it go with the process.
func lock(path string, waits func()) (unlock func(), err error) {
	for {
		locked, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			locked, err = os.Open(filepath.Dir(path))
		}
		if err != nil {
			return nil, fmt.Errorf("lock the secrets: %w", err)
		}
		fd := int(locked.Fd())
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			if waits != nil {
				waits()
				waits = nil
			}
			for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
				err = syscall.Flock(fd, syscall.LOCK_EX)
			}
		}
		current := false
		if err == nil {
			current, err = isLock(locked, path)
		}
		if err == nil && current {
			return func() { _ = locked.Close() }, nil
		}
		_ = locked.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", locked.Name(), err)
		}
	}
}

// isLock reports whether an open file is still what is locked for path: whoever
// had it before may have put another one there.
func isLock(locked *os.File, path string) (bool, error) {
	ours, err := locked.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ours.IsDir(), nil
	}
	return err == nil && os.SameFile(ours, there), err
}

// replace puts a file in the place of another, or of none, whole.
func replace(path string, text []byte, mode fs.FileMode) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	temp, err := writeBeside(path, text, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncFolder(filepath.Dir(path))
}

// writeBeside writes a file durably beside the one that it is to become.
func writeBeside(path string, text []byte, mode fs.FileMode) (temp string, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return "", err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

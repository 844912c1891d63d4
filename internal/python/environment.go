package python

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	markName = ".belfry"
	lockExt  = ".lock"
)

// mark is what the file says that makes an environment whole; people may read it.
type mark struct {
	Python       string    `json:"python"` // path of the interpreter
	Version      string    `json:"version"`
	Requirements string    `json:"requirements,omitempty"` // the file that it was made from first
	With         string    `json:"with"`
	At           time.Time `json:"at"`
}

// environment is one that is to be made.
type environment struct {
	dir          string
	python       interpreter
	requirements string
}

// inherited is the least number that the descriptor of a mark has in the job: a
// shell script gives the low ones to its own files.
const inherited = 100

// use locks the mark of an environment for the rest of this process and of what
// it executes, and notes the time; false: there is none that is whole.
func use(dir string) (bool, error) {
	file, err := os.Open(filepath.Join(dir, markName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	if err := flock(file, unix.LOCK_SH); err != nil {
		return false, err
	}
	if gone, err := removed(file); err != nil || gone {
		return false, err
	}
	now := unix.NsecToTimeval(time.Now().UnixNano())
	_ = unix.Futimes(int(file.Fd()), []unix.Timeval{now, now}) // where that cannot be written, nothing is removed either
	// A copy, which execve does not close.
	_, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD, inherited)
	if errors.Is(err, unix.EINVAL) { // limits: {open_files: 64}
		_, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD, 3)
	}
	return err == nil, err
}

func flock(file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				err = &fs.PathError{Op: "lock", Path: file.Name(), Err: err}
			}
			return err
		}
	}
}

// removed reports whether an open file's name is gone, or another file's.
func removed(file *os.File) (bool, error) {
	ours, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && !os.SameFile(ours, there), err
}

// lock takes the lock of who makes or removes the environment dir. While another
// has it, waiting is called once and the lock awaited; with a nil waiting the
// error is EWOULDBLOCK.
func lock(dir string, waiting func()) (*os.File, error) {
	for {
		file, err := os.OpenFile(dir+lockExt, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = flock(file, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) && waiting != nil {
			waiting()
			err = flock(file, unix.LOCK_EX)
		}
		var gone bool
		if err == nil {
			gone, err = removed(file) // by who held it before
		}
		if err == nil && !gone {
			return file, nil
		}
		_ = file.Close()
		if err != nil {
			return nil, err
		}
	}
}

// make makes the environment, unless another has made it meanwhile.
func (e environment) make(env environ, out *os.File) error {
	held, err := lock(e.dir, func() {
		fmt.Fprintln(out, "belfry: another run makes the Python environment; waiting for it")
	})
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	if _, err := os.Stat(filepath.Join(e.dir, markName)); err == nil {
		return nil
	}
	if err := os.RemoveAll(e.dir); err != nil {
		return fmt.Errorf("remove what a maker left that was killed: %w", err)
	}
	begun := time.Now()
	i := newInstaller(e, env, out, held)
	what := "an empty Python environment"
	if e.requirements != "" {
		what = "the Python environment of " + e.requirements
	}
	fmt.Fprintf(out, "belfry: making %s, with Python %s and %s\n", what, e.python.version, i.name())
	if err := i.install(); err != nil {
		_ = os.RemoveAll(e.dir) // the next maker does, if this cannot
		return err
	}
	if err := e.finish(i.name()); err != nil {
		return fmt.Errorf("write the Python environment to the disk: %w", err)
	}
	fmt.Fprintf(out, "belfry: made in %s\n", time.Since(begun).Round(100*time.Millisecond))
	return nil
}

// finish puts the mark when all that it stands for is on the disk.
func (e environment) finish(with string) error {
	dir, err := os.Open(e.dir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := syncFileSystem(dir); err != nil { // thousands of files that others wrote
		return err
	}
	text, err := json.MarshalIndent(mark{Python: e.python.path, Version: e.python.version, Requirements: e.requirements, With: with, At: time.Now().UTC()}, "", "  ")
	if err != nil {
		return err
	}
	temp := filepath.Join(e.dir, markName+".new")
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(temp, filepath.Join(e.dir, markName))
	}
	return errors.Join(err, dir.Sync())
}

package publish

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"belfry/internal/outbox"
)

// folder is a target that is a directory.
//
// The new version is made beside it, in a hidden stage, and then takes its name
// in one step:
//
//	PARENT/NAME                          the target
//	PARENT/.NAME.belfry-RUN-1a2b3c4d/    the stage, ours alone, locked while in use
//	    stage.json                       whose it is
//	    new/                             the new version; after the exchange the old one
//	    old/                             the old version, where there is no exchange
//
// A target that is a symbolic link stands for the directory it leads to: the
// link stays, and what it points at is replaced, beside itself.
type folder struct {
	*part
	target string // the directory, links resolved
	old    version
	stage  string
	lock   *os.File
}

// version is what stands at a directory.
type version struct {
	mode     os.FileMode // 0 when there is nothing
	manifest *Manifest   // nil for none
	data     []byte      // the manifest as it is written there
	marked   bool        // there is a _SUCCESS
}

const (
	stageMark = ".belfry-"
	stageFile = "stage.json"
	newName   = "new"
	oldName   = "old"
)

// finderName is what macOS leaves in a folder that somebody has looked at: how its
// window looked. It is nobody's, and goes with the version that it lies in.
const finderName = ".DS_Store"

// stageInfo is the content of stage.json.
type stageInfo struct {
	Target string `json:"target"` // the base name of the target
	Run    string `json:"run"`
}

func (d *folder) look(ctx context.Context) error {
	target, err := resolve(d.dir)
	if err != nil {
		return d.explain(err)
	}
	d.target = target
	out, err := filepath.EvalSymlinks(d.out.path)
	if err != nil {
		return err
	}
	if within(target, out) || within(out, target) {
		return outbox.Final(fmt.Errorf("target %s and the run's output are in one another: publish to a folder elsewhere", d.to))
	}
	if err := d.clean(); err != nil {
		return d.explain(err)
	}
	if d.old, err = d.check(); err != nil {
		return d.explain(err)
	}
	if d.old.marked && d.overtaken(d.old.manifest) {
		d.newer = d.old.manifest.Run
		return nil
	}
	return d.meet(ctx, d.old.manifest, d.old.marked)
}

func (d *folder) note(context.Context) error { return nil } // a stage says itself what it is

// resolve returns the path without symbolic links, as far as it exists.
func resolve(dir string) (string, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return resolved, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return "", outbox.Final(fmt.Errorf("%s is a symbolic link that leads nowhere: make the folder it names, or remove it", dir))
	}
	parent, err := resolve(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// check refuses a target that holds anything but what Belfry put there for this
// job.
func (d *folder) check() (version, error) {
	var there version
	info, err := os.Lstat(d.target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return there, nil
	case err != nil:
		return there, err
	case !info.IsDir():
		return there, outbox.Final(fmt.Errorf("%s is not a folder: name one that is for this job alone", d.to))
	}
	there.mode = info.Mode() & (os.ModeDir | os.ModePerm | os.ModeSetgid | os.ModeSetuid | os.ModeSticky)
	listed := map[string]bool{successName: true}
	there.data, err = readRegular(filepath.Join(d.target, manifestName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return there, err
	default:
		m, err := parseManifest(there.data)
		if err != nil {
			return there, d.strange(manifestName, fmt.Sprintf("which is not a manifest of Belfry's (%v)", err))
		}
		if m.Job != d.order.Job {
			return there, d.strange(manifestName, fmt.Sprintf("which says that the folder is the job %s's", m.Job))
		}
		there.manifest = m
		listed[manifestName] = true
		for _, f := range m.Files {
			listed[f.Path] = true
		}
	}
	folders := map[string]bool{".": true}
	for name := range listed {
		for dir := path.Dir(name); !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	err = filepath.WalkDir(d.target, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.target, name)
		switch {
		case err != nil:
			return err
		case e.IsDir() && folders[rel], e.Type().IsRegular() && listed[rel]:
			there.marked = there.marked || rel == successName
			return nil
		case e.Type().IsRegular() && e.Name() == finderName:
			return nil
		}
		return d.strange(rel, "which this job did not publish")
	})
	return there, err
}

func (d *folder) strange(rel, why string) error {
	return outbox.Final(fmt.Errorf("%s holds %q, %s; nothing was touched: publish to a folder that is for this job alone, or empty this one", d.to, rel, why))
}

// readRegular reads a small file that is no link.
func readRegular(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, outbox.Final(fmt.Errorf("%s is a symbolic link, which Belfry did not put there", name))
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxManifest))
}

// clean removes the stages that earlier publishes of this target left when they
// were killed. Where one was killed between two renames, the old version gets its
// name back first.
func (d *folder) clean() error {
	parent := filepath.Dir(d.target)
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), d.stagePrefix()) {
			continue
		}
		if err := d.cleanStage(filepath.Join(parent, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (d *folder) cleanStage(stage string) error {
	lock, err := os.OpenFile(stage, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil // not ours to open: not ours
	}
	defer func() { _ = lock.Close() }()
	data, err := readRegular(filepath.Join(stage, stageFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		// Killed before it could say whose it is, and it holds nothing else then; or
		// about to say so, and locked.
		if flock(lock, unix.LOCK_EX|unix.LOCK_NB) != nil {
			return nil
		}
		if entries, err := os.ReadDir(stage); err == nil && len(entries) <= 1 {
			_ = os.Remove(filepath.Join(stage, stageFile))
			_ = os.Remove(stage)
		}
		return nil
	}
	var info stageInfo
	if err != nil || json.Unmarshal(data, &info) != nil || info.Target != filepath.Base(d.target) {
		return nil // somebody else's
	}
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("run %s is being published to %s at this moment", info.Run, d.to)
	}
	if _, err := os.Lstat(d.target); errors.Is(err, fs.ErrNotExist) {
		err := os.Rename(filepath.Join(stage, oldName), d.target)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncDir(filepath.Dir(d.target)); err != nil {
			return err
		}
	}
	return removeStage(stage)
}

// removeStage removes a stage, and last what says whose it is: killed before
// that, it is still found by the next publish.
func removeStage(stage string) error {
	for _, name := range []string{newName, oldName} {
		if err := os.RemoveAll(filepath.Join(stage, name)); err != nil {
			return err
		}
	}
	at(stepEmptied)
	return os.RemoveAll(stage)
}

// stagePrefix begins the names of this target's stages. A long name is cut, the
// whole one is in stage.json.
func (d *folder) stagePrefix() string {
	name := filepath.Base(d.target)
	return "." + name[:min(len(name), 120)] + stageMark
}

func (d *folder) unmark(context.Context) error { return nil } // the old version is whole until the exchange

func (d *folder) put(ctx context.Context) error {
	if err := d.fill(ctx); err != nil {
		return d.explain(err)
	}
	at(stepData)
	return nil
}

// fill makes the stage and the whole new version in it, but for _SUCCESS.
func (d *folder) fill(ctx context.Context) error {
	if err := makeDirs(filepath.Dir(d.target)); err != nil {
		return err
	}
	if err := d.makeStage(); err != nil {
		return err
	}
	root := filepath.Join(d.stage, newName)
	if err := os.Mkdir(root, 0o777); err != nil {
		return err
	}
	if d.old.mode != 0 {
		if err := os.Chmod(root, d.old.mode); err != nil {
			return err
		}
	}
	for _, f := range d.files {
		if err := os.MkdirAll(filepath.Join(root, path.Dir(f.path)), 0o777); err != nil {
			return err
		}
	}
	for _, e := range d.kept {
		if err := os.MkdirAll(filepath.Join(root, path.Dir(e.Path)), 0o777); err != nil {
			return err
		}
		if err := d.carry(ctx, e, filepath.Join(root, e.Path)); err != nil {
			return err
		}
	}
	err := each(ctx, len(d.files), d.parallel(), func(ctx context.Context, i int) error {
		f := &d.files[i]
		if err := d.copy(ctx, f, filepath.Join(root, f.path)); err != nil {
			return err
		}
		d.meter.add(1, f.size)
		at(stepSomeData)
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.describe(); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(root, manifestName), d.manifest); err != nil {
		return err
	}
	return filepath.WalkDir(d.stage, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = syncDir(name)
		}
		return err
	})
}

// makeStage makes an empty stage and locks it.
func (d *folder) makeStage() error {
	var id [4]byte
	_, _ = rand.Read(id[:])
	run := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, d.order.Run)
	stage := filepath.Join(filepath.Dir(d.target), d.stagePrefix()+run[:min(len(run), 26)]+"-"+hex.EncodeToString(id[:]))
	if err := os.Mkdir(stage, 0o700); err != nil {
		return err
	}
	d.stage = stage
	lock, err := os.OpenFile(stage, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	d.lock = lock
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	data, err := json.Marshal(stageInfo{filepath.Base(d.target), d.order.Run})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(stage, stageFile), data)
}

// copy copies a file of the output and notes the sum of what it wrote. The
// output stays: a retry must find it.
func (d *folder) copy(ctx context.Context, f *file, to string) error {
	r, err := d.out.reopen(f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if f.sum, err = copyTo(ctx, to, r, f.size, f.mode); err != nil {
		return fmt.Errorf("copy %s: %w", f.rel, err)
	}
	return f.unchanged(r)
}

// copyTo writes size bytes of r to a new file, durably, and returns their sum.
func copyTo(ctx context.Context, to string, r io.Reader, size int64, mode os.FileMode) (total [sha256.Size]byte, err error) {
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return total, err
	}
	defer func() { _ = w.Close() }()
	h := sha256.New()
	if err := copyFile(ctx, io.MultiWriter(w, h), r, size); err != nil {
		return total, err
	}
	if err := w.Chmod(mode | 0o400); err != nil {
		return total, err
	}
	if err := w.Sync(); err != nil {
		return total, err
	}
	if info, err := w.Stat(); err != nil || info.Size() != size {
		return total, fmt.Errorf("%d bytes became another number (%v)", size, err)
	}
	return sum(h), w.Close()
}

// carry takes a file of the old version over into the new one: as a second name
// of it, or as a copy where there is no such thing.
func (d *folder) carry(ctx context.Context, e Entry, to string) error {
	from := filepath.Join(d.target, e.Path)
	gone := func(why string) error {
		return outbox.Final(fmt.Errorf("publish to %s: %q of the set that is there %s, so nothing can be added to it: publish.mode replace makes a new one", d.to, e.Path, why))
	}
	r, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return gone("is missing")
	}
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != e.Size {
		return gone("has been changed")
	}
	if linkFile(from, to) == nil {
		return nil
	}
	sum, err := copyTo(ctx, to, r, e.Size, info.Mode().Perm())
	if err == nil && hex.EncodeToString(sum[:]) != e.SHA256 {
		return gone("has been changed")
	}
	return err
}

// linkFile gives a file a second name; the tests take it away.
var linkFile = os.Link

func (d *folder) list(context.Context) error { return nil } // it is in the stage

func (d *folder) sweep(context.Context) error { return nil } // the whole directory is another one

func (d *folder) mark(context.Context) error {
	if err := d.swap(); err != nil {
		return d.explain(err)
	}
	at(stepExchanged)
	// The old version goes, its _SUCCESS first: a reader who begins now is told.
	_ = os.Remove(filepath.Join(d.stage, newName, successName))
	if err := removeStage(d.stage); err != nil {
		d.warn("the old version of %s is still in %s and goes with the next publish: %v", d.to, d.stage, err)
	}
	return nil
}

// swap gives the new version the target's name.
func (d *folder) swap() error {
	root := filepath.Join(d.stage, newName)
	if err := writeFile(filepath.Join(root, successName), nil); err != nil {
		return err
	}
	if err := syncDir(root); err != nil {
		return err
	}
	// One at a time from here on: what is replaced is what was looked at.
	parent, err := os.Open(filepath.Dir(d.target))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	if err := flock(parent, unix.LOCK_EX); err != nil {
		return err
	}
	there, err := d.check() // again: much time may have gone by
	if err != nil {
		return err
	}
	if !bytes.Equal(there.data, d.old.data) {
		return errElsewhere(d.to)
	}
	if there.mode == 0 {
		err = os.Rename(root, d.target)
	} else {
		err = d.exchange(root)
	}
	if err != nil {
		return err
	}
	if err := syncDir(d.stage); err != nil {
		return err
	}
	return syncDir(filepath.Dir(d.target))
}

// renameExchange swaps two names in one step; the tests take it away.
var renameExchange = exchange

func (d *folder) exchange(root string) error {
	err := renameExchange(root, d.target)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return &os.LinkError{Op: "exchange", Old: root, New: d.target, Err: err}
	}
	// The file system cannot: for a moment there is nothing at the target.
	old := filepath.Join(d.stage, oldName)
	if err := os.Rename(d.target, old); err != nil {
		return err
	}
	at(stepMoved)
	if err := os.Rename(root, d.target); err != nil {
		return errors.Join(err, os.Rename(old, d.target))
	}
	return nil
}

// leave removes the stage, used or not. Where it has the only version there is,
// the next publish gives that its name back.
func (d *folder) leave() {
	if d.stage == "" {
		return
	}
	if _, err := os.Lstat(filepath.Join(d.stage, oldName)); err != nil {
		_ = removeStage(d.stage)
	} else if _, err := os.Lstat(d.target); err == nil {
		_ = removeStage(d.stage)
	}
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// explain makes a sentence with a next step of what the system said, and says
// which errors stay.
func (d *folder) explain(err error) error {
	var final string
	switch {
	case err == nil, outbox.IsFinal(err):
		return err
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("publish to %s: the disk is full; free some space, a publish needs room for a second copy: %w", d.to, err)
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("publish to %s: the quota is used up; free some space, a publish needs room for a second copy: %w", d.to, err)
	case errors.Is(err, unix.EROFS):
		final = "the file system is read-only: mount it writable"
	case errors.Is(err, fs.ErrPermission):
		final = fmt.Sprintf("permission denied: let the user that the job runs as (uid %d) write to the folder above it", os.Getuid())
	case errors.Is(err, unix.ENOTDIR):
		final = "a part of the path is a file and not a folder"
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EBUSY):
		final = "it is a mount point, which cannot be exchanged: publish to a folder in it"
	case errors.Is(err, unix.ENAMETOOLONG):
		final = "a name is too long for the file system"
	default:
		return fmt.Errorf("publish to %s: %w", d.to, err)
	}
	return outbox.Final(fmt.Errorf("publish to %s: %s (%w)", d.to, final, err))
}

// makeDirs makes dir and the folders above it, durably.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// writeFile writes a new file, durably.
func writeFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems cannot
		return err
	}
	return nil
}

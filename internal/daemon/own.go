package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/socket"
	"belfry/internal/store"
)

// OwnedError says that another process owns the data folder.
type OwnedError struct {
	Dir   string
	Owner string // what it says of itself, as "belfry serve, pid 12"
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s is in use by another belfry (%s)", e.Dir, e.Owner)
}

const (
	planner  = "belfry serve"
	oneTimer = "a belfry command"
)

// StoreFiles are the names of the account and of the logs in a data folder.
var StoreFiles = []string{store.FileName, store.LogsName}

func lockPath(data string) string { return filepath.Join(data, "lock") }

// own takes the data folder: one process at a time has it, for as long as it
// lives. A daemon that plans waits for an owner that does not.
func own(ctx context.Context, o Options) (*lock, error) {
	path := lockPath(o.Data)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, &FolderError{o.Data, err}
	}
	began, told := time.Now(), false
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		owner, _ := os.ReadFile(path)
		who := strings.TrimSpace(string(owner))
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		switch {
		case killed(who) && time.Since(began) < dying:
		case !o.Plan || o.Waiting == nil || !strings.HasPrefix(who, oneTimer):
			return nil, errors.Join(&OwnedError{o.Data, who}, file.Close())
		case !told:
			o.Waiting(who)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
	kind := oneTimer
	if o.Plan {
		kind = planner
	}
	// The text is for people; the lock is what counts.
	if err := file.Truncate(0); err != nil {
		return nil, errors.Join(&FolderError{o.Data, err}, file.Close())
	}
	if _, err := fmt.Fprintf(file, "%s, pid %d\n", kind, os.Getpid()); err != nil {
		return nil, errors.Join(&FolderError{o.Data, &os.PathError{Op: "write", Path: path, Err: err}}, file.Close())
	}
	return &lock{path, file}, nil
}

// dying is how long the lock of an owner that was killed may be held yet, by a process
// that it was just forking: until that executes it has a copy of the descriptor.
const dying = 5 * time.Second

// killed reports whether the process that an owner says it is, is no more.
func killed(owner string) bool {
	_, number, _ := strings.Cut(owner, ", pid ")
	pid, err := strconv.Atoi(number)
	return err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// lock is what an owner has of a data folder.
type lock struct {
	path string
	file *os.File
}

// check gives an error when the folder is no longer the one that was taken: it
// was removed, or another stands in its place, which somebody else may own.
func (l *lock) check() error {
	ours, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the data folder's lock: %w", err)
	}
	if there, err := os.Stat(l.path); err != nil || !os.SameFile(ours, there) {
		return &GoneError{filepath.Dir(l.path)}
	}
	return nil
}

func (l *lock) release() error {
	// Closing is not enough at once: a process that is just being forked holds
	// a copy of the descriptor until it executes.
	return errors.Join(unix.Flock(int(l.file.Fd()), unix.LOCK_UN), l.file.Close())
}

// GoneError says that the data folder was taken away from under its owner.
type GoneError struct{ Dir string }

func (e *GoneError) Error() string {
	return fmt.Sprintf("the data folder %s was removed or replaced while it was in use", e.Dir)
}

// listen binds the socket in the data folder, for those whom its mode lets.
func listen(data string, mode os.FileMode) (net.Listener, error) {
	path := filepath.Join(data, api.SocketName)
	// A socket of an owner that is gone: we hold the lock.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, &FolderError{data, err}
	}
	// Bound under another name, so that nobody can connect before chmod.
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, &FolderError{data, err}
	}
	var listener *net.UnixListener
	err := socket.In(data, func(short string) (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, filepath.Base(temporary)), Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false) // the next owner may have put its own there
	if err := os.Chmod(temporary, mode); err != nil {
		return nil, errors.Join(&FolderError{data, err}, listener.Close())
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, errors.Join(&FolderError{data, err}, listener.Close())
	}
	return listener, nil
}

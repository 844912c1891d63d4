package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/socket"
)

// A keeper's folder, DATA/keeper/ID, holds its socket and its lock. It appears
// whole: made under a name that begins with a dot, locked, listened in, then
// renamed. The lock is the test of life, never a pid: the kernel drops it when
// the keeper dies, however it dies. A keeper that is killed in the middle of a
// fork keeps its lock until the child has executed its program, because until
// then the child has copies of the keeper's descriptors; so whoever finds the
// lock free can also find the child's environment.
//
// A dead keeper's folder is needed by nobody: a `start` record that names a
// keeper without a folder names a dead one. IDs are never used again.
const (
	lockName   = "lock"
	socketName = "sock"
	keeperLog  = "log" // in DATA/keeper, for all keepers
)

// folder is the keeper's own.
type folder struct {
	path     string
	lock     *os.File
	listener *net.UnixListener
}

// makeFolder makes and publishes the folder of keeper id below dir.
func makeFolder(dir, id string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	temp := filepath.Join(dir, "."+id)
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, err
	}
	f := &folder{path: filepath.Join(dir, id)}
	if err := f.fill(temp); err != nil {
		_ = f.close()
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	return f, nil
}

func (f *folder) fill(temp string) (err error) {
	f.lock, err = os.OpenFile(filepath.Join(temp, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", f.lock.Name(), err)
	}
	err = socket.In(temp, func(short string) (err error) {
		f.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, socketName), Net: "unix"})
		return err
	})
	if err != nil {
		return err
	}
	f.listener.SetUnlinkOnClose(false) // the folder has another name by then
	if err := os.Chmod(filepath.Join(temp, socketName), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, f.path)
}

// remove takes the folder away and ends listening. The lock goes last, with
// the process.
func (f *folder) remove() error {
	return errors.Join(f.listener.Close(), os.RemoveAll(f.path))
}

func (f *folder) close() error {
	var errs []error
	if f.listener != nil {
		errs = append(errs, f.listener.Close())
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	return errors.Join(errs...)
}

// dialKeeper connects to the keeper whose folder is path.
func dialKeeper(path string) (*net.UnixConn, error) {
	var conn *net.UnixConn
	err := socket.In(path, func(short string) (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(short, socketName), Net: "unix"})
		return err
	})
	return conn, err
}

// keeperAlive reports whether the keeper whose folder is path lives.
func keeperAlive(path string) (bool, error) {
	// O_RDWR: over NFS an exclusive lock is asked of a writer only.
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = lock.Close() }()
	// Shared, so that two who ask do not take each other for the keeper.
	err = unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return false, nil
}

// keepers gives the ids of the living keepers below dir, oldest first, and
// removes what dead ones left.
func keepers(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			// One that is just starting is not locked for a moment.
			info, err := entry.Info()
			if err != nil || time.Since(info.ModTime()) < time.Minute {
				continue
			}
		}
		alive, err := keeperAlive(path)
		switch {
		case err != nil:
			return nil, err
		case !alive:
			if err := os.RemoveAll(path); err != nil {
				return nil, err
			}
		case !strings.HasPrefix(entry.Name(), "."):
			ids = append(ids, entry.Name())
		}
	}
	return ids, nil
}

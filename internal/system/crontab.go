package system

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Tab is a user's crontab as it stands in the spool.
type Tab struct {
	There bool
	Text  []byte
}

// ErrNotAllowed says that cron.allow or cron.deny forbids somebody the crontab
// command.
var ErrNotAllowed = errors.New("not allowed to use the crontab command")

// ErrNotPrivileged says that somebody asked for the crontab of another user.
var ErrNotPrivileged = errors.New("only root may work on the crontab of another user")

// Tabs are the crontabs of the machine's users. It stands between whoever calls
// and the spool: each method asks first whether Caller may.
type Tabs struct {
	Dialect Dialect
	Places  Places
	Caller  User
}

// may says whether the caller may work on a user's crontab, and who that is.
func (t Tabs) may(name string) (User, error) {
	target, err := UserByName(name)
	if err != nil {
		return User{}, err
	}
	if t.Caller.UID != 0 && t.Caller.UID != target.UID {
		return User{}, ErrNotPrivileged
	}
	if err := tabName(target.Name); err != nil {
		return User{}, err
	}
	allowed, err := t.Places.allowed(t.Dialect, t.Caller, target)
	if err != nil {
		return User{}, errors.Join(ErrNotAllowed, err)
	}
	if !allowed {
		return User{}, ErrNotAllowed
	}
	return target, nil
}

func (t Tabs) path(u User) string { return filepath.Join(t.Places.Spool, u.Name) }

// Look gives a user's crontab.
func (t Tabs) Look(name string) (Tab, error) {
	u, err := t.may(name)
	if err != nil {
		return Tab{}, err
	}
	path := t.path(u)
	// Whoever could write the spool may have put anything there: a link, or a
	// pipe that nobody writes.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Tab{}, nil
	case errors.Is(err, unix.ELOOP):
		return Tab{}, fmt.Errorf("%s is a symbolic link, not a crontab", path)
	case err != nil:
		return Tab{}, fmt.Errorf("read the crontab: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Tab{}, fmt.Errorf("look at %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return Tab{}, fmt.Errorf("%s is not a regular file, so not a crontab", path)
	case st.Nlink > 1:
		return Tab{}, fmt.Errorf("%s has another name (hard link), so it may be another file than a crontab", path)
	case int(st.Uid) != u.UID && st.Uid != 0:
		return Tab{}, fmt.Errorf("%s belongs to user id %d, not to %s", path, st.Uid, u.Name)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return Tab{}, fmt.Errorf("read the crontab: %w", err)
	}
	return Tab{There: true, Text: text}, nil
}

// Install puts a crontab in the place of the user's, whole or not at all, and
// returns when it is on the disk. What is wrong in it is a *Refusal, in which it
// is called from: the file that it comes from.
func (t Tabs) Install(name, from string, text []byte) error {
	u, err := t.may(name)
	if err != nil {
		return err
	}
	if err := t.Dialect.Check(from, text, u); err != nil {
		return err
	}
	info, err := os.Stat(t.Places.Spool)
	if err != nil {
		return fmt.Errorf("install the crontab: %w", err)
	}
	// A name that begins with a dot is no crontab to either cron, should a crash
	// leave it here.
	temporary, err := os.CreateTemp(t.Places.Spool, ".tmp.") // 0600, and follows no link
	if err != nil {
		return fmt.Errorf("install the crontab: %w", err)
	}
	err = fill(temporary, t.Dialect.withHeader(from, text, time.Now()), u, info)
	if err == nil {
		err = os.Rename(temporary.Name(), t.path(u))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("install the crontab: %w", err), os.Remove(temporary.Name()))
	}
	return t.poke()
}

// fill writes the file that will be a user's crontab. It is the user's, as the
// dialects want it, and the folder's group's, as the programs that are setgid
// leave it.
func fill(f *os.File, text []byte, u User, folder fs.FileInfo) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if os.Geteuid() != u.UID || os.Geteuid() == 0 {
		gid := -1
		if st, ok := folder.Sys().(*syscall.Stat_t); ok {
			gid = int(st.Gid)
		}
		if err := f.Chown(u.UID, gid); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Remove removes the user's crontab; an error that is fs.ErrNotExist says that
// there was none.
func (t Tabs) Remove(name string) error {
	u, err := t.may(name)
	if err != nil {
		return err
	}
	if err := os.Remove(t.path(u)); err != nil {
		return fmt.Errorf("remove the crontab: %w", err)
	}
	return t.poke()
}

// poke makes the change durable and the folder's time new: that is how Debian's
// cron, should it run here, learns of a change. The folder may be one that its
// writers cannot read.
func (t Tabs) poke() error {
	now := time.Now()
	if err := os.Chtimes(t.Places.Spool, now, now); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("tell cron of the crontab: %w", err)
	}
	folder, err := os.Open(t.Places.Spool)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the crontab durable: %w", err)
	}
	defer folder.Close() //nolint:errcheck // it was only synced
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("make the crontab durable: %w", err)
	}
	return nil
}

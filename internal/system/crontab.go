package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	Places Places
	Users  *Users
	Caller User
}

// may says whether the caller may work on a user's crontab, and who that is.
func (t Tabs) may(name string) (User, error) {
	// Whoever may not is told so before others are looked up: that may take long, and
	// it is what the starts of jobs wait for.
	if t.Caller.UID != 0 && name != t.Caller.Name {
		return User{}, ErrNotPrivileged
	}
	target, err := t.Users.Lookup(name)
	if err != nil {
		return User{}, err
	}
	allowed, err := t.Places.allowed(t.Caller, target)
	if err != nil {
		return User{}, errors.Join(ErrNotAllowed, err)
	}
	if !allowed {
		return User{}, ErrNotAllowed
	}
	return target, nil
}

// mayChange is may for what replaces or removes the crontab. Debian's spool is
// sticky: what root has put there for somebody, only root can take away.
func (t Tabs) mayChange(name string) (User, error) {
	u, err := t.may(name)
	if err != nil || t.Places.Dialect != Debian || t.Caller.UID == 0 {
		return u, err
	}
	var st unix.Stat_t
	path := t.Places.UserCrontab(u.Name)
	if unix.Lstat(path, &st) == nil && st.Uid != u.UID {
		return User{}, &Refusal{Path: path, Reason: fmt.Sprintf("it is user %d's, and only root may replace or remove it", st.Uid), Next: "ask root"}
	}
	return u, nil
}

// Look gives a user's crontab.
func (t Tabs) Look(name string) (Tab, error) {
	u, err := t.may(name)
	if err != nil {
		return Tab{}, err
	}
	path := t.Places.UserCrontab(u.Name)
	file, err := openTab(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Tab{}, nil
	}
	if err != nil {
		return Tab{}, err
	}
	file, err = checked(file, func(st *unix.Stat_t) *Refusal {
		ours := *st
		ours.Mode = st.Mode&unix.S_IFMT | 0o600 // a mode that the daemon refuses is no reason to hide what is in it
		return t.Places.CheckUser(path, &ours, u)
	})
	if err != nil {
		return Tab{}, err
	}
	text, err := readAll(file)
	if err != nil {
		return Tab{}, err
	}
	return Tab{There: true, Text: text}, nil
}

// Install puts a crontab in the place of the user's, whole or not at all, and
// returns when it is on the disk. What is wrong in it is a *Mistakes, in which
// it is called from: the file that it comes from.
func (t Tabs) Install(name, from string, text []byte) error {
	u, err := t.mayChange(name)
	if err != nil {
		return err
	}
	if err := t.Places.Dialect.Check(from, text, u); err != nil {
		return err
	}
	info, err := os.Stat(t.Places.Spool)
	if errors.Is(err, fs.ErrNotExist) && os.Geteuid() == 0 { // the first crontab of a machine
		if err = os.MkdirAll(t.Places.Spool, 0o700); err == nil {
			info, err = os.Stat(t.Places.Spool)
		}
	}
	if err != nil {
		return fmt.Errorf("install the crontab: %w", err)
	}
	// A name that begins with a dot is no crontab to either cron, should a crash
	// leave it here.
	temporary, err := os.CreateTemp(t.Places.Spool, ".tmp.") // 0600, and follows no link
	if err != nil {
		return fmt.Errorf("install the crontab: %w", err)
	}
	err = fill(temporary, t.Places.Dialect.withHeader(from, text, time.Now()), u, info)
	if err == nil {
		err = os.Rename(temporary.Name(), t.Places.UserCrontab(u.Name))
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
	if os.Geteuid() != int(u.UID) || os.Geteuid() == 0 {
		gid := -1
		if st, ok := folder.Sys().(*syscall.Stat_t); ok {
			gid = int(st.Gid)
		}
		if err := f.Chown(int(u.UID), gid); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Remove removes the user's crontab; an error that is fs.ErrNotExist says that
// there was none.
func (t Tabs) Remove(name string) error {
	u, err := t.mayChange(name)
	if err != nil {
		return err
	}
	if err := os.Remove(t.Places.UserCrontab(u.Name)); err != nil {
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

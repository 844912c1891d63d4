package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"

	"belfry/api"
	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/notify"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/system"
)

// System is the machine of which a daemon is the cron.
type System struct {
	system.Places
	Users *system.Users
	// Sockets is the folder of the socket that everybody on the machine may open:
	// /run/belfry.
	Sockets string
}

// host gives what the attempts of a user's jobs inherit.
func (s *System) host(base run.Host) func(owner string) (run.Host, error) {
	return func(owner string) (run.Host, error) {
		user, err := s.Users.Lookup(owner)
		if err != nil {
			return run.Host{}, err
		}
		h := base
		h.User, h.Home = user.Name, user.Home
		if s.Dialect == system.Debian { // many of its users have no home, and their jobs run
			h.Debian, h.Homeless = true, filepath.Dir(s.Spool)
		}
		if h.Session, err = s.Environment(); err != nil {
			return run.Host{}, err
		}
		if os.Geteuid() == 0 {
			h.Credential = &proc.Credential{UID: user.UID, GID: user.GID, Groups: user.Groups}
		} else if os.Geteuid() != int(user.UID) {
			return run.Host{}, fmt.Errorf("only root can start jobs of %s", user.Name)
		}
		return h, nil
	}
}

// settings reports whether there is a belfry.yaml of the machine. One that others
// can write is an error: it says what root runs.
func (s *System) settings(path string) (bool, error) {
	err := system.CheckRoots(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read makes jobs of the machine's crontabs. What is wrong in one of them keeps
// no other from running, and no other line of it.
func (s *System) read(o Options, pools map[string]int) ([]source, []*system.Refusal, error) {
	found, err := s.Read(s.Users)
	if err != nil {
		return nil, nil, fmt.Errorf("read the machine's crontabs: %w", err)
	}
	var sources []source
	for _, c := range found.Crontabs {
		whose := job.Crontab{Project: c.Project, Owner: c.User, File: c.Path, Zone: o.Zone, Pools: pools, Now: o.Clock().Wall}
		how := crontab.Options{System: c.User == "", Root: c.User == "root", Debian: s.Dialect == system.Debian}
		made, err := parseCrontab(c.Path, c.Text, o, whose, how)
		if err != nil {
			return nil, nil, err
		}
		made.jobs = slices.DeleteFunc(made.jobs, func(j *job.Job) bool { return !s.usable(j, o) })
		sources = append(sources, made)
	}
	return sources, found.Refused, nil
}

// usable tells what is wrong with a job of a crontab beyond its line. One whose
// user is not there stays: the user may come, and until then each of its runs
// fails for that reason, and is accounted for.
func (s *System) usable(j *job.Job, o Options) bool {
	user, err := s.Users.Lookup(j.Owner)
	if err != nil {
		o.Told(fmt.Sprintf("this line cannot be run: %s: %v", j.Source, err))
	}
	if err := checkTargets(j, user.Home, o.Data); err != nil {
		o.Told("this line is left out: " + err.Error())
		return false
	}
	return true
}

// orphans names the users whose crontabs wait for them.
func orphans(refused []*system.Refusal) (names []string) {
	for _, r := range refused {
		if r.Orphan {
			names = append(names, filepath.Base(r.Path))
		}
	}
	return names
}

// Refused lists the machine's crontabs that are not used, and why.
func (s *System) Refused() ([]*system.Refusal, error) {
	found, err := s.Read(s.Users)
	return found.Refused, err
}

// openFolders lets everybody on the machine reach, by its name, what is theirs in
// the data folder; what is in it they cannot see.
func openFolders(data string) error {
	if err := os.Mkdir(runsDir(data), 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return errors.Join(os.Chmod(data, 0o711), os.Chmod(runsDir(data), 0o711))
}

// nobody stands for the id of a user who is not known.
const nobody = -1

// crontabsFor gives the crontabs of the machine's users, as far as the user with
// an id may work on them; nil when the daemon is not the system's, or nobody knows
// who it is (nobody).
func (d *Daemon) crontabsFor(uid int) system.Spool {
	if d.o.System == nil || uid == nobody {
		return nil
	}
	caller, err := d.users.LookupID(uint32(uid))
	if err != nil { // nobody's: then none of them
		return nil
	}
	return crontabs{system.Tabs{Places: d.o.System.Places, Users: d.users, Caller: caller}, d}
}

// installTurn lets a user install one crontab at a time: each takes more than a
// hundred megabytes when it is as long as it may be.
func (d *Daemon) installTurn(uid int) (done func(), err error) {
	if _, busy := d.installs.LoadOrStore(uid, true); busy {
		return nil, &api.Error{Code: api.Unavailable, Message: "another crontab of yours is just being installed", Hint: "try again"}
	}
	return func() { d.installs.Delete(uid) }, nil
}

// crontabs are system.Tabs whose changes are in the account.
type crontabs struct {
	system.Tabs
	d *Daemon
}

func (c crontabs) Install(user, from string, text []byte) error {
	if err := c.Tabs.Install(user, from, text); err != nil {
		return err
	}
	c.note(run.ActCrontab, user)
	return nil
}

func (c crontabs) Remove(user string) error {
	if err := c.Tabs.Remove(user); err != nil {
		return err
	}
	c.note(run.ActNoCrontab, user)
	return nil
}

// note writes down what was done, after it: whether the caller may is known only
// then. It is done also when that cannot be written.
func (c crontabs) note(action run.Action, user string) {
	by := run.Person{UID: int(c.Caller.UID), Name: c.Caller.Name}
	if err := c.d.store.Act(context.Background(), run.Act{Person: by, At: c.d.now(), Action: action, Detail: "of " + user}); err != nil {
		c.d.o.Log.Error("note a change of a crontab", "user", user, "by", by.Name, "error", err)
	}
}

// lookup finds whose mailbox mail goes to.
func (d *Daemon) lookup(name string) (uid, gid int, err error) {
	found, err := d.users.Lookup(name)
	if unknown := new(system.UnknownUserError); errors.As(err, &unknown) {
		err = user.UnknownUserError(name)
	}
	return int(found.UID), int(found.GID), err
}

// deliverAs has a mailbox written as its user, whose one group is the one of
// mailboxes.
func deliverAs(cmd *exec.Cmd, uid, gid int) (refusal func() error, err error) {
	return proc.As(cmd, &proc.Credential{UID: uint32(uid), GID: uint32(gid), Groups: []uint32{uint32(gid)}})
}

// sendmail is the machine's mailer, whichever it is: its other programs have links
// of that name.
const sendmail = "/usr/sbin/sendmail"

// mailer gives how the mail of a user's jobs is handed to the machine's mailer:
// as the user, in their home. It is for the machine's cron, unless somebody has
// named a folder of mailboxes.
func (d *Daemon) mailer(user string) (notify.Mailer, error) {
	if d.o.System == nil || cmp.Or(d.o.MailSpool, d.jobs.settings().MailSpool) != "" {
		return notify.Mailer{}, nil
	}
	path := filepath.Join(d.o.System.Root, sendmail)
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		return notify.Mailer{}, nil //nolint:nilerr // then there is none
	}
	host, err := d.o.Host.Of(user)
	if err != nil {
		return notify.Mailer{}, err
	}
	return notify.Mailer{
		Path: path, Dir: host.Home, As: func(cmd *exec.Cmd) (func() error, error) { return proc.As(cmd, host.Credential) },
		Told: func(detail string) { d.cron.child(os.Getpid(), host.User, "MAIL", detail) },
		Env:  []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + host.Home, "LOGNAME=" + host.User, "USER=" + host.User, "LANG=C.UTF-8"},
	}, nil
}

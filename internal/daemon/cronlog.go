package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/syslog"
	"belfry/internal/system"
)

// cronLog tells the machine's log what its cron does, in cron's words. Its zero
// value, for a daemon that is not the system's, tells nobody.
type cronLog struct {
	log     *syslog.Log // nil: nobody is told
	dialect system.Dialect
	level   int       // of Debian's: what of its jobs is told
	since   time.Time // what was started before was told by the daemon before this

	mu      sync.Mutex
	running map[string]process // guarded by mu; run → its process
}

// process is a command that was started.
type process struct {
	attempt, pid int
	user, text   string
}

func newCronLog(o Options, since time.Time) *cronLog {
	if o.System == nil || o.Shadow { // beside a shadow the machine's cron tells
		return &cronLog{}
	}
	socket := filepath.Join(o.System.Root, syslog.Socket)
	return &cronLog{log: syslog.New(socket), dialect: o.System.Dialect, level: o.System.LogLevel(), since: since, running: map[string]process{}}
}

// names are what a dialect's daemon calls itself in the log, and its children.
var names = map[system.Dialect]struct{ daemon, child string }{
	system.Debian: {"cron", "CRON"},
	system.Cronie: {"crond", "CROND"},
}

// tell tells an event of the daemon itself.
func (c *cronLog) tell(user, event, detail string) {
	if c.log != nil {
		c.log.Event(names[c.dialect].daemon, os.Getpid(), user, event, detail)
	}
}

// child tells an event of one job.
func (c *cronLog) child(pid int, user, event, detail string) {
	if c.log != nil {
		c.log.Event(names[c.dialect].child, pid, user, event, detail)
	}
}

// started tells of a command that has its process, once.
func (c *cronLog) started(r run.Run, j *job.Job, s proc.Started) {
	if c.log == nil || j.NoLog {
		return
	}
	c.mu.Lock()
	p, told := c.running[r.ID]
	told = told && p.attempt == r.Attempt || s.At.Before(c.since)
	p = c.process(r, j, s.PID)
	c.running[r.ID] = p
	c.mu.Unlock()
	if !told && (c.dialect == system.Cronie || c.level&system.LogStarts != 0) {
		c.child(p.pid, p.user, "CMD", p.text)
	}
}

// ended tells of the end of a command, and with Debian's of how it failed. One that
// nobody saw start, because it ended while no daemon was there, has our pid, as the
// process that tells of it. j is nil when the job was removed.
func (c *cronLog) ended(r run.Run, j *job.Job, how run.Attempt) {
	if c.log == nil {
		return
	}
	c.mu.Lock()
	p, seen := c.running[r.ID]
	delete(c.running, r.ID)
	c.mu.Unlock()
	if how.ExitCode == nil && how.Signal == "" { // it was not started, or is lost
		return
	}
	if !seen || p.attempt != r.Attempt {
		if j == nil || j.NoLog {
			return
		}
		p = c.process(r, j, os.Getpid())
	}
	if c.dialect == system.Cronie {
		c.child(p.pid, p.user, "CMDEND", p.text)
		return
	}
	if c.level&system.LogFailures != 0 {
		switch {
		case how.Signal != "":
			c.child(p.pid, "CRON", "error", fmt.Sprintf("grandchild #%d terminated by signal %d", p.pid, unix.SignalNum(how.Signal)))
		case *how.ExitCode != 0:
			c.child(p.pid, "CRON", "error", fmt.Sprintf("grandchild #%d failed with exit status %d", p.pid, *how.ExitCode))
		}
	}
	if c.level&system.LogEnds != 0 {
		c.child(p.pid, p.user, "END", p.text)
	}
}

// process is a run's command as it stands in the log.
func (c *cronLog) process(r run.Run, j *job.Job, pid int) process {
	text := syslog.Printable(j.Command.String())
	if c.dialect == system.Debian && c.level&system.LogProcesses != 0 {
		text = fmt.Sprintf("[%d] %s", pid, text)
	}
	return process{r.Attempt, pid, j.Owner, text}
}

// reloaded tells of a crontab that has changed.
func (c *cronLog) reloaded(path, spool string) {
	who, file := c.file(path, spool)
	c.tell(who, "RELOAD", file)
}

// refused tells of a crontab that is not used.
func (c *cronLog) refused(r *system.Refusal, spool string) {
	who, file := c.file(r.Path, spool)
	switch {
	case r.Orphan:
		c.tell(who, "ORPHAN", "no passwd entry")
	case strings.HasPrefix(r.Event, "crontab must"):
		c.tell(who, "ERROR", r.Event)
	default:
		c.tell(who, r.Event, file)
	}
}

// unsafe tells of an address that no mail is sent to.
func (c *cronLog) unsafe(user, address string) {
	event := "UNSAFE"
	if c.dialect == system.Debian {
		event = "UNSAFE MAIL"
	}
	c.child(os.Getpid(), user, event, syslog.Printable(address))
}

// file gives whose a crontab is in the log, and what it is called there.
func (c *cronLog) file(path, spool string) (who, file string) {
	name := filepath.Base(path)
	users := filepath.Dir(path) == spool
	switch {
	case c.dialect == system.Debian && users:
		return name, "crontabs/" + name
	case c.dialect == system.Debian && name == "crontab":
		return "*system*", path
	case c.dialect == system.Debian:
		return "*system*" + name, path
	case users:
		return name, path
	}
	return "root", path
}

func (c *cronLog) close() {
	if c.log != nil {
		c.log.Close()
	}
}

// tellReboot tells of the jobs that run because the machine was started.
func (d *Daemon) tellReboot(decision plan.Decision) {
	for _, r := range decision.Runs {
		if r.Cause == plan.Reboot {
			detail := "Running @reboot jobs"
			if d.cron.dialect == system.Cronie {
				detail = "@reboot jobs will be run at computer's startup."
			}
			d.cron.tell("CRON", "INFO", detail)
			return
		}
	}
}

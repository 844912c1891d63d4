package system

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// editors are used when neither $VISUAL nor $EDITOR names one.
var editors = map[Dialect]string{
	Debian: "/usr/bin/sensible-editor",
	Cronie: "vi",
}

// draft is a crontab that is being edited, in a file of the caller's.
type draft struct {
	path   string
	folder string      // made for it alone; empty with cronie
	before fs.FileInfo // when it was written, before anybody edited it
}

// edit lets the caller edit a crontab and installs it, until it is right or they
// give up. The editor is their own, started with their rights, which are the only
// ones that the command has.
func (c *Command) edit(tab Tab) error {
	name := c.options.user.Name
	c.Log(c.Caller.Name, "BEGIN EDIT", name)
	text := c.Dialect.withoutHeader(tab.Text)
	if !tab.There {
		c.say("no crontab for %s - using an empty one", name)
		text = []byte(beginning[c.Dialect])
	}
	d, err := c.newDraft(text)
	if err != nil {
		c.say("Creation of temporary crontab file failed - aborting")
		return err
	}
	for {
		if err := c.runEditor(d); err != nil {
			d.remove()
			return err
		}
		edited, err := c.reopen(d)
		if err != nil || edited == nil {
			d.remove()
			c.Log(c.Caller.Name, "END EDIT", name)
			return err
		}
		c.say("%s: installing new crontab", programName)
		err = c.install(d.path, edited)
		if err == nil {
			d.remove()
			break
		}
		if !errors.Is(err, errRefused) || !c.retry() {
			c.say("%s: edits left in %s", programName, d.path)
			break // and, as in both dialects, that is no failure
		}
	}
	c.Log(c.Caller.Name, "END EDIT", name)
	return nil
}

// retry asks what to do about mistakes.
func (c *Command) retry() bool {
	again := "Y/N"
	if c.Dialect == Debian {
		again = "y/n"
	}
	for {
		fmt.Fprintf(c.Out, "Do you want to retry the same edit? (%s) ", again)
		line, err := c.in.ReadString('\n')
		switch {
		case line != "" && line[0]|0x20 == 'y':
			return true
		case line != "" && line[0]|0x20 == 'n', err != nil:
			return false
		}
		c.say("Enter Y or N")
	}
}

// newDraft writes the crontab where only the caller can reach it.
func (c *Command) newDraft(text []byte) (d *draft, err error) {
	d = &draft{}
	dir := cmp.Or(c.Getenv("TMPDIR"), "/tmp")
	var f *os.File
	if c.Dialect == Debian {
		if d.folder, err = os.MkdirTemp(dir, "crontab."); err != nil {
			return nil, err
		}
		d.path = filepath.Join(d.folder, "crontab")
		f, err = os.OpenFile(d.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	} else {
		f, err = os.CreateTemp(dir, "crontab.")
	}
	if err != nil {
		d.remove()
		return nil, err
	}
	d.path = f.Name()
	_, err = f.Write(text)
	// A time of long ago, as cronie sets it: then whatever is written, however soon,
	// is seen. Debian's compares seconds, and loses an edit within the first one.
	long := time.Unix(0, 0)
	err = errors.Join(err, f.Close(), os.Chtimes(d.path, long, long))
	if err == nil {
		d.before, err = os.Lstat(d.path)
	}
	if err != nil {
		d.remove()
		return nil, err
	}
	return d, nil
}

// remove removes the draft, with what an editor may have put beside it.
func (d *draft) remove() {
	if d.folder != "" {
		_ = os.RemoveAll(d.folder)
	} else if d.path != "" {
		_ = os.Remove(d.path)
	}
}

// runEditor has the caller edit the draft. Everything has been said when it gives
// an error.
func (c *Command) runEditor(d *draft) error {
	editor := cmp.Or(c.Getenv("VISUAL"), c.Getenv("EDITOR"), editors[c.Dialect])
	cmd := exec.Command("/bin/sh", "-c", editor+" "+d.path) //nolint:noctx // a person ends it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.In, c.Out, c.Err
	if c.Dialect == Debian {
		cmd.Dir = "/tmp"
	}
	// What is typed at the editor is not for us.
	typed := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT}
	signal.Ignore(typed...)
	err := cmd.Run()
	signal.Reset(typed...)
	var exited *exec.ExitError
	if !errors.As(err, &exited) {
		return err
	}
	status, _ := exited.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		dumped := "no "
		if status.CoreDump() {
			dumped = ""
		}
		return c.fail("%s: \"%s\" killed; signal %d (%score dumped)", programName, editor, int(status.Signal()), dumped)
	}
	return c.fail("%s: \"%s\" exited with status %d", programName, editor, status.ExitStatus())
}

// reopen reads the draft again; nil when it was not edited. Everything has been
// said when it gives an error.
func (c *Command) reopen(d *draft) ([]byte, error) {
	if c.Dialect == Cronie {
		info, err := os.Lstat(d.path)
		if err != nil {
			return nil, c.fail("lstat: %s", strerror(err))
		}
		if !info.Mode().IsRegular() {
			c.say("%s: illegal crontab", programName)
			return nil, nil
		}
	}
	broken := func(format string, args ...any) ([]byte, error) {
		c.say(format, args...)
		return nil, c.fail("Error while editing crontab")
	}
	f, err := os.OpenFile(d.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return broken("Can't open tempfile after edit: %s", strerror(err))
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return broken("fstat: %s", strerror(err))
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case st == nil || st.Uid != c.Caller.UID:
		return broken("Temporary crontab no longer owned by you.")
	case !info.Mode().IsRegular():
		return broken("The temporary crontab must remain a regular file")
	case info.ModTime().Equal(d.before.ModTime()):
		if c.Dialect == Debian {
			c.say("No modification made")
		} else {
			c.say("%s: no changes made to crontab", programName)
		}
		return nil, nil
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return broken("%s: %s", d.path, strerror(err))
	}
	return text, nil
}

// beginning is what an empty crontab begins with.
var beginning = map[Dialect]string{
	Debian: `# Edit this file to introduce tasks to be run by cron.
# 
# Each task to run has to be defined through a single line
# indicating with different fields when the task will be run
# and what command to run for the task
# 
# To define the time you can provide concrete values for
# minute (m), hour (h), day of month (dom), month (mon),
# and day of week (dow) or use '*' in these fields (for 'any').
# 
# Notice that tasks will be started based on the cron's system
# daemon's notion of time and timezones.
# 
# Output of the crontab jobs (including errors) is sent through
# email to the user the crontab file belongs to (unless redirected).
# 
# For example, you can run a backup of all your user accounts
# at 5 a.m every week with:
# 0 5 * * 1 tar -zcf /var/backups/home.tgz /home/
# 
# For more information see the manual pages of crontab(5) and cron(8)
# 
# m h  dom mon dow   command
`,
}

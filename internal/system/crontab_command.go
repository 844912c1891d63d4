package system

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spool is where the crontab command finds crontabs: Tabs itself for whoever may
// write the folder, else a daemon that asks the same of the same Tabs for whoever
// it was called by.
type Spool interface {
	// Look gives a user's crontab; ErrNotAllowed when the caller may not use the
	// command at all.
	Look(user string) (Tab, error)
	// Install puts a crontab in the place of the user's. What is wrong in it is a
	// *Mistakes.
	Install(user, from string, text []byte) error
	Remove(user string) error
}

// Command is the crontab command, as the person calls it who is its Caller. What
// it says and its exit codes are the dialect's to the letter; docs/crontab-command.md
// has a table of what differs on purpose.
type Command struct {
	Dialect  Dialect
	Caller   User
	Users    *Users
	Spool    Spool
	In       *os.File
	Out, Err io.Writer
	Getenv   func(name string) string
	// Log tells the system's log an event, as cron does: `(alice) LIST (bob)`.
	Log func(user, event, detail string)

	in      *bufio.Reader // of In, for answers
	options tabOptions
}

// operation is what the command is asked to do.
type operation int

const (
	none operation = iota
	list
	remove
	edit
	replace
	help
	test
	setHost
	getHost
)

// tabOptions is a command line that was read.
type tabOptions struct {
	op       operation
	user     User // whose crontab it is
	ask      bool // before it is removed
	dryRun   bool // Debian's -n
	noBackup bool // cronie's -b
	file     string
	text     *os.File // file, opened
}

// programName is what the command calls itself in messages.
const programName = "crontab"

// exit ends the command with a code when everything has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Run carries out a command line and gives its exit code, which is 0 or 1.
func (c *Command) Run(args []string) int {
	c.in = bufio.NewReader(c.In)
	err := c.parse(args)
	if err == nil {
		err = c.carryOut()
	}
	if c.options.text != nil {
		_ = c.options.text.Close() // it was only read
	}
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	c.say("%s: %v", programName, err)
	return 1
}

// say writes a line to standard error.
func (c *Command) say(format string, args ...any) { fmt.Fprintf(c.Err, format+"\n", args...) }

// fail is say for what ends the command.
func (c *Command) fail(format string, args ...any) error {
	c.say(format, args...)
	return exit(1)
}

func (c *Command) carryOut() error {
	if c.options.op == help {
		return c.usage("")
	}
	if c.options.op == test {
		return c.test()
	}
	tab, err := c.Spool.Look(c.options.user.Name)
	if errors.Is(err, ErrNotAllowed) {
		return c.notAllowed(err)
	}
	if refusal := new(Refusal); errors.As(err, &refusal) && (c.options.op == replace || c.options.op == remove) {
		tab, err = Tab{There: true}, nil // what must not be read can still be replaced
	}
	if err != nil {
		return err
	}
	switch c.options.op {
	case list:
		return c.list(tab)
	case remove:
		return c.remove(tab)
	case edit:
		return c.edit(tab)
	case setHost, getHost:
		return errors.New("cronie's clusters, in which one of several hosts runs the crontabs of a shared folder, are not Belfry's: let the hosts share a database instead")
	}
	text, err := c.read()
	if err != nil {
		return err
	}
	if err := c.install(c.options.file, text); err != nil {
		return exit(1)
	}
	return nil
}

func (c *Command) notAllowed(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // what Tabs joins to it
		for _, cause := range joined.Unwrap() {
			var path *os.PathError
			if errors.As(cause, &path) {
				c.say("%s: %s", path.Path, strerror(path.Err))
			}
		}
	}
	name := c.options.user.Name
	if c.Dialect == Debian && c.Caller.UID == 0 {
		return c.fail("The user %s cannot use this program (%s)", name, programName)
	}
	c.say("You (%s) are not allowed to use this program (%s)", name, programName)
	c.say("See crontab(1) for more information")
	c.Log(c.Caller.Name, "AUTH", "crontab command not allowed")
	return exit(1)
}

func (c *Command) list(tab Tab) error {
	name := c.options.user.Name
	c.Log(c.Caller.Name, "LIST", name)
	if !tab.There {
		return c.fail("no crontab for %s", name)
	}
	text := tab.Text
	if c.Dialect == Debian {
		if show := c.Getenv("CRONTAB_NOHEADER"); show == "" || show[0]|0x20 != 'n' {
			text = c.Dialect.withoutHeader(text)
		}
		// What could hide a part of a line from who looks at it.
		text = bytes.ReplaceAll(text, []byte("\b"), []byte(`\b`))
		text = bytes.ReplaceAll(text, []byte("\r"), []byte(`\r`))
	}
	_, err := c.Out.Write(text)
	return err
}

func (c *Command) remove(tab Tab) error {
	name := c.options.user.Name
	if c.Dialect == Debian && !tab.There {
		return c.fail("no crontab for %s", name)
	}
	if c.options.ask && !c.sure() {
		return nil
	}
	c.Log(c.Caller.Name, "DELETE", name)
	if !tab.There {
		return c.fail("no crontab for %s", name)
	}
	if c.Dialect == Cronie && !c.options.noBackup {
		if err := c.backup(tab.Text); err != nil {
			return fmt.Errorf("keep a copy of the crontab (-b removes it without one): %w", err)
		}
	}
	err := c.Spool.Remove(name)
	if errors.Is(err, os.ErrNotExist) {
		return c.fail("no crontab for %s", name)
	}
	return err
}

// sure asks whether the crontab is really to be removed. At the end of the input
// it is not, where Debian's asks for ever.
func (c *Command) sure() bool {
	if c.Dialect == Cronie {
		fmt.Fprintf(c.Out, "crontab: really delete %s's crontab? ", c.options.user.Name)
		line, _ := c.in.ReadString('\n')
		return strings.HasPrefix(strings.ToLower(line), "y")
	}
	fmt.Fprintf(c.Out, "crontab: really delete %s's crontab? (y/n) ", c.options.user.Name)
	return c.answer("Please enter Y or N: ")
}

// answer reads yes or no, and says again what is wanted until it is one. At the
// end of the input it is no.
func (c *Command) answer(again string) bool {
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case strings.HasPrefix(strings.ToLower(line), "y"):
			return true
		case strings.HasPrefix(strings.ToLower(line), "n"), err != nil:
			return false
		}
		fmt.Fprint(c.Err, again)
	}
}

// backup keeps what cronie's -r removes, in the caller's cache folder. For root
// that is the one of root's own home: another may be its user's to prepare.
func (c *Command) backup(text []byte) error {
	cache := filepath.Join(c.Caller.Home, ".cache")
	if c.Caller.UID != 0 {
		if home := c.Getenv("HOME"); home != "" {
			cache = filepath.Join(home, ".cache")
		}
		if set := c.Getenv("XDG_CACHE_HOME"); set != "" {
			cache = set
		}
	}
	dir := filepath.Join(cache, "crontab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := "crontab.bak"
	if c.options.user.Name != c.Caller.Name {
		name = "crontab." + c.options.user.Name + ".bak"
	}
	temporary, err := os.CreateTemp(dir, ".crontab.")
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	fmt.Fprintf(c.Out, "Backup of %s's previous crontab saved to %s\n", c.options.user.Name, filepath.Join(dir, name))
	return nil
}

// errRefused says that a crontab has mistakes, which were told.
var errRefused = errors.New("the crontab has mistakes")

// install checks a crontab and puts it in the place of the user's. Everything has
// been said when it gives an error.
func (c *Command) install(from string, text []byte) error {
	err := c.Dialect.Check(from, text, c.options.user)
	if err == nil && c.options.dryRun {
		c.say("The syntax of the crontab file was successfully checked.")
		return nil
	}
	if err == nil {
		err = c.Spool.Install(c.options.user.Name, from, text)
	}
	var mistakes *Mistakes
	switch {
	case errors.As(err, &mistakes):
		c.say("%v", mistakes)
		return errRefused
	case err != nil:
		c.say("%s: %v", programName, err)
		return err
	}
	c.Log(c.Caller.Name, "REPLACE", c.options.user.Name)
	return nil
}

// test is cronie's -T.
func (c *Command) test() error {
	text, err := c.read()
	if err != nil {
		return err
	}
	var mistakes *Mistakes
	if err := c.Dialect.Check(c.options.file, text, c.options.user); errors.As(err, &mistakes) {
		lines := mistakes.Lines
		c.say("%s", lines[0])
		for _, line := range lines[2:] {
			c.say("%s", line)
		}
		return c.fail("Invalid crontab file. Syntax issues were found.")
	} else if err != nil {
		return err
	}
	c.say("No syntax issues were found in the crontab file.")
	return nil
}

// open opens the file that is to be installed, with the caller's rights: the
// command has no others.
func (c *Command) open() error {
	name := c.options.file
	if name == "-" {
		c.options.text = c.In
		return nil
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return c.fail("%s: %s", name, strerror(err))
	}
	c.options.text = f
	info, err := f.Stat()
	if err != nil {
		return c.fail("fstat: %s", strerror(err))
	}
	switch {
	case c.Dialect == Debian && !info.Mode().IsRegular():
		return c.fail("%s: Not a regular file.", name)
	case info.IsDir():
		return c.fail("invalid crontab file: '%s' is a directory", name)
	}
	return nil
}

// read gives the text of the file. Nothing out of a pipe, as of <(make-crontab), is
// no empty crontab: nobody writes to it, and cron's own command would wait for ever.
func (c *Command) read() ([]byte, error) {
	text, err := io.ReadAll(c.options.text)
	if err == nil && len(text) == 0 && c.options.file != "-" {
		var info os.FileInfo
		if info, err = c.options.text.Stat(); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
			err = errors.New("it is a pipe, and nobody writes to it")
		}
	}
	if err != nil {
		return nil, c.fail("%s: %s", c.options.file, strerror(err))
	}
	return text, nil
}

// strerror is an error of the kernel in the C library's words.
func strerror(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	text := number.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

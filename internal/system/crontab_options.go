package system

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// letters are the options of each dialect, as getopt takes them: a colon behind
// one that has a value.
var letters = map[Dialect]string{
	Debian: "u:hnleri",
	Cronie: "u:lerincbT:V",
}

// operations are the options of which there can be but one.
var operations = map[Dialect]map[byte]operation{
	Debian: {'l': list, 'r': remove, 'e': edit, 'h': help},
	Cronie: {'l': list, 'r': remove, 'e': edit, 'T': test, 'n': setHost, 'c': getHost},
}

// parse reads the command line and opens the file that it names. Everything has
// been said when it gives an error.
func (c *Command) parse(args []string) error {
	c.options.user = c.Caller
	if len(args) == 0 {
		if c.Dialect == Cronie && isTerminal(c.In) {
			return c.usage("file name or - (for stdin) must be specified")
		}
		args = []string{"-"}
	}
	var operands []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			operands, args = append(operands, args...), nil
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			operands = append(operands, arg) // options may follow it
		default:
			for arg = arg[1:]; arg != ""; {
				letter := arg[0]
				arg = arg[1:]
				at := strings.IndexByte(letters[c.Dialect], letter)
				if at < 0 || letter == ':' {
					c.say("%s: invalid option -- '%c'", programName, letter)
					return c.usage("unrecognized option")
				}
				value := ""
				if strings.HasPrefix(letters[c.Dialect][at+1:], ":") {
					switch {
					case arg != "":
						value, arg = arg, ""
					case len(args) > 0:
						value, args = args[0], args[1:]
					default:
						c.say("%s: option requires an argument -- '%c'", programName, letter)
						return c.usage("unrecognized option")
					}
				}
				if err := c.option(letter, value); err != nil {
					return err
				}
			}
		}
	}
	return c.operands(operands)
}

// option takes one option.
func (c *Command) option(letter byte, value string) error {
	o := &c.options
	if c.Dialect == Cronie && letter == 'n' && c.Caller.UID != 0 {
		return c.fail("must be privileged to set host with -n")
	}
	if op, ok := operations[c.Dialect][letter]; ok {
		if o.op != none {
			return c.usage("only one operation permitted")
		}
		if o.op = op; op == test {
			o.file = value
			return c.open()
		}
		return nil
	}
	switch letter {
	case 'u':
		return c.forUser(value)
	case 'i':
		o.ask = true
	case 'b':
		o.noBackup = true
	case 'n':
		o.dryRun = true
	case 'V':
		fmt.Fprintln(c.Out, "belfry, with cronie's crontab command")
		return exit(0)
	}
	return nil
}

// forUser takes -u. cronie lets nobody but root use it, Debian's also whoever
// means their own crontab.
func (c *Command) forUser(name string) error {
	const privileged = "must be privileged to use -u"
	if c.Dialect == Cronie && c.Caller.UID != 0 {
		return c.fail(privileged)
	}
	u, err := c.Users.Lookup(name)
	if unknown := new(UnknownUserError); errors.As(err, &unknown) {
		return c.fail("%s:  user `%s' unknown", programName, name)
	}
	if err != nil {
		return err
	}
	if c.Caller.UID != 0 && c.Caller.UID != u.UID {
		return c.fail(privileged)
	}
	c.options.user = u
	return nil
}

// operands takes what is no option: the file to install.
func (c *Command) operands(names []string) error {
	switch {
	case c.options.op == setHost && len(names) == 1: // a host's name
		return nil
	case c.options.op != none && len(names) > 0:
		return c.usage("no arguments permitted after this option")
	case c.options.op != none:
		return nil
	case len(names) == 0:
		return c.usage("file name must be specified for replace")
	}
	c.options.op, c.options.file = replace, names[0]
	return c.open()
}

// isTerminal reports whether a person types what is read from f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// usage says what is wrong with the command line, and what would be right.
func (c *Command) usage(problem string) error {
	if problem != "" {
		c.say("%s: usage error: %s", programName, problem)
	}
	fmt.Fprint(c.Err, usages[c.Dialect])
	return exit(1)
}

var usages = map[Dialect]string{
	Debian: `usage:	crontab [-u user] [-n] file
	crontab [ -u user ] [ -i ] { -e | -l | -r }

	-h	(displays this help message)

	file	(default operation is replace, per 1003.2)
	-n	(dry run: checks the syntax, then bails out)
	-u user	(choose the user whose crontab is touched)

	-e	(edit user's crontab)
	-l	(list user's crontab)
	-r	(delete user's crontab)

	-i	(prompt before deleting user's crontab)
`,
	Cronie: `Usage:
 crontab [options] file
 crontab [options]
 crontab -n [hostname]

Options:
 -u <user>  define user
 -e         edit user's crontab
 -l         list user's crontab
 -r         delete user's crontab
 -i         prompt before deleting
 -n <host>  set host in cluster to run users' crontabs
 -c         get host in cluster to run users' crontabs
 -T <file>  test a crontab file syntax
 -V         print version and exit
 -b         delete without a backup

Default operation is replace, per 1003.2
`,
}

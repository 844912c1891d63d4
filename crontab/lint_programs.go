package crontab

import (
	"fmt"
	"slices"
	"strings"
)

// cronPath is what an entry has without a PATH of its own: cronie's, and Belfry's. Debian's has the first two.
const (
	cronPath   = "/usr/bin:/bin:/usr/sbin:/sbin"
	debianPath = "/usr/bin:/bin"
)

// builtins are the commands and words that a shell has in itself.
var builtins = strings.Fields(`. : [ [[ ! alias bg break builtin cd command continue declare disown echo enable eval exec exit export false fg
	getopts hash jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return set shift shopt source test time times
	trap true type typeset ulimit umask unalias unset until wait while`)

// userColumn finds a user in front of a user crontab's command, and a command where a system crontab has its user.
func (l *linter) userColumn(e *lintEntry) {
	if l.o.System {
		if strings.ContainsAny(e.User, "/=$&|;<>()'\"~") {
			l.report(e.Line, e.user.pos,
				fmt.Sprintf("in a system crontab the user comes before the command, and %s stands in its place", quote(e.User)),
				"write the user in front of it, such as root")
		}
		return
	}
	if !e.shell.ok || len(e.shell.commands) == 0 || len(e.shell.commands[0].words) < 2 || len(e.shell.commands[0].assigns) > 0 {
		return
	}
	first, second := e.shell.commands[0].words[0], e.shell.commands[0].words[1]
	name := first.text
	if !first.plain || strings.Contains(name, "/") || slices.Contains(builtins, name) {
		return
	}
	if name != "root" {
		if l.o.UserExists == nil || !l.o.UserExists(name) {
			return
		}
		// sync, mail, git and man are users here and programs there.
		if l.o.LookPath == nil {
			if !strings.HasPrefix(second.text, "/") || slices.Contains([]string{"sync", "mail", "git", "man", "backup", "www-data"}, name) {
				return
			}
		} else if found, _ := l.o.LookPath(name, e.path(cronPath)); found {
			return
		}
	}
	l.report(e.Line, e.in(first.at),
		fmt.Sprintf("%q is run as a program: a user's own crontab has no user column, only /etc/crontab and /etc/cron.d have", name),
		"remove the user; the command runs as the crontab's owner")
}

func (l *linter) unknownUser(e *lintEntry) {
	if l.o.UserExists == nil || e.User == "" || strings.ContainsAny(e.User, "/=$&|;<>()'\"~") || l.o.UserExists(e.User) {
		return
	}
	l.report(e.Line, e.user.pos,
		fmt.Sprintf("this machine has no user %q, so the command cannot run; Debian's cron then drops the whole file", e.User),
		"write an existing user; if the user was left out, write it in front of the command")
}

// path returns the PATH that the entry's command is looked up in.
func (e *lintEntry) path(otherwise string) string {
	if path, ok := e.env("PATH"); ok {
		return path
	}
	return otherwise
}

// guarded reports whether the command line tests for the program or file itself.
func (s *script) guarded(text string) bool {
	for i := range s.commands {
		c := &s.commands[i]
		switch c.name() {
		case "[", "test", "[[", "command", "which", "type", "hash":
			if slices.ContainsFunc(c.words[1:], func(w shellWord) bool { return w.text == text }) {
				return true
			}
		}
	}
	return false
}

// own reports whether the command line changes its PATH, or defines what it calls.
func (s *script) own() bool {
	for i := range s.commands {
		c := &s.commands[i]
		switch c.name() {
		case ".", "source", "eval", "alias":
			return true
		}
		for _, w := range slices.Concat(c.assigns, c.words) {
			if strings.HasPrefix(w.raw, "PATH=") {
				return true
			}
		}
	}
	return false
}

func (l *linter) notOnPath(e *lintEntry) {
	if l.o.LookPath == nil || !e.shell.ok || e.shell.own() {
		return
	}
	otherwise := cronPath
	if l.o.Portable {
		otherwise = debianPath
	}
	path := e.path(otherwise)
	_, stated := e.env("PATH")
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		for _, at := range c.programs() {
			w := c.words[at]
			if !w.plain || w.text == "" || strings.Contains(w.text, "/") || slices.Contains(builtins, w.text) || e.shell.guarded(w.text) {
				continue
			}
			if !l.o.System && w.text == "root" { // see userColumn
				return
			}
			if found, _ := l.o.LookPath(w.text, path); found {
				continue
			}
			which := "the entry's PATH"
			if !stated {
				which = "the PATH that cron gives"
			}
			l.report(e.Line, e.in(w.at),
				fmt.Sprintf("%s is not in %s (%s), so it cannot run", quote(w.text), which, path),
				fmt.Sprintf("write its whole path (in a terminal, command -v %s prints it), or set PATH above the entry", w.text))
			return
		}
	}
}

// eachFile calls do with the absolute paths that a command line starts as programs or gives to an interpreter.
func (e *lintEntry) eachFile(do func(w shellWord, program bool)) {
	if !e.shell.ok {
		return
	}
	file := func(w shellWord, program bool) {
		if w.plain && strings.HasPrefix(w.text, "/") && !e.shell.guarded(w.text) {
			do(w, program)
		}
	}
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		for _, at := range c.programs() {
			file(c.words[at], true)
		}
		if w, ok := c.scriptFile(); ok {
			file(w, false)
		}
	}
}

func (l *linter) missingFile(e *lintEntry) {
	if l.o.LookPath == nil {
		return
	}
	if shell, ok := e.env("SHELL"); ok {
		if found, _ := l.o.LookPath(shell, ""); strings.HasPrefix(shell, "/") && !found {
			l.report(e.Line, e.command.pos,
				fmt.Sprintf("the entry's SHELL, %s, is not there, so its command cannot run", quote(shell)),
				"set SHELL to a shell that is there, such as /bin/sh")
			return
		}
	}
	e.eachFile(func(w shellWord, _ bool) {
		if found, _ := l.o.LookPath(w.text, ""); !found {
			l.report(e.Line, e.in(w.at),
				fmt.Sprintf("%s is not there, so the command cannot run", quote(w.text)),
				"correct the path, or put the file there")
		}
	})
}

func (l *linter) notExecutable(e *lintEntry) {
	if l.o.LookPath == nil {
		return
	}
	e.eachFile(func(w shellWord, program bool) {
		if found, executable := l.o.LookPath(w.text, ""); program && found && !executable {
			l.report(e.Line, e.in(w.at),
				fmt.Sprintf("%s is there and may not be executed, so the command cannot run", quote(w.text)),
				"chmod +x it, or name its interpreter in front of it")
		}
	})
}

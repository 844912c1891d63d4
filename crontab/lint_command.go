package crontab

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// unescapedPercent finds a % that was not meant to end the command. Some are: mail -s hello boss%Dear boss.
func (l *linter) unescapedPercent(e *lintEntry) {
	at := strings.Index(e.command.text, "%")
	for at > 0 && escapedAt(e.command.text, at) {
		next := strings.Index(e.command.text[at+1:], "%")
		if next < 0 {
			return
		}
		at += next + 1
	}
	if at < 0 {
		return
	}
	front, behind := e.command.text[:at], e.command.text[at+1:]
	word := front[strings.LastIndexAny(front, " \t")+1:]
	last := ""
	if n := len(e.shell.commands); n > 0 {
		last = base(e.shell.commands[n-1].name())
	}
	silent := []string{"date", "printf", "echo", "stat", "find", "ls", "mkdir", "touch", "cp", "mv", "rm", "kill", "ps", "sleep", "cd"}
	switch {
	case !shellLike(e.shellName()):
		return
	case e.shell.open: // a quote or a bracket is left open
	case behind == "", strings.HasSuffix(front, "+"), strings.HasSuffix(front, "="), strings.Contains(word, "://"), strings.HasPrefix(behind, "{"):
	case slices.Contains(silent, last):
	default:
		return
	}
	l.report(e.Line, e.command.pos+at,
		fmt.Sprintf("%% ends the command, and what follows is its standard input: the shell is given %s", quote(strings.TrimSpace(e.Command))),
		`write \% for a % that belongs to the command, in quotes too`)
}

// escapedAt reports whether the % at that place has a backslash of its own, as splitInput reads them.
func escapedAt(text string, at int) bool {
	n := 0
	for n < at && text[at-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

var (
	braces    = regexp.MustCompile(`(?:^|[^$\\])(\{[^{}\s'"]*(?:\.\.|,)[^{}\s'"]*\})`)
	expansion = regexp.MustCompile(`\$\{(?:!?[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]]*\])?(?:/|\^|,|:[0-9(])|![A-Za-z_]|[A-Za-z_][A-Za-z0-9_]*\[)|\$RANDOM\b|\$'`)
)

// bashism finds the first thing on the line that dash, which is Debian's and Ubuntu's sh, does not do.
func (l *linter) bashism(e *lintEntry) {
	if name := e.shellName(); name != "sh" && name != "dash" && name != "ash" {
		return
	}
	best, text, what := len(e.Command), "", ""
	found := func(at int, t, w string) {
		if at < best {
			best, text, what = at, t, w
		}
	}
	for _, op := range e.shell.bare {
		switch op.text {
		case "&>", "&>>":
			found(op.pos, op.text, "sh puts the command in the background and redirects nothing of it")
		case "<<<", "<(", ">(", "|&", "< (":
			found(op.pos, op.text, "it is a syntax error to sh")
		case "((":
			found(op.pos, op.text, "sh takes it for two brackets")
		case "function":
			found(op.pos, op.text, "sh knows no such word")
		}
	}
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		name := c.name()
		if len(c.words) > 0 && c.words[0].raw == "[[" {
			name = "[["
		}
		switch name {
		case "[[", "source", "pushd", "popd", "shopt", "declare", "typeset", "let", "mapfile", "readarray", "disown":
			found(c.words[0].at, name, "sh has no such command")
		case "[", "test":
			for _, w := range c.words[1:] {
				if w.raw == "==" {
					found(w.at, "==", "sh compares with a single =")
				}
			}
		case "echo":
			if len(c.words) > 1 && (c.words[1].raw == "-e" || c.words[1].raw == "-ne") {
				found(c.words[1].at, c.words[1].raw, "sh's echo prints it")
			}
		case "set":
			if len(c.words) > 2 && strings.HasSuffix(c.words[1].raw, "o") && c.words[2].raw == "pipefail" {
				found(c.words[2].at, "pipefail", "sh has no such option, and stops there")
			}
		}
		for _, w := range slices.Concat(c.assigns, c.words) {
			if strings.ContainsAny(w.raw, `'"`) && !strings.Contains(w.raw, "$'") || !e.shell.ok {
				continue
			}
			if m := braces.FindStringSubmatchIndex(w.raw); m != nil && !strings.ContainsAny(w.raw, "$`:") { // behind a : it is for curl, or for another machine
				found(w.at+m[2], w.raw[m[2]:m[3]], "sh does not expand braces")
			}
		}
	}
	if m := expansion.FindStringIndex(outsideQuotes(e.Command)); m != nil {
		found(m[0], e.Command[m[0]:m[1]], "sh does not expand it so")
	}
	if what == "" {
		return
	}
	l.report(e.Line, e.in(best),
		fmt.Sprintf("%q is bash's, and the command is given to sh (dash on Debian and Ubuntu): %s", text, what),
		"write SHELL=/bin/bash above the entry, or what sh understands")
}

// outsideQuotes blanks out what stands in single quotes or behind a backslash, where nothing is expanded.
func outsideQuotes(text string) string {
	b := []byte(text)
	double := false
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			if i++; i < len(b) {
				b[i] = ' '
			}
		case '"':
			double = !double
		case '$':
			if double && i+1 < len(b) && b[i+1] == '\'' {
				b[i] = ' '
			}
		case '\'':
			if double || i > 0 && b[i-1] == '$' {
				continue
			}
			for i++; i < len(b) && b[i] != '\''; i++ {
				b[i] = ' '
			}
		}
	}
	return string(b)
}

// moved reports whether a cd stands in front of the nth command.
func (s *script) moved(n int) bool {
	for i := range n {
		if name := s.commands[i].name(); name == "cd" || name == "pushd" || len(s.commands[i].words) > 0 && name == "" {
			return true
		}
	}
	return false
}

func relative(w shellWord) bool {
	return w.plain && w.text != "" && !strings.HasPrefix(w.text, "/") && !strings.HasPrefix(w.raw, "~") && !strings.Contains(w.text, "://")
}

// relativeVars finds a SHELL or HOME that is none, since neither is looked for anywhere.
func (l *linter) relativeVars() {
	for _, v := range l.vars {
		if v.Name != "SHELL" && v.Name != "HOME" || v.Value == "" || strings.IndexByte("/~$`", v.Value[0]) >= 0 {
			continue
		}
		l.report(v.line, v.value.pos,
			fmt.Sprintf("cron takes %s as it stands and looks for %s nowhere else", v.Name, quote(v.Value)),
			"write the whole path")
	}
}

// relativePath finds the first program, script or file to be written that lies wherever the command is started.
func (l *linter) relativePath(e *lintEntry) {
	if !e.shell.ok {
		return
	}
	report := func(at int, text string) {
		where := "its user's home directory"
		if home, ok := e.env("HOME"); ok {
			where = "HOME, " + home
		}
		l.report(e.Line, e.in(at),
			fmt.Sprintf("%s is looked for in %s, where cron starts a command, and not in the directory that it was tried in", quote(text), where),
			"write the whole path, or begin the command with cd /the/directory &&")
	}
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		if e.shell.moved(i) {
			return
		}
		for _, at := range c.programs() {
			if w := c.words[at]; relative(w) && strings.Contains(w.text, "/") {
				report(w.at, w.text)
				return
			}
		}
		if w, ok := c.scriptFile(); ok && relative(w) {
			report(w.at, w.text)
			return
		}
		for _, r := range c.redirects {
			if strings.Contains(r.op, ">") && r.op != ">&" && r.target.raw != "" && strings.IndexByte("/~$`\"'", r.target.raw[0]) < 0 {
				report(r.target.at, r.target.raw)
				return
			}
		}
	}
}

func (l *linter) uncheckedCd(e *lintEntry) {
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		if !e.shell.ok || i+1 == len(e.shell.commands) || c.name() != "cd" || c.op != ";" || len(c.words) < 2 || e.shell.errexit(i) || i > 0 && e.shell.commands[i-1].op == "||" {
			continue
		}
		l.report(e.Line, e.in(c.opAt),
			fmt.Sprintf("when cd %s fails, the rest of the line runs in another directory", c.words[1].raw),
			"write && in place of the ;")
		return
	}
}

// errexit reports whether a set -e stands in front of the nth command.
func (s *script) errexit(n int) bool {
	for i := range n {
		c := &s.commands[i]
		if c.name() == "set" && len(c.words) > 1 && strings.HasPrefix(c.words[1].raw, "-") && strings.Contains(c.words[1].raw, "e") {
			return true
		}
	}
	return false
}

func (l *linter) background(e *lintEntry) {
	n := len(e.shell.commands)
	if !e.shell.ok || n == 0 || e.Schedule.Reboot() || e.shell.commands[n-1].op != "&" {
		return
	}
	l.report(e.Line, e.in(e.shell.commands[n-1].opAt),
		"& leaves the command behind: the run ends at once and well, whatever becomes of it",
		"remove the &: cron waits for no other entry")
}

// noTerminal finds programs that stop where there is no terminal.
func (l *linter) noTerminal(e *lintEntry) {
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		options := map[string]bool{}
		for _, w := range c.words {
			options[w.raw] = true
		}
		switch c.name() {
		case "docker", "/usr/bin/docker":
			if len(c.words) < 2 || c.words[1].raw != "run" && c.words[1].raw != "exec" {
				continue
			}
			for _, w := range c.words[2:] {
				if !strings.HasPrefix(w.raw, "-") {
					break
				}
				if w.raw == "-it" || w.raw == "-ti" {
					l.report(e.Line, e.in(w.at),
						fmt.Sprintf("there is no terminal in cron, and docker %s %s stops without one (the input device is not a TTY)", c.words[1].raw, w.raw),
						"leave out the t, and the i unless it reads its input")
					return
				}
			}
		case "top", "/usr/bin/top":
			if !slices.ContainsFunc(c.words, func(w shellWord) bool {
				return strings.HasPrefix(w.raw, "-") && strings.Contains(w.raw, "b")
			}) {
				l.report(e.Line, e.in(c.words[0].at), "there is no terminal in cron, and top stops without one", "write top -b -n 1")
				return
			}
		}
	}
}

// pastedCharacter finds what a word processor or a web page makes of quotes, dashes and blanks.
func (l *linter) pastedCharacter(e *lintEntry) {
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		for _, w := range slices.Concat(c.assigns, c.words) {
			if strings.ContainsAny(w.raw, "'\"`$\\") {
				continue
			}
			for j, ch := range w.raw {
				what := ""
				switch ch {
				case '“', '”', '„', '‘', '’':
					what = "a typographic quote, which quotes nothing"
				case '–', '—':
					if j > 0 || len(w.raw) == utf8.RuneLen(ch) {
						continue
					}
					what = "a dash and not a -, so no option follows"
				case '\u00a0', '\u202f', '\u3000':
					what = "a blank that separates no words"
				case '\u200b', '\u200c', '\u200d', '\ufeff':
					what = "invisible, and part of the word"
				default:
					continue
				}
				l.report(e.Line, e.in(w.at+j), fmt.Sprintf("the %U in %s is %s", ch, quote(w.raw), what), "type it anew, as plain text")
				return
			}
		}
	}
}

// rebootNetwork finds programs that need the network, and nothing that waits for it.
func (l *linter) rebootNetwork(e *lintEntry) {
	if !e.Schedule.Reboot() || !e.shell.ok {
		return
	}
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		name := base(c.name())
		switch name {
		case "sleep", "until", "while", "systemctl", "nm-online", "wait-for-it", "wait-for-it.sh", "ping":
			return
		case "curl", "wget", "ssh", "autossh", "scp", "sftp", "rsync", "aws", "gsutil", "rclone":
			l.report(e.Line, e.in(c.words[0].at),
				fmt.Sprintf("@reboot runs once, as soon as cron starts: the network that %s needs may not be there yet", name),
				"wait for it in the command, or let a service of the system start it after the network")
			return
		}
	}
}

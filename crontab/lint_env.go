package crontab

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	variable  = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)[^}]*\}|([A-Za-z_][A-Za-z0-9_]*))`)
	backticks = regexp.MustCompile("`[^`]+`")
)

// envExpansion finds what looks as if a shell read the value. Passwords have $ in them too: except in paths, only $ in
// front of a name that is known counts.
func (l *linter) envExpansion() {
	known := []string{"HOME", "PATH", "USER", "LOGNAME", "SHELL", "PWD", "HOSTNAME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH"}
	for _, v := range l.vars {
		if v.Name == "MAILTO" || v.Name == "CRON_TZ" { // cronie expands MAILTO; a zone is looked up
			continue
		}
		path := strings.HasSuffix(v.Name, "PATH") || strings.HasSuffix(v.Name, "HOME") || v.Name == "SHELL"
		at, text := -1, ""
		found := func(i int, what string) {
			if at < 0 || i < at {
				at, text = i, what
			}
		}
		for _, m := range variable.FindAllStringSubmatchIndex(v.Value, -1) {
			name := ""
			for _, group := range []int{2, 4} {
				if m[group] >= 0 {
					name = v.Value[m[group]:m[group+1]]
				}
			}
			if path || slices.Contains(known, name) || slices.ContainsFunc(l.vars, func(o *lintVar) bool { return o.Name == name && o.line < v.line }) {
				found(m[0], v.Value[m[0]:m[1]])
				break
			}
		}
		if i := strings.Index(v.Value, "$("); i >= 0 && strings.Contains(v.Value[i:], ")") {
			found(i, "$(…)")
		}
		if m := backticks.FindStringIndex(v.Value); m != nil {
			found(m[0], v.Value[m[0]:m[1]])
		}
		if strings.HasPrefix(v.Value, "~/") || v.Value == "~" {
			found(0, "~")
		}
		if i := strings.Index(v.Value, ":~/"); i >= 0 && path {
			found(i+1, "~")
		}
		if at < 0 {
			continue
		}
		l.report(v.line, v.value.pos+at,
			fmt.Sprintf("cron expands nothing in a value: %s keeps the %s as it stands", v.Name, quote(text)),
			"write the value out, or set the variable in the command")
	}
}

// envComment finds a comment behind a value.
func (l *linter) envComment() {
	for _, v := range l.vars {
		if at := v.commentAt(); at >= 0 {
			l.report(v.line, v.value.pos+at,
				fmt.Sprintf("there are no comments behind a value: %s is %s", v.Name, quote(v.Value)),
				"put the comment on a line of its own")
		}
	}
}

// commentAt returns where in the value a comment seems to begin, or -1.
func (v *lintVar) commentAt() int {
	if v.quoted {
		return -1
	}
	if strings.HasPrefix(v.Value, "# ") && v.apart() {
		return 0
	}
	at := strings.Index(v.Value, " #")
	if tab := strings.Index(v.Value, "\t#"); tab >= 0 && (at < 0 || tab < at) {
		at = tab
	}
	if at < 0 {
		return -1
	}
	return at + 1
}

// apart reports whether blanks stand between = and the value, as people leave them in front of a comment.
func (v *lintVar) apart() bool { return v.value.pos > v.name.pos+len(v.Name)+1 }

// badMailto finds what cronie and Debian refuse as an address for fear of what a mailer would make of it.
func (l *linter) badMailto() {
	const allowed = "@!:%-.,_+"
	alphanumeric := func(c rune) bool {
		return c < utf8.RuneSelf && (isLetter(byte(c)) || c >= '0' && c <= '9')
	}
	for _, v := range l.vars {
		if v.Name != "MAILTO" || strings.Contains(v.Value, "$") || v.commentAt() >= 0 {
			continue
		}
		for i, c := range v.Value {
			if alphanumeric(c) || i > 0 && strings.ContainsRune(allowed, c) {
				continue
			}
			what := fmt.Sprintf("the %q in it", c)
			switch {
			case c == ' ' || c == '\t':
				what = "the blank in it"
			case i == 0:
				what = fmt.Sprintf("its first character, %q", c)
			}
			l.report(v.line, v.value.pos+i,
				fmt.Sprintf("cron refuses the whole MAILTO because of %s, and sends no mail", what),
				"write bare addresses or user names, with commas and no blanks between them: a@example.com,b@example.com")
			break
		}
	}
}

// noMailto finds the first entry that may print something, and nobody is named who should read it.
func (l *linter) noMailto() {
	for _, e := range l.entries {
		if _, ok := e.env("MAILTO"); ok || e.shell.silent() {
			continue
		}
		whose := "the owner's"
		if e.User != "" {
			whose = e.User + "'s"
		}
		l.report(e.Line, e.start,
			fmt.Sprintf("there is no MAILTO: what the command prints goes to %s mailbox on this machine", whose),
			`write MAILTO=somebody@example.com above the first entry, or MAILTO="" for no mail`)
		return
	}
}

var secretName = regexp.MustCompile(`(?i)(PASSWORD|PASSWD|PASSPHRASE|SSHPASS|(^|_)(PASS|PWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY))$`)

// isSecret reports whether a variable's name is that of a secret, and its value one and not a place where it lies.
func isSecret(name, value string) bool {
	return name != "PWD" && name != "OLDPWD" && secretName.MatchString(name) && value != "" &&
		!strings.ContainsAny(value[:1], "/~$`.") && !strings.HasPrefix(value, "file:")
}

func (l *linter) secretVars() {
	for _, v := range l.vars {
		if !isSecret(v.Name, v.Value) {
			continue
		}
		mailed := func(e *lintEntry) bool {
			to, set := e.env("MAILTO")
			return l.holds(v, e) && (!set || to != "")
		}
		if slices.ContainsFunc(l.entries, mailed) {
			l.report(v.line, v.name.pos,
				fmt.Sprintf("%s looks like a secret, and cron writes every variable into the header of each mail", v.Name),
				"keep it in a file that only the job's user can read, and read it in the command")
		}
	}
}

var urlPassword = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@'"$]*:([^\s/@'"$]+)@`)

// secretCommand finds a password among the words of a command.
func (l *linter) secretCommand(e *lintEntry) {
	report := func(at int, what string) {
		l.report(e.Line, e.in(at),
			fmt.Sprintf("%s stands in the command, which ps shows to everybody, and mails and logs repeat", what),
			"keep it in a file that only the job's user can read, and let the program read it from there")
	}
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		for _, w := range c.assigns {
			if name, value, _ := strings.Cut(w.raw, "="); isSecret(name, strings.Trim(value, `'"`)) {
				report(w.at, "the value of "+name)
				return
			}
		}
		for _, w := range c.words {
			name, value, ok := strings.Cut(w.text, "=")
			option := strings.ReplaceAll(strings.TrimLeft(name, "-"), "-", "_")
			mysql := strings.HasPrefix(c.name(), "mysql") && len(w.text) > 2 && strings.HasPrefix(w.text, "-p") && w.plain
			switch {
			case ok && strings.HasPrefix(name, "--") && isSecret(option, value):
				report(w.at, "the value of "+name)
			case mysql:
				report(w.at, "the password behind -p")
			case urlPassword.MatchString(w.raw):
				report(w.at+urlPassword.FindStringSubmatchIndex(w.raw)[2], "the password of an address")
			default:
				continue
			}
			return
		}
	}
}

func (l *linter) oddName() {
	for _, v := range l.vars {
		if shellIdentifier(v.Name) {
			continue
		}
		l.report(v.line, v.name.pos,
			fmt.Sprintf("the line is an assignment, to the name %s, which no shell can read", quote(v.Name)),
			"if it is to run something, the = does not belong there; a name has letters, digits and _")
	}
}

func (l *linter) misspelledName() {
	for _, v := range l.vars {
		meant := ""
		switch up := strings.ToUpper(strings.ReplaceAll(v.Name, "-", "_")); up {
		case "MAILTO", "MAILFROM", "PATH", "SHELL", "HOME", "CRON_TZ":
			meant = up
		case "MAIL_TO", "MAILTOS", "EMAILTO":
			meant = "MAILTO"
		case "MAIL_FROM":
			meant = "MAILFROM"
		case "CRONTZ", "CRON_TIMEZONE", "TIMEZONE", "TIME_ZONE", "CRON_ZONE":
			meant = "CRON_TZ"
		}
		if meant == "" || meant == v.Name {
			continue
		}
		l.report(v.line, v.name.pos,
			fmt.Sprintf("%s means nothing to cron, which knows %s", v.Name, meant),
			"write "+meant+" if that is meant")
	}
}

func (l *linter) fixedName() {
	for _, v := range l.vars {
		who, but := "cron", ""
		switch {
		case v.Name == "USER" && !l.o.Debian: // to Debian's it is a variable like others
			who, but = "cronie", "; Debian's cron does not"
		case v.Name != "LOGNAME":
			continue
		}
		l.report(v.line, v.name.pos,
			fmt.Sprintf("%s sets %s to the user that the command runs as, whatever stands here%s", who, v.Name, but),
			"remove the line; give the value another name if the command needs it")
	}
}

// deadAssignment finds assignments below all the entries, and those that another replaces before an entry comes.
func (l *linter) deadAssignment() {
	below := map[string]int{}
	used := false           // something that runs stands below
	next := len(l.vars) - 1 // the assignment that comes next when going up
	runs := len(l.entries) > 0
	for number := len(l.lines); number >= 1; number-- {
		switch l.lines[number-1].kind {
		case entryLine, badLine:
			used = true
			clear(below)
		case assignmentLine:
			v := l.vars[next]
			next--
			if line, again := below[v.Name]; again {
				l.report(number, v.name.pos,
					fmt.Sprintf("the value holds for no entry: line %d gives %s another before one comes", line, v.Name),
					"remove one of the two lines")
			} else if !used && runs {
				l.report(number, v.name.pos,
					fmt.Sprintf("%s is set below all the entries, and an assignment holds only for what stands below it", v.Name),
					"move it above the entries that it is for")
			}
			below[v.Name] = number
		}
	}
}

// noLocale finds the first entry that sorts, in a file that says nothing of the language.
func (l *linter) noLocale() {
	for _, e := range l.entries {
		if slices.ContainsFunc(e.Env, func(v Var) bool { return v.Name == "LANG" || v.Name == "LC_ALL" || v.Name == "LC_COLLATE" }) {
			continue
		}
		for i := range e.shell.commands {
			c := &e.shell.commands[i]
			name := c.name()
			if name != "sort" && name != "comm" && name != "join" ||
				slices.ContainsFunc(c.assigns, func(w shellWord) bool { return strings.HasPrefix(w.raw, "LC_") || strings.HasPrefix(w.raw, "LANG") }) {
				continue
			}
			l.report(e.Line, e.in(c.words[0].at),
				fmt.Sprintf("neither LANG nor LC_ALL is set, so %s may order text by its bytes here and by a language's rules in a terminal", name),
				"write LC_ALL=C.UTF-8 or the like above the entry")
			return
		}
	}
}

package crontab

import "strings"

// entry reads a line that runs something: schedule, user, options, command.
func (r *lineReader) entry(o Options) (Entry, *Error) {
	e := Entry{Line: r.number}
	start := r.pos
	if r.line[r.pos] == '-' {
		if strings.HasPrefix(r.rest(), "--") {
			return Entry{}, r.notAnEntry(start, nil)
		}
		if !o.System && !o.Root {
			return Entry{}, r.errorAt(r.pos, "-", "%q in front of the schedule (run without logging) is for root's crontab and system files only", "-").because("bad option")
		}
		e.NoLog = true
		r.pos++
	}
	var err *Error
	if e.Schedule, err = r.schedule(); err != nil {
		return Entry{}, r.notAnEntry(start, err)
	}
	r.skipBlanks()
	if o.System {
		at := r.pos
		e.User = r.word()
		switch {
		case e.User == "":
			return Entry{}, r.errorAt(at, "", "the user and the command are missing after %q", e.Schedule.text).because("bad username")
		case e.User[0] == '*':
			return Entry{}, r.sixth(at, "a user").because("bad username")
		}
		r.skipBlanks()
	}
	at := r.pos
	if strings.HasPrefix(r.rest(), "-") {
		if option := r.word(); option != "-n" {
			return Entry{}, r.errorAt(at, option, "%q is not an option: there is only -n (mail when the command fails), and a command does not begin with -", option).because("bad option")
		}
		e.MailOnFailure = true
		r.skipBlanks()
		if again := r.pos; strings.HasPrefix(r.rest(), "-") {
			option := r.word()
			return Entry{}, r.errorAt(again, option, "%q after -n: there are no other options, and a command does not begin with -", option).because("bad option")
		}
	}
	switch {
	case r.rest() == "" && o.System:
		return Entry{}, r.errorAt(r.pos, "", "the command is missing: in a system crontab the user comes before it, and %q was taken for the user", e.User).because("bad command")
	case r.rest() == "":
		return Entry{}, r.errorAt(r.pos, "", "the command is missing after %q", strings.TrimRight(r.line[start:], " \t")).because("bad command")
	case r.line[r.pos] == '*':
		return Entry{}, r.sixth(r.pos, "a command").because("bad command")
	}
	e.Command, e.Stdin = splitInput(r.rest(), o.Debian)
	return e, nil
}

// sixth is the error for what follows five fields and begins with a star.
func (r *lineReader) sixth(at int, what string) *Error {
	r.pos = at
	text := r.word()
	return r.errorAt(at, text, "%q cannot begin %s: a schedule has five fields (others count seconds in front of them or years behind them; cron does not)", text, what)
}

// notAnEntry makes the error for a schedule that cannot be read more useful where the line looks like something else.
func (r *lineReader) notAnEntry(start int, err *Error) *Error {
	line := strings.TrimRight(r.line[start:], " \t")
	better := func(text, format string, args ...any) *Error {
		reason := minuteField.bad
		if err != nil {
			reason = err.Reason
		}
		return r.errorAt(start, text, format, args...).because(reason)
	}
	switch first := blankWords(line)[0]; {
	case strings.HasPrefix(line, "//"), strings.HasPrefix(line, "--"), strings.HasPrefix(line, ";"):
		return better(first, "%q does not begin a comment: \"#\" does", first)
	case !strings.Contains(line, "="), strings.HasPrefix(line, "@"), first[0] >= '0' && first[0] <= '9', first[0] == '*':
	case strings.HasPrefix(line, "export "), strings.HasPrefix(line, "set "):
		_, assigned, _ := strings.Cut(line, " ")
		return better(first, "%q is the shell's; write %q", first, strings.TrimLeft(assigned, " \t"))
	case strings.ContainsAny(line, `'"`):
		return better(line, "%q is neither an entry nor an assignment: a quote is not closed, or something follows it", line)
	case !strings.ContainsAny(first, "*,/-~") && err.Column == 1:
		return better(line, "%q is neither an entry nor an assignment: before = there is one name, quoted if it has blanks", line)
	}
	return err
}

// splitInput takes apart what cron runs and what it writes to its standard input: the text up to the first %, and the
// text after it, in which % is a newline. A backslash makes % an ordinary character and is otherwise left alone.
//
// In the command, \\% is a backslash that was escaped, and then a %; in the input it is a backslash and an escaped %.
// That is how cronie reads the two. To Debian's cron a backslash in the command that was escaped is one backslash.
//
// Nearly always there is neither, and the command stays a part of the file's text.
func splitInput(text string, debian bool) (command, stdin string) {
	if !strings.ContainsAny(text, `%\`) {
		return text, ""
	}
	var b strings.Builder
	escaped, split := false, -1
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case escaped && (c == '%' || debian && c == '\\'):
			b.WriteByte(c)
			escaped = false
		case escaped:
			b.WriteByte('\\')
			b.WriteByte(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == '%':
			split = i + 1
		default:
			b.WriteByte(c)
		}
		if split >= 0 {
			break
		}
	}
	if escaped {
		b.WriteByte('\\')
	}
	command = b.String()
	if split < 0 || split == len(text) {
		return command, ""
	}

	b.Reset()
	escaped = false
	for i := split; i < len(text); i++ {
		c := text[i]
		switch {
		case escaped && c != '%':
			b.WriteByte('\\')
		case !escaped && c == '%':
			c = '\n'
		}
		escaped = c == '\\'
		if !escaped {
			b.WriteByte(c)
		}
	}
	if escaped {
		b.WriteByte('\\')
	}
	stdin = b.String()
	if !strings.HasSuffix(stdin, "\n") {
		stdin += "\n"
	}
	return command, stdin
}

package crontab

import (
	"errors"
	"strings"
)

// What the rules look at: the lines of the file, and in them the entries and assignments with their places, which Parse
// does not keep.

type lineKind uint8

const (
	blankLine lineKind = iota
	commentLine
	entryLine
	assignmentLine
	badLine
)

type lintLine struct {
	text    string // without its newline and carriage return
	kind    lineKind
	crlf    bool
	ignores []string // rules that are silent for this line
}

// placed is a piece of a line, and the byte that it begins at.
type placed struct {
	text string
	pos  int
}

type lintEntry struct {
	*Entry
	start   int       // where the entry begins
	when    placed    // the five fields, or the nickname
	fields  [5]placed // empty for a nickname
	user    placed    // empty in a user's crontab
	command placed    // to the end of the line, as it stands there
	shell   script    // of Command
}

type lintVar struct {
	Var
	line        int
	name, value placed // without their quotes
	quoted      bool   // the value
}

func (l *linter) read(src []byte) {
	file, err := Parse(l.name, src, l.o.Options)
	errors.As(err, &l.errs)
	entries := make(map[int]*Entry, len(file.Entries))
	for i := range file.Entries {
		entries[file.Entries[i].Line] = &file.Entries[i]
	}

	text, bom := strings.CutPrefix(string(src), "\ufeff")
	l.bom = bom
	for number := 1; text != "" || number == 1; number++ {
		line, rest, ended := strings.Cut(text, "\n")
		text = rest
		line, crlf := strings.CutSuffix(line, "\r")
		l.lines = append(l.lines, lintLine{text: line, crlf: crlf, kind: l.line(line, number, ended, entries[number])})
	}
	l.readIgnores()
}

// line sorts one line in.
func (l *linter) line(line string, number int, ended bool, e *Entry) lineKind {
	r := &lineReader{line: line, number: number}
	r.skipBlanks()
	switch {
	case r.rest() == "":
		return blankLine
	case r.rest()[0] == '#':
		return commentLine
	case e != nil:
		l.entries = append(l.entries, r.lintEntry(e))
		return entryLine
	case (&fileParser{}).unreadable(r, ended) != nil:
		return badLine
	}
	v, ok := assignment(r.rest())
	if !ok {
		return badLine
	}
	l.vars = append(l.vars, r.lintVar(v))
	return assignmentLine
}

// lintEntry finds the places of an entry that has been read without error.
func (r *lineReader) lintEntry(e *Entry) *lintEntry {
	le := &lintEntry{Entry: e, start: r.pos}
	next := func() placed {
		r.skipBlanks()
		at := r.pos
		return placed{r.word(), at}
	}
	if e.NoLog {
		r.pos++
	}
	if strings.HasPrefix(e.Schedule.text, "@") {
		le.when = next()
	} else {
		for i := range le.fields {
			le.fields[i] = next()
		}
		le.when = placed{e.Schedule.text, le.fields[0].pos}
	}
	if e.User != "" {
		le.user = next()
	}
	if e.MailOnFailure {
		next()
	}
	r.skipBlanks()
	le.command = placed{r.rest(), r.pos}
	if shellLike(le.shellName()) {
		le.shell = readScript(e.Command)
	}
	return le
}

// in returns the byte of the line at which the nth byte of Command stands: there, a \% is two.
func (e *lintEntry) in(n int) int {
	i := 0
	for ; n > 0 && i < len(e.command.text); n-- {
		if e.command.text[i] == '\\' && i+1 < len(e.command.text) {
			if e.command.text[i+1] != '%' {
				n--
			}
			i++
			if n == 0 {
				break
			}
		}
		i++
	}
	return e.command.pos + i
}

// env returns the value that a variable has for the entry.
func (e *lintEntry) env(name string) (string, bool) {
	for _, v := range e.Env {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}

// lintVar finds the places of an assignment that has been read.
func (r *lineReader) lintVar(v Var) *lintVar {
	lv := &lintVar{Var: v, line: r.number}
	at := r.pos
	if c := r.line[at]; c == '"' || c == '\'' {
		at++
	}
	lv.name = placed{v.Name, at}
	at += len(v.Name)
	at += strings.IndexByte(r.line[at:], '=') + 1
	for at < len(r.line) && strings.IndexByte(" \t\v\f\r", r.line[at]) >= 0 {
		at++
	}
	if at < len(r.line) && (r.line[at] == '"' || r.line[at] == '\'') {
		lv.quoted = true
		at++
	}
	lv.value = placed{v.Value, at}
	return lv
}

// holds reports whether the entry got its value of the variable from v.
func (l *linter) holds(v *lintVar, e *lintEntry) bool {
	var last *lintVar
	for _, other := range l.vars {
		if other.line < e.Line && other.Name == v.Name {
			last = other
		}
	}
	return last == v
}

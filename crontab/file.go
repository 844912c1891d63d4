package crontab

import (
	"cmp"
	"strings"
	"unicode/utf8"
)

// Options says how a crontab is to be read.
type Options struct {
	System bool   // each entry has a user column, as in /etc/crontab and /etc/cron.d
	Debian bool   // it means what Debian's cron makes of it where that is not cronie's: CRON_TZ is an ordinary variable, \\ in a command is one backslash
	Root   bool   // the crontab is root's own, in which a leading - is allowed; System implies it
	Seed   string // what ~ is drawn from, beside the line itself: the host and the file
}

// maxLine is cronie's limit for a command or an assignment; what is longer it cuts off without a word.
const maxLine = 131071

// maxAssignments is cronie's limit for the assignments of a user's crontab.
const maxAssignments = 1000

// File is a crontab that was read.
type File struct {
	Name    string
	Entries []Entry
}

// Entry is one line that runs something.
type Entry struct {
	Line          int // counted from 1
	Schedule      Schedule
	User          string   // system form only
	Command       string   // up to the first unescaped %, with \% made %
	Stdin         string   // what follows the first %: further % are newlines, and it ends with one; empty: an empty pipe
	Env           []Var    // the assignments above the entry, a later one in the place of the earlier
	Zone          string   // the CRON_TZ in force, empty for none; it is for the caller to load it
	Options       []Option // from the #belfry: lines directly above
	NoLog         bool     // a leading -: do not log that it ran
	MailOnFailure bool     // -n: mail the output only when the command fails
}

// Var is one assignment of the environment.
type Var struct{ Name, Value string }

// Option is one key=value of a #belfry: comment line.
type Option struct {
	Key, Value   string
	Line, Column int // where the key stands
}

// Parse reads a crontab. The File is returned also when there are errors, with all the entries that are good; the error
// is [Errors], one for each line that is bad.
//
// name is used in errors only. The last line must end in a newline, as cron wants it. Two things are forgiven that cron
// takes amiss, because nothing can be meant by them: the carriage return of a Windows line ending, and a byte order mark
// in front of the file.
func Parse(name string, src []byte, o Options) (*File, error) {
	p := &fileParser{file: &File{Name: name}, options: o}
	text := strings.TrimPrefix(string(src), "\ufeff")
	for number := 1; text != ""; number++ {
		line, rest, ended := strings.Cut(text, "\n")
		p.line(strings.TrimSuffix(line, "\r"), number, ended)
		text = rest
	}
	if len(p.errs) > 0 {
		return p.file, p.errs
	}
	return p.file, nil
}

// fileParser carries what the lines above mean for the lines below.
type fileParser struct {
	options     Options
	file        *File
	env         []Var
	assignments int           // how many there were
	zone        string        // the CRON_TZ in force
	comments    []*lineReader // the #belfry: lines directly above
	errs        Errors
}

func (p *fileParser) line(text string, number int, ended bool) {
	r := &lineReader{file: p.file.Name, line: text, number: number, seed: p.options.Seed}
	r.skipBlanks()
	if r.pos == len(r.line) {
		p.comments = nil
		return
	}
	if text[r.pos] == '#' {
		if strings.HasPrefix(r.rest(), optionsMark) {
			p.comments = append(p.comments, r)
		} else if !isIgnore(r.line) { // which is for Lint, and may stand between
			p.comments = nil
		}
		return
	}
	comments := p.comments
	p.comments = nil

	if err := p.unreadable(r, ended); err != nil {
		p.errs = append(p.errs, err)
		return
	}
	if v, ok := assignment(r.rest()); ok {
		// A zone that is no zone is kept nevertheless: the entries below must not run in another one.
		zoned := v.Name == "CRON_TZ" && !p.options.Debian
		if err := zoneValue(r, v); zoned && err != nil {
			p.errs = append(p.errs, err)
		}
		if p.assignments++; p.assignments > maxAssignments {
			p.errs = append(p.errs, r.errorAt(r.pos, v.Name, "this is one assignment too many: cron takes %d from a crontab", maxAssignments))
			return
		}
		p.env = assign(p.env, v)
		if zoned {
			p.zone = cmp.Or(v.Value, "UTC") // what an empty TZ is to the C library
		}
		return
	}
	e, err := r.entry(p.options)
	if err != nil {
		p.errs = append(p.errs, err)
		return
	}
	for _, c := range comments {
		options, err := c.options()
		if err != nil {
			p.errs = append(p.errs, err)
		}
		e.Options = append(e.Options, options...)
	}
	e.Env, e.Zone = p.env, p.zone
	p.file.Entries = append(p.file.Entries, e)
}

// unreadable returns what is wrong with a line before it is looked into.
func (p *fileParser) unreadable(r *lineReader, ended bool) *Error {
	if i := strings.IndexByte(r.line, 0); i >= 0 {
		return r.errorAt(i, "\x00", "a NUL byte stands in the line, and cron would drop all that follows it").because("bad command")
	}
	if utf8.RuneCountInString(r.line) > maxLine {
		return r.errorAt(0, "", "the line is longer than %d characters, and cron would cut it off there", maxLine).because("command too long")
	}
	if !ended {
		return r.errorAt(len(r.line), "", "the last line does not end in a newline, and cron ignores such a line; add one").because("premature EOF")
	}
	return nil
}

// zoneValue refuses a CRON_TZ that cannot be the name of a zone. Whether there is such a zone is for the caller to say.
func zoneValue(r *lineReader, v Var) *Error {
	if !strings.ContainsAny(v.Value, " \t") {
		return nil
	}
	zone := strings.Fields(v.Value)[0]
	return r.errorAt(r.pos, v.Value, "%q is not a time zone; put CRON_TZ=%s on a line of its own, it then holds for the entries below", v.Value, zone)
}

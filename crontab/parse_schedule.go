package crontab

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseSchedule reads five fields or an @nickname, and nothing after them. The error is an [*Error].
//
// What ~ stands for is drawn from expr itself; a crontab read with [Parse] draws from its lines and [Options].Seed.
func ParseSchedule(expr string) (Schedule, error) {
	r := &lineReader{line: expr, number: 1}
	r.skipBlanks()
	start := r.pos
	s, err := r.schedule()
	if err == nil {
		if r.skipBlanks(); r.pos == len(r.line) {
			return s, nil
		}
		rest := strings.TrimRight(r.rest(), " \t")
		err = r.errorAt(r.pos, rest, "%q is too much: %q is a whole schedule", rest, s.text)
	}
	r.pos = start
	if foreign := r.foreignShape(); foreign != nil {
		err = foreign
	}
	return Schedule{}, err
}

// MustParseSchedule is ParseSchedule for expressions that stand in a program; it panics when there is an error.
func MustParseSchedule(expr string) Schedule {
	s, err := ParseSchedule(expr)
	if err != nil {
		panic(fmt.Sprintf("crontab: schedule %q: %v", expr, err))
	}
	return s
}

// lineReader reads one line from left to right.
type lineReader struct {
	file   string
	line   string
	number int
	seed   string
	pos    int // a byte position in line
	draws  int // how many ~ were drawn so far
}

func (r *lineReader) rest() string { return r.line[r.pos:] }

// Only space and tab separate fields. A no-break space, pasted from a web page, is part of a field.
func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func (r *lineReader) skipBlanks() {
	for r.pos < len(r.line) && isBlank(r.line[r.pos]) {
		r.pos++
	}
}

// word reads up to the next blank.
func (r *lineReader) word() string {
	start := r.pos
	for r.pos < len(r.line) && !isBlank(r.line[r.pos]) {
		r.pos++
	}
	return r.line[start:r.pos]
}

// blankWords splits at cron's blanks and at nothing else; strings.Fields knows many more.
func blankWords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
}

func (r *lineReader) errorAt(pos int, text, format string, args ...any) *Error {
	return &Error{
		File:    r.file,
		Line:    r.number,
		Column:  utf8.RuneCountInString(r.line[:pos]) + 1,
		Text:    text,
		Message: fmt.Sprintf(format, args...),
	}
}

// schedule reads the schedule that stands at r.pos, and leaves r.pos behind it.
func (r *lineReader) schedule() (Schedule, *Error) {
	start := r.pos
	if strings.HasPrefix(r.rest(), "@") {
		name := r.word()
		s, ok := nicknames[name]
		if !ok {
			return Schedule{}, r.errorAt(start, name, "%s", r.foreignNickname(name, start)).because("bad time specifier")
		}
		return s, nil
	}
	var s Schedule
	for i := range fields {
		f := &fields[i]
		r.skipBlanks()
		if r.pos == len(r.line) {
			return Schedule{}, r.missing(i).because(f.bad)
		}
		at := r.pos
		text := r.word()
		v, err := r.field(f, text, at)
		if err != nil {
			return Schedule{}, err.because(f.bad)
		}
		if text[0] == '*' {
			s.flags |= f.star
		}
		s.setField(f, v)
	}
	if r.draws > 0 {
		s.flags |= drawn
	}
	s.text = r.line[start:r.pos]
	return s, nil
}

// missing is the error for a line that ends before the ith field.
func (r *lineReader) missing(i int) *Error {
	var names []string
	for _, f := range fields[i:] {
		names = append(names, f.name)
	}
	verb := "is"
	if len(names) > 1 {
		verb = "are"
	}
	return r.errorAt(r.pos, "", "the %s %s missing: a schedule has five fields (minute, hour, day of the month, month, day of the week) or is an @nickname",
		words(names), verb)
}

// field reads one field, whose text stands at pos.
func (r *lineReader) field(f *field, text string, pos int) (set, *Error) {
	var v set
	for at := 0; ; at++ { // over the comma
		part := text[at:]
		if comma := strings.IndexByte(part, ','); comma >= 0 {
			part = part[:comma]
		}
		p, err := r.part(f, part, pos+at)
		if err != nil {
			if part == "" {
				err.Text = text
				err.Message = fmt.Sprintf("%q has an empty place in its list: a comma stands between two values", text)
			}
			return 0, err
		}
		v |= p
		if at += len(part); at == len(text) {
			return v, nil
		}
	}
}

// part reads what stands between two commas: "*", "*/n", "a", "a-b", "a-b/n", "a~b", "a~", "~b" or "~".
func (r *lineReader) part(f *field, part string, pos int) (set, *Error) {
	if part == "*" {
		return f.full(), nil
	}
	if n, ok := number(part); ok && n >= f.low && n <= f.high {
		return 1 << uint(n), nil
	}
	bad := func(text, format string, args ...any) (set, *Error) {
		if message := foreign(f, part); message != "" {
			return 0, r.errorAt(pos, part, "%s", message)
		}
		return 0, r.errorAt(pos+max(0, strings.Index(part, text)), text, format, args...)
	}
	value := func(text string) (int, *Error) {
		n, ok := f.value(text)
		if ok {
			return n, nil
		}
		hint := ""
		switch {
		case text == "":
			_, err := bad(part, "%q is half a range: a value belongs on both sides of -", part)
			return 0, err
		case strings.ContainsAny(text, ";:"):
			hint = "; the values of a list are separated by commas"
		case f != minuteField && strings.Contains("[({$", text[:1]) || len(text) > 2 && isLetter(text[0]):
			hint = "; is a field missing in front of the command?"
		}
		_, err := bad(text, "%q is not %s (%s)%s", text, f.one, f.bounds(), hint)
		return 0, err
	}
	if f != minuteField && (strings.HasPrefix(part, "/") || strings.HasPrefix(part, ".")) { // a path, not a step
		return bad(part, "%q is not %s (%s); is a field missing in front of the command?", part, f.one, f.bounds())
	}
	body, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		n, ok := number(stepText)
		if !ok || n == 0 {
			return bad(part, "%q is not a step of %s: after / comes a whole number from 1, as in %q", part, f.one, body+"/2")
		}
		step = n
	}

	if strings.Contains(body, "~") {
		low, high := f.low, f.high
		from, to, _ := strings.Cut(body, "~")
		if strings.Contains(to, "~") || stepped {
			return bad(part, "%q is not a random %s: write %q or a range like %q, with no step", part, f.name, "~", fmt.Sprintf("%d~%d", f.low, f.high))
		}
		var err *Error
		if from != "" {
			if low, err = value(from); err != nil {
				return 0, err
			}
		}
		if to != "" {
			if high, err = value(to); err != nil {
				return 0, err
			}
		}
		if high < low || low < f.low || high > f.high {
			return bad(part, "%q draws from nothing: the first number is larger than the second", part)
		}
		return 1 << uint(low+r.draw(high-low+1)), nil
	}

	if body == "*" {
		return span(f.low, f.high, step), nil
	}
	from, to, ranged := strings.Cut(body, "-")
	low, err := value(from)
	if err != nil {
		return 0, err
	}
	if !ranged {
		if stepped {
			return bad(part, "%q has a step but no range", part)
		}
		if low < f.low || low > f.high {
			return bad(from, "%q is not %s (%s)", from, f.one, f.bounds())
		}
		return 1 << uint(low), nil
	}
	high, err := value(to)
	if err != nil {
		return 0, err
	}
	if f == dowField && high == 0 && low > 0 {
		high = 7 // fri-sun. cronie does so in every field and only where there is no step
	}
	if low < f.low || low > f.high {
		return bad(from, "%q is not %s (%s)", from, f.one, f.bounds())
	}
	if high < low {
		return bad(part, "%q runs backwards and would never match%s", part, f.turned(from, to, low, high, step))
	}
	// cronie looks only at the values that it selects: 5-64/30 is 5 and 35.
	if last := low + (high-low)/step*step; last > f.high {
		return bad(to, "%q is not %s (%s)", to, f.one, f.bounds())
	}
	return span(low, min(high, f.high), step), nil
}

// value reads a number or a name; whether it lies within the field is for the caller to judge.
func (f *field) value(text string) (int, bool) {
	if n, ok := number(text); ok {
		return n, true
	}
	return f.nameIndex(text)
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// number reads decimal digits, zeros in front included. Nine of them are enough for everything: where cronie lets an
// int overflow and reads 4294967301 as 5, there is an error.
func number(text string) (n int, ok bool) {
	for _, c := range []byte(text) {
		digit := c - '0'
		if digit > 9 || n >= 1e8 {
			return 0, false
		}
		n = n*10 + int(digit)
	}
	return n, text != ""
}

// turned says how to write a range that runs past the end of its field: 22-4 is 22-23,0-4.
func (f *field) turned(from, to string, low, high, step int) string {
	if low > f.high || high < f.low {
		return ""
	}
	if step > 1 {
		size := f.full().len()
		var values []string
		for n := low; n <= high+size; n += step {
			values = append(values, strconv.Itoa(f.low+(n-f.low)%size))
		}
		if len(values) > 12 {
			return ""
		}
		return fmt.Sprintf("; write %q", strings.Join(values, ","))
	}
	end, begin := strconv.Itoa(f.high), strconv.Itoa(f.low)
	if strings.Trim(from+to, "0123456789") != "" { // names are answered with names
		end, begin = f.names[len(f.names)-1], f.names[0]
	}
	if f == dowField { // the week turns at Sunday, which has a number at both its ends
		if end != "7" {
			end = "sun"
		}
		begin = f.names[1]
		if end == "7" {
			begin = "1"
		}
		if low == 7 {
			return fmt.Sprintf("; write %q", "0-"+to)
		}
	}
	first, second := from+"-"+end, begin+"-"+to
	if low == f.high || strings.EqualFold(from, end) {
		first = from
	}
	if high == f.low || strings.EqualFold(begin, to) {
		second = to
	}
	return fmt.Sprintf("; write %q", first+","+second)
}

// draw picks one of n, the same one for the same seed, line and place in the line. cronie draws anew each time that it
// reads a file, so that an edit elsewhere in it can make a job run twice in a day, or not at all.
func (r *lineReader) draw(n int) int {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", r.seed, strings.Trim(r.line, " \t"), r.draws)
	r.draws++
	x := h.Sum64()
	x ^= x >> 33 // FNV's last bits depend on the last byte alone; mix them before taking the remainder
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return int(x % uint64(n))
}

// words joins names as a sentence does: "a, b and c".
func words(names []string) string { return joined(names, "and") }

func joined(names []string, last string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " " + last + " " + names[len(names)-1]
}

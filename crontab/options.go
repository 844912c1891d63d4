package crontab

import "strings"

// optionsMark begins a comment line that gives options to the entry directly below it. To cron it is a comment.
const optionsMark = "#belfry:"

// options reads such a line: key=value, separated by blanks, the value in quotes where it has blanks itself. Which keys
// there are is not for this package to know. What was read up to an error is returned with it.
func (r *lineReader) options() ([]Option, *Error) {
	r.pos += len(optionsMark)
	var options []Option
	for {
		r.skipBlanks()
		if r.pos == len(r.line) {
			return options, nil
		}
		start := r.pos
		key, rest, ok := strings.Cut(r.rest(), "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t'\"") {
			word := r.word()
			return options, r.errorAt(start, word, "%q is not an option: write key=value, with no blanks around =", word)
		}
		r.pos += len(key) + 1
		value := ""
		if rest != "" && (rest[0] == '\'' || rest[0] == '"') {
			end := strings.IndexByte(rest[1:], rest[0]) + 1
			if end == 0 {
				return options, r.errorAt(r.pos, rest, "the quote of %s is not closed", key)
			}
			value = rest[1:end]
			r.pos += end + 1
			if after := r.rest(); after != "" && after[0] != ' ' && after[0] != '\t' {
				return options, r.errorAt(r.pos, after, "%q stands after the closing quote of %s: a blank belongs there", after, key)
			}
		} else {
			value = r.word()
		}
		option := Option{Key: key, Value: value, Line: r.number}
		option.Column = r.errorAt(start, "", "").Column
		options = append(options, option)
	}
}

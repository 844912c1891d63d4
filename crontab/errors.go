package crontab

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a crontab, and where it stands.
type Error struct {
	File    string // the name given to Parse; empty for a bare expression
	Line    int    // counted from 1
	Column  int    // counted from 1, in characters, not in bytes
	Text    string // the offending text
	Message string // what is wrong, in a sentence that quotes the text and says what would be right
	Reason  string // what cron calls it: "bad minute" and the like; empty for what cron does not mind
}

// Error says where and what: `ops:7:3: "25" is not an hour (0–23)`; for a bare expression `column 3: …`.
func (e *Error) Error() string {
	if e.File == "" {
		return fmt.Sprintf("column %d: %s", e.Column, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// because gives an error cron's name for it.
func (e *Error) because(reason string) *Error {
	e.Reason = reason
	return e
}

// Errors is everything that is wrong with a crontab, in the order of its lines.
type Errors []*Error

// Error gives each error a line of its own.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at each error.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

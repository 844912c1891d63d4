package crontab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Finding is one thing in a crontab that its reader would not expect, or that cron does not accept.
type Finding struct {
	File    string // the name given to Lint
	Line    int    // counted from 1
	Column  int    // counted from 1, in characters, not in bytes
	Rule    string // the name of one of [Rules]
	Message string // what is the matter and why, in a sentence
	Fix     string // what to do about it, in a sentence; empty where the message of a syntax error says it already
}

// String says where, which rule and why: `ops:7:1: uneven-step: …`.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Rule, f.Message)
}

// LintOptions says how a crontab is read and what is known about the machine that it is for. The package looks at no
// machine: a rule that needs something which is not given here is silent.
type LintOptions struct {
	Options

	Zone *time.Location // in which entries without CRON_TZ are read
	Now  time.Time      // changes of the clocks are looked for in the year after it

	// LoadZone finds the zone of a CRON_TZ. An error means that there is none of that name.
	LoadZone func(name string) (*time.Location, error)
	// LookPath looks for a program as a shell does: one without a slash in the directories of path, which is PATH's value,
	// any other at its place, and path is empty.
	LookPath func(program, path string) (found, executable bool)
	// UserExists reports whether the machine has a user of that name.
	UserExists func(name string) bool
	// Duration is how long a run of the entry is expected to take; 0 when that is not known.
	Duration func(Entry) time.Duration

	Portable bool // also say what other crons than cronie and Belfry read differently: the rules with Portable set
}

// Rule is one kind of finding.
type Rule struct {
	Name     string // in kebab case; what an ignore comment names
	Summary  string
	Portable bool // looked at only with [LintOptions].Portable

	file  func(*linter)
	entry func(*linter, *lintEntry)
}

// Rules returns all the rules, in the order of docs/lint.md.
func Rules() []Rule { return slices.Clone(rules) }

var rules = []Rule{
	{Name: "syntax", Summary: "a line that cannot be read", file: (*linter).syntax},

	// When it runs.
	{Name: "or-days", Summary: "two day fields of which either is enough", entry: (*linter).orDays},
	{Name: "and-days", Summary: "two day fields that must both hold, because one begins with *", entry: (*linter).andDays},
	{Name: "uneven-step", Summary: "a step that does not divide its cycle", entry: (*linter).unevenStep},
	{Name: "large-step", Summary: "a step so large that one value is left", entry: (*linter).largeStep},
	{Name: "every-minute", Summary: "* minutes of hours or days that were picked one by one", entry: (*linter).everyMinute},
	{Name: "never", Summary: "dates that do not exist", entry: (*linter).neverFires},
	{Name: "short-month", Summary: "a day that some of the months do not have", entry: (*linter).shortMonth},
	{Name: "dst-skipped", Summary: "a time that the clocks skip within a year", entry: (*linter).dstSkipped},
	{Name: "dst-repeated", Summary: "a time that the clocks repeat within a year", entry: (*linter).dstRepeated},

	// In which zone.
	{Name: "no-zone", Summary: "times of day, and no CRON_TZ that says where", file: (*linter).noZone},
	{Name: "late-zone", Summary: "CRON_TZ below some of the entries", file: (*linter).lateZone},
	{Name: "tz-only", Summary: "TZ, which does not move the schedule", file: (*linter).tzOnly},
	{Name: "unknown-zone", Summary: "CRON_TZ that names no time zone", file: (*linter).unknownZone},

	// In which environment.
	{Name: "env-expansion", Summary: "$, ` or ~ in a value, which nobody expands", file: (*linter).envExpansion},
	{Name: "env-comment", Summary: "a comment behind a value, which is part of it", file: (*linter).envComment},
	{Name: "bad-mailto", Summary: "MAILTO that cron refuses", file: (*linter).badMailto},
	{Name: "no-mailto", Summary: "output, and no MAILTO", file: (*linter).noMailto},
	{Name: "secret", Summary: "a password or token in the file", file: (*linter).secretVars, entry: (*linter).secretCommand},
	{Name: "odd-name", Summary: "an assignment to a name that no shell can read", file: (*linter).oddName},
	{Name: "misspelled-name", Summary: "nearly one of cron's own variables", file: (*linter).misspelledName},
	{Name: "fixed-name", Summary: "a variable that cron sets itself", file: (*linter).fixedName},
	{Name: "dead-assignment", Summary: "an assignment that holds for no entry", file: (*linter).deadAssignment},
	{Name: "no-locale", Summary: "sorting without LANG or LC_ALL", file: (*linter).noLocale},

	// What runs.
	{Name: "unescaped-percent", Summary: "% that cuts the command off", entry: (*linter).unescapedPercent},
	{Name: "bashism", Summary: "bash's syntax given to sh", entry: (*linter).bashism},
	{Name: "relative-path", Summary: "a path that depends on the directory", file: (*linter).relativeVars, entry: (*linter).relativePath},
	{Name: "hidden-output", Summary: "errors sent to /dev/null", entry: (*linter).hiddenOutput},
	{Name: "redirect-order", Summary: "2>&1 in front of the file that it should follow", entry: (*linter).redirectOrder},
	{Name: "pipe-status", Summary: "a pipeline that succeeds when its first program fails", entry: (*linter).pipeStatus},
	{Name: "unchecked-cd", Summary: "cd, and what follows runs elsewhere when it fails", entry: (*linter).uncheckedCd},
	{Name: "background", Summary: "& at the end: nobody sees how it ended", entry: (*linter).background},
	{Name: "no-terminal", Summary: "a program that wants a terminal", entry: (*linter).noTerminal},
	{Name: "pasted-character", Summary: "typographic quotes, dashes and blanks outside quotes", entry: (*linter).pastedCharacter},
	{Name: "reboot-network", Summary: "@reboot and a network that may not be there yet", entry: (*linter).rebootNetwork},
	{Name: "user-column", Summary: "a user where none belongs, or none where one does", entry: (*linter).userColumn},
	{Name: "unknown-user", Summary: "a user that the machine does not have", entry: (*linter).unknownUser},
	{Name: "not-on-path", Summary: "a program that is not in the entry's PATH", entry: (*linter).notOnPath},
	{Name: "missing-file", Summary: "a program or script that is not there", entry: (*linter).missingFile},
	{Name: "not-executable", Summary: "a program that may not be executed", entry: (*linter).notExecutable},

	// What runs together.
	{Name: "same-file", Summary: "two entries that write one file in one minute", file: (*linter).sameFile},
	{Name: "duplicate-entry", Summary: "the same entry twice", file: (*linter).duplicateEntry},
	{Name: "crowded-minute", Summary: "many entries in one minute", file: (*linter).crowdedMinute},
	{Name: "overlap", Summary: "runs that take longer than the time between them", file: (*linter).overlap},

	// The file itself.
	{Name: "carriage-return", Summary: "Windows line endings", file: (*linter).carriageReturn},
	{Name: "byte-order-mark", Summary: "a byte order mark", file: (*linter).byteOrderMark},
	{Name: "file-name", Summary: "a name in /etc/cron.d that cron passes over", file: (*linter).fileName},
	{Name: "orphan-options", Summary: "a #belfry: line above no entry", file: (*linter).orphanOptions},
	{Name: "bad-ignore", Summary: "an ignore comment that silences nothing", file: (*linter).badIgnore},

	// What other crons make of it.
	{Name: "portable-sunday", Summary: "7 for Sunday", Portable: true, entry: (*linter).portableSunday},
	{Name: "portable-zone", Summary: "CRON_TZ", Portable: true, file: (*linter).portableZone},
	{Name: "portable-random", Summary: "~", Portable: true, entry: (*linter).portableRandom},
	{Name: "portable-range", Summary: "ranges that only cronie reads so", Portable: true, entry: (*linter).portableRange},
	{Name: "portable-empty", Summary: "NAME= with nothing behind it", Portable: true, file: (*linter).portableEmpty},
	{Name: "portable-option", Summary: "- and -n", Portable: true, entry: (*linter).portableOption},
	{Name: "portable-backslash", Summary: `\\ in a command`, Portable: true, entry: (*linter).portableBackslash},
	{Name: "portable-length", Summary: "lines of more than 998 bytes", Portable: true, file: (*linter).portableLength},
}

// Lint reads a crontab as [Parse] does and returns what it finds in it, in the order of the lines. What cannot be read is
// a finding of the rule syntax; the rest of the file is looked at all the same.
//
// A comment `# belfry: ignore RULE, RULE` directly above a line silences rules for that line; in a block of comments at
// the top of the file that ends with a blank line, for all of it.
func Lint(name string, src []byte, o LintOptions) []Finding {
	l := &linter{name: name, o: o, zones: map[string]*time.Location{}}
	for _, rule := range rules {
		l.known = append(l.known, rule.Name)
	}
	l.read(src)
	for _, rule := range rules {
		if rule.Portable && !o.Portable {
			continue
		}
		l.rule = rule.Name
		if rule.file != nil {
			rule.file(l)
		}
		if rule.entry != nil {
			for _, e := range l.entries {
				rule.entry(l, e)
			}
		}
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return l.findings
}

// linter carries one call of Lint.
type linter struct {
	name     string
	o        LintOptions
	known    []string // the names of all rules
	errs     Errors
	lines    []lintLine
	entries  []*lintEntry
	vars     []*lintVar
	bom      bool
	zones    map[string]*time.Location // by the name in CRON_TZ; nil for one that could not be loaded
	rule     string                    // the one being looked at
	findings []Finding
}

// report adds a finding at a byte of a line, unless a comment silences it.
func (l *linter) report(line, pos int, message, fix string) {
	text := l.lines[line-1].text
	l.reportAt(line, utf8.RuneCountInString(text[:min(pos, len(text))])+1, message, fix)
}

func (l *linter) reportAt(line, column int, message, fix string) {
	if l.ignored(line) {
		return
	}
	l.findings = append(l.findings, Finding{File: l.name, Line: line, Column: column, Rule: l.rule, Message: message, Fix: fix})
}

func (l *linter) syntax() {
	for _, err := range l.errs {
		l.reportAt(err.Line, err.Column, err.Message, "")
	}
}

// quote shows a text of the file in a message, shortened where it is long.
func quote(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return `"` + strings.ReplaceAll(text, "\t", " ") + `"`
}

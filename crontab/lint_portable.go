package crontab

import (
	"fmt"
	"strings"
)

// What is fine in cronie and in Belfry, and means something else or nothing to another cron. These rules are for a file
// that is to go there.

// parts calls do with each part of the ith field.
func (e *lintEntry) parts(i int, do func(placed)) {
	pos := e.fields[i].pos
	for text := range strings.SplitSeq(e.fields[i].text, ",") {
		do(placed{text, pos})
		pos += len(text) + 1
	}
}

func (l *linter) portableSunday(e *lintEntry) {
	done := false
	e.parts(dowAt, func(p placed) {
		body, _, _ := strings.Cut(p.text, "/")
		from, to, _ := strings.Cut(body, "-")
		if done || from != "7" && to != "7" {
			return
		}
		done = true
		l.report(e.Line, p.pos,
			"7 for Sunday is an error to busybox and to several libraries (robfig/cron among them)",
			"write 0 or sun")
	})
}

func (l *linter) portableZone() {
	for _, v := range l.vars {
		if v.Name == "CRON_TZ" {
			l.report(v.line, v.name.pos,
				"CRON_TZ is an ordinary variable to Debian's cron, which runs all entries in the machine's zone",
				"set the machine's zone, or convert the times and say so in a comment")
			return
		}
	}
}

func (l *linter) portableRandom(e *lintEntry) {
	for i := range fields {
		if at := strings.IndexByte(e.fields[i].text, '~'); at >= 0 {
			l.report(e.Line, e.fields[i].pos,
				fmt.Sprintf("%q is drawn anew by cronie whenever it reads the file, so a run can be lost or doubled; Debian's cron reads the first number and drops the rest", e.fields[i].text),
				"write a value of your own")
			return
		}
	}
}

func (l *linter) portableRange(e *lintEntry) {
	for i := range fields {
		f := &fields[i]
		e.parts(i, func(p placed) {
			body, _, _ := strings.Cut(p.text, "/")
			from, to, ok := strings.Cut(body, "-")
			low, _ := f.value(from)
			high, _ := f.value(to)
			switch {
			case !ok || strings.Contains(p.text, "~"):
			case high < low:
				l.report(e.Line, p.pos,
					fmt.Sprintf("%q runs backwards, because Sunday is 0: Debian's cron never fires it, and ISC's refuses it", p.text),
					"write the days up to 6 and then 0")
			case high > f.high:
				l.report(e.Line, p.pos,
					fmt.Sprintf("%q ends past %d: all crons but cronie refuse it or read on", p.text, f.high),
					fmt.Sprintf("end the range at %d", f.high))
			}
		})
	}
}

func (l *linter) portableEmpty() {
	for _, v := range l.vars {
		if v.Value == "" && !v.quoted {
			l.report(v.line, v.name.pos,
				fmt.Sprintf("an empty value without quotes is an error to Debian's cron, which then drops the whole file: %s=", v.Name),
				fmt.Sprintf(`write %s=""`, v.Name))
		}
	}
}

func (l *linter) portableOption(e *lintEntry) {
	if e.NoLog {
		l.report(e.Line, e.start, "the - in front of the schedule is cronie's; others take it for a part of the minute, and refuse the line", "remove it")
	}
	if e.MailOnFailure {
		line := l.lines[e.Line-1].text
		at := strings.LastIndex(line[:e.command.pos], "-n")
		l.report(e.Line, at, "-n is cronie's; Debian's cron gives it to the shell as the command's name", "remove it, and let the command print nothing when it succeeds")
	}
}

func (l *linter) portableBackslash(e *lintEntry) {
	front := e.command.text
	for at := 0; at < len(front); at++ {
		if front[at] == '%' {
			return
		}
		if front[at] != '\\' || at+1 == len(front) {
			continue
		}
		if front[at+1] == '\\' {
			l.report(e.Line, e.command.pos+at, `\\ in a command is one backslash to Debian's cron, and two to others`, "put the command into a script")
			return
		}
		at++
	}
}

func (l *linter) portableLength() {
	const most = 998
	for _, e := range l.entries {
		if len(e.command.text) > most {
			l.report(e.Line, e.command.pos,
				fmt.Sprintf("the command has %d bytes: Debian's cron refuses more than %d, and with it the whole file", len(e.command.text), most),
				"put it into a script")
		}
	}
	for _, v := range l.vars {
		if n := len(strings.TrimSpace(l.lines[v.line-1].text)); n > most {
			l.report(v.line, v.name.pos,
				fmt.Sprintf("the line has %d bytes: Debian's cron cuts an assignment off at %d without a word", n, most),
				"set the value in a script")
		}
	}
}

package crontab

import (
	"fmt"
	"strings"
)

func (l *linter) carriageReturn() {
	for i, line := range l.lines {
		if line.crlf && line.kind != commentLine {
			l.report(i+1, len(line.text),
				"the line ends as Windows ends lines, and cron takes the carriage return for a part of it: a command gets it as its last character, and an empty line is an error",
				"save the file with Unix line endings; Belfry itself does not mind")
			return
		}
	}
}

func (l *linter) byteOrderMark() {
	if l.bom {
		l.report(1, 0,
			"a byte order mark stands in front of the first line, which cron then cannot read if it is not empty",
			"save the file as UTF-8 without it; Belfry itself does not mind")
	}
}

// fileName looks at the names of files in a cron.d, which cron does not read all of.
func (l *linter) fileName() {
	folder, name := "", l.name
	if i := strings.LastIndexByte(l.name, '/'); i >= 0 {
		folder, name = base(l.name[:i]), l.name[i+1:]
	}
	if folder != "cron.d" || name == "" {
		return
	}
	who := ""
	for _, c := range name {
		if !isLetter(byte(c)) && (c < '0' || c > '9') && c != '_' && c != '-' || c > 127 {
			who = fmt.Sprintf("Debian's cron does not read a file in cron.d with %q in its name", c)
			break
		}
	}
	for _, suffix := range []string{"~", ".rpmsave", ".rpmorig", ".rpmnew"} {
		if strings.HasSuffix(name, suffix) {
			who = fmt.Sprintf("no cron reads a file in cron.d whose name ends in %q", suffix)
		}
	}
	if name[0] == '.' || name[0] == '#' {
		who = fmt.Sprintf("no cron reads a file in cron.d whose name begins with %q", name[:1])
	}
	if who != "" {
		l.report(1, 0, who+", and says nothing", "name it with letters, digits, _ and - alone")
	}
}

// orphanOptions finds options that no entry gets, because something stands between or no entry follows.
func (l *linter) orphanOptions() {
	for i, line := range l.lines {
		at := strings.IndexByte(line.text, '#')
		if line.kind != commentLine || !strings.HasPrefix(line.text[at:], optionsMark) {
			continue
		}
		below, what := i+1, "nothing stands"
		for below < len(l.lines) && l.lines[below].kind == commentLine &&
			(strings.HasPrefix(strings.TrimLeft(l.lines[below].text, " \t"), optionsMark) || isIgnore(l.lines[below].text)) {
			below++
		}
		if below < len(l.lines) {
			next := l.lines[below]
			switch next.kind {
			case entryLine, badLine:
				continue
			case blankLine:
				what = "an empty line stands"
			case assignmentLine:
				what = "an assignment stands"
			case commentLine:
				if commentedOut(next.text) {
					continue // with its options
				}
				what = "another comment stands"
			}
		}
		l.report(i+1, at,
			fmt.Sprintf("the options hold for the entry directly below them, and there %s", what),
			"move the line directly above its entry, or remove it")
	}
}

// commentedOut reports whether a comment is an entry that was made one.
func commentedOut(line string) bool {
	r := &lineReader{line: strings.TrimLeft(line, "# \t")}
	if _, err := r.schedule(); err != nil {
		return false
	}
	r.skipBlanks()
	return r.rest() != ""
}

func isIgnore(line string) bool {
	_, ok := ignoreList(line)
	return ok
}

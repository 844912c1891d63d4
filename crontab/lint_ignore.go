package crontab

import (
	"fmt"
	"slices"
	"strings"
)

// ignoreList reads `# belfry: ignore RULE, RULE`, and says where each name stands. ok is false for any other comment.
func ignoreList(line string) (names []placed, ok bool) {
	rest := strings.TrimLeft(line, " \t")
	if !strings.HasPrefix(rest, "# ") && !strings.HasPrefix(rest, "#\t") {
		return nil, false
	}
	rest = strings.TrimLeft(rest[1:], " \t")
	rest, mark := strings.CutPrefix(rest, "belfry:")
	rest = strings.TrimLeft(rest, " \t")
	rest, verb := strings.CutPrefix(rest, "ignore")
	if !mark || !verb || rest != "" && strings.IndexByte(" \t,:", rest[0]) < 0 {
		return nil, false
	}
	at := len(line) - len(rest)
	for i := 0; i < len(rest); {
		if strings.IndexByte(" \t,:", rest[i]) >= 0 {
			i++
			continue
		}
		end := i
		for end < len(rest) && strings.IndexByte(" \t,", rest[end]) < 0 {
			end++
		}
		names = append(names, placed{rest[i:end], at + i})
		i = end
	}
	return names, true
}

// readIgnores gives each line the rules that the comments above it silence. Comments that a blank line follows are for
// the whole file when they stand above everything else in it, and for nothing when they stand further down.
func (l *linter) readIgnores() {
	var block, whole []string
	top := true
	for i := range l.lines {
		line := &l.lines[i]
		switch line.kind {
		case commentLine:
			names, _ := ignoreList(line.text)
			for _, name := range names {
				block = append(block, name.text)
			}
			continue
		case blankLine:
			if top {
				whole = append(whole, block...)
			}
		default:
			line.ignores = block
			top = false
		}
		block = nil
	}
	for i := range l.lines {
		l.lines[i].ignores = append(slices.Clip(l.lines[i].ignores), whole...)
	}
}

func (l *linter) ignored(line int) bool {
	return slices.Contains(l.lines[line-1].ignores, l.rule)
}

func (l *linter) badIgnore() {
	top := true
	var waiting []int // lines of ignore comments since the last line that was something else
	lost := func() {
		for _, line := range waiting {
			l.report(line, strings.IndexByte(l.lines[line-1].text, '#'),
				"the comment silences nothing: it holds for the line directly below it, and there is none",
				"put it directly above the line that it is meant for, or at the top of the file with a blank line below it")
		}
	}
	for i, line := range l.lines {
		switch line.kind {
		case commentLine:
			names, ok := ignoreList(line.text)
			if !ok {
				continue
			}
			waiting = append(waiting, i+1)
			if len(names) == 0 {
				l.report(i+1, strings.IndexByte(line.text, '#'), "the comment names no rule, and silences nothing", "write the rule's name behind ignore")
			}
			for _, name := range names {
				if !slices.Contains(l.known, name.text) {
					l.report(i+1, name.pos, fmt.Sprintf("there is no rule %q, so nothing is silenced", name.text), l.nearestRule(name.text))
				}
			}
			continue
		case blankLine:
			if !top {
				lost()
			}
		default:
			top = false
		}
		waiting = nil
	}
	if !top {
		lost()
	}
}

// nearestRule says which rule was meant.
func (l *linter) nearestRule(name string) string {
	best, least := "", 4
	for _, known := range l.known {
		if d := distance(strings.ToLower(name), known); d < least {
			best, least = known, d
		}
	}
	if best == "" {
		return "write the name that stands in the finding"
	}
	return fmt.Sprintf("write %q", best)
}

// distance is how many characters must be put in, taken out or changed to make b of a.
func distance(a, b string) int {
	if len(a) > 2*len(b) {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

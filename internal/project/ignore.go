package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// ignoreNames are the files that say what is no part of a release, in each folder
// of a project. They are read as git reads .gitignore; .belfryignore comes last and
// so has the last word.
var ignoreNames = []string{".gitignore", ".belfryignore"}

// ignoredAnyway is no part of a release unless a .belfryignore says otherwise.
const ignoredAnyway = "__pycache__/\n*.pyc\n.venv/\nvenv/\n.DS_Store\n._*\n.env\n*.pem\n"

// neverShipped is what no rule brings back.
var neverShipped = map[string]bool{".git": true, ".hg": true, ".svn": true, ".belfry": true}

// rule is a line of an ignore file.
type rule struct {
	base    string // the folder it stands in, relative to the project; it may lie above
	match   *regexp.Regexp
	folders bool // only folders
	back    bool // what matches is shipped after all
}

// rules are those of a project, the ones that win last.
type rules []rule

// parseRules reads the lines of an ignore file that stands in the folder base.
func parseRules(text, base string) rules {
	var list rules
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasSuffix(line, `\ `) {
			line = strings.TrimRight(line, " \t")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		r := rule{base: base}
		if line[0] == '!' {
			r.back, line = true, line[1:]
		}
		if strings.HasSuffix(line, "/") {
			r.folders, line = true, strings.TrimRight(line, "/")
		}
		anchored := strings.Contains(line, "/")
		line = strings.TrimPrefix(line, "/")
		if line == "" {
			continue
		}
		pattern := translate(line)
		if !anchored {
			pattern = "(?:.*/)?" + pattern
		}
		if match, err := regexp.Compile("(?s)^" + pattern + "$"); err == nil {
			r.match = match
			list = append(list, r)
		} // git, too, takes a pattern that is none for one that matches nothing
	}
	return list
}

// translate makes a regular expression of a pattern.
func translate(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); {
		rest := pattern[i:]
		switch {
		case strings.HasPrefix(rest, "**/") && (i == 0 || pattern[i-1] == '/'):
			b.WriteString("(?:.*/)?")
			i += 3
		case rest == "**" && (i == 0 || pattern[i-1] == '/'):
			b.WriteString(".+")
			i += 2
		case rest[0] == '*':
			b.WriteString("[^/]*")
			i++
		case rest[0] == '?':
			b.WriteString("[^/]")
			i++
		case rest[0] == '[':
			end := strings.IndexByte(rest[min(2, len(rest)):], ']')
			if end < 0 {
				b.WriteString(regexp.QuoteMeta(rest))
				return b.String()
			}
			class := rest[1 : end+2]
			if class[0] == '!' || class[0] == '^' {
				class = "^/" + class[1:]
			}
			b.WriteString("[" + strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(class) + "]")
			i += end + 3
		case rest[0] == '\\' && len(rest) > 1:
			b.WriteString(regexp.QuoteMeta(rest[1:2]))
			i += 2
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
			i++
		}
	}
	return b.String()
}

// ignored says whether the rules leave a file out, given by its path relative to
// the project. Whatever lies in a folder that is left out is never asked about.
func (l rules) ignored(file string, folder bool) bool {
	if neverShipped[path.Base(file)] {
		return true
	}
	out := false
	for _, r := range l {
		if r.folders && !folder || r.back != out {
			continue
		}
		rel, err := filepath.Rel(r.base, file)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue
		}
		if r.match.MatchString(rel) {
			out = !r.back
		}
	}
	return out
}

// read adds the rules of the ignore files in a folder.
func (l rules) read(dir, base string) (rules, error) {
	list := l[:len(l):len(l)]
	for _, name := range ignoreNames {
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("read what a release leaves out: %w", err)
		}
		list = append(list, parseRules(string(text), base)...)
	}
	return list, nil
}

// rulesAbove gives the rules that count for a project because of where it lies:
// those of the repository that it is in.
func rulesAbove(dir string) (rules, error) {
	list := parseRules(ignoredAnyway, ".")
	var above []string // nearest first
	for at := dir; ; at = filepath.Dir(at) {
		if at != dir {
			above = append(above, at)
		}
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			break
		}
		if at == filepath.Dir(at) {
			above = nil // it is in no repository
			break
		}
	}
	for i := len(above) - 1; i >= 0; i-- {
		text, err := os.ReadFile(filepath.Join(above[i], ".gitignore"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read what a release leaves out: %w", err)
		}
		list = append(list, parseRules(string(text), strings.Repeat("../", i)+"..")...)
	}
	return list, nil
}

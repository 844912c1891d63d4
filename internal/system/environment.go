package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Environment gives what the machine's administrators want every session to have,
// NAME=VALUE: what PAM's module pam_env reads for cron, from /etc/environment and,
// on Debian, /etc/default/locale. A file that is not there has nothing.
func (p Places) Environment() ([]string, error) {
	files := []string{"etc/environment"}
	if p.Dialect == Debian {
		files = append(files, "etc/default/locale")
	}
	var env []string
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(p.Root, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := pamVariable(line); ok {
				env = append(env, v)
			}
		}
	}
	return env, nil
}

// pamVariable reads a line as pam_env does: NAME=VALUE, with or without export
// before it; what follows a # is a comment wherever it stands; all quotes within
// a value that begins with one are taken away.
func pamVariable(line string) (string, bool) {
	line = strings.TrimLeft(line, " \t\n")
	line = strings.TrimPrefix(line, "export ")
	line, _, _ = strings.Cut(line, "#")
	line = strings.TrimRight(line, " \t\r\n")
	name, value, found := strings.Cut(line, "=")
	if !found || name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "", false
	}
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		value = strings.NewReplacer(`"`, "", `'`, "").Replace(value)
	}
	return name + "=" + value, true
}

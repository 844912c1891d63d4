package crontab

import "strings"

// assignment reads line as NAME=VALUE, the way cronie does: either side may be quoted, nothing is expanded, nothing
// after the value is a comment. What it refuses is no assignment and is read as an entry.
//
// Names are almost free: `*=1` and `5 =6` are assignments too.
func assignment(line string) (Var, bool) {
	isSpace := func(c byte) bool { return strings.IndexByte(" \t\v\f\r", c) >= 0 }
	trim := func(s string) string { return strings.TrimLeft(s, " \t\v\f\r") }

	var v Var
	rest := line
	if rest != "" && (rest[0] == '\'' || rest[0] == '"') {
		end := strings.IndexByte(rest[1:], rest[0]) + 1
		if end == 0 || strings.Contains(rest[1:end], "=") {
			return Var{}, false
		}
		v.Name, rest = rest[1:end], rest[end+1:]
	} else {
		end := 0
		for end < len(rest) && rest[end] != '=' && !isSpace(rest[end]) {
			end++
		}
		v.Name, rest = rest[:end], rest[end:]
	}

	rest, found := strings.CutPrefix(trim(rest), "=")
	if !found {
		return Var{}, false
	}

	rest = trim(rest)
	if rest != "" && (rest[0] == '\'' || rest[0] == '"') {
		end := strings.IndexByte(rest[1:], rest[0]) + 1
		if end == 0 || trim(rest[end+1:]) != "" {
			return Var{}, false
		}
		v.Value = rest[1:end]
		return v, true
	}
	v.Value = strings.TrimRight(rest, " \t\v\f\r")
	return v, true
}

// assign returns env with v in it, in the place of an older value. Entries keep the env that they got, so it is copied.
func assign(env []Var, v Var) []Var {
	env = append([]Var(nil), env...)
	for i := range env {
		if env[i].Name == v.Name {
			env[i] = v
			return env
		}
	}
	return append(env, v)
}

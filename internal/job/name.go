package job

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// CheckName says whether name can be a job's: names become parts of messages
// and addresses, so they are short and plain.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a name is missing")
	case len(name) > 100:
		return fmt.Errorf("%q… is longer than 100 characters", name[:20])
	case clean(name) != name || strings.HasPrefix(name, "."):
		return fmt.Errorf("%q cannot be a name; use a–z, 0–9, dot, dash and underscore, as in %q", name, strings.TrimLeft(clean(strings.ToLower(name)), "."))
	}
	return nil
}

// wrappers are programs that are not what a command is about.
var wrappers = map[string]bool{
	"env": true, "nice": true, "ionice": true, "flock": true, "timeout": true, "cd": true, "time": true, "exec": true,
	"nohup": true, "setsid": true, "chronic": true, "sudo": true, "test": true, "command": true, "stdbuf": true, "chpst": true,
	"sh": true, "bash": true, "dash": true, "zsh": true, "ksh": true, "fish": true,
	"python": true, "python2": true, "python3": true, "perl": true, "ruby": true, "node": true, "php": true, "rscript": true, "java": true,
	"uv": true, "poetry": true, "pipenv": true, "run-parts": true,
}

// scriptExtensions end the names of scripts.
var scriptExtensions = map[string]bool{
	".py": true, ".sh": true, ".bash": true, ".pl": true, ".rb": true, ".js": true, ".ts": true, ".php": true, ".r": true, ".sql": true, ".jar": true, ".ipynb": true,
}

// ProgramName gives the name that an entry without name= is called by: that of
// its program, or of the script or path that a shell, an interpreter or a
// wrapper is given (DESIGN.md §2).
func ProgramName(command string) string {
	words := strings.Fields(command)
	if len(words) == 0 {
		return "job"
	}
	first := base(words[0])
	if wrappers[strings.ToLower(first)] || strings.Contains(words[0], "=") || strings.HasPrefix(words[0], "(") {
		for _, word := range words[1:] {
			if subject(word) {
				return orJob(base(word))
			}
		}
	}
	return orJob(first)
}

// subject reports whether a word names what a wrapper runs: a path, or a file
// with a script's extension, but not the path of another wrapper.
func subject(word string) bool {
	word = strings.Trim(word, `'"();&|`)
	if strings.HasPrefix(word, "-") || wrappers[strings.ToLower(path.Base(word))] {
		return false
	}
	return scriptExtensions[strings.ToLower(path.Ext(word))] || strings.Contains(word, "/") && !strings.ContainsAny(word, "=<>$") && !lock(word)
}

// lock reports whether a path is a lock file, which flock names before the
// program, or nowhere.
func lock(word string) bool {
	return strings.HasSuffix(word, ".lock") || strings.HasPrefix(word, "/dev/")
}

func base(word string) string {
	word = strings.Trim(word, `'"();&|`)
	name := path.Base(word)
	if ext := path.Ext(name); ext != "" && ext != name {
		name = strings.TrimSuffix(name, ext)
	}
	return clean(strings.ToLower(name))
}

func orJob(name string) string {
	if name = strings.Trim(name, ".-_"); name != "" {
		return name
	}
	return "job"
}

// clean keeps a-z, 0-9, dot, dash and underscore and writes a dash for
// whatever stands between them.
func clean(name string) string {
	var b strings.Builder
	gap := false
	for _, r := range name {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			b.WriteRune(r)
			gap = false
			continue
		}
		gap = true
	}
	if b.Len() > 100 {
		return b.String()[:100]
	}
	return b.String()
}

// Known is a job that the store remembers.
type Known struct {
	Key     string // the store's id
	Name    string
	Command string // Command.String()
	Removed bool   // it was in no source when it was last looked for
}

// Match says which known job each of jobs is: the places of the result are
// those of jobs, an empty key is a new job. Jobs without a name get one. known
// stands in file order.
//
// A name that a person gave decides. Otherwise entries of a crontab are matched
// by equal command, in file order, and then by the name of their program: so
// lines can be moved, named, and their schedules or arguments edited without
// losing their history, and equal lines are several jobs. Jobs that are still
// there go before removed ones.
func Match(jobs []*Job, known []Known) (keys []string) {
	m := matcher{jobs: jobs, keys: make([]string, len(jobs)), taken: map[string]bool{}, names: map[string]bool{}}
	for _, j := range jobs {
		if j.Name != "" {
			m.names[j.Name] = true
		}
	}
	named := func(j *Job) bool { return j.Name != "" }
	unnamed := func(j *Job) bool { return j.Name == "" }
	ofCrontab := func(j *Job) bool { return j.Crontab }
	m.by(known, named, func(j *Job) string { return j.Name }, func(k Known) string { return k.Name })
	m.by(known, ofCrontab, func(j *Job) string { return j.Command.String() }, func(k Known) string { return k.Command })
	m.by(known, unnamed, func(j *Job) string { return ProgramName(j.Command.String()) }, func(k Known) string { return ProgramName(k.Command) })
	m.nameTheRest()
	return m.keys
}

type matcher struct {
	jobs  []*Job
	keys  []string
	taken map[string]bool // known jobs that have been matched
	names map[string]bool // in use
}

// by pairs jobs that have no key yet with known ones of the same trait, in
// order. A job without a name takes that of the known one.
func (m *matcher) by(known []Known, which func(*Job) bool, ofJob func(*Job) string, ofKnown func(Known) string) {
	free := map[string][]Known{}
	for _, removed := range []bool{false, true} {
		for _, k := range known {
			if k.Removed == removed && !m.taken[k.Key] {
				free[ofKnown(k)] = append(free[ofKnown(k)], k)
			}
		}
	}
	for i, j := range m.jobs {
		if m.keys[i] != "" || !which(j) {
			continue
		}
		trait := ofJob(j)
		for len(free[trait]) > 0 {
			k := free[trait][0]
			free[trait] = free[trait][1:]
			if j.Name == "" && m.names[k.Name] { // somebody else bears that name now
				continue
			}
			m.keys[i], m.taken[k.Key] = k.Key, true
			if j.Name == "" {
				j.Name, m.names[k.Name] = k.Name, true
			}
			break
		}
	}
}

func (m *matcher) nameTheRest() {
	next := map[string]int{}
	for _, j := range m.jobs {
		if j.Name != "" {
			continue
		}
		program := ProgramName(j.Command.String())
		j.Name = program
		for n := max(next[program], 2); m.names[j.Name]; n++ {
			j.Name = program + "-" + strconv.Itoa(n)
			next[program] = n
		}
		m.names[j.Name] = true
	}
}

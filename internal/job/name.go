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
		return fmt.Errorf("%q is too long for a name: 100 characters at most", string([]rune(name)[:20])+"…")
	case clean(name) != name || strings.HasPrefix(name, "."):
		return fmt.Errorf("%q cannot be a name; use a–z, 0–9, dot, dash and underscore, as in %q", name, CleanName(name))
	}
	return nil
}

// ProgramName gives the name that an entry without name= is called by: that of
// its program, or of the script or path that a shell, an interpreter or a
// wrapper is given (DESIGN.md §2).
func ProgramName(command string) string {
	return CleanName(withoutExtension(programOf(command, 0)))
}

// CleanName makes a name of a text: "job" when nothing of it is left.
func CleanName(text string) string {
	name := clean(strings.ToLower(text))
	if len(name) > 90 { // room for -2, -3 …
		name = name[:90]
	}
	if name = strings.Trim(name, ".-_"); name != "" {
		return name
	}
	return "job"
}

// scriptExtensions end the names of scripts.
var scriptExtensions = map[string]bool{
	".py": true, ".sh": true, ".bash": true, ".zsh": true, ".pl": true, ".rb": true, ".js": true, ".mjs": true, ".ts": true,
	".php": true, ".r": true, ".sql": true, ".jar": true, ".ipynb": true, ".lua": true, ".exe": true, ".bin": true,
}

func withoutExtension(name string) string {
	ext := path.Ext(name)
	if scriptExtensions[strings.ToLower(ext)] && ext != name {
		return strings.TrimSuffix(name, ext)
	}
	return name
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
	return b.String()
}

// Known is a job that the store remembers.
type Known struct {
	Key     string // the store's id
	Name    string
	Command string // Command.String()
	Timing  string // Job.Timing()
	Removed bool   // it was in no source when it was last looked for
	Paused  bool
}

// Match says which known job each of jobs is: the places of the result are
// those of jobs, an empty key is a new job. Jobs without a name get one. known
// stands in file order.
//
// A name that a person gave decides. Otherwise entries of a crontab are matched
// by equal command and schedule, then by equal command, then by the name of
// their program, each in file order: so lines can be moved, named, and their
// schedules or arguments edited without losing their history, and equal lines
// are several jobs. Jobs that are still there go before removed ones. That the
// program is the same is not enough for one that a person named, nor for one that
// was removed while it was paused: another line would never fire.
func Match(jobs []*Job, known []Known) (keys []string) {
	m := matcher{jobs: jobs, known: known, keys: make([]string, len(jobs)), taken: make([]bool, len(known)), names: make(map[string]bool, len(jobs))}
	for _, j := range jobs {
		if j.Name != "" {
			m.names[j.Name] = true
		}
	}
	named := func(j *Job) bool { return j.Name != "" }
	unnamed := func(j *Job) bool { return j.Name == "" }
	ofCrontab := func(j *Job) bool { return j.Crontab }
	m.by(named, func(j *Job) trait { return trait{j.Name, ""} }, func(k *Known) trait { return trait{k.Name, ""} })
	m.by(ofCrontab, func(j *Job) trait { return trait{j.Command.String(), j.Timing()} }, func(k *Known) trait { return trait{k.Command, k.Timing} })
	m.by(ofCrontab, func(j *Job) trait { return trait{j.Command.String(), ""} }, func(k *Known) trait { return trait{k.Command, ""} })
	m.by(unnamed, func(j *Job) trait { return trait{ProgramName(j.Command.String()), ""} }, func(k *Known) trait {
		if k.named() || k.Removed && k.Paused {
			return trait{} // no job's
		}
		return trait{ProgramName(k.Command), ""}
	})
	m.nameTheRest()
	return m.keys
}

// named reports whether a person gave k its name: it is not that of its program.
func (k *Known) named() bool {
	number, ok := strings.CutPrefix(k.Name, ProgramName(k.Command))
	if ok && number != "" {
		_, err := strconv.Atoi(strings.TrimPrefix(number, "-"))
		ok = err == nil
	}
	return !ok
}

type matcher struct {
	jobs  []*Job
	known []Known
	keys  []string
	taken []bool          // known jobs that have been matched
	names map[string]bool // in use
}

// trait is what a job and a known one have in common.
type trait [2]string

// by pairs jobs that have no key yet with known ones of the same trait, in
// order. A job without a name takes that of the known one.
func (m *matcher) by(which func(*Job) bool, ofJob func(*Job) trait, ofKnown func(*Known) trait) {
	wanted := func(i int) bool { return m.keys[i] == "" && which(m.jobs[i]) }
	some := false
	for i := range m.jobs {
		some = some || wanted(i)
	}
	if !some || len(m.known) == 0 {
		return
	}
	first, next := map[trait]int{}, make([]int, len(m.known)) // lists of places in known, which end with -1
	for _, removed := range []bool{true, false} {
		for i := len(m.known) - 1; i >= 0; i-- {
			if k := &m.known[i]; k.Removed == removed && !m.taken[i] {
				t := ofKnown(k)
				if at, ok := first[t]; ok {
					next[i] = at
				} else {
					next[i] = -1
				}
				first[t] = i
			}
		}
	}
	for i, j := range m.jobs {
		if !wanted(i) {
			continue
		}
		t := ofJob(j)
		at, ok := first[t]
		if !ok {
			continue
		}
		for ; at >= 0; at = next[at] {
			k := &m.known[at]
			if j.Name == "" && m.names[k.Name] { // somebody else bears that name now
				continue
			}
			m.keys[i], m.taken[at] = k.Key, true
			if j.Name == "" {
				j.Name, m.names[k.Name] = k.Name, true
			}
			at = next[at]
			break
		}
		first[t] = at
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
			next[program] = n + 1
		}
		m.names[j.Name] = true
	}
}

package job

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
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

// Some tells the names of jobs to who gave one that is none: in order, each once,
// and no more than ten.
func Some(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) > 10 {
		names = append(names[:10], "…")
	}
	return strings.Join(names, ", ")
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
// by equal command and schedule, then by equal command, then by their program:
// of the same program and schedule, then of the same program, the two that share
// most words before all others, and what is left in file order. So lines can be
// moved, named, and their schedules or arguments edited without losing their
// history, and equal lines are several jobs. Jobs that are still there go before
// removed ones, and with a removed one a line shares a word or the schedule. That
// the program is the same is not enough for one that a person named, nor for one
// that was removed while it was paused: another line would never fire.
func Match(jobs []*Job, known []Known) (keys []string) {
	m := matcher{jobs: jobs, known: known, keys: make([]string, len(jobs)), taken: make([]bool, len(known)), names: make(map[string]bool, len(jobs))}
	for _, j := range jobs {
		if j.Name != "" {
			m.names[j.Name] = true
		}
	}
	named := func(i int) bool { return jobs[i].Name != "" }
	ofCrontab := func(i int) bool { return jobs[i].Crontab }
	m.by(named, func(i int) trait { return trait{jobs[i].Name, ""} }, func(i int) trait { return trait{known[i].Name, ""} })
	m.by(ofCrontab, func(i int) trait { return trait{jobs[i].Command.String(), jobs[i].Timing()} }, func(i int) trait { return trait{known[i].Command, known[i].Timing} })
	m.by(ofCrontab, func(i int) trait { return trait{jobs[i].Command.String(), ""} }, func(i int) trait { return trait{known[i].Command, ""} })
	m.byProgram()
	m.nameTheRest()
	return m.keys
}

// named reports whether a person gave k its name: it is not that of its program.
func (k *Known) named(program string) bool {
	number, ok := strings.CutPrefix(k.Name, program)
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
// order.
func (m *matcher) by(which func(i int) bool, ofJob, ofKnown func(i int) trait) {
	wanted := func(i int) bool { return m.keys[i] == "" && which(i) }
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
				t := ofKnown(i)
				if at, ok := first[t]; ok {
					next[i] = at
				} else {
					next[i] = -1
				}
				first[t] = i
			}
		}
	}
	for i := range m.jobs {
		if !wanted(i) {
			continue
		}
		t := ofJob(i)
		at, ok := first[t]
		if !ok {
			continue
		}
		for matched := false; at >= 0 && !matched; at = next[at] {
			matched = m.match(i, at)
		}
		first[t] = at
	}
}

// match says that a job is a known one, whose name it takes when it has none;
// false when somebody else bears that name now.
func (m *matcher) match(i, at int) bool {
	j, k := m.jobs[i], &m.known[at]
	if j.Name == "" && m.names[k.Name] {
		return false
	}
	m.keys[i], m.taken[at] = k.Key, true
	if j.Name == "" {
		j.Name, m.names[k.Name] = k.Name, true
	}
	return true
}

// byProgram pairs the lines that have no name and no key yet with known jobs of
// the same program.
func (m *matcher) byProgram() {
	unnamed := func(i int) bool { return m.jobs[i].Name == "" }
	mine := make([]trait, len(m.jobs)) // program and schedule
	some := false
	for i, j := range m.jobs {
		if m.keys[i] == "" && unnamed(i) {
			mine[i], some = trait{ProgramName(j.Command.String()), j.Timing()}, true
		}
	}
	if !some {
		return
	}
	for _, removed := range []bool{false, true} {
		theirs := make([]trait, len(m.known)) // a trait without a program is no job's
		for i, k := range m.known {
			if m.taken[i] || k.Removed != removed || k.Removed && k.Paused {
				continue
			}
			if program := ProgramName(k.Command); !k.named(program) {
				theirs[i] = trait{program, k.Timing}
			}
		}
		ofJob, ofKnown := func(i int) trait { return mine[i] }, func(i int) trait { return theirs[i] }
		m.byWords(unnamed, ofJob, ofKnown)
		m.by(unnamed, ofJob, ofKnown)
		ofJob, ofKnown = func(i int) trait { return trait{mine[i][0]} }, func(i int) trait { return trait{theirs[i][0]} }
		m.byWords(unnamed, ofJob, ofKnown)
		if !removed {
			m.by(unnamed, ofJob, ofKnown)
		}
	}
}

// rare is how many jobs, and how many known ones, may have a word that tells
// which is which. It bounds the pairs that are looked at.
const rare = 8

// byWords pairs jobs that have no key yet with known ones of the same trait that
// share words of their commands beside their program: those that share most of
// the rare ones first, then in order.
func (m *matcher) byWords(which func(i int) bool, ofJob, ofKnown func(i int) trait) {
	type text struct {
		of   trait
		word string
	}
	type holders struct{ jobs, known []int }
	of := map[text]*holders{}
	for i, k := range m.known {
		if t := ofKnown(i); !m.taken[i] && t[0] != "" {
			for _, word := range words(k.Command, t[0]) {
				h := of[text{t, word}]
				if h == nil {
					h = &holders{}
					of[text{t, word}] = h
				}
				h.known = append(h.known, i)
			}
		}
	}
	if len(of) == 0 {
		return
	}
	for i, j := range m.jobs {
		if t := ofJob(i); m.keys[i] == "" && which(i) {
			for _, word := range words(j.Command.String(), t[0]) {
				if h := of[text{t, word}]; h != nil {
					h.jobs = append(h.jobs, i)
				}
			}
		}
	}
	type pair struct{ job, known int }
	shared := map[pair]int{} // how many words
	for _, h := range of {
		if len(h.jobs) <= rare && len(h.known) <= rare {
			for _, i := range h.jobs {
				for _, at := range h.known {
					shared[pair{i, at}]++
				}
			}
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(shared), func(a, b pair) int {
		return cmp.Or(shared[b]-shared[a], a.job-b.job, a.known-b.known)
	}) {
		if m.keys[p.job] == "" && !m.taken[p.known] {
			m.match(p.job, p.known)
		}
	}
}

// words are those of a command, each once, but for those that its program is
// called by.
func words(command, program string) []string {
	list := strings.Fields(command)
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(word string) bool {
		return CleanName(withoutExtension(path.Base(word))) == program
	})
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

package job

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Two firings that publish to the same place replace each other's results. That
// is looked for when jobs are loaded: among the next firings of each job, and
// around the changes of the clocks, where a local hour comes twice.

const (
	aheadFirings = 100
	aheadChanges = 2             // the next spring's and the next autumn's
	aroundChange = 4 * time.Hour // the clocks are moved by three at most
)

// Shared says why a target cannot stay as it is: of the job, the one at Target
// in its Publish.
type Shared struct {
	Job     *Job
	Target  int
	Message string
}

// FindShared finds the targets that firings after now would share with each
// other: those of one job, and those of two jobs of a project on the same date.
// A job that nothing fires may be run by hand for any date. A target whose mode is
// replace or append may be shared. What is not set by the job itself, as the
// variables of an env_file, is taken to be the same always.
func FindShared(jobs []*Job, now time.Time) []Shared {
	var list []Shared
	var places []place
	known := map[string]twice{} // many jobs fire alike
	for _, j := range jobs {
		if len(j.Publish) == 0 {
			continue
		}
		ahead := ahead{job: j, now: now}
		for i, t := range j.Publish {
			if t.Mode == ModeReplace || t.Mode == ModeAppend {
				continue
			}
			p := place{job: j, target: i, ahead: &ahead, pattern: patternOf(j, t.To)}
			alike := p.alike()
			if _, looked := known[alike]; !looked {
				known[alike] = p.twice()
			}
			if two := known[alike]; two.found {
				list = append(list, Shared{j, i, p.sharedByFirings(two)})
			} else {
				places = append(places, p)
			}
		}
		ahead.list, ahead.full = nil, false // of ten thousand jobs they would be millions
	}
	return append(list, sharedByJobs(places)...)
}

// place is a target of a job, over its firings.
type place struct {
	job    *Job
	target int
	ahead  *ahead
	pattern
}

// pattern is a target in which all is replaced that is the same for all firings.
type pattern struct {
	text    string   // with the names of variables between markers; without a slash at its end
	moments []string // the Moments in it, in their order
	own     bool     // it holds a variable that no two runs have the same
}

// The markers stand before a variable in a pattern, and the end behind it.
const (
	momentMark = "\x01"
	fixedMark  = "\x02"
	endMark    = "\x03"
)

// patternOf reads a target. What cannot be expanded fails when the job starts.
func patternOf(j *Job, to string) pattern {
	var p pattern
	var expand func(text string, env int) string
	expand = func(text string, env int) string {
		expanded, err := Expand(text, func(name string) (string, bool) {
			if slices.Contains(Moments, name) {
				p.moments = append(p.moments, name)
				return momentMark + name + endMark, true
			}
			switch name {
			case "BELFRY_RUN", "BELFRY_OUTPUT", "TRACEPARENT":
				p.own = true
			case "BELFRY_JOB":
				return cmp.Or(j.Name, j.Source.String()), true // an entry has no name yet
			}
			for i := env - 1; i >= 0; i-- {
				if v := j.Env[i]; v.Name == name && j.Crontab {
					return v.Value, true
				} else if v.Name == name {
					return expand(v.Value, i), true // which may speak of those before it
				}
			}
			return fixedMark + name + " " + j.EnvFile + endMark, true
		})
		p.own = p.own || err != nil
		return expanded
	}
	p.text = expand(to, len(j.Env))
	if scheme, rest, found := strings.Cut(p.text, "://"); found {
		p.text = scheme + "://" + strings.TrimPrefix(path.Clean("/"+rest), "/")
	} else if filepath.IsAbs(p.text) {
		p.text = filepath.Clean(p.text)
	} else {
		p.text = filepath.Join(j.Dir, p.text)
	}
	return p
}

// of gives what distinguishes the place of a firing from those of others. set is
// false when a variable of it is not set, and nothing is published.
func (p *pattern) of(j *Job, f Firing) (values string, set bool) {
	var b strings.Builder
	for _, name := range p.moments {
		value, set := j.Moment(name, f)
		if !set {
			return "", false
		}
		b.WriteString(value)
		b.WriteByte('\n')
	}
	return b.String(), true
}

// distinct reports whether no two firings can have the same values.
func (p *pattern) distinct() bool {
	return p.own || slices.ContainsFunc(p.moments, func(name string) bool {
		return name == "BELFRY_STAMP" || name == "BELFRY_FIRES_AT" || name == "BELFRY_INTERVAL_END"
	})
}

// alike is a text that is the same for places of which twice gives the same.
func (p *place) alike() string {
	texts := slices.Clone(p.moments)
	for _, r := range p.job.Rhythms() {
		texts = append(appendDrawn(texts, r.Schedules), r.Zone.String())
	}
	return strings.Join(append(texts, strconv.FormatBool(p.own)), "\n")
}

// twice are two firings with the same place, if they were found.
type twice struct {
	first, second Firing
	found         bool
}

func (p *place) twice() twice {
	if p.distinct() || p.ahead.byHand() {
		return twice{}
	}
	known := map[string]Firing{}
	for i := 0; ; i++ {
		f, ok := p.ahead.at(i)
		if !ok {
			return twice{}
		}
		values, set := p.of(p.job, f)
		if !set {
			continue
		}
		if before, again := known[values]; again && !before.At.Equal(f.At) {
			return twice{before, f, true}
		}
		known[values] = f
	}
}

// sharedByFirings says what two firings of a job share, and what would be right:
// the least that tells all of the firings apart.
func (p *place) sharedByFirings(two twice) string {
	remedy := "$BELFRY_STAMP"
	for _, more := range [][]string{{"BELFRY_DATE"}, {"BELFRY_HOUR"}, {"BELFRY_DATE", "BELFRY_HOUR"}} {
		if slices.ContainsFunc(more, func(name string) bool { return slices.Contains(p.moments, name) }) {
			continue
		}
		with := place{job: p.job, ahead: p.ahead, pattern: pattern{moments: append(slices.Clone(p.moments), more...)}}
		if !with.twice().found {
			remedy = "$" + strings.Join(more, " and $")
			break
		}
	}
	zone := p.job.ZoneAt(two.second.At)
	layout := "2006-01-02 15:04"
	a, b := two.first.At.In(zone), two.second.At.In(zone)
	if a.Format(layout) == b.Format(layout) { // the clocks were set back between them
		layout += " -07:00"
	}
	target := p.job.Publish[p.target]
	what := "the second would replace what the first has published"
	if target.Mode == ModeFail {
		what = "the second would fail, for the first has published there"
	}
	return fmt.Sprintf("%q is the same place for the firings of %s and %s (%s): %s. Add %s to it, or say what is meant: %s",
		target.To, a.Format(layout), b.Format(layout), zone, what, remedy, p.job.meant())
}

// meant is how a person says that firings may share a target.
func (j *Job) meant() string {
	key := "mode: "
	if j.Crontab {
		key = "publish_mode="
	}
	return fmt.Sprintf("“%s%s”, or “%s%s” to keep the files of both", key, ModeReplace, key, ModeAppend)
}

// ahead are the firings of a job that are looked at, found as they are asked
// for.
type ahead struct {
	job  *Job
	now  time.Time
	list []Firing
	full bool
}

// byHand reports whether nothing fires the job. Its firings are then those that a
// person can ask for by their date.
func (a *ahead) byHand() bool { return a.job.Next(a.now).IsZero() }

func (a *ahead) next(t time.Time) time.Time {
	if at := a.job.Next(t); !at.IsZero() || !a.byHand() {
		return at
	}
	year, month, day := t.In(a.job.Zone).Date()
	return StartOfDay(time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC), a.job.Zone)
}

func (a *ahead) at(i int) (Firing, bool) {
	for i >= len(a.list) && len(a.list) < aheadFirings && !a.full {
		last := a.now
		if n := len(a.list); n > 0 {
			last = a.list[n-1].At
		}
		a.add(a.next(last))
	}
	if i >= len(a.list) && len(a.list) >= aheadFirings && !a.full {
		a.full = true
		a.changes()
	}
	if i >= len(a.list) {
		return Firing{}, false
	}
	return a.list[i], true
}

func (a *ahead) add(at time.Time) {
	if at.IsZero() {
		a.full = true
		return
	}
	a.list = append(a.list, Firing{at, a.job.Named(at)})
}

// changes adds the firings around the next changes of the clocks.
func (a *ahead) changes() {
	seen := a.list[len(a.list)-1].At
	for _, r := range a.job.Rhythms() {
		at := a.now.In(r.Zone)
		for range aheadChanges {
			_, change := at.ZoneBounds()
			if change.IsZero() {
				break
			}
			from, end := change.Add(-aroundChange), change.Add(aroundChange)
			if from.Before(seen) {
				from = seen
			}
			for f := a.job.Next(from); !f.IsZero() && f.Before(end) && len(a.list) < 10*aheadFirings; f = a.job.Next(f) {
				a.add(f)
			}
			at = change
		}
	}
}

// sharedByJobs finds places of jobs of which one lies in the other on the same
// date. Only those are compared whose patterns say so: s3://lake/dt=DATE and
// s3://lake/dt=DATE/songs.
func sharedByJobs(places []place) []Shared {
	// A slash sorts before all else: what lies in a place follows it.
	order := func(p place) string { return strings.ReplaceAll(p.text, "/", "\x00") }
	slices.SortStableFunc(places, func(a, b place) int { return strings.Compare(order(a), order(b)) })
	var list []Shared
	var around []outer // the places that may hold the one that is looked at
	for _, p := range places {
		for len(around) > 0 && !lies(p.text, around[len(around)-1].text) {
			around = around[:len(around)-1]
		}
		for i := range around {
			if other, f, found := around[i].shared(p); found {
				list = append(list, Shared{p.job, p.target, p.sharedWith(other, f)})
				break
			}
		}
		if n := len(around); n == 0 || around[n-1].text != p.text {
			around = append(around, outer{pattern: p.pattern, ofJob: map[*Job]place{}, owners: map[string]place{}})
		}
		o := &around[len(around)-1]
		o.places, o.ofJob[p.job] = append(o.places, p), p
	}
	return list
}

func lies(in, place string) bool {
	return in == place || strings.HasPrefix(in, place+"/")
}

// outer is a place in which others may lie: that of several jobs, if their
// patterns are equal.
type outer struct {
	pattern
	places []place
	ofJob  map[*Job]place
	known  int              // so many of places are in owners
	owners map[string]place // by what the place differs in between firings
}

// shared finds another place in which p lies for the firing f.
func (o *outer) shared(p place) (other place, f Firing, found bool) {
	if q, found := o.ofJob[p.job]; found {
		return q, Firing{}, true // whether it ever fires or not
	}
	if o.own {
		return place{}, Firing{}, false
	}
	for ; o.known < len(o.places); o.known++ {
		q := o.places[o.known]
		for i := 0; ; i++ {
			f, ok := q.ahead.at(i)
			if !ok {
				break
			}
			if values, set := o.of(q.job, f); set {
				o.owners[values] = q
			}
		}
	}
	for i := 0; ; i++ {
		f, ok := p.ahead.at(i)
		if !ok {
			return place{}, Firing{}, false
		}
		values, set := o.of(p.job, f)
		if other, found := o.owners[values]; set && found {
			return other, f, true
		}
	}
}

// sharedWith says that the place lies in that of another job, or of the same.
func (p *place) sharedWith(other place, f Firing) string {
	to, theirs := p.job.Publish[p.target].To, other.job.Publish[other.target].To
	if p.job == other.job {
		return fmt.Sprintf("%q lies in %q, another target of the job: each target is replaced whole. Give each a place of its own", to, theirs)
	}
	where := fmt.Sprintf("lies in %q of %s,", theirs, other.job.Name)
	if p.text == other.text {
		where = fmt.Sprintf("is where %s publishes too,", other.job.Name)
	}
	text := fmt.Sprintf("%q %s on %s: one would replace what the other has published. Give each a place of its own", to, where, f.Named.Format(time.DateOnly))
	if strings.Contains(p.text, "://") { // a folder is one job's, whatever the mode
		text += ", or say what is meant: " + p.job.meant()
	}
	return text
}

package daemon_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
	"belfry/internal/store"
)

var (
	years = flag.Int("years", 1, "how many years of changes of the clocks to live through")
	seed  = flag.Uint64("seed", 1, "what happens in them")
)

var zones = []string{
	"Asia/Seoul", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Chatham",
	"Africa/Cairo", "America/St_Johns", "America/Santiago", "Antarctica/Troll", "Africa/Casablanca",
}

// TestYearsOfAMachineAreAccountedFor lives through the days around every change
// of the clocks in ten zones as a machine does that is restarted, suspended,
// whose clock is set and whose jobs are edited and paused. What the store holds
// in the end is compared with what a second, simple account says, which is told
// what happened and reads no clocks.
func TestYearsOfAMachineAreAccountedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
		end := m.wall().AddDate(*years, 0, 0)
		for _, change := range changes(t, m.wall(), end) {
			if away := change.Add(-10 * time.Hour).Sub(m.wall()); away > 0 {
				m.restart(away)
			}
			for m.wall().Before(change.Add(8 * time.Hour)) {
				m.live(time.Duration(m.rand.Int64N(int64(6 * time.Hour))))
				m.something()
			}
		}
		m.live(time.Hour)
		m.compare()
	})
}

// changes lists when the clocks change in any of the zones.
func changes(t *testing.T, from, to time.Time) []time.Time {
	var list []time.Time
	for _, name := range zones {
		for at := from.In(zone(t, name)); ; {
			_, end := at.ZoneBounds()
			if end.IsZero() || end.After(to) {
				break
			}
			list = append(list, end.UTC())
			at = end
		}
	}
	slices.SortFunc(list, time.Time.Compare)
	return slices.Compact(list)
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := job.LoadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// machine is one with a data folder, whose time is the bubble's.
type machine struct {
	t      *testing.T
	rand   *rand.Rand
	dir    string
	store  *store.Store
	offset time.Duration // of the clock on the wall from the bubble's
	booted time.Time     // of the bubble's
	asleep time.Duration
	jobs   []plan.Job
	dates  *plan.Calendar
	last   *plan.Reading
	wake   time.Time
	model  *account
}

func newMachine(t *testing.T, wall time.Time) *machine {
	m := &machine{
		t: t, rand: rand.New(rand.NewPCG(*seed, 0)), dir: t.TempDir(), offset: time.Until(wall), booted: time.Now(),
		model: &account{mark: wall, high: wall, want: map[string][]string{}},
	}
	m.open()
	t.Cleanup(func() {
		if err := m.store.Close(); err != nil {
			t.Error(err)
		}
	})
	var jobs []*job.Job
	for _, name := range zones {
		for kind, j := range map[string]struct {
			expr    string
			catchUp job.CatchUp
		}{
			"fixed":  {"30 2 * * *", job.CatchUpNone},
			"often":  {"5 0-23/3 * * *", job.CatchUpNone},
			"wild":   {"20 */3 * * *", job.CatchUpNone},
			"latest": {"0,40 3 * * *", job.CatchUpLatest},
			"all":    {"15 */2 * * *", job.CatchUpAll},
		} {
			jobs = append(jobs, &job.Job{
				ID:        job.ID{Project: "p", Name: strings.ToLower(kind + "-" + name[strings.IndexByte(name, '/')+1:])},
				Command:   job.Command{Text: "true", Shell: "/bin/sh"},
				Schedules: []crontab.Schedule{crontab.MustParseSchedule(j.expr)},
				Settings:  &job.Settings{Zone: zone(t, name), CatchUp: j.catchUp},
			})
		}
	}
	slices.SortFunc(jobs, func(a, b *job.Job) int { return strings.Compare(a.Name, b.Name) })
	m.load(jobs, make([]string, len(jobs)))
	m.look()
	return m
}

func (m *machine) open() {
	var err error
	if m.store, err = store.Open(m.t.Context(), m.dir); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) load(jobs []*job.Job, keys []string) {
	saved, err := m.store.SaveJobs(m.t.Context(), "p", jobs, keys, m.wall())
	if err != nil {
		m.t.Fatal(err)
	}
	m.jobs, m.dates = saved, plan.NewCalendar(saved)
	m.model.jobs = saved
}

func (m *machine) wall() time.Time { return time.Now().Add(m.offset).Round(0).UTC() }

// decide plans up to what the clocks will show in a while, and gives what writes
// the decision down.
func (m *machine) decide(while time.Duration) (write func()) {
	m.t.Helper()
	ctx := m.t.Context()
	elapsed := time.Since(m.booted) + while
	reading := plan.Reading{Wall: m.wall().Add(while), Elapsed: elapsed, Running: elapsed - m.asleep, Boot: "boot"}
	clock, err := m.store.Clock(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	d := plan.Decide(plan.Input{Node: "node", Now: reading, Last: m.last, Clock: clock, Jobs: m.dates})
	return func() {
		m.t.Helper()
		if _, err := m.store.Record(ctx, d, reading.Wall); err != nil {
			m.t.Fatal(err)
		}
		m.last, m.wake = &reading, d.Wake
	}
}

// look plans once, as the daemon's loop does.
func (m *machine) look() {
	m.t.Helper()
	m.decide(0)()
}

// live lets the loop go on. Now and then it decides about its next instant before
// that, as the daemon does. That the instant does not come then, and the decision is
// dropped, happens whenever something else does.
func (m *machine) live(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); m.look() {
		wait, left := max(m.wake.Sub(m.wall()), 0), time.Until(end)
		if m.rand.IntN(2) == 0 {
			time.Sleep(min(wait, left))
			continue
		}
		write := m.decide(wait)
		time.Sleep(min(wait, left))
		if wait <= left {
			write()
		}
	}
	m.model.live(m.wall())
}

// something happens to the machine, or to its jobs.
func (m *machine) something() {
	within := func(a, b time.Duration) time.Duration { return a + time.Duration(m.rand.Int64N(int64(b-a))) }
	switch m.rand.IntN(9) {
	case 0:
		m.restart(within(time.Second, 10*time.Minute))
	case 1:
		m.restart(within(10*time.Minute, 40*time.Hour))
	case 2:
		m.suspend(within(2*time.Minute, 5*time.Hour))
	case 3:
		m.step(within(time.Second, 3*time.Hour-time.Minute))
	case 4:
		m.step(within(3*time.Hour, 9*time.Hour))
	case 5:
		m.step(-within(time.Second, 3*time.Hour-time.Minute))
	case 6:
		m.step(-within(3*time.Hour+time.Minute, 6*time.Hour))
	case 7:
		m.edit()
	case 8:
		m.pause()
	}
}

// restart lets time pass without a daemon.
func (m *machine) restart(d time.Duration) {
	if err := m.store.Close(); err != nil {
		m.t.Fatal(err)
	}
	time.Sleep(d)
	m.open()
	m.last = nil
	m.look()
	m.model.restart(m.wall())
}

func (m *machine) suspend(d time.Duration) {
	time.Sleep(d)
	m.asleep += d
	m.look()
	m.model.jump(m.wall(), d, false)
}

// step sets the clock, and the loop looks a second later.
func (m *machine) step(d time.Duration) {
	m.offset += d
	time.Sleep(time.Second)
	m.look()
	if d < 0 {
		m.model.back(m.wall(), time.Second)
	} else {
		m.model.jump(m.wall(), d+time.Second, d > time.Minute)
	}
}

// edit gives a job another schedule.
func (m *machine) edit() {
	i := m.rand.IntN(len(m.jobs))
	jobs, keys := make([]*job.Job, len(m.jobs)), make([]string, len(m.jobs))
	for i, j := range m.jobs {
		jobs[i], keys[i] = j.Job, j.Key
	}
	edited := *jobs[i]
	expr := []string{"30 2 * * *", "*/30 2 * * *", "10,50 0-23 * * *", "45 1,2,3 * * *", "0 */2 * * *"}[m.rand.IntN(5)]
	edited.Schedules = []crontab.Schedule{crontab.MustParseSchedule(expr)}
	jobs[i] = &edited
	paused := make([]bool, len(m.jobs))
	for i, j := range m.jobs {
		paused[i] = j.Paused
	}
	m.load(jobs, keys)
	for i := range m.jobs {
		m.jobs[i].Paused = paused[i]
	}
	m.dates = plan.NewCalendar(m.jobs)
	m.look()
}

// pause pauses a job, or resumes it: then it is as if it were new.
func (m *machine) pause() {
	j := &m.jobs[m.rand.IntN(len(m.jobs))]
	if j.Paused = !j.Paused; !j.Paused {
		j.Since = m.wall()
	}
	m.dates = plan.NewCalendar(m.jobs)
	m.look()
}

// compare holds the store to the account.
func (m *machine) compare() {
	m.t.Helper()
	runs, err := m.store.Runs(context.Background(), store.RunFilter{})
	if err != nil {
		m.t.Fatal(err)
	}
	verdicts := map[run.State]string{run.Queued: "due", run.Missed: "missed", run.Skipped: "skipped"}
	got := map[string][]string{}
	for _, r := range runs {
		if r.Reason == "" && r.State != run.Queued || r.Cause == plan.CatchUp && r.Reason == "" {
			m.t.Errorf("nothing says why %s of %s is %s", r.FiresAt, r.Name, r.State)
		}
		text, err := m.store.Definition(context.Background(), r.Definition)
		if err != nil {
			m.t.Fatal(err)
		}
		j, err := job.ParseDefinition(text)
		if err != nil {
			m.t.Fatal(err)
		}
		at := r.FiresAt
		for range r.Count {
			id := r.Name + " " + at.UTC().Format(time.RFC3339)
			got[id] = append(got[id], verdicts[r.State])
			at = j.Next(at)
		}
	}
	if len(runs) < 1000 {
		m.t.Errorf("%d runs only: nothing has happened", len(runs))
	}
	m.t.Logf("%d runs for %d firings", len(runs), len(got))
	ids := maps.Clone(got)
	maps.Copy(ids, m.model.want)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		a, b := got[id], m.model.want[id]
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			m.t.Errorf("%s: recorded as %v, want %v", id, a, b)
		}
	}
}

// account says what must be recorded: for each firing, once for each time that
// it was lived through, what becomes of it.
type account struct {
	jobs       []plan.Job
	mark, high time.Time
	want       map[string][]string
}

// each gives the verdict of every firing up to now that is not in the account:
// decide says which of those of a job are due, given how many newer ones there
// are.
func (a *account) each(now time.Time, awake bool, due func(j plan.Job, fixed bool, age time.Duration, newer int) bool) {
	for _, j := range a.jobs {
		s := j.Schedules[0]
		from := a.mark
		if !s.Wildcard() && a.high.After(from) {
			from = a.high
		}
		// While time is lived through, a job that is newer than the mark is one of
		// a clock that was set back.
		if !awake && j.Since.After(from) && !j.Since.After(now) {
			from = j.Since
		}
		firings := slices.Collect(s.Between(from.In(j.Zone), now))
		for i, at := range firings {
			verdict := "missed"
			if due(j, !s.Wildcard(), now.Sub(at), len(firings)-1-i) {
				verdict = "due"
				if j.Paused {
					verdict = "skipped"
				}
			}
			id := fmt.Sprint(j.Name, " ", at.UTC().Format(time.RFC3339))
			a.want[id] = append(a.want[id], verdict)
		}
	}
	if now.After(a.mark) {
		a.mark = now
	}
	if a.mark.After(a.high) {
		a.high = a.mark
	}
}

func (a *account) live(now time.Time) {
	a.each(now, true, func(plan.Job, bool, time.Duration, int) bool { return true })
}

func caughtUp(j plan.Job, age time.Duration, newer int) bool {
	most := map[job.CatchUp]int{job.CatchUpLatest: 1, job.CatchUpAll: 100}[j.CatchUp]
	return newer < most && age <= 24*time.Hour
}

func (a *account) restart(now time.Time) {
	a.each(now, false, func(j plan.Job, _ bool, age time.Duration, newer int) bool {
		return newer == 0 && age <= 5*time.Minute || caughtUp(j, age, newer)
	})
}

// jump is the clock going on by more than the daemon was awake for. Where it
// was only set right after it had been set back, what was lived through is in
// the account.
func (a *account) jump(now time.Time, d time.Duration, ahead bool) {
	lived := a.high
	if now.Add(-time.Minute).Before(lived) {
		lived = now.Add(-time.Minute)
	}
	if ahead && lived.After(a.mark) {
		a.mark, d = lived, now.Sub(lived)
	}
	a.each(now, false, func(j plan.Job, fixed bool, age time.Duration, newer int) bool {
		switch {
		case d <= 5*time.Minute || newer == 0 && age < time.Minute:
			return true
		case j.CatchUp != job.CatchUpNone:
			return caughtUp(j, age, newer)
		}
		return d <= 3*time.Hour && fixed
	})
}

// back is the clock being set back, which was seen after a while.
func (a *account) back(now time.Time, while time.Duration) {
	if a.mark.Sub(now) > time.Minute {
		a.mark = now.Add(-while)
		if a.high.Sub(now) > 3*time.Hour {
			a.high = a.mark
		}
	}
	a.live(now)
}

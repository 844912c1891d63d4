package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
	"belfry/internal/store"
)

// house is a planner and its store, for stories in which runs end.
type house struct {
	t     *testing.T
	store *store.Store
	now   time.Time
	last  *plan.Reading
	jobs  []plan.Job
	dates *plan.Calendar
}

func newHouse(t *testing.T, jobs ...*job.Job) *house {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &house{t: t, store: s, now: time.Date(2024, 5, 15, 0, 30, 0, 0, time.UTC)}
	h.load(jobs...)
	h.look()
	return h
}

// load makes jobs the project's; those of a name that is known stay what they are.
func (h *house) load(jobs ...*job.Job) {
	h.t.Helper()
	byName := map[string]*job.Job{}
	keys := make([]string, len(jobs))
	for i, j := range jobs {
		byName[j.Name] = j
		for _, known := range h.jobs {
			if known.Name == j.Name {
				keys[i] = known.Key
			}
		}
		for _, parent := range j.After {
			if len(j.Schedules) == 0 {
				j.Inherited = append(j.Inherited, byName[parent].Rhythms()...)
			}
		}
	}
	saved, err := h.store.SaveJobs(h.t.Context(), "p", jobs, keys, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	h.jobs, h.dates = saved, plan.NewCalendar(saved)
}

func (h *house) look() {
	h.t.Helper()
	ctx := h.t.Context()
	reading := plan.Reading{Wall: h.now, Boot: "boot"}
	if h.last != nil {
		reading.Elapsed = h.last.Elapsed + h.now.Sub(h.last.Wall)
		reading.Running = reading.Elapsed
	}
	clock, err := h.store.Clock(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	waits, err := h.store.Waits(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	d := plan.Decide(plan.Input{Node: "node", Now: reading, Last: h.last, Clock: clock, Jobs: h.dates, Waits: waits})
	if _, err := h.store.Record(ctx, d, h.now); err != nil {
		h.t.Fatal(err)
	}
	h.last = &reading
}

// until lets the loop go on to a time of the day.
func (h *house) until(clock string) {
	h.t.Helper()
	at, err := time.Parse("15:04", clock)
	if err != nil {
		h.t.Fatal(err)
	}
	for end := h.now.Truncate(24 * time.Hour).Add(at.Sub(at.Truncate(24 * time.Hour))); h.now.Before(end); h.look() {
		h.now = h.now.Add(time.Minute)
	}
}

func (h *house) run(name string) run.Run {
	h.t.Helper()
	runs, err := h.store.Runs(h.t.Context(), store.RunFilter{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range runs {
		if r.Name == name {
			return r
		}
	}
	h.t.Fatalf("%s has no run", name)
	return run.Run{}
}

// ends takes a job's run through an attempt; one that was over is tried again.
func (h *house) ends(name string, to run.State) {
	h.t.Helper()
	ctx := h.t.Context()
	r := h.run(name)
	if r.State.Finished() {
		if _, err := h.store.Move(ctx, run.Move{Run: r.ID, From: r.State, To: run.Queued, At: h.now}); err != nil {
			h.t.Fatal(err)
		}
	} else if r.Reason != "" {
		h.t.Fatalf("%s cannot start: %s", name, r.Reason)
	}
	text, err := h.store.Definition(ctx, r.Definition)
	if err != nil {
		h.t.Fatal(err)
	}
	claimed, err := h.store.Claim(ctx, []run.Claim{{
		Run: r.ID, Attempt: r.Attempt + 1, Token: r.Token + 1, Node: "node", Boot: "boot", At: h.now, Definition: job.Definition{Hash: r.Definition, JSON: text},
	}})
	if err != nil || !claimed[0] {
		h.t.Fatalf("claim %s: %v, %v", name, claimed, err)
	}
	if _, err := h.store.Move(ctx, run.Move{Run: r.ID, From: run.Running, To: to, Token: r.Token + 1, At: h.now}); err != nil {
		h.t.Fatal(err)
	}
}

// want compares the newest run of each job: "a succeeded, b queued: dependency".
func (h *house) want(why, want string) {
	h.t.Helper()
	var got []string
	for _, text := range strings.Split(want, ", ") {
		r := h.run(strings.Fields(text)[0])
		line := fmt.Sprint(r.Name, " ", r.State)
		if reason, _, _ := strings.Cut(r.Reason, " (run"); reason != "" {
			line += ": " + reason
		}
		got = append(got, line)
	}
	if text := strings.Join(got, ", "); text != want {
		h.t.Errorf("%s:\n got %s\nwant %s", why, text, want)
	}
}

func daily(name, at string, after ...string) *job.Job {
	j := &job.Job{
		ID: job.ID{Project: "p", Name: name}, Command: job.Command{Text: "true", Shell: "/bin/sh"},
		Settings: &job.Settings{Zone: time.UTC, CatchUp: job.CatchUpLatest, After: after},
	}
	if at != "" {
		j.Schedules = []crontab.Schedule{crontab.MustParseSchedule(at)}
	}
	return j
}

func TestADiamondOfSeveralTimesRunsOnceItsLastParentHas(t *testing.T) {
	t.Parallel()
	h := newHouse(t, daily("a", "0 2 * * *"), daily("b", "", "a"), daily("c", "0 10 * * *"), daily("d", "", "b", "c"), daily("e", "", "d"))
	h.until("02:00")
	h.want("at 02:00", "a queued, b queued: dependency")
	h.ends("a", run.Succeeded)
	h.ends("b", run.Succeeded)
	h.until("10:00")
	h.want("b has succeeded long ago", "c queued, d queued: dependency, e queued: dependency")
	h.ends("c", run.Succeeded)
	h.want("nothing is left to wait for", "d queued, e queued: dependency")
	h.ends("d", run.Succeeded)
	h.want("", "e queued")
}

func TestAParentThatSucceedsAfterAllReleasesAllThatWasSkippedForIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, daily("a", "0 2 * * *"), daily("b", "", "a"), daily("c", "0 10 * * *"), daily("d", "", "b", "c"), daily("e", "", "d"))
	h.until("02:00")
	h.ends("a", run.Failed)
	h.want("", "b skipped: dependency: a ended failed")
	h.until("10:00")
	h.want("at 10:00 it is known already", "d skipped: dependency: b ended skipped, e skipped: dependency: d ended skipped")
	h.ends("a", run.Succeeded)
	h.want("the next generation", "b queued, d skipped: dependency: b ended skipped")
	h.ends("b", run.Succeeded)
	h.want("c is still to succeed", "c queued, d queued: dependency, e skipped: dependency: d ended skipped")
	h.ends("c", run.Failed)
	h.want("which is in the way now", "d skipped: dependency: c ended failed")
	h.ends("c", run.Succeeded)
	h.want("", "d queued, e skipped: dependency: d ended skipped")
	h.ends("d", run.Succeeded)
	h.want("", "e queued")
}

func TestAJobWithATimeWaitsForWhatComesLaterOnItsDate(t *testing.T) {
	t.Parallel()
	h := newHouse(t, daily("early", "0 2 * * *"), daily("late", "0 10 * * *"), daily("own", "0 6 * * *", "early", "late"), daily("kid", "", "own"))
	h.until("06:00")
	h.ends("early", run.Succeeded)
	h.until("09:59")
	h.want("", "own queued: dependency, kid queued: dependency")
	h.until("10:00")
	h.want("it is there, and has not ended", "own queued: dependency")
	h.ends("late", run.Succeeded)
	h.want("", "own queued, kid queued: dependency")
	h.ends("own", run.Succeeded)
	h.want("", "kid queued")
}

func TestAJobDoesNotWaitForAParentWhoseTimeWasTakenAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, daily("early", "0 2 * * *"), daily("late", "0 10 * * *"), daily("own", "0 6 * * *", "early", "late"))
	h.until("07:00")
	h.ends("early", run.Succeeded)
	h.load(daily("early", "0 2 * * *"), daily("late", "0 4 * * *"), daily("own", "0 6 * * *", "early", "late"))
	h.until("09:59")
	h.want("until then nobody can know", "own queued: dependency")
	h.until("10:00")
	h.want("", "own queued")
}

func TestAPausedParentSkipsAndTheDayAfterItsResumptionRuns(t *testing.T) {
	t.Parallel()
	h := newHouse(t, daily("a", "0 2 * * *"), daily("c", "0 10 * * *"), daily("d", "", "a", "c"))
	h.jobs[0].Paused = true
	h.dates = plan.NewCalendar(h.jobs)
	h.until("10:00")
	h.want("", "a skipped: paused, c queued, d skipped: dependency: a ended skipped")
	h.jobs[0].Paused, h.jobs[0].Since = false, h.now
	h.dates = plan.NewCalendar(h.jobs)
	h.until("23:59")
	h.now = h.now.Add(time.Minute)
	h.look()
	h.until("10:00")
	h.want("", "a queued, c queued, d queued: dependency")
}

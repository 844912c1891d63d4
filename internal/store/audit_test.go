package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// acted lists what people did that a filter finds, the newest first.
func acted(t *testing.T, s *Store, f ActFilter) string {
	t.Helper()
	var list []string
	for _, a := range must(s.Acts(t.Context(), f))(t) {
		list = append(list, fmt.Sprintf("%s %s", a.Name, a.Action))
	}
	return strings.Join(list, ", ")
}

func TestWhatAPersonDoesIsWrittenWithTheChange(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	r := read(t, s, id)
	by := func(name string, action run.Action, minute int) *run.Act {
		return &run.Act{Person: run.Person{UID: 1000, Name: name}, At: night.Add(time.Duration(minute) * time.Minute), Action: action, Job: r.Job, Run: id, Detail: "why"}
	}
	cancel := run.Move{Run: id, From: run.Queued, To: run.Cancelled, At: night, Act: by("alice", run.ActStop, 1)}
	check(t, move(t.Context(), s, cancel))
	if err := move(t.Context(), s, cancel); err == nil {
		t.Error("it is stopped twice")
	}
	pause := func(paused bool, act *run.Act) { must(s.Pause(t.Context(), r.Job, paused, night, act))(t) }
	pause(true, &run.Act{Person: run.Person{Name: "bob"}, At: night.Add(2 * time.Minute), Action: run.ActPause, Job: r.Job})
	pause(true, &run.Act{Person: run.Person{Name: "carol"}, At: night.Add(3 * time.Minute), Action: run.ActPause, Job: r.Job}) // it is paused
	again := run.Run{ID: run.NewID(night), Job: r.Job, Key: "b/B1/x", Cause: plan.Backfill, State: run.Queued, FiresAt: night, FiresUntil: night, Count: 1, Named: night, QueuedAt: night, Backfill: "B1", Parallel: 1}
	definitions := []job.Definition{nightly("a").Definition()}
	backfill := &run.Act{Person: run.Person{Name: "dave"}, At: night.Add(4 * time.Minute), Action: run.ActBackfill, Job: r.Job, Backfill: "B1"}
	check(t, s.AddRuns(t.Context(), []run.Run{again}, definitions, backfill))
	if err := s.AddRuns(t.Context(), []run.Run{{ID: "x", Job: "nobody"}}, definitions, by("eve", run.ActRun, 5)); err == nil {
		t.Error("a run of no job was recorded")
	}
	check(t, s.Act(t.Context(), *by("frank", run.ActKill, 6)))

	for _, c := range []struct {
		filter ActFilter
		want   string
	}{
		{ActFilter{}, "frank stop --kill, dave backfill, bob pause, alice stop"},
		{ActFilter{Limit: 1}, "frank stop --kill"},
		{ActFilter{Run: id}, "frank stop --kill, alice stop"},
		{ActFilter{Backfill: "B1"}, "dave backfill"},
		{ActFilter{Job: r.Job, Action: run.ActPause}, "bob pause"},
		{ActFilter{Job: "nobody"}, ""},
	} {
		if got := acted(t, s, c.filter); got != c.want {
			t.Errorf("%+v: %s, want %s", c.filter, got, c.want)
		}
	}
	first := must(s.Acts(t.Context(), ActFilter{Run: id}))(t)[1]
	want := *by("alice", run.ActStop, 1)
	want.ID, want.Project, want.JobName = first.ID, "lake", "a"
	if first != want || !run.IsID(first.ID) {
		t.Errorf("it is %+v, want %+v", first, want)
	}

	// What concerns a run is kept as long as the run.
	long := night.Add(1000 * 24 * time.Hour)
	keep := Retention{Age: 90 * 24 * time.Hour, FailedAge: 365 * 24 * time.Hour}
	for _, c := range []struct {
		why  string
		keep Retention
		now  time.Time
		want int
	}{
		{"for ever", Retention{FailedAge: time.Hour}, long, 4},
		{"as long as failed runs", keep, night.Add(364 * 24 * time.Hour), 4},
		{"its runs are there", keep, long, 3},
	} {
		must(s.PruneActs(t.Context(), c.keep, c.now, 100))(t)
		if got := len(must(s.Acts(t.Context(), ActFilter{}))(t)); got != c.want {
			t.Errorf("%s: %d are kept, want %d", c.why, got, c.want)
		}
	}
	write(t, s, `DELETE FROM run WHERE id = $1`, id)
	if n := must(s.PruneActs(t.Context(), keep, long, 1))(t); n != 1 {
		t.Errorf("%d were removed, want one at a time", n)
	}
	must(s.PruneActs(t.Context(), keep, long, 100))(t)
	if got := acted(t, s, ActFilter{}); got != "dave backfill" {
		t.Errorf("without the run there is %s", got)
	}
}

package store

import (
	"context"
	"slices"
	"testing"
	"time"

	"belfry/internal/outbox"
	"belfry/internal/run"
)

const day = 24 * time.Hour

// ended records a firing of a job that ended in a state, daysAgo days before night.
func ended(t *testing.T, s *Store, name string, state run.State, daysAgo int) string {
	t.Helper()
	at := night.Add(-time.Duration(daysAgo) * day)
	jobs := save(t, s, night.Add(-1000*day), nightly(name))
	record(t, s, due(at, jobs...), at)
	r := must(s.Runs(t.Context(), RunFilter{Job: jobs[0].Key, Covering: at}))(t)[0]
	switch state {
	case run.Queued:
	case run.Missed, run.Skipped, run.Cancelled:
		check(t, move(t.Context(), s, run.Move{Run: r.ID, From: run.Queued, To: state, At: at}))
	default:
		claimed := claim(t, s, r.ID, at)
		if state != run.Running {
			check(t, move(t.Context(), s, run.Move{
				Run: r.ID, From: run.Running, To: state, Token: claimed.Token, At: at,
				Ended: &run.Attempt{Run: r.ID, Number: 1, EndedAt: at},
			}))
		}
	}
	return r.ID
}

// prune calls Prune until its pass is at its end.
func prune(t *testing.T, s *Store, keep Retention) []string {
	t.Helper()
	var all []string
	for range 1000 {
		runs, more, err := s.Prune(t.Context(), keep, night, 3)
		check(t, err)
		all = append(all, runs...)
		if !more {
			slices.Sort(all)
			return all
		}
	}
	t.Fatal("the pass has no end")
	return nil
}

func TestPruneRemovesWhatIsKeptNoLonger(t *testing.T) {
	t.Parallel()
	const failed, succeeded, missed, running, queued = run.Failed, run.Succeeded, run.Missed, run.Running, run.Queued
	for _, c := range []struct {
		why     string
		keep    Retention
		states  []run.State // of one job's runs: the last is of today, each a day after the one before
		removed []bool
	}{
		{"nothing is said", Retention{}, []run.State{failed, succeeded, succeeded}, []bool{false, false, false}},
		{"age", Retention{Age: 36 * time.Hour}, []run.State{succeeded, failed, missed, succeeded, succeeded}, []bool{true, true, true, false, false}},
		{"failures are kept longer", Retention{Age: 12 * time.Hour, FailedAge: 60 * time.Hour}, []run.State{failed, failed, run.Lost, missed, succeeded}, []bool{true, true, false, true, false}},
		{"failures go earlier", Retention{Age: 60 * time.Hour, FailedAge: 12 * time.Hour}, []run.State{succeeded, failed, failed, succeeded}, []bool{true, true, true, false}},
		{"the newest never", Retention{Age: time.Nanosecond}, []run.State{succeeded, failed}, []bool{true, false}},
		{"what is open never", Retention{Age: time.Hour, PerJob: 1}, []run.State{queued, running, succeeded, succeeded}, []bool{false, false, true, false}},
		{"count", Retention{PerJob: 2}, []run.State{succeeded, missed, succeeded, failed, succeeded}, []bool{true, true, false, false, false}},
		{"count, but others may still ask", Retention{PerJob: 1}, []run.State{run.Skipped, run.Cancelled, run.Skipped, missed, succeeded}, []bool{true, true, false, false, false}},
		{"count, failures kept longer", Retention{PerJob: 1, FailedAge: 84 * time.Hour}, []run.State{failed, failed, succeeded, failed, succeeded, succeeded, succeeded}, []bool{true, true, true, false, false, false, false}},
		{"age and count", Retention{Age: 84 * time.Hour, PerJob: 1}, []run.State{succeeded, succeeded, succeeded, succeeded, succeeded}, []bool{true, true, false, false, false}},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			var want []string
			for i, state := range c.states {
				id := ended(t, s, "a", state, len(c.states)-1-i)
				if c.removed[i] {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			if got := prune(t, s, c.keep); !slices.Equal(got, want) {
				t.Errorf("%v were removed, want %v", got, want)
			}
			for _, id := range want {
				if n := len(must(s.Attempts(t.Context(), id))(t)); n > 0 {
					t.Errorf("%d attempts of %s are left", n, id)
				}
			}
			if got := prune(t, s, c.keep); len(got) > 0 {
				t.Errorf("a second pass removes %v", got)
			}
			if found := must(s.Check(t.Context()))(t); len(found) > 0 {
				t.Error(found)
			}
		})
	}
}

func TestPruneLeavesWhatSomebodyStillNeeds(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b", "a"), nightly("c"), nightly("d"))
	end(t, s, ids["a"], run.Succeeded) // b waits for its turn now
	end(t, s, ids["d"], run.Succeeded)
	item := publishing(t, s, ids["c"])
	item.State = outbox.Sent
	check(t, move(t.Context(), s, run.Move{
		Run: ids["c"], From: run.Publishing, To: run.Succeeded, Token: 1, At: night, Settled: &item,
		Owed: []outbox.Item{{Run: ids["c"], Kind: outbox.Notice, Payload: []byte(`{}`)}},
	}))
	later := night.Add(day)
	record(t, s, due(later, save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b", "a"), nightly("c"), nightly("d"))...), later)
	runs, more, err := s.Prune(t.Context(), Retention{Age: time.Hour}, later.Add(day), 100)
	check(t, err)
	if more || !slices.Equal(runs, []string{ids["d"]}) {
		t.Errorf("%v were removed (more: %v), want the one of d, %s: b's parent and what owes a notice stay", runs, more, ids["d"])
	}
}

func TestPruneRemovesDefinitionsThatNobodyRefersTo(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	old := nightly("a")
	old.Command.Text = "as it was"
	jobs := save(t, s, night.Add(-10*day), old)
	record(t, s, due(night.Add(-9*day), jobs...), night.Add(-9*day))
	r := must(s.Runs(t.Context(), RunFilter{}))(t)[0]
	check(t, move(t.Context(), s, run.Move{Run: r.ID, From: run.Queued, To: run.Cancelled, At: night.Add(-9 * day)}))
	ended(t, s, "a", run.Succeeded, 0)
	if got := prune(t, s, Retention{Age: day}); len(got) != 1 {
		t.Fatalf("%v were removed", got)
	}
	if _, err := s.Definition(t.Context(), old.Definition().Hash); err == nil {
		t.Error("the old definition is still there")
	}
	must(s.Definition(t.Context(), nightly("a").Definition().Hash))(t)
	// It can come back.
	record(t, s, due(night.Add(day), save(t, s, night, old)...), night.Add(day))
	must(s.Definition(t.Context(), old.Definition().Hash))(t)
}

func TestPruneStopsWithItsContextAndGoesOnLater(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for i := range 5 {
		ended(t, s, "a", run.Succeeded, i)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, more, err := s.Prune(ctx, Retention{Age: time.Hour}, night, 2); err == nil || !more {
		t.Errorf("it went on: %v, %v", more, err)
	}
	if got := prune(t, s, Retention{Age: time.Hour}); len(got) != 4 {
		t.Errorf("%d were removed, want 4", len(got))
	}
}

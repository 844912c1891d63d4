package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// backfilled makes the runs of a backfill of one firing: of the first job and,
// waiting for it one after the other, of the others.
func backfilled(id string, jobs ...plan.Job) (runs []run.Run, definitions []job.Definition) {
	for i, j := range jobs {
		r := run.Run{
			ID: fmt.Sprint(id, i), Job: j.Key, Key: "b/" + id, Cause: plan.Backfill, State: run.Queued,
			FiresAt: night, FiresUntil: night, Count: 1, Named: night, QueuedAt: night, Backfill: id, Parallel: 1,
		}
		if i > 0 {
			r.Cause, r.Reason, r.Parents = plan.After, plan.DependencyReason, []string{fmt.Sprint(id, i-1)}
		}
		runs, definitions = append(runs, r), append(definitions, j.Definition())
	}
	return runs, definitions
}

func TestABackfillThatRepairsAParentHasItsChildrenRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why       string
		first     run.State // of the parent in the first backfill
		second    int       // jobs of the second one
		child     run.State // of the first backfill
		grandsons bool      // they wait for the child
	}{
		{"it failed", run.Failed, 1, run.Queued, true},
		{"it was lost", run.Lost, 1, run.Queued, true},
		{"the children are made anew", run.Failed, 3, run.Skipped, false},
	} {
		s := openStore(t)
		jobs := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b", "a"), nightly("c", "b"))
		add := func(id string, jobs ...plan.Job) {
			runs, definitions := backfilled(id, jobs...)
			check(t, s.AddRuns(t.Context(), runs, definitions, nil))
		}
		add("B1", jobs...)
		end(t, s, "B10", c.first)
		wantState(t, s, "B11", run.Skipped, fmt.Sprintf("dependency: a ended %s (run B10)", c.first))
		add("B2", jobs[:c.second]...)
		end(t, s, "B20", run.Succeeded)
		if r := read(t, s, "B11"); r.State != c.child {
			t.Errorf("%s: the child is %s (%s), want %s", c.why, r.State, r.Reason, c.child)
		}
		if c.grandsons {
			end(t, s, "B11", run.Succeeded)
			wantState(t, s, "B12", run.Queued, "")
		} else {
			wantState(t, s, "B21", run.Queued, "")
		}
	}
	// Of several that were skipped, one runs.
	s := openStore(t)
	jobs := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b", "a"))
	for _, id := range []string{"B1", "B2"} {
		runs, definitions := backfilled(id, jobs...)
		check(t, s.AddRuns(t.Context(), runs, definitions, nil))
		end(t, s, id+"0", run.Failed)
	}
	runs, definitions := backfilled("B3", jobs[0])
	check(t, s.AddRuns(t.Context(), runs, definitions, nil))
	end(t, s, "B30", run.Succeeded)
	wantState(t, s, "B11", run.Skipped, "dependency: a ended failed (run B10)")
	wantState(t, s, "B21", run.Queued, "")
	// What a firing of the schedule has had skipped waits for a retry of that.
	s = openStore(t)
	ids := family(t, s, nightly("a"), nightly("b", "a"))
	end(t, s, ids["a"], run.Failed)
	runs, definitions = backfilled("B1", plan.Job{Job: nightly("a"), Key: read(t, s, ids["a"]).Job})
	check(t, s.AddRuns(t.Context(), runs, definitions, nil))
	end(t, s, "B10", run.Succeeded)
	wantState(t, s, ids["b"], run.Skipped, "dependency: a ended failed (run "+ids["a"]+")")
}

func TestAFiringIsMadeByOneBackfillAtATime(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night.Add(-time.Hour), nightly("a"))[0]
	add := func(id string) error {
		runs, definitions := backfilled(id, j)
		return s.AddRuns(t.Context(), runs, definitions, &run.Act{At: night, Action: run.ActBackfill, Backfill: id})
	}
	check(t, add("B1"))
	var twice *BackfillError
	if err := add("B2"); !errors.As(err, &twice) || twice.Backfill != "B1" || twice.Date != "2026-07-09" {
		t.Errorf("a second backfill gives %v", err)
	}
	if n := len(must(s.Acts(t.Context(), ActFilter{}))(t)); n != 1 {
		t.Errorf("%d backfills were noted, want 1", n)
	}
	end(t, s, "B10", run.Failed)
	check(t, add("B3"))
}

package store

import (
	"context"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// night is one in the morning in Seoul.
var night = time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC)

func openStore(t testing.TB) *Store {
	t.Helper()
	return openIn(t, t.TempDir())
}

func openIn(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must gives the value of a call that may not fail.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func nightly(name string, after ...string) *job.Job {
	j := &job.Job{
		ID: job.ID{Project: "lake", Name: name}, Source: job.Source{File: "belfry.yaml", Line: 3},
		Command:  job.Command{Text: "run " + name, Shell: "/bin/sh"},
		Settings: &job.Settings{Owner: "alice", Zone: time.UTC, Overlap: job.OverlapSkip, After: after},
	}
	s := crontab.MustParseSchedule("0 16 * * *")
	if len(after) == 0 {
		j.Schedules = []crontab.Schedule{s}
	} else {
		j.Inherited = []job.Rhythm{{Schedules: []crontab.Schedule{s}, Zone: time.UTC}}
	}
	return j
}

// save makes jobs the project's, keeping those that are known by their name.
func save(t testing.TB, s *Store, now time.Time, jobs ...*job.Job) []plan.Job {
	t.Helper()
	known := must(s.KnownJobs(t.Context(), "lake"))(t)
	keys := make([]string, len(jobs))
	for i, j := range jobs {
		for _, k := range known {
			if k.Name == j.Name {
				keys[i] = k.Key
			}
		}
	}
	return must(s.SaveJobs(t.Context(), "lake", jobs, keys, now))(t)
}

// due is the decision that all jobs fire at an instant; the parents of a job
// that comes after others are those that stand before it.
func due(at time.Time, jobs ...plan.Job) plan.Decision {
	d := plan.Decision{Clock: plan.Clock{Mark: at, High: at, Boot: "boot"}, Write: true}
	place := map[string]int{}
	for i, j := range jobs {
		r := plan.Run{Job: j, Key: "t/" + at.Format(time.RFC3339) + "/0", Cause: plan.Scheduled, FiresAt: at, FiresUntil: at, Count: 1, Named: at}
		for _, parent := range j.After {
			r.Parents = append(r.Parents, place[parent])
			r.Cause, r.Verdict, r.Reason = plan.After, plan.Waits, plan.DependencyReason
		}
		place[j.Name] = i
		d.Runs = append(d.Runs, r)
	}
	return d
}

func record(t *testing.T, s *Store, d plan.Decision, now time.Time) {
	t.Helper()
	if _, err := s.Record(t.Context(), d, now); err != nil {
		t.Fatal(err)
	}
}

// family records one firing of jobs and gives their runs by the job's name.
func family(t *testing.T, s *Store, jobs ...*job.Job) map[string]string {
	t.Helper()
	record(t, s, due(night, save(t, s, night.Add(-time.Hour), jobs...)...), night)
	ids := map[string]string{}
	for _, r := range must(s.Runs(t.Context(), RunFilter{}))(t) {
		ids[r.Name] = r.ID
	}
	if len(ids) != len(jobs) {
		t.Fatalf("%d runs were recorded for %d jobs", len(ids), len(jobs))
	}
	return ids
}

func read(t *testing.T, s *Store, id string) run.Run {
	t.Helper()
	return must(s.Run(t.Context(), id))(t)
}

func wantState(t *testing.T, s *Store, id string, state run.State, reason string) {
	t.Helper()
	if r := read(t, s, id); r.State != state || r.Reason != reason {
		t.Errorf("run of %s is %s (%q), want %s (%q)", r.Name, r.State, r.Reason, state, reason)
	}
}

func claim(t *testing.T, s *Store, id string, at time.Time) run.Run {
	t.Helper()
	r := read(t, s, id)
	claimed := must(s.Claim(t.Context(), []run.Claim{claimOf(r, at)}))(t)
	if !claimed[0] {
		t.Fatalf("run %s of %s was not claimed: it is %s", id, r.Name, r.State)
	}
	return read(t, s, id)
}

func claimOf(r run.Run, at time.Time) run.Claim {
	return run.Claim{
		Run: r.ID, Attempt: r.Attempt + 1, Token: r.Token + 1, Node: "node", Boot: "boot", At: at,
		Definition: nightly(r.Name).Definition(), Targets: []job.Target{{From: "a", To: "/lake/" + r.Name}},
	}
}

// move makes one move, and gives run.ErrConflict when it is void.
func move(ctx context.Context, s *Store, m run.Move) error {
	void, err := s.Move(ctx, m)
	if err == nil && void[0] {
		return run.ErrConflict
	}
	return err
}

// end takes a queued run through an attempt to a state.
func end(t *testing.T, s *Store, id string, to run.State) {
	t.Helper()
	r := claim(t, s, id, night.Add(time.Second))
	check(t, move(t.Context(), s, run.Move{Run: id, From: run.Running, To: to, Token: r.Token, At: night.Add(time.Minute)}))
}

func write(t testing.TB, s *Store, query string, args ...any) {
	t.Helper()
	check(t, s.update(t.Context(), "set the scene", func(tx *tx) error {
		_, err := tx.exec(query, args...)
		return err
	}))
}

func pragma(t *testing.T, db *prepared, name string) string {
	t.Helper()
	return must(one(context.Background(), db, value[string], "PRAGMA "+name))(t)
}

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/run"
)

func TestTheSameFiringIsRecordedOnce(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	d := due(night, save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b", "a"))...)
	for range 3 {
		record(t, s, d, night)
	}
	if runs := must(s.Runs(t.Context(), RunFilter{}))(t); len(runs) != 2 {
		t.Errorf("there are %d runs, want 2", len(runs))
	}
}

func TestAFiringIsReadAsItWasRecorded(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night.Add(-time.Hour), nightly("a"))[0]
	named := time.Date(2026, 7, 10, 1, 0, 0, 0, time.UTC)
	d := plan.Decision{Clock: plan.Clock{Mark: night, High: night}, Runs: []plan.Run{
		{Job: j, Key: "t/1", Cause: plan.CatchUp, Reason: "it slept", FiresAt: night, FiresUntil: night, Count: 1, Named: named},
		{Job: j, Key: "t/2", Cause: plan.Scheduled, Verdict: plan.Missed, Reason: "down", FiresAt: night.Add(-48 * time.Hour), FiresUntil: night.Add(-24 * time.Hour), Count: 200, Named: named},
		{Job: j, Key: "t/3", Cause: plan.Scheduled, Verdict: plan.Skipped, Reason: "paused", FiresAt: night.Add(-time.Hour), Count: 1, Named: named},
	}}
	now := night.Add(3 * time.Millisecond)
	record(t, s, d, now)
	runs := must(s.Runs(t.Context(), RunFilter{}))(t)
	want := []run.Run{
		{State: run.Queued, Cause: plan.CatchUp, Reason: "it slept", FiresAt: night, FiresUntil: night, Count: 1},
		{State: run.Skipped, Cause: plan.Scheduled, Reason: "paused", FiresAt: night.Add(-time.Hour), FiresUntil: night.Add(-time.Hour), Count: 1, EndedAt: now},
		{State: run.Missed, Cause: plan.Scheduled, Reason: "down", FiresAt: night.Add(-48 * time.Hour), FiresUntil: night.Add(-24 * time.Hour), Count: 200, EndedAt: now},
	}
	for i, w := range want {
		w.ID, w.Key, w.Job, w.Project, w.Name = runs[i].ID, runs[i].Key, j.Key, "lake", "a"
		w.Definition, w.Named, w.QueuedAt = j.Definition().Hash, named, now
		if got := fmt.Sprintf("%+v", runs[i]); got != fmt.Sprintf("%+v", w) {
			t.Errorf("got  %s\nwant %+v", got, w)
		}
	}
	text := must(s.Definition(t.Context(), runs[0].Definition))(t)
	if string(text) != string(j.Definition().JSON) {
		t.Errorf("the definition is %s", text)
	}
	if runs[0].Date() != "2026-07-10" {
		t.Errorf("its date is %s", runs[0].Date())
	}
}

func TestRecordIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	jobs := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	broken := due(night, jobs...)
	broken.Expired = []plan.Expired{{Run: "of nobody"}}
	badClock := due(night, jobs[0], plan.Job{Job: nightly("stranger"), Key: "of nobody"})
	for _, c := range []struct {
		why string
		ctx context.Context
		d   plan.Decision
	}{
		{"its context has ended", cancelled, due(night, jobs...)},
		{"a run that expires is not queued", t.Context(), broken},
		{"a job does not exist", t.Context(), badClock},
	} {
		if _, err := s.Record(c.ctx, c.d, night); err == nil {
			t.Errorf("%s: it was recorded", c.why)
		}
		if runs := must(s.Runs(t.Context(), RunFilter{}))(t); len(runs) > 0 {
			t.Errorf("%s: %d runs were recorded", c.why, len(runs))
		}
		if clock := must(s.Clock(t.Context()))(t); !clock.Mark.IsZero() {
			t.Errorf("%s: the clock was written: %+v", c.why, clock)
		}
	}
	record(t, s, due(night, jobs...), night)
}

func TestFiringsQueuedTogetherWaitInTheirOrder(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	var jobs []*job.Job
	for i := range 20 {
		jobs = append(jobs, nightly(fmt.Sprintf("j%02d", i)))
	}
	saved := save(t, s, night.Add(-time.Hour), jobs...)
	first, second := due(night, saved...), due(night.Add(time.Minute), saved...)
	d := first
	d.Runs = nil
	for i := range first.Runs { // as the planner lists them: by job
		d.Runs = append(d.Runs, first.Runs[i], second.Runs[i])
	}
	record(t, s, d, night.Add(2*time.Minute))
	var got, want []string
	for _, r := range must(s.Waiting(t.Context()))(t) {
		got = append(got, fmt.Sprint(r.Name, r.FiresAt))
	}
	for _, at := range []time.Time{night, night.Add(time.Minute)} {
		for _, j := range jobs {
			want = append(want, fmt.Sprint(j.Name, at))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestExpiredRunsAreMissedWithTheDecisionThatSaysSo(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b", "a"))
	record(t, s, plan.Decision{Clock: plan.Clock{Mark: night, High: night}, Expired: []plan.Expired{{Run: ids["a"], Reason: "too late"}}}, night)
	wantState(t, s, ids["a"], run.Missed, "too late")
	wantState(t, s, ids["b"], run.Skipped, "dependency: a ended missed (run "+ids["a"]+")")
}

func TestAChildOfAParentThatWasRecordedBeforeIsNotForgotten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parent run.State
		want   run.State
		reason string
	}{
		{run.Queued, run.Queued, plan.DependencyReason},
		{run.Running, run.Queued, plan.DependencyReason},
		{run.Succeeded, run.Queued, ""},
		{run.Failed, run.Skipped, "dependency: a ended failed (run %s)"},
	} {
		t.Run(string(c.parent), func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			ids := family(t, s, nightly("a"))
			switch c.parent {
			case run.Queued:
			case run.Running:
				claim(t, s, ids["a"], night)
			default:
				end(t, s, ids["a"], c.parent)
			}
			record(t, s, due(night, save(t, s, night, nightly("a"), nightly("b", "a"))...), night)
			child := must(s.Runs(t.Context(), RunFilter{}))(t)
			i := slices.IndexFunc(child, func(r run.Run) bool { return r.Name == "b" })
			if i < 0 {
				t.Fatal("it was not recorded")
			}
			if got := read(t, s, child[i].ID); !slices.Equal(got.Parents, []string{ids["a"]}) {
				t.Errorf("its parents are %v, want %s", got.Parents, ids["a"])
			}
			reason := c.reason
			if strings.Contains(reason, "%s") {
				reason = fmt.Sprintf(reason, ids["a"])
			}
			wantState(t, s, child[i].ID, c.want, reason)
		})
	}
}

// planned is a run of a decision as the planner makes it.
func planned(j plan.Job, at time.Time, verdict plan.Verdict) plan.Run {
	r := plan.Run{Job: j, Key: "t/" + at.Format(time.RFC3339) + "/0", Cause: plan.Scheduled, FiresAt: at, FiresUntil: at, Count: 1, Named: at, Verdict: verdict}
	switch verdict {
	case plan.Waits:
		r.Reason = plan.DependencyReason
	case plan.Missed:
		r.Reason = "nobody was there"
	}
	return r
}

func runOf(t *testing.T, s *Store, name string, at time.Time) run.Run {
	t.Helper()
	for _, r := range must(s.Runs(t.Context(), RunFilter{Covering: at}))(t) {
		if r.Name == name {
			return read(t, s, r.ID)
		}
	}
	t.Fatalf("%s has no run at %s", name, at)
	return run.Run{}
}

func TestARunWaitsForParentsThatWereRecordedBefore(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	jobs := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("many"), nightly("gone"), nightly("c", "a", "many", "gone"), nightly("alone", "gone"))
	clock := plan.Clock{Mark: night, High: night}
	many := planned(jobs[1], night.Add(-time.Hour), plan.Missed)
	many.Count, many.FiresUntil = 200, night.Add(time.Hour)
	record(t, s, plan.Decision{Clock: clock, Runs: []plan.Run{planned(jobs[0], night, plan.Due), many}}, night)
	later := night.Add(2 * time.Hour)
	c, alone := planned(jobs[3], later, plan.Waits), planned(jobs[4], later, plan.Waits)
	c.Earlier = []plan.Ref{{Job: jobs[0].Key, FiresAt: night}, {Job: jobs[1].Key, FiresAt: night}, {Job: jobs[1].Key, FiresAt: night.Add(time.Minute)}, {Job: jobs[2].Key, FiresAt: night}}
	alone.Earlier = []plan.Ref{{Job: jobs[2].Key, FiresAt: night}}
	record(t, s, plan.Decision{Clock: clock, Runs: []plan.Run{c, alone}}, later)
	a, row := runOf(t, s, "a", night), runOf(t, s, "many", night)
	got := runOf(t, s, "c", later)
	if want := []string{a.ID, row.ID}; !slices.Equal(got.Parents, want) {
		t.Errorf("its parents are %v, want %v: each row once, and none for a firing before its job was there", got.Parents, want)
	}
	wantState(t, s, got.ID, run.Skipped, "dependency: many ended missed (run "+row.ID+")")
	wantState(t, s, runOf(t, s, "alone", later).ID, run.Queued, "")
}

func TestARunWithATimeOfItsOwnWaitsForParentsToCome(t *testing.T) {
	t.Parallel()
	until := night.Add(3 * time.Hour)
	for _, c := range []struct {
		why    string
		late   plan.Verdict // of the parent that comes later
		ends   string       // how it ends
		want   run.State
		reason string
	}{
		{"it comes and succeeds", plan.Due, "succeeded", run.Queued, ""},
		{"it comes and fails", plan.Due, "failed", run.Skipped, "dependency: late ended failed"},
		{"it comes and goes on", plan.Due, "", run.Queued, plan.DependencyReason},
		{"it is missed", plan.Missed, "", run.Skipped, "dependency: late ended missed"},
		{"it was taken away", -1, "", run.Queued, ""},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			jobs := save(t, s, night.Add(-time.Hour), nightly("early"), nightly("late"), nightly("own", "early", "late"))
			clock := plan.Clock{Mark: night, High: night}
			own := planned(jobs[2], night, plan.Waits)
			own.Parents, own.WaitsUntil = []int{0}, until
			record(t, s, plan.Decision{Clock: clock, Runs: []plan.Run{planned(jobs[0], night, plan.Due), own}}, night)
			id := runOf(t, s, "own", night).ID
			end(t, s, runOf(t, s, "early", night).ID, run.Succeeded)
			wantState(t, s, id, run.Queued, plan.DependencyReason)
			waits := must(s.Waits(t.Context()))(t)
			if len(waits) != 1 || waits[0].Run != id || !waits[0].Until.Equal(until) {
				t.Fatalf("waiting are %v, want the run until %s", waits, until)
			}

			d := plan.Decision{Clock: clock, Released: []string{id}}
			if c.late >= 0 {
				d.Runs = []plan.Run{planned(jobs[1], until, c.late)}
				d.Links = []plan.Link{{Child: plan.Ref{Job: jobs[2].Key, FiresAt: night}, Parent: 0}}
			}
			record(t, s, d, until)
			if waits := must(s.Waits(t.Context()))(t); len(waits) != 0 {
				t.Errorf("still waiting are %v", waits)
			}
			if c.ends != "" {
				wantState(t, s, id, run.Queued, plan.DependencyReason)
				end(t, s, runOf(t, s, "late", until).ID, run.State(c.ends))
			}
			if r := read(t, s, id); r.State != c.want || !strings.HasPrefix(r.Reason, c.reason) || c.reason == "" && r.Reason != "" {
				t.Errorf("it is %s (%q), want %s (%q)", r.State, r.Reason, c.want, c.reason)
			}
			if queued := must(s.QueuedFirings(t.Context()))(t); slices.ContainsFunc(queued, func(q plan.Queued) bool { return q.Run == id }) {
				t.Error("it would be judged as a firing that comes late, though it had to wait")
			}
		})
	}
}

func TestAParentIsNotTiedToARunThatHasNotWaited(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	jobs := save(t, s, night.Add(-time.Hour), nightly("late"), nightly("own", "late"))
	clock := plan.Clock{Mark: night, High: night}
	record(t, s, plan.Decision{Clock: clock, Runs: []plan.Run{planned(jobs[1], night, plan.Due)}}, night)
	child := plan.Ref{Job: jobs[1].Key, FiresAt: night}
	none := plan.Ref{Job: jobs[1].Key, FiresAt: night.Add(-time.Hour)}
	record(t, s, plan.Decision{Clock: clock, Runs: []plan.Run{planned(jobs[0], night.Add(time.Hour), plan.Due)}, Links: []plan.Link{{Child: child}, {Child: none}}}, night.Add(time.Hour))
	if r := runOf(t, s, "own", night); len(r.Parents) != 0 || r.Reason != "" {
		t.Errorf("it has %v as parents and waits for %q", r.Parents, r.Reason)
	}
}

func TestClaimTakesARunOnceAndOnlyUnderTheTokenItFollows(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"), nightly("c"))
	claim(t, s, ids["b"], night)
	a, b, c := read(t, s, ids["a"]), read(t, s, ids["b"]), read(t, s, ids["c"])
	stale := claimOf(c, night)
	stale.Token = 7
	unknown := claimOf(a, night)
	unknown.Run = "of nobody"
	at := night.Add(time.Second)
	claimed := must(s.Claim(t.Context(), []run.Claim{claimOf(a, at), claimOf(b, at), stale, unknown, claimOf(a, at)}))(t)
	if !slices.Equal(claimed, []bool{true, false, false, false, false}) {
		t.Fatalf("claimed are %v, want the first only", claimed)
	}
	got := read(t, s, a.ID)
	if got.State != run.Running || got.Attempt != 1 || got.Token != 1 || got.Node != "node" || !got.StartedAt.Equal(at) {
		t.Errorf("a is %+v", got)
	}
	wantState(t, s, ids["c"], run.Queued, "")
	attempts := must(s.Attempts(t.Context(), a.ID))(t)
	if len(attempts) != 1 || attempts[0].Number != 1 || attempts[0].Token != 1 || attempts[0].Boot != "boot" || !attempts[0].StartedAt.Equal(at) || !attempts[0].EndedAt.IsZero() {
		t.Errorf("its attempts are %+v", attempts)
	}
	if targets := must(s.Targets(t.Context(), a.ID, 1))(t); !cmp.Equal(targets, []job.Target{{From: "a", To: "/lake/a"}}) {
		t.Errorf("its targets are %+v", targets)
	}
	if _, err := s.Targets(t.Context(), a.ID, 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("the targets of an attempt that is not there give %v", err)
	}
	if _, err := s.Attempt(t.Context(), a.ID, 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("an attempt that is not there gives %v", err)
	}
}

func TestMoveRefusesEveryTransitionThatIsNotInTheTable(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	for _, from := range run.States() {
		for _, to := range run.States() {
			write(t, s, `UPDATE run SET state = $1, reason = '', token = 3 WHERE id = $2`, from, id)
			err := move(t.Context(), s, run.Move{Run: id, From: from, To: to, Token: 3, At: night})
			got := read(t, s, id)
			switch {
			case from.CanBecome(to) && (err != nil || got.State != to):
				t.Errorf("%s → %s: %v, and it is %s", from, to, err, got.State)
			case !from.CanBecome(to) && (err == nil || got.State != from):
				t.Errorf("%s → %s was not refused: it is %s", from, to, got.State)
			}
			if err == nil && got.State.Finished() == got.EndedAt.IsZero() {
				t.Errorf("%s → %s: it ended at %q", from, to, got.EndedAt)
			}
		}
	}
}

func TestMoveGivesAConflictWhenTheRunIsNotAsExpected(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	r := claim(t, s, id, night)
	item := outbox.Item{Run: id, Kind: outbox.Notice, Payload: json.RawMessage(`{}`)}
	for _, c := range []struct {
		why string
		m   run.Move
	}{
		{"an old token", run.Move{Run: id, From: run.Running, To: run.Failed, Token: r.Token - 1}},
		{"a token of the future", run.Move{Run: id, From: run.Running, To: run.Failed, Token: r.Token + 1}},
		{"another state", run.Move{Run: id, From: run.Queued, To: run.Cancelled}},
		{"no such run", run.Move{Run: "of nobody", From: run.Running, To: run.Failed, Token: r.Token}},
	} {
		c.m.At, c.m.Owed = night, []outbox.Item{item}
		if c.m.Token == 0 && c.m.From == run.Running {
			c.m.Token = 99 // 0 means any
		}
		if err := move(t.Context(), s, c.m); !errors.Is(err, run.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", c.why, err)
		}
	}
	wantState(t, s, id, run.Running, "")
	if items := must(s.ItemsOf(t.Context(), id))(t); len(items) > 0 {
		t.Errorf("a conflict owes %v", items)
	}
}

func TestMoveWritesTheAttemptWhatIsOwedAndTheChildrenTogether(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b", "a"))
	r := claim(t, s, ids["a"], night)
	code := 3
	ended := run.Attempt{
		Run: r.ID, Number: 1, EndedAt: night.Add(time.Minute), ExitCode: &code, Reason: "exit status 3",
		UserCPU: 2 * time.Second, SystemCPU: time.Second, MaxRSS: 1 << 20, MaxRSSExact: true,
	}
	m := run.Move{
		Run: r.ID, From: run.Running, To: run.Failed, Token: r.Token, Reason: "exit status 3", At: night.Add(time.Minute), Ended: &ended,
		Owed: []outbox.Item{{Run: r.ID, Kind: outbox.Notice, Payload: json.RawMessage(`{"to":"a"}`)}, {Run: "of nobody", Kind: outbox.Notice, Payload: json.RawMessage(`{}`)}},
	}
	if err := move(t.Context(), s, m); err == nil {
		t.Fatal("an item of a run that does not exist was owed")
	}
	wantState(t, s, ids["a"], run.Running, "")
	wantState(t, s, ids["b"], run.Queued, plan.DependencyReason)
	if a := must(s.Attempt(t.Context(), r.ID, 1))(t); !a.EndedAt.IsZero() || a.ExitCode != nil {
		t.Errorf("half of it was written: %+v", a)
	}

	m.Owed = m.Owed[:1]
	check(t, move(t.Context(), s, m))
	wantState(t, s, ids["a"], run.Failed, "exit status 3")
	wantState(t, s, ids["b"], run.Skipped, "dependency: a ended failed (run "+r.ID+")")
	a := must(s.Attempt(t.Context(), r.ID, 1))(t)
	if a.ExitCode == nil || *a.ExitCode != 3 || !a.EndedAt.Equal(ended.EndedAt) || a.UserCPU != ended.UserCPU || a.SystemCPU != ended.SystemCPU || a.MaxRSS != 1<<20 || !a.MaxRSSExact || a.Reason != "exit status 3" {
		t.Errorf("the attempt is %+v", a)
	}
	if got := read(t, s, r.ID); got.ExitCode == nil || *got.ExitCode != 3 || !got.EndedAt.Equal(m.At) {
		t.Errorf("the run is %+v", got)
	}
	if items := must(s.ItemsOf(t.Context(), r.ID))(t); len(items) != 1 || string(items[0].Payload) != `{"to":"a"}` || items[0].State != outbox.Pending {
		t.Errorf("owed are %+v", items)
	}
}

func TestARetryForgetsTheExitOfTheAttemptBefore(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	r := claim(t, s, id, night)
	code := 1
	check(t, move(t.Context(), s, run.Move{
		Run: id, From: run.Running, To: run.Queued, Token: r.Token, Reason: "retry", At: night, NotBefore: night.Add(time.Minute),
		Ended: &run.Attempt{Run: id, Number: 1, EndedAt: night, ExitCode: &code},
	}))
	waits := read(t, s, id)
	if waits.State != run.Queued || !waits.NotBefore.Equal(night.Add(time.Minute)) || waits.ExitCode == nil || !waits.EndedAt.IsZero() {
		t.Errorf("it waits as %+v", waits)
	}
	again := claim(t, s, id, night.Add(time.Minute))
	if again.Attempt != 2 || again.Token != 2 || again.ExitCode != nil || !again.NotBefore.IsZero() || !again.StartedAt.Equal(night) {
		t.Errorf("its second attempt is %+v", again)
	}
}

func TestAPublishThatEndsIsWrittenWithItsRun(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	item := publishing(t, s, id)
	item.State, item.Result = outbox.Sent, json.RawMessage(`{"targets":[]}`)
	check(t, move(t.Context(), s, run.Move{Run: id, From: run.Publishing, To: run.Succeeded, Token: 1, At: night, Settled: &item}))
	if r := read(t, s, id); r.State != run.Succeeded || string(r.Published) != `{"targets":[]}` {
		t.Errorf("the run is %+v", r)
	}
	if got := must(s.ItemsOf(t.Context(), id))(t)[0]; got.State != outbox.Sent || string(got.Result) != `{"targets":[]}` {
		t.Errorf("the item is %+v", got)
	}
}

func TestAPublishOfARunThatHasMovedOnLeavesItsTargets(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"))
	first, second := publishing(t, s, ids["a"]), publishing(t, s, ids["b"])
	if !must(s.Begin(t.Context(), first.ID))(t) || must(s.Begin(t.Context(), second.ID))(t) {
		t.Fatal("the first should be sent, and the second wait")
	}
	check(t, move(t.Context(), s, run.Move{Run: ids["a"], From: run.Publishing, To: run.Cancelled, Token: 1, At: night}))
	first.State = outbox.Sent
	err := move(t.Context(), s, run.Move{Run: ids["a"], From: run.Publishing, To: run.Succeeded, Token: 1, At: night, Settled: &first})
	if !errors.Is(err, run.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	wantState(t, s, ids["a"], run.Cancelled, "")
	if !must(s.Begin(t.Context(), second.ID))(t) {
		t.Error("the target is still taken")
	}
}

func TestChildrenFollowTheirParents(t *testing.T) {
	t.Parallel()
	// c comes after a and b, d after c.
	for _, c := range []struct {
		why        string
		steps      []string // job=state
		c, d       run.State
		cBy, dBy   string // what the reason names
		cFree      bool   // of its dependency
		then       []string
		thenC      run.State
		thenD      run.State
		thenDWaits bool
	}{
		{why: "one parent is not enough", steps: []string{"a=succeeded"}, c: run.Queued, d: run.Queued},
		{why: "the last parent starts it", steps: []string{"a=succeeded", "b=succeeded"}, c: run.Queued, cFree: true, d: run.Queued},
		{why: "in any order", steps: []string{"b=succeeded", "a=succeeded"}, c: run.Queued, cFree: true, d: run.Queued},
		{why: "a failure skips it and its children", steps: []string{"a=failed"}, c: run.Skipped, cBy: "a ended failed", d: run.Skipped, dBy: "c ended skipped"},
		{why: "so does a loss", steps: []string{"b=lost"}, c: run.Skipped, cBy: "b ended lost", d: run.Skipped, dBy: "c ended skipped"},
		{why: "so does a stop", steps: []string{"a=succeeded", "b=cancelled"}, c: run.Skipped, cBy: "b ended cancelled", d: run.Skipped, dBy: "c ended skipped"},
		{
			why: "a parent that succeeds after all starts it after all", steps: []string{"a=failed", "b=succeeded"},
			c: run.Skipped, cBy: "a ended failed", d: run.Skipped, dBy: "c ended skipped",
			then: []string{"a=succeeded"}, thenC: run.Queued, thenD: run.Skipped,
		},
		{
			why: "and its children when it succeeds", steps: []string{"a=failed", "b=succeeded"},
			c: run.Skipped, cBy: "a ended failed", d: run.Skipped, dBy: "c ended skipped",
			then: []string{"a=succeeded", "c=succeeded"}, thenC: run.Succeeded, thenD: run.Queued,
		},
		{
			why: "but not while the other one has failed", steps: []string{"a=failed", "b=failed"},
			c: run.Skipped, cBy: "a ended failed", d: run.Skipped, dBy: "c ended skipped",
			then: []string{"a=succeeded"}, thenC: run.Skipped, thenD: run.Skipped,
		},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			ids := family(t, s, nightly("a"), nightly("b"), nightly("c", "a", "b"), nightly("d", "c"))
			step := func(step string) {
				name, to, _ := strings.Cut(step, "=")
				if r := read(t, s, ids[name]); r.State.Finished() { // a retry by hand
					check(t, move(t.Context(), s, run.Move{Run: r.ID, From: r.State, To: run.Queued, At: night}))
				}
				end(t, s, ids[name], run.State(to))
			}
			for _, text := range c.steps {
				step(text)
			}
			gotC, gotD := read(t, s, ids["c"]), read(t, s, ids["d"])
			if gotC.State != c.c || gotD.State != c.d || !strings.Contains(gotC.Reason, c.cBy) || !strings.Contains(gotD.Reason, c.dBy) {
				t.Errorf("c is %s (%q) and d %s (%q)", gotC.State, gotC.Reason, gotD.State, gotD.Reason)
			}
			if free := gotC.Reason == ""; free != c.cFree {
				t.Errorf("c waits for %q", gotC.Reason)
			}
			waiting := must(s.Waiting(t.Context()))(t)
			if has := slices.ContainsFunc(waiting, func(r run.Run) bool { return r.ID == ids["c"] }); has != c.cFree {
				t.Errorf("c may start: %v, want %v", has, c.cFree)
			}
			for _, text := range c.then {
				step(text)
			}
			if len(c.then) == 0 {
				return
			}
			gotC, gotD = read(t, s, ids["c"]), read(t, s, ids["d"])
			if gotC.State != c.thenC || gotD.State != c.thenD {
				t.Errorf("then c is %s (%q) and d %s (%q)", gotC.State, gotC.Reason, gotD.State, gotD.Reason)
			}
			if gotC.State == run.Queued && (gotC.Reason != "" || !gotC.EndedAt.IsZero()) {
				t.Errorf("c is back as %+v", gotC)
			}
		})
	}
}

func TestAJobThatWasSkippedForAnotherReasonIsNotStartedByItsParent(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b", "a"))
	write(t, s, `UPDATE run SET state = 'skipped', reason = 'paused' WHERE id = $1`, ids["b"])
	end(t, s, ids["a"], run.Succeeded)
	wantState(t, s, ids["b"], run.Skipped, "paused")
}

func TestRunsAreFilteredAndTheNewestFiringComesFirst(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	jobs := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b"))
	for i := range 3 {
		record(t, s, due(night.Add(time.Duration(i)*24*time.Hour), jobs...), night)
	}
	d := due(night, jobs[0])
	d.Runs[0].Key, d.Runs[0].FiresAt, d.Runs[0].FiresUntil, d.Runs[0].Count, d.Runs[0].Verdict = "t/many", night.Add(-9*time.Hour), night.Add(-2*time.Hour), 150, plan.Missed
	record(t, s, d, night)
	for _, c := range []struct {
		filter RunFilter
		want   string // name+days, newest first
		why    string
	}{
		{RunFilter{}, "b2 a2 b1 a1 b0 a0 a-", "all; within an instant the last of the file first"},
		{RunFilter{Limit: 2}, "b2 a2", "the newest"},
		{RunFilter{Job: jobs[0].Key}, "a2 a1 a0 a-", "one job"},
		{RunFilter{Job: jobs[0].Key, Limit: 1}, "a2", "its newest"},
		{RunFilter{State: run.Missed}, "a-", "one state"},
		{RunFilter{Job: jobs[1].Key, State: run.Missed}, "", "none"},
		{RunFilter{Covering: night}, "b0 a0", "an instant"},
		{RunFilter{Job: jobs[0].Key, Covering: night.Add(-9 * time.Hour)}, "a-", "the first of many"},
		{RunFilter{Job: jobs[0].Key, Covering: night.Add(-5 * time.Hour)}, "a-", "in the middle of many"},
		{RunFilter{Job: jobs[0].Key, Covering: night.Add(-2 * time.Hour)}, "a-", "the last of many"},
		{RunFilter{Job: jobs[0].Key, Covering: night.Add(-time.Hour)}, "", "after the last of many"},
	} {
		var got []string
		for _, r := range must(s.Runs(t.Context(), c.filter))(t) {
			day := fmt.Sprint(int(r.FiresAt.Sub(night).Hours()) / 24)
			if r.Count > 1 {
				day = "-"
			}
			got = append(got, r.Name+day)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %+v gives %v, want %s", c.why, c.filter, got, c.want)
		}
	}
}

func TestRunsByPrefixTellsOneFromSeveral(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night, nightly("a"))[0]
	for _, id := range []string{"01A00000000000000000000000", "01AZZZZZZZZZZZZZZZZZZZZZZZ", "01B00000000000000000000000"} {
		check(t, s.AddRuns(t.Context(), []run.Run{{ID: id, Job: j.Key, Key: "m/" + id, Cause: plan.Manual, State: run.Queued, FiresAt: night, FiresUntil: night, Count: 1, Named: night, QueuedAt: night}},
			[]job.Definition{j.Definition()}, nil))
	}
	for _, c := range []struct {
		prefix string
		want   int
	}{
		{"", 3},
		{"0", 3},
		{"01A", 2},
		{"01AZ", 1},
		{"01A0", 1},
		{"01B", 1},
		{"01C", 0},
		{"1", 0},
		{"01AZZZZZZZZZZZZZZZZZZZZZZZ", 1},
		{"01AZZZZZZZZZZZZZZZZZZZZZZZZ", 0},
		{"01A%", 0},
		{"TOP-TRACKS", 0},
		{"~", 0},
		{"종", 0},
	} {
		if got := must(s.RunsByPrefix(t.Context(), c.prefix))(t); len(got) != c.want {
			t.Errorf("%q gives %d runs, want %d", c.prefix, len(got), c.want)
		}
	}
}

func TestAddRunsIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night, nightly("a"))[0]
	first := run.Run{ID: run.NewID(night), Job: j.Key, Key: "m/1", Cause: plan.Manual, State: run.Queued, FiresAt: night, FiresUntil: night, Count: 1, Named: night, QueuedAt: night}
	child := first
	child.ID, child.Key, child.Cause, child.Parents = run.NewID(night), "m/2", plan.After, []string{"of nobody"}
	definitions := []job.Definition{j.Definition(), j.Definition()}
	if err := s.AddRuns(t.Context(), []run.Run{first, child}, definitions, nil); err == nil {
		t.Error("a run with a parent that does not exist was recorded")
	}
	if runs := must(s.Runs(t.Context(), RunFilter{}))(t); len(runs) > 0 {
		t.Errorf("half of it was recorded: %v", runs)
	}
	child.Parents = []string{first.ID}
	check(t, s.AddRuns(t.Context(), []run.Run{first, child}, definitions, nil))
	if got := read(t, s, child.ID); !slices.Equal(got.Parents, child.Parents) {
		t.Errorf("its parents are %v", got.Parents)
	}
}

func TestQueuedFiringsAreThoseThatWaitForTheirFirstAttempt(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("waits"), nightly("child", "waits"), nightly("runs"), nightly("retries"), nightly("ended"), nightly("byhand"))
	claim(t, s, ids["runs"], night)
	end(t, s, ids["retries"], run.Queued)
	end(t, s, ids["ended"], run.Succeeded)
	write(t, s, `UPDATE run SET cause = 'manual', asked_at = queued_at WHERE id = $1`, ids["byhand"])
	got := must(s.QueuedFirings(t.Context()))(t)
	asked := read(t, s, ids["byhand"])
	want := []plan.Queued{
		{Run: ids["waits"], Job: read(t, s, ids["waits"]).Job, FiresAt: night},
		{Run: asked.ID, Job: asked.Job, FiresAt: night, AskedAt: asked.QueuedAt},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnfinishedCountsWhatAnOwnerHasToWaitFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why    string
		state  run.State
		queued time.Duration // after the owner began
		tries  int
		want   int
	}{
		{"it was asked for", run.Queued, 0, 0, 1},
		{"it runs", run.Running, 0, 1, 1},
		{"it is being published", run.Publishing, 0, 1, 1},
		{"it waits for a retry", run.Queued, time.Hour, 1, 1},
		{"a serve left it running: its keeper goes on, and the next owner finds it", run.Running, -time.Hour, 1, 0},
		{"a serve left it queued", run.Queued, -time.Hour, 0, 0},
		{"it has ended", run.Failed, time.Hour, 1, 0},
	} {
		s := openStore(t)
		id := family(t, s, nightly("a"))["a"]
		write(t, s, `UPDATE run SET state = $1, queued_at = $2, attempt = $3 WHERE id = $4`, c.state, night.Add(c.queued).UnixMilli(), c.tries, id)
		if got := must(s.Unfinished(t.Context(), night))(t); got != c.want {
			t.Errorf("%s: %d, want %d", c.why, got, c.want)
		}
	}
}

func TestFailedBeforeAsksTheNewestOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before []run.State // in the order they ended
		want   bool
	}{
		{nil, false},
		{[]run.State{run.Succeeded}, false},
		{[]run.State{run.Failed}, true},
		{[]run.State{run.Lost}, true},
		{[]run.State{run.Failed, run.Succeeded}, false},
		{[]run.State{run.Succeeded, run.Failed}, true},
		{[]run.State{run.Failed, run.Skipped, run.Missed, run.Cancelled}, true},
	} {
		s := openStore(t)
		j := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("other"))
		for i, state := range c.before {
			at := night.Add(time.Duration(i) * time.Hour)
			record(t, s, due(at, j[0]), at)
			r := must(s.Runs(t.Context(), RunFilter{Job: j[0].Key, Limit: 1}))(t)[0]
			write(t, s, `UPDATE run SET state = $1, ended_at = $2 WHERE id = $3`, state, at.UnixMilli(), r.ID)
		}
		at := night.Add(100 * time.Hour)
		record(t, s, due(at, j...), at)
		write(t, s, `UPDATE run SET state = 'failed', ended_at = $1 WHERE job = $2`, at.UnixMilli(), j[1].Key)
		this := must(s.Runs(t.Context(), RunFilter{Job: j[0].Key, Limit: 1}))(t)[0]
		if got := must(s.FailedBefore(t.Context(), this))(t); got != c.want {
			t.Errorf("after %v: %v, want %v", c.before, got, c.want)
		}
		for state, failed := range map[run.State]bool{run.Cancelled: c.want, run.Failed: true, run.Lost: true} {
			again := run.Act{Action: run.ActRetry, Run: this.ID, Detail: run.Was(state)}
			write(t, s, `DELETE FROM audit`)
			check(t, s.Act(t.Context(), again))
			if got := must(s.FailedBefore(t.Context(), this))(t); got != failed {
				t.Errorf("after %v and itself %s: %v, want %v", c.before, state, got, failed)
			}
		}
	}
}

func TestNoteWritesReasonsOfOpenRunsOnly(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"), nightly("c"))
	claim(t, s, ids["b"], night)
	end(t, s, ids["c"], run.Succeeded)
	check(t, s.Note(t.Context(), map[string]string{ids["a"]: "slot: all 1 are taken", ids["b"]: "replaced by run x", ids["c"]: "no"}))
	wantState(t, s, ids["a"], run.Queued, "slot: all 1 are taken")
	wantState(t, s, ids["b"], run.Running, "replaced by run x")
	wantState(t, s, ids["c"], run.Succeeded, "")
}

func TestMovesAreMadeTogetherAndTheVoidOnesSaid(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"), nightly("c"), nightly("d"))
	cancel := func(name string) run.Move {
		return run.Move{Run: ids[name], From: run.Queued, To: run.Cancelled, Reason: "asked", At: night}
	}
	claim(t, s, ids["b"], night)
	void, err := s.Move(t.Context(), cancel("a"), cancel("b"), cancel("c"))
	check(t, err)
	if !slices.Equal(void, []bool{false, true, false}) {
		t.Errorf("void are %v", void)
	}
	wantState(t, s, ids["a"], run.Cancelled, "asked")
	wantState(t, s, ids["b"], run.Running, "")
	wantState(t, s, ids["c"], run.Cancelled, "asked")

	if _, err := s.Move(t.Context(), cancel("d"), run.Move{Run: ids["a"], From: run.Succeeded, To: run.Queued, At: night}); err == nil {
		t.Error("a move that there is not was made")
	}
	wantState(t, s, ids["d"], run.Queued, "")
}

func TestARunThatAPersonHasTriedAgainIsQueuedAnew(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"))
	end(t, s, ids["a"], run.Failed)
	later := night.Add(time.Hour)
	check(t, move(t.Context(), s, run.Move{Run: ids["a"], From: run.Failed, To: run.Queued, At: later, AskedAt: later}))
	r := must(s.Run(t.Context(), ids["a"]))(t)
	if r.State != run.Queued || !r.AskedAt.Equal(later) || !r.QueuedAt.Equal(later) || !r.EndedAt.IsZero() || r.Attempt != 1 {
		t.Errorf("it is %+v", r)
	}
}

func TestLateRunsAreFoundUntilTheyAreTold(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night, nightly("a"))[0]
	minutes := func(n int) time.Time { return night.Add(time.Duration(n) * time.Minute) }
	add := func(id string, start, finish time.Time) {
		t.Helper()
		check(t, s.AddRuns(t.Context(), []run.Run{{
			ID: id, Job: j.Key, Key: id, Cause: plan.Scheduled, State: run.Queued, FiresAt: night, FiresUntil: night, Count: 1, Named: night, QueuedAt: night,
			StartBy: start, FinishBy: finish,
		}}, []job.Definition{j.Definition()}, nil))
	}
	add("A", minutes(10), minutes(60))
	add("B", time.Time{}, minutes(20))
	add("C", minutes(5), time.Time{})
	add("D", time.Time{}, time.Time{})
	want := func(now time.Time, next time.Time, ids ...string) {
		t.Helper()
		late, at, err := s.Late(t.Context(), now)
		check(t, err)
		var got []string
		for _, r := range late {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, ids) || !at.Equal(next) {
			t.Errorf("at %s late are %v and the next is at %s; want %v, %s", now, got, at, ids, next)
		}
	}
	want(night, minutes(5))
	claim(t, s, "C", night) // it has begun
	want(minutes(10), minutes(20), "A")
	check(t, s.Told(t.Context(), []string{"A"}, minutes(10), []outbox.Item{{Run: "A", Kind: outbox.Notice, Payload: []byte("{}")}}))
	want(minutes(10), minutes(20))
	if items := must(s.ItemsOf(t.Context(), "A"))(t); len(items) != 1 {
		t.Errorf("owed are %+v", items)
	}
	want(minutes(60), time.Time{}, "A", "B")
	end(t, s, "B", run.Succeeded) // nobody watches it any more
	want(minutes(60), time.Time{}, "A")
}

func TestTriedTellsWhatBecameOfEachFiringOfARange(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night, nightly("a"))[0]
	n := 0
	add := func(day int, to run.State) {
		t.Helper()
		n++
		id := fmt.Sprintf("%026d", n)
		at := night.AddDate(0, 0, day)
		r := run.Run{ID: id, Job: j.Key, Key: id, Cause: plan.Scheduled, State: run.Queued, FiresAt: at, FiresUntil: at, Count: 1, Named: at, QueuedAt: night}
		if to == run.Missed {
			r.State, r.EndedAt = to, night
		}
		check(t, s.AddRuns(t.Context(), []run.Run{r}, []job.Definition{j.Definition()}, nil))
		if to != run.Missed && to != run.Queued {
			end(t, s, id, to)
		}
	}
	add(0, run.Failed)
	add(0, run.Succeeded)
	add(0, run.Failed) // made again in vain: the day stays made
	add(1, run.Missed)
	add(2, run.Succeeded)
	add(2, run.Missed)
	add(3, run.Failed)
	add(4, run.Failed)
	add(4, run.Queued)
	add(9, run.Failed) // behind the range
	got := must(s.Tried(t.Context(), j.Key, night, night.AddDate(0, 0, 9)))(t)
	want := map[time.Time]run.State{
		night: run.Succeeded, night.AddDate(0, 0, 2): run.Succeeded, night.AddDate(0, 0, 3): run.Failed, night.AddDate(0, 0, 4): run.Queued,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAJobThatIsResumedFiresFromThenOn(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	j := save(t, s, night, nightly("a"))[0]
	later := night.Add(time.Hour)
	if since := must(s.Pause(t.Context(), j.Key, true, later, nil))(t); !since.Equal(night) {
		t.Errorf("paused, it counts from %s", since)
	}
	if since := must(s.Pause(t.Context(), j.Key, false, later, nil))(t); !since.Equal(later) {
		t.Errorf("resumed, it counts from %s", since)
	}
	if since := must(s.Pause(t.Context(), j.Key, false, later.Add(time.Hour), nil))(t); !since.Equal(later) {
		t.Errorf("resumed again, it counts from %s", since)
	}
	if _, err := s.Pause(t.Context(), "nobody", true, later, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a job that is not there: %v", err)
	}
}

func TestADiamondIsSkippedWholeAndItsSiblingsToo(t *testing.T) {
	t.Parallel()
	for _, state := range []run.State{run.Failed, run.Cancelled, run.Lost} {
		s := openStore(t)
		ids := family(t, s, nightly("p"), nightly("a", "p"), nightly("b", "p", "a"), nightly("c", "p"))
		r := claim(t, s, ids["p"], night)
		check(t, move(t.Context(), s, run.Move{Run: r.ID, From: run.Running, To: state, Token: r.Token, At: night}))
		wantState(t, s, ids["p"], state, "")
		for _, name := range []string{"a", "b", "c"} {
			if got := read(t, s, ids[name]); got.State != run.Skipped || !strings.HasPrefix(got.Reason, "dependency: ") {
				t.Errorf("p is %s, and %s is %s (%q)", state, name, got.State, got.Reason)
			}
		}
	}
	s := openStore(t)
	ids := family(t, s, nightly("p"), nightly("a", "p"), nightly("b", "p", "a"), nightly("c", "p"))
	record(t, s, plan.Decision{Expired: []plan.Expired{{Run: ids["p"], Reason: "too late"}}}, night)
	wantState(t, s, ids["p"], run.Missed, "too late")
	for _, name := range []string{"a", "b", "c"} {
		if got := read(t, s, ids[name]); got.State != run.Skipped {
			t.Errorf("p was missed, and %s is %s (%q)", name, got.State, got.Reason)
		}
	}
}

func TestTheLastStatesAreThoseOfTheLastRuns(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	jobs := save(t, s, night.Add(-time.Hour), nightly("a"), nightly("b"), nightly("never"))
	record(t, s, due(night, jobs[:2]...), night)
	record(t, s, due(night.Add(24*time.Hour), jobs[0]), night.Add(24*time.Hour))
	for _, r := range must(s.Runs(t.Context(), RunFilter{Job: jobs[0].Key, Limit: 1}))(t) {
		end(t, s, r.ID, run.Failed)
	}
	last, states := must(s.LastRuns(t.Context()))(t), must(s.LastStates(t.Context()))(t)
	if len(last) != 2 || last[jobs[0].Key].State != run.Failed || !last[jobs[0].Key].FiresAt.Equal(night.Add(24*time.Hour)) || last[jobs[1].Key].State != run.Queued {
		t.Errorf("the last runs are %+v", last)
	}
	for key, r := range last {
		if want, got := (run.Run{ID: r.ID, Job: r.Job, Definition: r.Definition, State: r.State, FiresAt: r.FiresAt}), states[key]; !reflect.DeepEqual(got, want) {
			t.Errorf("in short, the last run is %+v, want %+v", got, want)
		}
	}
	if len(states) != len(last) {
		t.Errorf("%d jobs have a last state, %d a last run", len(states), len(last))
	}
}

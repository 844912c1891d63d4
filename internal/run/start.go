package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"belfry/internal/crash"
	"belfry/internal/proc"
)

// pass starts what may start and says how long nothing will be due.
func (r *Runner) pass(ctx context.Context) time.Duration {
	now := r.o.Now()
	wake := r.tellLate(ctx, now)
	if !r.held.Load() {
		retry, err := r.admit(ctx, now)
		if err != nil {
			r.o.Log.Error("start what waits", "error", err)
			return again
		}
		wake = earlier(wake, retry)
	}
	switch {
	case len(r.doubtful) > 0:
		return again
	case !wake.IsZero():
		return min(max(wake.Sub(now), 0), time.Minute)
	}
	return time.Minute
}

// earlier gives the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// admit carries out what is to become of the runs that wait, and says when the
// next retry is due.
func (r *Runner) admit(ctx context.Context, now time.Time) (time.Time, error) {
	waiting, err := r.o.Store.Waiting(ctx)
	if err != nil {
		return time.Time{}, err
	}
	ours := r.ours(waiting)
	if len(ours) == 0 {
		return time.Time{}, nil
	}
	a := admit(ours, r.running(), r.jobOrWhatItWas(ctx), r.o.Limits(), now)
	if slices.ContainsFunc(a.start, func(run Run) bool { return due(run.StartBy, now) }) {
		r.lookedLate = time.Time{} // once they have begun nobody can tell
		r.tellLate(ctx, now)
	}
	if len(a.end) > 0 {
		if err := r.drop(ctx, ours, a.end); err != nil {
			return a.wake, err
		}
	}
	for _, run := range a.stop {
		r.replace(ctx, run)
	}
	if err := r.claim(ctx, a.start, now); err != nil {
		return a.wake, err
	}
	if len(a.waits) > 0 { // what they wait for is told when nothing waits for that
		if err := r.o.Store.Note(ctx, a.waits); err != nil {
			return a.wake, err
		}
		r.o.Changed()
	}
	return a.wake, nil
}

// ours leaves the waiting runs that we may start.
func (r *Runner) ours(waiting []Run) []Run {
	return slices.DeleteFunc(waiting, func(run Run) bool { return run.Attempt == 0 && run.QueuedAt.Before(r.o.Since) })
}

// running lists the runs with a living attempt.
func (r *Runner) running() []Run {
	return slices.SortedFunc(maps.Values(r.live), func(a, b Run) int { return strings.Compare(a.ID, b.ID) })
}

// drop ends runs that will not be started.
func (r *Runner) drop(ctx context.Context, waiting []Run, moves []Move) error {
	byID := map[string]Run{}
	for _, run := range waiting {
		byID[run.ID] = run
	}
	_, err := r.o.Store.Move(ctx, moves...)
	if err != nil {
		return err
	}
	for _, m := range moves {
		r.o.Log.Info("a run went on", "job", byID[m.Run].Name, "run", m.Run, "state", m.To, "reason", m.Reason)
	}
	r.o.Changed()
	r.Kick() // a run that waited for one of these may start
	return nil
}

// replace ends a running run for another. Why is written down first: its end
// may be seen by the next daemon.
func (r *Runner) replace(ctx context.Context, run Run) {
	if r.told[run.ID] == run.Attempt {
		return // it takes its time
	}
	if r.live[run.ID].Reason != run.Reason {
		if err := r.o.Store.Note(ctx, map[string]string{run.ID: run.Reason}); err != nil {
			r.o.Log.Error("replace a run", "run", run.ID, "error", err)
			return
		}
		r.live[run.ID] = run
	}
	crash.Point(crash.Replaced)
	r.o.Log.Info("replace a run", "job", run.Name, "run", run.ID, "reason", run.Reason)
	if err := r.stop(ctx, run, proc.Stop, run.Reason); err != nil {
		r.o.Log.Error("replace a run", "run", run.ID, "error", err)
		r.doubtful[run.ID] = true // and it is told again
		return
	}
	r.told[run.ID] = run.Attempt
}

// batches are how many runs are claimed and started together: few at first, so
// that the first process is there at once, then so many that the keeper starts
// them while the next are claimed.
var batches = []int{16, 64, 200}

// claim makes the runs ours, durably, and then starts them.
func (r *Runner) claim(ctx context.Context, runs []Run, now time.Time) error {
	for i := 0; len(runs) > 0; i++ {
		n := min(batches[min(i, len(batches)-1)], len(runs))
		if err := r.claimBatch(ctx, runs[:n], now); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

func (r *Runner) claimBatch(ctx context.Context, runs []Run, now time.Time) error {
	claims := r.claims(runs, now)
	crash.Point(crash.Admitted)
	claimed, err := r.o.Store.Claim(ctx, claims)
	if err != nil {
		return fmt.Errorf("claim %d runs: %w", len(claims), err)
	}
	crash.Point(crash.Claimed)
	r.start(ctx, r.claimed(claims, claimed))
	r.o.Changed()
	return nil
}

// claims takes each of the runs for its next attempt.
func (r *Runner) claims(runs []Run, now time.Time) []Claim {
	claims := make([]Claim, 0, len(runs))
	for _, run := range runs {
		j, known := r.job(run)
		if !known {
			continue // removed since it was admitted
		}
		c := Claim{
			run: run, Run: run.ID, Attempt: run.Attempt + 1, Token: run.Token + 1, Node: r.o.Node, Boot: r.o.Boot,
			Definition: r.definitionOf(j.Job), At: now,
		}
		if len(j.Publish) > 0 {
			// An error ends the attempt in start.
			if host, err := r.o.Host.Of(j.Owner); err == nil {
				if env, err := environ(j.Job, run, c.Attempt, r.output(run.ID, c.Attempt), host); err == nil {
					c.Targets, _ = targets(j.Job, env)
				}
			}
		}
		claims = append(claims, c)
	}
	return claims
}

// claimed gives the runs of the claims that were granted: they are ours.
func (r *Runner) claimed(claims []Claim, granted []bool) []Run {
	var ours []Run
	for i, c := range claims {
		if granted[i] {
			run := c.claimed()
			r.live[run.ID] = run
			ours = append(ours, run)
		}
	}
	return ours
}

// start hands claimed runs to the keeper, which takes each attempt only once.
func (r *Runner) start(ctx context.Context, runs []Run) {
	list := make([]beginning, len(runs))
	for i, run := range runs {
		list[i] = r.ready(ctx, run)
	}
	specs := specsOf(list)
	r.begin(ctx, list, func(ctx context.Context) error { return r.o.Procs.Start(ctx, specs) })
}

// begin has attempts started.
func (r *Runner) begin(ctx context.Context, list []beginning, start func(ctx context.Context) error) {
	if len(list) == 0 {
		return
	}
	crash.Point(crash.Prepared)
	err := start(ctx)
	crash.Point(crash.Started)
	var failed []ending
	for _, b := range list {
		switch {
		case b.err != nil:
			failed = append(failed, r.refused(ctx, b.run, b.err)...)
			continue
		case err != nil:
			r.doubtful[b.run.ID] = true
		default:
			delete(r.doubtful, b.run.ID)
			r.o.Log.Info("started", "job", b.run.Name, "run", b.run.ID, "attempt", b.run.Attempt)
		}
		r.began(b.run, b.job, b.secrets, nil)
	}
	r.end(ctx, failed)
	if err != nil {
		r.o.Log.Error("hand runs to the keeper", "runs", len(list)-len(failed), "error", err)
	}
}

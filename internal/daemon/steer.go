package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
)

// Stop ends a run.
func (b *backend) Stop(ctx context.Context, id string, kill bool) error {
	return refusal(id, b.d.runner.Stop(ctx, id, kill, b.d.person(ctx)))
}

// Retry has a run that has ended tried once more, or only its publish.
func (b *backend) Retry(ctx context.Context, id string, publish bool) error {
	if err := b.working(); err != nil {
		return err
	}
	if err := b.stillOwns(ctx, id); err != nil {
		return err
	}
	if publish {
		return refusal(id, b.d.runner.PublishAgain(ctx, id, b.d.person(ctx)))
	}
	return refusal(id, b.d.runner.Retry(ctx, id, b.d.person(ctx)))
}

// stillOwns refuses a run whose job is another user's now: it would be tried again
// as that user.
func (b *backend) stillOwns(ctx context.Context, id string) error {
	r, err := b.store.Run(ctx, id)
	if err != nil || b.owner == "" {
		return err
	}
	if j, known := b.byKey(r.Job); known && j.Owner != b.owner {
		return &api.Error{Code: api.Refused, Message: fmt.Sprintf("the job of run %s is another user's now", id), Hint: "ask them, or root"}
	}
	return nil
}

// refusal says for people why a run was not steered.
func refusal(id string, err error) error {
	var stop run.StopError
	var retry *run.RetryError
	switch {
	case errors.As(err, &stop):
		return &api.Error{Code: api.Refused, Message: stop.Error()}
	case errors.As(err, &retry):
		return &api.Error{Code: api.Refused, Message: retry.Message, Hint: retry.Hint}
	case errors.Is(err, run.ErrConflict), errors.Is(err, proc.ErrUnknownAttempt):
		return &api.Error{Code: api.Refused, Message: fmt.Sprintf("run %s was just changing its state", id), Hint: "try again"}
	}
	return err
}

// Pause makes a job fire no more, or again.
func (b *backend) Pause(ctx context.Context, name string, paused bool) (server.Job, error) {
	j, err := b.find(name)
	if err != nil {
		return server.Job{}, err
	}
	if err := b.d.jobs.pause(ctx, j.Key, paused, b.d.person(ctx)); err != nil {
		return server.Job{}, err
	}
	b.d.o.Log.Info("a person steered a job", "job", j.String(), "paused", paused)
	j, err = b.find(j.String())
	out := server.Job{Job: j}
	if !j.Paused && err == nil {
		out.Next = j.Next(b.now())
	}
	return out, err
}

// Which firings a backfill runs.
const (
	onlyMissing = "missing" // those that had no attempt and are to have none
	onlyFailed  = "failed"  // those whose newest run failed, was lost or cancelled
)

// Backfill records a run for each firing of a range.
func (b *backend) Backfill(ctx context.Context, r api.BackfillRequest) (string, []run.Run, error) {
	j, err := b.asked(ctx, r.Job)
	if err != nil {
		return "", nil, err
	}
	if r.Only != "" && r.Only != onlyMissing && r.Only != onlyFailed {
		return "", nil, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("--only %q: there are %s and %s", r.Only, onlyMissing, onlyFailed)}
	}
	if r.Parallel < 0 {
		return "", nil, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("--parallel %d: at least one run goes at a time", r.Parallel)}
	}
	now := b.now()
	firings, err := plan.ForBackfill(j.Job, r.From, r.To, now)
	if err != nil {
		return "", nil, &api.Error{Code: api.Invalid, Message: err.Error()}
	}
	if firings, err = b.only(ctx, j, firings, r.Only); err != nil {
		return "", nil, err
	}
	id := run.NewID(now)
	var runs []run.Run
	var definitions []job.Definition
	for _, f := range firings {
		made, defs := requested(j, b.jobs(), r.WithAfter, f.At, f.Named, now)
		for i := range made {
			made[i].Key = fmt.Sprintf("b/%s/%s", id, f.At.UTC().Format(time.RFC3339))
			made[i].Backfill, made[i].Parallel = id, max(r.Parallel, 1)
		}
		made[0].Cause = plan.Backfill
		runs, definitions = append(runs, made...), append(definitions, defs...)
	}
	if r.DryRun || len(runs) == 0 {
		return id, runs, nil
	}
	told := fmt.Sprintf("%s to %s, %d runs, %d at once", r.From, r.To, len(runs), max(r.Parallel, 1))
	if r.Only != "" {
		told += ", only " + r.Only
	}
	if err := b.d.store.AddRuns(ctx, runs, definitions, &run.Act{Person: b.d.person(ctx), At: now, Action: run.ActBackfill, Job: j.Key, Backfill: id, Detail: told}); err != nil {
		var twice *store.BackfillError
		if errors.As(err, &twice) {
			return "", nil, &api.Error{
				Code: api.Refused, Message: fmt.Sprintf("backfill %s of %s has not ended, and makes %s too", twice.Backfill, j.Name, twice.Date),
				Hint: "belfry runs " + j.Name + " tells how far it is; try again when it has ended, or leave out what it makes",
			}
		}
		return "", nil, err
	}
	b.d.o.Log.Info("a person asked for a backfill", "job", j.String(), "backfill", id, "runs", len(runs), "parallel", max(r.Parallel, 1))
	b.d.runner.Kick()
	b.d.changed()
	return id, runs, nil
}

// only leaves the firings that a backfill is asked for.
func (b *backend) only(ctx context.Context, j plan.Job, firings []job.Firing, which string) ([]job.Firing, error) {
	if which == "" {
		return firings, nil
	}
	tried, err := b.store.Tried(ctx, j.Key, firings[0].At, firings[len(firings)-1].At.Add(time.Minute))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(firings, func(f job.Firing) bool {
		state, known := tried[f.At.UTC()]
		if which == onlyMissing {
			return known
		}
		return state != run.Failed && state != run.Lost && state != run.Cancelled
	}), nil
}

// StopBackfill cancels the runs of a backfill that have not begun and, with
// running, ends those that have.
func (b *backend) StopBackfill(ctx context.Context, id string, running bool) error {
	runs, err := b.store.Runs(ctx, store.RunFilter{Backfill: id})
	if err != nil {
		return err
	}
	if len(runs) > 0 {
		_, err = b.seen(ctx, id, runs[0], nil) // all are of one job
	}
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return &api.Error{Code: api.NotFound, Message: fmt.Sprintf("there is no backfill %q", id)}
	}
	act := run.Act{Person: b.d.person(ctx), At: b.now(), Action: run.ActStopBackfill, Job: runs[0].Job, Backfill: id}
	err = b.d.runner.GiveUp(ctx, act, func(ctx context.Context) ([]run.Run, error) {
		return b.store.Runs(ctx, store.RunFilter{Backfill: id, State: run.Queued})
	})
	if err != nil || !running {
		return err
	}
	if runs, err = b.store.Runs(ctx, store.RunFilter{Backfill: id}); err != nil {
		return err
	}
	for _, r := range runs {
		var ended run.StopError
		if r.State.Finished() {
			continue
		}
		if err := b.d.runner.Stop(ctx, r.ID, false, act.Person); err != nil && !errors.As(err, &ended) && !errors.Is(err, run.ErrConflict) {
			return refusal(r.ID, err)
		}
	}
	return nil
}

// BackfillStates counts a backfill's runs by their state.
func (h *history) BackfillStates(ctx context.Context, id string) (map[run.State]int, error) {
	if h.owner != "" {
		runs, err := h.store.Runs(ctx, store.RunFilter{Backfill: id, Limit: 1})
		if err == nil && len(runs) > 0 {
			_, err = h.seen(ctx, id, runs[0], nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return h.store.BackfillStates(ctx, id)
}

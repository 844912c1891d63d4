package run

import (
	"context"
	"errors"
	"fmt"

	"belfry/internal/outbox"
	"belfry/internal/proc"
)

// StopError says why a run cannot be stopped.
type StopError string

func (e StopError) Error() string { return string(e) }

// Stop ends a run: a queued one is cancelled, a running one gets TERM and,
// after kill_after or at once when kill is set, KILL.
func (r *Runner) Stop(ctx context.Context, id string, kill bool) error {
	return r.do(ctx, func(ctx context.Context) error {
		run, err := r.o.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		switch run.State {
		case Queued:
			m := Move{Run: id, From: Queued, To: Cancelled, Reason: stopped, At: r.o.Now()}
			if err := r.o.Store.Move(ctx, m); err != nil {
				return err
			}
			r.o.Changed()
			return nil
		case Running:
			kind := proc.Stop
			if kill {
				kind = proc.Kill
			}
			err := r.o.Procs.Signal(id, run.Attempt, kind)
			if errors.Is(err, proc.ErrUnknownAttempt) {
				return r.stopWithoutKeeper(ctx, run, err)
			}
			return err
		case Publishing:
			return r.dropPublish(ctx, run)
		}
		return StopError(fmt.Sprintf("run %s has ended: %s", id, run.State))
	})
}

// stopWithoutKeeper ends a running run that no keeper has: what outlived its
// keeper is killed, and what could not be handed to one never will be.
func (r *Runner) stopWithoutKeeper(ctx context.Context, run Run, unknown error) error {
	r.doubtful[run.ID] = true
	status, _, err := r.o.Procs.Inspect(r.Dir(run.ID, run.Attempt), run.ID, run.Attempt)
	if err != nil {
		return err
	}
	switch status {
	case proc.Survivor:
		r.kill(ctx, run, Move{To: Cancelled, Reason: stopped})
		return nil
	case proc.NeverStarted:
		j, err := r.definition(ctx, run)
		if err != nil {
			return err
		}
		r.end(ctx, j, run, Move{
			To: Cancelled, Reason: stopped,
			Ended: &Attempt{Run: run.ID, Number: run.Attempt, EndedAt: r.o.Now(), Reason: stopped},
		})
		return nil
	}
	return unknown // it has just ended
}

// dropPublish gives up the publish of a run. What it has put at its target so
// far stays there without a _SUCCESS, until the next publish.
func (r *Runner) dropPublish(ctx context.Context, run Run) error {
	item, err := r.o.Store.PublishOf(ctx, run.ID)
	if err != nil {
		return err
	}
	r.o.DropPublish(item.ID)
	item.State, item.Error = outbox.Refused, stopped
	m := Move{Run: run.ID, From: Publishing, To: Cancelled, Token: run.Token, Reason: stopped + " while it was publishing", At: r.o.Now(), Settled: &item}
	if err := r.o.Store.Move(ctx, m); err != nil {
		return err
	}
	r.o.Changed()
	return nil
}

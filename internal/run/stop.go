package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"belfry/internal/outbox"
	"belfry/internal/proc"
)

// StopError says why a run cannot be stopped.
type StopError string

func (e StopError) Error() string { return string(e) }

// Stop ends a run: a queued one is cancelled, a running one gets TERM and,
// after kill_after or at once when kill is set, KILL.
func (r *Runner) Stop(ctx context.Context, id string, kill bool, by Person) error {
	return r.do(ctx, func(ctx context.Context) error {
		run, err := r.o.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		switch run.State {
		case Queued:
			return r.steer(ctx, Move{Run: id, From: Queued, To: Cancelled, Reason: stopped, At: r.o.Now(), Act: r.act(by, ActStop, run)})
		case Running:
			kind, action := proc.Stop, ActStop
			if kill {
				kind, action = proc.Kill, ActKill
			}
			if err := r.o.Store.Act(ctx, *r.act(by, action, run)); err != nil {
				// It may be what fills the disk: it is ended all the same.
				r.o.Log.Error("note who stops a run", "run", id, "person", by.Name, "error", err)
			}
			return r.stop(ctx, run, kind, stopped)
		case Publishing:
			return r.dropPublish(ctx, run, by)
		}
		return StopError(fmt.Sprintf("run %s has ended: %s", id, run.State))
	})
}

// withDaemon is the reason of a run that is to end because nothing outlives its
// daemon: nobody wanted its end, so it has failed and may be tried again.
const withDaemon = "ended with the daemon, which was told to stop"

// EndAll ends every running run for the daemon's sake: with TERM or, by kill,
// with KILL. Why is written down first: their ends may be seen by the next
// daemon.
func (r *Runner) EndAll(ctx context.Context, kill bool) error {
	return r.do(ctx, func(ctx context.Context) error {
		kind := proc.Stop
		if kill {
			kind = proc.Kill
		}
		reasons := map[string]string{}
		for id, run := range r.live {
			if run.Reason == "" { // else its end is wanted already
				run.Reason = withDaemon
				r.live[id], reasons[id] = run, withDaemon
			}
		}
		if len(reasons) > 0 {
			if err := r.o.Store.Note(ctx, reasons); err != nil {
				return err
			}
		}
		var errs []error
		for id, run := range r.live {
			r.o.Log.Info("end a run", "job", run.Name, "run", id, "by", kind)
			errs = append(errs, r.stop(ctx, run, kind, run.Reason))
		}
		return errors.Join(errs...)
	})
}

// asked is the state of a run whose attempt was made to end for a reason.
func asked(reason string) State {
	if reason == withDaemon {
		return Failed
	}
	return Cancelled
}

// GiveUp cancels queued runs, all or none, as a person wants it. None of them
// begins between being listed and being cancelled.
func (r *Runner) GiveUp(ctx context.Context, act Act, queued func(ctx context.Context) ([]Run, error)) error {
	return r.do(ctx, func(ctx context.Context) error {
		runs, err := queued(ctx)
		if err != nil || len(runs) == 0 {
			return err
		}
		moves := make([]Move, len(runs))
		for i, run := range runs {
			moves[i] = Move{Run: run.ID, From: Queued, To: Cancelled, Reason: stopped, At: r.o.Now()}
		}
		moves[0].Act = &act
		return r.drop(ctx, runs, moves)
	})
}

// steer makes a move that a person asked for.
func (r *Runner) steer(ctx context.Context, m Move) error {
	void, err := r.o.Store.Move(ctx, m)
	if err == nil && void[0] {
		err = ErrConflict
	}
	if err != nil {
		return err
	}
	r.o.Changed()
	r.Kick()
	return nil
}

// stop ends a running run.
func (r *Runner) stop(ctx context.Context, run Run, kind proc.StopKind, reason string) error {
	err := r.o.Procs.Signal(run.ID, run.Attempt, kind)
	if errors.Is(err, proc.ErrUnknownAttempt) {
		return r.stopWithoutKeeper(ctx, run, reason, err)
	}
	return err
}

// stopWithoutKeeper ends a running run that no keeper has: what outlived its
// keeper is killed, and what could not be handed to one never will be.
func (r *Runner) stopWithoutKeeper(ctx context.Context, run Run, reason string, unknown error) error {
	r.doubtful[run.ID] = true
	status, _, err := r.o.Procs.Inspect(r.Dir(run.ID, run.Attempt), run.ID, run.Attempt)
	if err != nil {
		return err
	}
	switch status {
	case proc.Survivor:
		r.kill(ctx, run, Move{To: asked(reason), Reason: reason})
		return nil
	case proc.NeverStarted:
		now := r.o.Now()
		exit := proc.Exit{Code: -1, Stopped: true, Error: "stopped before it was started", StartedAt: now, EndedAt: now}
		if err := r.void(run, exit); errors.Is(err, fs.ErrExist) {
			return unknown // a keeper that was stopped has begun it
		} else if err != nil {
			return err
		}
		r.end(ctx, r.ended(ctx, run, exit))
		return nil
	}
	return unknown // it has just ended
}

// void ends an attempt that was not started, and that a keeper may have in its queue
// all the same. Killed right after it, the next daemon finds the exit.
func (r *Runner) void(run Run, exit proc.Exit) error {
	return proc.Void(r.Dir(run.ID, run.Attempt), run.ID, run.Attempt, exit)
}

// dropPublish gives up the publish of a run. What it has put at its target so
// far stays there without a _SUCCESS, until the next publish.
func (r *Runner) dropPublish(ctx context.Context, run Run, by Person) error {
	item, err := r.o.Store.PublishOf(ctx, run.ID)
	if err != nil {
		return err
	}
	r.o.DropPublish(item.ID)
	item.State, item.Error = outbox.Refused, stopped
	m := Move{Run: run.ID, From: Publishing, To: Cancelled, Token: run.Token, Reason: stopped + " while it was publishing", At: r.o.Now(), Settled: &item, Act: r.act(by, ActStop, run)}
	return r.steer(ctx, m)
}

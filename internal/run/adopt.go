package run

import (
	"context"
	"fmt"
	"strings"

	"belfry/internal/proc"
)

// adopt reads which runs are running and puts each of them in doubt: its records
// decide.
func (r *Runner) adopt(ctx context.Context) error {
	running, err := r.o.Store.Running(ctx)
	if err != nil {
		return fmt.Errorf("look for running attempts: %w", err)
	}
	clear(r.live)
	for _, run := range running {
		r.live[run.ID], r.doubtful[run.ID] = run, true
	}
	return nil
}

// settle reads the records of doubtful attempts (DESIGN.md §5).
func (r *Runner) settle(ctx context.Context) {
	var ended []ending
	var never []Run
	for id := range r.doubtful {
		run, running := r.live[id]
		if !running {
			delete(r.doubtful, id)
			delete(r.killed, id)
			continue
		}
		r.found(ctx, run)
		status, exit, err := r.o.Procs.Inspect(r.Dir(id, run.Attempt), id, run.Attempt)
		if err != nil {
			r.o.Log.Error("inspect an attempt", "run", id, "attempt", run.Attempt, "error", err)
			continue
		}
		switch status {
		case proc.Running:
			delete(r.doubtful, id)
		case proc.Survivor: // its keeper is dead: look again until nothing of it lives
			r.enforceTimeout(ctx, run)
		case proc.Exited:
			ended = append(ended, r.ended(ctx, run, *exit)...)
		case proc.NeverStarted:
			attempt, err := r.o.Store.Attempt(ctx, id, run.Attempt)
			if err != nil {
				r.o.Log.Error("read an attempt", "run", id, "error", err)
				continue
			}
			// Its record may have been lost with the power. Belfries of before have noted the
			// start of a container behind the boot.
			if !strings.HasPrefix(attempt.Boot, r.o.Boot) {
				ended = append(ended, r.lost(ctx, run, "the machine was restarted while it ran")...)
				continue
			}
			never = append(never, run)
		case proc.Lost:
			ended = append(ended, r.lost(ctx, run, "its process and its keeper are gone, and no exit status was left")...)
		}
	}
	r.end(ctx, ended)
	r.start(ctx, never)
}

// enforceTimeout kills a survivor that has taken too long, as its keeper would
// have. Only the wall clock tells how long it was.
func (r *Runner) enforceTimeout(ctx context.Context, run Run) {
	if m, killed := r.killed[run.ID]; killed {
		r.kill(ctx, run, m) // again, if the first time did not help
		return
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		r.o.Log.Error("look at a survivor", "run", run.ID, "error", err)
		return
	}
	attempt, err := r.o.Store.Attempt(ctx, run.ID, run.Attempt)
	if err != nil {
		r.o.Log.Error("read an attempt", "run", run.ID, "error", err)
		return
	}
	if j.Timeout > 0 && r.o.Now().Sub(attempt.StartedAt) >= j.Timeout {
		r.kill(ctx, run, Move{To: Failed, Reason: timedOut(j)})
	}
}

// kill ends a survivor. m is what its end will mean, which is told by no
// record: should this daemon end first, the run will be lost.
func (r *Runner) kill(ctx context.Context, run Run, m Move) {
	r.killed[run.ID], r.doubtful[run.ID] = m, true
	if r.killing[run.ID] {
		return
	}
	r.killing[run.ID] = true
	r.o.Log.Info("kill what outlived its keeper", "run", run.ID, "attempt", run.Attempt, "reason", m.Reason)
	r.work.Go(func() {
		err := r.o.KillSurvivors(r.Dir(run.ID, run.Attempt), run.ID, run.Attempt)
		if err != nil {
			r.o.Log.Error("kill survivors", "run", run.ID, "attempt", run.Attempt, "error", err)
		}
		_ = r.do(ctx, func(context.Context) error { // fails only when the Runner ends
			delete(r.killing, run.ID)
			return nil
		})
	})
}

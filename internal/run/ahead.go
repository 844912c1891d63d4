package run

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"belfry/internal/crash"
)

var errHeld = errors.New("nothing is claimed any more")

// holdPatience is how long what is due may wait after its instant, or after it is
// ready when that is later, to be written, for a keeper that has no time.
const holdPatience = 2 * time.Second

// Ahead has what is due at an instant to come written down and claimed before it,
// and starts it at it: rows, environments and directories of a thousand jobs take
// longer than the keeper needs for the first of them.
//
// write is one transaction. In it choose gets all that will wait at the instant and
// gives the claims of what starts then; ready is told which were granted, makes all
// but the processes, and write commits after it, and not before the instant. When it
// gives an error nothing has happened: what is due then is the usual pass's to start.
func (r *Runner) Ahead(ctx context.Context, at time.Time, write func(ctx context.Context, choose func(waiting []Run) []Claim, ready func(granted []bool)) error) error {
	return r.do(ctx, func(ctx context.Context) error {
		if r.held.Load() {
			return errHeld
		}
		var claims []Claim
		var granted []bool
		var list []beginning
		var start func(ctx context.Context) error
		err := write(ctx, func(waiting []Run) []Claim {
			// It may have come meanwhile, however long ago.
			now := at
			if late := r.o.Now(); late.After(at) {
				now = late
			}
			a := admit(r.ours(waiting), r.running(), r.jobOrWhatItWas(ctx), r.o.Limits(), now)
			// Of those that begin too late the usual pass tells first. Where one takes the
			// place of another that waits, it does both: else the other would come after it.
			others := jobsOf(waiting, a.end)
			claims = r.claims(slices.DeleteFunc(a.start, func(run Run) bool { return due(run.StartBy, now) || others[run.Job] }), now)
			return claims
		}, func(g []bool) {
			granted = g
			for i, c := range claims {
				if granted[i] {
					list = append(list, r.ready(ctx, c.claimed()))
				}
			}
			// Nobody else writes meanwhile, so a keeper that is stopped is not waited for.
			hold, cancel := context.WithTimeout(ctx, max(at.Sub(r.o.Now()), 0)+holdPatience)
			start = r.o.Procs.Hold(hold, specsOf(list))
			cancel()
			crash.Point(crash.Admitted)
		})
		if err != nil {
			for _, b := range list {
				_ = os.RemoveAll(r.Dir(b.run.ID, b.run.Attempt))
			}
			return err
		}
		r.claimed(claims, granted)
		r.begin(ctx, list, start)
		return nil
	})
}

// jobsOf gives the jobs of runs that are to be moved.
func jobsOf(runs []Run, moves []Move) map[string]bool {
	moved := map[string]bool{}
	for _, m := range moves {
		moved[m.Run] = true
	}
	jobs := map[string]bool{}
	for _, run := range runs {
		if moved[run.ID] {
			jobs[run.Job] = true
		}
	}
	return jobs
}

package daemon

import (
	"context"
	"fmt"
	"time"

	"belfry/internal/plan"
	"belfry/internal/run"
)

// aheadMost is for how many jobs at one instant all is made ready before it. It
// bounds for how long everything else waits.
const aheadMost = 5000

// lead is how long before its instant what so many jobs need is begun to be made.
// That takes half as long, or less.
func lead(jobs int) time.Duration {
	if jobs == 0 {
		return 0
	}
	return 20*time.Millisecond + time.Duration(jobs)*200*time.Microsecond
}

// ahead plans an instant shortly before it, writes down and makes ready what is due
// then, and has it started when the instant comes. With an error nothing was written,
// and decide does all of it when it is time.
func (d *Daemon) ahead(ctx context.Context, at time.Time) error {
	now := d.o.Clock()
	then := after(now, at.Sub(now.Wall))
	_, err := d.planTo(ctx, then, func(decision plan.Decision) (bool, error) {
		if err := d.lookUp(decision.Runs, at); err != nil {
			return false, err
		}
		return true, d.runner.Ahead(ctx, at, func(ctx context.Context, choose func(waiting []run.Run) []run.Claim, ready func(granted []bool)) error {
			return d.store.RecordAhead(ctx, decision, at, choose, func(granted []bool) error {
				ready(granted)
				return d.until(ctx, then)
			})
		})
	})
	return err
}

// lookUp has the users known as whom runs are to start: a directory of users that
// is slow would else be waited for, user by user, while nothing can be written. With
// an error the instant came first. One after the other: at once they would share what
// the directory does in two seconds, and one that is only slow would fail the last.
func (d *Daemon) lookUp(runs []plan.Run, at time.Time) error {
	seen := map[string]bool{}
	for _, r := range runs {
		owner := r.Job.Owner
		if seen[owner] {
			continue
		}
		seen[owner] = true
		_, _ = d.o.Host.Of(owner) // what is wrong with one is said when a run of theirs is started
		if !d.now().Before(at) {
			return fmt.Errorf("after %d users were looked up the instant had come", len(seen))
		}
	}
	return nil
}

// after is what the clocks show in a while, when nothing happens to them.
func after(now plan.Reading, while time.Duration) plan.Reading {
	now.Wall = now.Wall.Add(while)
	now.Running += while
	now.Elapsed += while
	return now
}

// until returns when the clock shows what was foreseen. With an error it was set
// meanwhile, or the machine slept, or we were stopped, and nothing may be concluded:
// whatever begins late is to be told so.
func (d *Daemon) until(ctx context.Context, then plan.Reading) error {
	const leap = time.Second
	for {
		now := d.o.Clock()
		wall, elapsed, running := then.Wall.Sub(now.Wall), then.Elapsed-now.Elapsed, then.Running-now.Running
		if (wall-elapsed).Abs() > leap || (elapsed-running).Abs() > leap || now.Boot != then.Boot {
			return fmt.Errorf("the clock leapt by %s, and the machine slept %s", wall-elapsed, running-elapsed)
		}
		if wall < -leap {
			return fmt.Errorf("it is %s after the instant", -wall)
		}
		if wall <= 0 {
			return nil
		}
		timer := time.NewTimer(wall)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

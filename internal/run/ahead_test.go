package run_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/store"
)

// ahead plans what fires at an instant, and has it started when until gives no
// error.
func (s *scene) ahead(at time.Time, until func() error, names ...string) error {
	d := plan.Decision{Clock: plan.Clock{Mark: at, High: at}, Write: true}
	for _, name := range names {
		d.Runs = append(d.Runs, plan.Run{
			Job: s.jobs[s.keys[name]], Key: "t/" + at.Format(time.RFC3339), Cause: plan.Scheduled, FiresAt: at, FiresUntil: at, Count: 1, Named: at,
		})
	}
	return s.runner.Ahead(s.t.Context(), at, func(ctx context.Context, choose func([]run.Run) []run.Claim, ready func([]bool)) error {
		return s.store.RecordAhead(ctx, d, at, choose, func(granted []bool) error {
			ready(granted)
			return until()
		})
	})
}

// runs gives the newest of each job, by its name.
func (s *scene) runs() map[string]run.Run {
	s.t.Helper()
	list, err := s.store.Runs(s.t.Context(), store.RunFilter{})
	if err != nil {
		s.t.Fatal(err)
	}
	runs := map[string]run.Run{}
	for _, r := range slices.Backward(list) { // the newest is the first
		runs[r.Name] = r
	}
	return runs
}

// attempts lists the folders of attempts.
func (s *scene) attempts() []string {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func TestWhatIsMadeReadyBeforeItsInstantStartsAtIt(t *testing.T) {
	play(t, func(s *scene) {
		s.limits.Slots = 1
		running := s.queue("busy", time.Now())
		s.starts(1)
		waiting := s.queue("b", time.Now())
		s.want(waiting, run.Queued, "slot: all 1 are taken")
		s.limits.Slots = 3 // of which two are free: the one that waits already has the first
		at := time.Now().Add(time.Second)
		err := s.ahead(at, func() error {
			s.starts(1)
			if len(s.runs()) != 2 {
				t.Errorf("before the instant there are %v", s.runs())
			}
			if got := s.attempts(); len(got) != 3 {
				t.Errorf("the folders of those that are to start are not there: %v", got)
			}
			time.Sleep(time.Until(at))
			return nil
		}, "a", "busy", "c")
		if err != nil {
			t.Fatal(err)
		}
		s.starts(3)
		s.want(waiting, run.Running, "")
		runs := s.runs()
		if a := s.want(runs["a"].ID, run.Running, ""); !a.QueuedAt.Equal(at) || !a.StartedAt.Equal(at) || a.Attempt != 1 || a.Token != 1 {
			t.Errorf("it runs as %+v", a)
		}
		// What does not start then goes the usual way.
		s.runner.Kick()
		s.want(runs["busy"].ID, run.Skipped, "overlap: run "+running)
		s.want(runs["c"].ID, run.Queued, "slot: all 3 are taken")
	}, simple("busy"), simple("a"), simple("b"), simple("c"))
}

func TestWhatWasMadeReadyInVainNeverWas(t *testing.T) {
	play(t, func(s *scene) {
		again := s.queue("again", time.Now())
		s.exits(again, proc.Exit{Code: 1, EndedAt: time.Now()})
		s.want(again, run.Queued, "retry: attempt 1 of 2")
		at := time.Now().Add(time.Hour)
		leapt := errors.New("the clock leapt")
		if err := s.ahead(at, func() error { return leapt }, "a"); !errors.Is(err, leapt) {
			t.Fatalf("it ended with %v", err)
		}
		s.starts(1)
		if runs := s.runs(); len(runs) != 1 || runs["again"].State != run.Queued {
			t.Errorf("what did not happen is in the account: %v", runs)
		}
		if got := s.attempts(); len(got) != 1 {
			t.Errorf("folders were left: %v", got)
		}
		if _, err := os.Stat(filepath.Join(s.dir, again, "1")); err != nil {
			t.Errorf("the attempt that was: %v", err)
		}
		s.later(2 * time.Minute)
		s.want(again, run.Running, "") // its next attempt

		if err := s.ahead(time.Now(), func() error { return nil }, "a"); err != nil {
			t.Fatal(err)
		}
		s.starts(3)

		s.runner.Hold()
		if err := s.ahead(time.Now(), func() error { return nil }, "b"); err == nil {
			t.Error("a Runner that claims nothing any more has claimed")
		}
		s.starts(3)
	}, retrying("again"), simple("a"), simple("b"))
}

func TestWhatCannotBeMadeReadyFailsAtItsInstant(t *testing.T) {
	play(t, func(s *scene) {
		if err := s.ahead(time.Now(), func() error { return nil }, "a", "b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.want(s.runs()["a"].ID, run.Failed, "no-such-file")
		s.want(s.runs()["b"].ID, run.Running, "")
		s.starts(1)
	}, with(simple("a"), func(j *job.Job) { j.EnvFile = "/no-such-file" }), simple("b"))
}

func TestAKeeperThatIsStoppedHoldsUpNoWrite(t *testing.T) {
	play(t, func(s *scene) {
		s.procs.set(func(p *processes) { p.stopped = true })
		at := time.Now().Add(time.Second)
		err := s.ahead(at, func() error {
			if late := time.Since(at); late > 2*time.Second {
				t.Errorf("what is due is written %s after its instant", late)
			}
			return nil
		}, "a")
		if err != nil {
			t.Fatal(err)
		}
		s.starts(1)
	}, simple("a"))
}

func TestWhatReplacesARetryBeforeItsInstantIsNotFollowedByIt(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		s.exits(first, proc.Exit{Code: 1, EndedAt: time.Now()})
		s.want(first, run.Queued, "retry: attempt 1 of 2")
		if err := s.ahead(time.Now().Add(time.Second), func() error { time.Sleep(time.Second); return nil }, "a"); err != nil {
			t.Fatal(err)
		}
		second := s.runs()["a"].ID
		s.want(second, run.Running, "")
		s.want(first, run.Cancelled, "replaced by run "+second)
		s.starts(2)
	}, with(retrying("a"), func(j *job.Job) { j.Overlap = job.OverlapReplace }))
}

func TestWhatIsSupersededBeforeAnInstantReplacesNothing(t *testing.T) {
	play(t, func(s *scene) {
		s.limits.Slots = 0
		first := s.queue("a", time.Now())
		s.want(first, run.Queued, "slot: all 0 are taken")
		s.limits.Slots = 1
		if err := s.ahead(time.Now().Add(time.Second), func() error { time.Sleep(time.Second); return nil }, "a"); err != nil {
			t.Fatal(err)
		}
		second := s.runs()["a"].ID
		s.want(second, run.Running, "")
		s.want(first, run.Skipped, "superseded by run "+second)
		s.signalled()
	}, replacing("a"))
}

func TestWhatEndsWhileAnInstantIsMadeReadyDoesNotOverlap(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		s.starts(1)
		sent := make(chan struct{})
		err := s.ahead(time.Now().Add(time.Second), func() error {
			go func() {
				s.exits(first, proc.Exit{EndedAt: time.Now()})
				close(sent)
			}()
			time.Sleep(time.Second)
			return nil
		}, "a")
		if err != nil {
			t.Fatal(err)
		}
		<-sent
		s.want(first, run.Succeeded, "")
		s.want(s.runs()["a"].ID, run.Running, "")
	}, simple("a"))
}

func TestWhatIsMadeReadyAfterItsInstantIsLate(t *testing.T) {
	play(t, func(s *scene) {
		if err := s.ahead(time.Now().Add(-11*time.Minute), func() error { return nil }, "a", "b"); err != nil {
			t.Fatal(err)
		}
		a := s.want(s.runs()["a"].ID, run.Running, "")
		b := s.want(s.runs()["b"].ID, run.Running, "")
		s.tells("late queued")
		if !a.StartedAt.Equal(time.Now()) || !b.StartedAt.Equal(time.Now()) {
			t.Errorf("they began at %s and %s, and not now, at %s", a.StartedAt, b.StartedAt, time.Now())
		}
	}, punctual("a"), simple("b"))
}

package daemon

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// TestAnInstantIsWaitedForUnlessTheClocksLeap waits for one in a second, while
// something happens after half of it.
func TestAnInstantIsWaitedForUnlessTheClocksLeap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set, slept time.Duration // the wall clock is set, the machine sleeps
		boot       string
		late       time.Duration // the loop gets no processor
		leapt      bool
		want       time.Duration // on the bubble's clock, from the beginning
	}{
		"nothing":                 {want: time.Second},
		"trimmed ahead":           {set: 100 * time.Millisecond, want: time.Second}, // noticed late, as by any sleep
		"trimmed back":            {set: -100 * time.Millisecond, want: 1100 * time.Millisecond},
		"set ahead":               {set: 10 * time.Minute, leapt: true, want: time.Second},
		"set back":                {set: -10 * time.Minute, leapt: true, want: time.Second},
		"slept":                   {set: time.Hour, slept: time.Hour, leapt: true, want: time.Second},
		"held up":                 {late: 1900 * time.Millisecond, want: 1900 * time.Millisecond},
		"stopped":                 {late: 20 * time.Second, leapt: true, want: 20 * time.Second},
		"another boot, by a test": {boot: "other", leapt: true, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin, half := time.Now(), time.Now().Add(500*time.Millisecond)
				clock := func() plan.Reading {
					now := time.Now()
					r := plan.Reading{Wall: now, Elapsed: now.Sub(begin), Running: now.Sub(begin), Boot: "boot"}
					if now.After(half) {
						r.Wall = r.Wall.Add(c.set)
						r.Elapsed += c.slept
						if c.boot != "" {
							r.Boot = c.boot
						}
					}
					return r
				}
				d := &Daemon{o: Options{Clock: clock}}
				then := after(clock(), time.Second)
				time.Sleep(c.late)
				err := d.until(t.Context(), then)
				if got := time.Since(begin); got != c.want || (err != nil) != c.leapt {
					t.Errorf("after %s it ended with %v, want %s and an error: %v", got, err, c.want, c.leapt)
				}
			})
		})
	}
}

func TestAnInstantIsNotWaitedForByADaemonThatEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		clock := func() plan.Reading { return plan.Reading{Wall: time.Now()} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d := &Daemon{o: Options{Clock: clock}}
		if err := d.until(ctx, plan.Reading{Wall: time.Now().Add(time.Minute), Elapsed: time.Minute, Running: time.Minute}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestNothingIsMadeReadyWhileUsersAreLookedUpThroughItsInstant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		host := run.Host{For: func(owner string) (run.Host, error) {
			asked = append(asked, owner)
			time.Sleep(400 * time.Millisecond)
			return run.Host{}, errors.New("of whom nobody knows")
		}}
		d := &Daemon{o: Options{Clock: func() plan.Reading { return plan.Reading{Wall: time.Now()} }, Host: host}}
		var runs []plan.Run
		for _, owner := range []string{"alice", "bob", "alice", "carol", "dave"} {
			runs = append(runs, plan.Run{Job: plan.Job{Job: &job.Job{Settings: &job.Settings{Owner: owner}}}})
		}
		if err := d.lookUp(runs[:3], time.Now().Add(time.Second)); err != nil || !slices.Equal(asked, []string{"alice", "bob"}) {
			t.Errorf("%q were looked up, with %v", asked, err)
		}
		if err := d.lookUp(runs, time.Now().Add(time.Second)); err == nil || !slices.Equal(asked[2:], []string{"alice", "bob", "carol"}) {
			t.Errorf("%q were looked up, with %v", asked[2:], err)
		}
	})
}

package crashtest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"belfry/api"
)

// reasonLost is what the account says of an attempt whose keeper was killed
// before it could say how the attempt ended.
const reasonLost = "its process and its keeper are gone, and no exit status was left"

// cruelties are what befalls keepers.
var cruelties = []string{
	"a keeper", "a keeper beside a daemon", "a keeper after a daemon",
	"a keeper frozen", frozenForLong, "a keeper frozen and killed",
}

const frozenForLong = "a keeper frozen for long"

// death is the end of a keeper.
type death struct{ from, until time.Time }

// hunt is who goes for keepers while daemons are killed.
type hunt struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (h *hunt) end() {
	h.cancel()
	h.done.Wait()
}

// hunt has keepers killed and frozen, if they are frail.
func (c *campaign) hunt() *hunt {
	ctx, cancel := context.WithCancel(c.t.Context())
	h := &hunt{cancel: cancel}
	if !c.frail {
		return h
	}
	c.t.Cleanup(h.end)
	h.done.Go(func() {
		for pause(ctx, time.Second, 6*time.Second) {
			switch rand.IntN(4) {
			case 0:
				c.freeze(ctx, "a keeper frozen", 100*time.Millisecond, 3*time.Second, syscall.SIGCONT)
			case 1:
				c.freeze(ctx, "a keeper frozen and killed", 100*time.Millisecond, 2*time.Second, syscall.SIGKILL)
			default:
				c.killKeepers("a keeper")
			}
		}
	})
	h.done.Go(func() { // longer than a daemon waits for an answer
		for pause(ctx, 0, 10*time.Second) {
			c.freeze(ctx, frozenForLong, 35*time.Second, 45*time.Second, syscall.SIGCONT)
		}
	})
	return h
}

// pause waits for a time between two; false: ctx has ended.
func pause(ctx context.Context, least, most time.Duration) bool {
	timer := time.NewTimer(least + time.Duration(rand.Int64N(int64(most-least))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// keepers gives the pids of the living ones that are not spared.
func (c *campaign) keepers() []int {
	parents := map[int]int{}
	for _, p := range c.processes() {
		if len(p.line) == 3 && p.line[1] == "keeper" {
			parents[p.pid] = p.parent
		}
	}
	// A process that is to become a job's is still like its keeper.
	maps.DeleteFunc(parents, func(_, parent int) bool {
		_, child := parents[parent]
		return child
	})
	c.mu.Lock()
	delete(parents, c.spared)
	c.mu.Unlock()
	return slices.Collect(maps.Keys(parents))
}

// killKeepers kills all keepers, or some.
func (c *campaign) killKeepers(how string) {
	for _, pid := range c.keepers() {
		c.signal(pid, syscall.SIGKILL)
		c.count(how)
		if rand.IntN(4) == 0 {
			return
		}
	}
}

// signal gives a signal to a keeper, and reports whether it lives.
func (c *campaign) signal(pid int, s syscall.Signal) bool {
	from := time.Now()
	if syscall.Kill(pid, s) != nil {
		return false
	}
	if s == syscall.SIGKILL {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.deaths = append(c.deaths, death{from, time.Now()})
	}
	return true
}

// freeze stops a keeper for a while, until it gets another signal. It is spared
// when that is for long.
func (c *campaign) freeze(ctx context.Context, how string, least, most time.Duration, until syscall.Signal) {
	for _, pid := range c.keepers() {
		if c.signal(pid, syscall.SIGSTOP) {
			if how == frozenForLong {
				c.spare(pid)
				defer c.spare(0)
			}
			whole := pause(ctx, least, most)
			if c.signal(pid, until) && whole {
				c.count(how)
			}
			return
		}
	}
}

func (c *campaign) spare(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spared = pid
}

// wasLost checks that an attempt may be lost: a keeper was killed in its time,
// and it was counted as running until it had ended by itself.
func (c *campaign) wasLost(about string, a api.Attempt, wrote trace) {
	c.t.Helper()
	if wrote.begun > 1 {
		c.t.Errorf("%s began %d times", about, wrote.begun)
	}
	if !slices.ContainsFunc(c.deaths, func(d death) bool {
		return d.until.After(a.StartedAt) && a.EndedAt != nil && d.from.Before(*a.EndedAt)
	}) {
		c.t.Errorf("%s was lost from %s to %s, and no keeper was killed then", about, a.StartedAt, a.EndedAt)
	}
	if wrote.ended && a.EndedAt != nil && wrote.end.Add(-50*time.Millisecond).After(*a.EndedAt) {
		c.t.Errorf("%s was given up at %s and ended at %s", about, a.EndedAt, wrote.end)
	}
}

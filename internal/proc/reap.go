package proc

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// burst is how long the reaper gathers the dead when they come fast.
const burst = 20 * time.Millisecond

// reapAll takes all dead children away: main processes of attempts, and
// strays, which come to the keeper because it is a subreaper. It never
// returns.
func (k *keeper) reapAll() {
	var last time.Time
	for {
		// Look without taking away: that happens under the locks.
		err := awaitDead()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			select {
			case <-k.ctx.Done():
				return
			case <-k.forked:
			}
			continue
		case err != nil:
			k.log.Error("wait for children", "error", err)
			time.Sleep(time.Second)
			continue
		}
		if since := time.Since(last); since < burst {
			time.Sleep(burst - since)
		}
		last = time.Now()
		k.reap()
	}
}

// reap takes away all who are dead now.
func (k *keeper) reap() {
	k.forkMu.Lock()
	defer k.forkMu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	strays := false
	for {
		var status unix.WaitStatus
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, &usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			break
		}
		if a := k.byPID[pid]; a != nil {
			k.ended(a, status, usage)
		} else { // a stray, perhaps the last of its cgroup
			strays = true
		}
	}
	if strays && len(k.busy) > 0 {
		k.sweep = true
		k.record()
	}
	close(k.reaps)
	k.reaps = make(chan struct{})
}

// ended notes what became of an attempt's main process. That is the attempt's
// outcome: what it left running in the background on purpose lives on, as
// under cron. Only when it was made to end, the outcome waits until its whole
// tree is gone. The caller holds mu.
func (k *keeper) ended(a *attempt, status unix.WaitStatus, usage unix.Rusage) {
	delete(k.byPID, a.pid)
	if a.timer != nil {
		a.timer.Stop()
	}
	now := time.Now()
	a.reaped = true
	a.outcome = Exit{
		Code:      status.ExitStatus(), // -1 when signalled
		TimedOut:  a.timedOut,
		Stopped:   a.stop != "",
		LeaseLost: a.leaseLost,
		StartedAt: a.begun.UTC(),
		EndedAt:   now.UTC(),
		Wall:      now.Sub(a.begun),
		UserCPU:   time.Duration(usage.Utime.Nano()),
		SystemCPU: time.Duration(usage.Stime.Nano()),
		MaxRSS:    int64(usage.Maxrss) * rssUnit, //nolint:unconvert // an int32 on 32-bit machines
	}
	a.outcome.MaxRSSExact = k.exceeded(a.outcome.MaxRSS)
	if status.Signaled() {
		a.outcome.Signal = unix.SignalName(status.Signal())
	}
	if a.kill == nil {
		k.logs.leave(a.key)
		k.conclude(a, a.outcome)
	}
}

// exceeded reports whether so many bytes are certainly more than this process has
// ever had. Its caller holds mu.
func (k *keeper) exceeded(size int64) bool {
	// The kernel's own figures are some pages wrong for each processor.
	clearly := func() bool { return size > k.peak+k.peak/8 }
	if clearly() {
		k.peak = max(k.peak, peakSize())
	}
	return k.peak > 0 && clearly()
}

// timeOut ends an attempt that took too long.
func (k *keeper) timeOut(a *attempt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !a.reaped && a.kill == nil {
		a.timedOut = true
		k.endAttempt(a, Stop)
	}
}

// endAttempt makes a running attempt end: TERM to its group and, killAfter
// later, KILL to its tree, or KILL at once. Its caller holds mu.
func (k *keeper) endAttempt(a *attempt, kind StopKind) {
	if a.reaped && a.kill == nil {
		return // it has ended by itself
	}
	if a.kill == nil {
		a.kill = make(chan struct{})
		if kind == Stop {
			k.terminateGroup(a)
		}
		k.work.Go(func() { k.seeOut(a) })
	}
	if kind == Kill && !closed(a.kill) {
		close(a.kill)
	}
}

// terminateGroup asks an attempt's group to end, also when it was halted. Its
// caller holds mu.
func (k *keeper) terminateGroup(a *attempt) {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGCONT} {
		if err := unix.Kill(-a.pid, s); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, allDead) {
			k.log.Error("signal attempt", "run", a.run, "attempt", a.attempt, "signal", s.String(), "error", err)
		}
	}
}

// seeOut stays with an attempt that is being ended until the last process of
// its tree is gone: whoever handles TERM gets killAfter for it, also when its
// parent has ended before. What even KILL does not move within a while (a
// process in the kernel's hands, or of another user) is named in the log and
// left.
func (k *keeper) seeOut(a *attempt) {
	const (
		glance   = 20 * time.Millisecond
		patience = 5 * time.Second
	)
	deadline := time.NewTimer(a.killAfter)
	defer deadline.Stop()
	var killing bool
	var since time.Time
	kill := a.kill
	for {
		k.mu.Lock()
		reaps, reaped := k.reaps, a.reaped
		k.mu.Unlock()

		if reaped || killing {
			left, err := k.tree(a)
			gone := err == nil && len(left) == 0
			if killing {
				k.killAll(a, left)
			}
			if reaped && !gone && killing && time.Since(since) > patience {
				k.log.Error("processes outlive KILL", "run", a.run, "attempt", a.attempt, "pids", pids(left), "error", err)
				gone = true
			}
			if reaped && gone {
				k.mu.Lock()
				outcome := a.outcome
				outcome.TimedOut, outcome.Stopped, outcome.LeaseLost = a.timedOut, a.stop != "", a.leaseLost
				k.conclude(a, outcome)
				k.mu.Unlock()
				return
			}
		}

		var tick <-chan time.Time
		switch {
		case killing:
			tick = time.After(glance)
		case reaped && !orphansAreOurs: // nobody tells that they have gone
			tick = time.After(5 * glance)
		}
		select {
		case <-reaps:
			// A tree is read at most so often, however fast others end.
			time.Sleep(glance)
		case <-tick:
		case <-deadline.C:
			killing = true
		case <-kill:
			kill, killing = nil, true
		}
		if killing && since.IsZero() {
			since = time.Now()
		}
	}
}

func (k *keeper) killAll(a *attempt, left []process) {
	killCgroup(a.cgroup)
	for _, p := range left {
		if err := p.kill(); err != nil {
			k.log.Error("kill process", "run", a.run, "attempt", a.attempt, "pid", p.pid, "error", err)
		}
	}
}

func pids(all []process) []int {
	numbers := make([]int, 0, len(all))
	for _, p := range all {
		numbers = append(numbers, p.pid)
	}
	slices.Sort(numbers)
	return numbers
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

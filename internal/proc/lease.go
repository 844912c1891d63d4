package proc

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A claim that others may take over once it has run out has a lease. It ends
// at a reading of CLOCK_BOOTTIME, which goes on while the machine sleeps and
// which daemon and keeper share; so neither a frame that was long on its way
// nor a suspend makes it longer. A daemon that lives renews it; when it runs
// out, the daemon is dead or frozen, and the keeper ends the attempt with
// KILL, its whole tree, before anybody else may begin it.

// bootTime is a reading of the clock that goes on while the machine sleeps.
func bootTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(bootClock, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// leaseEnd is when a lease that is given now will end, 0 for none.
func leaseEnd(lease time.Duration) time.Duration {
	if lease <= 0 {
		return 0
	}
	return bootTime() + lease
}

// enforceLeases ends attempts whose lease has run out.
func (k *keeper) enforceLeases() {
	for {
		if err := k.alarm.wait(); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				k.log.Error("wait for the end of a lease", "error", err)
			}
			return
		}
		k.mu.Lock()
		now := bootTime()
		for _, a := range k.attempts {
			if !a.leased() || a.lease > now {
				continue
			}
			k.log.Warn("lease lost", "run", a.run, "attempt", a.attempt)
			a.lease, a.leaseLost = 0, true
			k.endAttempt(a, Kill)
		}
		k.alarmAt = 0
		k.setAlarm()
		k.mu.Unlock()
	}
}

// leased reports whether the end of its lease can still end a. Its caller
// holds mu.
func (a *attempt) leased() bool {
	return a.lease > 0 && a.state == stateRunning && (!a.reaped || a.kill != nil)
}

// setAlarm sets the alarm for the lease that ends first. Its caller holds mu.
func (k *keeper) setAlarm() {
	var first time.Duration
	for _, a := range k.attempts {
		if a.leased() && (first == 0 || a.lease < first) {
			first = a.lease
		}
	}
	if first == k.alarmAt {
		return
	}
	k.alarmAt = first
	if err := k.alarm.set(first); err != nil {
		k.log.Error("set the alarm for the end of a lease", "error", err)
	}
}

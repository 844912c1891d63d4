package daemon

import (
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/plan"
)

// ReadClock takes a reading of the machine's clocks.
func ReadClock() plan.Reading {
	return plan.Reading{
		Wall:    time.Now(),
		Running: clock(runningClock),
		Elapsed: clock(elapsedClock),
		Boot:    boot(),
	}
}

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0 // there on every kernel that Go runs on
	}
	return time.Duration(ts.Nano())
}

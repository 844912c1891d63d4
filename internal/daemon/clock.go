package daemon

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/plan"
)

// ReadClock takes a reading of the machine's clocks.
func ReadClock() plan.Reading {
	return plan.Reading{
		Wall:    time.Now(),
		Running: clock(unix.CLOCK_MONOTONIC),
		Elapsed: clock(unix.CLOCK_BOOTTIME),
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

// boot names this boot: the kernel's boot id and the start time of process 1,
// so that the restart of a container counts as one. It outlives this process.
var boot = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return strings.TrimSpace(string(id))
	}
	// Field 22, counted behind the name, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return strings.TrimSpace(string(id))
	}
	return fmt.Sprintf("%s-%s", strings.TrimSpace(string(id)), fields[19])
})

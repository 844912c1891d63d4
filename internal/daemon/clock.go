package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
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

// HostZone finds the machine's time zone by name: TZ, /etc/timezone, or where
// /etc/localtime leads. A machine without any is in UTC, as for the C library.
func HostZone(environ []string) (*time.Location, error) {
	for _, v := range environ {
		if name, found := strings.CutPrefix(v, "TZ="); found && name != "" {
			zone, err := hostZone(strings.TrimPrefix(name, ":"))
			if err != nil {
				return nil, fmt.Errorf("the environment's TZ: %w", err)
			}
			return zone, nil
		}
	}
	if link, err := filepath.EvalSymlinks("/etc/localtime"); err == nil {
		if _, name, found := strings.Cut(link, "zoneinfo/"); found {
			return hostZone(strings.TrimPrefix(name, "posix/"))
		}
	}
	if text, err := os.ReadFile("/etc/timezone"); err == nil && strings.TrimSpace(string(text)) != "" {
		return hostZone(strings.TrimSpace(string(text)))
	}
	if _, err := os.Stat("/etc/localtime"); err == nil {
		return nil, fmt.Errorf("the machine's time zone has no name (/etc/localtime is a plain file and /etc/timezone is not there); set TZ to one like Asia/Seoul")
	}
	return time.UTC, nil
}

// hostZone loads a zone by the name that the machine has for it. UTC has
// several; people know one.
func hostZone(name string) (*time.Location, error) {
	switch name {
	case "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal":
		return time.UTC, nil
	}
	return job.LoadZone(name)
}

package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What is asked of Linux, and of macOS in other words: machine_darwin.go.

const (
	bootClock = unix.CLOCK_BOOTTIME
	fdFolder  = "/proc/self/fd"
	rssUnit   = 1024       // of getrusage, in bytes
	allDead   = unix.ESRCH // of kill, for a group in which nobody lives

	argumentRule = "no single one of 128 KiB" // is taken by execve
)

// mostOf is how much of a resource there is, whatever its limit says.
func mostOf(string) uint64 { return unix.RLIM_INFINITY }

// Self is the path of this very program, also when another has taken its place.
func Self() string { return "/proc/self/exe" }

// readProcess reads /proc/PID/stat.
func readProcess(pid int) (process, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, string(data))
}

func parseStat(pid int, stat string) (process, error) {
	// The name, field 2, is in parentheses and may contain anything.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return process{}, fmt.Errorf("read /proc/%d/stat: %d fields after the name", pid, len(fields))
	}
	p := process{pid: pid, state: fields[0][0]}
	var errs [5]error
	p.parent, errs[0] = strconv.Atoi(fields[4-3])
	p.group, errs[1] = strconv.Atoi(fields[5-3])
	p.session, errs[2] = strconv.Atoi(fields[6-3])
	p.threads, errs[3] = strconv.Atoi(fields[20-3])
	p.started, errs[4] = strconv.ParseUint(fields[22-3], 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return process{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	return p, nil
}

// processes lists all that are in /proc. It is no snapshot: a process that
// forks and ends while the list is read can be missed together with its
// child, so who needs to know that there is none asks twice.
func processes() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make([]process, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil { // else it has ended
			all = append(all, p)
		}
	}
	return all, nil
}

// environ is the environment that a process was executed with, as far as it may
// be read.
func environ(pid int) []byte {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ") // what cannot be read is nobody's
	return text
}

// bootID tells this boot of the machine from all others.
var bootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
})

// bootTicks is now in the unit of field 22 of /proc/PID/stat, which Linux
// shows in hundredths of a second on every architecture.
func bootTicks() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return uint64(now.Nano() / int64(10*time.Millisecond))
}

// peakSize is how much memory this process can have had at most, in bytes; 0: not known.
// Before Linux 6.2 each thread counts 64 pages by itself before the process has them
// (TASK_RSS_EVENTS_THRESH in mm/memory.c).
func peakSize() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	number := func(name string) (n int64) {
		_, rest, _ := strings.Cut(string(text), "\n"+name+":")
		_, _ = fmt.Sscan(rest, &n)
		return n
	}
	peak := number("VmHWM") << 10
	if peak == 0 {
		return 0
	}
	return peak + 64*number("Threads")*int64(os.Getpagesize())
}

// residentSize is how much memory a process has, in bytes; 0 when it is gone.
func residentSize(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

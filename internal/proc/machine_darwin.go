package proc

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What is asked of macOS, and of Linux in other words: machine_linux.go.

const (
	bootClock = unix.CLOCK_MONOTONIC // it goes on while the machine sleeps
	fdFolder  = "/dev/fd"
	rssUnit   = 1          // of getrusage, in bytes
	allDead   = unix.EPERM // of kill, for a group that has nobody but zombies

	argumentRule = "1 MiB of them all" // is taken by execve
)

// mostOf is how much of a resource there is, whatever its limit says: that of files
// mostly says that there is no end of them.
func mostOf(resource string) uint64 {
	if resource == "open_files" {
		if most, err := unix.SysctlUint32("kern.maxfilesperproc"); err == nil { // root may have kern.maxfiles
			return uint64(most)
		}
	}
	return unix.RLIM_INFINITY
}

// Self is the path of this very program.
func Self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// readProcess asks for one process.
func readProcess(pid int) (process, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return process{}, err // EIO when there is none
	}
	return toProcess(info), nil
}

func toProcess(info *unix.KinfoProc) process {
	const stopped, zombie = 4, 5 // SSTOP, SZOMB
	p := process{
		pid: int(info.Proc.P_pid), parent: int(info.Eproc.Ppid), group: int(info.Eproc.Pgid),
		started: ticks(time.Unix(info.Proc.P_starttime.Unix())), threads: 1,
	}
	switch info.Proc.P_stat {
	case stopped:
		p.state = 'T'
	case zombie:
		p.state = 'Z'
	}
	p.session, _ = unix.Getsid(p.pid) // 0 when it has ended
	return p
}

// processes lists all. It is no snapshot, as on Linux.
func processes() ([]process, error) {
	infos, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, os.NewSyscallError("sysctl kern.proc.all", err)
	}
	all := make([]process, 0, len(infos))
	for i := range infos {
		all = append(all, toProcess(&infos[i]))
	}
	return all, nil
}

// environ is the environment that a process was executed with, behind its
// arguments. macOS tells it of our own processes only, and of none of its own
// programs, such as /bin/sleep.
func environ(pid int) []byte {
	text, _ := unix.SysctlRaw("kern.procargs2", pid) // what cannot be read is nobody's
	return behindArguments(text)
}

// bootID tells this boot of the machine from all others.
var bootID = sync.OnceValues(func() (string, error) {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	return id, os.NewSyscallError("sysctl kern.bootsessionuuid", err)
})

// bootTicks is now in the unit of when a process started. macOS notes that by
// the wall clock, so a process is not found again when that was set back between
// the two.
func bootTicks() uint64 { return ticks(time.Now()) }

func ticks(t time.Time) uint64 { return uint64(t.UnixMilli() / 10) }

// peakSize is how much memory this process has had at most, in bytes; 0: not known.
func peakSize() int64 {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return usage.Maxrss
}

// residentSize is not asked for here.
func residentSize(int) int64 { return 0 }

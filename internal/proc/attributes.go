package proc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limit bounds a resource of each process of an attempt, soft and hard.
type Limit struct {
	Resource string `json:"resource"` // open_files, processes, file_size, core_size, cpu_time, memory (address space), stack
	Value    int64  `json:"value"`    // a count, bytes or seconds; Unlimited
}

// Unlimited is the value of a Limit that takes a limit away.
const Unlimited = -1

var resources = map[string]int{
	"open_files": unix.RLIMIT_NOFILE,
	"processes":  unix.RLIMIT_NPROC,
	"file_size":  unix.RLIMIT_FSIZE,
	"core_size":  unix.RLIMIT_CORE,
	"cpu_time":   unix.RLIMIT_CPU,
	"memory":     unix.RLIMIT_AS,
	"stack":      unix.RLIMIT_STACK,
}

// An attempt that asks for a umask, a niceness or limits begins as a shell
// that says when it is there, and waits: the keeper sets what it was asked for on that process,
// and says of each thing why it cannot be had; then the shell executes the
// program. Limits set on the keeper instead, for as long as it forks, would be
// the keeper's own, and not all of them could be taken back. Nothing stands
// between the keeper and all other jobs.
//
// It has to say so because fork and exec return before the kernel has done with
// the exec, whose end sets the limit of the stack.
const prelude = `umask %s && echo >&3 && read x <&3 && exec 3<&- && exec "$0" "$@"`

func (s Spec) hasAttributes() bool {
	return s.Umask != "" || s.Nice != 0 || len(s.Limits) > 0
}

// executeWithAttributes is syscall.ForkExec for an attempt that asks for some.
// Its caller holds forkMu.
func executeWithAttributes(spec Spec, attr syscall.ProcAttr) (pid int, err error) {
	mask := "022"
	if spec.Umask != "" {
		n, err := strconv.ParseUint(spec.Umask, 8, 16)
		if err != nil || n > 0o777 {
			return 0, fmt.Errorf("umask %q: not an octal number up to 777", spec.Umask)
		}
		mask = fmt.Sprintf("%03o", n)
	}
	// It could fail later, but then with the shell's words only.
	if _, err := lookPath(spec, attr.Env); err != nil {
		return 0, err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	ours, theirs := ends[0], ends[1]
	defer func() { _ = unix.Close(ours) }()
	attr.Files = append(slices.Clone(attr.Files), uintptr(theirs))
	const shell = "/bin/sh"
	pid, err = syscall.ForkExec(shell, append([]string{shell, "-c", fmt.Sprintf(prelude, mask)}, spec.Args...), &attr)
	_ = unix.Close(theirs)
	if err != nil {
		return 0, explain(err, shell, spec, attr.Env)
	}
	var word [1]byte
	n, err := readAgain(ours, word[:])
	switch {
	case err == nil && n == 0:
		err = fmt.Errorf("%s ended before it was given its attributes", shell)
	case err == nil:
		err = setAttributes(pid, spec)
	}
	if err == nil {
		_, err = unix.Write(ours, word[:])
	}
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		for errors.Is(wait(pid), unix.EINTR) {
		}
		return 0, err
	}
	return pid, nil
}

func readAgain(fd int, data []byte) (n int, err error) {
	for {
		n, err = unix.Read(fd, data)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func wait(pid int) error {
	_, err := unix.Wait4(pid, nil, 0, nil)
	return err
}

func setAttributes(pid int, spec Spec) error {
	if spec.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, pid, spec.Nice); err != nil {
			if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
				return fmt.Errorf("nice %d: only root may put a job before others", spec.Nice)
			}
			return fmt.Errorf("nice %d: %w", spec.Nice, err)
		}
	}
	for _, limit := range spec.Limits {
		resource, known := resources[limit.Resource]
		if !known {
			return fmt.Errorf("limit %s: there is no such resource", limit.Resource)
		}
		value := uint64(limit.Value)
		if limit.Value < 0 {
			value = unix.RLIM_INFINITY
		}
		err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
		if errors.Is(err, unix.EPERM) {
			var now unix.Rlimit
			if unix.Prlimit(pid, resource, nil, &now) == nil && now.Max != unix.RLIM_INFINITY {
				return fmt.Errorf("limit %s to %s: at most %d is allowed here", limit.Resource, limit, now.Max)
			}
		}
		if err != nil {
			return fmt.Errorf("limit %s to %s: %w", limit.Resource, limit, err)
		}
	}
	return nil
}

// String gives the value.
func (l Limit) String() string {
	if l.Value < 0 {
		return "unlimited"
	}
	return strconv.FormatInt(l.Value, 10)
}

package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

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

// An attempt that asks for a umask, a niceness or limits begins as this very
// binary under another name: it sets them on itself, says why one cannot be had,
// and executes the program. Limits set on the keeper instead, for as long as it
// forks, would be the keeper's own, and not all of them could be taken back; a
// shell in between would change the environment. Nothing stands between the
// keeper and all other jobs.
const preludeName = "belfry-prelude"

// preludeError is what it answers when it does not execute the program.
type preludeError struct {
	Text  string        `json:"text,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"` // of the exec
}

// It is an init because every binary that can be a keeper has to answer to the
// name, the tests' too, and before it has prepared for anything else.
func init() {
	if len(os.Args) == 1 && os.Args[0] == preludeName {
		unix.CloseOnExec(3)
		keeper := os.NewFile(3, "keeper")
		_ = json.NewEncoder(keeper).Encode(becomeProgram(keeper)) // else the keeper is dead
		os.Exit(1)                                                //nolint:forbidigo // the main function must not begin
	}
}

// becomeProgram returns only when it fails.
func becomeProgram(keeper io.Reader) preludeError {
	var wire wireSpec
	if err := json.NewDecoder(keeper).Decode(&wire); err != nil {
		return preludeError{Text: err.Error()}
	}
	spec := wire.spec()
	// On this thread, the main one, which is the one that executes.
	if err := setAttributes(spec); err != nil {
		return preludeError{Text: err.Error()}
	}
	path, err := lookPath(spec, spec.Env)
	if err != nil {
		return preludeError{Text: err.Error()}
	}
	err = syscall.Exec(path, spec.Args, spec.Env)
	answer := preludeError{Text: explain(err, path, spec, spec.Env).Error()}
	errors.As(err, &answer.Errno)
	return answer
}

// preludePatience is how long the process between keeper and program may take.
const preludePatience = 10 * time.Second

func (s Spec) hasAttributes() bool {
	return s.Umask != "" || s.Nice != 0 || len(s.Limits) > 0
}

// executeWithAttributes is syscall.ForkExec for an attempt that asks for some.
// Its caller holds forkMu.
func executeWithAttributes(spec Spec, attr syscall.ProcAttr) (pid int, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	theirs := ends[1]
	if err := unix.SetNonblock(ends[0], true); err != nil { // our end alone: so it has deadlines
		return 0, errors.Join(err, unix.Close(ends[0]), unix.Close(theirs))
	}
	ours := os.NewFile(uintptr(ends[0]), "prelude")
	defer func() { _ = ours.Close() }()
	// It may run as somebody who halts it, or answers in its place.
	if err := ours.SetDeadline(time.Now().Add(preludePatience)); err != nil {
		return 0, errors.Join(err, unix.Close(theirs))
	}
	attr.Files = append(slices.Clone(attr.Files), uintptr(theirs))
	const self = "/proc/self/exe"
	pid, err = syscall.ForkExec(self, []string{preludeName}, &attr)
	_ = unix.Close(theirs)
	if err != nil {
		return 0, explain(err, self, spec, attr.Env)
	}
	wire := toWire(spec)
	wire.Stdin, wire.Env = nil, convert[text](attr.Env)
	err = json.NewEncoder(ours).Encode(wire)
	if err == nil {
		var refusal preludeError
		err = json.NewDecoder(io.LimitReader(ours, 1<<20)).Decode(&refusal)
		switch {
		case errors.Is(err, io.EOF): // closed by the exec
			return pid, nil
		case err == nil && refusal.Errno != 0:
			err = explained{errors.New(refusal.Text), refusal.Errno}
		case err == nil:
			err = errors.New(refusal.Text)
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	for errors.Is(wait(pid), unix.EINTR) {
	}
	return 0, err
}

func wait(pid int) error {
	_, err := unix.Wait4(pid, nil, 0, nil)
	return err
}

// setAttributes sets them on this process, of niceness on this thread.
func setAttributes(spec Spec) error {
	if spec.Umask != "" {
		mask, err := strconv.ParseUint(spec.Umask, 8, 16)
		if err != nil || mask > 0o777 {
			return fmt.Errorf("umask %q: not an octal number up to 777", spec.Umask)
		}
		unix.Umask(int(mask))
	}
	if spec.Nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, spec.Nice); err != nil {
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
		err := unix.Prlimit(0, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
		if errors.Is(err, unix.EPERM) {
			var now unix.Rlimit
			if unix.Prlimit(0, resource, nil, &now) == nil && now.Max != unix.RLIM_INFINITY {
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

package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"belfry/internal/proc/early"
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

// An attempt that asks for a umask, a niceness or limits, or runs as another user,
// begins as this very binary under another name: it becomes that user, sets them
// on itself, enters the folder, says why one of this cannot be had, and executes
// the program. Limits set on the keeper instead, for as long as it forks, would be
// the keeper's own, and not all of them could be taken back; a shell in between
// would change the environment. And a keeper that forked into another user's hands
// would wait for that user, who may halt the process, or have a home that never
// answers: so long nobody's job would start. Nothing stands between the keeper and
// all other jobs.
//
// A process that has no more to do than to become its user and enter the folder has
// become the program before this package is initialized: package early.
const preludeName = early.Name

// preludeError is what it answers when it does not execute the program.
type preludeError struct {
	Text string `json:"text"`
}

// It is an init because every binary that can be a keeper has to answer to the
// name, the tests' too, and before it has prepared for anything else.
func init() {
	if len(os.Args) == 1 && os.Args[0] == preludeName {
		keeper := os.NewFile(3, "keeper")
		err := becomeProgram()
		_ = json.NewEncoder(keeper).Encode(preludeError{err.Error()}) // else the keeper is dead
		os.Exit(1)                                                    //nolint:forbidigo // the main function must not begin
	}
}

// becomeProgram returns only when it fails.
func becomeProgram() error {
	if early.Taken == nil {
		return errors.New("what is to be started was not told whole")
	}
	var wire wireSpec
	if err := json.Unmarshal(early.Taken.Rest, &wire); err != nil {
		return err
	}
	spec := wire.spec()
	// A keeper has nothing open that it was left; who else starts us may.
	if err := closeInherited(); err != nil {
		return err
	}
	// From here on nothing is done that its user could not do.
	if !early.Became {
		if err := becomeUser(spec.Credential); err != nil {
			return err
		}
	}
	// On this thread, the main one, which is the one that executes.
	if err := setAttributes(spec); err != nil {
		return err
	}
	if err := enter(&spec); err != nil {
		return err
	}
	args, env, ok := direct(spec, spec.Env)
	path, err := lookPath(spec, spec.Env)
	if err != nil {
		return err
	}
	if err := limitMemory(spec); err != nil {
		return err
	}
	if ok {
		_ = syscall.Exec(args[0], args, env) // an error is told by the shell, as in execute
	}
	return explain(syscall.Exec(path, spec.Args, spec.Env), path, spec, spec.Env)
}

// becomeUser gives all rights away but those of a user.
func becomeUser(c *Credential) error {
	if c == nil {
		return nil
	}
	groups := make([]int, len(c.Groups))
	for i, gid := range c.Groups {
		groups[i] = int(gid)
	}
	err := syscall.Setgroups(groups)
	if err == nil {
		err = syscall.Setgid(int(c.GID))
	}
	if err == nil {
		err = syscall.Setuid(int(c.UID))
	}
	if err != nil {
		return fmt.Errorf("as user %d: %w", c.UID, err)
	}
	return nil
}

// enter changes into the attempt's folder, or into the other one that it gives.
func enter(spec *Spec) error {
	if spec.Cwd == "" {
		return nil
	}
	err := os.Chdir(spec.Cwd)
	if err != nil && spec.CwdElse != "" {
		spec.Cwd = spec.CwdElse
		err = os.Chdir(spec.Cwd)
	}
	if err != nil {
		return explain(err, "", *spec, nil)
	}
	return nil
}

// needsPrelude reports whether a process has something to do before it executes
// the program.
func (s Spec) needsPrelude() bool {
	return s.Umask != "" || s.Nice != 0 || len(s.Limits) > 0 || s.Credential != nil && int(s.Credential.UID) != os.Geteuid()
}

// forkPrelude starts the process that is going to be the attempt's program. What
// it needs to know for that is told to it, and heard of it, by the returned
// function, which takes as long as the process does and gives the error that
// keeps it from the program. Its caller holds forkMu.
func forkPrelude(spec Spec, attr syscall.ProcAttr) (pid int, talk func() error, err error) {
	ends, err := closedOnExec(func() ([2]int, error) { return unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0) })
	if err != nil {
		return 0, nil, err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "prelude"), ends[1]
	spec.Stdin, spec.Env = nil, attr.Env
	told, err := preludeOrder(spec)
	if err != nil {
		return 0, nil, errors.Join(err, ours.Close(), unix.Close(theirs))
	}
	attr.Files = append(slices.Clone(attr.Files), uintptr(theirs))
	attr.Dir = "/"
	// The job's own environment is not for us; by these it is found again.
	attr.Env = slices.DeleteFunc(slices.Clone(attr.Env), func(entry string) bool {
		return !strings.HasPrefix(entry, "BELFRY_RUN=") && !strings.HasPrefix(entry, "BELFRY_ATTEMPT=")
	})
	self := Self()
	pid, err = syscall.ForkExec(self, []string{preludeName}, &attr)
	_ = unix.Close(theirs)
	if err != nil {
		_ = ours.Close()
		return 0, nil, explain(err, self, spec, attr.Env)
	}
	return pid, func() error {
		defer func() { _ = ours.Close() }()
		_, _ = ours.Write(told) // if it is dead, its end tells more
		var answer preludeError
		// It may be the user who speaks.
		if json.NewDecoder(io.LimitReader(ours, 1<<20)).Decode(&answer) != nil {
			return nil // closed by the exec, or by its end
		}
		return errors.New(answer.Text)
	}, nil
}

// preludeOrder is what such a process is told. Where that is all there is to it, it
// is also told what to execute: the shell, or what that would, unless the user's
// folders must be looked at to know.
func preludeOrder(spec Spec) ([]byte, error) {
	rest, err := json.Marshal(toWire(spec))
	if err != nil {
		return nil, err
	}
	order := early.Order{Cwd: spec.Cwd, CwdElse: spec.CwdElse, Rest: rest}
	if c := spec.Credential; c != nil && spec.Umask == "" && spec.Nice == 0 && len(spec.Limits) == 0 {
		order.UID, order.GID, order.Groups = c.UID, c.GID, c.Groups
		order.Args, order.Env, order.PWD = simply(spec)
	}
	return order.Bytes(), nil
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
		if limit.Resource == memory {
			continue // limitMemory's
		}
		if err := limit.set(); err != nil {
			return err
		}
	}
	return nil
}

// memory is the limit that is set last.
const memory = "memory"

// limitMemory sets the limit of address space. It is of the order of what a process
// of Go's reserves for itself: from here on this one gets nothing more, so that
// garbage must make the room for the little that is still to be done.
func limitMemory(spec Spec) error {
	i := slices.IndexFunc(spec.Limits, func(l Limit) bool { return l.Resource == memory })
	if i < 0 {
		return nil
	}
	if runtime.GOOS == "darwin" {
		return errors.New("limit memory: macOS keeps none; without it in belfry.yaml the job can be run here")
	}
	runtime.MemProfileRate = 0 // nor does its profile
	runtime.GC()
	return spec.Limits[i].set()
}

// set limits this process, and those that it becomes or starts.
func (l Limit) set() error {
	resource, known := resources[l.Resource]
	if !known {
		return fmt.Errorf("limit %s: there is no such resource", l.Resource)
	}
	value := uint64(l.Value)
	if l.Value < 0 {
		value = unix.RLIM_INFINITY
	}
	err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) { // EINVAL: more than macOS has
		var now unix.Rlimit
		if unix.Getrlimit(resource, &now) == nil && min(now.Max, mostOf(l.Resource)) < value {
			return fmt.Errorf("limit %s to %s: at most %d is allowed here", l.Resource, l, min(now.Max, mostOf(l.Resource)))
		}
	}
	if err != nil {
		return fmt.Errorf("limit %s to %s: %w", l.Resource, l, err)
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

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is searched when the environment has no PATH; it is cron's.
const defaultPath = "/usr/bin:/bin"

// spawn forks and executes spec with its output in the attempt's log, and
// returns the pid. It is syscall.ForkExec and not os/exec: one process stands
// between the keeper and the job's program, none after it. cgroup is a
// descriptor of the cgroup it starts in, or -1. talk is not nil where the process
// has still to become the program: forkPrelude says what it is. The caller holds
// forkMu.
func spawn(ctx context.Context, stdin *sync.WaitGroup, spec Spec, cgroup int) (pid int, talk func() error, err error) {
	env := environment(spec)

	// Bare descriptors, not os.File: nothing here has a finalizer that could
	// close a number which has been given away meanwhile.
	in, feed, err := openStdin(spec)
	if err != nil {
		return 0, nil, fmt.Errorf("standard input: %w", err)
	}
	defer func() { _ = unix.Close(in) }()
	defer func() {
		if err != nil && feed >= 0 {
			_ = unix.Close(feed)
		}
	}()
	logPath := spec.Dir + "/" + logName // where only we can have put anything
	out, err := unix.Open(logPath, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, nil, &fs.PathError{Op: "open", Path: logPath, Err: err}
	}
	defer func() { _ = unix.Close(out) }()
	if c := spec.Credential; c != nil { // a job may open its output anew: > /dev/stderr
		if err := unix.Fchown(out, int(c.UID), int(c.GID)); err != nil {
			return 0, nil, &fs.PathError{Op: "chown", Path: logPath, Err: err}
		}
	}

	attr := syscall.ProcAttr{
		Dir:   spec.Cwd,
		Env:   env,
		Files: []uintptr{uintptr(in), uintptr(out), uintptr(out)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	startIn(attr.Sys, cgroup)
	if spec.needsPrelude() {
		pid, talk, err = forkPrelude(spec, attr)
	} else {
		if c := spec.Credential; c != nil {
			attr.Sys.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
		}
		pid, err = execute(spec, attr)
		if err != nil && spec.CwdElse != "" {
			spec.Cwd, attr.Dir = spec.CwdElse, spec.CwdElse // should that not have been it, it fails again
			pid, err = execute(spec, attr)
		}
	}
	if err != nil {
		return 0, nil, err
	}
	if feed >= 0 {
		feedStdin(ctx, stdin, feed, spec.Stdin)
	}
	return pid, talk, nil
}

// execute forks and executes spec.
func execute(spec Spec, attr syscall.ProcAttr) (pid int, err error) {
	if args, env, ok := direct(spec, attr.Env); ok {
		dash := attr
		dash.Env = env
		// An error is told by the shell: it has words and exit codes of its
		// own for it, and may know more, such as how to run a script that
		// names no interpreter.
		if pid, err := syscall.ForkExec(args[0], args, &dash); err == nil {
			return pid, nil
		}
	}
	path, err := lookPath(spec, attr.Env)
	if err != nil {
		return 0, err
	}
	pid, err = syscall.ForkExec(path, spec.Args, &attr)
	if err != nil {
		return 0, explain(err, path, spec, attr.Env)
	}
	return pid, nil
}

// environment gives each name once, the last value of it, and the two
// variables by which an attempt's processes are found again.
func environment(spec Spec) []string {
	env := slices.Concat(spec.Env, []string{
		"BELFRY_RUN=" + spec.Run,
		"BELFRY_ATTEMPT=" + strconv.Itoa(spec.Attempt),
	})
	seen := make(map[string]bool, len(env))
	kept := make([]string, 0, len(env))
	for _, entry := range slices.Backward(env) {
		name, _, found := strings.Cut(entry, "=")
		if found && seen[name] {
			continue
		}
		seen[name] = true
		kept = append(kept, entry)
	}
	slices.Reverse(kept)
	return kept
}

// lookPath finds the program as execvp would, but in the job's own PATH and
// from its own folder.
func lookPath(spec Spec, env []string) (string, error) {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return "", errors.New("no program was given")
	}
	name := spec.Args[0]
	if strings.Contains(name, "/") {
		return name, nil // exec itself says what is wrong with it
	}
	path := defaultPath
	for _, entry := range env {
		if value, found := strings.CutPrefix(entry, "PATH="); found {
			path = value
		}
	}
	var unfit string
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if dir == "" || dir == "." {
			file = "./" + name
		}
		seenAt := file
		if !filepath.IsAbs(file) {
			seenAt = filepath.Join(spec.Cwd, file)
		}
		info, err := os.Stat(seenAt)
		if err != nil || info.IsDir() {
			continue
		}
		if unix.Access(seenAt, unix.X_OK) == nil {
			return file, nil
		}
		unfit = seenAt
	}
	if unfit != "" {
		return "", fmt.Errorf("%s: not executable (mode %s)", unfit, fileMode(unfit))
	}
	return "", fmt.Errorf("%s: no such program in PATH (%s)", name, path)
}

// openStdin gives the job's standard input, and what feeds it or -1.
func openStdin(spec Spec) (in, feed int, err error) {
	if spec.StdinNull {
		in, err = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return in, -1, err
	}
	pipe, err := closedOnExec(func() (ends [2]int, err error) {
		err = unix.Pipe(ends[:])
		return ends, err
	})
	if err != nil {
		return 0, -1, err
	}
	if len(spec.Stdin) == 0 {
		_ = unix.Close(pipe[1])
		return pipe[0], -1, nil
	}
	// Only our end: the two ends of a pipe do not share this flag.
	if err := unix.SetNonblock(pipe[1], true); err != nil {
		_ = unix.Close(pipe[0])
		_ = unix.Close(pipe[1])
		return 0, -1, err
	}
	return pipe[0], pipe[1], nil
}

// closedOnExec makes two descriptors that no program inherits.
func closedOnExec(pair func() ([2]int, error)) ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	ends, err := pair()
	if err == nil {
		unix.CloseOnExec(ends[0])
		unix.CloseOnExec(ends[1])
	}
	return ends, err
}

// feedStdin writes data and closes feed. What fits into the pipe at once, so
// nearly everything, takes no goroutine. A job that does not read its input
// blocks nobody, and one that closes it has done nothing wrong.
func feedStdin(ctx context.Context, wait *sync.WaitGroup, feed int, data []byte) {
	for len(data) > 0 {
		n, err := unix.Write(feed, data)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			data = nil
			break
		}
		data = data[n:]
	}
	if len(data) == 0 {
		_ = unix.Close(feed)
		return
	}
	file := os.NewFile(uintptr(feed), "stdin") // non-blocking, so it goes to the poller
	stop := context.AfterFunc(ctx, func() { _ = file.Close() })
	wait.Go(func() {
		defer stop()
		defer func() { _ = file.Close() }()
		file.Write(data) //nolint:errcheck // EPIPE: nobody reads any more
	})
}

// explain says in words for people why exec failed, and has the kernel's number
// for programs.
func explain(err error, path string, spec Spec, env []string) error {
	return explained{why(err, path, spec, env), err}
}

type explained struct {
	error
	cause error
}

func (e explained) Unwrap() error { return e.cause }

// why gives the words: the kernel has one number for a missing folder, a
// missing program and a missing interpreter.
func why(err error, path string, spec Spec, env []string) error {
	if spec.Cwd != "" {
		info, statErr := os.Stat(spec.Cwd)
		switch {
		case errors.Is(statErr, fs.ErrNotExist):
			return fmt.Errorf("folder %s: no such directory", spec.Cwd)
		case statErr != nil:
			return fmt.Errorf("folder %s: %w", spec.Cwd, errors.Unwrap(statErr))
		case !info.IsDir():
			return fmt.Errorf("folder %s: not a directory", spec.Cwd)
		case unix.Access(spec.Cwd, unix.X_OK) != nil:
			return fmt.Errorf("folder %s: permission denied", spec.Cwd)
		}
	}
	file := path
	if !filepath.IsAbs(file) {
		file = filepath.Join(spec.Cwd, file)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		if _, statErr := os.Stat(file); statErr == nil {
			if interpreter := shebang(file); interpreter != "" {
				return fmt.Errorf("%s: its interpreter %s: no such file", path, interpreter)
			}
			return fmt.Errorf("%s: the loader or interpreter it asks for: no such file", path)
		}
		return fmt.Errorf("%s: no such file", path)
	case errors.Is(err, unix.EACCES):
		info, statErr := os.Stat(file)
		switch {
		case statErr != nil:
			return fmt.Errorf("%s: permission denied", path)
		case info.IsDir():
			return fmt.Errorf("%s: is a directory", path)
		case info.Mode()&0o111 == 0:
			return fmt.Errorf("%s: not executable (mode %s)", path, fileMode(file))
		}
		return fmt.Errorf("%s: permission denied (mode %s)", path, fileMode(file))
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%s: neither a program for this machine nor a script that begins with #! and its interpreter", path)
	case errors.Is(err, unix.E2BIG):
		size := 0
		for _, entry := range slices.Concat(spec.Args, env) {
			size += len(entry) + 1
		}
		return fmt.Errorf("%s: argument list too long: arguments and environment have %d bytes, and the kernel takes %s", path, size, argumentRule)
	case errors.Is(err, unix.EINVAL) && slices.ContainsFunc(slices.Concat(spec.Args, env), hasNUL):
		return fmt.Errorf("%s: an argument or a variable contains a NUL byte", path)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%s: the limit of processes is reached", path)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%s: the machine has no memory for another process", path)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%s: the limit of open files is reached", path)
	}
	return fmt.Errorf("%s: %w", path, err)
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func fileMode(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%04o", info.Mode().Perm())
}

// shebang gives the interpreter of a script, "" when it is none.
func shebang(path string) string {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "" // opening a FIFO would wait for its writer
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	head := make([]byte, 256)
	n, _ := file.Read(head)
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	rest, found := strings.CutPrefix(line, "#!")
	if !found {
		return ""
	}
	if fields := strings.Fields(rest); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"belfry/internal/daemon"
	"belfry/internal/job"
	"belfry/internal/proc"
)

// underFirst tells the daemon that it is the child of the first process of a
// container, which is belfry too: what ends the daemon ends the container.
const underFirst = "BELFRY_UNDER_FIRST"

// isFirst reports whether this is the first process of a container.
func isFirst() bool { return os.Getpid() == 1 }

// forwarded says what the first process tells the daemon when it is told
// something. A container's stop signal may be any of the first three.
var forwarded = map[os.Signal]syscall.Signal{
	syscall.SIGTERM: syscall.SIGTERM, syscall.SIGINT: syscall.SIGINT, syscall.SIGQUIT: syscall.SIGTERM,
	syscall.SIGHUP: syscall.SIGHUP, syscall.SIGUSR1: syscall.SIGHUP, syscall.SIGUSR2: syscall.SIGHUP,
}

// beFirst does what the first process of a container is there for: it reaps
// whoever lost its parent, forwards signals, and ends as its child does, which
// carries out the same command line. That one can wait for children of its own
// as programs do: nobody takes them away before.
func (c *command) beFirst() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, slices.Collect(maps.Keys(forwarded))...)
	child, err := os.StartProcess(proc.Self(), os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), underFirst+"=1"),
		Files: []*os.File{c.in, c.out, c.err},
		// A group of its own: Ctrl-C would come to it from the terminal, and from us.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	pid := child.Pid
	if err := child.Release(); err != nil { // it is reaped with all others
		return err
	}
	var last atomic.Int64 // signal that was forwarded
	go func() {
		for told := range signals {
			if number, known := forwarded[told]; known {
				last.Store(int64(number))
				_ = syscall.Kill(pid, number) // it may just have ended
			}
		}
	}()
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the daemon: %w", err)
		case ended == pid:
			return asItEnded(status, syscall.Signal(last.Load()))
		}
	}
}

// asItEnded is how the first process ends when its child has. told is the signal
// that was forwarded last. Who is told to end and dies of just that was told before
// it knew what to do then: it had begun nothing, and has ended as it was told.
func asItEnded(status syscall.WaitStatus, told syscall.Signal) error {
	switch {
	case !status.Signaled():
		return exitCode(status.ExitStatus())
	case status.Signal() == told && told != syscall.SIGHUP: // which does not mean to end
		return nil
	}
	return exitCode(128 + int(status.Signal()))
}

// takeUnderFirst reports whether the first process of a container started this
// one, and takes it out of the environment: our children are not it.
func takeUnderFirst() bool {
	under := os.Getenv(underFirst) != ""
	_ = os.Unsetenv(underFirst) // it fails for names that are none
	return under
}

// containerGrace leaves time to write down how the jobs ended within the ten
// seconds that a container has to stop.
const containerGrace = "8s"

// containment is what serve does otherwise in a container.
type containment struct {
	grace, output string
	passEnv       bool
}

func (f *containment) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.output, "job-output", "", "print what the jobs print: "+strings.Join(jobOutputs, ", ")+" (default none; as process 1, plain)")
	cmd.Flags().BoolVar(&f.passEnv, "pass-env", false, "give jobs the environment of the daemon, below their own (default as process 1)")
	cmd.Flags().StringVar(&f.grace, "grace", "", "when told to end, end the jobs: TERM and, so much later, KILL; 0: they go on (default; as process 1, "+containerGrace+")")
}

// apply sets the options of a daemon. contained says that a container ends with
// it, passGiven that --pass-env was given.
func (f *containment) apply(c *command, o *daemon.Options, contained, passGiven bool) (err error) {
	if contained && c.data == "" && os.Getenv("BELFRY_DATA") == "" {
		if err := c.placeInContainer(o); err != nil {
			return err
		}
	}
	grace, output, pass := f.grace, f.output, f.passEnv
	if contained {
		grace, output, pass = cmp.Or(grace, containerGrace), cmp.Or(output, "plain"), pass || !passGiven
	}
	if pass && c.system {
		if passGiven {
			return usage("--pass-env would give root's environment to the jobs of all users").hint("what all of them are to have stands in /etc/environment")
		}
		pass = false
	}
	o.Host.PassEnviron = pass
	if grace != "" {
		if o.Grace, err = job.ParseDuration(grace); err != nil {
			return usage("--grace: %v", err).hint("write --grace 8s: so long after TERM jobs that are still running get KILL")
		}
	}
	if output != "" {
		if _, err := job.OneOf(output, jobOutputs); err != nil {
			return usage("--job-output: %v", err)
		}
	}
	o.Output = jobOutput(output, c.out, func() time.Time { return o.Clock().Wall })
	return nil
}

// placeInContainer gives the data folder of a daemon that was told none: where
// the one beside the work cannot be made, as on a read-only root, it is among
// the temporary files.
func (c *command) placeInContainer(o *daemon.Options) error {
	err := os.MkdirAll(o.Data, 0o700)
	if err == nil {
		return nil
	}
	if !errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return &daemon.FolderError{Dir: o.Data, Err: err}
	}
	o.Data = filepath.Join(os.TempDir(), fmt.Sprintf("belfry-%d", os.Getuid()))
	if err := os.Mkdir(o.Data, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return &daemon.FolderError{Dir: o.Data, Err: err}
	}
	info, err := os.Lstat(o.Data)
	if err != nil {
		return &daemon.FolderError{Dir: o.Data, Err: err}
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return &problem{err: fmt.Errorf("%s is not a folder of this user alone", o.Data), next: "name another data folder with --data", code: exitCannotWrite}
	}
	c.tell(fmt.Sprintf("the account of the runs is in %s and may go with the container; --data DIR, on a volume, keeps it", o.Data))
	return nil
}

package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"belfry/internal/job"
	"belfry/internal/proc"
)

// beginning is an attempt that is to be started, or the reason why it cannot be.
type beginning struct {
	run     Run
	job     *job.Job
	spec    proc.Spec
	secrets []string // of its environment
	err     error
}

// specsOf gives what the keeper gets of those that can be started.
func specsOf(list []beginning) (specs []proc.Spec) {
	for _, b := range list {
		if b.err == nil {
			specs = append(specs, b.spec)
		}
	}
	return specs
}

// ready makes what a claimed run needs to be started, its directories among it.
func (r *Runner) ready(ctx context.Context, run Run) beginning {
	b := beginning{run: run}
	b.err = r.specify(ctx, &b)
	return b
}

func (r *Runner) specify(ctx context.Context, b *beginning) error {
	run := b.run
	if _, known := r.job(run); !known {
		return errors.New("the job was removed before it could be started")
	}
	j, err := r.definition(ctx, run) // as it was claimed, maybe by the daemon before this one
	if err != nil {
		return err
	}
	dir, output := r.Dir(run.ID, run.Attempt), r.output(run.ID, run.Attempt)
	host, err := r.o.Host.Of(j.Owner)
	if err != nil {
		return err
	}
	env, err := environ(j, run, run.Attempt, output, host)
	if err != nil {
		return err
	}
	if _, err := targets(j, env); err != nil {
		return err
	}
	if err := r.makeDirs(run, host.Credential, len(j.Publish) > 0); err != nil {
		return fmt.Errorf("make the attempt's directory: %w", err)
	}
	cwd := j.Dir
	if cwd == "" {
		cwd, _ = env.Lookup("HOME")
	}
	cwdElse := ""
	if j.Crontab {
		cwdElse = host.Homeless
	}
	args := j.Command.Argv()
	if j.Python.Wanted() {
		args = r.o.Python(j, dir)
	}
	var limits []proc.Limit
	for _, l := range j.Limits {
		limits = append(limits, proc.Limit(l))
	}
	b.job, b.secrets = j, hidden(j, env, r.o.Host)
	b.spec = proc.Spec{
		Run: run.ID, Attempt: run.Attempt, Token: run.Token, Dir: dir,
		Args: args, Env: env.Strings(), Cwd: cwd, CwdElse: cwdElse, Credential: host.Credential,
		Stdin: []byte(j.Stdin), StdinNull: !j.Crontab && j.Stdin == "",
		Timeout: j.Timeout, KillAfter: j.KillAfter,
		LogLimit: max(cmp.Or(j.LogLimit, job.DefaultLogLimit), 0),
		Umask:    j.Umask, Nice: j.Nice, Limits: limits,
	}
	return nil
}

// PublishLock is the name, beside an attempt's output, of the file that is locked
// by whoever publishes it.
const PublishLock = "publish.lock"

// makeDirs makes the attempt's directory and the one for its output. For another
// user than the daemon's, the output and the lock of its publisher become that
// user's. The directory does not: so its owner can put nothing in the place of its
// records and its log, which we open.
func (r *Runner) makeDirs(run Run, owner *proc.Credential, publishes bool) error {
	dir := r.Dir(run.ID, run.Attempt)
	if run.Attempt > 1 || !r.spares.take(filepath.Dir(dir)) {
		if err := r.makeEmptyDirs(run); err != nil {
			return err
		}
	}
	if owner == nil {
		return nil
	}
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o711); err != nil { // the way to the output
			return err
		}
	}
	theirs := []string{r.output(run.ID, run.Attempt)}
	if publishes {
		lock := filepath.Join(dir, PublishLock)
		if err := os.WriteFile(lock, nil, 0o600); err != nil {
			return err
		}
		theirs = append(theirs, lock)
	}
	for _, path := range theirs {
		if err := os.Lchown(path, int(owner.UID), int(owner.GID)); err != nil {
			return err
		}
	}
	return nil
}

// makeEmptyDirs makes the directories; os.MkdirAll would look at each folder above
// first.
func (r *Runner) makeEmptyDirs(run Run) error {
	dir := r.Dir(run.ID, run.Attempt)
	for _, path := range []string{filepath.Dir(dir), dir, r.output(run.ID, run.Attempt)} {
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(path, 0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

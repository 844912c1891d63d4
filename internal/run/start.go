package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"belfry/internal/job"
	"belfry/internal/proc"
)

// pass starts what may start and says how long nothing will be due.
func (r *Runner) pass(ctx context.Context) time.Duration {
	waiting, err := r.o.Store.Waiting(ctx)
	if err != nil {
		r.o.Log.Error("read the waiting runs", "error", err)
		return again
	}
	running, err := r.o.Store.Running(ctx)
	if err != nil {
		r.o.Log.Error("read the running runs", "error", err)
		return again
	}
	ours := waiting[:0]
	for _, run := range waiting {
		if run.Attempt > 0 || !run.QueuedAt.Before(r.o.Since) {
			ours = append(ours, run)
		}
	}
	now := r.o.Now()
	if r.held.Load() {
		ours = nil
	}
	a := admit(ours, running, r.job, r.o.Slots(), now)
	for _, run := range ours {
		if reason, skip := a.skip[run.ID]; skip {
			r.move(ctx, run, Move{Run: run.ID, From: Queued, To: Skipped, Reason: reason, At: now})
		}
	}
	if len(a.waits) > 0 {
		if err := r.o.Store.Wait(ctx, a.waits); err != nil {
			r.o.Log.Error("note what runs wait for", "error", err)
		}
	}
	r.claim(ctx, a.start, now)
	switch {
	case len(r.doubtful) > 0:
		return again
	case !a.wake.IsZero():
		return min(a.wake.Sub(now), time.Minute)
	}
	return time.Minute
}

func (r *Runner) job(run Run) *job.Job {
	j, ok := r.o.Job(run.Job)
	if !ok {
		return nil
	}
	return j
}

// definition is the job as the run began with it. The values of the
// environment are today's: they are stored nowhere.
func (r *Runner) definition(ctx context.Context, run Run) (*job.Job, error) {
	if j := r.job(run); j != nil && j.Definition().Hash == run.Definition {
		return j, nil
	}
	text, err := r.o.Store.Definition(ctx, run.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of run %s: %w", run.ID, err)
	}
	stored, err := job.ParseDefinition(text)
	if err != nil {
		return nil, err
	}
	if j := r.job(run); j != nil {
		stored.Env = j.Env
	}
	return stored, nil
}

// Dir is the directory of an attempt: records, log and output.
func (r *Runner) Dir(run string, attempt int) string {
	return filepath.Join(r.o.Dir, run, strconv.Itoa(attempt))
}

// output is where an attempt leaves what is to be published.
func (r *Runner) output(run string, attempt int) string {
	return filepath.Join(r.Dir(run, attempt), "output")
}

// claim makes the runs ours, durably, and then starts them.
func (r *Runner) claim(ctx context.Context, runs []Run, now time.Time) {
	if len(runs) == 0 {
		return
	}
	var claims []Claim
	for _, run := range runs {
		j := r.job(run)
		if j == nil {
			continue // removed since it was admitted
		}
		c := Claim{
			Run: run.ID, Attempt: run.Attempt + 1, Token: run.Token + 1, Node: r.o.Node, Boot: r.o.Boot,
			Definition: j.Definition(), At: now,
		}
		if env, err := environ(j, run, c.Attempt, r.output(run.ID, c.Attempt), r.o.Host); err == nil {
			c.Targets, _ = targets(j, env) // an error ends the attempt in start
		}
		claims = append(claims, c)
	}
	claimed, err := r.o.Store.Claim(ctx, claims)
	if err != nil {
		r.o.Log.Error("claim runs", "runs", len(claims), "error", err)
		return
	}
	r.o.Changed()
	r.start(ctx, claimed)
}

// start hands claimed runs to the keeper, which takes each attempt only once.
func (r *Runner) start(ctx context.Context, runs []Run) {
	var specs []proc.Spec
	names := map[string]string{} // run → job, for the log
	for _, run := range runs {
		names[run.ID] = run.Name
		spec, err := r.spec(ctx, run)
		if err != nil {
			delete(r.doubtful, run.ID)
			now := r.o.Now()
			r.ended(ctx, run, proc.Exit{Code: -1, Error: err.Error(), StartedAt: now, EndedAt: now})
			continue
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return
	}
	err := r.o.Procs.Start(ctx, specs)
	for _, spec := range specs {
		if err != nil {
			r.doubtful[spec.Run] = true
		} else {
			delete(r.doubtful, spec.Run)
			r.o.Log.Info("started", "job", names[spec.Run], "run", spec.Run, "attempt", spec.Attempt)
		}
	}
	if err != nil {
		r.o.Log.Error("hand runs to the keeper", "runs", len(specs), "error", err)
	}
}

func (r *Runner) spec(ctx context.Context, run Run) (proc.Spec, error) {
	if r.job(run) == nil {
		return proc.Spec{}, errors.New("the job was removed before it could be started")
	}
	j, err := r.definition(ctx, run) // as it was claimed, maybe by the daemon before this one
	if err != nil {
		return proc.Spec{}, err
	}
	dir, output := r.Dir(run.ID, run.Attempt), r.output(run.ID, run.Attempt)
	env, err := environ(j, run, run.Attempt, output, r.o.Host)
	if err != nil {
		return proc.Spec{}, err
	}
	if _, err := targets(j, env); err != nil {
		return proc.Spec{}, err
	}
	if err := os.MkdirAll(output, 0o700); err != nil {
		return proc.Spec{}, fmt.Errorf("make the attempt's directory: %w", err)
	}
	cwd := j.Dir
	if cwd == "" {
		cwd, _ = env.Lookup("HOME")
	}
	return proc.Spec{
		Run: run.ID, Attempt: run.Attempt, Token: run.Token, Dir: dir,
		Args: j.Command.Argv(), Env: env.Strings(), Cwd: cwd,
		Stdin: []byte(j.Stdin), StdinNull: !j.Crontab,
		Timeout: j.Timeout, KillAfter: j.KillAfter,
	}, nil
}

// Environ gives the whole environment of a run's newest attempt: its publisher
// works in it.
func (r *Runner) Environ(ctx context.Context, id string) ([]string, error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return nil, err
	}
	env, err := environ(j, run, run.Attempt, r.output(id, run.Attempt), r.o.Host)
	if err != nil {
		return nil, err
	}
	return env.Strings(), nil
}

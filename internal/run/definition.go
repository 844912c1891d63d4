package run

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"weak"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/secrets"
)

func (r *Runner) job(run Run) (plan.Job, bool) { return r.o.Job(run.Job) }

// jobOrWhatItWas gives the job of a run and whether it is still there. One that is
// not takes what it took when the run began: whoever removes the lines of a crontab
// takes no slots from the jobs of a belfry.yaml.
func (r *Runner) jobOrWhatItWas(ctx context.Context) func(Run) (plan.Job, bool) {
	return func(run Run) (plan.Job, bool) {
		j, known := r.job(run)
		if known || run.Definition == "" {
			return j, known
		}
		was, remembered := r.removed[run.Definition]
		if !remembered {
			var err error
			if was, err = r.definition(ctx, run); err != nil {
				r.o.Log.Error("look at a run whose job was removed", "run", run.ID, "error", err)
				return j, false
			}
			if len(r.removed) >= 2000 {
				clear(r.removed)
			}
			r.removed[run.Definition] = was
		}
		return plan.Job{Job: was}, false
	}
}

// definitionOf remembers the definitions of jobs that ran lately.
func (r *Runner) definitionOf(j *job.Job) job.Definition {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := weak.Make(j) // one that is loaded no more would keep all that was read with it
	d, known := r.defined[at]
	if !known {
		if len(r.defined) >= 2000 {
			clear(r.defined)
		}
		d = j.Definition()
		r.defined[at] = d
	}
	return d
}

// definition is the job as the run began with it. The values of the
// environment are today's: they are stored nowhere.
func (r *Runner) definition(ctx context.Context, run Run) (*job.Job, error) {
	now, known := r.job(run)
	if known && r.definitionOf(now.Job).Hash == run.Definition {
		return now.Job, nil
	}
	text, err := r.o.Store.Definition(ctx, run.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of run %s: %w", run.ID, err)
	}
	stored, err := job.ParseDefinition(text)
	if err != nil {
		return nil, err
	}
	if known {
		stored.Env = now.Env
	}
	return stored, nil
}

// Dir is the directory of an attempt: records, log and output.
func (r *Runner) Dir(run string, attempt int) string {
	return AttemptDir(r.o.Dir, run, attempt)
}

// AttemptDir is the directory of an attempt below the one of all runs.
func AttemptDir(dir, run string, attempt int) string {
	return filepath.Join(dir, run, strconv.Itoa(attempt))
}

const outputName = "output"

// output is where an attempt leaves what is to be published.
func (r *Runner) output(run string, attempt int) string {
	return filepath.Join(r.Dir(run, attempt), outputName)
}

// JobOf gives the job of a run, as the run began with it.
func (r *Runner) JobOf(ctx context.Context, id string) (*job.Job, error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.definition(ctx, run)
}

// inEnvironOf is a job as its run began with it, whose variables come from where
// the job has them now: credentials are changed, and what was refused is mended
// by that. Another owner's are not for it.
func inEnvironOf(began, now *job.Job) *job.Job {
	settings := *began.Settings
	if now.Owner == began.Owner {
		settings.Env, settings.EnvFile, settings.Secrets, settings.SecretsFile = now.Env, now.EnvFile, now.Secrets, now.SecretsFile
	}
	mended := *began
	mended.Settings = &settings
	return &mended
}

// Environ gives the whole environment of a run's newest attempt, with what the
// job's env, env_file and secrets say today, whom it ran as, nil for the daemon's
// own user, and a function that stars its secrets in a text: its publisher works
// in it, as that one, and what it says goes through that.
func (r *Runner) Environ(ctx context.Context, id string) (env []string, as *proc.Credential, hush func(string) string, err error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, nil, nil, err
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return nil, nil, nil, err
	}
	if now, known := r.job(run); known {
		j = inEnvironOf(j, now.Job)
	}
	host, err := r.o.Host.Of(j.Owner)
	if err != nil {
		return nil, nil, nil, err
	}
	vars, err := environ(j, run, run.Attempt, r.output(id, run.Attempt), host)
	if err != nil {
		return nil, nil, nil, err
	}
	return vars.Strings(), host.Credential, secrets.Veil(guarded(j, vars, host)), nil
}

package run

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/secrets"
)

// Secret reports whether a variable's name says that its value is one.
func Secret(name string) bool {
	name = strings.ToUpper(name)
	for _, mark := range []string{"TOKEN", "PASS", "SECRET", "CREDENTIAL", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY"} {
		if strings.Contains(name, mark) {
			return true
		}
	}
	return false
}

// hidden gives the values in the environment of a job's attempt that nobody is to
// see: all of its env_file, its secrets, also those that they were before, and
// those of variables with a telling name. BELFRY_… are never any, and what a file
// cannot say keeps nothing from starting.
func hidden(j *job.Job, env Environ, host Host) []string {
	values := guarded(j, env, host)
	if j.EnvFile != "" {
		vars, _ := readEnvFile(j.EnvFile) // environ has told what is wrong with it
		for _, v := range vars {
			values = append(values, v.Value)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// guarded is hidden without the values of the env_file that have no telling name:
// a publish that fails speaks of the address, the region and the bucket, which
// often stand there.
func guarded(j *job.Job, env Environ, host Host) []string {
	var values []string
	if len(j.Secrets) > 0 {
		for _, name := range j.Secrets {
			value, _ := env.Lookup(name)
			values = append(values, value)
		}
		set, err := secrets.File{Path: j.SecretsFile, Key: host.Key}.Read()
		if err == nil {
			values = append(values, set.Former()...)
		}
	}
	for _, v := range env {
		if Secret(v.Name) && !strings.HasPrefix(v.Name, "BELFRY_") {
			values = append(values, v.Value)
		}
	}
	return values
}

// hush stars the secrets of an attempt in why its command was not begun. When they
// cannot be had now, nothing of it is written down.
func (r *Runner) hush(j *job.Job, run Run, text string) string {
	if text == "" {
		return ""
	}
	host := r.hostOf(j)
	env, err := environ(j, run, run.Attempt, r.output(run.ID, run.Attempt), host)
	if err != nil {
		return fmt.Sprintf("its command was not begun; why is not told, for its secrets cannot be read now to be hidden in that: %v", err)
	}
	return secrets.Veil(hidden(j, env, host))(text)
}

// hostOf is the host as the job's attempts find it. What is secret does not depend
// on the user, who may be gone.
func (r *Runner) hostOf(j *job.Job) Host {
	host, err := r.o.Host.Of(j.Owner)
	if err != nil {
		return r.o.Host
	}
	return host
}

// Secrets gives the secrets of a run's newest attempt, from its environment as
// it would be now: they are stored nowhere. That one which the run had is not
// there any more, with its job or its env_file, is an error.
func (r *Runner) Secrets(ctx context.Context, id string) ([]string, error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return nil, err
	}
	host := r.hostOf(j)
	env, err := environ(j, run, run.Attempt, r.output(id, run.Attempt), host)
	if err != nil {
		return nil, err
	}
	text, err := r.o.Store.Definition(ctx, run.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of run %s: %w", id, err)
	}
	names, err := job.EnvNames(text)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		known := slices.ContainsFunc(j.Env, func(v crontab.Var) bool { return v.Name == name })
		if Secret(name) && !known {
			return nil, fmt.Errorf("%s of %s is not defined any more", name, run.Name)
		}
	}
	return hidden(j, env, host), nil
}

// found says of a running attempt that was not started by this Runner, once,
// that it has begun.
func (r *Runner) found(ctx context.Context, run Run) {
	if r.begun[run.ID] == run.Attempt {
		return
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return // settle tells
	}
	values, err := r.Secrets(ctx, run.ID)
	r.began(run, j, values, err)
}

func (r *Runner) began(run Run, j *job.Job, secrets []string, err error) {
	r.begun[run.ID] = run.Attempt
	if r.o.Began != nil {
		r.o.Began(run, j, secrets, err)
	}
}

// finished says that the end of an attempt is durable.
func (r *Runner) finished(run Run, how Attempt) {
	delete(r.begun, run.ID)
	if r.o.Ended != nil {
		r.o.Ended(run, how)
	}
}

package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// RetryError says why a run, or its publish, cannot be tried again, and what can
// be done instead; Hint may be empty.
type RetryError struct{ Message, Hint string }

func (e *RetryError) Error() string { return e.Message }

func noRetry(hint, format string, args ...any) error {
	return &RetryError{fmt.Sprintf(format, args...), hint}
}

// Retry has a run that has ended tried once more.
func (r *Runner) Retry(ctx context.Context, id string, by Person) error {
	return r.do(ctx, func(ctx context.Context) error {
		run, err := r.o.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		_, known := r.job(run)
		switch {
		case !run.State.CanBecome(Queued) || !run.State.Finished():
			return noRetry("", "run %s is %s: only one that failed, was lost, cancelled, skipped or missed is tried again", id, run.State)
		case run.Count > 1:
			return noRetry("", "run %s is the account of %d firings; belfry backfill makes a run of each", id, run.Count)
		case !known:
			return noRetry("", "the job of run %s was removed", id)
		}
		now := r.o.Now()
		return r.steer(ctx, Move{Run: id, From: run.State, To: Queued, At: now, AskedAt: now, Act: r.again(by, ActRetry, run)})
	})
}

// PublishAgain has the output of a run that could not be published put to the
// targets that its attempt had, without another attempt. Where that is is as it
// was; how it is done, and in which environment, is as the job has it now: that
// may be what was mended.
func (r *Runner) PublishAgain(ctx context.Context, id string, by Person) error {
	return r.do(ctx, func(ctx context.Context) error {
		run, err := r.o.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		item, err := r.publishAgain(ctx, run)
		if err != nil {
			return err
		}
		now := r.o.Now()
		return r.steer(ctx, Move{
			Run: id, From: Failed, To: Publishing, Token: run.Token, At: now, AskedAt: now, Owed: []outbox.Item{item}, Act: r.again(by, ActPublish, run),
		})
	})
}

// publishAgain makes what a failed run owes to its targets, or says why it owes
// them nothing.
func (r *Runner) publishAgain(ctx context.Context, run Run) (item outbox.Item, err error) {
	again := "belfry retry " + run.ID + " runs it again"
	switch {
	case run.State == Publishing:
		return item, noRetry("belfry show "+run.ID+" tells how far it is, belfry stop "+run.ID+" gives it up", "run %s is being published already", run.ID)
	case run.State == Cancelled:
		return item, noRetry(again, "run %s was given up: %s", run.ID, run.Reason)
	case run.State != Failed:
		return item, noRetry("", "run %s is %s: only one that failed because it could not be published is published again", run.ID, run.State)
	}
	now, known := r.job(run)
	if !known {
		return item, noRetry("", "the job of run %s was removed, and with it the environment that it publishes in", run.ID)
	}
	attempt, err := r.o.Store.Attempt(ctx, run.ID, run.Attempt)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return item, err
	}
	if attempt.ExitCode == nil || *attempt.ExitCode != 0 || attempt.Reason != "" { // how the attempt itself ended
		return item, noRetry(again, "run %s did not fail in publishing: %s", run.ID, run.Reason)
	}
	targets, err := r.o.Store.Targets(ctx, run.ID, run.Attempt)
	if err != nil {
		return item, err
	}
	if len(targets) == 0 {
		return item, noRetry("", "run %s has nothing to publish: its job had no targets", run.ID)
	}
	output := r.output(run.ID, run.Attempt)
	if _, err := os.Stat(output); errors.Is(err, fs.ErrNotExist) {
		return item, noRetry(again, "the output of run %s is gone: there is no folder %s", run.ID, output)
	} else if err != nil {
		return item, fmt.Errorf("look for the output of run %s: %w", run.ID, err)
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return item, err
	}
	with := inEnvironOf(j, now.Job)
	with.IfEmpty = now.IfEmpty
	host, err := r.o.Host.Of(with.Owner)
	if err != nil {
		return item, err
	}
	env, err := environ(with, run, run.Attempt, output, host)
	if err == nil {
		targets, err = asNow(targets, now.Publish, with, env)
	}
	if err != nil {
		return item, noRetry("", "run %s cannot be published: %v", run.ID, err)
	}
	return r.o.Publish(with, run, attempt.StartedAt, output, targets), nil
}

// asNow gives an attempt's targets with the options that the job has for them
// now.
func asNow(targets, now []job.Target, j *job.Job, env Environ) ([]job.Target, error) {
	if len(now) != len(targets) {
		return targets, nil
	}
	mended := slices.Clone(now)
	for i, t := range targets {
		if mended[i].From != t.From {
			return targets, nil
		}
		written := mended[i].To
		mended[i].To = t.To
		if err := fill(&mended[i], written, j, env); err != nil {
			return nil, err
		}
	}
	return mended, nil
}

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"belfry/internal/job"
	"belfry/internal/logs"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/store"
)

// attemptDir is the directory of an attempt: records, log and output.
func attemptDir(data, id string, attempt int) string {
	return run.AttemptDir(runsDir(data), id, attempt)
}

// began has the output of an attempt followed.
func (d *Daemon) began(r run.Run, j *job.Job, secrets []string, err error) {
	d.follow(r.ID, r.Attempt, j.LogLimit, secrets, err)
	d.echo.begin(r)
}

// ended is told of an attempt whose end is durable.
func (d *Daemon) ended(r run.Run, how run.Attempt) {
	d.logs.Ended(r.ID, r.Attempt)
	d.echo.end(r.ID, r.Attempt)
	j, _ := d.jobs.byKey(r.Job)
	d.cron.ended(r, j.Job, how)
}

// started is told of an attempt that has its process.
func (d *Daemon) started(r run.Run, s proc.Started) {
	if j, known := d.jobs.byKey(r.Job); known {
		d.cron.started(r, j.Job, s)
	}
}

// follow has a log followed; err says that its secrets are not known now.
func (d *Daemon) follow(id string, attempt int, limit int64, secrets []string, err error) {
	a := logs.Attempt{
		Run: id, Number: attempt, Dir: attemptDir(d.o.Data, id, attempt),
		Limit: cmp.Or(limit, job.DefaultLogLimit), Secrets: secrets,
	}
	if err != nil {
		a.Ask = func(ctx context.Context) ([]string, error) { return d.runner.Secrets(ctx, id) }
	}
	d.logs.Add(a)
}

// followLogs follows what attempts print. It takes up again what the daemon
// before this one left of those that have ended; the running ones are found by
// the runner.
func (d *Daemon) followLogs(ctx context.Context) error {
	open, err := d.store.OpenLogs(ctx)
	if err != nil {
		return err
	}
	running, err := d.store.Running(ctx)
	if err != nil {
		return err
	}
	lives := map[string]int{}
	for _, r := range running {
		lives[r.ID] = r.Attempt
	}
	for _, l := range open {
		if lives[l.Run] == l.Number {
			continue
		}
		d.followEnded(ctx, l)
	}
	var found sync.WaitGroup
	found.Go(func() { d.findLogs(ctx) })
	defer found.Wait()
	return d.logs.Run(ctx)
}

func (d *Daemon) followEnded(ctx context.Context, l logs.Log) {
	secrets, err := d.runner.Secrets(ctx, l.Run)
	d.follow(l.Run, l.Number, l.Limit, secrets, err)
	d.logs.Ended(l.Run, l.Number)
}

// overlooked is how old a run may be whose log the store does not know of though
// its attempt has ended. What an older one printed was stored while it ran.
const overlooked = 24 * time.Hour

// findLogs finds the logs of attempts that had just ended when the daemon before
// this one was killed: nobody has looked at them.
func (d *Daemon) findLogs(ctx context.Context) {
	oldest := run.NewID(d.now().Add(-overlooked)) // they are in the order of time
	dir, err := os.Open(runsDir(d.o.Data))
	for err == nil && ctx.Err() == nil {
		var names []string
		names, err = dir.Readdirnames(1000)
		for _, id := range names {
			if id < oldest || !run.IsID(id) || ctx.Err() != nil {
				continue
			}
			if err := d.findLog(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
				d.o.Log.Warn("look for the log of an attempt that has ended", "run", id, "error", err)
			}
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist) {
		d.o.Log.Warn("look for logs of attempts that have ended", "error", err)
	}
	if dir != nil {
		_ = dir.Close() // it was only read
	}
}

func (d *Daemon) findLog(ctx context.Context, id string) error {
	there := func(path string) bool { _, err := os.Lstat(path); return err == nil }
	for attempt := 1; ; attempt++ {
		dir := attemptDir(d.o.Data, id, attempt)
		switch {
		case there(filepath.Join(dir, logs.FileName)):
		case there(dir):
			continue // as it should be
		default:
			return nil // there are no more
		}
		if a, err := d.store.Attempt(ctx, id, attempt); err != nil || a.EndedAt.IsZero() {
			return err // it runs: the runner tells of it
		}
		_, known, err := d.store.Log(ctx, id, attempt)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		j, err := d.runner.JobOf(ctx, id)
		if err != nil {
			return err
		}
		d.followEnded(ctx, logs.Log{Run: id, Number: attempt, Limit: j.LogLimit})
	}
}

// output gives the ends of what an attempt printed, for a mail.
func (d *Daemon) output(ctx context.Context, id string, attempt int, limit int64) (head, tail []byte, length int64, err error) {
	reader, err := newBackend(d).Log(ctx, id, attempt)
	if err != nil {
		return nil, nil, 0, err
	}
	return reader.Ends(ctx, limit)
}

// Log gives a Reader of what an attempt printed. What is not stored yet is read
// without the secrets that the run would have now.
func (h *history) Log(ctx context.Context, id string, attempt int) (*logs.Reader, error) {
	a := logs.Attempt{Run: id, Number: attempt, Dir: attemptDir(h.data, id, attempt)}
	if known, ok, err := h.store.Log(ctx, id, attempt); err != nil || ok && known.Closed {
		return logs.NewReader(h.store, a), err
	}
	var err error
	if a.Secrets, err = h.secrets(ctx, id); err != nil {
		if _, absent := os.Lstat(filepath.Join(a.Dir, logs.FileName)); !errors.Is(absent, fs.ErrNotExist) {
			return nil, fmt.Errorf("what run %s printed is not stored yet, and what is secret in it is not known: %w", id, err)
		}
		a.Dir = "" // a file may come yet
	}
	return logs.NewReader(h.store, a), nil
}

// Log is history's, for an attempt that is not followed.
func (b *backend) Log(ctx context.Context, id string, attempt int) (*logs.Reader, error) {
	if reader, ok := b.d.logs.Reader(id, attempt); ok {
		return reader, nil
	}
	return b.history.Log(ctx, id, attempt)
}

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"belfry/internal/job"
	"belfry/internal/logs"
	"belfry/internal/run"
)

// attemptDir is the directory of an attempt: records, log and output.
func attemptDir(data, id string, attempt int) string {
	return filepath.Join(runsDir(data), id, strconv.Itoa(attempt))
}

// began has the output of an attempt followed.
func (d *Daemon) began(r run.Run, j *job.Job, secrets []string) {
	d.logs.Add(logs.Attempt{
		Run: r.ID, Number: r.Attempt, Dir: attemptDir(d.o.Data, r.ID, r.Attempt),
		Limit: cmp.Or(j.LogLimit, job.DefaultLogLimit), Secrets: secrets,
	})
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
		secrets, err := d.runner.Secrets(ctx, l.Run)
		if err != nil {
			d.o.Log.Warn("the secrets of an attempt that has ended are not known", "run", l.Run, "error", err)
		}
		d.logs.Add(logs.Attempt{Run: l.Run, Number: l.Number, Dir: attemptDir(d.o.Data, l.Run, l.Number), Limit: l.Limit, Secrets: secrets})
		d.logs.Ended(l.Run, l.Number)
	}
	return d.logs.Run(ctx)
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
	if _, err := os.Lstat(filepath.Join(a.Dir, logs.FileName)); errors.Is(err, fs.ErrNotExist) {
		return logs.NewReader(h.store, a), nil
	}
	var err error
	if a.Secrets, err = h.secrets(ctx, id); err != nil {
		return nil, fmt.Errorf("what run %s printed is not stored yet, and what is secret in it is not known: %w", id, err)
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

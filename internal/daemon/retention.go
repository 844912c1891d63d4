package daemon

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"belfry/internal/project"
	"belfry/internal/python"
	"belfry/internal/run"
	"belfry/internal/store"
)

const (
	// The minute's full second belongs to what is due, and creating files is slow
	// where many have just been removed.
	quietFrom, quietUntil = 20, 50
	// pruneRound is how many runs are removed before others have their turn.
	pruneRound = 1000
	// pruneRest lies between the end of one pass over the history and the next.
	pruneRest = time.Hour
	// orphanAge is how old a folder must be whose run is not in the store.
	orphanAge = 24 * time.Hour
)

// retention removes, slowly, the account and the folders of runs that are kept
// no longer.
func (d *Daemon) retention(ctx context.Context) error {
	for {
		timer := time.NewTimer(untilQuiet(d.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		begun := time.Now()
		more, err := d.prune(ctx)
		timer.Reset(restAfter(more, err, time.Since(begun)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// restAfter is how long the history is left alone after a round on it. With more to
// do half of the quiet time is for others: a round may have filled the disk's queue
// and the logs' writer, though none of its transactions is long.
func restAfter(more bool, err error, took time.Duration) time.Duration {
	switch {
	case err != nil:
		return (quietUntil - quietFrom + 10) * time.Second // past this minute's end
	case more:
		return took
	}
	return pruneRest
}

// untilQuiet is how long it is until nothing is likely to be due.
func untilQuiet(now time.Time) time.Duration {
	second := now.Sub(now.Truncate(time.Minute))
	switch {
	case second < quietFrom*time.Second:
		return quietFrom*time.Second - second
	case second < (quietUntil-10)*time.Second:
		return 0
	}
	return time.Minute + quietFrom*time.Second - second
}

// prune works for the rest of a quiet time at most, and says whether there is
// more to do, and what was in the way of the account's.
func (d *Daemon) prune(ctx context.Context) (more bool, err error) {
	log := d.o.Log.With("component", "retention")
	now := d.now()
	ctx, cancel := context.WithTimeout(ctx, quietUntil*time.Second-now.Sub(now.Truncate(time.Minute)))
	defer cancel()
	removed, more, err := d.store.Prune(ctx, kept(d.jobs.settings().Retention), now, pruneRound)
	if err != nil && ctx.Err() == nil {
		log.Error("remove what is kept no longer", "error", err)
	}
	if len(removed) > 0 {
		// Nobody finds these again before the next pass is at its end.
		if err := d.store.DropLogs(context.WithoutCancel(ctx), removed); err != nil {
			log.Error("remove the logs of runs that are kept no longer", "error", err)
		}
	}
	folders := 0
	for _, id := range removed {
		if ctx.Err() != nil { // the full minute is near: what is left is found as a folder of an unknown run
			break
		}
		if err := os.RemoveAll(filepath.Join(runsDir(d.o.Data), id)); err != nil {
			log.Warn("remove the folder of a run that is kept no longer", "run", id, "error", err)
			continue
		}
		folders++
	}
	if !more && err == nil {
		if _, err := d.store.PruneActs(ctx, kept(d.jobs.settings().Retention), now, pruneRound); err != nil && ctx.Err() == nil {
			log.Error("remove what people did long ago", "error", err)
		}
		orphans, err := d.orphans(ctx, now)
		if err != nil && ctx.Err() == nil {
			log.Error("look for folders of unknown runs", "error", err)
		}
		folders += orphans
		if err := d.trimLogs(ctx, now); err != nil && ctx.Err() == nil {
			log.Error("remove the logs of unknown runs", "error", err)
		}
		environments, err := python.Collect(ctx, d.o.Data, now, d.jobs.wantPython())
		if err != nil && ctx.Err() == nil {
			log.Error("remove unused Python environments", "error", err)
		}
		if environments > 0 {
			log.Info("removed unused Python environments", "environments", environments)
		}
	}
	if len(removed)+folders > 0 {
		log.Info("removed what is kept no longer", "runs", len(removed), "folders", folders)
	}
	return more, err
}

// orphans removes folders whose run is not in the store: of a run whose rows
// were removed right before a crash, or of a store that was put back.
func (d *Daemon) orphans(ctx context.Context, now time.Time) (removed int, err error) {
	entries, err := os.ReadDir(runsDir(d.o.Data))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil || removed >= pruneRound {
			return removed, err
		}
		info, err := entry.Info()
		if err != nil || !entry.IsDir() || !run.IsID(entry.Name()) || now.Sub(info.ModTime()) < orphanAge {
			continue
		}
		if _, err := d.store.Run(ctx, entry.Name()); !errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(runsDir(d.o.Data), entry.Name())); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, err
}

// trimLogs drops the logs of runs that are not in the store, as orphans does
// with folders, and gives the room that logs have left back to the disk.
func (d *Daemon) trimLogs(ctx context.Context, now time.Time) error {
	before := run.NewID(now.Add(-orphanAge)) // ids are in the order of time
	for behind, more := "", true; more; more = behind != "" {
		unknown, next, err := d.store.LogsWithoutRun(ctx, behind, before)
		if err == nil {
			err = d.store.DropLogs(ctx, unknown)
		}
		if err != nil {
			return err
		}
		behind = next
	}
	for more := true; more; {
		var err error
		if more, err = d.store.ShrinkLogs(ctx); err != nil {
			return err
		}
	}
	return nil
}

// kept is a project's retention in the words of the store, for which an age of
// zero of failed runs is that of the others.
func kept(r project.Retention) store.Retention {
	keep := store.Retention{Age: r.Age, FailedAge: r.FailedAge, PerJob: r.PerJob}
	if r.FailedAge == project.Forever {
		keep.FailedAge = math.MaxInt64
	}
	return keep
}

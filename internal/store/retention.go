package store

import (
	"context"
	"database/sql"
	"time"
)

// Retention says how long runs are kept. Its zero value is for ever.
type Retention struct {
	Age time.Duration // since a run's end; 0: for ever
	// FailedAge is the age for runs that failed or were lost, which are kept
	// that long whatever PerJob says; 0: Age.
	FailedAge time.Duration
	// PerJob is how many of a job are kept, and more while they are younger than
	// settled; 0: all.
	PerJob int
}

// settled is how old a run must be to be removed for the number of its job's.
// What became of a firing counts for the jobs that come after it, and theirs of
// the same date may be recorded much later.
const settled = 48 * time.Hour

// removable are the runs that may be removed at all: never one that is open,
// that an open one waits for, that still owes something, or the newest of its
// job.
const removable = `(state = 'succeeded' OR state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed')
	AND NOT EXISTS (SELECT 1 FROM run_parent JOIN run AS child ON child.id = run_parent.run WHERE run_parent.parent = run.id
		AND (child.state = 'queued' OR child.state = 'running' OR child.state = 'publishing'))
	AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id AND (outbox.state = 'pending' OR outbox.state = 'sending'))
	AND EXISTS (SELECT 1 FROM run AS newer WHERE newer.job = run.job AND (newer.queued_at, newer.fires_at, newer.id) > (run.queued_at, run.fires_at, run.id))`

// place is where a pass of Prune has come to.
type place struct {
	job               string // of the pass by count; empty: it has not begun
	byCount           bool
	queuedAt, firesAt int64
	id                string
}

// pruneAtOnce is how many runs one transaction removes: a claim that comes
// behind it waits a few milliseconds at most.
const pruneAtOnce = 50

// Prune removes runs that are kept no longer, limit of them at most and a few
// in each transaction, with all that is stored of them. It gives their ids:
// their folders are the caller's to remove. more says that the pass over the
// history is not at its end; a caller who goes on calling, at its leisure,
// comes by every run, and the next pass begins anew.
//
// The rows go first. A crash before the folders are gone leaves folders whose
// run is not in the store, which is how they are told.
func (s *Store) Prune(ctx context.Context, keep Retention, now time.Time, limit int) (runs []string, more bool, err error) {
	s.pruning.Lock()
	defer s.pruning.Unlock()
	for len(runs) < limit {
		batch, end, err := s.candidates(ctx, keep, now, min(limit-len(runs), pruneAtOnce))
		if err != nil {
			return runs, true, err
		}
		if len(batch) > 0 {
			removed, err := s.remove(ctx, batch)
			runs = append(runs, removed...)
			if err != nil {
				return runs, true, err
			}
		}
		if end {
			s.pruned = place{}
			return runs, false, nil
		}
	}
	return runs, true, nil
}

// candidates goes on with the pass: it gives some runs that are kept no longer,
// n at most, and says when it is at its end.
func (s *Store) candidates(ctx context.Context, keep Retention, now time.Time, n int) (runs []candidate, end bool, err error) {
	never := sql.NullInt64{}
	before := func(age time.Duration) sql.NullInt64 {
		if age == 0 {
			return never
		}
		return millis(now.Add(-age))
	}
	age, failed := before(keep.Age), before(keep.FailedAge)
	if keep.FailedAge == 0 {
		failed = age
	}
	if !s.pruned.byCount {
		latest := age
		if failed.Int64 > latest.Int64 {
			latest = failed
		}
		runs, err = list(ctx, s.read, scanCandidate, `SELECT id, definition, queued_at, fires_at FROM run
			WHERE (queued_at, fires_at, id) > ($1, $2, $3) AND queued_at < $4
			AND ended_at < CASE WHEN state = 'failed' OR state = 'lost' THEN $5 ELSE $6 END AND `+removable+`
			ORDER BY queued_at, fires_at, id LIMIT $7`, s.pruned.queuedAt, s.pruned.firesAt, s.pruned.id, latest, failed, age, n)
		if err != nil {
			return nil, false, err
		}
		s.pruned.pass(runs)
		if len(runs) < n {
			s.pruned = place{byCount: true}
		}
		return runs, len(runs) < n && keep.PerJob == 0, nil
	}
	if s.pruned.id == "" { // the next job
		next, err := list(ctx, s.read, value[string], `SELECT id FROM job WHERE id > $1 ORDER BY id LIMIT 1`, s.pruned.job)
		if err != nil || len(next) == 0 {
			return nil, len(next) == 0, err
		}
		s.pruned.job = next[0]
	}
	runs, err = list(ctx, s.read, scanCandidate, `SELECT id, definition, queued_at, fires_at FROM run
		WHERE job = $1 AND (queued_at, fires_at, id) > ($2, $3, $4)
		AND (queued_at, fires_at, id) < (SELECT kept.queued_at, kept.fires_at, kept.id FROM run AS kept WHERE kept.job = $1
			ORDER BY kept.queued_at DESC, kept.fires_at DESC, kept.id DESC LIMIT 1 OFFSET $5)
		AND queued_at < $6 AND (state <> 'failed' AND state <> 'lost' OR ended_at < $7) AND `+removable+`
		ORDER BY queued_at, fires_at, id LIMIT $8`, s.pruned.job, s.pruned.queuedAt, s.pruned.firesAt, s.pruned.id, keep.PerJob-1, millis(now.Add(-settled)), failed, n)
	if err != nil {
		return nil, false, err
	}
	s.pruned.pass(runs)
	if len(runs) < n {
		s.pruned = place{byCount: true, job: s.pruned.job}
	}
	return runs, false, nil
}

// candidate is a run that Prune looks at.
type candidate struct {
	id, definition    string
	queuedAt, firesAt int64
}

func scanCandidate(scan func(...any) error) (c candidate, err error) {
	err = scan(&c.id, &c.definition, &c.queuedAt, &c.firesAt)
	return c, err
}

func (p *place) pass(runs []candidate) {
	if len(runs) > 0 {
		last := runs[len(runs)-1]
		p.queuedAt, p.firesAt, p.id = last.queuedAt, last.firesAt, last.id
	}
}

// remove deletes those runs that may still be removed: one of them may have
// been taken up again.
func (s *Store) remove(ctx context.Context, runs []candidate) ([]string, error) {
	var removed []string
	err := s.update(ctx, "remove old runs", func(tx *tx) error {
		for _, c := range runs {
			n, err := tx.exec(`DELETE FROM run WHERE id = $1 AND `+removable, c.id)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			removed = append(removed, c.id)
			if err := tx.dropDefinition(c.definition); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// dropDefinition removes a definition that nobody refers to any more.
func (t *tx) dropDefinition(hash string) error {
	_, err := t.exec(`DELETE FROM definition WHERE hash = $1 AND NOT EXISTS (SELECT 1 FROM run WHERE run.definition = $1)
		AND NOT EXISTS (SELECT 1 FROM job WHERE job.definition = $1)`, hash)
	return err
}

// LogsWithoutRun looks through some of the logs, those of runs behind one id and
// before another, and gives the runs that are not in the account: the logs go
// after the runs. next is where to go on; empty at the end.
func (s *Store) LogsWithoutRun(ctx context.Context, behind, before string) (runs []string, next string, err error) {
	if s.logs == nil {
		return nil, "", nil
	}
	logged, err := list(ctx, s.logs.read, value[string], `SELECT DISTINCT run FROM log WHERE run > $1 AND run < $2 ORDER BY run LIMIT $3`, behind, before, pageSize)
	if err != nil || len(logged) == 0 {
		return nil, "", err
	}
	known := map[string]bool{}
	err = each(ctx, s.read, func(scan func(...any) error) error {
		id, err := value[string](scan)
		known[id] = true
		return err
	}, `SELECT id FROM run WHERE id >= $1 AND id <= $2`, logged[0], logged[len(logged)-1])
	if err != nil {
		return nil, "", err
	}
	for _, id := range logged {
		if !known[id] {
			runs = append(runs, id)
		}
	}
	if len(logged) == pageSize {
		next = logged[len(logged)-1]
	}
	return runs, next, nil
}

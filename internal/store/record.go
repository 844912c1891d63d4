package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// Record writes a decision down: its runs, the queued runs that are too late,
// and the clock, all or nothing. A firing that is in the store already is not
// recorded again. It reports whether it wrote anything.
func (s *Store) Record(ctx context.Context, d plan.Decision, now time.Time) (bool, error) {
	if len(d.Runs) == 0 && len(d.Expired) == 0 && len(d.Released) == 0 && !d.Write {
		return false, nil
	}
	return true, s.update(ctx, "record what is due", func(tx *tx) error { return tx.record(d, now) })
}

// RecordAhead is Record at an instant to come and Claim at it in one transaction,
// which begins before the instant and ends at it. choose gives the claims among all
// that will wait then, and until is told which of them were granted; it returns at the
// instant, with an error when it did not come as it was foreseen: then nothing was
// written. All other writes wait meanwhile.
func (s *Store) RecordAhead(ctx context.Context, d plan.Decision, at time.Time, choose func(waiting []run.Run) []run.Claim, until func(granted []bool) error) error {
	return s.update(ctx, "record what will be due", func(tx *tx) error {
		if err := tx.record(d, at); err != nil {
			return err
		}
		waiting, err := waiting(tx.ctx, tx.raw)
		if err != nil {
			return err
		}
		granted, err := tx.claim(choose(waiting))
		if err != nil {
			return err
		}
		return until(granted)
	})
}

func (t *tx) record(d plan.Decision, now time.Time) error {
	ids, known, err := t.recordRuns(d.Runs, now)
	if err != nil {
		return err
	}
	for _, link := range d.Links {
		if err := t.link(link.Child, ids[link.Parent]); err != nil {
			return err
		}
		known[ids[link.Parent]] = true // it was there when its child was not told of it
	}
	for _, parent := range slices.Sorted(maps.Keys(known)) {
		// It may have ended already: nobody would tell its children.
		state, err := one(t.ctx, t.raw, value[run.State], `SELECT state FROM run WHERE id = $1`, parent)
		if err != nil {
			return err
		}
		if err := t.settleChildren(parent, state, now); err != nil {
			return err
		}
	}
	for _, id := range d.Released {
		if err := t.release(id, now); err != nil {
			return err
		}
	}
	for _, e := range d.Expired {
		if err := t.move(run.Move{Run: e.Run, From: run.Queued, To: run.Missed, Reason: e.Reason, At: now}); err != nil {
			return err
		}
	}
	_, err = t.exec(`INSERT INTO clock (scope, mark, high, era, boot) VALUES ('', $1, $2, $3, $4)
		ON CONFLICT (scope) DO UPDATE SET mark = excluded.mark, high = excluded.high, era = excluded.era, boot = excluded.boot`,
		d.Clock.Mark.UnixMilli(), d.Clock.High.UnixMilli(), d.Clock.Era, d.Clock.Boot)
	return err
}

// recordRuns adds the runs of a decision. It gives their ids, and the parents
// among all runs that had been recorded before and have new children.
func (t *tx) recordRuns(runs []plan.Run, now time.Time) (ids []string, known map[string]bool, err error) {
	// Ids sort in the order of the decision: the one of the files.
	ids = make([]string, len(runs))
	for i := range ids {
		ids[i] = run.NewID(now)
	}
	slices.Sort(ids)
	known = map[string]bool{}
	before := map[string]bool{} // runs of the decision that had been recorded
	for i, planned := range runs {
		r := fromPlan(planned, ids[i], now)
		for _, parent := range planned.Parents {
			r.Parents = append(r.Parents, ids[parent])
		}
		for _, ref := range planned.Earlier {
			parent, err := t.firing(ref)
			if errors.Is(err, ErrNotFound) { // its job was not there yet: it is not waited for
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			if !slices.Contains(r.Parents, parent) { // a row of many is one
				r.Parents = append(r.Parents, parent)
				before[parent] = true
			}
		}
		if planned.Verdict == plan.Waits && len(r.Parents) == 0 && r.WaitsUntil.IsZero() {
			r.Reason = ""
		}
		// Its definition was stored when the job was loaded.
		added, err := t.insertRun(r, planned.Job.Definition().Hash)
		if err != nil {
			return nil, nil, err
		}
		if !added {
			if ids[i], err = one(t.ctx, t.raw, value[string], `SELECT id FROM run WHERE job = $1 AND key = $2`, r.Job, r.Key); err != nil {
				return nil, nil, err
			}
			before[ids[i]] = true
			continue
		}
		if err := t.addParents(r); err != nil {
			return nil, nil, err
		}
		for _, parent := range r.Parents {
			if before[parent] {
				known[parent] = true
			}
		}
	}
	return ids, known, nil
}

// firing finds the run of a job's firing, also within a row of many. Of several,
// which a clock that was set back makes, it is the newest.
func (t *tx) firing(ref plan.Ref) (string, error) {
	id, err := one(t.ctx, t.raw, value[string], `SELECT id FROM run WHERE job = $1 AND fires_at = $2 AND cause IN ('schedule', 'catch-up', 'after')
		ORDER BY id DESC LIMIT 1`, ref.Job, ref.FiresAt.UnixMilli())
	if !errors.Is(err, ErrNotFound) {
		return id, err
	}
	return one(t.ctx, t.raw, value[string], `SELECT id FROM run WHERE job = $1 AND count > 1 AND fires_until >= $2 AND fires_at <= $2
		ORDER BY id DESC LIMIT 1`, ref.Job, ref.FiresAt.UnixMilli())
}

// link makes the run of a child wait for parent too, when it waits.
func (t *tx) link(child plan.Ref, parent string) error {
	id, err := t.firing(child)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO run_parent (run, parent) SELECT id, $1 FROM run WHERE id = $2
			AND (state = 'queued' AND reason = $3 OR state = 'skipped' AND reason LIKE $3 || ':%') ON CONFLICT DO NOTHING`,
		parent, id, plan.DependencyReason)
	return err
}

// release notes that no more parents come for a run, which may start if all
// have succeeded.
func (t *tx) release(id string, now time.Time) error {
	if _, err := t.exec(`UPDATE run SET waits_until = 0 WHERE id = $1`, id); err != nil {
		return err
	}
	return t.startWaiting(id, now)
}

func fromPlan(p plan.Run, id string, now time.Time) run.Run {
	r := run.Run{
		ID: id, Job: p.Job.Key, Key: p.Key, Cause: p.Cause, State: run.Queued, Reason: p.Reason,
		FiresAt: p.FiresAt, FiresUntil: p.FiresUntil, Count: p.Count, Named: p.Named, WaitsUntil: p.WaitsUntil, QueuedAt: now,
	}
	if r.FiresUntil.IsZero() {
		r.FiresUntil = r.FiresAt
	}
	switch p.Verdict {
	case plan.Due, plan.Waits:
	case plan.Missed:
		r.State, r.EndedAt = run.Missed, now
	case plan.Skipped:
		r.State, r.EndedAt = run.Skipped, now
	}
	if !r.State.Finished() {
		r.StartBy, r.FinishBy = deadline(p.FiresAt, p.Job.StartWithin), deadline(p.FiresAt, p.Job.FinishBy)
	}
	return r
}

// deadline is zero where there is none.
func deadline(firesAt time.Time, within time.Duration) time.Time {
	if within == 0 {
		return time.Time{}
	}
	return firesAt.Add(within)
}

// AddRuns records runs that a person asked for, all or none, and that they did.
// Parents come before the runs that wait for them. Another backfill that makes
// one of the firings is a *BackfillError.
func (s *Store) AddRuns(ctx context.Context, runs []run.Run, definitions []job.Definition, act *run.Act) error {
	return s.update(ctx, "record a run", func(tx *tx) error {
		if err := tx.act(act); err != nil {
			return err
		}
		for i, r := range runs {
			if _, err := tx.addRun(r, definitions[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) addRun(r run.Run, d job.Definition) (bool, error) {
	if err := t.saveDefinition(d); err != nil {
		return false, err
	}
	if r.Cause == plan.Backfill {
		others, err := list(t.ctx, t.raw, value[string], `SELECT backfill FROM run WHERE job = $1 AND fires_at = $2 AND cause = 'backfill' AND backfill <> $3
			AND (state = 'queued' OR state = 'running' OR state = 'publishing') LIMIT 1`, r.Job, r.FiresAt.UnixMilli(), r.Backfill)
		if err != nil {
			return false, err
		}
		if len(others) > 0 {
			return false, &BackfillError{others[0], r.Date()}
		}
	}
	added, err := t.insertRun(r, d.Hash)
	if err != nil || !added {
		return false, err
	}
	return true, t.addParents(r)
}

func (t *tx) insertRun(r run.Run, definition string) (bool, error) {
	n, err := t.exec(`INSERT INTO run (id, job, key, cause, state, reason, definition, fires_at, fires_until, count, named, waits_until, queued_at, ended_at,
			asked_at, start_by, finish_by, backfill, parallel)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) ON CONFLICT (job, key) DO NOTHING`,
		r.ID, r.Job, r.Key, r.Cause, r.State, r.Reason, definition, r.FiresAt.UnixMilli(), r.FiresUntil.UnixMilli(), r.Count,
		r.Named.Format(namedLayout), orZero(r.WaitsUntil), r.QueuedAt.UnixMilli(), millis(r.EndedAt),
		orZero(r.AskedAt), orZero(r.StartBy), orZero(r.FinishBy), r.Backfill, r.Parallel)
	return n > 0, err
}

func (t *tx) addParents(r run.Run) error {
	for _, parent := range r.Parents {
		if _, err := t.exec(`INSERT INTO run_parent (run, parent) VALUES ($1, $2)`, r.ID, parent); err != nil {
			return err
		}
	}
	return nil
}

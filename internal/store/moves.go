package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// Claim makes queued runs running, each with a new attempt, and says which: those
// that were still queued and under the token that the claim follows.
func (s *Store) Claim(ctx context.Context, claims []run.Claim) (claimed []bool, err error) {
	err = s.update(ctx, "claim runs", func(tx *tx) error {
		claimed, err = tx.claim(claims)
		return err
	})
	return claimed, err
}

func (t *tx) claim(claims []run.Claim) (claimed []bool, err error) {
	claimed = make([]bool, len(claims))
	for i, c := range claims {
		n, err := t.claimRun(c)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		targets, err := json.Marshal(c.Targets)
		if err != nil {
			return nil, err
		}
		if _, err := t.exec(`INSERT INTO attempt (run, number, token, node, boot, targets, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			c.Run, c.Attempt, c.Token, c.Node, c.Boot, string(targets), c.At.UnixMilli()); err != nil {
			return nil, err
		}
		claimed[i] = true
	}
	return claimed, nil
}

const claiming = `UPDATE run SET state = 'running', reason = '', attempt = $1, token = $2, node = $3, not_before = 0, start_by = 0,
	started_at = COALESCE(started_at, $4), ended_at = NULL, exit_code = NULL, signal = ''`

// claimRun makes a run running, and gives 0 when it cannot be claimed.
func (t *tx) claimRun(c run.Claim) (int64, error) {
	// That its job is still as it was recorded is the rule. A definition that is
	// set is looked up in two indexes, be it the same.
	n, err := t.exec(claiming+` WHERE id = $5 AND state = 'queued' AND token = $6 AND definition = $7`,
		c.Attempt, c.Token, c.Node, c.At.UnixMilli(), c.Run, c.Token-1, c.Definition.Hash)
	if n > 0 || err != nil {
		return n, err
	}
	former, err := list(t.ctx, t.raw, value[string], `SELECT definition FROM run WHERE id = $1 AND state = 'queued' AND token = $2`, c.Run, c.Token-1)
	if err != nil || len(former) == 0 {
		return 0, err
	}
	if err := t.saveDefinition(c.Definition); err != nil {
		return 0, err
	}
	if n, err = t.exec(claiming+`, definition = $7 WHERE id = $5 AND state = 'queued' AND token = $6`,
		c.Attempt, c.Token, c.Node, c.At.UnixMilli(), c.Run, c.Token-1, c.Definition.Hash); err != nil {
		return 0, err
	}
	return n, t.dropDefinition(former[0])
}

// Note writes why runs are in their state, without changing it.
func (s *Store) Note(ctx context.Context, reasons map[string]string) error {
	return s.update(ctx, "note why runs are as they are", func(tx *tx) error {
		for id, reason := range reasons {
			if _, err := tx.exec(`UPDATE run SET reason = $1 WHERE id = $2 AND (state = 'queued' OR state = 'running')`, reason, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Late lists the runs whose StartBy or FinishBy is not kept at now, and says
// when the next one may be; zero when none is watched.
func (s *Store) Late(ctx context.Context, now time.Time) (late []run.Run, next time.Time, err error) {
	late, err = list(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.start_by > 0 AND run.start_by <= $1
		UNION SELECT `+runColumns+`WHERE run.finish_by > 0 AND run.finish_by <= $1 ORDER BY 1`, now.UnixMilli())
	if err != nil {
		return nil, next, err
	}
	at, err := one(ctx, s.read, value[sql.NullInt64], `SELECT MIN(at) FROM (SELECT MIN(start_by) AS at FROM run WHERE start_by > 0 AND start_by > $1
		UNION ALL SELECT MIN(finish_by) FROM run WHERE finish_by > 0 AND finish_by > $1) AS deadline`, now.UnixMilli())
	return late, fromMillis(at), err
}

// Told notes what is owed for runs that are late, whose StartBy and FinishBy up
// to now are no longer watched.
func (s *Store) Told(ctx context.Context, runs []string, now time.Time, owed []outbox.Item) error {
	return s.update(ctx, "tell that runs are late", func(tx *tx) error {
		for _, id := range runs {
			if _, err := tx.exec(`UPDATE run SET start_by = CASE WHEN start_by <= $1 THEN 0 ELSE start_by END,
				finish_by = CASE WHEN finish_by <= $1 THEN 0 ELSE finish_by END WHERE id = $2`, now.UnixMilli(), id); err != nil {
				return err
			}
		}
		for _, item := range owed {
			if err := tx.owe(item, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// Move takes runs from one state to the next: the state, the attempt's figures,
// what is owed, and the runs that wait for them, in one transaction. A move is
// void when its run is not in the state, or not under the token, that was
// expected; what it settles is settled all the same, or its targets would stay
// taken.
func (s *Store) Move(ctx context.Context, moves ...run.Move) (void []bool, err error) {
	what := fmt.Sprintf("write the next states of %d runs", len(moves))
	if len(moves) == 1 {
		what = fmt.Sprintf("write run %s as %s", moves[0].Run, moves[0].To)
	}
	err = s.update(ctx, what, func(tx *tx) error {
		void = make([]bool, len(moves))
		for i, m := range moves {
			err := tx.move(m)
			if errors.Is(err, run.ErrConflict) {
				void[i], err = true, nil
				if m.Settled != nil {
					err = tx.settleItem(*m.Settled)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return void, err
}

// move gives run.ErrConflict, before it has written anything, when m is void.
func (t *tx) move(m run.Move) error {
	if !m.From.CanBecome(m.To) {
		return fmt.Errorf("a run cannot go from %s to %s", m.From, m.To)
	}
	var endedAt sql.NullInt64
	if m.To.Finished() {
		endedAt = millis(m.At)
		if m.Ended != nil && !m.Ended.EndedAt.IsZero() { // it may have been a while before a daemon heard of it
			endedAt = millis(m.Ended.EndedAt)
		}
	}
	ended := cmp.Or(m.Ended, &run.Attempt{})
	// When it has finished nobody watches it for being late any more.
	n, err := t.exec(`UPDATE run SET state = $1, reason = $2, not_before = $3, ended_at = $4,
			exit_code = CASE WHEN $5 = 1 THEN $6 ELSE exit_code END, signal = CASE WHEN $5 = 1 THEN $7 ELSE signal END,
			start_by = CASE WHEN $8 = 1 THEN 0 ELSE start_by END, finish_by = CASE WHEN $8 = 1 THEN 0 ELSE finish_by END
		WHERE id = $9 AND state = $10 AND (token = $11 OR $11 = 0)`,
		m.To, m.Reason, orZero(m.NotBefore), endedAt, number(m.Ended != nil), ended.ExitCode, ended.Signal, number(m.To.Finished()), m.Run, m.From, m.Token)
	if err != nil {
		return err
	}
	if n == 0 {
		return run.ErrConflict
	}
	if err := t.act(m.Act); err != nil {
		return err
	}
	if !m.AskedAt.IsZero() {
		// What it takes counts from now on, and not from an attempt of last week.
		if _, err := t.exec(`UPDATE run SET asked_at = $1, queued_at = $1, started_at = CASE WHEN state = 'publishing' THEN $1 END WHERE id = $2`, m.AskedAt.UnixMilli(), m.Run); err != nil {
			return err
		}
	}
	if a := m.Ended; a != nil {
		if _, err := t.exec(`UPDATE attempt SET ended_at = $1, exit_code = $2, signal = $3, reason = $4, user_cpu = $5, system_cpu = $6, max_rss = $7,
				max_rss_exact = $8 WHERE run = $9 AND number = $10`, millis(a.EndedAt), a.ExitCode, a.Signal, a.Reason,
			a.UserCPU.Milliseconds(), a.SystemCPU.Milliseconds(), a.MaxRSS, bit(a.MaxRSSExact), m.Run, a.Number); err != nil {
			return err
		}
	}
	for _, item := range m.Owed {
		if err := t.owe(item, m.At); err != nil {
			return err
		}
	}
	if m.Settled != nil {
		if err := t.settleItem(*m.Settled); err != nil {
			return err
		}
		if m.Settled.State == outbox.Sent {
			if _, err := t.exec(`UPDATE run SET published = $1 WHERE id = $2`, string(m.Settled.Result), m.Run); err != nil {
				return err
			}
			if err := t.publish(m.Run, m.Published, m.At.UnixMilli()); err != nil {
				return err
			}
		}
	}
	return t.settleChildren(m.Run, m.To, m.At)
}

// startWaiting lets a run that waits for parents, and those that wait for it,
// start if all their parents have succeeded and no more are to come. One that
// was skipped waits again when what was in its way is gone and others go on.
func (t *tx) startWaiting(id string, at time.Time) error {
	if _, err := t.exec(`UPDATE run SET state = 'queued', reason = $1, ended_at = NULL
		WHERE id IN (SELECT $2 UNION ALL SELECT run FROM run_parent WHERE parent = $2)
		AND state = 'skipped' AND reason LIKE $1 || ':%'
		AND NOT EXISTS (SELECT 1 FROM run_parent JOIN run AS other ON other.id = run_parent.parent
			WHERE run_parent.run = run.id AND other.state IN ('failed', 'lost', 'cancelled', 'skipped', 'missed'))`, plan.DependencyReason, id); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE run SET state = 'queued', reason = '', queued_at = $1, ended_at = NULL
		WHERE id IN (SELECT $2 UNION ALL SELECT run FROM run_parent WHERE parent = $2) AND waits_until = 0
		AND state = 'queued' AND reason = $3
		AND NOT EXISTS (SELECT 1 FROM run_parent JOIN run AS other ON other.id = run_parent.parent
			WHERE run_parent.run = run.id AND other.state <> 'succeeded')`, at.UnixMilli(), id, plan.DependencyReason)
	return err
}

// adopt makes a run of a backfill the parent of what an earlier backfill, the
// newest, has had skipped because its run for the same firing did not succeed,
// unless it has runs of their jobs that wait for it already. (|| keeps SQLite from
// reading all runs of the child's job for that.)
func (t *tx) adopt(id string) error {
	_, err := t.exec(`UPDATE run_parent SET parent = $1
		WHERE parent IN (SELECT other.id FROM run JOIN run AS other ON other.job = run.job AND other.fires_at = run.fires_at
			WHERE run.id = $1 AND run.cause = 'backfill' AND other.id <> $1 AND other.cause = 'backfill'
			AND other.state IN ('failed', 'lost', 'cancelled', 'skipped', 'missed'))
		AND EXISTS (SELECT 1 FROM run AS child WHERE child.id = run_parent.run AND child.state = 'skipped' AND child.reason LIKE $2 || ':%'
			AND NOT EXISTS (SELECT 1 FROM run AS newer WHERE newer.job = child.job AND newer.fires_at = child.fires_at
				AND newer.cause = 'after' AND newer.backfill <> '' AND newer.id > child.id)
			AND NOT EXISTS (SELECT 1 FROM run_parent AS own JOIN run AS mine ON mine.id = own.run WHERE own.parent = $1 AND mine.job || '' = child.job))`,
		id, plan.DependencyReason)
	return err
}

// settleChildren lets the runs that wait for a run start when the last of their
// parents has succeeded, and skips them when one has ended otherwise.
func (t *tx) settleChildren(parent string, state run.State, at time.Time) error {
	if state == run.Succeeded {
		if err := t.adopt(parent); err != nil {
			return err
		}
		children, err := list(t.ctx, t.raw, value[string], `SELECT run FROM run_parent WHERE parent = $1 LIMIT 1`, parent)
		if err != nil || len(children) == 0 {
			return err
		}
		return t.startWaiting(parent, at)
	}
	if !state.Finished() {
		return nil
	}
	children, err := list(t.ctx, t.raw, value[string], `SELECT run.id FROM run JOIN run_parent ON run_parent.run = run.id
		WHERE run_parent.parent = $1 AND run.state = 'queued' AND run.reason = $2 ORDER BY run.id`, parent, plan.DependencyReason)
	if err != nil || len(children) == 0 {
		return err
	}
	name, err := one(t.ctx, t.raw, value[string], `SELECT job.name FROM job JOIN run ON run.job = job.id WHERE run.id = $1`, parent)
	if err != nil {
		return err
	}
	for _, child := range children {
		m := run.Move{
			Run: child, From: run.Queued, To: run.Skipped, At: at,
			Reason: fmt.Sprintf("%s: %s ended %s (run %s)", plan.DependencyReason, name, state, parent),
		}
		// One that also comes after a child before it was skipped with that.
		if err := t.move(m); err != nil && !errors.Is(err, run.ErrConflict) {
			return err
		}
	}
	return nil
}

package store

import (
	"context"
	"database/sql"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// Clock reads how far everything has been planned; zero when nothing has.
func (s *Store) Clock(ctx context.Context) (plan.Clock, error) {
	clocks, err := list(ctx, s.read, func(scan func(...any) error) (plan.Clock, error) {
		var c plan.Clock
		var mark, high sql.NullInt64
		err := scan(&mark, &high, &c.Era, &c.Boot)
		c.Mark, c.High = fromMillis(mark), fromMillis(high)
		return c, err
	}, `SELECT mark, high, era, boot FROM clock WHERE scope = ''`)
	if err != nil || len(clocks) == 0 {
		return plan.Clock{}, err
	}
	return clocks[0], nil
}

// KnownJobs lists the jobs that a project has or had, in file order.
func (s *Store) KnownJobs(ctx context.Context, project string) ([]job.Known, error) {
	return list(ctx, s.read, func(scan func(...any) error) (job.Known, error) {
		var k job.Known
		var body string
		if err := scan(&k.Key, &k.Name, &k.Removed, &k.Timing, &body); err != nil {
			return k, err
		}
		j, err := job.ParseDefinition([]byte(body))
		if err != nil {
			return k, err
		}
		k.Command = j.Command.String()
		return k, nil
	}, `SELECT job.id, job.name, job.removed_at IS NOT NULL, job.timing, definition.body FROM job JOIN definition ON definition.hash = job.definition
		WHERE job.project = $1 ORDER BY job.line, job.id`, project)
}

// StoredJob is a job as it was last loaded.
type StoredJob struct {
	plan.Job
	Removed bool
}

// Jobs lists the jobs of all projects as they were last loaded.
func (s *Store) Jobs(ctx context.Context) ([]StoredJob, error) {
	return list(ctx, s.read, func(scan func(...any) error) (StoredJob, error) {
		var stored StoredJob
		var body string
		var since sql.NullInt64
		var source job.Source
		if err := scan(&stored.Key, &source.File, &source.Line, &since, &stored.Paused, &stored.Removed, &body); err != nil {
			return stored, err
		}
		j, err := job.ParseDefinition([]byte(body))
		if err != nil {
			return stored, err
		}
		j.Source = source
		stored.Job.Job, stored.Since = j, fromMillis(since)
		return stored, nil
	}, `SELECT job.id, job.source, job.line, job.since, job.paused, job.removed_at IS NOT NULL, definition.body
		FROM job JOIN definition ON definition.hash = job.definition ORDER BY job.project, job.line, job.name`)
}

// SaveJobs makes jobs what the project has from now on. keys are those that
// job.Match gave. A job that is new, was away, or fires at other times than
// before has since = now: an edit never fires the past. What is not among jobs
// is marked removed and keeps its history.
func (s *Store) SaveJobs(ctx context.Context, project string, jobs []*job.Job, keys []string, now time.Time) ([]plan.Job, error) {
	saved := make([]plan.Job, len(jobs))
	err := s.update(ctx, "save the jobs of "+project, func(tx *tx) error {
		// Names may move from one job to another: all are taken off first.
		if _, err := tx.exec(`UPDATE job SET removed_at = $1 WHERE project = $2 AND removed_at IS NULL`, now.UnixMilli(), project); err != nil {
			return err
		}
		for i, j := range jobs {
			var err error
			if saved[i], err = tx.saveJob(j, keys[i], now); err != nil {
				return err
			}
		}
		return nil
	})
	return saved, err
}

func (t *tx) saveJob(j *job.Job, key string, now time.Time) (plan.Job, error) {
	definition := j.Definition()
	if err := t.saveDefinition(definition); err != nil {
		return plan.Job{}, err
	}
	if key == "" {
		p := plan.Job{Job: j, Key: run.NewID(now), Since: now}
		_, err := t.exec(`INSERT INTO job (id, project, name, owner, definition, source, line, timing, since) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			p.Key, j.Project, j.Name, j.Owner, definition.Hash, j.Source.File, j.Source.Line, j.Timing(), now.UnixMilli())
		return p, err
	}
	// removed_at is this transaction's own mark for a job that was there.
	if _, err := t.exec(`UPDATE job SET name = $1, owner = $2, definition = $3, source = $4, line = $5,
			since = CASE WHEN timing = $6 AND removed_at = $7 THEN since ELSE $7 END, timing = $6, removed_at = NULL WHERE id = $8`,
		j.Name, j.Owner, definition.Hash, j.Source.File, j.Source.Line, j.Timing(), now.UnixMilli(), key); err != nil {
		return plan.Job{}, err
	}
	return one(t.ctx, t.raw, func(scan func(...any) error) (plan.Job, error) {
		p := plan.Job{Job: j, Key: key}
		var since sql.NullInt64
		err := scan(&since, &p.Paused)
		p.Since = fromMillis(since)
		return p, err
	}, `SELECT since, paused FROM job WHERE id = $1`, key)
}

func (t *tx) saveDefinition(d job.Definition) error {
	if t.saved[d.Hash] {
		return nil
	}
	_, err := t.exec(`INSERT INTO definition (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, d.Hash, string(d.JSON))
	t.saves = append(t.saves, d.Hash)
	return err
}

// Definition reads the text of a job's definition.
func (s *Store) Definition(ctx context.Context, hash string) ([]byte, error) {
	return one(ctx, s.read, value[[]byte], `SELECT body FROM definition WHERE hash = $1`, hash)
}

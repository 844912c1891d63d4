package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
		var body sql.NullString
		if err := scan(&k.Key, &k.Name, &k.Removed, &k.Paused, &k.Timing, &k.Command, &body); err != nil || !body.Valid {
			return k, err
		}
		j, err := job.ParseDefinition([]byte(body.String))
		if err != nil {
			return k, err
		}
		k.Command = j.Command.String()
		return k, nil
	}, `SELECT id, name, removed_at IS NOT NULL, paused, timing, command,
			CASE WHEN command_of <> definition THEN (SELECT body FROM definition WHERE hash = job.definition) END
		FROM job WHERE project = $1 ORDER BY line, id`, project)
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

// Projects lists those that have jobs which are not removed.
func (s *Store) Projects(ctx context.Context) ([]string, error) {
	return list(ctx, s.read, value[string], `SELECT DISTINCT project FROM job WHERE removed_at IS NULL ORDER BY project`)
}

// KeptJobs gives jobs their names and all else that is stored of them, when
// stamp is that of StampJobs and the project's rows are still those of then. It
// reports false, and gives nothing, when they must be matched and saved.
func (s *Store) KeptJobs(ctx context.Context, project, stamp string, jobs []*job.Job) ([]plan.Job, bool, error) {
	stamps, err := list(ctx, s.read, func(scan func(...any) error) (stamps [2]string, err error) {
		err = scan(&stamps[0], &stamps[1])
		return stamps, err
	}, `SELECT stamp, rows FROM source WHERE project = $1`, project)
	if err != nil || len(stamps) == 0 || stamps[0][0] != stamp {
		return nil, false, err
	}
	inOrder := make([]int, len(jobs)) // of their lines, as the rows are
	for i := range inOrder {
		inOrder[i] = i
	}
	slices.SortFunc(inOrder, func(a, b int) int { return cmp.Compare(jobs[a].Source.Line, jobs[b].Source.Line) })
	saved, names := make([]plan.Job, len(jobs)), make([]string, len(jobs))
	n, fits := 0, true
	digest, err := readRows(ctx, s.read, project, func(r *jobRow) {
		if n == len(jobs) || jobs[inOrder[n]].Source.Line != r.line {
			fits = false
			return
		}
		i := inOrder[n]
		saved[i] = plan.Job{Job: jobs[i], Key: r.id, Since: time.UnixMilli(r.since).UTC(), Paused: r.paused}
		names[i] = r.name
		n++
	})
	if err != nil || !fits || n < len(jobs) || digest != stamps[0][1] {
		return nil, false, err
	}
	for i, j := range jobs {
		j.Name = names[i]
	}
	return saved, true, nil
}

// StampJobs notes that the jobs of a project, as they are saved, are what a
// source with this stamp means. The stamp changes with the source's text and
// with all that the text is read with. Nobody may save the project's jobs
// meanwhile.
func (s *Store) StampJobs(ctx context.Context, project, stamp string) error {
	// Not within the transaction: others write while a hundred thousand rows are read.
	digest, err := readRows(ctx, s.read, project, func(*jobRow) {})
	if err != nil {
		return err
	}
	return s.update(ctx, "note what the jobs of "+project+" were read from", func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO source (project, stamp, rows) VALUES ($1, $2, $3)
			ON CONFLICT (project) DO UPDATE SET stamp = excluded.stamp, rows = excluded.rows, since = 0`, project, stamp, digest)
		return err
	})
}

// BeginJobs notes that the new jobs of a source are planned from now on and
// written by AddJobs, until StampJobs says that all are: those that a crash leaves
// unwritten count from then on too, unless the source is edited before it is read
// again.
func (s *Store) BeginJobs(ctx context.Context, project, stamp string, now time.Time) error {
	return s.update(ctx, "note that the jobs of "+project+" are planned", func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO source (project, stamp, rows, since) VALUES ($1, $2, '', $3)
			ON CONFLICT (project) DO UPDATE SET stamp = excluded.stamp, rows = excluded.rows, since = excluded.since`, project, stamp, now.UnixMilli())
		return err
	})
}

// JobsBegun gives the time that BeginJobs noted for a source, unless its jobs
// have been stamped since; zero when there is none.
func (s *Store) JobsBegun(ctx context.Context, project, stamp string) (time.Time, error) {
	since, err := list(ctx, s.read, value[int64], `SELECT since FROM source WHERE project = $1 AND stamp = $2`, project, stamp)
	if err != nil || len(since) == 0 {
		return time.Time{}, err
	}
	return fromZero(since[0]), nil
}

// AddJobs writes what NewJobs made. A job that is written already stays as it is.
func (s *Store) AddJobs(ctx context.Context, jobs []plan.Job) error {
	return s.update(ctx, "save new jobs", func(tx *tx) error {
		for _, j := range jobs {
			if err := tx.addJob(j); err != nil {
				return err
			}
		}
		return nil
	})
}

// jobRow is what KeptJobs wants to know of a job.
type jobRow struct {
	id, name, definition string
	line                 int
	since                int64
	paused               bool
}

// readRows reads the jobs that a project has, in the order of their lines, and
// gives a digest of what their source says. An older belfry may have saved
// others meanwhile, and knows nothing of stamps.
func readRows(ctx context.Context, db *prepared, project string, f func(r *jobRow)) (digest string, err error) {
	sum := sha256.New()
	var r jobRow
	var line []byte
	err = each(ctx, db, func(scan func(...any) error) error {
		if err := scan(&r.id, &r.name, &r.definition, &r.line, &r.since, &r.paused); err != nil {
			return err
		}
		line = append(append(append(append(line[:0], r.id...), r.definition...), strconv.Itoa(r.line)...), '\n')
		sum.Write(line)
		f(&r)
		return nil
	}, `SELECT id, name, definition, line, since, paused FROM job WHERE project = $1 AND removed_at IS NULL ORDER BY line, id`, project)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// SaveJobs makes jobs what the project has from now on. keys are those that
// job.Match gave. A job that is new, was away, or fires at other times than
// before has since = now: an edit never fires the past. What is not among jobs
// is marked removed and keeps its history. Only what has changed is written.
func (s *Store) SaveJobs(ctx context.Context, project string, jobs []*job.Job, keys []string, now time.Time) ([]plan.Job, error) {
	saved := make([]plan.Job, len(jobs))
	err := s.update(ctx, "save the jobs of "+project, func(tx *tx) error {
		place := make(map[string]int, len(jobs))
		for i, key := range keys {
			if key != "" {
				place[key] = i
			}
		}
		var changed []int
		var former []string // definitions that may be nobody's when the others are saved
		var away []string   // their names are free
		err := each(tx.ctx, tx.raw, func(scan func(...any) error) error {
			var old storedRow
			if err := old.scan(scan); err != nil {
				return err
			}
			i, stays := place[old.id]
			if !stays {
				if !old.removed {
					away = append(away, old.id)
				}
				return nil
			}
			j, since := jobs[i], time.UnixMilli(old.since).UTC()
			if old.removed || old.timing != j.Timing() {
				since = time.UnixMilli(now.UnixMilli()).UTC()
			}
			saved[i] = plan.Job{Job: j, Key: old.id, Since: since, Paused: old.paused}
			if !old.is(j) {
				changed = append(changed, i)
				if old.definition != j.Definition().Hash {
					former = append(former, old.definition)
				}
			}
			if old.name != j.Name && !old.removed {
				away = append(away, old.id) // names may move from one job to another
			}
			return nil
		}, `SELECT id, name, owner, definition, source, line, timing, command, command_of, since, paused, removed_at IS NOT NULL FROM job WHERE project = $1`, project)
		if err != nil {
			return err
		}
		for _, id := range away {
			if _, err := tx.exec(`UPDATE job SET removed_at = $1 WHERE id = $2`, now.UnixMilli(), id); err != nil {
				return err
			}
		}
		for _, i := range changed {
			if err := tx.changeJob(saved[i]); err != nil {
				return err
			}
		}
		var added []*job.Job
		for i, j := range jobs {
			if saved[i].Key != "" {
				continue
			}
			if keys[i] != "" {
				return fmt.Errorf("job %s: %w", keys[i], ErrNotFound)
			}
			added = append(added, j)
		}
		fresh := NewJobs(added, now)
		for i, next := 0, 0; next < len(fresh); i++ {
			if saved[i].Key == "" {
				saved[i] = fresh[next]
				next++
			}
		}
		slices.SortFunc(fresh, byKey)
		for _, j := range fresh {
			if err := tx.addJob(j); err != nil {
				return err
			}
		}
		for _, hash := range former {
			if err := tx.dropDefinition(hash); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return saved, nil
}

// storedRow is a job's row, to be compared with the job as it is now.
type storedRow struct {
	id, name, owner, definition, file, timing, command, commandOf string
	line                                                          int
	since                                                         int64
	paused, removed                                               bool
}

func (r *storedRow) scan(scan func(...any) error) error {
	return scan(&r.id, &r.name, &r.owner, &r.definition, &r.file, &r.line, &r.timing, &r.command, &r.commandOf, &r.since, &r.paused, &r.removed)
}

// is reports whether nothing of j would have to be written.
func (r *storedRow) is(j *job.Job) bool {
	return !r.removed && r.name == j.Name && r.owner == j.Owner && r.file == j.Source.File && r.line == j.Source.Line &&
		r.timing == j.Timing() && r.commandOf == r.definition && r.definition == j.Definition().Hash
}

// NewJobs makes jobs that count from now on of those that are new. They are best
// written in the order of their keys, which is the one of most of the indexes: of
// a hundred thousand in any other, each would want pages that are not in memory.
func NewJobs(jobs []*job.Job, now time.Time) []plan.Job {
	now = time.UnixMilli(now.UnixMilli()).UTC()
	inOrder, hashes, keys := make([]int, len(jobs)), make([]string, len(jobs)), make([]string, len(jobs))
	for i, j := range jobs {
		inOrder[i], hashes[i], keys[i] = i, j.Definition().Hash, run.NewID(now)
	}
	slices.Sort(keys)
	slices.SortFunc(inOrder, func(a, b int) int { return cmp.Or(strings.Compare(hashes[a], hashes[b]), a-b) })
	made := make([]plan.Job, len(jobs))
	for n, i := range inOrder {
		made[i] = plan.Job{Job: jobs[i], Key: keys[n], Since: now}
	}
	return made
}

func byKey(a, b plan.Job) int { return strings.Compare(a.Key, b.Key) }

func (t *tx) addJob(j plan.Job) error {
	definition := j.Definition()
	if err := t.saveDefinition(definition); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO job (id, project, name, owner, definition, source, line, timing, since, command, command_of) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $5)
			ON CONFLICT (id) DO NOTHING`,
		j.Key, j.Project, j.Name, j.Owner, definition.Hash, j.Source.File, j.Source.Line, j.Timing(), j.Since.UnixMilli(), j.Command.String())
	return err
}

func (t *tx) changeJob(j plan.Job) error {
	definition := j.Definition()
	if err := t.saveDefinition(definition); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE job SET name = $1, owner = $2, definition = $3, source = $4, line = $5, timing = $6, since = $7, command = $8, command_of = $3,
			removed_at = NULL WHERE id = $9`,
		j.Name, j.Owner, definition.Hash, j.Source.File, j.Source.Line, j.Timing(), j.Since.UnixMilli(), j.Command.String(), j.Key)
	return err
}

func (t *tx) saveDefinition(d job.Definition) error {
	_, err := t.exec(`INSERT INTO definition (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, d.Hash, string(d.JSON))
	return err
}

// Definition reads the text of a job's definition.
func (s *Store) Definition(ctx context.Context, hash string) ([]byte, error) {
	return one(ctx, s.read, value[[]byte], `SELECT body FROM definition WHERE hash = $1`, hash)
}

// Pause makes a job fire no more, or again, and gives its since: a job that is
// resumed fires from now on, and nothing of what passed.
func (s *Store) Pause(ctx context.Context, key string, paused bool, now time.Time, act *run.Act) (since time.Time, err error) {
	err = s.update(ctx, "pause or resume a job", func(tx *tx) error {
		changed, err := tx.exec(`UPDATE job SET paused = $1, since = CASE WHEN $1 = 0 THEN $2 ELSE since END WHERE id = $3 AND paused <> $1`,
			bit(paused), now.UnixMilli(), key)
		if err != nil {
			return err
		}
		if changed > 0 {
			if err := tx.act(act); err != nil {
				return err
			}
		}
		at, err := one(tx.ctx, tx.raw, value[sql.NullInt64], `SELECT since FROM job WHERE id = $1`, key)
		since = fromMillis(at)
		return err
	})
	return since, err
}

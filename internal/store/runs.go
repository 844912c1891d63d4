package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
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
	return true, s.update(ctx, "record what is due", func(tx *tx) error {
		ids, known, err := tx.recordRuns(d.Runs, now)
		if err != nil {
			return err
		}
		for _, link := range d.Links {
			if err := tx.link(link.Child, ids[link.Parent]); err != nil {
				return err
			}
			known[ids[link.Parent]] = true // it was there when its child was not told of it
		}
		for _, parent := range slices.Sorted(maps.Keys(known)) {
			// It may have ended already: nobody would tell its children.
			state, err := one(tx.ctx, tx.raw, value[run.State], `SELECT state FROM run WHERE id = $1`, parent)
			if err != nil {
				return err
			}
			if err := tx.settleChildren(parent, state, now); err != nil {
				return err
			}
		}
		for _, id := range d.Released {
			if err := tx.release(id, now); err != nil {
				return err
			}
		}
		for _, e := range d.Expired {
			if err := tx.move(run.Move{Run: e.Run, From: run.Queued, To: run.Missed, Reason: e.Reason, At: now}); err != nil {
				return err
			}
		}
		_, err = tx.exec(`INSERT INTO clock (scope, mark, high, era, boot) VALUES ('', $1, $2, $3, $4)
			ON CONFLICT (scope) DO UPDATE SET mark = excluded.mark, high = excluded.high, era = excluded.era, boot = excluded.boot`,
			d.Clock.Mark.UnixMilli(), d.Clock.High.UnixMilli(), d.Clock.Era, d.Clock.Boot)
		return err
	})
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

// AddRuns records runs that a person asked for, all or none. Parents come
// before the runs that wait for them.
func (s *Store) AddRuns(ctx context.Context, runs []run.Run, definitions []job.Definition) error {
	return s.update(ctx, "record a run", func(tx *tx) error {
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

const (
	namedLayout = "2006-01-02T15:04:05"
	idLength    = 26
)

// The job is joined from the left, or SQLite might begin with it and sort the
// whole history.
const runColumns = runFields + `FROM run LEFT JOIN job ON job.id = run.job `

const runFields = `run.id, run.job, job.project, job.name, run.key, run.cause, run.state, run.reason, run.definition,
	run.fires_at, run.fires_until, run.count, run.named, run.not_before, run.attempt, run.token, run.node,
	run.queued_at, run.started_at, run.ended_at, run.exit_code, run.signal, run.published,
	run.asked_at, run.start_by, run.finish_by, run.backfill, run.parallel `

// scanRun reads a row of runFields. Lists have thousands, and to let
// database/sql find out what each value is to become takes longer than SQLite.
func scanRun(scan func(...any) error) (run.Run, error) {
	c, err := readColumns(scan, 28)
	if err != nil {
		return run.Run{}, err
	}
	r := run.Run{ // in the order of runFields
		ID: c.text(), Job: c.text(), Project: c.text(), Name: c.text(), Key: c.text(), Cause: plan.Cause(c.text()), State: run.State(c.text()),
		Reason: c.text(), Definition: c.text(),
		FiresAt: fromMillis(c.number()), FiresUntil: fromMillis(c.number()), Count: int(c.number().Int64), Named: c.named(),
		NotBefore: fromZero(c.number().Int64), Attempt: int(c.number().Int64), Token: c.number().Int64, Node: c.text(),
		QueuedAt: fromMillis(c.number()), StartedAt: fromMillis(c.number()), EndedAt: fromMillis(c.number()),
		ExitCode: c.exitCode(), Signal: c.text(), Published: c.json(),
		AskedAt: fromZero(c.number().Int64), StartBy: fromZero(c.number().Int64), FinishBy: fromZero(c.number().Int64),
		Backfill: c.text(), Parallel: int(c.number().Int64),
	}
	return r, c.err
}

// columns are the values of a row, taken one after the other.
type columns struct {
	values []any // nil for NULL
	err    error // of the first that is not what it was taken for
}

func readColumns(scan func(...any) error, n int) (*columns, error) {
	values := make([]any, 2*n)
	into := values[n:]
	for i := range into {
		into[i] = &values[i]
	}
	return &columns{values: values[:n]}, scan(into...)
}

func (c *columns) next() any {
	v := c.values[0]
	c.values = c.values[1:]
	return v
}

func (c *columns) wrong(v any, what string) {
	if v != nil && c.err == nil {
		c.err = fmt.Errorf("a column holds %v, which is no %s", v, what)
	}
}

// text is empty for NULL.
func (c *columns) text() string {
	v := c.next()
	s, ok := v.(string)
	if !ok {
		c.wrong(v, "text")
	}
	return s
}

func (c *columns) number() sql.NullInt64 {
	v := c.next()
	n, ok := v.(int64)
	if !ok {
		c.wrong(v, "number")
	}
	return sql.NullInt64{Int64: n, Valid: ok}
}

func (c *columns) named() time.Time {
	named, err := time.Parse(namedLayout, c.text())
	if err != nil && c.err == nil {
		c.err = err
	}
	return named
}

func (c *columns) exitCode() *int {
	n := c.number()
	if !n.Valid {
		return nil
	}
	code := int(n.Int64)
	return &code
}

func (c *columns) json() json.RawMessage {
	if text := c.text(); text != "" {
		return json.RawMessage(text)
	}
	return nil
}

// Run reads one run.
func (s *Store) Run(ctx context.Context, id string) (run.Run, error) {
	r, err := one(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.id = $1`, id)
	if err != nil {
		return r, err
	}
	r.Parents, err = list(ctx, s.read, value[string], `SELECT parent FROM run_parent WHERE run = $1 ORDER BY parent`, id)
	return r, err
}

// RunsByPrefix lists the runs whose id begins with prefix, two at most: one
// is what the prefix means, two are an ambiguity.
func (s *Store) RunsByPrefix(ctx context.Context, prefix string) ([]run.Run, error) {
	// Z is the last digit of an id, in every collation.
	last := prefix + strings.Repeat("Z", max(0, idLength-len(prefix)))
	return list(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.id >= $1 AND run.id <= $2 ORDER BY run.id LIMIT 2`, prefix, last)
}

// RunFilter says which runs are wanted. Its zero value is all of them.
type RunFilter struct {
	Job      string // the store's id
	State    run.State
	Backfill string
	// Covering is an instant that the run's firings include.
	Covering time.Time
	Limit    int // 0: all
	// After continues a list behind this run of it.
	After *run.Run
}

// Runs lists runs, what was queued last first.
func (s *Store) Runs(ctx context.Context, f RunFilter) ([]run.Run, error) {
	query, args, err := runsQuery(f)
	if err != nil {
		return nil, err
	}
	return list(ctx, s.read, scanRun, query, args...)
}

func runsQuery(f RunFilter) (query string, args []any, err error) {
	var where []string
	and := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "$?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, condition)
	}
	if f.Job != "" && f.Covering.IsZero() {
		and("run.job = $?", f.Job)
	}
	if f.Backfill != "" {
		and("run.backfill = $? AND run.backfill <> ''", f.Backfill)
	}
	if f.State != "" {
		condition, err := stateCondition(f.State)
		if err != nil {
			return "", nil, err
		}
		and(condition)
	}
	if !f.Covering.IsZero() {
		at := f.Covering.UnixMilli()
		if f.Job == "" {
			and("run.fires_at <= $? AND run.fires_until >= $?", at, at)
		} else { // two ways, each with its index: nearly all rows are of one firing
			and(`run.id IN (SELECT id FROM run WHERE job = $? AND fires_at = $?
				UNION ALL SELECT id FROM run WHERE job = $? AND count > 1 AND fires_until >= $? AND fires_at <= $?)`, f.Job, at, f.Job, at, at)
		}
	}
	if f.After != nil && f.Covering.IsZero() {
		condition, values := after(f.After)
		and(condition, values...)
	}
	query = `SELECT ` + runColumns
	if len(where) > 0 {
		query += `WHERE ` + strings.Join(where, " AND ")
	}
	if f.Covering.IsZero() {
		query += ` ORDER BY run.queued_at DESC, run.fires_at DESC, run.id DESC`
	} else { // a row of many firings may begin long before
		query += ` ORDER BY run.fires_at DESC, run.id DESC`
	}
	if f.Limit > 0 {
		args = append(args, f.Limit)
		query += fmt.Sprintf(` LIMIT $%d`, len(args))
	}
	return query, args, nil
}

// Waiting lists the queued runs that wait for nothing but a turn, a slot or a
// retry's time, in the order they were queued; those that were queued together
// in the order of their firings.
func (s *Store) Waiting(ctx context.Context) ([]run.Run, error) {
	return list(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.state = 'queued' AND run.reason <> $1 ORDER BY run.queued_at, run.fires_at, run.id`, plan.DependencyReason)
}

// Running lists the runs with a claimed attempt.
func (s *Store) Running(ctx context.Context) ([]run.Run, error) {
	return list(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.state = 'running' ORDER BY run.id`)
}

// Waits lists the runs that wait for firings of their parents to come.
func (s *Store) Waits(ctx context.Context) ([]plan.Wait, error) {
	return list(ctx, s.read, func(scan func(...any) error) (plan.Wait, error) {
		var w plan.Wait
		var until sql.NullInt64
		err := scan(&w.Run, &until)
		w.Until = fromMillis(until)
		return w, err
	}, `SELECT id, waits_until FROM run WHERE waits_until > 0 ORDER BY waits_until, id`)
}

// QueuedFirings lists the firings, and the runs asked for by hand, that wait for
// their first attempt. A run that waited for others is late by nature, and is
// not among them.
func (s *Store) QueuedFirings(ctx context.Context) ([]plan.Queued, error) {
	return list(ctx, s.read, func(scan func(...any) error) (plan.Queued, error) {
		var q plan.Queued
		var firesAt, askedAt sql.NullInt64
		err := scan(&q.Run, &q.Job, &firesAt, &askedAt, &q.Reboot)
		q.FiresAt, q.AskedAt = fromMillis(firesAt), fromMillis(askedAt)
		return q, err
	}, `SELECT id, job, fires_at, CASE WHEN asked_at > 0 THEN asked_at END, CASE WHEN cause = 'reboot' THEN key ELSE '' END FROM run
		WHERE state = 'queued' AND attempt = 0 AND reason <> $1 AND cause IN ('schedule', 'catch-up', 'manual', 'reboot')
		AND NOT EXISTS (SELECT 1 FROM run_parent WHERE run_parent.run = run.id) ORDER BY id`,
		plan.DependencyReason)
}

// BackfillStates counts a backfill's runs by their state.
func (s *Store) BackfillStates(ctx context.Context, backfill string) (map[run.State]int, error) {
	type count struct {
		state run.State
		n     int
	}
	counts, err := list(ctx, s.read, func(scan func(...any) error) (c count, err error) {
		err = scan(&c.state, &c.n)
		return c, err
	}, `SELECT state, COUNT(*) FROM run WHERE backfill = $1 AND backfill <> '' GROUP BY state`, backfill)
	states := map[run.State]int{}
	for _, c := range counts {
		states[c.state] = c.n
	}
	return states, err
}

// Tried gives, for each instant of a range at which a job fired or was asked to,
// the state of the run that was recorded last and whether it has had an attempt
// or is to have one.
func (s *Store) Tried(ctx context.Context, jobKey string, from, until time.Time) (map[time.Time]run.State, error) {
	type firing struct {
		at    time.Time
		state run.State
	}
	firings, err := list(ctx, s.read, func(scan func(...any) error) (f firing, err error) {
		var at sql.NullInt64
		err = scan(&at, &f.state)
		f.at = fromMillis(at)
		return f, err
	}, `SELECT fires_at, state FROM run WHERE job = $1 AND fires_at >= $2 AND fires_at < $3 AND count = 1
		AND (attempt > 0 OR state = 'queued') ORDER BY fires_at, id`, jobKey, from.UnixMilli(), until.UnixMilli())
	tried := map[time.Time]run.State{}
	for _, f := range firings {
		if tried[f.at] != run.Succeeded { // a day that was made stays made
			tried[f.at] = f.state
		}
	}
	return tried, err
}

// Unfinished counts the runs that were queued since and have not ended.
func (s *Store) Unfinished(ctx context.Context, since time.Time) (int, error) {
	return one(ctx, s.read, value[int], `SELECT COUNT(*) FROM run WHERE (state = 'queued' OR state = 'running' OR state = 'publishing')
		AND queued_at >= $1`, since.UnixMilli())
}

// FailedBefore reports whether the newest finished run of the job before r had
// failed or was lost.
func (s *Store) FailedBefore(ctx context.Context, r run.Run) (bool, error) {
	states, err := list(ctx, s.read, value[run.State], `SELECT state FROM run WHERE job = $1 AND id <> $2 AND (state = 'succeeded' OR state = 'failed' OR state = 'lost')
		ORDER BY ended_at DESC, id DESC LIMIT 1`, r.Job, r.ID)
	return len(states) > 0 && states[0] != run.Succeeded, err
}

const attemptColumns = `run, number, token, node, boot, started_at, ended_at, exit_code, signal, reason, user_cpu, system_cpu, max_rss FROM attempt `

func scanAttempt(scan func(...any) error) (run.Attempt, error) {
	var a run.Attempt
	var startedAt, endedAt sql.NullInt64
	var user, system int64
	err := scan(&a.Run, &a.Number, &a.Token, &a.Node, &a.Boot, &startedAt, &endedAt, &a.ExitCode, &a.Signal, &a.Reason, &user, &system, &a.MaxRSS)
	a.StartedAt, a.EndedAt = fromMillis(startedAt), fromMillis(endedAt)
	a.UserCPU, a.SystemCPU = time.Duration(user)*time.Millisecond, time.Duration(system)*time.Millisecond
	return a, err
}

// Attempt reads one attempt of a run.
func (s *Store) Attempt(ctx context.Context, id string, number int) (run.Attempt, error) {
	return one(ctx, s.read, scanAttempt, `SELECT `+attemptColumns+`WHERE run = $1 AND number = $2`, id, number)
}

// Attempts lists the attempts of a run in their order.
func (s *Store) Attempts(ctx context.Context, id string) ([]run.Attempt, error) {
	return list(ctx, s.read, scanAttempt, `SELECT `+attemptColumns+`WHERE run = $1 ORDER BY number`, id)
}

// Targets reads where an attempt's output goes, as Claim noted it.
func (s *Store) Targets(ctx context.Context, id string, number int) ([]job.Target, error) {
	text, err := one(ctx, s.read, value[string], `SELECT targets FROM attempt WHERE run = $1 AND number = $2`, id, number)
	if err != nil {
		return nil, err
	}
	var targets []job.Target
	return targets, json.Unmarshal([]byte(text), &targets)
}

// Claim makes queued runs running, each with a new attempt, and says which: those
// that were still queued and under the token that the claim follows.
func (s *Store) Claim(ctx context.Context, claims []run.Claim) (claimed []bool, err error) {
	err = s.update(ctx, "claim runs", func(tx *tx) error {
		claimed = make([]bool, len(claims))
		for i, c := range claims {
			n, err := tx.claimRun(c)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			targets, err := json.Marshal(c.Targets)
			if err != nil {
				return err
			}
			if _, err := tx.exec(`INSERT INTO attempt (run, number, token, node, boot, targets, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
				c.Run, c.Attempt, c.Token, c.Node, c.Boot, string(targets), c.At.UnixMilli()); err != nil {
				return err
			}
			claimed[i] = true
		}
		return nil
	})
	return claimed, err
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
	if err := t.saveDefinition(c.Definition); err != nil {
		return 0, err
	}
	return t.exec(claiming+`, definition = $7 WHERE id = $5 AND state = 'queued' AND token = $6`,
		c.Attempt, c.Token, c.Node, c.At.UnixMilli(), c.Run, c.Token-1, c.Definition.Hash)
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
	if !m.AskedAt.IsZero() {
		if _, err := t.exec(`UPDATE run SET asked_at = $1, queued_at = $1 WHERE id = $2`, m.AskedAt.UnixMilli(), m.Run); err != nil {
			return err
		}
	}
	if a := m.Ended; a != nil {
		if _, err := t.exec(`UPDATE attempt SET ended_at = $1, exit_code = $2, signal = $3, reason = $4, user_cpu = $5, system_cpu = $6, max_rss = $7
				WHERE run = $8 AND number = $9`, millis(a.EndedAt), a.ExitCode, a.Signal, a.Reason,
			a.UserCPU.Milliseconds(), a.SystemCPU.Milliseconds(), a.MaxRSS, m.Run, a.Number); err != nil {
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

// settleChildren lets the runs that wait for a run start when the last of their
// parents has succeeded, and skips them when one has ended otherwise.
func (t *tx) settleChildren(parent string, state run.State, at time.Time) error {
	if state == run.Succeeded {
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

package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

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

// Run reads one run.
func (s *Store) Run(ctx context.Context, id string) (run.Run, error) {
	r, err := one(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.id = $1`, id)
	if err != nil {
		return r, err
	}
	r.Parents, err = list(ctx, s.read, value[string], `SELECT parent FROM run_parent WHERE run = $1 ORDER BY parent`, id)
	return r, err
}

// RunsByPrefix lists the runs whose id begins with prefix, the first of them when
// there are many: one is what the prefix means, several are an ambiguity.
func (s *Store) RunsByPrefix(ctx context.Context, prefix string) ([]run.Run, error) {
	// Z is the last digit of an id, in every collation.
	last := prefix + strings.Repeat("Z", max(0, idLength-len(prefix)))
	return list(ctx, s.read, scanRun, `SELECT `+runColumns+`WHERE run.id >= $1 AND run.id <= $2 ORDER BY run.id LIMIT 100`, prefix, last)
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
	return waiting(ctx, s.read)
}

func waiting(ctx context.Context, from *prepared) ([]run.Run, error) {
	return list(ctx, from, scanRun, `SELECT `+runColumns+`WHERE run.state = 'queued' AND run.reason <> $1 ORDER BY run.queued_at, run.fires_at, run.id`, plan.DependencyReason)
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
// failed or was lost, or r itself had, before a person had it tried again.
func (s *Store) FailedBefore(ctx context.Context, r run.Run) (bool, error) {
	states, err := list(ctx, s.read, value[run.State], `SELECT state FROM run WHERE job = $1 AND id <> $2 AND (state = 'succeeded' OR state = 'failed' OR state = 'lost')
		ORDER BY ended_at DESC, id DESC LIMIT 1`, r.Job, r.ID)
	if err != nil || len(states) > 0 && states[0] != run.Succeeded {
		return err == nil, err
	}
	again, err := list(ctx, s.read, value[string], `SELECT id FROM audit WHERE run = $1 AND run <> '' AND (detail = $2 OR detail = $3) LIMIT 1`,
		r.ID, run.Was(run.Failed), run.Was(run.Lost))
	return len(again) > 0, err
}

const attemptColumns = `run, number, token, node, boot, started_at, ended_at, exit_code, signal, reason, user_cpu, system_cpu, max_rss, max_rss_exact FROM attempt `

func scanAttempt(scan func(...any) error) (run.Attempt, error) {
	var a run.Attempt
	var startedAt, endedAt sql.NullInt64
	var user, system int64
	err := scan(&a.Run, &a.Number, &a.Token, &a.Node, &a.Boot, &startedAt, &endedAt, &a.ExitCode, &a.Signal, &a.Reason, &user, &system, &a.MaxRSS, &a.MaxRSSExact)
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

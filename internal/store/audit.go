package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"belfry/internal/run"
)

const auditColumns = `audit.id, audit.at, audit.uid, audit.person, audit.action, audit.job, job.project, job.name, audit.run, audit.backfill, audit.detail
	FROM audit LEFT JOIN job ON job.id = audit.job `

func scanAct(scan func(...any) error) (run.Act, error) {
	c, err := readColumns(scan, 11)
	if err != nil {
		return run.Act{}, err
	}
	a := run.Act{ // in the order of auditColumns
		ID: c.text(), At: fromMillis(c.number()), Person: run.Person{UID: int(c.number().Int64), Name: c.text()}, Action: run.Action(c.text()),
		Job: c.text(), Project: c.text(), JobName: c.text(), Run: c.text(), Backfill: c.text(), Detail: c.text(),
	}
	return a, c.err
}

// Act notes what a person is about to do, where that is no change of the store.
func (s *Store) Act(ctx context.Context, a run.Act) error {
	return s.update(ctx, "note what a person does", func(tx *tx) error { return tx.act(&a) })
}

// act notes what a person did; nil: nobody did.
func (t *tx) act(a *run.Act) error {
	if a == nil {
		return nil
	}
	_, err := t.exec(`INSERT INTO audit (id, at, uid, person, action, job, run, backfill, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		run.NewID(a.At), a.At.UnixMilli(), a.UID, a.Name, a.Action, a.Job, a.Run, a.Backfill, a.Detail)
	return err
}

// ActFilter says which acts are wanted. Its zero value is all of them.
type ActFilter struct {
	Run      string
	Backfill string
	Job      string // the store's id
	Action   run.Action
	Limit    int // 0: all
}

// Acts lists what people did, the newest first.
func (s *Store) Acts(ctx context.Context, f ActFilter) ([]run.Act, error) {
	query, args := actsQuery(f)
	return list(ctx, s.read, scanAct, query, args...)
}

func actsQuery(f ActFilter) (query string, args []any) {
	var where []string
	for _, c := range []struct{ column, value string }{{"run", f.Run}, {"backfill", f.Backfill}, {"job", f.Job}, {"action", string(f.Action)}} {
		if c.value != "" {
			args = append(args, c.value)
			where = append(where, fmt.Sprintf("audit.%[1]s = $%[2]d AND audit.%[1]s <> ''", c.column, len(args)))
		}
	}
	query = `SELECT ` + auditColumns
	if len(where) > 0 {
		query += `WHERE ` + strings.Join(where, " AND ")
	}
	query += ` ORDER BY audit.id DESC`
	if f.Limit > 0 {
		args = append(args, f.Limit)
		query += fmt.Sprintf(` LIMIT $%d`, len(args))
	}
	return query, args
}

// PruneActs removes what people did long ago, some at a time: as old as the
// oldest run may be, and to no run that is still there.
func (s *Store) PruneActs(ctx context.Context, keep Retention, now time.Time, limit int) (removed int, err error) {
	if keep.Age == 0 {
		return 0, nil
	}
	err = s.update(ctx, "remove what people did long ago", func(tx *tx) error {
		n, err := tx.exec(`DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < $1
			AND NOT EXISTS (SELECT 1 FROM run WHERE run.id = audit.run)
			AND NOT EXISTS (SELECT 1 FROM run WHERE run.backfill = audit.backfill AND run.backfill <> '')
			ORDER BY id LIMIT $2)`, run.NewID(now.Add(-max(keep.Age, keep.FailedAge))), limit)
		removed = int(n)
		return err
	})
	return removed, err
}

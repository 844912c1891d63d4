package store

import (
	"context"
	"fmt"
	"strings"

	"belfry/internal/run"
)

const publishedColumns = `published.run, published.number, published.job, job.project, job.name, published.date, published.at,
	published.place, published.target, published.files, published.bytes, published.manifest, published.replaced_by
	FROM published LEFT JOIN job ON job.id = published.job `

func scanPublished(scan func(...any) error) (run.Published, error) {
	c, err := readColumns(scan, 13)
	if err != nil {
		return run.Published{}, err
	}
	p := run.Published{ // in the order of publishedColumns
		Run: c.text(), Number: int(c.number().Int64), Job: c.text(), Project: c.text(), Name: c.text(), Date: c.text(), At: fromMillis(c.number()),
		Place: c.text(), To: c.text(), Files: int(c.number().Int64), Bytes: c.number().Int64, Manifest: c.text(), ReplacedBy: c.text(),
	}
	return p, c.err
}

// PublishedFilter says which sets are wanted. Its zero value is all that stand at
// a target now.
type PublishedFilter struct {
	Run  string
	Job  string // the store's id
	Date string // 2006-01-02
	All  bool   // also those that were replaced
	// Limit is how many at most; 0: all.
	Limit int
	after *run.Published
}

// EachPublished gives each what was published, the newest first and the targets
// of one run in their order, until each gives an error. As EachRun it holds
// nothing while each works.
func (s *Store) EachPublished(ctx context.Context, f PublishedFilter, each func(run.Published) error) error {
	return eachPage(f.Limit, func(limit int, last *run.Published) ([]run.Published, error) {
		f.Limit, f.after = limit, last
		query, args := publishedQuery(f)
		return list(ctx, s.read, scanPublished, query, args...)
	}, each)
}

func publishedQuery(f PublishedFilter) (query string, args []any) {
	var where []string
	and := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "$?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, condition)
	}
	if f.Run != "" {
		and("published.run = $?", f.Run)
	}
	if f.Date != "" {
		and("published.date = $?", f.Date)
	}
	switch {
	case f.Job != "" && f.Date != "": // the runs of a date are few, those of a job may be many
		and("published.job || '' = $?", f.Job)
	case f.Job != "":
		and("published.job = $?", f.Job)
	}
	if !f.All {
		and("published.replaced_by = ''")
	}
	if f.after != nil {
		and("(published.at, published.run) <= ($?, $?) AND NOT (published.run = $? AND published.number <= $?)",
			f.after.At.UnixMilli(), f.after.Run, f.after.Run, f.after.Number)
	}
	query = `SELECT ` + publishedColumns
	if len(where) > 0 {
		query += `WHERE ` + strings.Join(where, " AND ")
	}
	args = append(args, f.Limit)
	return query + fmt.Sprintf(` ORDER BY published.at DESC, published.run DESC, published.number LIMIT $%d`, len(args)), args
}

// publish notes what a run has put to its targets, and that it took the place of
// what stood there.
func (t *tx) publish(id string, sets []run.Published, at int64) error {
	for i, p := range sets {
		if _, err := t.exec(`UPDATE published SET replaced_by = $1 WHERE place = $2 AND replaced_by = ''`, id, p.Place); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO published (run, number, job, date, at, place, target, files, bytes, manifest)
			SELECT id, $1, job, substr(named, 1, 10), $2, $3, $4, $5, $6, $7 FROM run WHERE id = $8`,
			i, at, p.Place, p.To, p.Files, p.Bytes, p.Manifest, id); err != nil {
			return err
		}
	}
	return nil
}

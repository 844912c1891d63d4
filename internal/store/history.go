package store

import (
	"context"
	"fmt"

	"belfry/internal/run"
)

// pageSize is how many eachPage reads at once: while a reader is in the
// middle of its rows, no checkpoint passes it.
const pageSize = 1000

// EachRun gives f the runs that match, what was queued last first, until f
// gives an error. It holds neither them nor a read transaction while f works,
// so f may take its time; runs that are queued meanwhile are not among them.
func (s *Store) EachRun(ctx context.Context, f RunFilter, each func(run.Run) error) error {
	return eachPage(f.Limit, func(limit int, last *run.Run) ([]run.Run, error) {
		f.Limit = limit
		if last != nil {
			f.After = last
		}
		return s.Runs(ctx, f)
	}, each)
}

// eachPage gives each what read gives, page by page: at most limit behind the last
// of the page before. most bounds all of it; 0: nothing does.
func eachPage[T any](most int, read func(limit int, last *T) ([]T, error), each func(T) error) error {
	var last *T
	for left := most; ; {
		limit := pageSize
		if left > 0 {
			limit = min(left, pageSize)
		}
		page, err := read(limit, last)
		if err != nil {
			return err
		}
		for _, v := range page {
			if err := each(v); err != nil {
				return err
			}
		}
		if left > 0 {
			if left -= len(page); left == 0 {
				return nil
			}
		}
		if len(page) < limit {
			return nil
		}
		last = &page[len(page)-1]
	}
}

// LastRuns gives the newest run of each job that has one, by the job's id.
func (s *Store) LastRuns(ctx context.Context) (map[string]run.Run, error) {
	last := map[string]run.Run{}
	err := each(ctx, s.read, func(scan func(...any) error) error {
		r, err := scanRun(scan)
		last[r.Job] = r
		return err
	}, `SELECT `+runFields+fromLast)
	return last, err
}

// LastStates gives what LastRuns does, of each run but its id, definition, state
// and firing: a list of thousands of jobs has no room for more.
func (s *Store) LastStates(ctx context.Context) (map[string]run.Run, error) {
	last := map[string]run.Run{}
	err := each(ctx, s.read, func(scan func(...any) error) error {
		c, err := readColumns(scan, 5)
		if err != nil {
			return err
		}
		r := run.Run{ID: c.text(), Job: c.text(), Definition: c.text(), State: run.State(c.text()), FiresAt: fromMillis(c.number())}
		last[r.Job] = r
		return c.err
	}, `SELECT run.id, run.job, run.definition, run.state, run.fires_at `+fromLast)
	return last, err
}

const fromLast = `FROM job JOIN run ON run.id = (SELECT newest.id FROM run AS newest WHERE newest.job = job.id
	ORDER BY newest.queued_at DESC, newest.fires_at DESC, newest.id DESC LIMIT 1)`

// after is the condition that continues a list behind a run.
func after(r *run.Run) (string, []any) {
	return "(run.queued_at, run.fires_at, run.id) < ($?, $?, $?)", []any{r.QueuedAt.UnixMilli(), r.FiresAt.UnixMilli(), r.ID}
}

// stateCondition names a state so that SQLite sees which partial index holds it.
func stateCondition(state run.State) (string, error) {
	for _, known := range run.States() {
		if state == known {
			return fmt.Sprintf("run.state = '%s'", known), nil
		}
	}
	return "", fmt.Errorf("%q is no state of a run", state)
}

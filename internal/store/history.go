package store

import (
	"context"
	"fmt"

	"belfry/internal/run"
)

// pageSize is how many runs EachRun reads at once: while a reader is in the
// middle of its rows, no checkpoint passes it.
const pageSize = 1000

// EachRun gives f the runs that match, what was queued last first, until f
// gives an error. It holds neither them nor a read transaction while f works,
// so f may take its time; runs that are queued meanwhile are not among them.
func (s *Store) EachRun(ctx context.Context, f RunFilter, each func(run.Run) error) error {
	left := f.Limit
	for {
		f.Limit = pageSize
		if left > 0 {
			f.Limit = min(left, pageSize)
		}
		page, err := s.Runs(ctx, f)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := each(r); err != nil {
				return err
			}
		}
		if left > 0 {
			if left -= len(page); left == 0 {
				return nil
			}
		}
		if len(page) < f.Limit {
			return nil
		}
		f.After = &page[len(page)-1]
	}
}

// LastRuns gives the newest run of each job that has one, by the job's id.
func (s *Store) LastRuns(ctx context.Context) (map[string]run.Run, error) {
	last := map[string]run.Run{}
	err := each(ctx, s.read, func(scan func(...any) error) error {
		r, err := scanRun(scan)
		last[r.Job] = r
		return err
	}, `SELECT `+runFields+`FROM job JOIN run ON run.id = (SELECT newest.id FROM run AS newest WHERE newest.job = job.id
		ORDER BY newest.queued_at DESC, newest.fires_at DESC, newest.id DESC LIMIT 1)`)
	return last, err
}

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

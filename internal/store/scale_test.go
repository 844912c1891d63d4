package store

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/run"
)

var million = flag.Int("history", 4000, "runs in the history that queries are timed on; 1000000 is what is promised")

// fill writes a history of n runs of jobs, straight into the tables, the last
// of them at night: one in a hundred failed, one in a thousand missed.
func fill(t testing.TB, s *Store, jobs, n int) {
	t.Helper()
	var list []*job.Job
	for i := range jobs {
		list = append(list, nightly(fmt.Sprintf("j%d", i)))
	}
	saved := save(t, s, night.Add(-1000*24*time.Hour), list...)
	const at = 20_000
	for first := 0; first < n; first += at {
		check(t, s.update(t.Context(), "fill", func(tx *tx) error {
			for i := first; i < min(first+at, n); i++ {
				when := night.Add(-time.Duration(n-i) * 30 * time.Second)
				state := run.Succeeded
				id := run.NewID(when)
				switch {
				case i%1000 == 7:
					state = run.Missed
				case i%100 == 3:
					state = run.Failed
				}
				if _, err := tx.exec(`INSERT INTO run (id, job, key, cause, state, definition, fires_at, fires_until, named, attempt, token, queued_at, started_at, ended_at)
					VALUES ($1, $2, $3, 'schedule', $4, $5, $6, $6, '2026-07-09T16:00:00', 1, 1, $6, $6, $7)`,
					id, saved[i%jobs].Key, fmt.Sprint("t/", i), state, saved[i%jobs].Definition().Hash, when.UnixMilli(), when.Add(time.Second).UnixMilli()); err != nil {
					return err
				}
				if state != run.Succeeded {
					continue
				}
				for number, folder := range []string{"tracks", "features", "latest"} { // the last is replaced each time
					at, date := when.Add(time.Second).UnixMilli(), when.Format(time.DateOnly)
					place := fmt.Sprintf("/lake/%s/j%d/%d", folder, i%jobs, i)
					if folder == "latest" {
						place = fmt.Sprintf("/lake/latest/j%d", i%jobs)
					}
					if _, err := tx.exec(`UPDATE published SET replaced_by = $1 WHERE place = $2 AND replaced_by = ''`, id, place); err != nil {
						return err
					}
					if _, err := tx.exec(`INSERT INTO published (run, number, job, date, at, place, target, files, bytes, manifest) VALUES ($1, $2, $3, $4, $5, $6, $6, 2, 3, 'm')`,
						id, number, saved[i%jobs].Key, date, at, place); err != nil {
						return err
					}
				}
			}
			return nil
		}))
	}
	write(t, s, "PRAGMA optimize")
}

func (s *Store) countPublished(t testing.TB, f PublishedFilter) (n int, err error) {
	err = s.EachPublished(t.Context(), f, func(run.Published) error { n++; return nil })
	return n, err
}

func TestHistoryAnswersAtOnce(t *testing.T) {
	limit := 50 * time.Millisecond
	if *million < 1_000_000 { // among all other tests, on a machine of two cores
		limit *= 10
	}
	for _, jobs := range []int{50, max(100, *million/200)} {
		s := openStore(t)
		fill(t, s, jobs, *million)
		newest := must(s.Runs(t.Context(), RunFilter{Limit: 1}))(t)[0]
		for _, c := range []struct {
			name string
			ask  func() (int, error)
			rows int // at least
		}{
			{"runs", func() (int, error) { r, err := s.Runs(t.Context(), RunFilter{Limit: 50}); return len(r), err }, 50},
			{"runs of a job", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{Job: newest.Job, Limit: 50})
				return len(r), err
			}, 4},
			{"failed runs", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{State: run.Failed, Limit: 50})
				return len(r), err
			}, 40},
			{"lost runs", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{State: run.Lost, Limit: 50})
				return len(r), err
			}, 0},
			{"running runs", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{State: run.Running, Limit: 50})
				return len(r), err
			}, 0},
			{"succeeded runs", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{State: run.Succeeded, Limit: 50})
				return len(r), err
			}, 50},
			{"failed runs of a job", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{Job: newest.Job, State: run.Failed, Limit: 50})
				return len(r), err
			}, 0},
			{"succeeded runs of a job", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{Job: newest.Job, State: run.Succeeded, Limit: 50})
				return len(r), err
			}, 0},
			{"a job's firing", func() (int, error) {
				r, err := s.Runs(t.Context(), RunFilter{Job: newest.Job, Covering: newest.FiresAt, Limit: 1})
				return len(r), err
			}, 1},
			{"show", func() (int, error) { _, err := s.Run(t.Context(), newest.ID); return 1, err }, 1},
			{"show by prefix", func() (int, error) {
				r, err := s.RunsByPrefix(t.Context(), newest.ID[:12])
				return len(r), err
			}, 1},
			{"published", func() (int, error) { return s.countPublished(t, PublishedFilter{Limit: 50}) }, 50},
			{"published of all times", func() (int, error) { return s.countPublished(t, PublishedFilter{All: true, Limit: 50}) }, 50},
			{"published of a job", func() (int, error) { return s.countPublished(t, PublishedFilter{Job: newest.Job, Limit: 50}) }, 4},
			{"published of a job on a date", func() (int, error) {
				return s.countPublished(t, PublishedFilter{Job: newest.Job, Date: newest.FiresAt.Format(time.DateOnly), Limit: 50})
			}, 1},
			{"published by a run", func() (int, error) { return s.countPublished(t, PublishedFilter{Run: newest.ID, All: true}) }, 3},
			{"jobs: last runs", func() (int, error) { r, err := s.LastRuns(t.Context()); return len(r), err }, 50},
			{"jobs: last states", func() (int, error) { r, err := s.LastStates(t.Context()); return len(r), err }, 50},
		} {
			best := time.Hour
			for range 3 { // others use the machine
				start := time.Now()
				rows, err := c.ask()
				check(t, err)
				best = min(best, time.Since(start))
				if rows < c.rows {
					t.Errorf("%s of %d jobs: %d rows", c.name, jobs, rows)
				}
			}
			t.Logf("%d jobs, %d runs: %s in %s", jobs, *million, c.name, best.Round(10*time.Microsecond))
			if best > limit {
				t.Errorf("%s of %d jobs and %d runs takes %s, want %s at most", c.name, jobs, *million, best, limit)
			}
		}
	}
}

func TestEachRunGivesEveryRunOnceAndHoldsNone(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	const n = 3*pageSize + 7
	fill(t, s, 7, n)
	seen, last := map[string]bool{}, ""
	check(t, s.EachRun(t.Context(), RunFilter{}, func(r run.Run) error {
		if last != "" && r.ID >= last {
			t.Errorf("%s comes after %s", r.ID, last)
		}
		last, seen[r.ID] = r.ID, true
		return nil
	}))
	if len(seen) != n {
		t.Errorf("%d runs were given, want %d", len(seen), n)
	}
	count := 0
	check(t, s.EachRun(t.Context(), RunFilter{State: run.Succeeded, Limit: 2345}, func(run.Run) error { count++; return nil }))
	if count != 2345 {
		t.Errorf("%d runs were given, want 2345", count)
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/run"
)

// hold keeps the writer in a transaction until the function it gives is called,
// which gives what became of that.
func hold(t *testing.T, s *Store) (release func() error) {
	t.Helper()
	inside, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.update(context.Background(), "hold", func(*tx) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	return func() error { close(leave); return <-done }
}

// together has changes written as one group and gives each one's error.
func together(t *testing.T, s *Store, changes ...func(tx *tx) error) []error {
	t.Helper()
	db := must(open(s.write.path, "rw"))(t)
	w := &writer{db: db, path: s.write.path}
	defer func() { check(t, errors.Join(w.forget(), db.Close())) }()
	var group []*change
	for _, f := range changes {
		group = append(group, &change{ctx: t.Context(), f: f, done: make(chan error, 1)})
	}
	w.write(group)
	errs := make([]error, len(group))
	for i, c := range group {
		errs[i] = <-c.done
	}
	return errs
}

func cancel(id string) func(tx *tx) error {
	return func(tx *tx) error {
		return tx.move(run.Move{Run: id, From: run.Queued, To: run.Cancelled, At: night})
	}
}

func TestOneThatFailsTakesNoOtherOfItsGroupDown(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"), nightly("c"))
	errs := together(t, s,
		cancel(ids["a"]),
		func(tx *tx) error {
			if _, err := tx.exec(`UPDATE run SET reason = 'half' WHERE id = $1`, ids["b"]); err != nil {
				return err
			}
			return tx.move(run.Move{Run: ids["b"], From: run.Running, To: run.Failed, At: night})
		},
		func(tx *tx) error {
			_, err := tx.exec(`UPDATE run SET state = 'asleep' WHERE id = $1`, ids["c"])
			return err
		},
		cancel(ids["c"]),
	)
	if errs[0] != nil || errs[3] != nil {
		t.Errorf("the good ones failed: %v, %v", errs[0], errs[3])
	}
	if !errors.Is(errs[1], run.ErrConflict) {
		t.Errorf("the second gives %v, want ErrConflict", errs[1])
	}
	if errs[2] == nil || !strings.Contains(errs[2].Error(), "CHECK") {
		t.Errorf("the third gives %v, want the constraint's error", errs[2])
	}
	wantState(t, s, ids["a"], run.Cancelled, "")
	wantState(t, s, ids["b"], run.Queued, "")
	wantState(t, s, ids["c"], run.Cancelled, "")
}

func TestACommitThatFailsFailsTheWholeGroupAndTheNextOneWorks(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"))
	errs := together(t, s, cancel(ids["a"]), func(tx *tx) error {
		if _, err := tx.raw.ExecContext(tx.ctx, "PRAGMA defer_foreign_keys = 1"); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO run_parent (run, parent) VALUES ('of nobody', 'of nobody')`)
		return err
	}, cancel(ids["b"]))
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "FOREIGN KEY") {
			t.Errorf("number %d of the group was told %v, want the cause", i, err)
		}
	}
	wantState(t, s, ids["a"], run.Queued, "")
	if errs := together(t, s, cancel(ids["a"]), cancel(ids["b"])); errors.Join(errs...) != nil {
		t.Error(errors.Join(errs...))
	}
	wantState(t, s, ids["a"], run.Cancelled, "")
}

func TestAConnectionThatLostItsTransactionIsReplaced(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"))
	boom := errors.New("boom")
	errs := together(t, s, cancel(ids["a"]), func(tx *tx) error { // as SQLite does on a full disk
		if _, err := tx.raw.ExecContext(tx.ctx, "ROLLBACK"); err != nil {
			return err
		}
		return boom
	}, cancel(ids["b"]))
	for i, err := range errs {
		if !errors.Is(err, boom) {
			t.Errorf("number %d of the group was told %v, want the cause", i, err)
		}
	}
	wantState(t, s, ids["a"], run.Queued, "")
	wantState(t, s, ids["b"], run.Queued, "")
}

func TestWhoeverGoesAwayWhileItWaitsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"))
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() {
		asked <- move(ctx, s, run.Move{Run: ids["a"], From: run.Queued, To: run.Cancelled, At: night})
	}()
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("it was told %v", err)
	}
	check(t, release())
	wantState(t, s, ids["a"], run.Queued, "")
}

func TestABurstOfManyGoroutinesIsWrittenWhole(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	var jobs []*job.Job
	for i := range 200 {
		jobs = append(jobs, nightly(fmt.Sprintf("j%d", i)))
	}
	ids := family(t, s, jobs...)
	release := hold(t, s)
	done := make(chan error)
	for _, id := range ids {
		go func() {
			done <- move(t.Context(), s, run.Move{Run: id, From: run.Queued, To: run.Cancelled, At: night})
		}()
	}
	check(t, release())
	for range ids {
		check(t, <-done)
	}
	if n := len(must(s.Runs(t.Context(), RunFilter{State: run.Cancelled}))(t)); n != len(ids) {
		t.Errorf("%d of %d stand", n, len(ids))
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), t.TempDir())
	check(t, err)
	check(t, s.Close())
	if err := s.Note(t.Context(), nil); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkBurst is a thousand crontab jobs due at one minute: recorded, then
// claimed, each a durable transaction.
func BenchmarkBurst(b *testing.B) {
	s, err := Open(b.Context(), b.TempDir())
	check(b, err)
	defer func() { check(b, s.Close()) }()
	var jobs []*job.Job
	for i := range 1000 {
		jobs = append(jobs, nightly(fmt.Sprintf("j%d", i)))
	}
	saved := save(b, s, night, jobs...)
	definitions := map[string]job.Definition{}
	for _, j := range saved {
		definitions[j.Key] = j.Definition()
	}
	var recording, claiming time.Duration
	at := night
	for b.Loop() {
		at = at.Add(time.Minute)
		d := due(at, saved...)
		start := time.Now()
		_, err := s.Record(b.Context(), d, at)
		check(b, err)
		recording += time.Since(start)
		var claims []run.Claim
		for _, r := range must(s.Waiting(b.Context()))(b) {
			claims = append(claims, run.Claim{Run: r.ID, Attempt: 1, Token: 1, Node: "node", Boot: "boot", At: at, Definition: definitions[r.Job]})
		}
		start = time.Now()
		claimed := must(s.Claim(b.Context(), claims))(b)
		claiming += time.Since(start)
		if len(claimed) != 1000 || slices.Contains(claimed, false) {
			b.Fatal("not all were claimed")
		}
	}
	b.ReportMetric(float64(recording.Microseconds())/1000/float64(b.N), "record-ms")
	b.ReportMetric(float64(claiming.Microseconds())/1000/float64(b.N), "claim-ms")
}

func TestWhoWatchesSeesEveryWriteThatFailed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	told, cause := errors.New("told"), errors.New("cause")
	var seen []error
	s.Watch(func(err error) error {
		seen = append(seen, err)
		return told
	})
	check(t, s.update(t.Context(), "go well", func(*tx) error { return nil }))
	if err := s.update(t.Context(), "fail", func(*tx) error { return cause }); !errors.Is(err, told) {
		t.Errorf("its caller is told %v", err)
	}
	if len(seen) != 1 || !errors.Is(seen[0], cause) {
		t.Errorf("seen are %v, want the cause alone", seen)
	}
}

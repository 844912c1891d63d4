package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/plan"
	"belfry/internal/run"
)

func TestOpenMakesAPrivateDatabaseWhateverTheFolderIsCalled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, why string }{
		{"plain", "the usual"},
		{"with space", "a URI has none"},
		{"what?mode=ro", "a URI's query begins there"},
		{"a#b", "a URI's fragment begins there"},
		{"100%41", "a URI's escape"},
		{"종탑", "not ASCII"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), c.name)
			check(t, os.Mkdir(dir, 0o755))
			s := openIn(t, dir)
			save(t, s, night, nightly("a"))
			for _, name := range []string{FileName, FileName + "-wal", FileName + "-shm", LogsName, LogsName + "-wal", LogsName + "-shm"} {
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil {
					t.Fatalf("%s (%s): %v", c.name, c.why, err)
				}
				if info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %o, want 600", name, info.Mode().Perm())
				}
			}
			if entries := must(os.ReadDir(filepath.Dir(dir)))(t); len(entries) != 1 {
				t.Errorf("%s (%s): beside it lie %v", c.name, c.why, entries)
			}
		})
	}
}

func TestPragmasAreThoseOfTheDesign(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	family(t, s, nightly("a")) // the writer has a connection
	for _, c := range []struct{ pragma, want, why string }{
		{"journal_mode", "wal", "readers beside the writer"},
		{"synchronous", "2", "FULL: what was written survives a power loss"},
		{"foreign_keys", "1", "constraints are facts"},
		{"busy_timeout", "5000", "another process may read"},
	} {
		for name, db := range map[string]*prepared{"write": s.write.conn, "read": s.read} {
			if got := pragma(t, db, c.pragma); got != c.want {
				t.Errorf("%s of the %s connections is %s, want %s: %s", c.pragma, name, got, c.want, c.why)
			}
		}
	}
	if n := s.write.db.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("there may be %d writers, want 1", n)
	}
}

func TestOpenAgainFindsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 3 { // the second time nothing is to be migrated
		s, err := Open(t.Context(), dir)
		check(t, err)
		record(t, s, due(night, save(t, s, night.Add(-time.Hour), nightly("a"))...), night)
		check(t, s.Close())
	}
	s := openIn(t, dir)
	if runs := must(s.Runs(t.Context(), RunFilter{}))(t); len(runs) != 1 {
		t.Errorf("there are %d runs, want 1", len(runs))
	}
}

func TestOpenReadOnlyReadsBesideTheOwnerAndWithoutOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner, err := Open(t.Context(), dir)
	check(t, err)
	look := func() int {
		reader, err := OpenReadOnly(dir)
		check(t, err)
		defer func() { check(t, reader.Close()) }()
		if _, err := reader.Record(t.Context(), plan.Decision{Write: true}, night); err == nil {
			t.Error("a reader wrote")
		}
		if _, err := reader.read.ExecContext(t.Context(), "DELETE FROM run"); err == nil {
			t.Error("a reader's connection wrote")
		}
		return len(must(reader.Runs(t.Context(), RunFilter{}))(t))
	}
	if n := look(); n != 0 {
		t.Errorf("%d runs in a new store", n)
	}
	record(t, owner, due(night, save(t, owner, night.Add(-time.Hour), nightly("a"))...), night)
	if n := look(); n != 1 {
		t.Errorf("beside its owner a reader sees %d runs, want 1", n)
	}
	check(t, owner.Close())
	if n := look(); n != 1 {
		t.Errorf("when its owner has gone a reader sees %d runs, want 1", n)
	}
}

func TestOpenReadOnlySaysWhenThereIsNoDatabase(t *testing.T) {
	t.Parallel()
	if _, err := OpenReadOnly(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error that is fs.ErrNotExist", err)
	}
}

func TestOpenEmptyIsAStoreWithoutAnything(t *testing.T) {
	t.Parallel()
	s, err := OpenEmpty(t.Context())
	check(t, err)
	defer func() { check(t, s.Close()) }()
	if jobs := must(s.Jobs(t.Context()))(t); len(jobs) != 0 {
		t.Errorf("it has jobs: %v", jobs)
	}
	if _, err := s.Run(t.Context(), "X"); !errors.Is(err, ErrNotFound) || !errors.Is(err, run.ErrNotFound) {
		t.Errorf("a run of it gives %v, want ErrNotFound", err)
	}
	if err := s.Note(t.Context(), nil); err == nil {
		t.Error("it can be written")
	}
}

func TestReadersAreNotBlockedByAWriteInProgress(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"))
	inside, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.update(context.Background(), "write slowly", func(tx *tx) error {
			_, err := tx.exec(`UPDATE run SET reason = 'half written'`)
			close(inside)
			<-leave
			return err
		})
	}()
	<-inside
	if r := read(t, s, ids["a"]); r.Reason != "" {
		t.Errorf("a reader sees %q, which is not committed", r.Reason)
	}
	close(leave)
	check(t, <-done)
	if r := read(t, s, ids["a"]); r.Reason != "half written" {
		t.Errorf("a reader sees %q after the commit", r.Reason)
	}
}

func TestAFailedTransactionLeavesTheStoreUsable(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	family(t, s, nightly("a"))
	for range 3 {
		err := s.update(t.Context(), "try", func(tx *tx) error {
			if _, err := tx.exec(`UPDATE run SET reason = 'x'`); err != nil {
				return err
			}
			_, err := tx.exec(`UPDATE run SET state = 'asleep'`)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "CHECK") {
			t.Fatalf("a state that does not exist gives %v, want the constraint's error", err)
		}
	}
	if r := must(s.Runs(t.Context(), RunFilter{}))(t)[0]; r.Reason != "" {
		t.Errorf("half of a failed transaction stands: %q", r.Reason)
	}
}

func TestAStoreMayBeClosedTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner := must(Open(t.Context(), dir))(t)
	beside := must(OpenReadOnly(dir))(t)
	for _, s := range []*Store{beside, beside, owner, owner} {
		check(t, s.Close())
	}
}

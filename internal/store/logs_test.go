package store

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"belfry/internal/logs"
	"belfry/internal/run"
)

func part(start, end int64, at time.Time) logs.Chunk {
	return logs.Chunk{Start: start, Length: end - start, At: at, Marks: []byte{1}, Data: []byte("text")}
}

// saveLog saves chunks of attempt 1 of a run.
func saveLog(t *testing.T, s *Store, run string, chunks ...logs.Chunk) {
	t.Helper()
	check(t, s.SaveLogs(t.Context(), []logs.Change{{Log: logs.Log{Run: run, Number: 1, Limit: 7}, Chunks: chunks}}))
}

func TestChunksAreFoundFromEitherSideOfAnOffset(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	saveLog(t, s, "A", part(0, 5, night))
	saveLog(t, s, "B", part(0, 10, night), part(10, 20, night.Add(time.Minute)), part(50, 60, night.Add(2*time.Minute)))
	for _, c := range []struct {
		offset         int64
		behind, before int64 // where the chunk begins; -1: there is none
		why            string
	}{
		{0, 0, -1, "at the beginning"},
		{9, 0, 0, "within the first"},
		{10, 10, 0, "between two"},
		{20, 50, 10, "before a gap"},
		{49, 50, 10, "within a gap"},
		{59, 50, 50, "at the last byte"},
		{60, -1, 50, "at the end"},
		{1 << 62, -1, 50, "behind it"},
	} {
		behind, ok, err := s.ChunkBehind(t.Context(), "B", 1, c.offset)
		if check(t, err); !ok && c.behind != -1 || ok && behind.Start != c.behind {
			t.Errorf("behind %d (%s): %d, %v, want %d", c.offset, c.why, behind.Start, ok, c.behind)
		}
		before, ok, err := s.ChunkBefore(t.Context(), "B", 1, c.offset)
		if check(t, err); !ok && c.before != -1 || ok && before.Start != c.before {
			t.Errorf("before %d (%s): %d, %v, want %d", c.offset, c.why, before.Start, ok, c.before)
		}
	}
	since, ok, err := s.ChunkSince(t.Context(), "B", 1, night.Add(time.Second))
	if check(t, err); !ok || since.Start != 10 || !since.At.Equal(night.Add(time.Minute)) || since.End() != 20 {
		t.Errorf("since a minute: %+v, %v", since, ok)
	}
	if _, ok, err := s.ChunkBehind(t.Context(), "B", 2, 0); ok || err != nil {
		t.Errorf("another attempt has a chunk, %v", err)
	}
}

func TestAChunkIsReplacedAndLogsAreDropped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openIn(t, dir)
	saveLog(t, s, "A", part(0, 5, night))
	saveLog(t, s, "A", part(0, 9, night), part(9, 12, night), part(12, 30, night))
	c, _, err := s.ChunkBehind(t.Context(), "A", 1, 0)
	if check(t, err); c.End() != 9 {
		t.Errorf("the first chunk ends at %d, want 9", c.End())
	}
	saveLog(t, s, "B", part(0, 1, night))
	check(t, s.SaveLogs(t.Context(), []logs.Change{
		{Log: logs.Log{Run: "A", Number: 1, Limit: 7}, DropFrom: 5, DropTo: 29},
		{Log: logs.Log{Run: "B", Number: 1, Closed: true}},
	}))
	c, _, err = s.ChunkBehind(t.Context(), "A", 1, 9)
	if check(t, err); c.Start != 12 {
		t.Errorf("behind what was dropped is %d, want 12", c.Start)
	}
	open := must(s.OpenLogs(t.Context()))(t)
	if want := []logs.Log{{Run: "A", Number: 1, Limit: 7}}; !slices.Equal(open, want) {
		t.Errorf("open are %+v, want %+v", open, want)
	}
	check(t, s.SyncLogs(t.Context()))
	beside, err := OpenReadOnly(dir)
	check(t, err)
	defer func() { check(t, beside.Close()) }()
	if l, ok, err := beside.Log(t.Context(), "B", 1); !ok || !l.Closed || err != nil {
		t.Errorf("beside its owner: %+v, %v, %v", l, ok, err)
	}
	if err := beside.DropLogs(t.Context(), []string{"A"}); err == nil {
		t.Error("a reader dropped a log")
	}
	check(t, s.DropLogs(t.Context(), []string{"A", "none"}))
	if _, ok, _ := s.ChunkBehind(t.Context(), "A", 1, 0); ok {
		t.Error("chunks of a dropped log are left")
	}
	if _, ok, _ := s.ChunkBehind(t.Context(), "B", 1, 0); !ok {
		t.Error("another run's went with them")
	}
}

func TestLogsAreOnTheDiskWhenTheyAreSynced(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for name, want := range map[string]string{"synchronous": "1", "journal_mode": "wal", "foreign_keys": "1", "auto_vacuum": "2"} {
		if got := pragma(t, s.logs.read, name); got != want {
			t.Errorf("%s of the logs is %s, want %s", name, got, want)
		}
	}
	saveLog(t, s, "A", part(0, 5, night))
	// A reader that still looks at the state before the next chunk keeps it from
	// being copied: then it is not known to be safe.
	tx, err := s.logs.pool.BeginTx(t.Context(), nil)
	check(t, err)
	var n int
	check(t, tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM chunk").Scan(&n))
	saveLog(t, s, "A", part(5, 6, night))
	if err := s.SyncLogs(t.Context()); err == nil {
		t.Error("it says that all is synced while a reader is in the way")
	}
	check(t, tx.Rollback())
	check(t, s.SyncLogs(t.Context()))
}

func TestLogsOfRunsThatAreNotInTheAccountAreFoundPageByPage(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	known := ended(t, s, "a", run.Succeeded, 3)
	var changes []logs.Change
	add := func(run string, attempt int) {
		changes = append(changes, logs.Change{Log: logs.Log{Run: run, Number: attempt}})
	}
	var want []string
	for i := range pageSize + 10 {
		id := run.NewID(night.Add(time.Duration(i-pageSize*2) * day))
		want = append(want, id)
		add(id, 1)
		add(id, 2)
	}
	slices.Sort(want)
	add(known, 1)
	add(run.NewID(night), 1) // too young
	check(t, s.SaveLogs(t.Context(), changes))
	find := func(behind string) (runs []string, next string) {
		runs, next, err := s.LogsWithoutRun(t.Context(), behind, run.NewID(night.Add(-day)))
		check(t, err)
		return runs, next
	}
	var got []string
	pages := 0
	for behind, more := "", true; more; more = behind != "" {
		var runs []string
		runs, behind = find(behind)
		got, pages = append(got, runs...), pages+1
	}
	if !slices.Equal(got, want) || pages != 2 {
		t.Errorf("%d runs were found on %d pages, want %d on 2", len(got), pages, len(want))
	}
}

func TestLogsShrinkALittleAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openIn(t, dir)
	saveLog(t, s, "A", logs.Chunk{Length: 9 << 20, Data: make([]byte, 9<<20), Marks: []byte{}, At: night})
	check(t, s.SyncLogs(t.Context()))
	size := func() int64 { return must(os.Stat(filepath.Join(dir, LogsName)))(t).Size() }
	before := size()
	check(t, s.DropLogs(t.Context(), []string{"A"}))
	steps := 1
	for must(s.ShrinkLogs(t.Context()))(t) {
		steps++
	}
	check(t, s.SyncLogs(t.Context()))
	if after := size(); steps != 3 || after > 1<<20 {
		t.Errorf("in %d steps %d bytes have become %d, want 3 steps to less than a megabyte", steps, before, after)
	}
}

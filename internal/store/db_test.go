package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/logs"
	"belfry/internal/plan"
	"belfry/internal/run"
)

func TestABackupIsTheStoreAsItWasAndWhole(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b", "a"))
	dir := t.TempDir()
	path := filepath.Join(dir, "it's a backup")
	saveLog(t, s, ids["a"], part(0, 5, night))
	release := hold(t, s) // a backup waits for no writer
	check(t, s.Backup(t.Context(), path))
	check(t, release())
	end(t, s, ids["a"], run.Succeeded)
	saveLog(t, s, ids["a"], part(5, 9, night))
	for name, mode := range map[string]os.FileMode{".": 0o700, FileName: 0o600, LogsName: 0o600} {
		if info := must(os.Stat(filepath.Join(path, name)))(t); info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	if names := must(os.ReadDir(dir))(t); len(names) != 1 {
		t.Errorf("beside it lie %v", names)
	}
	if err := s.Backup(t.Context(), path); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("to write it again gives %v", err)
	}
	restored := t.TempDir()
	for _, name := range []string{FileName, LogsName} {
		check(t, os.Rename(filepath.Join(path, name), filepath.Join(restored, name)))
	}
	r := openIn(t, restored)
	if _, ok, err := r.ChunkBehind(t.Context(), ids["a"], 1, 4); !ok || err != nil {
		t.Errorf("what it had printed is not there (%v)", err)
	}
	if _, ok, err := r.ChunkBehind(t.Context(), ids["a"], 1, 5); ok || err != nil {
		t.Errorf("what it printed later is there (%v)", err)
	}
	if mode := pragma(t, r.logs.read, "auto_vacuum"); mode != "2" {
		t.Errorf("its logs give room back in mode %s, want 2", mode)
	}
	wantState(t, r, ids["a"], run.Queued, "")
	end(t, r, ids["a"], run.Failed)
	wantState(t, r, ids["b"], run.Skipped, "dependency: a ended failed (run "+ids["a"]+")")
}

func TestABackupThatCannotBeWrittenLeavesNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	fill(t, s, 10, 2000)
	dir := smallDisk(t, "64k")
	err := s.Backup(t.Context(), filepath.Join(dir, "b"))
	if err == nil || !strings.Contains(err.Error(), "the disk that holds "+dir) {
		t.Errorf("on a small disk it gives %v", err)
	}
	if left := must(os.ReadDir(dir))(t); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "nowhere", "b")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("in a folder that is not there it gives %v", err)
	}
	check(t, os.Mkdir(filepath.Join(dir, "b"), 0o700))
	if err := s.Backup(t.Context(), filepath.Join(dir, "b")); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("into a folder that is there it gives %v", err)
	}
	if found := must(s.Check(t.Context()))(t); len(found) > 0 {
		t.Error(found)
	}
}

func TestCheckFindsWhatDoesNotAgree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, statement, want string }{
		{"all is well", ``, ""},
		{"no attempt", `DELETE FROM attempt`, "is running, but its attempt is not"},
		{"an attempt too many", `UPDATE run SET state = 'queued'`, "has an attempt that never ended"},
		{"a token from nowhere", `UPDATE attempt SET token = 9`, "has a newer token than the run"},
		{"nothing to publish", `UPDATE run SET state = 'publishing'`, "is publishing, but nothing is to be published"},
		{"no end", `UPDATE run SET state = 'failed'`, "has ended, but not when"},
		{"an orphan", `INSERT INTO run_parent (run, parent) VALUES ('X', 'Y')`, "a row of run_parent refers to a row of run that is not there"},
		{"a target that nobody sends to", `INSERT INTO target (target, item) VALUES ('/x', 'X')`, "a target is taken by item X"},
		{"a definition of nobody", `INSERT INTO definition (hash, body) VALUES ('0123456789abcdef', '{}')`, "definition 0123456789ab belongs to no job"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			claim(t, s, family(t, s, nightly("a"))["a"], night)
			if c.statement != "" {
				check(t, s.write.alone(t.Context(), func(conn *prepared) error {
					for _, statement := range []string{"PRAGMA foreign_keys = 0", c.statement, "PRAGMA foreign_keys = 1"} {
						if _, err := conn.ExecContext(t.Context(), statement); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			found := must(s.Check(t.Context()))(t)
			if c.want == "" && len(found) > 0 || c.want != "" && !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("found are %q, want %q", found, c.want)
			}
		})
	}
}

func TestCheckFindsWhatDoesNotAgreeInTheLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, statement, want string }{
		{"all is well", ``, ""},
		{"no log", `DELETE FROM log`, "a row of chunk refers to a row of log that is not there"},
		{"no run", `UPDATE log SET run = 'GONE'`, "what run GONE printed is kept, but not the run"},
		{"twice", `UPDATE chunk SET ends = 6 WHERE begins = 0`, "overlap"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			saveLog(t, s, family(t, s, nightly("a"))["a"], part(0, 5, night), part(5, 9, night))
			if c.statement != "" {
				check(t, s.logs.write.alone(t.Context(), func(conn *prepared) error {
					for _, statement := range []string{"PRAGMA foreign_keys = 0", c.statement} {
						if _, err := conn.ExecContext(t.Context(), statement); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			found := must(s.Check(t.Context()))(t)
			if c.want == "" && len(found) > 0 || c.want != "" && !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("found are %q, want %q", found, c.want)
			}
		})
	}
}

func TestCheckSaysWhichFileIsDamaged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{FileName, LogsName} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, err := Open(t.Context(), dir)
			check(t, err)
			fill(t, s, 10, 500)
			saveLog(t, s, "A", logs.Chunk{Length: 1 << 20, Data: make([]byte, 1<<20), Marks: []byte{}, At: night})
			check(t, s.Close())
			path := filepath.Join(dir, name)
			text := must(os.ReadFile(path))(t)
			for at := len(text) / 2; at < len(text)*3/4; at++ { // the schema stands at the beginning, and some of it at the end
				text[at] ^= 0xa5
			}
			check(t, os.WriteFile(path, text, 0o600))
			reader, err := OpenReadOnly(dir)
			check(t, err)
			defer func() { check(t, reader.Close()) }()
			if found := must(reader.Check(t.Context()))(t); len(found) == 0 || !strings.Contains(found[0], "damaged") || !strings.Contains(found[0], name) {
				t.Errorf("found are %q", found)
			}
		})
	}
}

func TestVacuumGivesBackTheRoomOfWhatWasRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openIn(t, dir)
	fill(t, s, 10, 5000)
	write(t, s, `DELETE FROM run WHERE queued_at < $1`, night.AddDate(0, 0, -1).UnixMilli())
	size := func() int64 { return must(os.Stat(filepath.Join(dir, FileName)))(t).Size() }
	check(t, s.write.alone(t.Context(), func(conn *prepared) error {
		_, err := conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
		return err
	}))
	before := size()
	if mode := pragma(t, s.read, "auto_vacuum"); mode != "2" {
		t.Errorf("it is rebuilt in mode %s, want 2", mode)
	}
	check(t, s.Vacuum(t.Context()))
	if after := size(); after > before*3/4 {
		t.Errorf("it has %d bytes, before it had %d", after, before)
	}
	if runs := must(s.Runs(t.Context(), RunFilter{}))(t); len(runs) == 0 {
		t.Error("all runs are gone")
	}
}

func TestVacuumRebuildsAnAccountOfAnOlderBelfryOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	atVersion(t, dir, 6) // whose files had to be rebuilt
	s := openIn(t, dir)
	size := func() int64 { return must(os.Stat(filepath.Join(dir, FileName)))(t).Size() }
	mode := func() (mode int64) {
		check(t, s.write.alone(t.Context(), func(conn *prepared) (err error) {
			mode, err = one(t.Context(), conn, value[int64], "SELECT auto_vacuum FROM pragma_auto_vacuum")
			return err
		}))
		return mode
	}
	if mode() != 0 {
		t.Fatal("it needs no rebuilding")
	}
	fill(t, s, 10, 5000)
	write(t, s, `DELETE FROM run WHERE queued_at < $1`, night.AddDate(0, 0, -1).UnixMilli())
	for range 2 { // the second time page by page
		before := size()
		check(t, s.Vacuum(t.Context()))
		if free := pragma(t, s.read, "freelist_count"); mode() != incremental || free != "0" || size() >= before {
			t.Errorf("auto_vacuum is %d, %s pages are free, and it has %d bytes; before it had %d", mode(), free, size(), before)
		}
		write(t, s, `DELETE FROM run`)
	}
	if found := must(s.Check(t.Context()))(t); len(found) > 0 {
		t.Error(found)
	}
}

func TestVacuumGivesBackTheRoomOfLogsThatWereDropped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openIn(t, dir)
	for i := range int64(8) {
		saveLog(t, s, fmt.Sprint("RUN", i), logs.Chunk{Length: 1 << 20, Data: make([]byte, 1<<20), Marks: []byte{}, At: night})
	}
	check(t, s.SyncLogs(t.Context()))
	check(t, s.DropLogs(t.Context(), []string{"RUN1", "RUN2", "RUN3", "RUN4", "RUN5", "RUN6"}))
	check(t, s.Vacuum(t.Context()))
	if size := must(os.Stat(filepath.Join(dir, LogsName)))(t).Size(); size < 2<<20 || size > 3<<20 {
		t.Errorf("logs of two megabytes take %d bytes", size)
	}
	if _, ok, err := s.ChunkBehind(t.Context(), "RUN7", 1, 0); !ok || err != nil {
		t.Errorf("one that was kept is gone (%v)", err)
	}
}

func TestAnIdleMinuteWritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openIn(t, dir)
	jobs := save(t, s, night.Add(-day), nightly("a"), nightly("b"))
	record(t, s, due(night, jobs...), night)
	wal := filepath.Join(dir, FileName+"-wal")
	before, stat := pragma(t, s.read, "data_version"), must(os.Stat(wal))(t)
	clock := must(s.Clock(t.Context()))(t)
	at := plan.Reading{Wall: night, Boot: "boot"}
	for range 10 { // what a daemon does while nothing is due
		last := at
		at.Wall, at.Elapsed, at.Running = at.Wall.Add(time.Minute), at.Elapsed+time.Minute, at.Running+time.Minute
		d := plan.Decide(plan.Input{Node: "node", Now: at, Last: &last, Clock: clock, Jobs: plan.NewCalendar(jobs)})
		if wrote := must(s.Record(t.Context(), d, at.Wall))(t); wrote {
			t.Errorf("%+v was written", d)
		}
		must(s.Waiting(t.Context()))(t)
		must(s.Running(t.Context()))(t)
		must(s.Pending(t.Context()))(t)
		must(s.SaveJobs(t.Context(), "lake", []*job.Job{jobs[0].Job, jobs[1].Job}, []string{jobs[0].Key, jobs[1].Key}, at.Wall))(t)
	}
	if after := pragma(t, s.read, "data_version"); after != before {
		t.Error("a transaction was committed")
	}
	if after := must(os.Stat(wal))(t); after.Size() != stat.Size() || !after.ModTime().Equal(stat.ModTime()) {
		t.Error("the log was written")
	}
}

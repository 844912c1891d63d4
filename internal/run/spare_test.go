package run

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"belfry/internal/machine"
	"belfry/internal/proc"
)

func TestASpareTakesTheFirstAttemptsPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &spares{dir: filepath.Join(dir, spareName)}
	if s.take(filepath.Join(dir, "A")) {
		t.Fatal("there was none, and it was taken")
	}
	if err := s.fill(3); err != nil {
		t.Fatal(err)
	}
	if !s.take(filepath.Join(dir, "A")) {
		t.Fatal("there were three, and none was taken")
	}
	if info, err := os.Stat(filepath.Join(dir, "A", "1", "output")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the output's folder: %v, %v", info, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "B", "1", "output"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s.take(filepath.Join(dir, "B")) {
		t.Error("a run that has a directory was given another")
	}

	// What a daemon leaves is its successor's, but for what it had not finished.
	next := &spares{dir: s.dir}
	if err := os.MkdirAll(filepath.Join(s.dir, "ZZZ", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := next.fill(2); err != nil {
		t.Fatal(err)
	}
	if len(next.free) < 2 {
		t.Errorf("%d were found", len(next.free))
	}
	if next.take(filepath.Join(dir, "C")) {
		t.Error("one that was not finished was taken")
	}
	if !next.take(filepath.Join(dir, "C")) {
		t.Error("one that was left was not taken")
	}
}

func TestOfAnAttemptsFolderItsUserHasTheOutputAlone(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	for _, spare := range []bool{false, true} {
		dir := t.TempDir()
		r := NewRunner(Options{Dir: dir})
		if spare {
			if err := r.spares.fill(1); err != nil {
				t.Fatal(err)
			}
		}
		run := Run{ID: NewID(time.Now()), Attempt: 1}
		for range 2 { // a daemon that was killed in between does it again
			if err := r.makeDirs(run, &proc.Credential{UID: 4001, GID: 4002}, true); err != nil {
				t.Fatal(err)
			}
		}
		for path, want := range map[string]string{
			run.ID: "-rwx--x--x 0 0", run.ID + "/1": "-rwx--x--x 0 0",
			run.ID + "/1/output": "-rwx------ 4001 4002", run.ID + "/1/" + PublishLock: "-rw------- 4001 4002",
		} {
			info, err := os.Lstat(filepath.Join(dir, path))
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if got := fmt.Sprint(info.Mode().Perm(), st.Uid, st.Gid); got != want {
				t.Errorf("spare %v: %s is %s, want %s", spare, path, got, want)
			}
		}
	}
}

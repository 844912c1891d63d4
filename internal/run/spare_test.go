package run

import (
	"os"
	"path/filepath"
	"testing"
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

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"belfry/internal/machine"
	"belfry/internal/run"
)

// smallDisk mounts a file system of its own for the test.
func smallDisk(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		machine.Lacks(t, "the right to mount: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	return dir
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	check(t, syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""))
}

func TestAFullDiskIsSaidAndTheStoreWorksAgainWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "2m")
	s := openIn(t, dir)
	ids := family(t, s, nightly("a"), nightly("b"))
	ballast := filepath.Join(dir, "ballast")
	file := must(os.Create(ballast))(t)
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk ended with %v", err)
	}
	check(t, file.Close())
	// Some changes still find room in the log as it is.
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = s.Note(t.Context(), map[string]string{ids["a"]: strings.Repeat("x", 5000), ids["b"]: fmt.Sprint(i)})
	}
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "the disk that holds "+filepath.Join(dir, FileName)+" is full") {
		t.Fatalf("a full disk gives %v", err)
	}
	before := read(t, s, ids["a"])
	if err := move(t.Context(), s, run.Move{Run: ids["a"], From: run.Queued, To: run.Cancelled, Reason: strings.Repeat("y", 50_000), At: night}); err == nil {
		t.Error("it was written")
	}
	if after := read(t, s, ids["a"]); after.State != before.State || after.Reason != before.Reason {
		t.Error("a change that failed stands")
	}
	check(t, os.Remove(ballast))
	check(t, move(t.Context(), s, run.Move{Run: ids["a"], From: run.Queued, To: run.Cancelled, At: night}))
	wantState(t, s, ids["a"], run.Cancelled, "")
	if found := must(s.Check(t.Context()))(t); len(found) > 0 {
		t.Error(found)
	}
}

// zeros is as much as anybody reads.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAReadOnlyFileSystemIsSaidAndReadAllTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why     string
		prepare func(t *testing.T, dir string)
	}{
		{"closed in order", func(t *testing.T, dir string) {
			s, err := Open(t.Context(), dir)
			check(t, err)
			leaveMark(t, s)
			check(t, s.Close())
		}},
		{"its owner was killed", killOwner},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			dir := smallDisk(t, "8m")
			c.prepare(t, dir)
			remount(t, dir, syscall.MS_RDONLY)
			if _, err := Open(t.Context(), dir); err == nil {
				t.Error("it was opened for writing")
			} else if !errors.As(err, new(*UnavailableError)) {
				t.Errorf("to open it for writing gives %v", err)
			}
			s, err := OpenReadOnly(dir)
			check(t, err)
			defer func() { check(t, s.Close()) }()
			if n := must(one(t.Context(), s.read, value[int], `SELECT COUNT(*) FROM clock WHERE scope = 'victim'`))(t); n != 1 {
				t.Errorf("%d rows, want the one that was committed", n)
			}
		})
	}
}

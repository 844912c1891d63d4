//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/machine"
	"belfry/internal/proc/proctest"
	"belfry/internal/run"
	"belfry/internal/store"
)

// smallDisk mounts a disk of a few megabytes for a test.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=755"); err != nil {
		machine.Lacks(t, "the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the room there is on a disk, and gives it back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; { // the last byte too
		if _, err := file.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatTheDiskDoesNotTakeIsKnownByItsError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{run.ErrConflict, false},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.EROFS}, true},
		{fmt.Errorf("claim: %w", syscall.EDQUOT), true},
		{fmt.Errorf("claim: %w", &store.UnavailableError{Reason: "the disk is full"}), true},
		{errors.New("constraint failed"), false},
	} {
		if got := unavailable(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestAnOwnerOfAReadOnlyDiskSaysSo(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	o := options(t, t.TempDir())
	o.Data = filepath.Join(disk, "data")
	_, err := Open(t.Context(), o)
	var folder *FolderError
	if !errors.As(err, &folder) || !strings.HasSuffix(err.Error(), "cannot be written: read-only file system") {
		t.Errorf("it says %v", err)
	}
}

func TestAFullDiskStopsNewRunsAndLosesNothing(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	o := options(t, t.TempDir())
	o.Data = filepath.Join(disk, "data")
	t.Cleanup(func() { proctest.EndKeepers(t, disk) })
	clock, log := &aheadClock{}, newLines()
	o.Clock, o.Log = clock.read, slog.New(slog.NewTextHandler(log, nil))
	pipe := filepath.Join(filepath.Dir(o.Project), "go.fifo")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	inPlace(t, o.Project, "jobs:\n  minutely: {schedule: \"* * * * *\", command: \"true\", overlap: allow}\n"+
		"  slow: {command: \"cat "+pipe+"; exit 3\"}\n")
	d, client, _ := serveDaemon(t, o)
	slow, err := client.Start(t.Context(), api.RunRequest{Job: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	log.until(t, "job=slow")

	mend := fill(t, disk)
	begun := d.now()
	clock.by.Add(int64(2 * time.Minute)) // two firings become due
	d.wake()
	log.until(t, "no run is started until it can")
	health, err := client.Health(t.Context())
	if err != nil || !strings.Contains(health.Error, "cannot be written, so no run is started") || health.Hint == "" {
		t.Errorf("while nothing can be written health is %+v, %v", health, err)
	}
	_, err = client.Start(t.Context(), api.RunRequest{Job: "minutely"})
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Code != api.Unavailable || refused.Hint == "" {
		t.Errorf("who asks for a run gets %+v, want that it is unavailable", err)
	}
	if err := os.WriteFile(pipe, []byte("go\n"), 0o600); err != nil { // the running job ends meanwhile
		t.Fatal(err)
	}

	mend()
	for _, line := range log.until(t, "can be written again") {
		if strings.Contains(line, "no run is started until it can") || strings.Contains(line, "disk is full") {
			t.Errorf("it is said more than once: %s", line)
		}
	}
	for range 2 {
		log.until(t, "msg=started component=run job=minutely")
	}
	r, err := client.Run(t.Context(), slow[0].ID)
	for err == nil && !r.Finished() {
		r, err = client.Await(t.Context(), r)
	}
	if err != nil || r.State != "failed" || r.ExitCode == nil || *r.ExitCode != 3 || r.Attempt != 1 {
		t.Errorf("the job that ended meanwhile is %s (%s), attempt %d, %v; want failed with 3", r.State, r.Reason, r.Attempt, err)
	}
	list, err := client.Runs(t.Context(), api.RunFilter{Job: "minutely"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[time.Time]int{}
	for _, r := range list {
		if r.Cause != "schedule" && r.Cause != "catch-up" {
			t.Errorf("%s of %s is there, which was refused", r.Cause, r.FiresAt)
		}
		seen[r.FiresAt] += r.Count
	}
	for at := begun.Truncate(time.Minute).Add(time.Minute); !at.After(begun.Add(2 * time.Minute)); at = at.Add(time.Minute) {
		if n := seen[at.UTC()]; n != 1 {
			t.Errorf("the firing of %s is in %d rows, want 1: %v", at, n, seen)
		}
	}
}

package publish

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
	"belfry/internal/machine"
)

func TestDirectoryOnAnotherFileSystem(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	mounted := t.TempDir()
	if err := unix.Mount("none", mounted, "tmpfs", 0, "size=16m"); errors.Is(err, unix.EPERM) {
		machine.Lacks(t, "the right to mount: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mounted, 0); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, first)
	to := filepath.Join(mounted, "x", "y")
	w.mustSend(w.order("R1", job.Target{To: to}))
	w.write(second)
	w.mustSend(w.order("R2", job.Target{To: to}))
	wantSet(t, to, "R2", second)
	wantAlone(t, to)
	w.write(map[string]string{"large": strings.Repeat("x", 17<<20)})
	_, err := w.send(w.order("R3", job.Target{To: to}))
	wantError(t, err, false, "the disk is full", "free some space")
	wantSet(t, to, "R2", second)
	wantAlone(t, to)
	_, err = w.send(w.order("R3", job.Target{To: mounted}))
	wantError(t, err, true, `holds "x", which this job did not publish`)
	empty := filepath.Join(mounted, "empty")
	mkdir(t, empty)
	if err := unix.Mount("none", empty, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(empty, 0) }()
	w.write(first)
	_, err = w.send(w.order("R3", job.Target{To: empty}))
	wantError(t, err, true, "a mount point", "publish to a folder in it")
}

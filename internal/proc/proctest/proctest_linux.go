// Package proctest answers: how does a test leave no keeper behind? Only tests
// import it.
package proctest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// EndKeepers ends the keepers whose folder lies in dir, and returns when they
// are gone. By themselves they would end ten seconds after their last job.
func EndKeepers(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Error(err)
		return
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmdline), "\x00keeper\x00"+dir) {
			end(t, pid)
		}
	}
}

// end sends TERM and waits on a descriptor of the process: it is not our child.
func end(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Errorf("open keeper %d: %v", pid, err)
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Errorf("end keeper %d: %v", pid, err)
		return
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20000)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			t.Errorf("wait for keeper %d: %v", pid, err)
		case n == 0:
			t.Errorf("keeper %d still has a job", pid)
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // the test has failed already
		}
		return
	}
}

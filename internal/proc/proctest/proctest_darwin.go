// Package proctest answers: how does a test leave no keeper behind? Only tests
// import it.
package proctest

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// EndKeepers ends the keepers whose folder lies in dir, and returns when they
// are gone. By themselves they would end ten seconds after their last job.
func EndKeepers(t testing.TB, dir string) {
	t.Helper()
	list, err := exec.Command("ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		t.Error(err)
		return
	}
	for line := range strings.Lines(string(list)) {
		number, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(number); err == nil && strings.Contains(command, " keeper "+dir) {
			end(t, pid)
		}
	}
}

func end(t testing.TB, pid int) {
	t.Helper()
	err := unix.Kill(pid, unix.SIGTERM)
	for deadline := time.Now().Add(20 * time.Second); err == nil; err = unix.Kill(pid, 0) {
		if time.Now().After(deadline) {
			t.Errorf("keeper %d still has a job", pid)
			_ = unix.Kill(pid, unix.SIGKILL) // the test has failed already
			return
		}
		time.Sleep(10 * time.Millisecond) // it is not our child: nothing tells
	}
	if !errors.Is(err, unix.ESRCH) {
		t.Errorf("end keeper %d: %v", pid, err)
	}
}

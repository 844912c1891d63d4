package cli

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
)

func TestAContainerEndsAsItsDaemonDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why, child string
		told       syscall.Signal
		want       exitCode
	}{
		{"it has ended well", "exit 0", syscall.SIGTERM, 0},
		{"it says how", "exit 3", 0, 3},
		{"a second signal made it leave", "exit 143", syscall.SIGTERM, 143},
		{"it was told before it knew what to do then", "kill -TERM $$", syscall.SIGTERM, 0},
		{"somebody else ended it", "kill -TERM $$", 0, 143},
		{"it was killed", "kill -KILL $$", syscall.SIGTERM, 137},
		{"it was told to read its files anew", "kill -HUP $$", syscall.SIGHUP, 129},
	} {
		child := exec.Command("sh", "-c", c.child)
		var exit *exec.ExitError
		if err := child.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		err := asItEnded(child.ProcessState.Sys().(syscall.WaitStatus), c.told)
		var code exitCode
		if err != nil && !errors.As(err, &code) {
			t.Fatal(err)
		}
		if code != c.want {
			t.Errorf("%s: %q gives %d, want %d", c.why, c.child, code, c.want)
		}
	}
}

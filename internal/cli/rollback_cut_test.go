//go:build linux

package cli

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"belfry/internal/remote/sshtest"
)

// The same command again would go one further back than was meant.
func TestARollbackWhoseConnectionIsCutSaysHowToSeeWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	const jobs = "project: music\njobs: {a: {command: 'true'}}\n"
	a := newAway(t, sshtest.Options{}, "belfry.yaml", jobs).seeded()
	a.deploys()
	a.write("belfry.yaml", jobs+"# changed\n")
	a.deploys()

	// The switch to the second is as if the power had gone before it was noted.
	a.on(`sed -i 's/,"at":"[^"]*"//g' belfry/music/history.json`)
	out, said, code := a.deploy("status", a.host.Address())
	if code != 0 || strings.Count(out, "  since when is not known\n") != 2 || strings.Contains(out, "0001") {
		t.Errorf("the status is %d\n%s%s", code, out, said)
	}

	step, err := os.Open(a.site("deploy.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close() //nolint:errcheck // it held a lock
	if err := syscall.Flock(int(step.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	rollback := a.command("deploy", "-i", a.host.Key, "--accept-new", "rollback", a.host.Address())
	var stderr bytes.Buffer
	rollback.Stderr = &stderr
	if err := rollback.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has its turn, and waits for the step", func() bool {
		holds, err := os.ReadFile(a.site("deploying.lock"))
		return err == nil && strings.Contains(string(holds), "goes back to the release before")
	})
	a.host.Cut()
	_ = rollback.Wait() // its exit code says it
	if code := rollback.ProcessState.ExitCode(); code != exitUnavailable || !strings.Contains(stderr.String(), "belfry deploy status says which release runs there") {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
}

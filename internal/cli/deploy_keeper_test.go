//go:build linux

package cli

import (
	"syscall"
	"testing"

	"belfry/internal/remote/sshtest"
)

func TestARemovalLeavesNothingOfAJobThatRanRunning(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	a.deploys("--run", "a")
	for _, args := range [][]string{{"remove", a.host.Address()}, {"remove", a.host.Address(), "--all"}} {
		if _, said, code := a.deploy(args...); code != 0 {
			t.Errorf("deploy %v exits with %d\n%s", args, code, said)
		}
	}
}

// A keeper that was stopped ails the daemon, old and new: no release is at fault, and
// one that mends something else can be deployed.
func TestAnOldIllIsNoFaultOfANewRelease(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {long: {command: read go < gate}}\n").seeded()
	a.deploys()
	first := a.release()
	a.on("mkfifo -m 600 belfry/music/current/gate")
	follow := a.start("-H", a.host.Address(), "-i", a.host.Key, "run", "long")
	follow.until("long  run")
	eventually(t, "the job runs", func() bool { return a.runs("long")[0].State == "running" })
	keeper := a.status().Health.Keepers[0].PID
	if err := syscall.Kill(keeper, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a.write("version", "2")
	_, said, code := a.deploy(a.host.Address(), "--patience", "20s")
	if st := a.status(); code != 0 || st.Health == nil || st.Health.Release != a.release() || st.Health.Error == "" {
		t.Errorf("exit code %d, then %+v\n%s", code, st.Health, said)
	}
	if err := syscall.Kill(keeper, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.on("echo go > belfry/music/releases/" + first + "/gate")
	if code := follow.wait(); code != 0 {
		t.Errorf("the run exits with %d", code)
	}
}

//go:build linux

package cli

import (
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

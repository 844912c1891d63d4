//go:build linux

package cli

import (
	"regexp"
	"strings"
	"testing"

	"belfry/internal/remote/sshtest"
)

func TestHintsOfCommandsThereCanBeTyped(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {bad: {command: 'exit 3', retry: {attempts: 1}}}\n").seeded()
	a.deploys()
	_, said, _ := a.there("run", "bad")
	hint := regexp.MustCompile(`\n  belfry (-H \S+ -i \S+ show \S+) tells all about it\n`).FindStringSubmatch(said)
	if hint == nil {
		t.Fatalf("a run that failed says\n%s", said)
	}
	if out, said, code := a.belfry(strings.Fields(hint[1])...); code != 0 || !strings.Contains(out, "exit status 3") {
		t.Errorf("belfry %s exits with %d\n%s%s", hint[1], code, out, said)
	}

	// Under another name it is another project, beside the first.
	a.write("belfry.yaml", "project: songs\njobs: {bad: {command: 'exit 3'}}\n")
	if out, said, code := a.deploy(a.host.Address(), "--dry-run"); code != 0 || !strings.Contains(out, "also deployed there: music; if this project was called so before") {
		t.Errorf("the plan of a project that was renamed: %d\n%s%s", code, out, said)
	}
	a.write("belfry.yaml", "project: music\njobs: {bad: {command: 'exit 3'}}\n")

	if _, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Fatalf("remove: %d\n%s", code, said)
	}
	if _, said, code := a.there("jobs"); code != exitUnavailable || !strings.Contains(said, "music on "+a.host.Host+": it is not deployed there\n") {
		t.Errorf("jobs of what was removed: exit code %d\n%s", code, said)
	}
}

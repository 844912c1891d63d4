//go:build linux

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/remote/sshtest"
)

func TestCronStartsTheDaemonWithTheMachineWhereItMay(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	crontab := func(script string) {
		t.Helper()
		next := filepath.Join(bin, "next")
		if err := os.WriteFile(next, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(bin, "crontab")); err != nil {
			t.Fatal(err)
		}
	}
	crontab("echo 'You are not allowed to use this program (crontab)' >&2; exit 1\n")
	a := newAway(t, sshtest.Options{Path: bin}, "belfry.yaml", music, "tracks.sh", "true\n").seeded()
	_, said := a.deploys()
	if !strings.Contains(said, "nor cron starts it after a reboot") {
		t.Errorf("it is not said that nothing starts it after a reboot:\n%s", said)
	}
	lines := filepath.Join(a.host.Home, "lines")
	crontab("case $1 in -l) cat '" + lines + "' 2>/dev/null || { echo no crontab for me >&2; exit 1; } ;; *) cat >'" + lines + "' ;; esac\n")
	a.deploys() // nothing has changed but this
	if text, err := os.ReadFile(lines); err != nil || !strings.Contains(string(text), "@reboot cd ") {
		t.Errorf("the crontab is %q, %v", text, err)
	}
	if _, said = a.deploys(); !strings.Contains(said, "nothing to do") {
		t.Errorf("the next deploy:\n%s", said)
	}
	if _, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Errorf("remove: %d\n%s", code, said)
	}
	if text, err := os.ReadFile(lines); err != nil || len(text) > 0 {
		t.Errorf("afterwards the crontab is %q, %v", text, err)
	}
}

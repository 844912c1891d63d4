//go:build linux

package cli

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"belfry/internal/machine"
)

func TestInstallSaysWhatItWouldDoDoesItOnceAndGoesBack(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	if _, err := exec.LookPath("systemctl"); err != nil {
		machine.Lacks(t, "systemctl")
	}
	p := newPlace(t,
		"root/usr/lib/systemd/system/cron.service", "[Service]\nExecStart=/usr/sbin/cron -f\n",
		"root/usr/bin/crontab", "cron's own\n")
	install := func(args ...string) string {
		t.Helper()
		out, said, code := p.belfry(append(args, "--system", "--root", p.path("root"))...)
		if code != 0 {
			t.Fatalf("%v exits with %d:\n%s%s", args, code, out, said)
		}
		return out
	}
	const steps = `would note what the machine's cron is, to go back to
would copy belfry to /usr/local/bin/belfry
would write /etc/systemd/system/belfry.service
would make /usr/bin/crontab belfry's, and keep cron's as crontab.belfry-kept
would have the machine start belfry.service
would mask cron.service, so that nothing starts it
`
	if out := install("install", "--dry-run"); out != steps {
		t.Errorf("the plan is\n%s", out)
	}
	if _, err := os.Lstat(p.path("root/usr/local/bin/belfry")); err == nil {
		t.Error("a plan has changed the machine")
	}
	if out := install("install"); out != strings.ReplaceAll(steps, "would ", "done: ") {
		t.Errorf("install says\n%s", out)
	}
	if out := install("install"); out != strings.ReplaceAll(steps, "would ", "done already: ") {
		t.Errorf("a second time it says\n%s", out)
	}
	if out := install("uninstall"); strings.Count(out, "done: ") != 6 || p.read("root/usr/bin/crontab") != "cron's own\n" {
		t.Errorf("uninstall says\n%s", out)
	}
	if out := install("uninstall"); out != "" {
		t.Errorf("a second time uninstall says\n%s", out)
	}

	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return // this machine itself is not for tests
	}
	out, said, code := p.belfry("install", "--system", "--dry-run")
	if code != exitUnavailable || !strings.Contains(out, "service cron stop && update-rc.d cron disable") || !strings.Contains(said, "not run by systemd") {
		t.Errorf("without systemd it exits with %d and says\n%s%s", code, out, said)
	}
}

package remote

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/project"
	"belfry/internal/site"
)

func planFor(t *testing.T, f Facts, yaml string) *Plan {
	t.Helper()
	file := filepath.Join(t.TempDir(), "belfry.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := project.Load(file, project.Defaults{Owner: "x", Zone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	plan := &Plan{Facts: f, d: Deployment{Project: p}}
	plan.packages()
	plan.notes()
	return plan
}

func TestThePlanSaysWhatTheHostLacks(t *testing.T) {
	t.Parallel()
	const script, environment, plain = "jobs: {a: {command: python3 a.py}}", "jobs: {a: {command: python3 a.py, python: {version: '>=3.9'}}}", "jobs: {a: {command: 'true'}}"
	for _, c := range []struct {
		why         string
		f           Facts
		yaml        string
		step, lacks string
	}{
		{"nothing is needed", Facts{}, plain, "", ""},
		{"python is there", Facts{Python: "3.11.2"}, script, "", ""},
		{"root installs", Facts{Root: "yes", Packages: "apt-get"}, script, "install python3 with apt-get, for a", ""},
		{"sudo installs", Facts{Root: "sudo", Packages: "dnf"}, environment, "install python3 with venv with dnf, for a", ""},
		{"venv is missing", Facts{Python: "3.11.2", Root: "yes", Packages: "apt-get"}, environment, "install python3 with venv", ""},
		{"nobody may", Facts{Packages: "apt-get", User: "me"}, script, "", "apt-get install --no-install-recommends python3 python3-venv"},
		{"nobody may, with yum", Facts{Packages: "yum", User: "me"}, script, "", "yum install python3 python3-pip"},
		{"an unknown manager", Facts{Root: "yes", Packages: "apk", Distribution: "Alpine"}, script, "", "install it on the host (Alpine)"},
	} {
		p := planFor(t, c.f, c.yaml)
		var steps []string
		for _, s := range p.Steps {
			steps = append(steps, s.Text)
		}
		if got := strings.Join(steps, "; "); (c.step == "") != (got == "") || !strings.Contains(got, c.step) {
			t.Errorf("%s: the steps are %q, want %q", c.why, got, c.step)
		}
		if got := strings.Join(p.Lacks, "; "); (c.lacks == "") != (got == "") || !strings.Contains(got, c.lacks) {
			t.Errorf("%s: it lacks %q, want %q", c.why, got, c.lacks)
		}
	}
}

func TestThePlanSaysWhatThePersonMayWantToKnow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    Facts
		want string
	}{
		{Facts{Init: "systemd", Root: "yes"}, ""},
		{Facts{Init: "systemd", Root: "yes", ClockOff: 5 * time.Minute}, "the host's clock is 5m0s ahead"},
		{Facts{Init: "systemd", Root: "yes", ClockOff: -time.Hour}, "the host's clock is 1h0m0s behind"},
		{Facts{Init: "systemd", Root: "yes", Cron: "crond", Entries: 2, User: "me"}, "crond runs there too, with 2 lines in the crontab of me"},
		{Facts{Init: "systemd", Root: "yes", Others: []string{"songs", "charts"}}, "also deployed there: songs, charts; if this project was called so before"},
		{Facts{Init: "systemd", Root: "yes", Others: []string{"songs"}, Release: "0123"}, ""},
		{Facts{Init: "systemd", Root: "sudo", SELinux: "enforcing"}, "the unit executes /usr/bin/env, which executes belfry"},
		{Facts{Init: "systemd", Root: "sudo", SELinux: "permissive"}, ""},
		{Facts{Init: "systemd", UserUnits: true, Linger: true, SELinux: "enforcing"}, ""}, // it is its user's, as a login is
		{Facts{Init: "runit"}, "deploy again then, or install cron"},
		{Facts{Init: "runit", Crontab: true}, "deploy again then, or start cron"},
		{Facts{Init: "runit", Cron: "crond", User: "me"}, "deploy again then, or have root allow me a crontab and deploy again"},
		{Facts{Init: "systemd", UserUnits: true, Crontab: true, Cron: "cron", User: "me"}, "sudo loginctl enable-linger me"},
	} {
		p := planFor(t, c.f, "jobs: {a: {command: 'true'}}")
		if got := strings.Join(p.Notes, "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: the notes are %q, want %q", c.f, got, c.want)
		} else if strings.Contains(got, "nor cron starts it") && strings.Contains(kept(serviceFor(c.f), c.f), "by cron") {
			t.Errorf("%+v: the notes are %q, and the step says %q", c.f, got, kept(serviceFor(c.f), c.f))
		}
	}
}

func TestTheDaemonIsKeptRunningByWhatTheHostHas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    Facts
		want site.Service
	}{
		{Facts{Init: "systemd", Root: "yes"}, site.Service{Kind: site.System}},
		{Facts{Init: "systemd", Root: "sudo", UserUnits: true}, site.Service{Kind: site.System, Sudo: true}},
		{Facts{Init: "systemd", UserUnits: true, Linger: true}, site.Service{Kind: site.User}},
		{Facts{Init: "systemd", UserUnits: true}, site.Service{Kind: site.Background}},
		{Facts{Init: "systemd"}, site.Service{Kind: site.Background}},
		{Facts{Init: "runit", Root: "yes"}, site.Service{Kind: site.Background}},
		{Facts{Init: "runit", Crontab: true}, site.Service{Kind: site.Background, Cron: true}},
		{Facts{Init: "systemd", Root: "yes", Crontab: true}, site.Service{Kind: site.System}},
	} {
		if got := serviceFor(c.f); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.f, got, c.want)
		}
	}
}

func TestFactsAreWhatTheHostPrinted(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC)
	f, err := parseFacts("user=me\nmachine=aarch64\nfree=2048\nclock=1783613100\nzone=UTC\nentries=3\nservice={\"kind\":\"systemd\",\"user\":\"me\",\"sudo\":true}\ndistribution=Evil\x1b[2J Linux\ndone=yes\n", now)
	if err != nil || f.Arch != "arm64" || f.Free != 2<<20 || f.ClockOff != 5*time.Minute || f.Entries != 3 || f.Service == nil || !f.Service.Sudo {
		t.Errorf("facts are %+v, %v", f, err)
	}
	if _, err := parseFacts("user=me\n", now); err == nil {
		t.Error("an answer that was cut off is taken")
	}
}

func TestAFullDiskIsToldByItsWords(t *testing.T) {
	t.Parallel()
	for text, full := range map[string]bool{"write x: no space left on device": true, "cat: write error: No space left on device": true, "write x: disk quota exceeded": true, "write x: permission denied": false} {
		if got := roomFor(errors.New(text)).Error(); strings.Contains(got, "make room on the host") != full {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

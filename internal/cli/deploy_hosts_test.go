//go:build linux

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/internal/project"
	"belfry/internal/remote/sshtest"
)

func TestAHostOfTheProjectIsMeantByItsName(t *testing.T) {
	t.Parallel()
	const jobs = "project: music\njobs: {a: {command: 'true'}}\n"
	a := newAway(t, sshtest.Options{}, "sub/readme", "").seeded()
	a.write("belfry.yaml", jobs+"hosts:\n  prod: {address: \""+a.host.Address()+"\", identity: keys/prod, aws_profile: lake}\n")
	key, err := os.ReadFile(a.host.Key)
	if err != nil {
		t.Fatal(err)
	}
	a.write("keys/prod", string(key))
	if err := os.Chmod(a.path("keys/prod"), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".aws", "credentials"), []byte("[lake]\naws_access_key_id = LAKE\n[other]\naws_access_key_id = OTHER\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.env = append(a.env, "HOME="+home)
	a.dir = a.path("sub")
	does := func(args ...string) (said string) {
		t.Helper()
		out, said, code := a.belfry(args...)
		if code != 0 {
			t.Fatalf("belfry %v: exit code %d\n%s%s", args, code, out, said)
		}
		return out + said
	}
	does("deploy", "--accept-new") // to the only one
	if _, err := os.Stat(a.site("current", "keys", "prod")); !os.IsNotExist(err) {
		t.Errorf("the host has its own key: %v", err)
	}
	profiles := filepath.Join(a.host.Home, ".aws", "credentials")
	if text, err := os.ReadFile(profiles); err != nil || string(text) != "[lake]\naws_access_key_id = LAKE\n" {
		t.Errorf("the host's profiles are %q, %v", text, err)
	}
	if said := does("deploy", "prod"); !strings.Contains(said, "nothing to do") && !strings.Contains(said, "it was there") {
		t.Errorf("the second deploy says\n%s", said)
	}
	does("deploy", "prod", "--aws-profile", "other")
	if text, err := os.ReadFile(profiles); err != nil || !strings.HasSuffix(string(text), "[other]\naws_access_key_id = OTHER\n") {
		t.Errorf("with a flag the host's profiles are %q, %v", text, err)
	}
	for _, args := range [][]string{{"-H", "prod", "jobs"}, {"-H", "prod", "run", "a"}, {"-H", "prod", "doctor", "--json"}} {
		does(args...)
	}
	other := a.host.NewKey(t, "other")
	if _, said, code := a.belfry("-H", "prod", "-i", other, "jobs"); code != exitUnavailable || !strings.Contains(said, "none of the keys") {
		t.Errorf("with another key: exit code %d\n%s", code, said)
	}

	// Another address in the file is another release, whose files are there.
	a.write("../belfry.yaml", jobs+"hosts: {prod: {address: \""+a.host.Address()+"\", identity: keys/prod}, staging: \"me@127.0.0.1:1\"}\n")
	if said := does("deploy", "prod"); !strings.Contains(said, "1 file, ") {
		t.Errorf("after a change of hosts alone the deploy says\n%s", said)
	}
	a.on(`sed -i 's/\("at":"[^"]*:\)[0-9.]*Z/\100Z/g' belfry/music/history.json`)
	if said := does("deploy", "status", "prod"); len(regexp.MustCompile(`\n  [0-9a-f]{16}  since \S+ \d\d:\d\d:00 UTC`).FindAllString(said, -1)) != 2 {
		t.Errorf("the status is\n%s", said)
	}
	does("deploy", "rollback", "prod")
	does("deploy", "remove", "prod", "--all")
	if _, err := os.Stat(a.site()); !os.IsNotExist(err) {
		t.Errorf("the project's folder is there: %v", err)
	}
}

func TestWhatADeployLeftThatWasCutShortIsToldAndRemoved(t *testing.T) {
	t.Parallel()
	for why, c := range map[string]struct {
		cut  func(a *away) (said string, code int)
		left string
	}{
		"while it sent belfry": {func(a *away) (string, int) {
			a.host.CutAfter(6<<20, sshtest.Loudly) // more than what sshd takes before the host reads it
			defer a.host.Mend()
			_, said, code := a.deploy(a.host.Address())
			return said, code
		}, "bin, deploy.lock"},
		"once it had sent belfry": {func(a *away) (string, int) {
			a.on("mkdir -m 700 belfry belfry/music && touch belfry/music/deploying.lock")
			another, err := os.Open(a.site("deploying.lock"))
			if err != nil {
				a.t.Fatal(err)
			}
			defer another.Close() //nolint:errcheck // it held a lock
			if err := syscall.Flock(int(another.Fd()), syscall.LOCK_EX); err != nil {
				a.t.Fatal(err)
			}
			_, said, code := a.deploy(a.host.Address(), "--wait", "0s")
			for end := time.Now().Add(20 * time.Second); exec.Command("pgrep", "-u", a.host.User, "-x", "belfry").Run() == nil; { // what asked for its turn
				if time.Now().After(end) {
					a.t.Fatal("the belfry on the host does not end")
				}
			}
			return said, code
		}, "bin, deploy.lock, deploying.lock"},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n")
			said, code := c.cut(a)
			if code == 0 {
				t.Fatalf("it was not cut short:\n%s", said)
			}
			_, said, code = a.deploy("status", a.host.Address())
			if code != exitUnavailable || !strings.Contains(said, "music on "+a.host.Host+": it is not deployed there, and in ~/belfry/music is "+c.left+"\n") {
				t.Errorf("its status: exit code %d\n%s", code, said)
			}
			if _, said, code := a.deploy("remove", a.host.Address()); code != exitUnavailable || !strings.Contains(said, "belfry deploy remove --all takes away") {
				t.Errorf("remove: exit code %d\n%s", code, said)
			}
			if _, said, code := a.deploy("remove", a.host.Address(), "--all"); code != 0 {
				t.Errorf("remove --all: exit code %d\n%s", code, said)
			}
			if left, err := filepath.Glob(a.site("*")); err != nil || len(left) > 0 {
				t.Errorf("it leaves %q, %v", left, err)
			}
			if _, said, code := a.deploy("status", a.host.Address()); code != exitUnavailable || !strings.Contains(said, "it is not deployed there\n") {
				t.Errorf("the status then: exit code %d\n%s", code, said)
			}
		})
	}
}

func TestNoHostIsCalledAsACommandOfDeploy(t *testing.T) {
	t.Parallel()
	for _, cmd := range (&command{}).deployCommand().Commands() {
		text := "jobs: {a: {command: x}}\nhosts: {" + cmd.Name() + ": music}\n"
		if _, err := project.Parse([]byte(text), "/music/belfry.yaml", project.Defaults{}); err == nil {
			t.Errorf("%s is the name of a host, and of a command", cmd.Name())
		}
	}
}

func TestABrokenFileHereIsNotInTheWayOfARollback(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	a.deploys()
	first := a.release()
	a.write("belfry.yaml", "project: music\njobs: {a: {command: 'false'}}\n")
	a.deploys()
	a.write("belfry.yaml", "project: music\njobs: {a: {command: 'false', shedule: x}}\n")
	for _, args := range [][]string{{"deploy", "rollback", "prod"}, {"deploy", "rollback"}, {"-H", "prod", "jobs"}} {
		if _, said, code := a.belfry(args...); code != exitBadFile {
			t.Errorf("belfry %v, which a broken file may say the host of, exits with %d\n%s", args, code, said)
		}
	}
	if out, said, code := a.there("jobs"); code != 0 || !strings.Contains(out, "a ") {
		t.Errorf("jobs: exit code %d\n%s%s", code, out, said)
	}
	if out, said, code := a.deploy("rollback", a.host.Address()); code != 0 || !strings.Contains(out, first) {
		t.Errorf("rollback: exit code %d\n%s%s", code, out, said)
	}
	if _, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Errorf("remove: exit code %d\n%s", code, said)
	}
}

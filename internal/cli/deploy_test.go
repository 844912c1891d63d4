package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/machine"
	"belfry/internal/project"
	"belfry/internal/remote/sshtest"
	"belfry/internal/site"
)

// away is a laptop with a project, and a host that it is deployed to.
type away struct {
	*place
	host *sshtest.Server
}

// newAway makes both. The account's processes are ended with the test.
func newAway(t *testing.T, o sshtest.Options, files ...string) *away {
	t.Helper()
	if os.Geteuid() != 0 && o.Home == "" {
		machine.NeedsRoot(t) // for an account whose processes are its own
	}
	a := &away{place: newPlace(t, files...), host: sshtest.Start(t, o)}
	a.env = append(a.env, "HOME="+t.TempDir(), "SSH_AUTH_SOCK=") // a home beside the project
	if err := os.Remove(a.path("mail")); err != nil {
		t.Fatal(err)
	}
	return a
}

// deploy carries out belfry deploy and gives what it said.
func (a *away) deploy(args ...string) (stdout, stderr string, code int) {
	a.t.Helper()
	return a.belfry(append([]string{"deploy", "-i", a.host.Key, "--accept-new"}, args...)...)
}

// deploys expects that the project runs on the host then.
func (a *away) deploys(args ...string) (stdout, stderr string) {
	a.t.Helper()
	stdout, stderr, code := a.deploy(append([]string{a.host.Address()}, args...)...)
	if code != 0 {
		a.t.Fatalf("belfry deploy %v: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout, stderr
}

// there carries out a command with -H.
func (a *away) there(args ...string) (stdout, stderr string, code int) {
	a.t.Helper()
	return a.belfry(append([]string{"-H", a.host.Address(), "-i", a.host.Key, "--accept-new"}, args...)...)
}

func (a *away) status() site.Status {
	a.t.Helper()
	out, said, code := a.deploy("status", a.host.Address(), "--json")
	var st site.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil || code != 0 {
		a.t.Fatalf("belfry deploy status: exit code %d, %v\n%s%s", code, err, out, said)
	}
	return st
}

// release is the name of the project as it is here.
func (a *away) release() string {
	a.t.Helper()
	p, err := project.Load(a.path("belfry.yaml"), project.Defaults{Owner: "x", Zone: time.UTC})
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := p.Release()
	if err != nil {
		a.t.Fatal(err)
	}
	return r.Name()
}

// site is a path below the project's folder on the host.
func (a *away) site(names ...string) string {
	return filepath.Join(append([]string{a.host.Home, "belfry", "music"}, names...)...)
}

func (a *away) runs(job string) []api.Run {
	a.t.Helper()
	out, said, code := a.there("runs", job, "--json")
	var runs []api.Run
	if err := json.Unmarshal([]byte(out), &runs); err != nil || code != 0 {
		a.t.Fatalf("belfry runs: exit code %d, %v\n%s%s", code, err, out, said)
	}
	return runs
}

const music = `
project: music
timezone: Asia/Seoul
jobs:
  tracks:
    schedule: "0 1 * * *"
    command: sh tracks.sh
    publish: lake/tracks/dt=$BELFRY_DATE/
  charts:
    after: [tracks]
    command: cat lake/tracks/*/songs.txt
`

func TestAFreshHostRunsTheProjectAfterOneCommand(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", music, "tracks.sh", "cat 'odd $(name) of \"songs\".txt' > $BELFRY_OUTPUT/songs.txt\necho got them\n", `odd $(name) of "songs".txt`, "아이유\n")
	out, said := a.deploys("--run", "tracks")
	t.Log(said)
	for _, want := range []string{"1  send belfry for linux/", "✓ 1", "✓ 3", "got them"} {
		if !strings.Contains(out+said, want) {
			t.Errorf("it does not say %q:\n%s%s", want, out, said)
		}
	}
	if !strings.Contains(out, "01:00 KST") || !strings.Contains(out, "16:00 UTC") {
		t.Errorf("the next firing is not told in both zones:\n%s", out)
	}
	date := a.runs("tracks")[0].Date
	text, err := os.ReadFile(a.site("shared", "lake", "tracks", "dt="+date, "songs.txt"))
	if err != nil || string(text) != "아이유\n" {
		t.Errorf("published is %q, %v", text, err)
	}
	manifest, err := os.ReadFile(a.site("shared", "lake", "tracks", "dt="+date, "_manifest.json"))
	if err != nil || !strings.Contains(string(manifest), a.release()) {
		t.Errorf("the manifest is %s, %v; want release %s", manifest, err, a.release())
	}
	before := a.status()
	sent := a.host.Sent.Load()
	begun := time.Now()
	_, said = a.deploys()
	if !strings.Contains(said, "nothing to do") || a.host.Sent.Load()-sent > 100_000 {
		t.Errorf("the second deploy says\n%sand sent %d bytes", said, a.host.Sent.Load()-sent)
	}
	t.Logf("a deploy without a change took %s", time.Since(begun))
	if after := a.status(); after.Health.PID != before.Health.PID {
		t.Errorf("the daemon is another one")
	}
	a.write("tracks.sh", "echo changed > $BELFRY_OUTPUT/songs.txt\n")
	sent = a.host.Sent.Load()
	_, said = a.deploys("--run", "tracks")
	if !strings.Contains(said, "1 file, 40 bytes") || a.host.Sent.Load()-sent > 100_000 {
		t.Errorf("the changed script: sent %d bytes\n%s", a.host.Sent.Load()-sent, said)
	}
	if text, err := os.ReadFile(a.site("current", "lake", "tracks", "dt="+date, "songs.txt")); err != nil || string(text) != "changed\n" {
		t.Errorf("published is %q, %v", text, err)
	}
	if st := a.status(); st.Running.Release != a.release() || len(st.History) != 2 || st.History[0].Release != before.Running.Release {
		t.Errorf("the status is %+v", st)
	}
	if out, said, code := a.deploy("rollback", a.host.Address()); code != 0 || !strings.Contains(out, before.Running.Release) {
		t.Errorf("rollback: %d\n%s%s", code, out, said)
	}
	if st := a.status(); st.Health.Release != before.Running.Release {
		t.Errorf("after the rollback %+v", st)
	}
	if out, said, code := a.deploy("rollback", a.host.Address()); code != 1 || !strings.Contains(said, "no earlier release") {
		t.Errorf("a second rollback: %d\n%s%s", code, out, said)
	}
	if out, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Errorf("remove: %d\n%s%s", code, out, said)
	}
	if _, err := os.Stat(a.site("shared", "lake", "tracks", "dt="+date, "songs.txt")); err != nil {
		t.Errorf("what was published went with the project: %v", err)
	}
	if _, said, code := a.there("jobs"); code != exitUnavailable {
		t.Errorf("after the removal jobs exits with %d: %s", code, said)
	}
}

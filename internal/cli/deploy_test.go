//go:build linux

package cli

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/machine"
	"belfry/internal/project"
	"belfry/internal/publish/s3test"
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
	a := newAway(t, sshtest.Options{}, "belfry.yaml", music, "tracks.sh", "cat 'odd $(name) of \"songs\".txt' > $BELFRY_OUTPUT/songs.txt\necho got them\n", `odd $(name) of "songs".txt`, "아이유\n", "two\nlines'; touch harm; $(touch harm)", "x")
	dry, said, code := a.deploy(a.host.Address(), "--dry-run")
	if left, err := os.ReadDir(a.host.Home); code != 0 || err != nil || len(left) > 0 {
		t.Errorf("a dry run: exit code %d, %v leaves %v\n%s", code, err, left, said)
	}
	out, said := a.deploys("--run", "tracks")
	free := regexp.MustCompile(`[0-9.]+ [MG]B free`) // others write there too
	if !strings.Contains(free.ReplaceAllString(said, ""), free.ReplaceAllString(dry, "")) {
		t.Errorf("what is done is not what the dry run said:\n%s\n%s", said, dry)
	}
	if harm, err := filepath.Glob(a.site("*", "harm")); err != nil || len(harm) > 0 {
		t.Errorf("the name of a file did harm: %v %v", harm, err)
	}
	if text, err := os.ReadFile(a.site("current", "two\nlines'; touch harm; $(touch harm)")); err != nil || string(text) != "x" {
		t.Errorf("the file with an odd name is %q, %v", text, err)
	}
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
	ports, err := a.host.Command("ss", "--listening", "--tcp", "--udp", "--numeric", "--no-header").Output()
	if err != nil || strings.Count(string(ports), "\n") != strings.Count(string(ports), ":"+a.host.Port+" ") || len(ports) == 0 {
		t.Errorf("something else than sshd listens there: %v\n%s", err, ports)
	}
	before := a.status()
	sent := a.host.Sent()
	begun := time.Now()
	_, said = a.deploys()
	if !strings.Contains(said, "nothing to do") || a.host.Sent()-sent > 100_000 {
		t.Errorf("the second deploy says\n%sand sent %d bytes", said, a.host.Sent()-sent)
	}
	t.Logf("a deploy without a change took %s", time.Since(begun))
	if after := a.status(); after.Health.PID != before.Health.PID {
		t.Errorf("the daemon is another one")
	}
	a.write("tracks.sh", "echo changed > $BELFRY_OUTPUT/songs.txt\n")
	sent = a.host.Sent()
	_, said = a.deploys("--run", "tracks")
	if !strings.Contains(said, "1 file, 40 bytes") || a.host.Sent()-sent > 100_000 {
		t.Errorf("the changed script: sent %d bytes\n%s", a.host.Sent()-sent, said)
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

// seeded puts this belfry on the host ahead, for tests that are about something
// else than sending it.
func (a *away) seeded() *away { return a.seededFor("music") }

func (a *away) seededFor(name string) *away {
	a.t.Helper()
	self, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	sum, _, err := project.HashFile(self)
	if err != nil {
		a.t.Fatal(err)
	}
	script := `umask 077; mkdir -p "$1"; cat > "$1/belfry"; chmod 755 "$1/belfry"`
	cmd := exec.Command("setpriv", "--reuid", a.host.User, "--regid", a.host.User, "--clear-groups", "sh", "-c", script, "sh", filepath.Join(a.host.Home, "belfry", name, "bin", sum[:16]))
	file, err := os.Open(self)
	if err != nil {
		a.t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	cmd.Stdin = file
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("put belfry on the host: %v\n%s", err, out)
	}
	return a
}

// on has the host's account execute a shell script, beside ssh.
func (a *away) on(script string) {
	a.t.Helper()
	cmd := exec.Command("setpriv", "--reuid", a.host.User, "--regid", a.host.User, "--clear-groups", "sh", "-c", script)
	cmd.Dir = a.host.Home
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func TestABrokenReleaseGoesBackWhileALongJobRunsOn(t *testing.T) {
	t.Parallel()
	const long = "project: music\njobs:\n  long: {command: sh long.sh}\n"
	a := newAway(t, sshtest.Options{}, "belfry.yaml", long, "long.sh", "echo begun; read go < gate; pwd; echo ended\n").seeded()
	a.deploys()
	first := a.release()
	a.on("mkfifo -m 600 belfry/music/current/gate")
	follow := a.start("-H", a.host.Address(), "-i", a.host.Key, "run", "long")
	follow.until("long  run")
	for a.runs("long")[0].State != "running" {
		if t.Context().Err() != nil {
			t.Fatal("it does not begin")
		}
	}
	taken, _ := a.host.Listen() // it looks right, and only its daemon finds out
	a.write("belfry.yaml", long+"daemon: {listen: \""+taken+"\"}\n")
	out, said, code := a.deploy(a.host.Address(), "--patience", "3s")
	if code != exitFailed || !strings.Contains(said, "gone back to release "+first) || !strings.Contains(said, "is taken") {
		t.Errorf("the broken release: %d\n%s%s", code, out, said)
	}
	if st := a.status(); st.Health == nil || st.Health.Release != first || st.Health.Error != "" || len(st.Health.Releases) != 1 {
		t.Errorf("after it: %+v", st)
	}
	// What only the host can find wrong is found before anything is switched.
	before := a.status().Health.PID
	a.write("belfry.yaml", "project: music\njobs:\n  long: {command: sh long.sh, schedule: '0 1 * * *', publish: \""+a.site("data", "x")+"/$BELFRY_DATE\"}\n")
	if _, said, code := a.deploy(a.host.Address()); code != exitFailed || !strings.Contains(said, "data folder") || a.status().Health.PID != before {
		t.Errorf("a release that is wrong on the host alone: %d\n%s", code, said)
	}
	a.write("belfry.yaml", long)
	// Releases enough that the first would be collected, were it not in use.
	for i := range 5 {
		a.write("version", strings.Repeat("x", i))
		a.deploys()
	}
	if st := a.status(); !slices.Contains(st.Releases, first) || len(st.Releases) != 4 || st.Health.PID == before {
		t.Errorf("while the first is in use there are %v", st.Releases)
	}
	a.on("echo go > belfry/music/releases/" + first + "/gate")
	var told []string
	for line := range follow.lines {
		told = append(told, line)
	}
	if code := follow.wait(); code != 0 {
		t.Errorf("the run that was followed over all of it exits with %d:\n%s", code, strings.Join(told, "\n"))
	}
	if out, said, _ := a.there("logs", "long"); !strings.HasPrefix(out, "begun\n/") || !strings.HasSuffix(out, "/releases/"+first+"\nended\n") {
		t.Errorf("its output is %q %s", out, said)
	}
	a.write("version", "last")
	a.deploys()
	if st := a.status(); slices.Contains(st.Releases, first) || len(st.Releases) != 3 {
		t.Errorf("once it has ended there are %v", st.Releases)
	}
}

func TestTheFirstReleaseThatDoesNotRunLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}).seeded()
	taken, free := a.host.Listen()
	a.write("belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\ndaemon: {listen: \""+taken+"\"}\n")
	_, said, code := a.deploy(a.host.Address(), "--patience", "2s")
	if code != exitFailed || !strings.Contains(said, "nothing of it is left running") {
		t.Errorf("exit code %d: %s", code, said)
	}
	eventually(t, "nothing of the account is left but zombies", func() bool {
		return exec.Command("pgrep", "-u", a.host.User, "-r", "RSDT").Run() != nil
	})
	free()
	a.deploys()
}

func TestWhenGoingBackFailsTooBothReasonsAreTold(t *testing.T) {
	t.Parallel()
	const music = "project: music\njobs: {a: {command: 'true'}}\n"
	a := newAway(t, sshtest.Options{}, "belfry.yaml", music).seeded()
	a.deploys()
	first := a.release()
	taken, _ := a.host.Listen()
	a.write("belfry.yaml", music+"daemon: {listen: \""+taken+"\"}\n")
	a.on("echo broken > belfry/music/releases/" + first + "/belfry.yaml")
	_, said, code := a.deploy(a.host.Address(), "--patience", "2s")
	for _, want := range []string{"the new release does not run: ", "; and going back to release " + first + ": ", "the daemon said last:\n", "is taken"} {
		if code != exitFailed || !strings.Contains(said, want) {
			t.Errorf("exit code %d, without %q:\n%s", code, want, said)
		}
	}
	a.write("belfry.yaml", music+"# mended\n")
	a.deploys()
}

func TestADaemonWhoseSupervisorWasKilledIsReplaced(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	a.deploys()
	old := a.status().Health.PID
	a.on("kill -9 $(cat belfry/music/supervisor.lock)")
	a.write("version", "2")
	a.deploys()
	if st := a.status(); st.Health == nil || st.Health.Release != a.release() || st.Health.PID == old {
		t.Errorf("afterwards: %+v", st)
	}
	a.on("kill -9 $(cat belfry/music/supervisor.lock)")
	if _, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Errorf("remove: exit code %d\n%s", code, said)
	}
	if _, said, code := a.deploy("status", a.host.Address()); code != exitUnavailable || !strings.Contains(said, "belfry deploy puts the project") {
		t.Errorf("the status of what was removed: exit code %d\n%s", code, said)
	}
	if out, err := exec.Command("pgrep", "-u", a.host.User, "-f", "belfry serve").Output(); err == nil {
		t.Errorf("the daemon %s is left", out)
	}
}

func TestNothingIsRemovedFromUnderAJobWhoseDaemonIsGone(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {long: {command: read go < gate}}\n").seeded()
	a.deploys()
	a.on("mkfifo -m 600 belfry/music/current/gate")
	follow := a.start("-H", a.host.Address(), "-i", a.host.Key, "run", "long")
	follow.until("long  run")
	for a.runs("long")[0].State != "running" {
		if t.Context().Err() != nil {
			t.Fatal("it does not begin")
		}
	}
	a.on("kill -9 $(cat belfry/music/supervisor.lock) " + strconv.Itoa(a.status().Health.PID))
	if _, said, code := a.deploy("remove", a.host.Address()); code != exitFailed || !strings.Contains(said, "jobs are running") {
		t.Errorf("remove: exit code %d\n%s", code, said)
	}
	a.on("echo go > belfry/music/current/gate")
	if code := follow.wait(); code != 0 {
		t.Errorf("the run exits with %d", code)
	}
	if _, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Errorf("remove once it has ended: exit code %d\n%s", code, said)
	}
}

func TestWhatARemovalLeftIsRemovedLater(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	remove := []string{"remove", a.host.Address(), "--all"}
	notThere := func(why string) {
		t.Helper()
		for _, args := range [][]string{{"status", a.host.Address()}, {"rollback", a.host.Address()}, remove[:2], remove} {
			_, said, code := a.deploy(args...)
			if code != exitUnavailable || !strings.Contains(said, "belfry: music on "+a.host.Host+": it is not deployed there") {
				t.Errorf("%s: deploy %v exits with %d\n%s", why, args, code, said)
			}
		}
	}
	a.on("mkdir belfry/music/data; echo mine >belfry/music/data/mine")
	notThere("a folder that belfry did not make")
	if _, err := os.Stat(a.site("data", "mine")); err != nil {
		t.Errorf("somebody's own data went: %v", err)
	}
	a.deploys()
	// A job that outlived its keeper, a daemon, and another deploy.
	process := func(script string) (end func()) {
		t.Helper()
		cmd := exec.Command("setpriv", "--reuid", a.host.User, "--regid", a.host.User, "--clear-groups", "sh", "-c", script)
		cmd.Dir = a.host.Home
		in, err := cmd.StdinPipe() // what it reads never comes
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end = func() { _ = in.Close(); _ = cmd.Wait() }
		t.Cleanup(end)
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		return end
	}
	endJob := process("cd belfry/music/current && echo; read never")
	if _, said, code := a.deploy("remove", a.host.Address()); code != 0 {
		t.Fatalf("remove: exit code %d\n%s", code, said)
	}
	refused := func(why string, exits int, want string) {
		t.Helper()
		_, said, code := a.deploy(append(remove, "--wait", "0s")...)
		if _, err := os.Stat(a.site("data", "belfry.db")); err != nil || code != exits || !strings.Contains(said, want) {
			t.Errorf("%s: remove --all exits with %d, %v\n%s", why, code, err, said)
		}
	}
	refused("while a job runs", exitFailed, "of it is still running")
	endJob()
	endDaemon := process("mkdir belfry/music/bin && cp /bin/sh belfry/music/bin/belfry && exec belfry/music/bin/belfry -c 'echo; read never'")
	refused("while a daemon runs", exitFailed, "(belfry) of it is still running")
	endDaemon()
	endDeploy := process(`exec 9<>belfry/music/deploying.lock; flock 9; echo '{"by": "alice@laptop", "does": "deploys release 0123", "since": "2026-07-09T16:00:00Z"}' >belfry/music/deploying.lock; echo; read never`)
	refused("while another deploy is at work", exitRefused, "alice@laptop deploys release 0123 on "+a.host.Host+", since ")
	endDeploy()
	a.on("echo mine >belfry/music/mine; mkdir -p belfry/other/data; echo theirs >belfry/other/data/theirs; touch belfry/music/service.json")
	refused("while a service is noted", exitFailed, "deploy it again")
	a.on("rm belfry/music/service.json")
	if _, said, code := a.deploy(remove...); code != 0 || !strings.Contains(said, "is left in ~/belfry/music: mine\n") {
		t.Errorf("remove --all: exit code %d\n%s", code, said)
	}
	left, err := filepath.Glob(filepath.Join(a.host.Home, "belfry", "*", "*"))
	if err != nil || !slices.Equal(left, []string{a.site("mine"), filepath.Join(a.host.Home, "belfry", "other", "data")}) {
		t.Errorf("then there are %v, %v", left, err)
	}
	notThere("once it is removed")
}

func TestTwoRemovalsAtOnceRemoveAll(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	a.deploys()
	args := []string{"deploy", "-i", a.host.Key, "--accept-new", "remove", a.host.Address()}
	plain, all := a.start(args...), a.start(append(args, "--all")...)
	for _, p := range []*process{plain, all} {
		var said []string
		for line := range p.lines {
			said = append(said, line)
		}
		if code := p.wait(); code != 0 && p == all {
			t.Errorf("remove --all exits with %d:\n%s", code, strings.Join(said, "\n"))
		}
	}
	if _, err := os.Stat(a.site()); !os.IsNotExist(err) {
		t.Errorf("the project's folder is there: %v", err)
	}
}

// TestASwitchThatIsKilledLeavesADaemon kills it while the old daemon is about to end.
func TestASwitchThatIsKilledLeavesADaemon(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	a.deploys()
	old := a.status().Health.PID
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a.write("version", "2")
	deploy := a.start("deploy", "-i", a.host.Key, a.host.Address())
	pending := regexp.MustCompile(`ShdPnd:\t[0-9a-f]*[4-7c-f][0-9a-f]{3}\n`) // SIGTERM
	for told := false; !told; {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(old) + "/status")
		if err != nil || t.Context().Err() != nil {
			t.Fatalf("the old daemon is not told to end: %v", err)
		}
		told = pending.Match(status)
	}
	a.on("pkill -KILL -u $(id -u) -f '[i]nternal-site switch'")
	if code := deploy.wait(); code == 0 {
		t.Error("the deploy of which the host's part was killed exits with 0")
	}
	if err := syscall.Kill(old, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		st := a.status()
		if st.Health != nil && st.Health.PID != old && st.Health.Release == a.release() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("afterwards: %+v", st)
		}
	}
	a.deploys()
}

// TestAReleaseThatRunsIsNotTakenAwayBecauseItWasNotNoted is about a switch that was
// killed when the daemon was well and the history not yet written.
func TestAReleaseThatRunsIsNotTakenAwayBecauseItWasNotNoted(t *testing.T) {
	t.Parallel()
	const music = "project: music\njobs: {a: {command: 'true'}}\n"
	a := newAway(t, sshtest.Options{}, "belfry.yaml", music).seeded()
	a.deploys()
	first := a.release()
	a.on("rm belfry/music/history.json")
	taken, _ := a.host.Listen()
	a.write("belfry.yaml", music+"daemon: {listen: \""+taken+"\"}\n")
	if _, said, code := a.deploy(a.host.Address(), "--patience", "3s"); code != exitFailed || !strings.Contains(said, "gone back to release "+first) {
		t.Errorf("exit code %d\n%s", code, said)
	}
	if st := a.status(); st.Health == nil || st.Health.Release != first {
		t.Errorf("afterwards: %+v", st)
	}
	a.write("belfry.yaml", music+"# 2\n")
	a.on("rm belfry/music/history.json")
	a.deploys()
	if _, said, code := a.deploy("rollback", a.host.Address()); code != 0 || a.status().Running.Release != first {
		t.Errorf("going back to it: exit code %d\n%s", code, said)
	}
}

// keepsAsking has the laptop find out within seconds that a host no longer answers.
func (a *away) keepsAsking() {
	a.t.Helper()
	home := filepath.Join(a.t.TempDir(), "home")
	dir := filepath.Join(home, ".ssh")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "config"), []byte("ServerAliveInterval 1\nServerAliveCountMax 2\nConnectTimeout 3\n"), 0o600)); err != nil {
		a.t.Fatal(err)
	}
	a.env = append(a.env, "HOME="+home)
}

func TestTheNetworkMayBeCutAnywhere(t *testing.T) {
	t.Parallel()
	for how, c := range map[sshtest.Manner]struct {
		points int64
		said   string
	}{
		sshtest.Loudly:   {12, "was cut|(refuses|resets|closed) the connection"},
		sshtest.Silently: {6, "was cut|nothing answers|does not finish the handshake"}, // it takes seconds to find out
	} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			a := newAway(t, sshtest.Options{Config: []string{"ClientAliveInterval 1", "ClientAliveCountMax 2"}}, "belfry.yaml", music, "tracks.sh", "echo x > $BELFRY_OUTPUT/songs.txt\n").seeded()
			a.keepsAsking()
			for i := range 40 { // with something to be sent in each
				a.write(filepath.Join("data", strconv.Itoa(i)), strings.Repeat(strconv.Itoa(i*7919), 300))
			}
			before := a.host.Sent()
			a.deploys()
			whole := a.host.Sent() - before
			told, late := regexp.MustCompile(c.said), int64(0)
			for i := range c.points {
				a.write("tracks.sh", "echo "+strconv.FormatInt(i, 10)+" > $BELFRY_OUTPUT/songs.txt\n")
				a.write(filepath.Join("data", "big"), strings.Repeat(strconv.FormatInt(i, 10)+"é", 5000))
				a.host.CutAfter(whole*i/c.points, how)
				_, said, code := a.deploy(a.host.Address())
				a.host.Mend()
				if code == 0 {
					late++
				} else if !told.MatchString(said) {
					t.Errorf("cut %d: exit code %d\n%s", i, code, said)
				}
				a.deploys()
				if st := a.status(); st.Health == nil || st.Health.Release != a.release() || st.Health.Error != "" {
					t.Errorf("cut %d: afterwards %+v", i, st)
				}
			}
			if late > c.points/3 {
				t.Errorf("%d of %d cuts came too late", late, c.points)
			}
			for _, pattern := range []string{a.site(".*"), a.site("releases", ".*"), a.site("bin", ".*"), a.site("incoming")} {
				if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v %v", left, err)
				}
			}
		})
	}
}

// A laptop that falls asleep in the middle of a deploy is still connected, as far as
// its host can know.
func TestALaptopThatFellAsleepDoesNotKeepOthersWaiting(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 2<<20)
	_, _ = rand.Read(noise) // it never fails
	a := newAway(t, sshtest.Options{}, "belfry.yaml", music, "tracks.sh", "true\n", "noise", string(noise)).seeded()
	asleep := a.start("deploy", "-i", a.host.Key, "--accept-new", a.host.Address())
	a.until("incoming/*")
	if err := asleep.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b := a.colleague("belfry.yaml", music, "tracks.sh", "echo other\n")
	if _, said := b.deploys(); !strings.Contains(said, " deploys release "+a.release()) || !strings.Contains(said, "this waits until that has ended") {
		t.Errorf("it does not say whom it waits for:\n%s", said)
	}
	if err := asleep.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range asleep.lines {
		said = append(said, line)
	}
	if code, text := asleep.wait(), strings.Join(said, "\n"); code == 0 || !strings.Contains(text, "the same command again goes on") {
		t.Errorf("when it wakes up it exits with %d:\n%s", code, text)
	}
	if st := b.status(); st.Health == nil || st.Health.Release != b.release() {
		t.Errorf("afterwards: %+v", st)
	}
}

func TestAFullDiskIsSaidAndLeavesWhatRan(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=70m,mode=755,nr_inodes=80", "tmpfs", home).CombinedOutput(); err != nil {
		machine.Lacks(t, "the right to mount a tmpfs: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", home).Run() })
	a := newAway(t, sshtest.Options{Home: home}, "belfry.yaml", music, "tracks.sh", "true\n").seeded()
	a.deploys()
	first := a.release()
	noise := make([]byte, 30<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	a.write("noise", string(noise))
	_, said, code := a.deploy(a.host.Address())
	if code != exitRefused || !strings.Contains(said, "are needed: make room there") {
		t.Errorf("a release that has no room: %d\n%s", code, said)
	}
	if err := os.Remove(a.path("noise")); err != nil {
		t.Fatal(err)
	}
	// One that has room by the numbers, and none when it is made: its files are too
	// many.
	for i := range 100 {
		a.write(filepath.Join("many", strconv.Itoa(i)), strconv.Itoa(i))
	}
	_, said, code = a.deploy(a.host.Address())
	if code != exitFailed || !strings.Contains(said, "no space left") || !strings.Contains(said, "make room on the host") {
		t.Errorf("a disk that becomes full: %d\n%s", code, said)
	}
	if st := a.status(); st.Health == nil || st.Health.Release != first {
		t.Errorf("afterwards: %+v", st)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=200m,nr_inodes=10000", home).CombinedOutput(); err != nil {
		t.Fatalf("make room: %v %s", err, out)
	}
	a.deploys()
}

func TestAHostOfAnotherArchitectureGetsItsOwnBelfryOrNone(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	uname := filepath.Join(bin, "uname")
	a := newAway(t, sshtest.Options{Path: bin}, "belfry.yaml", music, "tracks.sh", "true\n")
	machineIs := func(name string) {
		if err := os.WriteFile(uname, []byte("#!/bin/sh\n[ \"$1\" = -s ] && echo Linux || echo "+name+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	other, otherName := "arm64", "aarch64"
	if runtime.GOARCH == "arm64" {
		other, otherName = "amd64", "x86_64"
	}
	machineIs("'\x1b[2Jriscv64'")
	if _, said, code := a.deploy(a.host.Address()); code != exitFailed || !strings.Contains(said, "is a ^[[2Jriscv64 machine") {
		t.Errorf("riscv64: %d\n%s", code, said)
	}
	machineIs(map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH])
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		short:                         short + " is not a program for Linux\n  name a belfry for linux/" + runtime.GOARCH + " with --binary",
		"/bin/sh":                     "/bin/sh is no belfry\n  name a belfry for linux/" + runtime.GOARCH + " with --binary",
		dir:                           dir + ": is a directory\n  name a belfry",
		filepath.Join(dir, "nothing"): "there is no file",
	} {
		if _, said, code := a.deploy(a.host.Address(), "--binary", file); code != exitNotFound || !strings.Contains(said, want) {
			t.Errorf("--binary %s: %d\n%s", file, code, said)
		}
	}
	if _, err := os.Stat(a.site()); !os.IsNotExist(err) {
		t.Errorf("something was sent: %v", err)
	}
	machineIs(otherName)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, said, code := a.deploy(a.host.Address(), "--binary", self); code != exitNotFound || !strings.Contains(said, "is for another machine") {
		t.Errorf("this belfry for another machine: %d\n%s", code, said)
	}
	built := filepath.Join(t.TempDir(), "belfry-linux-"+other)
	build(t, built, "GOARCH="+other)
	out, said, code := a.deploy(a.host.Address(), "--binary", built, "--dry-run")
	if code != 0 || !strings.Contains(out, "send belfry for linux/"+other) {
		t.Errorf("its own belfry: %d\n%s%s", code, out, said)
	}
	// The host is what it is, whatever it says: it cannot run it, and nothing of it stays.
	if _, said, code := a.deploy(a.host.Address(), "--binary", built); code != exitFailed || !strings.Contains(said, "the host cannot run it") {
		t.Errorf("a belfry that the host cannot run: %d\n%s", code, said)
	}
	if left, _ := filepath.Glob(a.site("bin", "*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestSecretsAreNobodyElsesAtAnyMoment(t *testing.T) {
	t.Parallel()
	const sealed, token, awsKey, other = "sealed-bells-1212", "tower-bells-4711", "AKIATOWERBELLS", "AKIANEVERSENT"
	a := newAway(t, sshtest.Options{Shell: "/bin/bash"}, "belfry.yaml", "project: music\njobs:\n  a: {command: 'echo $TOKEN; test -n \"$TOKEN\" && test ${#API_TOKEN} = 17', env_file: .env, secrets: [API_TOKEN]}\n", ".env", "TOKEN="+token+"\n", ".gitignore", ".env\n").seeded()
	laptop := t.TempDir()
	a.env = append(a.env, "HOME="+laptop)
	if err := os.Mkdir(filepath.Join(laptop, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	profiles := "[default]\naws_access_key_id = " + other + "\naws_secret_access_key = x\n\n[lake]\naws_access_key_id = " + awsKey + "\naws_secret_access_key = y\n"
	if err := os.WriteFile(filepath.Join(laptop, ".aws", "credentials"), []byte(profiles), 0o600); err != nil {
		t.Fatal(err)
	}
	a.on("umask 077; mkdir .aws; printf '[mine]\\naws_access_key_id = KEEP\\n' > .aws/credentials")
	set := a.command("secrets", "set", "API_TOKEN")
	set.Stdin = strings.NewReader(sealed)
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("belfry secrets set: %v\n%s", err, out)
	}
	// The laptop has a key of another project's secrets, too.
	theirs := newPlace(t, "belfry.yaml", "jobs: {b: {command: 'true', secrets: [B]}}\n")
	theirs.env = append(theirs.env, "HOME="+theirs.dir, "BELFRY_KEY_FILE="+theirs.path("key.txt"))
	set = theirs.command("secrets", "set", "B")
	set.Stdin = strings.NewReader("theirs")
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("belfry secrets set: %v\n%s", err, out)
	}
	keys := filepath.Join(laptop, ".config", "belfry", "key.txt")
	key, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	added, err := os.ReadFile(theirs.path("key.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys, append(added, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	found := watchForSecrets(a.host.Home, sealed, "AGE-SECRET-KEY-", token, awsKey, other)
	_, said, code := a.deploy(a.host.Address(), "--aws-profile", "lake", "--run", "a")
	if code != 0 || !strings.Contains(said, "no job names the profile") {
		t.Errorf("exit code %d\n%s", code, said)
	}
	if list := found(); len(list) > 0 {
		t.Errorf("secrets were to be seen in %v", list)
	}
	text, err := os.ReadFile(filepath.Join(a.host.Home, ".aws", "credentials"))
	if err != nil || string(text) != "[mine]\naws_access_key_id = KEEP\n[lake]\naws_access_key_id = "+awsKey+"\naws_secret_access_key = y\n" {
		t.Errorf("the host's profiles are\n%s%v", text, err)
	}
	for path, mode := range map[string]os.FileMode{filepath.Join(a.host.Home, ".aws", "credentials"): 0o600, a.site("current", ".env"): 0o600, a.site(): 0o700} {
		if info, err := os.Stat(path); err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), mode)
		}
	}
	sent, err := os.ReadFile(filepath.Join(a.host.Home, ".config", "belfry", "key.txt"))
	if ours := strings.TrimSpace(string(sent)); err != nil || !strings.Contains(string(key), ours) || strings.Contains(ours, "\n") {
		t.Errorf("the host has not the one key of its project alone: %d lines, %v", strings.Count(string(sent), "\n"), err)
	}
	if out, _, _ := a.there("logs", "a"); strings.Contains(out, token) {
		t.Errorf("the log shows it: %s", out)
	}
	// They are where they belong, and in no shell's history, log or account. This very
	// program knows them, too.
	where, err := exec.Command("grep", "-rlF", "--exclude=belfry", "-e", sealed, "-e", token, "-e", awsKey, "-e", other, "-e", "AGE-SECRET-KEY-", a.host.Home).Output()
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Fields(string(where)), []string{filepath.Join(a.host.Home, ".aws/credentials"), filepath.Join(a.host.Home, ".config/belfry/key.txt"), a.site("releases", a.release(), ".env")}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("secrets are in %v, want %v", got, want)
	}
}

// watchForSecrets looks at every command line and at what others may read below
// dir, all the while, and gives where a secret was.
func watchForSecrets(dir string, secrets ...string) (found func() []string) {
	stop, done := make(chan struct{}), make(chan struct{})
	seen := map[string]bool{}
	look := func(path string) {
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if err == nil && strings.Contains(string(text), secret) {
				seen[path] = true
			}
		}
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, line := range lines {
				look(line)
			}
			_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
				if err != nil {
					return nil //nolint:nilerr // it has gone
				}
				if info, gone := entry.Info(); gone == nil {
					switch {
					case entry.IsDir() && info.Mode().Perm()&0o005 == 0:
						return filepath.SkipDir // others see nothing of it
					case info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 && info.Size() < 1<<20:
						look(path)
					}
				}
				return nil
			})
		}
	}()
	return func() []string {
		close(stop)
		<-done
		return slices.Collect(maps.Keys(seen))
	}
}

func TestEveryCommandTalksToTheHost(t *testing.T) {
	t.Parallel()
	for name, config := range map[string][]string{"forwarded": nil, "forwarding forbidden": {"AllowStreamLocalForwarding no"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAway(t, sshtest.Options{Config: config}, "belfry.yaml", music+"  long: {command: exec sleep 4711}\n", "tracks.sh", "echo x > $BELFRY_OUTPUT/songs.txt; echo got; exit ${FAIL:-0}\n").seeded()
			a.deploys()
			if out, said, code := a.there("run", "tracks", "--date", "2026-07-09"); code != 0 || out != "got\n" {
				t.Errorf("run: %d %q %s", code, out, said)
			}
			for _, c := range []struct {
				args []string
				want string
			}{
				{[]string{"jobs"}, "charts"},
				{[]string{"runs"}, "succeeded"},
				{[]string{"show", "tracks"}, "2026-07-09"},
				{[]string{"logs", "tracks"}, "got"},
				{[]string{"logs", "tracks", "-f"}, "got"},
				{[]string{"explain", "tracks"}, "01:00"},
				{[]string{"pause", "tracks"}, ""},
				{[]string{"resume", "tracks"}, ""},
				{[]string{"backfill", "tracks", "--from", "2026-07-01", "--to", "2026-07-02"}, ""},
				{[]string{"run", "tracks", "--dry-run"}, "would run"},
				{[]string{"db", "check"}, "whole"},
				{[]string{"db", "backup", filepath.Join(a.host.Home, "copy")}, ""},
				{[]string{"doctor"}, "✓"},
			} {
				if out, said, code := a.there(c.args...); code != 0 || !strings.Contains(out, c.want) {
					t.Errorf("belfry -H … %v: exit code %d\n%s%s", c.args, code, out, said)
				}
			}
			long := a.start("-H", a.host.Address(), "-i", a.host.Key, "run", "long")
			long.until("long  run")
			eventually(t, "the job runs", func() bool { return a.runs("long")[0].State == "running" })
			id := a.runs("long")[0].ID
			if _, said, code := a.there("stop", id); code != 0 {
				t.Errorf("stop: exit code %d\n%s", code, said)
			}
			if code := long.wait(); code != 128+int(syscall.SIGTERM) {
				t.Errorf("the run that was stopped exits with %d", code)
			}
			for _, args := range [][]string{{"serve"}, {"init"}, {"next", "@daily"}, {"db", "vacuum"}, {"db", "backup", "copy"}} {
				if _, said, code := a.there(args...); code != exitUsage {
					t.Errorf("belfry -H … %v: exit code %d %s", args, code, said)
				}
			}
			if _, said, code := a.there("show", "nothing"); code != exitNotFound {
				t.Errorf("an unknown run: %d %s", code, said)
			}
		})
	}
}

func TestFollowingALogSurvivesCutConnections(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'for i in 1 2 3; do read x < gate$i; echo $i; done'}}\n").seeded()
	a.deploys()
	a.on("cd belfry/music/current && mkfifo -m 600 gate1 gate2 gate3") // one for each line: who is still writing must not open the next
	a.keepsAsking()
	p := a.command("-H", a.host.Address(), "-i", a.host.Key, "--accept-new", "run", "a")
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	p.Stderr = &said
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	prints := func(i string) { a.on("echo go > belfry/music/current/gate" + i) }
	comes := func(i string) {
		t.Helper()
		if line, err := lines.ReadString('\n'); err != nil || line != i+"\n" {
			t.Fatalf("line %s is %q, %v\n%s", i, line, err, said.String())
		}
	}
	prints("1")
	comes("1")
	a.host.Cut()
	prints("2")
	comes("2")
	a.host.CutAfter(0, sshtest.Silently)
	prints("3")
	eventually(t, "the laptop has given its connection up", func() bool {
		out, err := exec.Command("ss", "--no-header", "--tcp", "--numeric", "state", "established", "dst", a.host.Host).Output()
		return err == nil && len(out) == 0
	})
	a.host.Mend()
	comes("3")
	rest, err := io.ReadAll(lines)
	if err := errors.Join(err, p.Wait()); err != nil || len(rest) > 0 {
		t.Errorf("the end: %v, %q\n%s", err, rest, said.String())
	}
}

// The folder of "make try" goes to a host whose clock is in UTC, publishes to S3,
// and the person types one command.
func TestTheExampleIsOnAHostAfterOneCommand(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}).seededFor("ttandaudio")
	s3 := s3test.StartAt(t, a.host.Laptop)
	copyExample(t, a.dir)
	text := strings.NewReplacer("# env_file: .env ", "env_file: .env ", "to: lake/", "to: s3://"+s3.Bucket+"/").Replace(a.read("belfry.yaml"))
	a.write("belfry.yaml", text)
	a.write(".env", strings.Join(s3.Env(), "\n")+"\n")
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "belfry")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "deploy.sh", a.host.Address(), "-i", a.host.Key, "--accept-new")
	cmd.Dir, cmd.Env = a.dir, append(a.env, "TZ=America/New_York", "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("deploy.sh: %v\n%s", err, out)
	}
	for _, want := range []string{"clock in Etc/UTC", "01:00 KST", " E", "Typed: 1 command"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	date := a.runs("top-tracks")[0].Date
	keys := strings.Join(s3.List(t), "\n")
	for _, want := range []string{"top-tracks/dt=" + date + "/_SUCCESS", "audio-features/dt=" + date + "/_SUCCESS", "top-tracks/dt=" + date + "/_manifest.json"} {
		if !strings.Contains(keys, want) {
			t.Errorf("the bucket has no %s:\n%s", want, keys)
		}
	}
}

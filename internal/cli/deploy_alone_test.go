//go:build linux

package cli

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/internal/project"
	"belfry/internal/remote/sshtest"
	"belfry/internal/site"
)

// colleague has another state of the same project and deploys to the same host.
func (a *away) colleague(files ...string) *away {
	a.t.Helper()
	b := &away{place: newPlace(a.t, files...), host: a.host}
	b.env = append(b.env, "HOME="+a.t.TempDir(), "SSH_AUTH_SOCK=")
	return b
}

// until polls for a file on the host, which may be there for a moment only, or for
// the end of the deploy that makes it.
func (a *away) until(pattern string) {
	a.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		for _, pattern := range []string{pattern, "history.json"} {
			if there, err := filepath.Glob(a.site(pattern)); err != nil || len(there) > 0 {
				return
			}
		}
		if time.Now().After(end) {
			a.t.Fatalf("there is no %s", pattern)
		}
	}
}

func TestTwoDeploysAtOnceGoOneAfterTheOther(t *testing.T) {
	t.Parallel()
	const music = "project: music\njobs: {a: {command: 'true'}}\n"
	for why, c := range map[string]struct {
		after string // a file of the first on the host
		fresh bool   // belfry is not there yet
	}{
		"to a host without belfry":       {"", true},
		"while the first sends belfry":   {"bin/.*", true},
		"at once":                        {"", false},
		"when the first has its turn":    {"deploying.lock", false},
		"while the first sends":          {"incoming/*", false},
		"while the first makes its own":  {"releases/.*", false},
		"when the first has its release": {"releases/*.json", false},
		"while the first switches":       {"current", false},
		"while the first waits for it":   {"data/serve.log", false},
		"when the first is noted":        {"history.json", false},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			noise := make([]byte, 1<<20)
			_, _ = rand.Read(noise) // it never fails
			a := newAway(t, sshtest.Options{}, "belfry.yaml", music, "who", "first", "noise", string(noise))
			if !c.fresh {
				a.seeded()
			}
			b := a.colleague("belfry.yaml", music, "who", "second", "noise", string(noise))
			args := []string{"deploy", "-i", a.host.Key, "--accept-new", a.host.Address()}
			first := a.start(args...)
			if c.after != "" {
				a.until(c.after)
			}
			second := b.start(args...)
			for who, p := range map[string]*process{"first": first, "second": second} {
				var said []string
				for line := range p.lines {
					said = append(said, line)
				}
				if code := p.wait(); code != 0 {
					t.Errorf("the %s exits with %d:\n%s", who, code, strings.Join(said, "\n"))
				}
			}
			st := a.status()
			if st.Health == nil || st.Health.Release != st.Running.Release || st.Health.Error != "" || st.Running.At.IsZero() {
				t.Errorf("afterwards: %+v", st)
			}
			for _, release := range []string{a.release(), b.release()} {
				if !slices.Contains(st.Releases, release) || !slices.ContainsFunc(st.History, func(d site.Deployed) bool { return d.Release == release }) {
					t.Errorf("release %s did not run: %+v", release, st)
				}
			}
		})
	}
}

func TestADeployThatMeetsAnotherSaysWhoseItIsAndWaits(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", "project: music\njobs: {a: {command: 'true'}}\n").seeded()
	a.deploys()
	a.write("version", "2")
	hold := exec.Command("setpriv", "--reuid", a.host.User, "--regid", a.host.User, "--clear-groups", a.site("belfry"), "internal-site", "hold", a.site())
	in, err := hold.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := hold.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hold.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = hold.Wait() })
	if _, err := io.WriteString(in, `{"by": "alice@laptop", "does": "deploys release 0123", "wait": 1}`+"\n"); err != nil {
		t.Fatal(err)
	}
	var turn site.Turn
	if err := json.NewDecoder(out).Decode(&turn); err != nil || !turn.Held {
		t.Fatalf("it is told %+v, %v", turn, err)
	}
	for _, args := range [][]string{{a.host.Address()}, {"rollback", a.host.Address()}, {"remove", a.host.Address()}} {
		_, said, code := a.deploy(append(args, "--wait", "0s")...)
		if code != exitRefused || !strings.Contains(said, "alice@laptop deploys release 0123 on "+a.host.Host+", since ") || !strings.Contains(said, "--wait says for how long") {
			t.Errorf("deploy %v meanwhile: exit code %d\n%s", args, code, said)
		}
	}
	if _, said, code := a.deploy(a.host.Address(), "--wait", "200ms"); code != exitRefused || !strings.Contains(said, "not ended within 200ms") {
		t.Errorf("one that waits for a moment: exit code %d\n%s", code, said)
	}
	if st := a.status(); st.Running.Release == a.release() {
		t.Error("it was deployed nevertheless")
	}
	waits := a.start("deploy", "-i", a.host.Key, a.host.Address())
	waits.until("alice@laptop deploys release 0123 on " + a.host.Host + ", since ")
	if err := hold.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code := waits.wait(); code != 0 {
		t.Errorf("the one that waited exits with %d", code)
	}
	if st := a.status(); st.Running.Release != a.release() {
		t.Errorf("afterwards: %+v", st)
	}
}

func TestProjectsThatAreDeployedAtOnceKeepEachOthersProfiles(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}).seededFor("p0")
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	sum, _, err := project.HashFile(self)
	if err != nil {
		t.Fatal(err)
	}
	a.on(`export HOME="$PWD"
i=0
while [ $i -lt 20 ]; do
	mkdir -p belfry/p$i
	printf '{"name": "p%s", "credentials": "aws_access_key_id = A\\n"}' $i | belfry/p0/bin/` + sum[:16] + `/belfry internal-site profile belfry/p$i >/dev/null &
	printf '{"text": "AGE-SECRET-KEY-%s."}' $i | belfry/p0/bin/` + sum[:16] + `/belfry internal-site key belfry/p$i >/dev/null &
	i=$((i + 1))
done
wait`)
	for _, file := range []struct{ path, each string }{{".aws/credentials", "[p"}, {".config/belfry/key.txt", "AGE-SECRET-KEY-"}} {
		text, err := os.ReadFile(filepath.Join(a.host.Home, file.path))
		if err != nil || strings.Count(string(text), file.each) != 20 {
			t.Errorf("%s has %d of 20, %v:\n%s", file.path, strings.Count(string(text), file.each), err, text)
		}
	}
}

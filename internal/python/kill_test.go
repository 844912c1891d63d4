package python

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"belfry/internal/job"
)

// there reports whether a file is in the environment that is being made.
func (p *place) there(pattern string) bool {
	found, _ := filepath.Glob(filepath.Join(p.data(), DirName, "*", pattern)) // the patterns are right
	return len(found) > 0
}

func TestAKilledMakerLeavesNothingThatIsTakenForAnEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		moment string
		is     func(p *place) bool
	}{
		{"venv has begun", func(p *place) bool { return p.there("pyvenv.cfg") }},
		{"pip is being unpacked", func(p *place) bool { return p.there("lib/*/site-packages/pip/__init__.py") }},
		{"a package is fetched", func(p *place) bool { return p.index.Asked("tiny-1.0-py3-none-any.whl") > 0 }},
		{"a package is in its place", func(p *place) bool { return p.there("lib/*/site-packages/tiny.py") }},
		{"the mark is written", func(p *place) bool { return p.there(markName+".new") || p.there(markName) }},
	} {
		t.Run(c.moment, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.write("requirements.txt", "tiny==1.0\n")
			killed := p.start("a", showTiny)
			until(t, c.moment, func() bool { return c.is(p) })
			killed.kill()
			<-killed.done
			if got := p.run("a", showTiny); !strings.HasSuffix(got, "tiny 1.0 True\n") {
				t.Errorf("after a kill -9 when %s:\n%s", c.moment, got)
			}
			if n := len(p.environments()); n != 1 {
				t.Errorf("there are %d environments", n)
			}
		})
	}
}

func TestAnInstallerThatOutlivesItsMakerIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.env.unset("PIP_INDEX_URL") // else uv is not taken
	p.env.set("PIP_CONFIG_FILE", os.DevNull)
	p.env.set("PATH", p.path("bin")+":/usr/bin:/bin")
	p.fifo("go")
	// It leaves a process that goes on writing when it has been killed itself.
	p.write("bin/uv", `#!/bin/sh
case $1 in
venv) exec python3 -m venv --without-pip "$6" ;;
esac
[ -e killed ] && exit
(touch installing; read line < go; touch "$5/../late"; echo left) &
wait
`)
	p.write("requirements.txt", "tiny\n")
	killed := p.start("a", "print('ran')")
	until(t, "it installs", func() bool { _, err := os.Stat(p.path("installing")); return err == nil })
	if err := killed.cmd.Process.Signal(syscall.SIGKILL); err != nil { // the maker alone
		t.Fatal(err)
	}
	p.write("killed", "")
	next := p.start("a", "print('ran')")
	next.says("belfry: another run makes the Python environment; waiting for it")
	if len(p.environments()) > 0 {
		t.Errorf("there is an environment: %v", p.environments())
	}
	write(t, p.path("go"))
	if got := next.ends(0); !strings.HasSuffix(got, "\nran\n") {
		t.Errorf("it says\n%s", got)
	}
	if p.there("bin/../late") {
		t.Error("what was left of the first installer wrote into the environment that is used")
	}
}

func TestTwoRunsAtOnceShareOneInstall(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("requirements.txt", "tiny==1.0\n")
	const file = "tiny-1.0-py3-none-any.whl"
	p.index.Hold(file)
	first := p.start("a", showTiny)
	until(t, "the package is fetched", func() bool { return p.index.Asked(file) > 0 })
	second := p.start("b", showTiny)
	second.says("waiting for it")
	p.index.Release()
	first.ends(0)
	if got, want := second.ends(0), "belfry: another run makes the Python environment; waiting for it\ntiny 1.0 True\n"; got != want {
		t.Errorf("the second says\n%s\nwant\n%s", got, want)
	}
	if n := p.index.Asked(file); n != 1 {
		t.Errorf("the package was fetched %d times", n)
	}
}

func TestTheNextMakesItWhenTheFirstFails(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("requirements.txt", "tiny==1.0\n")
	const file = "tiny-1.0-py3-none-any.whl"
	p.index.Hold(file)
	first := p.start("a", showTiny)
	until(t, "the package is fetched", func() bool { return p.index.Asked(file) > 0 })
	second := p.start("b", showTiny)
	second.says("waiting for it")
	_ = syscall.Kill(-first.cmd.Process.Pid, syscall.SIGTERM) // as a timeout, or a person, ends it
	<-first.done
	p.index.Release()
	if got := second.ends(0); !strings.HasSuffix(got, "\ntiny 1.0 True\n") || !strings.Contains(got, "belfry: made in") {
		t.Errorf("the second says\n%s", got)
	}
}

func TestALockThatWasRemovedIsNoLock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	first, err := lock(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	got := make(chan *os.File)
	go func() {
		second, err := lock(dir, func() { close(waits) })
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	<-waits
	if err := os.Remove(dir + lockExt); err != nil { // as who collects does, before it lets go
		t.Fatal(err)
	}
	_ = first.Close()
	second := <-got
	defer func() { _ = second.Close() }()
	if gone, err := removed(second); gone || err != nil {
		t.Errorf("the second holds a lock that is gone: %t, %v", gone, err)
	}
	if third, err := lock(dir, nil); err == nil {
		t.Errorf("a third has it too: %v", third.Name())
	}
}

func TestUvIsTakenWhenItIsInstalled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	// A stand-in: it notes what it is asked, and has venv and pip do it.
	p.write("bin/uv", `#!/bin/sh
echo "$@" >> uv.log
case $1 in
venv) exec python3 -m venv "$6" ;;
pip) exec env PIP_INDEX_URL=`+p.index.URL+` "$5" -m pip install "$6" "$7" ;;
esac
`)
	p.env.set("PATH", p.path("bin")+":/usr/bin:/bin")
	p.write("requirements.txt", "tiny==1.0\n")
	asked := func() string {
		text, err := os.ReadFile(p.path("uv.log"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	// It knows no PIP_…, and would look elsewhere.
	if got := p.run("a", showTiny); !strings.HasSuffix(got, "\ntiny 1.0 True\n") || asked() != "" {
		t.Errorf("with PIP_INDEX_URL uv was asked %q:\n%s", asked(), got)
	}
	p.env.unset("PIP_INDEX_URL")
	p.env.set("PIP_CONFIG_FILE", os.DevNull) // whatever this machine has
	p.write("requirements.txt", "tiny==2.0\n")
	if got := p.run("a", showTiny); !strings.HasSuffix(got, "\ntiny 2.0 True\n") || !strings.Contains(got, " and uv\n") {
		t.Errorf("with uv:\n%s", got)
	}
	dir := Of(p.data(), "a")
	find, err := find(p.env, "")
	if err != nil {
		t.Fatal(err)
	}
	want := "venv --no-project --allow-existing --python " + find.path + " " + dir + "\n" +
		"pip install --compile-bytecode --python " + dir + "/bin/python -r " + p.path("requirements.txt") + "\n"
	if asked() != want {
		t.Errorf("uv was asked\n%swant\n%s", asked(), want)
	}
	p.write("requirements.txt", "tiny==9.9\n")
	failed := p.start("a", showTiny)
	failed.ends(ExitRefused)
	if got := Refusal(failed.dir); !strings.Contains(got, "uv pip install -r requirements.txt: exit status 1: ERROR: No matching distribution found") {
		t.Errorf("the reason is %q", got)
	}
	p.env.unset("PIP_CONFIG_FILE")
	for _, name := range []string{"home/.config/pip/pip.conf", "home/Library/Application Support/pip/pip.conf"} { // Linux's, and macOS'
		p.write(name, "[global]\nindex-url = "+p.index.URL+"\n")
		// This machine may have one of its own.
		if uv := uvOf(p.env); uv != "" || !slices.Contains(pipFiles(p.env), p.path(name)) {
			t.Errorf("with %s %s is taken", name, uv)
		}
		if err := os.Remove(p.path(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatDebianLacksIsSaid(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	// A stand-in for a Debian without python3-venv, in Debian's words.
	p.write("bin/python3", `#!/bin/sh
case "$*" in
*ensurepip*) exit 1 ;;
*venv*) echo "The virtual environment was not created successfully because ensurepip is not available."; exit 1 ;;
*version_info*) echo "3 11 2 $0" ;;
esac
`)
	p.env.set("PATH", p.path("bin"))
	p.write("requirements.txt", "tiny\n")
	a := p.start("a", showTiny)
	if log := a.ends(ExitRefused); !strings.Contains(log, "not created successfully") {
		t.Errorf("the log lacks venv's words:\n%s", log)
	}
	const want = "has no venv and ensurepip; on Debian and Ubuntu they are in the package python3.11-venv"
	if got := Refusal(a.dir); !strings.Contains(got, want) {
		t.Errorf("the reason is %q, want %q", got, want)
	}
	if _, err := Check(p.env, ""); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a check says %v, want %q", err, want)
	}
	p.env.set("PATH", p.path("none"))
	if _, err := Check(p.env, ""); err == nil || !strings.Contains(err.Error(), "there is no python3 in PATH ("+p.path("none")+")") {
		t.Errorf("without any, a check says %v", err)
	}
	p.env.set("PATH", "/usr/bin:/bin")
	if found, err := Check(p.env, ">=3.6"); err != nil || !strings.HasPrefix(found, "Python 3.") {
		t.Errorf("with Debian's own, a check says %q, %v", found, err)
	}
}

func TestAnInterpreterIsChosenByItsVersion(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, f := range [][2]string{{"python3", "3 9 2"}, {"python3.9", "3 9 2"}, {"python3.12", "3 12 1"}, {"python3.13", "3 13 0"}} {
		p.write("bin/"+f[0], "#!/bin/sh\necho \""+f[1]+" $0\"\n")
	}
	p.write("bin/python3.14", "#!/bin/sh\necho 'pyenv: python3.14: command not found' >&2\nexit 127\n") // a shim
	p.write("bin/python3-config", "#!/bin/sh\nexit 1\n")
	env := environ{"PATH=" + p.path("bin")}
	for condition, want := range map[job.Versions]string{
		"":             "3.9.2", // python3, whatever else there is
		">=3.9":        "3.9.2",
		">=3.10":       "3.13.0", // the newest
		">=3.10,<3.13": "3.12.1",
		"3.12":         "3.12.1",
		"~=3.9.1":      "3.9.2",
	} {
		if got, err := find(env, condition); err != nil || got.version != want {
			t.Errorf("%q: %+v, %v; want %s", condition, got, err, want)
		}
	}
	dir := p.path("bin")
	want := "no Python in PATH is >=3.14: " + dir + "/python3 is 3.9.2, " + dir + "/python3.13 is 3.13.0, " + dir + "/python3.12 is 3.12.1, " + dir + "/python3.9 is 3.9.2"
	if _, err := find(env, ">=3.14"); err == nil || err.Error() != want {
		t.Errorf("none fits: %v\nwant %s", err, want)
	}
	if err := os.Remove(p.path("bin/python3")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"python3.9", "python3.12", "python3.13"} {
		if err := os.Remove(p.path("bin/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := find(env, ""); err == nil || !strings.HasSuffix(err.Error(), "/bin/python3.14 does not tell its version: pyenv: python3.14: command not found") {
		t.Errorf("with one that does not work: %v", err)
	}
}

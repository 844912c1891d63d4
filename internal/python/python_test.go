package python

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/job"
	"belfry/internal/python/pythontest"
)

const showTiny = `import os, sys, tiny; print("tiny", tiny.VERSION, sys.prefix == os.environ["VIRTUAL_ENV"])`

func TestACommandRunsInAnEnvironmentThatIsMadeOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("requirements.txt", "tiny==1.0\n")
	p.env.set("PYTHONHOME", "/nowhere")
	first := p.run("a", showTiny)
	for _, words := range []string{"belfry: making the Python environment of " + p.path("requirements.txt"), "Collecting tiny==1.0", "Successfully installed tiny-1.0", "belfry: made in ", "\ntiny 1.0 True\n"} {
		if !strings.Contains(first, words) {
			t.Errorf("the first log lacks %q:\n%s", words, first)
		}
	}
	asked := p.index.Asked("tiny")
	if got := p.run("a", showTiny); got != "tiny 1.0 True\n" {
		t.Errorf("the second time it says %q; want the job's output alone", got)
	}
	// Another job with the same needs, and a program that the package brings.
	tool := func(j *job.Job) { j.Command = job.Command{Text: "tiny", Shell: "/bin/sh"} }
	if got := p.run("b", "", tool); got != "tiny 1.0\n" {
		t.Errorf("another job says %q", got)
	}
	if now := p.index.Asked("tiny"); now != asked || len(p.environments()) != 1 {
		t.Errorf("the index was asked %d times more; environments %v, want one", now-asked, p.environments())
	}
	for _, name := range []string{"a", "b"} {
		if got, want := Of(p.data(), name), p.environments()[0]; got != want {
			t.Errorf("the environment of %s is %q, want %q", name, got, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(p.environments()[0], ".tmp")); left != nil {
		t.Errorf("it left %v", left)
	}

	// Removed by hand, and in a folder that was moved, it is made again.
	if err := os.RemoveAll(p.environments()[0]); err != nil {
		t.Fatal(err)
	}
	if again := p.run("a", showTiny); !strings.Contains(again, "belfry: made in ") || !strings.HasSuffix(again, "\ntiny 1.0 True\n") {
		t.Errorf("after it was removed:\n%s", again)
	}
	if err := os.Rename(p.data(), p.path("moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("moved", p.data()); err != nil { // as a release has a link to the data
		t.Fatal(err)
	}
	if again := p.run("a", "import tiny; print(tiny.__file__)"); !strings.Contains(again, "\n"+p.path("moved")+"/") {
		t.Errorf("after its folder was moved:\n%s", again)
	}
}

func TestAnInstallThatFailsIsTheRunsFailureAndTouchesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fifo("begun")
	p.fifo("go")
	p.write("requirements.txt", "tiny==1.0\n")
	long := p.start("a", `open("begun", "w").close(); open("go").read(); `+showTiny)
	read(t, p.path("begun"))
	before := p.environments()

	p.write("requirements.txt", "tiny==9.9\n")
	failed := p.start("a", showTiny)
	log := failed.ends(ExitRefused)
	const words = "ERROR: No matching distribution found for tiny==9.9"
	if !strings.Contains(log, words) || strings.Contains(log, "tiny 9.9") {
		t.Errorf("the log lacks pip's words:\n%s", log)
	}
	want := "its Python environment could not be made: pip install -r requirements.txt: exit status 1: " + words
	if got := Refusal(failed.dir); got != want {
		t.Errorf("the reason is %q\nwant %q", got, want)
	}
	// Another change: the job goes on in the old environment, the next is in a new.
	p.write("requirements.txt", "tiny==2.0\n")
	if got := p.run("a", showTiny); !strings.HasSuffix(got, "\ntiny 2.0 True\n") {
		t.Errorf("after a change:\n%s", got)
	}
	write(t, p.path("go"))
	if got := long.ends(0); !strings.HasSuffix(got, "\ntiny 1.0 True\n") {
		t.Errorf("the job that ran all the while says\n%s", got)
	}
	if Refusal(long.dir) != "" {
		t.Errorf("a job that began was refused: %s", Refusal(long.dir))
	}
	p.write("requirements.txt", "# as it was\ntiny==1.0 \\\n\n")
	if got := p.run("a", showTiny); got != "tiny 1.0 True\n" || len(before) != 1 || Of(p.data(), "a") != before[0] {
		t.Errorf("with what it was before, it says %q in %s; want the environment %v", got, Of(p.data(), "a"), before)
	}
}

func read(t *testing.T, path string) {
	t.Helper()
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRequirementsOfThisMachineAreInstalledWithoutANetwork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.env.unset("PIP_INDEX_URL")
	for _, f := range [][2]string{{"tiny", "1.0"}, {"other", "3.0"}} {
		file, content := pythontest.Wheel(t, f[0], f[1])
		p.write("wheels/"+file, string(content))
	}
	p.write("local/pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n")
	p.write("local/backend.py", backend)
	p.write("local/mine.py", "VERSION = 'mine'\n")
	p.write("requirements.txt", "--no-index\n--find-links ./wheels\n-r more.txt   # comment\n-c limits.txt\n-e ./local\ntiny\n")
	p.write("more.txt", "./wheels/other-3.0-py3-none-any.whl\n")
	p.write("limits.txt", "tiny<2\n")
	const script = `import tiny, other, mine; print("got", tiny.VERSION, other.VERSION, mine.VERSION)`
	if got := p.run("a", script); !strings.HasSuffix(got, "\ngot 1.0 3.0 mine\n") || p.index.Asked("tiny") != 0 {
		t.Errorf("offline:\n%s", got)
	}
	p.write("local/mine.py", "VERSION = 'edited'\n")
	if got := p.run("a", script); got != "got 1.0 3.0 edited\n" {
		t.Errorf("a package that stays in its place was edited:\n%s", got)
	}
	// PIP_… say the same.
	p.write("requirements.txt", "tiny\n")
	p.env.set("PIP_NO_INDEX", "1")
	p.env.set("PIP_FIND_LINKS", p.path("wheels"))
	if got := p.run("a", "import tiny; print('got', tiny.VERSION)"); !strings.HasSuffix(got, "\ngot 1.0\n") {
		t.Errorf("with PIP_FIND_LINKS:\n%s", got)
	}
	if len(p.environments()) != 2 {
		t.Errorf("environments %v, want two", p.environments())
	}
}

// backend is a builder of packages (PEP 660) that needs nothing else.
const backend = `import os, zipfile
def build_editable(folder, settings=None, metadata=None):
    name = "mine-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as w:
        w.writestr("mine.pth", os.getcwd() + "\n")
        w.writestr("mine-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
        w.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        w.writestr("mine-1.dist-info/RECORD", "mine.pth,,\nmine-1.dist-info/METADATA,,\nmine-1.dist-info/WHEEL,,\nmine-1.dist-info/RECORD,,\n")
    return name
`

func TestACommandThatCannotBeBegunIsToldAsOne(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, c := range []struct {
		why    string
		change func(j *job.Job)
		want   string
	}{
		{"a file that has gone since the project was read", func(*job.Job) {}, "its Python environment could not be made: read the requirements: open " + p.path("requirements.txt") + ": no such file or directory"},
		{"a folder", func(j *job.Job) { j.Python.Requirements = p.dir }, p.dir + " is a folder, not a requirements file"},
		{"a version that nothing has", func(j *job.Job) { j.Python.Version = ">=4" }, "no Python in PATH is >=4: /usr/bin/python3 is 3."},
	} {
		a := p.start("a", showTiny, c.change)
		log := a.ends(ExitRefused)
		if got := Refusal(a.dir); !strings.Contains(got, c.want) || !strings.Contains(log, c.want) {
			t.Errorf("%s: %q, want %q; its log:\n%s", c.why, got, c.want, log)
		}
	}
	p.write("requirements.txt", "")
	a := p.start("a", "", func(j *job.Job) { j.Command.Args = []string{"no-such-program"} })
	a.ends(ExitRefused)
	if got, want := Refusal(a.dir), "no-such-program: no such program in PATH ("+p.environments()[0]+"/bin:/usr/bin:/bin)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// What is noted of it shows no secret.
	p.env.set("WHERE", "hunter22")
	p.env.set("PATH", "/usr/bin:/bin:/opt/hunter22")
	a = p.start("a", "", func(j *job.Job) { j.Command.Args, j.Secrets = []string{"no-such-program"}, []string{"WHERE"} })
	a.ends(ExitRefused)
	if got := Refusal(a.dir); !strings.HasSuffix(got, ":/usr/bin:/bin:/opt/***)") {
		t.Errorf("what is noted: %q", got)
	}
	// The command's own end is its own, also with our code.
	a = p.start("a", "import sys; sys.exit(70)")
	a.ends(70)
	if got := Refusal(a.dir); got != "" {
		t.Errorf("a command that ends with 70 was refused: %q", got)
	}
}

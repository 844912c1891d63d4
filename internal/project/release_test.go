package project

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// folder makes a project of these files: a name and a text, and so on.
func folder(t *testing.T, files ...string) *Project {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "My Music")
	for i := 0; i < len(files); i += 2 {
		file := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return load(t, dir)
}

func load(t *testing.T, dir string) *Project {
	t.Helper()
	p, err := Load(filepath.Join(dir, FileName), Defaults{Owner: "me", Zone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func release(t *testing.T, p *Project) Release {
	t.Helper()
	r, err := p.Release()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func paths(r Release) (list []string) {
	for _, f := range r.Files {
		list = append(list, f.Path)
	}
	return list
}

func TestAReleaseHoldsWhatTheIgnoreFilesLeave(t *testing.T) {
	t.Parallel()
	p := folder(t,
		"belfry.yaml", "jobs:\n  a: {command: ./run.sh, env_file: conf/.env}\n",
		"run.sh", "#!/bin/sh\n", "conf/.env", "TOKEN=x\n", "conf/other", "x",
		".gitignore", "/conf/\n*.log\n!keep.log\nlogs/**\n", "a.log", "", "keep.log", "", "logs/x/y", "", "deep/a.log", "",
		".belfryignore", "notes\\ on *\n!deep/a.log\n", "notes on tracks", "", "sub/.gitignore", "/only-here\n", "sub/only-here", "", "only-here", "",
		".git/config", "", ".belfry/belfry.db", "", "__pycache__/x.pyc", "", "venv/bin/python", "", ".DS_Store", "", "deep/._a.log", "", "key.pem", "", "deep/key", "",
		"it's $(odd)\n\"name\"", "odd")
	if err := os.Symlink("run.sh", filepath.Join(p.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(p.Dir, "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := p.Release(filepath.Join(p.Dir, "deep", "key"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".belfryignore", ".gitignore", "belfry.yaml", "conf/.env", "deep/a.log", "it's $(odd)\n\"name\"", "keep.log", "link", "only-here", "run.sh", "sub/.gitignore"}
	if got := paths(r); !slices.Equal(got, want) {
		t.Errorf("the release has\n%q\nwant\n%q", got, want)
	}
	modes := map[string]os.FileMode{"conf/.env": 0o600, "run.sh": 0o755, "keep.log": 0o644}
	for _, f := range r.Files {
		if mode, ok := modes[f.Path]; ok && f.Mode != mode {
			t.Errorf("%s has mode %o, want %o", f.Path, f.Mode, mode)
		}
	}
}

func TestAKeyIsNotShippedWhateverWayLeadsToIt(t *testing.T) {
	t.Parallel()
	p := folder(t, "belfry.yaml", "jobs:\n  a: {command: x}\n", "key", "secret", "script", "")
	other := filepath.Join(t.TempDir(), "link") // as /tmp is to /private/tmp
	if err := os.Symlink(p.Dir, other); err != nil {
		t.Fatal(err)
	}
	r, err := p.Release(filepath.Join(other, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := paths(r), []string{"belfry.yaml", "script"}; !slices.Equal(got, want) {
		t.Errorf("the release has %q, want %q", got, want)
	}
}

// A second name of a file, which its folder does not list, is what another spelling
// is on a disk that is blind to case.
func TestAFileIsFoundByAnotherSpellingInTheList(t *testing.T) {
	t.Parallel()
	p := folder(t, "belfry.yaml", "jobs:\n  a: {command: x}\n", "conf/Secrets.env", "", "conf/other", "")
	dir := filepath.Join(p.Dir, "conf")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "Secrets.env"), filepath.Join(dir, "secrets.env")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"secrets.env": "Secrets.env", "Secrets.env": "Secrets.env", "other": "other", "none": "none"} {
		if got := listedAs(filepath.Join(dir, name), entries); got != want {
			t.Errorf("%s is listed as %s, want %s", name, got, want)
		}
	}
	for _, rel := range []string{"conf/Secrets.env", "conf/none", "none/x", FileName} {
		if got := p.listed(rel); got != rel {
			t.Errorf("%s is listed as %s", rel, got)
		}
	}
}

// What git leaves out of a commit is what is left out of a release.
func TestIgnoreFilesMeanWhatTheyMeanToGit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is missing")
	}
	names := []string{
		"a", "b.txt", "dir/a", "dir/b.txt", "dir/sub/a", "dir/sub/c.log", "sub/dir/a", "x/y/z/a", "x/y/b", "build/out", "src/build/out", "a b", "a[b]c", "abc", "axc",
		"foo/bar/baz", "foo/baz", "#hash", "!bang", "trailing ", "back\\slash", "z.TXT",
	}
	for _, rules := range []string{
		"a\n", "/a\n", "dir/\n", "dir/*\n", "dir/**\n", "**/a\n", "x/**/a\n", "*.txt\n!dir/b.txt\n", "build/\n", "/build\n", "a?c\n", "a[x-z]c\n", "a[!x]c\n", "a\\[b\\]c\n",
		"foo/*\n!foo/bar\n", "foo/bar/baz\n", "\\#hash\n\\!bang\n", "trailing\\ \n", "dir\n!dir/a\n", "*\n!*/\n!*.txt\n", "sub/\n/dir/sub\n", "**/dir/a\n", "x/**\n!x/y\n", "a b\n", "[\n", "**\n",
	} {
		files := []string{"belfry.yaml", "jobs: {a: {command: x}}", ".gitignore", rules}
		for _, name := range names {
			files = append(files, name, "")
		}
		p := folder(t, files...)
		git := func(args ...string) string {
			cmd := exec.Command("git", args...)
			cmd.Dir = p.Dir
			cmd.Env = []string{"HOME=" + p.Dir + "/nowhere", "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1"}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("git %v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		git("init", "-q")
		want := strings.Split(strings.TrimSuffix(git("ls-files", "-z", "--others", "--exclude-standard"), "\x00"), "\x00")
		if !slices.Contains(want, FileName) {
			want = append(want, FileName) // it is always shipped
		}
		slices.Sort(want)
		want = slices.DeleteFunc(want, func(name string) bool { return name == "" })
		if got := paths(release(t, p)); !slices.Equal(got, want) {
			t.Errorf("rules %q leave\n%q\nand with git\n%q", rules, got, want)
		}
	}
}

func TestAReleaseIsNamedByItsContentAndNotByItsPlace(t *testing.T) {
	t.Parallel()
	files := []string{"belfry.yaml", "project: music\njobs: {a: {command: x}}", "x", "1"}
	a, b := folder(t, files...), folder(t, files...)
	name := release(t, a).Name()
	if other := release(t, b).Name(); other != name {
		t.Errorf("equal folders are called %s and %s", name, other)
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "x"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if other := release(t, b).Name(); other == name {
		t.Error("a changed file does not change the name")
	}
	if got, root, ok := ReleaseAt("/home/u/belfry/music/releases/" + name); !ok || got != name || root != "/home/u/belfry/music" {
		t.Errorf("its folder is read as %q in %q, %v", got, root, ok)
	}
	for _, dir := range []string{"/releases/v1", "/a/b", "/", "/x/releases", "/rel/" + name} {
		if _, _, ok := ReleaseAt(dir); ok {
			t.Errorf("%s is taken for a release", dir)
		}
	}
}

func TestWhatIsPublishedIntoTheProjectOutlivesItsReleases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ to, shared, wrong string }{
		{"lake/tracks/dt=$BELFRY_DATE/", "lake/tracks", ""},
		{"s3://b/dt=$BELFRY_DATE/", "", ""},
		{"/srv/lake/dt=$BELFRY_DATE", "", ""},
		{"out/dt=$BELFRY_DATE", "out", ""},
		{"dt=$BELFRY_DATE", "", `as in "out/dt=$BELFRY_DATE"`},
		{"../lake/dt=$BELFRY_DATE", "", "beside the folder of the project"},
	} {
		p := folder(t, "belfry.yaml", "jobs:\n  a: {command: x, schedule: \"0 1 * * *\", publish: \""+c.to+"\"}\n", "lake/tracks/dt=1/x", "", "out/dt=1/x", "")
		r, err := p.Release()
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), "belfry.yaml:2") {
				t.Errorf("%s: %v, want %q", c.to, err, c.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.to, err)
			continue
		}
		if got := strings.Join(r.Shared, " "); got != c.shared {
			t.Errorf("%s: shared is %q, want %q", c.to, got, c.shared)
		}
		for _, path := range paths(r) {
			if c.shared != "" && strings.HasPrefix(path, c.shared) {
				t.Errorf("%s: %s is shipped", c.to, path)
			}
		}
	}
}

package python

import (
	"os"
	"path/filepath"
	"testing"
)

// It changes the working folder, from which relative requirements are found.
func TestAnEnvironmentIsKnownByWhatMakesIt(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	python := interpreter{"/usr/bin/python3.11", "3.11.2"}
	of := func() string {
		t.Helper()
		hash, err := identity("/data/python", python, filepath.Join(dir, "requirements.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	const base = "requests==2.31 \\\n  --hash=sha256:aa\n-r sub/more.txt\n-c limits.txt\n-e ./mine[extra]\n./built\nother @ file://" + "./x.whl ; python_version > '3'\n./x.whl\n"
	start := func() {
		write("requirements.txt", base)
		write("sub/more.txt", "-r again.txt\nnumpy\n")
		write("sub/again.txt", "-r more.txt\npandas\n") // in a circle
		write("limits.txt", "numpy<3\n")
		write("mine/pyproject.toml", "[project]\n")
		write("mine/code.py", "1\n")
		write("built/setup.py", "1\n")
		write("built/pkg/code.py", "1\n")
		write("x.whl", "1")
	}
	start()
	before := of()
	for _, c := range []struct {
		why    string
		change func()
		same   bool
	}{
		{"nothing", func() {}, true},
		{"comments and blank lines", func() { write("requirements.txt", "# new\n\n"+base+"   # more\n") }, true},
		{"a version", func() { write("requirements.txt", "requests==2.32\n") }, false},
		{"one of a continued line", func() {
			write("requirements.txt", base[:len("requests==2.31 \\\n  --hash=sha256:")]+"bb\n"+base[len("requests==2.31 \\\n  --hash=sha256:aa\n"):])
		}, false},
		{"an included file", func() { write("sub/more.txt", "-r again.txt\nnumpy==1\n") }, false},
		{"one that is included there", func() { write("sub/again.txt", "polars\n") }, false},
		{"one that has gone", func() { _ = os.Remove("sub/again.txt") }, false},
		{"a constraint", func() { write("limits.txt", "numpy<2\n") }, false},
		{"a wheel", func() { write("x.whl", "2") }, false},
		{"the code of a package that stays in its place", func() { write("mine/code.py", "2\n") }, true},
		{"what it needs", func() { write("mine/pyproject.toml", "[project]\ndependencies = []\n") }, false},
		{"the code of a package that is built", func() { write("built/pkg/code.py", "2\n") }, false},
		{"what building leaves", func() { write("built/build/lib/code.py", "1\n"); write("built/pkg.egg-info/PKG-INFO", "1\n") }, true},
		{"the same Python, asked for its version or not", func() { python.version = "3.11" }, true},
		{"a security update of Python", func() { python.version = "3.11.3" }, true},
		{"another Python", func() { python = interpreter{"/usr/bin/python3.12", "3.12.1"} }, false},
	} {
		start()
		python = interpreter{"/usr/bin/python3.11", "3.11.2"}
		c.change()
		if same := of() == before; same != c.same {
			t.Errorf("after a change of %s the environment is the same: %t, want %t", c.why, same, c.same)
		}
	}
	start()
	if elsewhere, err := identity("/moved/python", interpreter{"/usr/bin/python3.11", "3.11.2"}, filepath.Join(dir, "requirements.txt")); err != nil || elsewhere == before {
		t.Errorf("in another folder it is %s, %v; want another: it holds its path", elsewhere, err)
	}
}

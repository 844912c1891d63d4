package python

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"belfry/internal/job"
)

// interpreter is a Python on this machine.
type interpreter struct {
	path    string // without links, so that python3 may come to mean another one
	version string // 3.11, and 3.11.2 when it was asked
}

// minor is 3.11: packages are installed for it.
func (p interpreter) minor() string {
	parts := strings.SplitN(p.version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

var versioned = regexp.MustCompile(`^python3\.(\d+)$`)

// find chooses the interpreter: python3, or else the newest python3.X of PATH
// that the condition allows.
func find(env environ, allowed job.Versions) (interpreter, error) {
	var others []string
	var reason error
	seen := map[string]bool{} // python3 is python3.11 too
	for _, file := range candidates(env) {
		p, version, err := identify(env, file, allowed != "")
		switch {
		case err != nil:
			reason = cmp.Or(reason, err)
		case allowed.Allow(version):
			return p, nil
		case !seen[p.path]:
			seen[p.path] = true
			others = append(others, fmt.Sprintf("%s is %s", file, p.version))
		}
	}
	switch {
	case len(others) > 0:
		return interpreter{}, fmt.Errorf("no Python in PATH is %s: %s", allowed, strings.Join(others, ", "))
	case reason != nil:
		return interpreter{}, reason
	}
	return interpreter{}, fmt.Errorf("there is no python3 in PATH (%s); on Debian and Ubuntu the package is python3-venv", env.get("PATH"))
}

// candidates lists the interpreters in PATH, the one to be preferred first.
func candidates(env environ) []string {
	var list []string
	if file, err := env.lookPath("python3"); err == nil {
		list = append(list, file)
	}
	found := map[int]string{}
	for _, dir := range filepath.SplitList(env.get("PATH")) {
		files, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "python3.*"))
		for _, file := range files {
			parts := versioned.FindStringSubmatch(filepath.Base(file))
			if parts == nil || !executable(file) {
				continue
			}
			minor, _ := strconv.Atoi(parts[1]) // digits
			if found[minor] == "" {
				found[minor] = file
			}
		}
	}
	minors := make([]int, 0, len(found))
	for minor := range found {
		minors = append(minors, minor)
	}
	slices.SortFunc(minors, func(a, b int) int { return b - a })
	for _, minor := range minors {
		list = append(list, found[minor])
	}
	return list
}

func escapeGlob(dir string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllString(dir, `\$0`)
}

// identify finds out what an interpreter is. One that is called python3.11 when
// all links are followed, and is no script, says so by its name; others (a shim
// of pyenv) are asked, and all are when the whole version is to be known.
func identify(env environ, file string, whole bool) (p interpreter, version [3]int, err error) {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return p, version, err
	}
	if !whole && versioned.MatchString(filepath.Base(path)) && !script(path) {
		return interpreter{path, strings.TrimPrefix(filepath.Base(path), "python")}, version, nil
	}
	ask := exec.Command(file, "-I", "-S", "-c", `import sys; print(*sys.version_info[:3], getattr(sys, "_base_executable", None) or sys.executable)`)
	ask.Env = env
	var words bytes.Buffer
	ask.Stderr = &words
	out, err := ask.Output()
	if err != nil {
		return p, version, fmt.Errorf("%s does not tell its version: %s", file, cmp.Or(lastLine(words.String()), err.Error()))
	}
	var base string
	if _, err := fmt.Sscan(string(out), &version[0], &version[1], &version[2]); err == nil {
		_, base, _ = strings.Cut(strings.TrimSpace(string(out)), " /")
	}
	if path, err = filepath.EvalSymlinks("/" + base); err != nil || base == "" {
		return p, version, fmt.Errorf("%s says %q where its version and its place are wanted", file, strings.TrimSpace(string(out)))
	}
	return interpreter{path, fmt.Sprintf("%d.%d.%d", version[0], version[1], version[2])}, version, nil
}

func script(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var head [2]byte
	_, err = f.Read(head[:])
	return err == nil && string(head[:]) == "#!"
}

// Check says what keeps environments of these versions from being made with the
// PATH and the other variables of env.
func Check(variables []string, allowed job.Versions) (found string, err error) {
	env := environ(variables)
	p, err := find(env, allowed)
	if err != nil {
		return "", err
	}
	found = fmt.Sprintf("Python %s (%s)", p.version, p.path)
	if uv := uvOf(env); uv != "" {
		return found + ", with " + uv, nil
	}
	return found, lacksVenv(env, p)
}

// lacksVenv says that an interpreter cannot make virtual environments, and what
// to install.
func lacksVenv(env environ, p interpreter) error {
	ask := exec.Command(p.path, "-I", "-c", "import venv, ensurepip")
	ask.Env = env
	if err := ask.Run(); err == nil {
		return nil
	}
	return fmt.Errorf("%s has no venv and ensurepip; on Debian and Ubuntu they are in the package python%s-venv", p.path, p.minor())
}

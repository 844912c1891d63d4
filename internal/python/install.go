package python

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// installer fills the folder of an environment, with uv or with venv and pip.
type installer struct {
	environment
	env  environ
	uv   string   // its path; empty: venv and pip do it
	out  *os.File // the attempt's log
	held *os.File // the maker's lock, which the programs have too
}

func newInstaller(e environment, env environ, out, held *os.File) *installer {
	i := &installer{environment: e, uv: uvOf(env), out: out, held: held}
	for _, name := range []string{"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"} { // they are for the job's Python
		env.unset(name)
	}
	for _, name := range []string{"PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_INPUT"} { // nobody is there to read and answer
		env.set(name, "1")
	}
	env.set("PIP_PROGRESS_BAR", "off") // a log is not a terminal
	env.set("PIP_USER", "0")           // which some machines' pip.conf has, and venv refuses
	env.set("UV_PYTHON_DOWNLOADS", "never")
	i.env = env
	return i
}

// uvOf gives the path of uv when it is installed, and pip is not configured: uv
// reads neither PIP_… nor pip.conf, and would ask another index than was meant.
func uvOf(env environ) string {
	uv, err := env.lookPath("uv")
	if err != nil || pipConfigured(env) {
		return ""
	}
	return uv
}

func pipConfigured(env environ) bool {
	const noFiles = "PIP_CONFIG_FILE=" + os.DevNull // as pip has it
	for _, v := range env {
		if strings.HasPrefix(v, "PIP_") && v != noFiles {
			return true
		}
	}
	return !slices.Contains(env, noFiles) && slices.ContainsFunc(pipFiles(env), func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	})
}

// pipFiles are the places where pip has its configuration, on Linux and on macOS.
func pipFiles(env environ) []string {
	home := env.get("HOME")
	const mac = "Library/Application Support/pip/pip.conf"
	return []string{
		"/etc/pip.conf", "/etc/xdg/pip/pip.conf", filepath.Join(home, ".pip", "pip.conf"),
		filepath.Join(cmp.Or(env.get("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "pip", "pip.conf"),
		"/" + mac, filepath.Join(home, mac),
	}
}

func (i *installer) name() string {
	if i.uv != "" {
		return "uv"
	}
	return "pip"
}

// install makes the environment in its folder, all but its mark.
func (i *installer) install() error {
	if err := os.Mkdir(i.dir, 0o700); err != nil {
		return err
	}
	// Beside the result, and removed with it: pip leaves what it unpacked when it
	// is killed, and /tmp may be small, or memory.
	temp := filepath.Join(i.dir, ".tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if i.env.get("TMPDIR") == "" {
		i.env.set("TMPDIR", temp)
	}
	if err := i.create(); err != nil {
		return err
	}
	if i.requirements != "" {
		if err := i.fill(); err != nil {
			return err
		}
	}
	return os.RemoveAll(temp)
}

func (i *installer) create() error {
	if i.uv != "" {
		return i.run("uv venv", i.uv, "venv", "--no-project", "--allow-existing", "--python", i.python.path, i.dir)
	}
	// -I here and below: no module of the project's folder is taken for Python's own.
	err := i.run("python3 -m venv", i.python.path, "-I", "-m", "venv", i.dir)
	if err == nil {
		return nil
	}
	return cmp.Or(lacksVenv(i.env, i.python), err)
}

func (i *installer) fill() error {
	python, what := filepath.Join(i.dir, "bin", "python"), "pip install -r "+filepath.Base(i.requirements)
	if i.uv != "" {
		return i.run("uv "+what, i.uv, "pip", "install", "--compile-bytecode", "--python", python, "-r", i.requirements)
	}
	return i.run(what, python, "-I", "-m", "pip", "install", "-r", i.requirements)
}

// run has a program print into the log. It ends with us, and holds the lock
// until it has. Its error calls it what, and has its own words.
func (i *installer) run(what, program string, args ...string) error {
	words := &tail{}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = i.env, i.out, io.MultiWriter(i.out, words)
	cmd.ExtraFiles = []*os.File{i.held}
	cmd.SysProcAttr = diesWithUs
	cmd.WaitDelay = 10 * time.Second // for what it leaves running
	runtime.LockOSThread()           // the kernel means the thread that started it
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if said := words.error(); said != "" {
		return fmt.Errorf("%s: %w: %s", what, err, said)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// tail keeps the end of what a program says.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 8 << 10
	t.text = append(t.text, p...)
	if len(t.text) > most {
		t.text = slices.Clone(t.text[len(t.text)-most:])
	}
	return len(p), nil
}

// error gives the line that says what went wrong: the last that is called an
// error, or else the last.
func (t *tail) error() string {
	lines := strings.Split(string(t.text), "\n")
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(line)
		for _, begin := range []string{"ERROR: ", "error: ", "× "} { // pip's, uv's
			if strings.HasPrefix(line, begin) {
				return shorten(line)
			}
		}
	}
	return lastLine(string(t.text))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return shorten(strings.TrimSpace(lines[len(lines)-1]))
}

func shorten(line string) string {
	const most = 300
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}

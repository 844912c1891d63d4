package python

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/machine"
	"belfry/internal/python/pythontest"
)

// The test binary is “belfry python” too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "python" {
		fmt.Fprintf(os.Stderr, "belfry: %v\n", Begin(os.Args[2:], os.Environ(), os.Stdout))
		os.Exit(ExitRefused)
	}
	os.Exit(m.Run())
}

// place is a project's folder with a data folder, and an index for it.
type place struct {
	t     *testing.T
	dir   string
	index *pythontest.Index
	env   environ
	n     int // attempts
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if exec.Command("/usr/bin/python3", "-c", "import ensurepip").Run() != nil {
		machine.Lacks(t, "python3-venv in /usr/bin")
	}
	p := &place{t: t, dir: t.TempDir(), index: pythontest.New(t)}
	p.env = environ{"HOME=" + p.path("home"), "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PIP_INDEX_URL=" + p.index.URL, "GORACE=atexit_sleep_ms=0"}
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }
func (p *place) data() string            { return p.path("data") }

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// fifo makes a named pipe, by which a job and its test wait for each other.
func (p *place) fifo(name string) {
	p.t.Helper()
	if err := syscall.Mkfifo(p.path(name), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// attempt is one of a job, in a session of its own as under the keeper.
type attempt struct {
	p    *place
	cmd  *exec.Cmd
	dir  string
	done chan struct{}

	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

func (a *attempt) Write(text []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said.Write(text)
}

func (a *attempt) log() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said.String()
}

// start starts an attempt of a job called name, with requirements.txt and what
// else change says.
func (p *place) start(name, script string, change ...func(*job.Job)) *attempt {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.n++
	a := &attempt{p: p, dir: p.path(fmt.Sprintf("attempt%d", p.n)), done: make(chan struct{})}
	if err := os.Mkdir(a.dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	j := &job.Job{ID: job.ID{Name: name}, Settings: &job.Settings{}, Command: job.Command{Args: []string{"python3", "-c", script}}}
	j.Python.Requirements = p.path("requirements.txt")
	for _, f := range change {
		f(j)
	}
	args := Args([]string{self}, p.data(), j, a.dir)
	a.cmd = exec.Command(args[0], args[1:]...)
	a.cmd.Dir, a.cmd.Env = p.dir, p.env
	a.cmd.Stdout, a.cmd.Stderr = a, a
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := a.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(a.done)
		_ = a.cmd.Wait() // the exit code tells
	}()
	p.t.Cleanup(func() {
		a.kill()
		<-a.done
	})
	return a
}

// kill ends all processes of the attempt that stayed in its group, at once.
func (a *attempt) kill() { _ = syscall.Kill(-a.cmd.Process.Pid, syscall.SIGKILL) }

// ends waits for the attempt, which must end with this code, and gives its log.
func (a *attempt) ends(code int) string {
	a.p.t.Helper()
	<-a.done
	if got := a.cmd.ProcessState.ExitCode(); got != code {
		a.p.t.Fatalf("the attempt ended with %d, want %d:\n%s", got, code, a.log())
	}
	return a.log()
}

// says waits for words in the log.
func (a *attempt) says(words string) {
	a.p.t.Helper()
	until(a.p.t, "the log says "+words, func() bool {
		select {
		case <-a.done:
			if !strings.Contains(a.log(), words) {
				a.p.t.Fatalf("the attempt ended without saying %q:\n%s", words, a.log())
			}
		default:
		}
		return strings.Contains(a.log(), words)
	})
}

// run runs an attempt to its end, which is to be a good one.
func (p *place) run(name, script string, change ...func(*job.Job)) string {
	p.t.Helper()
	return p.start(name, script, change...).ends(0)
}

// until polls.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited a minute until %s", what)
		}
	}
}

// environments lists those that are whole.
func (p *place) environments() []string {
	p.t.Helper()
	marks, err := filepath.Glob(filepath.Join(p.data(), DirName, "*", markName))
	if err != nil {
		p.t.Fatal(err)
	}
	dirs := make([]string, len(marks))
	for i, m := range marks {
		dirs[i] = filepath.Dir(m)
	}
	return dirs
}

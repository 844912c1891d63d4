package python

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/machine"
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
	index *index
	env   environ
	n     int // attempts
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if exec.Command("/usr/bin/python3", "-c", "import ensurepip").Run() != nil {
		machine.Lacks(t, "python3-venv in /usr/bin")
	}
	p := &place{t: t, dir: t.TempDir(), index: newIndex(t)}
	p.env = environ{"HOME=" + p.path("home"), "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PIP_INDEX_URL=" + p.index.url, "GORACE=atexit_sleep_ms=0"}
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

// wheel makes a package with one module, which says its version.
func wheel(t *testing.T, name, version string) (file string, content []byte) {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	info := name + "-" + version + ".dist-info/"
	var record strings.Builder
	for _, f := range [][2]string{
		{name + ".py", fmt.Sprintf("VERSION = %q\n\ndef main():\n    print(%q)\n", version, name+" "+version)},
		{info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: belfry\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "entry_points.txt", "[console_scripts]\n" + name + " = " + name + ":main\n"},
	} {
		fmt.Fprintf(&record, "%s,,\n", f[0])
		part, err := w.Create(f[0])
		if err == nil {
			_, err = part.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.Create(info + "RECORD")
	if err == nil {
		_, err = part.Write([]byte(record.String() + info + "RECORD,,\n"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s-%s-py3-none-any.whl", name, version), buf.Bytes()
}

// index is a package index (PEP 503) in place of PyPI.
type index struct {
	url string

	mu     sync.Mutex
	wheels map[string][]byte // guarded by mu
	asked  map[string]int    // guarded by mu; by the last part of the path
	hold   map[string]chan struct{}
}

func newIndex(t *testing.T) *index {
	t.Helper()
	x := &index{wheels: map[string][]byte{}, asked: map[string]int{}, hold: map[string]chan struct{}{}}
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	t.Cleanup(x.release)
	x.url = server.URL + "/simple/"
	for _, version := range []string{"1.0", "2.0"} {
		file, content := wheel(t, "tiny", version)
		x.wheels[file] = content
	}
	return x
}

// holds makes the index keep who asks for a name waiting until release.
func (x *index) holds(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hold[name] = make(chan struct{})
}

func (x *index) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, ch := range x.hold {
		close(ch)
		delete(x.hold, name)
	}
}

func (x *index) times(name string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked[name]
}

func (x *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	x.mu.Lock()
	x.asked[name]++
	hold, content := x.hold[name], x.wheels[name]
	var links strings.Builder
	for file := range x.wheels {
		if strings.HasPrefix(file, name+"-") {
			fmt.Fprintf(&links, "<a href=\"/files/%s\">%s</a>\n", file, file)
		}
	}
	x.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case content != nil:
		_, _ = w.Write(content)
	case links.Len() > 0:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><html><body>%s</body></html>", links.String())
	default:
		http.NotFound(w, r)
	}
}

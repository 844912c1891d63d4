package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"belfry/api"
	"belfry/internal/proc/proctest"
)

// The test binary is belfry too: when it is called so by a script or a test,
// and when a daemon of ours executes itself: go test gives it flags.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") || filepath.Base(os.Args[0]) == "belfry" {
		os.Exit(Main(os.Args))
	}
	testscript.Main(m, map[string]func(){"belfry": func() { os.Exit(Main(os.Args)) }})
}

// Each script is one story of a user; scripts stand in testdata/script.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			for _, v := range settings(env.WorkDir) {
				name, value, _ := strings.Cut(v, "=")
				env.Setenv(name, value)
			}
			env.Defer(func() { proctest.EndKeepers(t, env.WorkDir) })
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Defer(func() { _ = taken.Close() })
			env.Setenv("TAKEN", taken.Addr().String())
			return os.Mkdir(filepath.Join(env.WorkDir, "mail"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// exits CODE COMMAND…: the command ends with exactly that code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				var exit *exec.ExitError
				got := 0
				if errors.As(err, &exit) {
					got = exit.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("%v: exit code %d, want %d", args[1:], got, want)
				}
			},
		},
	})
}

// settings is the environment of every belfry that a test starts.
func settings(dir string) []string {
	return []string{
		"HOME=" + dir, "TZ=UTC", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH"), "USER=tester",
		"BELFRY_MAIL_SPOOL=" + filepath.Join(dir, "mail"), "GORACE=atexit_sleep_ms=0",
	}
}

// place is a folder with everything that a belfry of a test touches.
type place struct {
	t      *testing.T
	dir    string
	env    []string
	binary string // of belfry; empty: this one
}

// newPlace makes a folder with these files: a name and a text, and so on.
func newPlace(t *testing.T, files ...string) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir()}
	p.env = settings(p.dir)
	if err := os.Mkdir(p.path("mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		p.write(files[i], files[i+1])
	}
	t.Cleanup(func() { proctest.EndKeepers(t, p.dir) })
	return p
}

// copyExample copies examples/ttandaudio to dir, without what was made in it.
func copyExample(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", "../../examples/ttandaudio/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the example: %v\n%s", err, out)
	}
	for _, made := range []string{".belfry", "lake"} {
		if err := os.RemoveAll(filepath.Join(dir, made)); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) read(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// fifo makes a named pipe, by which a job and its test wait for each other.
func (p *place) fifo(name string) string {
	p.t.Helper()
	if err := syscall.Mkfifo(p.path(name), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return p.path(name)
}

// let writes a line into a fifo, which waits for the job that reads it.
func (p *place) let(name string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte("go\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// await reads a line from a fifo, which waits for the job that writes it.
func (p *place) await(name string) {
	p.t.Helper()
	if _, err := os.ReadFile(p.path(name)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) command(args ...string) *exec.Cmd {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(cmp.Or(p.binary, self), args...)
	cmd.Args[0] = "belfry"
	cmd.Dir, cmd.Env = p.dir, p.env
	return cmd
}

// belfry carries out a command and gives what it said.
func (p *place) belfry(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := p.command(args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if failed := cmd.Run(); failed != nil && !errors.As(failed, &exit) {
		p.t.Fatalf("belfry %v: %v", args, failed)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// client talks to whoever owns the place.
func (p *place) client() *api.Client {
	client := api.Unix(p.path(dataName))
	p.t.Cleanup(client.Close)
	return client
}

// finished waits for the end of a run.
func (p *place) finished(ref string) api.Run {
	p.t.Helper()
	client := p.client()
	r, err := client.Run(context.Background(), ref)
	for err == nil && !r.Finished() {
		r, err = client.Await(context.Background(), r)
	}
	if err != nil {
		p.t.Fatalf("wait for %s: %v", ref, err)
	}
	return r
}

// show reads a run from the files.
func (p *place) show(ref string) api.Run {
	p.t.Helper()
	out, stderr, code := p.belfry("show", ref, "--json")
	var r api.Run
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		p.t.Fatalf("show %s: %d, %v\n%s%s", ref, code, err, out, stderr)
	}
	return r
}

// told waits until everything that a run owes to people has been sent.
func (p *place) told(ref string) {
	p.t.Helper()
	client := p.client()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		r, err := client.Run(ctx, ref)
		if err != nil {
			p.t.Fatalf("wait for the news of %s: %v", ref, err)
		}
		if r.Finished() && !slices.ContainsFunc(r.Notices, func(n api.Notice) bool { return n.State != "sent" }) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			p.t.Fatalf("the news of %s: %+v", ref, r.Notices)
		}
	}
}

// process is a belfry that runs beside the test.
type process struct {
	p     *place
	cmd   *exec.Cmd
	lines chan string // of standard error; closed at its end
	ended bool
}

// start starts a command. Its standard error must be read with until or end.
func (p *place) start(args ...string) *process {
	p.t.Helper()
	return p.startBinary("", args...)
}

// startBinary starts another binary than this one.
func (p *place) startBinary(binary string, args ...string) *process {
	p.t.Helper()
	cmd := p.command(args...)
	if binary != "" {
		cmd.Path = binary
	}
	return p.run(cmd)
}

// run starts a command whose standard error is then read.
func (p *place) run(cmd *exec.Cmd) *process {
	p.t.Helper()
	b := &process{p: p, cmd: cmd, lines: make(chan string, 1000)}
	pipe, err := b.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(b.kill)
	go func() {
		defer close(b.lines)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			b.lines <- lines.Text()
		}
	}()
	return b
}

// serve starts a daemon and waits until it is ready.
func (p *place) serve(args ...string) *process {
	p.t.Helper()
	b := p.start(append([]string{"serve"}, args...)...)
	b.until(": ready,")
	return b
}

// until reads what the process says until a line holds text.
func (b *process) until(text string) {
	b.p.t.Helper()
	var said []string
	for line := range b.lines {
		if said = append(said, line); strings.Contains(line, text) {
			return
		}
	}
	b.p.t.Fatalf("%v ended without saying %q:\n%s", b.cmd.Args, text, strings.Join(said, "\n"))
}

// after reads what the process says until a line holds text, and gives the rest
// of that line.
func (b *process) after(text string) string {
	b.p.t.Helper()
	for line := range b.lines {
		if _, rest, found := strings.Cut(line, text); found {
			return rest
		}
	}
	b.p.t.Fatalf("%v ended without saying %q", b.cmd.Args, text)
	return ""
}

// wait waits for the process's own end and gives its exit code.
func (b *process) wait() int {
	if !b.ended {
		b.ended = true
		for range b.lines { // to its end
		}
		_ = b.cmd.Wait() // the exit code tells
	}
	return b.cmd.ProcessState.ExitCode()
}

// kill ends the process with KILL.
func (b *process) kill() { b.end(syscall.SIGKILL) }

// end ends the process and gives its exit code.
func (b *process) end(signal syscall.Signal) int {
	if !b.ended {
		b.signal(signal)
	}
	return b.wait()
}

func (b *process) signal(signal syscall.Signal) {
	b.p.t.Helper()
	if err := b.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.p.t.Error(err)
	}
}

//go:build linux

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/machine"
)

// container is a belfry that is process 1 of namespaces of its own, in a root
// folder that holds the binary, busybox and what the test puts there.
type container struct {
	t      *testing.T
	root   string
	stdout *output
	lines  chan string // of standard error; closed at its end
	pid    int
	done   chan struct{}
	state  *os.ProcessState // once done
}

// output is what is printed, and can be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// setUpContainer makes $1 the root, read-only but for /tmp and what $2 names,
// and becomes what follows.
const setUpContainer = `set -e
root=$1 data=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs none "$root/tmp"
if [ -n "$data" ]; then mount --bind "$root/$data" "$root/$data"; fi
mount -o remount,bind,ro "$root"
cd "$root"
exec chroot --userspec="$user" "$root" "$@"`

// image makes a container's root folder.
func image(t *testing.T, crontab string) string {
	t.Helper()
	machine.NeedsRoot(t)
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if errors.Is(err, os.ErrNotExist) {
		busybox, err = os.ReadFile("/bin/busybox")
	}
	if err != nil {
		t.Fatalf("Debian's package busybox-static is missing (tools/test.sh installs it): %v", err)
	}
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"proc", "dev", "tmp", "bin", "data"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "seq", "id", "kill", "cat"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	build(t, filepath.Join(root, "belfry"))
	writeFile(t, filepath.Join(root, "crontab"), crontab)
	return root
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// contain starts a command as process 1 in root. data names what can be written
// there besides /tmp.
func contain(t *testing.T, root, data, user string, command ...string) *container {
	t.Helper()
	c := &container{t: t, root: root, stdout: &output{}, lines: make(chan string, 1000), done: make(chan struct{})}
	cmd := exec.Command("sh", append([]string{"-c", setUpContainer, "sh", root, data, user}, command...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=from the container"}
	cmd.Stdout = c.stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the death signal comes with the death of the thread
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			c.lines <- lines.Text()
		}
		close(c.lines)
		_ = cmd.Wait() // its state tells
		c.state = cmd.ProcessState
	}()
	if err := <-started; err != nil {
		machine.Lacks(t, "mount and process namespaces (CAP_SYS_ADMIN): %v", err)
	}
	c.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // it may have ended
		for range c.lines {
		}
		<-c.done
	})
	return c
}

func (c *container) until(text string) {
	c.t.Helper()
	var said []string
	for line := range c.lines {
		if said = append(said, line); strings.Contains(line, text) {
			return
		}
	}
	c.t.Fatalf("the container ended without saying %q:\n%s", text, strings.Join(said, "\n"))
}

func (c *container) signal(signal syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.pid, signal); err != nil {
		c.t.Fatal(err)
	}
}

// ends waits for its end and gives its exit code and what the jobs printed.
func (c *container) ends() (code int, stdout string) {
	c.t.Helper()
	var said []string
	for line := range c.lines {
		said = append(said, line)
	}
	<-c.done
	if c.state.ExitCode() < 0 {
		c.t.Errorf("the container ended by %v:\n%s", c.state, strings.Join(said, "\n"))
	}
	return c.state.ExitCode(), c.stdout.String()
}

// account gives the runs that are in the container's data folder.
func (c *container) account(data string) map[string]api.Run {
	c.t.Helper()
	p := newPlace(c.t)
	out, stderr, code := p.belfry("runs", "--json", "--data", filepath.Join(c.root, data))
	var list []api.Run
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		c.t.Fatalf("runs --json: %v, exit code %d\n%s%s", err, code, out, stderr)
	}
	runs := map[string]api.Run{}
	for _, r := range list {
		runs[r.Job] = r
	}
	return runs
}

func TestInAContainerJobsFireOnTheMinuteWithItsEnvironmentAndPrintToItsOutput(t *testing.T) {
	t.Parallel()
	root := image(t, `* * * * * echo "$GREETING, $(id -u), $HOME, $0"; cat; printf 'no end of line'%line one%line two
@reboot seq 1 30000
#belfry: name=parent
@reboot { sleep 3; echo left behind; } &
`)
	c := contain(t, root, "", "12345:12345", "/belfry", "serve", "--crontab", "/crontab")
	c.until("the account of the runs is in /tmp/belfry-12345")
	c.until(": ready, 3 jobs")
	for range 3 {
		c.until("state=succeeded")
	}
	c.waitFor("the line of what a job has left behind", func() bool { return strings.Contains(c.stdout.String(), "parent: left behind\n") })
	c.signal(syscall.SIGTERM)
	code, out := c.ends()
	if code != 0 {
		t.Errorf("the container ends with %d after TERM; want 0", code)
	}
	if want := "echo: from the container, 12345, /, /bin/sh\necho: line one\necho: line two\necho: no end of line\n"; !strings.Contains(out, want) {
		t.Errorf("the jobs printed\n%.2000s\nwithout\n%s", out, want)
	}
	next := 1
	for line := range strings.Lines(out) {
		if number, ok := strings.CutPrefix(line, "seq: "); ok {
			if number != fmt.Sprintf("%d\n", next) {
				t.Fatalf("after line %d of 30000 comes %q", next-1, number)
			}
			next++
		}
	}
	if next != 30001 {
		t.Errorf("%d of 30000 lines were printed", next-1)
	}
}

func TestAContainerThatIsStoppedEndsItsJobsAndAccountsForThem(t *testing.T) {
	t.Parallel()
	root := image(t, `#belfry: name=tidy
@reboot trap 'echo told; exit 3' TERM; echo up; while :; do sleep 0.05; done
#belfry: name=stubborn
@reboot trap '' TERM; echo up; while :; do sleep 0.05; done
#belfry: name=again retry=2
@reboot echo up; sleep 1000
`)
	c := contain(t, root, "data", "0:0", "/belfry", "serve", "--crontab", "/crontab", "--data", "/data", "--grace", "1s", "--job-output", "json")
	for range 3 {
		c.until("msg=started")
	}
	c.waitFor("that all jobs are up", func() bool { return len(c.processes("sleep")) == 3 })
	c.signal(syscall.SIGQUIT) // the stop signal of some images
	code, out := c.ends()
	if code != 0 {
		t.Errorf("the container ends with %d; want 0", code)
	}
	var said []string
	for line := range strings.Lines(out) {
		var l outputLine
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Project != "crontab" || len(l.Run) != 26 || l.Attempt != 1 || l.Time.IsZero() {
			t.Errorf("it printed %q: %v", line, err)
		}
		said = append(said, l.Job+" "+l.Line)
	}
	if all := strings.Join(said, "\n"); strings.Count(all, "up") != 3 || !strings.Contains(all, "tidy told") {
		t.Errorf("it printed\n%s", all)
	}
	const reason = "ended with the daemon, which was told to stop"
	runs := c.account("data")
	for job, want := range map[string]string{"tidy": "failed " + reason, "stubborn": "failed " + reason, "again": "queued retry: attempt 1 of 2 ended: " + reason} {
		if got := runs[job].State + " " + runs[job].Reason; got != want {
			t.Errorf("%s is %s; want %s", job, got, want)
		}
	}
}

func TestTheFirstProcessReapsStraysForwardsSignalsAndEndsAsItIsTold(t *testing.T) {
	t.Parallel()
	root := image(t, "@reboot exec sleep 1000\n")
	c := contain(t, root, "data", "0:0", "/belfry", "serve", "--crontab", "/crontab", "--data", "/data", "--wait", "--job-output", "raw")
	c.until("msg=started")
	// A process that is brought in from outside, as docker exec does, leaves a
	// child behind.
	enter := exec.Command("nsenter", "-t", fmt.Sprint(c.pid), "-p", "-m", "chroot", root, "/bin/sh", "-c", "sleep 0.2 & echo $!")
	if out, err := enter.CombinedOutput(); err != nil {
		t.Fatalf("nsenter: %v\n%s", err, out)
	}
	c.waitFor("that nobody is left dead", func() bool { return len(c.processes("sleep")) == 1 && len(c.processes("Z")) == 0 })
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		c.signal(signal)
		c.until("read the jobs anew")
	}
	c.signal(syscall.SIGINT)
	c.until("waiting for 1 running job")
	c.signal(syscall.SIGTERM)
	if code, _ := c.ends(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("after a second signal the container ends with %d; want 143", code)
	}

	c = contain(t, root, "data", "0:0", "/belfry", "serve", "--crontab", "/nothing")
	if code, _ := c.ends(); code != exitNotFound {
		t.Errorf("without its crontab the container ends with %d; want %d", code, exitNotFound)
	}
}

// waitFor polls until something is as it should be.
func (c *container) waitFor(what string, so func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !so() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// processes gives the processes of the container that have a name, or are in
// the state Z.
func (c *container) processes(name string) (found []string) {
	c.t.Helper()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.pid))
	if err != nil {
		return nil // it has ended
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		if ns, err := os.Readlink(dir + "/ns/pid"); err == nil && ns != namespace {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), "(")
		comm, rest, _ := strings.Cut(rest, ") ")
		state, rest, _ := strings.Cut(rest, " ")
		parent, _, _ := strings.Cut(rest, " ")
		switch {
		case state == "Z" && (name != "Z" || parent != fmt.Sprint(c.pid)):
		case name == "Z" && state != "Z":
		case name == "Z", comm == name:
			found = append(found, string(stat))
		}
	}
	return found
}

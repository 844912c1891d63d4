//go:build linux

package proc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testLimit = 4 << 20 // of the frames that test keepers take

// bodies are the commands that make the test binary a job.
var bodies = map[string]func(args []string) error{
	"nobody":          becomeNobody,
	"limit-processes": func(args []string) error { return limitProcesses(args[0], args[1]) },
}

// TestMain makes the test binary a keeper, or a job, when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if body := bodies[os.Args[1]]; body != nil {
			if err := body(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	if kind, ok := keeperKinds[os.Args[min(1, len(os.Args)-1)]]; ok && len(os.Args) == 4 {
		idle, err := time.ParseDuration(os.Args[2])
		if err == nil {
			kind.idle, kind.limit, kind.log = idle, testLimit, slog.New(slog.NewTextHandler(os.Stderr, nil))
			err = runKeeper(os.Args[3], kind)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if own, err := ownCgroup(); err == nil {
		sweepCgroups(own) // of the keepers that were killed
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "os.(*Process)") {
			continue // a keeper that is just ending
		}
		if strings.Contains(stack, "proc.(*Client)") || strings.Contains(stack, "proc.(*link)") {
			fmt.Fprintf(os.Stderr, "a goroutine outlives its client:\n%s\n", stack)
			code = 1
		}
	}
	os.Exit(code)
}

// bareKeeper is the command of a keeper that makes no cgroups.
const bareKeeper = "bare-keeper"

// keeperKinds are the commands that make the test binary a keeper.
var keeperKinds = map[string]keeperOptions{
	"keeper":                    {cgroups: newCgroups},
	bareKeeper:                  {cgroups: noCgroups},
	"keeper-held":               {cgroups: newCgroups, pause: time.Hour, step: heldBack},
	"keeper-held-briefly":       {cgroups: newCgroups, pause: time.Millisecond, step: heldBack},
	"keeper-killed-recorded":    {cgroups: newCgroups, step: dieAt(recorded)},
	"keeper-killed-forked":      {cgroups: newCgroups, step: dieAt(forked)},
	"bare-keeper-killed-forked": {cgroups: noCgroups, step: dieAt(forked)},
}

func noCgroups(string) (*cgroups, error) { return nil, errors.New("the test wants none") }

// holdName is a FIFO in the keepers' folder: while it is there, a start of a
// keeper that is held goes no further than its record until it is written to.
const holdName = "hold"

func heldBack(s step) {
	if s == recorded {
		_, _ = os.ReadFile(filepath.Join(os.Args[3], holdName)) // there may be none
	}
}

func dieAt(at step) func(step) {
	return func(s step) {
		if s == at {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
}

// host is a data folder with keepers that end soon after their last job.
type host struct {
	*testing.T
	data    string
	command []string
	prefix  string // of all run ids
	runs    int
	owner   int // of keepers and jobs, when it is not the test's
}

func newHost(t *testing.T) *host {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, data: t.TempDir(), command: []string{exe, "keeper", "200ms"}, prefix: "test-" + rand.Text()[:10] + "-"}
	t.Cleanup(h.checkNothingLeft)
	return h
}

// checkNothingLeft waits until the keepers have ended and looks for processes
// of any attempt.
func (h *host) checkNothingLeft() {
	for _, id := range h.keepers() {
		h.waitKeeper(id)
	}
	if left := h.alive(h.prefix); len(left) > 0 {
		h.Errorf("%d processes are left: %v", len(left), left)
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// alive gives the living processes of runs whose id begins with prefix.
func (h *host) alive(prefix string) []int {
	all, err := processes()
	if err != nil {
		h.Fatal(err)
	}
	var found []int
	for _, p := range living(all) {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err == nil && strings.Contains("\x00"+string(environ), "\x00BELFRY_RUN="+prefix) {
			found = append(found, p.pid)
		}
	}
	return found
}

func (h *host) keepers() []string {
	entries, err := os.ReadDir(filepath.Join(h.data, "keeper"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.Fatal(err)
	}
	var ids []string
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			ids = append(ids, entry.Name())
		}
	}
	return ids
}

// waitKeeper blocks until a keeper is dead.
func (h *host) waitKeeper(id string) {
	lock, err := os.Open(filepath.Join(h.data, "keeper", id, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	for {
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// killKeeper kills the only keeper and waits for its death.
func (h *host) killKeeper(c *Client) {
	h.Helper()
	ids := h.keepers()
	if len(ids) != 1 {
		h.Fatalf("keepers: %v, want one", ids)
	}
	if err := unix.Kill(h.keeperPID(ids[0]), unix.SIGKILL); err != nil {
		h.Fatal(err)
	}
	h.waitKeeper(ids[0])
	if c != nil {
		select {
		case id := <-c.KeeperLost():
			if id != ids[0] {
				h.Fatalf("lost keeper %s, want %s", id, ids[0])
			}
		case <-time.After(30 * time.Second):
			h.Fatal("the client has not noticed the keeper's death")
		}
	}
}

func (h *host) keeperPID(id string) int {
	h.Helper()
	r := h.dial(id)
	defer func() { _ = r.conn.Close() }()
	r.send(`{"type":"hello","seq":1,"protocol":1}`)
	return r.next().PID
}

// daemon is a client and what it has heard.
type daemon struct {
	*host
	*Client
	heard []Event
}

func (h *host) open() *daemon {
	h.Helper()
	c, err := Open(h.Context(), Options{DataDir: h.data, Command: h.command, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.Fatal(err)
	}
	d := &daemon{host: h, Client: c}
	h.Cleanup(func() { _ = c.Close() })
	return d
}

// spec is one of a shell command.
func (h *host) spec(command string) Spec {
	h.Helper()
	h.runs++
	var dir string
	if h.owner == 0 {
		dir = h.TempDir()
	} else {
		dir = h.folder(strconv.Itoa(h.runs))
	}
	return Spec{
		Run: h.prefix + strconv.Itoa(h.runs), Attempt: 1, Token: 42, Dir: dir,
		Args: []string{"sh", "-c", command}, Env: []string{"PATH=" + os.Getenv("PATH")}, Cwd: dir,
	}
}

// fifo makes one in the attempt's folder.
func (h *host) fifo(s Spec, name string) string {
	h.Helper()
	path := filepath.Join(s.Dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		h.Fatal(err)
	}
	return path
}

// hear reads what a job writes into a FIFO; opening it waits for the job.
func (h *host) hear(fifo string) string {
	h.Helper()
	data, err := os.ReadFile(fifo)
	if err != nil {
		h.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// let gives a job that reads a FIFO the word to go on.
func (h *host) let(fifo string) {
	h.Helper()
	if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
		h.Fatal(err)
	}
}

func (h *host) log(s Spec) string {
	h.Helper()
	data, err := os.ReadFile(filepath.Join(s.Dir, logName))
	if err != nil {
		h.Fatal(err)
	}
	return string(data)
}

func (d *daemon) start(specs ...Spec) {
	d.Helper()
	if err := d.Start(d.Context(), specs); err != nil {
		d.Fatal(err)
	}
}

// until gives the first event about s, heard or to come, for which ok holds.
func (d *daemon) until(s Spec, what string, ok func(Event) bool) Event {
	d.Helper()
	match := func(e Event) bool { return e.Run == s.Run && e.Attempt == s.Attempt && ok(e) }
	if i := slices.IndexFunc(d.heard, match); i >= 0 {
		return d.heard[i]
	}
	guard := time.After(60 * time.Second)
	for {
		select {
		case e, open := <-d.Events():
			if !open {
				d.Fatalf("events ended before %s of %s", what, s.Run)
			}
			d.heard = append(d.heard, e)
			if e.Token != 42 {
				d.Errorf("token of %+v is %d, want 42", e, e.Token)
			}
			if match(e) {
				return e
			}
		case <-guard:
			d.Fatalf("no %s of %s; heard %+v", what, s.Run, d.heard)
		}
	}
}

func (d *daemon) exit(s Spec) Exit {
	d.Helper()
	return *d.until(s, "exit", func(e Event) bool { return e.Exit != nil }).Exit
}

func (d *daemon) started(s Spec) Started {
	d.Helper()
	return *d.until(s, "start", func(e Event) bool { return e.Started != nil }).Started
}

func (d *daemon) doubt(s Spec) {
	d.Helper()
	d.until(s, "doubt", func(e Event) bool { return e.Doubt })
}

func (d *daemon) forgetHeard() { d.heard = nil }

func (d *daemon) wantStatus(s Spec, want Status) *Exit {
	d.Helper()
	got, exit, err := d.Inspect(s.Dir, s.Run, s.Attempt)
	if err != nil || got != want {
		d.Fatalf("Inspect = %q, %v; want %q", got, err, want)
	}
	return exit
}

// soon asks until something is so.
func (h *host) soon(what string, so func() bool) {
	h.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); runtime.Gosched() {
		if time.Now().After(deadline) {
			h.Fatalf("%s does not come", what)
		}
	}
}

// waitGone blocks until a process that is nobody's child of ours has ended.
func (h *host) waitGone(pid int) {
	h.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (h *host) number(s string) int {
	h.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		h.Fatal(err)
	}
	return n
}

func TestOutputAndExitStatusAreRecorded(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`echo out; echo err >&2; exit 3`)
	s.Env = append(s.Env, "PASSWORD=hunter2-secret")
	before := time.Now()
	d.start(s)
	exit := d.exit(s)
	if exit.Code != 3 || exit.Signal != "" || exit.Error != "" || exit.TimedOut || exit.Stopped {
		t.Errorf("exit %+v, want code 3 and nothing else", exit)
	}
	if exit.Wall <= 0 || exit.StartedAt.Before(before.Add(-time.Second)) || exit.EndedAt.Before(exit.StartedAt) || exit.MaxRSS < 1<<16 {
		t.Errorf("times and size of %+v make no sense", exit)
	}
	if got, want := h.log(s), "out\nerr\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
	if d.heard[0].Started == nil || d.heard[0].Started.PID <= 0 {
		t.Errorf("first event %+v, want a start", d.heard[0])
	}
	var record exitRecord
	data, err := os.ReadFile(filepath.Join(s.Dir, exitName))
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil || record.Run != s.Run || record.Token != 42 || record.Exit != exit {
		t.Errorf("record %+v, %v; want that of the event %+v", record, err, exit)
	}
	start, err := readStart(s.Dir, s.Run, 1)
	if err != nil || start.Token != 42 || start.Process.PID != d.heard[0].Started.PID || start.Process.Session != start.Process.PID || start.Process.Started < start.Since {
		t.Errorf("start record %+v, %v; want pid %d", start, err, d.heard[0].Started.PID)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		data, err := os.ReadFile(filepath.Join(s.Dir, entry.Name()))
		if err != nil || strings.Contains(string(data), "hunter2") {
			t.Errorf("%s: %v, or a secret in it: %q", entry.Name(), err, data)
		}
		if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", entry.Name(), info.Mode(), err)
		}
	}
	if want := []string{exitName, logName, startName}; !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	if got := d.wantStatus(s, Exited); *got != exit {
		t.Errorf("Inspect gives %+v, want %+v", got, exit)
	}
}

func TestStartIsIdempotent(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`echo $$ >> ledger; read x < go`)
	fifo := h.fifo(s, "go")
	check := func(when string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(s.Dir, "ledger"))
		if err != nil || strings.Count(string(data), "\n") != 1 {
			t.Fatalf("%s the ledger is %q, %v; want one line", when, data, err)
		}
	}
	for range 3 {
		d.start(s)
	}
	d.started(s)
	_ = d.Close()
	d = h.open()
	d.start(s)
	h.let(fifo)
	d.exit(s)
	check("after a start to a new client")

	d.forgetHeard()
	d.start(s)
	d.exit(s)
	if err := d.Forget(s.Run, 1); err != nil {
		t.Fatal(err)
	}
	d.forgetHeard()
	d.start(s)
	d.exit(s)
	check("after a start of a forgotten attempt")

	h.killKeeper(d.Client)
	d.forgetHeard()
	d.start(s)
	d.exit(s)
	check("after a start to a new keeper")
}

func TestJobsOutliveTheDaemon(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`read x < go; exit 5`)
	fifo := h.fifo(s, "go")
	d.start(s)
	d.started(s)
	_ = d.Close()
	d = h.open()
	d.started(s)
	d.wantStatus(s, Running)
	h.let(fifo)
	if exit := d.exit(s); exit.Code != 5 {
		t.Errorf("exit %+v, want code 5", exit)
	}
	if len(h.keepers()) != 1 {
		t.Errorf("keepers %v, want the same one", h.keepers())
	}
}

func TestExitRecordIsThereWithoutADaemon(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`read x < go; exit 6`)
	fifo := h.fifo(s, "go")
	d.start(s)
	d.started(s)
	ids := h.keepers()
	_ = d.Close()
	h.let(fifo)
	h.waitKeeper(ids[0]) // it ends by itself after its last job
	d = h.open()
	if exit := d.wantStatus(s, Exited); exit.Code != 6 {
		t.Errorf("exit %+v, want code 6", exit)
	}
	if got := h.keepers(); len(got) != 0 {
		t.Errorf("folders of dead keepers: %v", got)
	}
}

func TestJobSurvivesItsKeeperAndIsLostAfterwards(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`echo x >> ledger; read x < go`)
	fifo := h.fifo(s, "go")
	d.start(s)
	pid := d.started(s).PID
	h.killKeeper(d.Client)
	d.wantStatus(s, Survivor)

	// A start that is sent again meets the record.
	d.start(s)
	d.doubt(s)
	d.wantStatus(s, Survivor)

	h.let(fifo)
	h.waitGone(pid)
	d.wantStatus(s, Lost)
	other := h.spec(`exit 0`)
	d.start(other)
	d.exit(other)
	data, err := os.ReadFile(filepath.Join(s.Dir, "ledger"))
	if err != nil || string(data) != "x\n" {
		t.Errorf("ledger %q, %v; want one line", data, err)
	}
}

func TestSurvivorsAreFoundAndKilledWhereverTheyWent(t *testing.T) {
	h := newHost(t)
	d := h.open()
	// The main process ends; a stray in a session of its own, and one that
	// has cleared its environment but kept the session, remain.
	s := h.spec(`(setsid sh -c 'echo $$ > away; exec sleep 1000' &); (env -i /bin/sh -c 'echo $$ > bare; exec sleep 1000' &); read x < go`)
	away, bare, fifo := h.fifo(s, "away"), h.fifo(s, "bare"), h.fifo(s, "go")
	d.start(s)
	strays := []int{h.number(h.hear(away)), h.number(h.hear(bare))}
	pid := d.started(s).PID
	h.killKeeper(d.Client)
	h.let(fifo)
	h.waitGone(pid)
	d.wantStatus(s, Survivor)
	if err := KillSurvivors(s.Dir, s.Run, s.Attempt); err != nil {
		t.Fatal(err)
	}
	for _, pid := range strays {
		h.waitGone(pid)
	}
	d.wantStatus(s, Lost)
}

func TestTimeoutEndsTheWholeTree(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`trap "" TERM; (setsid sh -c 'trap "" TERM; while :; do sleep 1000; done' &); while :; do sleep 1000; done`)
	s.Timeout, s.KillAfter = 300*time.Millisecond, 50*time.Millisecond
	d.start(s)
	exit := d.exit(s)
	if !exit.TimedOut || exit.Stopped || exit.Signal != "SIGKILL" && exit.Signal != "SIGTERM" || exit.Code != -1 {
		t.Errorf("exit %+v, want timed out by a signal", exit)
	}
	if exit.Wall < s.Timeout {
		t.Errorf("it ended after %v, before its timeout", exit.Wall)
	}
	if left := h.alive(s.Run); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestTimeoutLeavesAQuickJobAlone(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`exit 0`)
	s.Timeout = time.Hour
	d.start(s)
	if exit := d.exit(s); exit.TimedOut || exit.Code != 0 {
		t.Errorf("exit %+v, want success", exit)
	}
}

func TestStopEscalates(t *testing.T) {
	h := newHost(t)
	d := h.open()
	stubborn := `trap "" TERM; (setsid sh -c 'trap "" TERM; echo $$ > ready; while :; do sleep 1000; done' &); while :; do sleep 1000; done`
	for _, c := range []struct {
		name, command string
		killAfter     time.Duration
		kinds         []StopKind
		code          int
		signal, log   string
	}{
		{"TERM is enough", `echo > ready; sleep 1000`, time.Hour, []StopKind{Stop}, -1, "SIGTERM", ""},
		{"TERM is handled", `trap 'echo bye; exit 7' TERM; echo > ready; while :; do sleep 0.01; done`, time.Hour, []StopKind{Stop}, 7, "", "bye\n"},
		{"a child cleans up after its parent's death", `(trap 'sleep 0.1; echo clean; exit' TERM; echo > ready; while :; do sleep 0.01; done) & wait`, time.Hour, []StopKind{Stop}, -1, "SIGTERM", "clean\n"},
		{"a halted job hears TERM", `trap 'exit 8' TERM; echo > ready; kill -STOP $$; while :; do sleep 0.01; done`, time.Hour, []StopKind{Stop}, 8, "", ""},
		{"TERM is ignored", stubborn, 50 * time.Millisecond, []StopKind{Stop}, -1, "SIGKILL", ""},
		{"killed at once", stubborn, time.Hour, []StopKind{Kill}, -1, "SIGKILL", ""},
		{"stopped, then killed", stubborn, time.Hour, []StopKind{Stop, Kill}, -1, "SIGKILL", ""},
	} {
		s := h.spec(c.command)
		s.KillAfter = c.killAfter
		ready := h.fifo(s, "ready")
		d.start(s)
		h.hear(ready)
		for _, kind := range c.kinds {
			if err := d.Signal(s.Run, s.Attempt, kind); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		exit := d.exit(s)
		if !exit.Stopped || exit.TimedOut || exit.Code != c.code || exit.Signal != c.signal {
			t.Errorf("%s: exit %+v, want code %d, signal %q, stopped", c.name, exit, c.code, c.signal)
		}
		if got := h.log(s); !strings.HasSuffix(got, c.log) { // the shell may say "Terminated" before
			t.Errorf("%s: log %q, want it to end in %q", c.name, got, c.log)
		}
		if left := h.alive(s.Run + "\x00"); len(left) > 0 {
			t.Errorf("%s: processes are left: %v", c.name, left)
		}
	}
	if err := d.Signal(h.prefix+"nobody", 1, Stop); !errors.Is(err, ErrUnknownAttempt) {
		t.Errorf("Signal of an unknown attempt: %v, want %v", err, ErrUnknownAttempt)
	}
}

func TestBackgroundProcessLivesOn(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`sleep 1000 & echo $!`)
	d.start(s)
	if exit := d.exit(s); exit.Code != 0 {
		t.Errorf("exit %+v, want success", exit)
	}
	pid := h.number(strings.TrimSpace(h.log(s)))
	p, err := readProcess(pid)
	if err != nil || !p.alive() {
		t.Fatalf("the background process is %+v, %v; want it alive", p, err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.waitGone(pid)
}

func TestWhyAJobCouldNotBeStartedIsSaidInWords(t *testing.T) {
	h := newHost(t)
	d := h.open()
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain", "x", 0o644)
	orphan := file("orphan", "#!/bin/nosuchinterpreter -x\n", 0o755)
	noise := file("noise", "neither\n", 0o755)
	big := strings.Repeat("x", 200<<10)
	for _, c := range []struct {
		args []string
		env  []string
		cwd  string
		want string
	}{
		{args: []string{"/bin/nosuch"}, want: "start /bin/nosuch: no such file"},
		{args: []string{"nosuch"}, env: []string{"PATH=/bin:/usr/bin"}, want: "start nosuch: no such program in PATH (/bin:/usr/bin)"},
		{args: []string{"nosuch"}, want: "start nosuch: no such program in PATH (/usr/bin:/bin)"},
		{args: []string{plain}, want: "start " + plain + ": not executable (mode 0644)"},
		{args: []string{"./plain"}, cwd: dir, want: "start ./plain: not executable (mode 0644)"},
		{args: []string{"plain"}, env: []string{"PATH=" + dir}, want: "start " + plain + ": not executable (mode 0644)"},
		{args: []string{dir}, want: "start " + dir + ": is a directory"},
		{args: []string{"true"}, cwd: "/no/such", want: "start folder /no/such: no such directory"},
		{args: []string{"true"}, cwd: plain, want: "start folder " + plain + ": not a directory"},
		{args: []string{orphan}, want: "start " + orphan + ": its interpreter /bin/nosuchinterpreter: no such file"},
		{args: []string{noise}, want: "start " + noise + ": neither a program for this machine nor a script that begins with #! and its interpreter"},
		{args: []string{"/bin/true", "a\x00b"}, want: "start /bin/true: an argument or a variable contains a NUL byte"},
		{args: []string{"/bin/true", big}, want: "start /bin/true: argument list too long"},
		{args: []string{"/bin/true"}, env: []string{"BIG=" + big}, want: "start /bin/true: argument list too long"},
		{args: nil, want: "start no program was given"},
	} {
		s := h.spec("")
		s.Args, s.Env, s.Cwd = c.args, c.env, c.cwd
		d.start(s)
		exit := d.exit(s)
		if !strings.HasPrefix(exit.Error, c.want) || exit.Code != -1 {
			t.Errorf("exit %+v, want %q", exit, c.want)
		}
		if record := d.wantStatus(s, Exited); record.Error != exit.Error {
			t.Errorf("record %+v, want %+v", record, exit)
		}
	}
	s := h.spec("")
	s.Dir = filepath.Join(dir, "gone")
	d.start(s)
	if exit := d.exit(s); !strings.Contains(exit.Error, "no such file or directory") {
		t.Errorf("exit %+v, want the missing directory", exit)
	}
}

func TestTextsKeepTheirBytes(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec("")
	s.Args = []string{"sh", "-c", `printf '%s|%s' "$1" "$LATIN"`, "sh", "a\xffb <&> é"}
	s.Env = append(s.Env, "LATIN=first", "LATIN=caf\xe9")
	d.start(s)
	d.exit(s)
	if got, want := h.log(s), "a\xffb <&> é|caf\xe9"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestJobInheritsNothingOfItsKeeper(t *testing.T) {
	h := newHost(t)
	h.command = append([]string{"/bin/sh", "-c", `trap "" HUP INT PIPE TSTP; umask 077; exec 7</dev/null; exec "$@"`, "sh"}, h.command...)
	d := h.open()
	s := h.spec("")
	fifo := h.fifo(s, "fifo")
	s.Args = []string{"cat", fifo}
	d.start(s)
	pid := d.started(s).PID
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0) // now cat has opened it, and reads
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()

	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		switch entry.Name() {
		case "0":
			if !strings.HasPrefix(target, "pipe:") {
				t.Errorf("standard input is %s, want a pipe", target)
			}
		case "1", "2":
			if target != filepath.Join(s.Dir, logName) {
				t.Errorf("descriptor %s is %s, want the log", entry.Name(), target)
			}
		default:
			if target != fifo {
				t.Errorf("descriptor %s (%s) was inherited", entry.Name(), target)
			}
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SigBlk:\t0000000000000000", "SigCgt:\t0000000000000000", "Umask:\t0022"} {
		if !strings.Contains(string(status), want+"\n") {
			t.Errorf("no %q in the job's status:\n%s", want, status)
		}
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:\t")
	ignored, err := strconv.ParseUint(rest[:16], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	// 32 and 33 are the C library's own: they are as whoever started us had them.
	if ignored &^= 1<<31 | 1<<32; ignored != 0 {
		t.Errorf("the job ignores signals: %016x", ignored)
	}
	p, err := readProcess(pid)
	if err != nil || p.session != pid || p.group != pid {
		t.Errorf("process %+v, %v; want a session and a group of its own", p, err)
	}
	mine, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil || string(theirs) != string(mine) {
		t.Errorf("oom_score_adj %q, %v; want %q", theirs, err, mine)
	}
	_ = writer.Close()
	d.exit(s)
}

func TestKeeperIsInASessionOfItsOwnAndHoldsNothingOfTheDaemon(t *testing.T) {
	h := newHost(t)
	leak, err := unix.Dup(1) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(leak) }()
	d := h.open()
	l, err := d.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid := h.keeperPID(l.id)
	p, err := readProcess(pid)
	if err != nil || p.session != pid {
		t.Errorf("keeper %+v, %v; want a session of its own", p, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("the keeper is in %s, %v; want /", cwd, err)
	}
	wants := map[string]string{
		"0": os.DevNull, "1": os.DevNull, "2": filepath.Join(h.data, "keeper", keeperLog),
	}
	for fd, want := range wants {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd)); err != nil || got != want {
			t.Errorf("descriptor %s of the keeper is %s, %v; want %s", fd, got, err, want)
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fdinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if h.number(fd.Name()) <= 2 {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		if err != nil {
			continue // closed since
		}
		fields := strings.Fields(string(info))
		flags, err := strconv.ParseUint(fields[slices.Index(fields, "flags:")+1], 8, 64)
		if err != nil || flags&unix.O_CLOEXEC == 0 {
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
			t.Errorf("descriptor %s of the keeper (%s) is not close-on-exec", fd.Name(), target)
		}
	}
	for path, want := range map[string]os.FileMode{"": 0o700, l.id: 0o700, l.id + "/sock": 0o600} {
		info, err := os.Stat(filepath.Join(h.data, "keeper", path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("keeper/%s: %v, %v; want mode %v", path, info, err, want)
		}
	}
}

func TestStandardInput(t *testing.T) {
	h := newHost(t)
	d := h.open()
	long := strings.Repeat("0123456789abcdef", 1<<16) // more than a pipe holds
	for _, c := range []struct {
		name, command string
		stdin         string
		null          bool
		want          string
	}{
		{"given", `cat`, "one\ntwo", false, "one\ntwo"},
		{"long", `wc -c`, long, false, "1048576\n"},
		{"long and not read", `exec <&-; echo done`, long, false, "done\n"},
		{"partly read", `head -c 16`, long, false, "0123456789abcdef"},
		{"none", `cat; echo end; readlink /proc/self/fd/0 | sed 's/:.*//'`, "", false, "end\npipe\n"},
		{"null", `cat; readlink /proc/self/fd/0`, "", true, "/dev/null\n"},
	} {
		s := h.spec(c.command)
		s.Stdin, s.StdinNull = []byte(c.stdin), c.null
		d.start(s)
		if exit := d.exit(s); exit.Code != 0 || h.log(s) != c.want {
			t.Errorf("%s: exit %+v, log %.100q; want %q", c.name, exit, h.log(s), c.want)
		}
	}
}

func TestExitBySignal(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`kill -SEGV $$`)
	d.start(s)
	if exit := d.exit(s); exit.Signal != "SIGSEGV" || exit.Code != -1 || exit.Stopped || exit.TimedOut {
		t.Errorf("exit %+v, want SIGSEGV", exit)
	}
}

func TestKeeperEndsByItself(t *testing.T) {
	t.Run("without ever a job", func(t *testing.T) {
		h := newHost(t)
		d := h.open()
		l, err := d.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		h.waitKeeper(l.id)
	})
	t.Run("with its last job after TERM", func(t *testing.T) {
		h := newHost(t)
		d := h.open()
		s := h.spec(`read x < go`)
		fifo := h.fifo(s, "go")
		d.start(s)
		d.started(s)
		id := h.keepers()[0]
		if err := unix.Kill(h.keeperPID(id), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for alive := true; alive; { // until the signal is taken: a start tells
			other := h.spec(`exit 0`)
			d.start(other)
			d.exit(other)
			alive = len(h.keepers()) == 1
		}
		h.let(fifo)
		d.exit(s)
		h.waitKeeper(id)
	})
}

func TestNewestDaemonGetsTheEvents(t *testing.T) {
	h := newHost(t)
	old := h.open()
	s := h.spec(`read x < go`)
	fifo := h.fifo(s, "go")
	old.start(s)
	old.started(s)
	d := h.open()
	h.let(fifo)
	d.exit(s)
	select {
	case e := <-old.Events():
		t.Errorf("the older daemon heard %+v", e)
	default:
	}
}

func TestQueueIsAnsweredForWhileAStartHangs(t *testing.T) {
	h := newHost(t)
	d := h.open()
	hung, waiting, never := h.spec(`exit 0`), h.spec(`echo ran`), h.spec(`exit 0`)
	fifo := h.fifo(hung, logName) // opening it for writing waits for a reader
	late := h.spec(`echo ran`)
	late.Lease = time.Nanosecond
	d.start(hung, waiting, late)
	d.wantStatus(hung, Running)
	d.wantStatus(waiting, Running)
	d.wantStatus(never, NeverStarted)
	if err := d.Renew(late.Run, late.Attempt, late.Token, time.Hour); err == nil || !strings.Contains(err.Error(), "has run out") {
		t.Errorf("Renew of a lease that has run out: %v, want that it has", err)
	}
	if err := d.Signal(waiting.Run, waiting.Attempt, Stop); err != nil {
		t.Fatal(err)
	}
	if got := h.hear(fifo); got != "" {
		t.Errorf("log %q, want nothing", got)
	}
	if exit := d.exit(hung); exit.Code != 0 {
		t.Errorf("exit %+v, want success", exit)
	}
	if exit := d.exit(late); !exit.LeaseLost {
		t.Errorf("exit %+v, want the lease lost", exit)
	}
	exit := d.exit(waiting)
	if !exit.Stopped || exit.Code != -1 || exit.Error == "" {
		t.Errorf("exit %+v, want stopped before it was started", exit)
	}
	if _, err := os.Stat(filepath.Join(waiting.Dir, logName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has a log: %v", err)
	}
}

func TestOutcomesWaitForStarts(t *testing.T) {
	for _, keeper := range []string{"keeper-held", "keeper-held-briefly"} {
		t.Run(keeper, func(t *testing.T) {
			h := newHost(t)
			h.command[1] = keeper
			d := h.open()
			ended, other := h.spec(`read x < go; exit 1`), h.spec(`read x < go; exit 2`)
			fifos := []string{h.fifo(ended, "go"), h.fifo(other, "go")}
			d.start(ended, other)
			started := []Started{d.started(ended), d.started(other)}
			held, waiting := h.spec(`exit 0`), h.spec(`exit 0`)
			hold := h.fifo(Spec{Dir: filepath.Join(h.data, "keeper")}, holdName)
			t.Cleanup(func() { // a test that fails lets the keeper go too
				if fd, err := unix.Open(hold, unix.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
					_ = os.Remove(hold)
					_ = unix.Close(fd)
				}
			})
			d.start(held, waiting)
			h.soon("the start record", func() bool {
				record, _ := readStart(held.Dir, held.Run, 1)
				return record.Keeper != ""
			})
			for _, fifo := range fifos {
				h.let(fifo)
			}
			for _, s := range started {
				h.soon("a process that is taken away", func() bool { return unix.Kill(s.PID, 0) != nil })
			}
			if keeper == "keeper-held" {
				d.wantStatus(ended, Running)
				d.wantStatus(other, Running)
			} else if exit := d.exit(ended); exit.Code != 1 { // for long nothing waits
				t.Errorf("exit %+v, want code 1", exit)
			}
			if err := os.Rename(hold, hold+"-no-more"); err != nil {
				t.Fatal(err)
			}
			h.let(hold + "-no-more")
			for i, s := range []Spec{held, ended, other, waiting} {
				if s.Run == ended.Run && keeper != "keeper-held" {
					continue
				}
				if exit := d.exit(s); exit.Code != i%3 {
					t.Errorf("exit %+v, want code %d", exit, i%3)
				}
			}
			id := h.keepers()[0]
			_ = d.Close()
			h.waitKeeper(id)
			if exit, err := readExit(other.Dir, other.Run, 1); err != nil || exit == nil || exit.Code != 2 {
				t.Errorf("the record says %+v, %v; want code 2", exit, err)
			}
		})
	}
}

func TestManyShortJobsEndOnceEach(t *testing.T) {
	h := newHost(t)
	d := h.open()
	var specs []Spec
	for i := range 300 {
		s := h.spec(`exit ` + strconv.Itoa(i%7))
		specs = append(specs, s)
	}
	d.start(specs...)
	for i, s := range specs {
		if exit := d.exit(s); exit.Code != i%7 {
			t.Errorf("exit of %d %+v, want code %d", i, exit, i%7)
		}
		if err := d.Forget(s.Run, s.Attempt); err != nil {
			t.Fatal(err)
		}
	}
	exits, starts := 0, 0
	for _, e := range d.heard {
		if e.Exit != nil {
			exits++
		} else {
			starts++
		}
	}
	if exits != len(specs) || starts != len(specs) {
		t.Errorf("%d starts and %d exits, want %d of each", starts, exits, len(specs))
	}
	// What is forgotten is told to nobody. The keeper has read all of it when
	// it answers a later question.
	d.wantStatus(h.spec(""), NeverStarted)
	_ = d.Close()
	r := h.dial(h.keepers()[0])
	defer func() { _ = r.conn.Close() }()
	r.send(`{"type":"hello","seq":1,"protocol":1}`, `{"type":"list","seq":2}`)
	r.next()
	if list := r.next(); len(list.Attempts) != 0 {
		t.Errorf("%d attempts are not forgotten", len(list.Attempts))
	}
}

func TestInspectKnowsAnOutcomeThatCouldNotBeRecorded(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec("")
	fifo := h.fifo(s, "fifo")
	s.Args = []string{"sh", "-c", "read line < " + fifo + "; exit 3"}
	d.start(s)
	d.started(s)
	record, err := readStart(s.Dir, s.Run, s.Attempt)
	if err != nil {
		t.Fatal(err)
	}
	// What a full disk does: the record cannot be made.
	if err := os.Mkdir(filepath.Join(s.Dir, "."+exitName+"."+record.Keeper), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.exit(s)
	defer func() { // else its keeper stays
		if err := d.Forget(s.Run, s.Attempt); err != nil {
			t.Error(err)
		}
	}()
	if _, err := os.Stat(filepath.Join(s.Dir, exitName)); err == nil {
		t.Fatal("there is a record: this test is blind")
	}
	if exit := d.wantStatus(s, Exited); exit == nil || exit.Code != 3 {
		t.Errorf("the outcome is %+v, want exit code 3", exit)
	}
}

func TestInspectJudgesByTheRecords(t *testing.T) {
	h := newHost(t)
	d := h.open()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	me, err := readProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	living := processRecord{PID: me.pid, Started: me.started, Session: me.session}
	reused := living
	reused.Started--
	for _, c := range []struct {
		name    string
		record  *startRecord
		process processRecord
		exit    string
		want    Status
	}{
		{name: "no record", want: NeverStarted},
		{name: "another boot", record: &startRecord{Keeper: "k", Boot: "other"}, process: living, want: Lost},
		{name: "its keeper died at the fork", record: &startRecord{Keeper: "k", Boot: boot}, want: Lost},
		{name: "its pid belongs to another", record: &startRecord{Keeper: "k", Boot: boot, Since: me.started + 1}, process: reused, want: Lost},
		{name: "exit record of another boot", record: &startRecord{Keeper: "k", Boot: "other"}, exit: "{}", want: Exited},
		{name: "exit record emptied by a power cut", record: &startRecord{Keeper: "k", Boot: "other"}, exit: "-", want: Lost},
	} {
		s := h.spec("")
		if c.record != nil {
			c.record.Run, c.record.Attempt = s.Run, s.Attempt
			file, err := createStart(s.Dir, *c.record)
			if err == nil && c.process.PID != 0 {
				err = file.add(c.process)
			}
			if err != nil {
				t.Fatal(err)
			}
			file.close()
		}
		switch c.exit {
		case "{}":
			err = writeExit(s.Dir, exitRecord{Run: s.Run, Attempt: s.Attempt}, false)
		case "-":
			err = os.WriteFile(filepath.Join(s.Dir, exitName), nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := d.Inspect(s.Dir, s.Run, s.Attempt)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	s := h.spec("")
	if err := os.WriteFile(filepath.Join(s.Dir, startName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.wantStatus(s, Lost) // created, and its keeper died before the first line
	if _, err := createStart(s.Dir, startRecord{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second start record: %v, want that it exists", err)
	}
	if err := writeExit(s.Dir, exitRecord{Run: "another", Attempt: 1}, true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Inspect(s.Dir, s.Run, s.Attempt); err == nil {
		t.Error("the exit record of another run was taken")
	}
}

func TestSocketPathMayBeLong(t *testing.T) {
	h := newHost(t)
	h.data = filepath.Join(h.data, strings.Repeat("d", 100), strings.Repeat("e", 100))
	d := h.open()
	s := h.spec(`exit 0`)
	d.start(s)
	d.exit(s)
}

func TestKeeperThatCannotStartSaysWhy(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct {
		command []string
		want    string
	}{
		{[]string{"/bin/false"}, "ended before it was ready"},
		{[]string{"/no/such/keeper"}, "no such file"},
		{nil, "no command"},
	} {
		h.command = c.command
		d := h.open()
		err := d.Start(t.Context(), []Spec{h.spec(`exit 0`)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.command, err, c.want)
		}
	}
	h.command = []string{"/bin/sh", "-c", "exec sleep 1000 & echo $! > \"$0/pid\"; wait"}
	d := h.open()
	pidFile := filepath.Join(h.data, "keeper", "pid")
	if err := unix.Mkfifo(pidFile, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pid := make(chan string, 1)
	go func() {
		data, _ := os.ReadFile(pidFile)
		pid <- strings.TrimSpace(string(data))
		cancel()
	}()
	if err := d.Start(ctx, []Spec{h.spec(`exit 0`)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a keeper that is never ready: %v, want %v", err, context.Canceled)
	}
	_ = unix.Kill(h.number(<-pid), unix.SIGKILL)
}

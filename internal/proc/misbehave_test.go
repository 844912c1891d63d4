//go:build linux

package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
)

func TestJobThatForksAwayHasEndedAndItsDaemonIsReaped(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`(setsid sh -c 'echo $$ > away; read x < go' &) & wait; exit 4`)
	away, fifo := h.fifo(s, "away"), h.fifo(s, "go")
	d.start(s)
	pid := h.number(h.hear(away))
	if exit := d.exit(s); exit.Code != 4 {
		t.Errorf("exit %+v, want code 4", exit)
	}
	p, err := readProcess(pid)
	if err != nil || !p.alive() || orphansAreOurs && p.parent != h.keeperPID(h.keepers()[0]) {
		t.Errorf("what forked away is %+v, %v; want it alive, the keeper's", p, err)
	}
	h.let(fifo)
	h.waitGone(pid)
	h.waitReaped(pid)
}

// waitReaped blocks until a process that has ended is no zombie any more.
func (h *host) waitReaped(pid int) {
	h.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return
		}
		if time.Now().After(deadline) {
			h.Fatalf("process %d is not reaped", pid)
		}
	}
}

func TestOutputOfAnyKindIsKeptAndBlocksNobody(t *testing.T) {
	h := newHost(t)
	d := h.open()
	for _, c := range []struct {
		name, command string
		code          int
		want          string
	}{
		{"no newline", `printf 'no newline'`, 0, "no newline"},
		{"an endless line", `head -c 3000000 /dev/zero | tr '\0' x`, 0, strings.Repeat("x", 3000000)},
		{"binary", `printf '\000\377\033[31m\r'`, 0, "\x00\xff\x1b[31m\r"},
		{"closes its output", `echo before; exec >&- 2>&-; echo lost; exit 3`, 3, "before\n"},
		{"empties its output", `echo before; : > /dev/stdout; echo after`, 0, "after\n"},
		{"removes its output", `echo before; rm "$LOG"; echo lost; echo again > "$LOG"`, 0, "again\n"},
		{"replaces its shell", `echo $$; exec sh -c 'echo $$'`, 0, ""},
	} {
		s := h.spec(c.command)
		s.Env = append(s.Env, "LOG="+filepath.Join(s.Dir, logName))
		d.start(s)
		exit := d.exit(s)
		if c.want == "" {
			c.want = fmt.Sprintf("%d\n%[1]d\n", d.started(s).PID)
		}
		if got := h.log(s); exit.Code != c.code || exit.Error != "" || got != c.want {
			t.Errorf("%s: exit %+v, log %.80q (%d bytes); want code %d, log %.80q", c.name, exit, got, len(got), c.code, c.want)
		}
	}
}

func TestJobThatReplacedItsShellIsStopped(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`echo > ready; exec sleep 1000`)
	ready := h.fifo(s, "ready")
	d.start(s)
	h.hear(ready)
	if err := d.Signal(s.Run, 1, Stop); err != nil {
		t.Fatal(err)
	}
	if exit := d.exit(s); exit.Signal != "SIGTERM" || !exit.Stopped {
		t.Errorf("exit %+v, want stopped by SIGTERM", exit)
	}
}

func TestZombiesOfAJobHoldNothingUp(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`sh -c 'echo $$ > child' & exec sleep 1000`) // sleep waits for no child
	child := h.fifo(s, "child")
	d.start(s)
	pid := h.number(h.hear(child))
	h.waitGone(pid)
	if p, err := readProcess(pid); err != nil || p.state != 'Z' {
		t.Fatalf("the child is %+v, %v; want a zombie", p, err)
	}
	if err := d.Signal(s.Run, 1, Stop); err != nil {
		t.Fatal(err)
	}
	if exit := d.exit(s); exit.Signal != "SIGTERM" {
		t.Errorf("exit %+v, want SIGTERM", exit)
	}
	h.waitReaped(pid)
}

func TestJobThatTheKernelKillsForItsMemoryIsToldOf(t *testing.T) {
	h := newHost(t)
	group, err := os.MkdirTemp("/sys/fs/cgroup/memory", "belfry-test-") //nolint:usetesting // a cgroup, not a folder
	if err != nil {
		machine.Lacks(t, "a memory cgroup (version 1) that can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte("16M"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := h.open()
	s := h.spec(`echo $$ > "$GROUP/cgroup.procs"; exec tail /dev/zero`) // it keeps the line until it ends
	s.Env = append(s.Env, "GROUP="+group)
	d.start(s)
	if exit := d.exit(s); exit.Signal != "SIGKILL" || exit.Code != -1 || exit.Stopped || exit.TimedOut {
		t.Errorf("exit %+v, log %q; want SIGKILL by nobody of ours", exit, h.log(s))
	}
	other := h.spec(`exit 0`)
	d.start(other)
	d.exit(other)
	if ids := h.keepers(); len(ids) != 1 {
		t.Errorf("keepers %v: the first one was killed too", ids)
	}
}

func TestLimitOfProcessesIsToldInWords(t *testing.T) {
	h := newUserHost(t)
	d := h.open()
	for range 20 { // now it has all the threads it wants
		s := h.spec(`exit 0`)
		d.start(s)
		d.exit(s)
	}
	pid := h.keeperPID(h.keepers()[0])
	limit := func(n string) {
		t.Helper()
		command := append(slices.Clone(h.command[:3]), "limit-processes", strconv.Itoa(pid), n)
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", command, err, out)
		}
	}
	limit("1")
	s := h.spec(`exit 0`)
	d.start(s)
	if exit := d.exit(s); exit.Code != -1 || !strings.HasSuffix(exit.Error, ": the limit of processes is reached") {
		t.Errorf("exit %+v, want the limit of processes", exit)
	}
	limit("10000")
	s = h.spec(`exit 0`)
	d.start(s)
	if exit := d.exit(s); exit.Error != "" {
		t.Errorf("exit %+v, want success again", exit)
	}
}

// limitProcesses sets how many processes the user of pid may have for it to
// make another.
func limitProcesses(pid, n string) error {
	p, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	soft, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(p, unix.RLIMIT_NPROC, nil, &limit); err != nil {
		return err
	}
	limit.Cur = min(soft, limit.Max)
	return unix.Prlimit(p, unix.RLIMIT_NPROC, &limit, nil)
}

func TestWhatTheKernelRefusesIsSaidInWords(t *testing.T) {
	for errno, want := range map[error]string{
		unix.ENOMEM: "/bin/true: the machine has no memory for another process",
		unix.EAGAIN: "/bin/true: the limit of processes is reached",
		unix.EMFILE: "/bin/true: the limit of open files is reached",
	} {
		if got := explain(errno, "/bin/true", Spec{Args: []string{"/bin/true"}}, nil); got.Error() != want {
			t.Errorf("%v is said as %q, want %q", errno, got, want)
		}
	}
}

func TestMemoryOfAJobIsExactWhereItIsMoreThanItsKeepers(t *testing.T) {
	h := newHost(t)
	d := h.open()
	small, large := h.spec("true"), h.spec("head -c 100000000 /dev/zero | tail -n 1 >/dev/null") // it keeps the line until it ends
	bounded := h.spec("true")
	bounded.Umask = "027" // it begins as this binary
	d.start(small, large, bounded)
	for _, s := range []Spec{small, bounded} {
		if exit := d.exit(s); exit.MaxRSSExact || exit.MaxRSS < 1<<20 {
			t.Errorf("a job that needs nothing has had %d bytes (exact: %v), want at most as many as its keeper", exit.MaxRSS, exit.MaxRSSExact)
		}
	}
	if exit := d.exit(large); !exit.MaxRSSExact || exit.MaxRSS < 100_000_000 || exit.MaxRSS > 200_000_000 {
		t.Errorf("a job that needs a hundred megabytes has had %d bytes (exact: %v)", exit.MaxRSS, exit.MaxRSSExact)
	}
}

func TestFullDiskIsToldOfAndLeftBehind(t *testing.T) {
	h := newHost(t)
	h.mount("tmpfs", "size=1m")
	d := h.open()
	spec := func(command string) Spec {
		s := h.spec(command)
		s.Dir = filepath.Join(h.data, s.Run)
		if err := os.Mkdir(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return s
	}
	running := spec(`read x < go; exit 5`)
	fifo := h.fifo(Spec{Dir: running.Cwd}, "go")
	filler := spec(`cat /dev/zero`)
	unstarted := spec(`echo it ran > ran`)
	d.start(running)
	d.started(running)
	d.start(filler)
	if exit := d.exit(filler); exit.Code != 1 { // as it is without a keeper
		t.Errorf("exit of what fills the disk %+v, want code 1", exit)
	}
	h.let(fifo)
	if exit := d.exit(running); exit.Code != 5 {
		t.Errorf("exit %+v, want code 5", exit)
	}
	if _, err := os.Stat(filepath.Join(running.Dir, exitName)); err == nil {
		t.Fatal("there was room for the record: this test is blind")
	}
	_ = d.Close()
	d = h.open() // the keeper is there until somebody has the outcome
	if exit := d.wantStatus(running, Exited); exit.Code != 5 {
		t.Errorf("outcome %+v, want code 5", exit)
	}
	d.start(unstarted)
	if exit := d.exit(unstarted); !strings.HasPrefix(exit.Error, "start: ") || !strings.HasSuffix(exit.Error, "no space left on device") {
		t.Errorf("exit %+v, want that there is no space", exit)
	}
	if _, err := os.Stat(filepath.Join(unstarted.Cwd, "ran")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it ran: %v", err)
	}
	if err := os.Remove(filepath.Join(filler.Dir, logName)); err != nil {
		t.Fatal(err)
	}
	after := spec(`exit 0`)
	d.start(after)
	if exit := d.exit(after); exit.Error != "" || exit.Code != 0 {
		t.Errorf("exit %+v, want success", exit)
	}
	for _, s := range []Spec{running, filler, unstarted, after} {
		if err := d.Forget(s.Run, s.Attempt); err != nil {
			t.Fatal(err)
		}
	}
	d.wantStatus(h.spec(""), NeverStarted) // the keeper has read them
	_ = d.Close()
}

func TestAttemptWithAnOutcomeIsNotStarted(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`echo it ran > ran`)
	// As a keeper leaves it that had no room for its start record.
	err := writeExit(s.Dir, exitRecord{Run: s.Run, Attempt: 1, Token: 42, Keeper: "full", Exit: Exit{Code: -1, Error: "start: no space"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	d.start(s)
	if exit := d.exit(s); exit.Error != "start: no space" {
		t.Errorf("exit %+v, want the one that is recorded", exit)
	}
	if _, err := os.Stat(filepath.Join(s.Cwd, "ran")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it ran: %v", err)
	}
}

func TestKeeperThatHungUpIsNotAskedAgain(t *testing.T) {
	h := newHost(t)
	d := h.open()
	l, err := d.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(h.keeperPID(l.id), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	frame, seq, err := d.request(message{Type: typeList})
	if err != nil {
		t.Fatal(err)
	}
	for !errors.Is(err, errHangUp) {
		_, err = l.call(t.Context(), frame, seq)
	}
	if l.takes() {
		t.Error("a start would be given to it")
	}
	d.mu.Lock()
	d.links = append(d.links, l) // as one that is let go while the list is read
	d.mu.Unlock()
	if err := d.Forget("R", 1); err != nil {
		t.Errorf("Forget: %v, though it has nothing to forget", err)
	}
}

func TestKeeperThatWasKilledAtAStepOfAStart(t *testing.T) {
	for _, c := range []struct {
		command string
		ran     bool
	}{
		{"keeper-killed-recorded", false},
		{"keeper-killed-forked", true},
		{"bare-keeper-killed-forked", true},
	} {
		t.Run(c.command, func(t *testing.T) {
			h := newHost(t)
			keeper := h.command[1]
			h.command[1] = c.command
			d := h.open()
			s := h.spec(`echo x >> ledger; echo > ready; read x < go`)
			ready, fifo := h.fifo(s, "ready"), h.fifo(s, "go")
			d.start(s)
			select {
			case <-d.KeeperLost():
			case <-time.After(30 * time.Second):
				t.Fatal("the keeper has not died")
			}
			if record, err := readStart(s.Dir, s.Run, 1); err != nil || record.Keeper == "" || record.Process.PID != 0 {
				t.Fatalf("start record %+v, %v; want its first line only", record, err)
			}
			d.Client.command[1] = keeper
			d.start(s) // as a daemon does that has not heard of it
			d.doubt(s)
			want := ""
			if c.ran {
				want = "x\n"
				h.hear(ready)
				d.wantStatus(s, Survivor)
				h.let(fifo)
				for pid := range h.pids(s) {
					h.waitGone(pid)
				}
			}
			d.wantStatus(s, Lost)
			if ledger, err := os.ReadFile(filepath.Join(s.Dir, "ledger")); string(ledger) != want || (err != nil) == c.ran {
				t.Errorf("ledger %q, %v; want %q", ledger, err, want)
			}
		})
	}
}

// pids gives the living processes of an attempt.
func (h *host) pids(s Spec) map[int]bool {
	found := make(map[int]bool)
	for _, pid := range h.alive(s.Run + "\x00") {
		found[pid] = true
	}
	return found
}

// mount makes the data folder a file system of its own.
func (h *host) mount(kind, options string) {
	h.Helper()
	machine.NeedsRoot(h)
	if err := unix.Mount("none", h.data, kind, 0, options); err != nil {
		machine.Lacks(h, "a way to mount a %s: %v", kind, err)
	}
	h.Cleanup(func() {
		for _, id := range h.keepers() {
			h.waitKeeper(id)
		}
		if err := unix.Unmount(h.data, unix.MNT_DETACH); err != nil {
			h.Error(err)
		}
	})
}

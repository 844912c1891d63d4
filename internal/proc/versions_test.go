//go:build linux

package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// contains reports whether got has all that want has; "*" is anything.
func contains(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for name, value := range want {
			if other, found := got[name]; !found || !contains(other, value) {
				return false
			}
		}
		return true
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			if !contains(got[i], want[i]) {
				return false
			}
		}
		return true
	case string:
		return want == "*" && got != nil || reflect.DeepEqual(got, want)
	}
	return reflect.DeepEqual(got, want)
}

// The transcript was taken from the first release, and is never changed.
func TestDaemonOfTheFirstReleaseUnderstandsThisKeeper(t *testing.T) {
	h := newHost(t)
	_, id := h.keeper()
	r := h.dial(id)
	defer func() { _ = r.conn.Close() }()
	s := h.spec("")
	transcript, err := os.ReadFile(filepath.Join("testdata", "protocol1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	ready := h.fifo(s, "ready")
	for line := range strings.Lines(strings.NewReplacer("RUN", s.Run, "DIR", s.Dir).Replace(string(transcript))) {
		line = strings.TrimSpace(line)
		if frame, ok := strings.CutPrefix(line, "> "); ok {
			if strings.Contains(frame, `"kind":"kill"`) {
				h.hear(ready)
			}
			r.send(frame)
			continue
		}
		frame, err := readFrame(r.reader, maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := errors.Join(json.Unmarshal(frame, &got), json.Unmarshal([]byte(line[2:]), &want)); err != nil {
			t.Fatal(err)
		}
		if !contains(got, want) {
			t.Fatalf("the keeper says\n%s\nwant\n%s", frame, line[2:])
		}
	}
}

// firstKeeper answers as the keeper of the first release did, with one attempt
// that runs until it is signalled, and says what it was asked.
func (h *host) firstKeeper(id string, s Spec) (asked <-chan string) {
	h.Helper()
	f, err := makeFolder(filepath.Join(h.data, "keeper"), id)
	if err != nil {
		h.Fatal(err)
	}
	questions := make(chan string, 100)
	done := make(chan struct{})
	h.Cleanup(func() {
		if err := f.remove(); err != nil {
			h.Error(err)
		}
		<-done
		_ = f.close()
	})
	go func() {
		defer close(done)
		defer close(questions)
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		reader := bufio.NewReader(conn)
		greeted := false
		for {
			frame, err := readFrame(reader, maxFrame)
			if err != nil {
				return
			}
			var m struct {
				Type     string
				Seq      int
				Protocol int
				Kind     string
			}
			if err := json.Unmarshal(frame, &m); err != nil {
				return
			}
			questions <- m.Type
			attempt := fmt.Sprintf(`"run":%q,"attempt":1,"token":42`, s.Run)
			switch {
			case m.Type == "hello" && m.Protocol != 1:
				fmt.Fprintf(conn, `{"type":"error","seq":%d,"protocol":1,"code":"version","error":"this keeper speaks protocol 1, not %d"}`+"\n", m.Seq, m.Protocol)
			case m.Type == "hello":
				greeted = true
				fmt.Fprintf(conn, `{"type":"hello","seq":%d,"protocol":1,"keeper":%q,"build":"the first release","pid":1}`+"\n", m.Seq, id)
			case !greeted:
				fmt.Fprintf(conn, `{"type":"error","seq":%d,"protocol":1,"code":"invalid","error":"say hello first"}`+"\n", m.Seq)
			case m.Type == "list":
				fmt.Fprintf(conn, `{"type":"list","seq":%d,"attempts":[{%s,"state":"running","started":{"pid":4711,"at":"2026-11-22T12:31:38Z"}}]}`+"\n", m.Seq, attempt)
			case m.Type == "signal":
				fmt.Fprintf(conn, `{"type":"ok","seq":%d}`+"\n", m.Seq)
				fmt.Fprintf(conn, `{"type":"events","events":[{%s,"exit":{"code":-1,"signal":"SIGTERM","stopped":true,"started_at":"2026-11-22T12:31:38Z","ended_at":"2026-11-22T12:31:39Z","wall_ns":1000000000,"user_cpu_ns":1,"system_cpu_ns":1,"max_rss":1}}]}`+"\n", attempt)
			case m.Type == "renew":
				fmt.Fprintf(conn, `{"type":"error","seq":%d,"protocol":1,"code":"unsupported","error":"renew is not supported in this version"}`+"\n", m.Seq)
			}
		}
	}()
	return questions
}

func TestKeeperOfTheFirstReleaseUnderstandsThisDaemon(t *testing.T) {
	h := newHost(t)
	old := h.spec("")
	asked := h.firstKeeper("0", old)
	d := h.open()
	if got := d.started(old); got.PID != 4711 {
		t.Errorf("started %+v, want pid 4711", got)
	}
	if err := d.Renew(old.Run, 1, 42, time.Minute); err == nil || !strings.Contains(err.Error(), "not supported") {
		t.Errorf("Renew: %v, want that it is not supported", err)
	}
	s := h.spec(`exit 0`) // goes to a keeper of this build
	d.start(s)
	d.exit(s)
	if err := d.Signal(old.Run, 1, Stop); err != nil {
		t.Fatal(err)
	}
	if exit := d.exit(old); exit.Signal != "SIGTERM" || !exit.Stopped {
		t.Errorf("exit %+v, want stopped by SIGTERM", exit)
	}
	if err := d.Forget(old.Run, 1); err != nil {
		t.Fatal(err)
	}
	var questions []string
	for question := range asked { // it is let go
		questions = append(questions, question)
	}
	if got, want := fmt.Sprint(questions), "[hello hello list renew signal forget]"; got != want {
		t.Errorf("the old keeper was asked %s, want %s", got, want)
	}
}

func TestVersionsAgreeOnTheNewestThatBothSpeak(t *testing.T) {
	for _, c := range []struct{ newest, oldest, want int }{
		{ProtocolVersion, OldestProtocol, ProtocolVersion},
		{1, 0, 1},
		{ProtocolVersion + 5, OldestProtocol, ProtocolVersion},
		{ProtocolVersion + 5, ProtocolVersion, ProtocolVersion},
		{ProtocolVersion + 5, ProtocolVersion + 1, 0},
		{ProtocolVersion + 5, 0, 0},
		{OldestProtocol - 1, 0, 0},
		{0, 0, 0},
	} {
		if got := agree(c.newest, c.oldest); got != c.want {
			t.Errorf("with %d to %d: %d, want %d", c.oldest, c.newest, got, c.want)
		}
	}
}

// halt stops a process, and returns when none of its threads runs any more.
func (h *host) halt(pid int) {
	h.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		h.Fatal(err)
	}
	for running := true; running; {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			h.Fatalf("threads of %d: %v, %v", pid, stats, err)
		}
		running = false
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				h.Fatal(err)
			}
			running = running || !strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " T")
		}
	}
}

func TestKeeperThatIsStoppedHoldsNobodyUp(t *testing.T) {
	h := newHost(t)
	d := h.open()
	running := h.spec(`echo x >> ledger; read x < go`)
	fifo := h.fifo(running, "go")
	d.start(running)
	d.started(running)
	frozen := h.keepers()[0]
	pid := h.keeperPID(frozen)
	h.halt(pid)
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()

	asked := time.Now()
	s := h.spec(`echo x >> ledger`)
	d.start(s) // is in the frozen keeper's socket, and then asked of another
	d.exit(s)
	if took := time.Since(asked); took > callTimeout/2 {
		t.Errorf("the start took %s, though the kernel tells that the keeper is stopped", took)
	}
	if ids := h.keepers(); len(ids) != 2 {
		t.Errorf("keepers %v, want a second one", ids)
	}
	d.wantStatus(running, Running)
	d.wantStatus(h.spec(""), NeverStarted)
	if err := d.Signal(running.Run, 1, Stop); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("Signal to a stopped keeper: %v, want that it does not answer", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	next := h.open() // a daemon that comes to a stopped keeper goes on without it
	if waited := time.Since(begun); waited > helloTimeout/2 {
		t.Errorf("a daemon has waited %s for a keeper that is stopped", waited)
	}
	next.wantStatus(running, Running)

	d = next
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.let(fifo)
	d.exit(running) // it was connected to after all
	for _, s := range []Spec{running, s} {
		if ledger, err := os.ReadFile(filepath.Join(s.Dir, "ledger")); err != nil || string(ledger) != "x\n" {
			t.Errorf("ledger %q, %v; want one line", ledger, err)
		}
	}
}

func TestAttemptThatIsVoidIsNotStartedByAKeeperThatWasStopped(t *testing.T) {
	h := newHost(t)
	d, id := h.keeper()
	r := h.dial(id)
	defer func() { _ = r.conn.Close() }()
	r.send(`{"type":"hello","seq":1,"protocol":3}`)
	r.next()
	pid := h.keeperPID(id)
	h.halt(pid)
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	s := h.spec(`echo it ran > ran`)
	frame, err := encode(message{Type: typeStart, Specs: []wireSpec{toWire(s)}})
	if err != nil {
		t.Fatal(err)
	}
	r.send(strings.TrimSpace(string(frame))) // a daemon that is dead now had sent it
	if err := Void(s.Dir, s.Run, 1, Exit{Code: -1, Stopped: true}); err != nil {
		t.Fatal(err)
	}
	if exit := d.wantStatus(s, Exited); !exit.Stopped { // should we be killed now
		t.Errorf("exit %+v, want stopped", exit)
	}
	if err := Void(s.Dir, s.Run, 1, Exit{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("what has a record is void: %v", err)
	}
	if err := Void(filepath.Join(s.Dir, "nowhere"), s.Run, 1, Exit{}); err != nil {
		t.Errorf("what has no directory: %v", err)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.exit(s)
	if _, err := os.Stat(filepath.Join(s.Dir, "ran")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was started all the same: %v", err)
	}
}

func TestKeeperThatWasStoppedIsLeftToItsLastAttempt(t *testing.T) {
	h := newHost(t)
	d := h.open()
	running := h.spec(`read x < go`)
	fifo := h.fifo(running, "go")
	d.start(running)
	d.started(running)
	old := h.keepers()[0]
	pid := h.keeperPID(old)
	h.halt(pid)
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	d.patience = 300 * time.Millisecond
	s := h.spec(`true`)
	d.start(s) // another keeper is asked
	d.exit(s)
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.let(fifo)
	d.exit(running)
	h.soon("both are forgotten, and the old keeper ends", func() bool {
		for _, s := range []Spec{s, running} {
			if err := d.Forget(s.Run, 1); err != nil {
				t.Fatal(err)
			}
		}
		return !slices.Contains(h.keepers(), old)
	})
	if ids := h.keepers(); len(ids) != 1 {
		t.Errorf("keepers %v, want the newer one alone", ids)
	}
}

func TestLeaseThatIsNotRenewedEndsTheAttempt(t *testing.T) {
	h := newHost(t)
	d := h.open()
	lost, renewed := h.spec(`trap "" TERM; (setsid sleep 1000 &); while :; do sleep 1000; done`), h.spec(`read x < go`)
	fifo := h.fifo(renewed, "go")
	cut := h.spec(`sleep 1000`)
	lost.Lease, renewed.Lease, cut.Lease = 300*time.Millisecond, time.Hour, time.Hour
	d.start(lost, renewed, cut)
	for s, lease := range map[*Spec]time.Duration{&renewed: 2 * time.Hour, &cut: time.Nanosecond} {
		if err := d.Renew(s.Run, 1, 42, lease); err != nil {
			t.Fatal(err)
		}
	}
	if exit := d.exit(cut); !exit.LeaseLost {
		t.Errorf("exit %+v, want that the renewed lease has ended it", exit)
	}
	for _, c := range []struct {
		s     Spec
		token int64
	}{{renewed, 41}, {h.spec(""), 42}} {
		if err := d.Renew(c.s.Run, 1, c.token, time.Hour); err == nil {
			t.Errorf("Renew of %s with token %d succeeded", c.s.Run, c.token)
		}
	}
	d.started(lost)
	_ = d.Close() // nobody will renew it
	d = h.open()
	exit := d.exit(lost)
	if !exit.LeaseLost || exit.Signal != "SIGKILL" || exit.Stopped || exit.TimedOut {
		t.Errorf("exit %+v, want the lease lost", exit)
	}
	if left := h.alive(lost.Run + "\x00"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if got := d.wantStatus(lost, Exited); !got.LeaseLost {
		t.Errorf("the record says %+v, want the lease lost", got)
	}
	h.let(fifo)
	if exit := d.exit(renewed); exit.LeaseLost || exit.Code != 0 {
		t.Errorf("exit %+v, want success", exit)
	}
	late := h.spec(`echo it ran > ran`)
	late.Lease = time.Nanosecond
	d.start(late)
	if exit := d.exit(late); !exit.LeaseLost || exit.Error != "its lease ran out before it was started" {
		t.Errorf("exit %+v, want the lease lost", exit)
	}
	if _, err := os.Stat(filepath.Join(late.Dir, "ran")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it ran: %v", err)
	}
}

func TestWhoOnlyLooksOnKeepsNoKeeperAlive(t *testing.T) {
	h := newHost(t)
	d := h.open()
	if _, err := d.current(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	for begin := time.Now(); ; {
		list, err := Keepers(t.Context(), h.data)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%+v is asked how it is, and lives on", list)
		}
	}
}

func TestKeepersAreAskedInTheirOwnProtocol(t *testing.T) {
	h := newHost(t)
	h.firstKeeper("0", h.spec(""))
	list, err := Keepers(t.Context(), h.data)
	if err != nil || len(list) != 1 || list[0].PID != 1 || list[0].Err != nil {
		t.Errorf("keepers %+v, %v; want the one with pid 1", list, err)
	}
}

func TestForgetGoesOnOverAKeeperThatReadsNothing(t *testing.T) {
	h := newHost(t)
	d := h.open()
	running := h.spec(`read x < go`)
	fifo := h.fifo(running, "go")
	d.start(running)
	d.started(running)
	pid := h.keeperPID(h.keepers()[0])
	h.halt(pid)
	defer func() {
		_ = unix.Kill(pid, unix.SIGCONT)
		h.let(fifo)
	}()
	d.patience = 300 * time.Millisecond
	s := h.spec(`exit 0`)
	d.start(s)
	d.exit(s)
	stopped := d.living()[0]
	stopped.silent.Store(false) // as one that was stopped just now
	for err := error(nil); err == nil; {
		if err = stopped.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err == nil {
			_, err = stopped.conn.Write(make([]byte, 64<<10))
		}
	}
	if err := d.Forget(s.Run, s.Attempt); err == nil || !strings.Contains(err.Error(), stopped.id) {
		t.Errorf("Forget: %v, want that one keeper was not told", err)
	}
	d.wantStatus(h.spec(""), NeverStarted) // the other has read it
	r := h.dial(h.keepers()[1])
	defer func() { _ = r.conn.Close() }()
	r.send(`{"type":"hello","seq":1,"protocol":1}`, `{"type":"list","seq":2}`)
	r.next()
	if list := r.next(); len(list.Attempts) != 0 {
		t.Errorf("the other keeper has not forgotten %+v", list.Attempts)
	}
}

//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// raw speaks the protocol by hand.
type raw struct {
	h      *host
	conn   *net.UnixConn
	reader *bufio.Reader
}

func (h *host) dial(id string) *raw {
	h.Helper()
	conn, err := dialKeeper(filepath.Join(h.data, "keeper", id))
	if err != nil {
		h.Fatal(err)
	}
	return &raw{h, conn, bufio.NewReader(conn)}
}

func (r *raw) send(lines ...string) {
	r.h.Helper()
	if _, err := io.WriteString(r.conn, strings.Join(lines, "\n")+"\n"); err != nil {
		r.h.Fatal(err)
	}
}

func (r *raw) next() message {
	r.h.Helper()
	frame, err := readFrame(r.reader, maxFrame)
	if err != nil {
		r.h.Fatal(err)
	}
	var m message
	if err := json.Unmarshal(frame, &m); err != nil {
		r.h.Fatal(err)
	}
	return m
}

// keeper starts one and keeps it alive by a connection.
func (h *host) keeper() (*daemon, string) {
	h.Helper()
	d := h.open()
	l, err := d.current(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	return d, l.id
}

func TestKeeperAnswersWhatItDoesNotUnderstand(t *testing.T) {
	h := newHost(t)
	_, id := h.keeper()
	r := h.dial(id)
	defer func() { _ = r.conn.Close() }()
	for _, c := range []struct{ frame, wantType, wantCode string }{
		{`{"type":"list","seq":1}`, typeError, codeInvalid}, // before hello
		{`{"type":"hello","seq":2,"protocol":99}`, typeError, codeVersion},
		{`{"type":"hello","seq":3,"protocol":0}`, typeError, codeVersion},
		{`{"type":"hello","seq":3,"protocol":99,"oldest":98}`, typeError, codeVersion},
		{`{"type":"hello","seq":4,"protocol":1,"colour":"blue"}`, typeHello, ""},
		{`rubbish`, typeError, codeInvalid},
		{``, typeError, codeInvalid},
		{`{"type":"start","specs":7}`, typeError, codeInvalid},
		{`{"type":"dance","seq":5}`, typeError, codeUnsupported},
		{`{"type":"renew","seq":6,"run":"r","attempt":1,"token":1}`, typeError, codeUnknown},
		{`{"type":"signal","seq":7,"run":"r","attempt":1,"kind":"stop"}`, typeError, codeUnknown},
		{`{"type":"forget","seq":8,"run":"r","attempt":1}`, typeOK, ""},
		{`{"type":"list","seq":9}`, typeList, ""},
		{`{"type":"hold","seq":10,"specs":[]}`, typeOK, ""},
		{`{"type":"go","seq":11,"hold":9}`, typeError, codeUnknown},
		{`{"type":"go","seq":12,"hold":10}`, typeOK, ""},
		{`{"type":"go","seq":13,"hold":10}`, typeError, codeUnknown}, // only once
	} {
		r.send(c.frame)
		m := r.next()
		if m.Type != c.wantType || m.Code != c.wantCode || (m.Type == typeError) != (m.Error != "") {
			t.Errorf("%s: answer %+v, want %s %s", c.frame, m, c.wantType, c.wantCode)
		}
		if m.Code == codeVersion && m.Protocol != ProtocolVersion {
			t.Errorf("%s: the refusal names protocol %d, want %d", c.frame, m.Protocol, ProtocolVersion)
		}
	}
}

func TestKeeperActsOnWholeFramesOnly(t *testing.T) {
	h := newHost(t)
	d, id := h.keeper()
	s := h.spec(`exit 0`)
	frame, err := encode(message{Type: typeStart, Seq: 2, Specs: []wireSpec{toWire(s)}})
	if err != nil {
		t.Fatal(err)
	}
	r := h.dial(id)
	r.send(`{"type":"hello","seq":1,"protocol":1}`)
	r.next()
	// All but the newline: it would be a good frame.
	if _, err := r.conn.Write(frame[:len(frame)-1]); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r.reader); err != nil || len(rest) > 0 {
		t.Errorf("answer %q, %v; want a hang-up", rest, err)
	}
	_ = r.conn.Close()
	d.wantStatus(s, NeverStarted)
}

func TestFrameThatIsTooLongEndsTheConnection(t *testing.T) {
	h := newHost(t)
	d, id := h.keeper()
	r := h.dial(id)
	defer func() { _ = r.conn.Close() }()
	r.send(`{"type":"hello","seq":1,"protocol":1}`)
	r.next()
	block := bytes.Repeat([]byte{' '}, 64<<10)
	var err error
	sent := 0
	for err == nil && sent < 4*testLimit { // more than the socket holds on its way
		_, err = r.conn.Write(block)
		sent += len(block)
	}
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("write: %v, want a hang-up", err)
	}
	s := h.spec(`exit 0`)
	d.start(s) // others are not affected
	d.exit(s)
}

func TestStartLongerThanAFrameIsSplit(t *testing.T) {
	h := newHost(t)
	d := h.open()
	one, two := h.spec(`wc -c`), h.spec(`wc -c`)
	d.limit = 4 << 10
	one.Stdin = make([]byte, 2<<10) // 2.7 KiB in base64
	two.Stdin = one.Stdin
	d.start(one, two)
	for _, s := range []Spec{one, two} {
		d.exit(s)
		if got := h.log(s); got != "2048\n" {
			t.Errorf("log %q, want 2048", got)
		}
	}
}

func TestStartThatFitsInNoFrameIsRefused(t *testing.T) {
	h := newHost(t)
	d := h.open()
	d.limit = 4 << 10
	s := h.spec(`exit 0`)
	s.Stdin = make([]byte, 4<<10)
	if err := d.Start(t.Context(), []Spec{s}); !errors.Is(err, errFrameTooLong) {
		t.Errorf("Start: %v, want %v", err, errFrameTooLong)
	}
	d.wantStatus(s, NeverStarted)
}

func TestClientLeavesAKeeperOfAnotherProtocolAlone(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.data, "keeper")
	f, err := makeFolder(dir, "future")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.remove() }()
	go func() {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		r := bufio.NewReader(conn)
		if _, err := readFrame(r, maxFrame); err == nil {
			_, _ = io.WriteString(conn, `{"type":"error","seq":1,"code":"version","protocol":99,"error":"this keeper speaks protocol 99, not 1"}`+"\n")
			_, _ = readFrame(r, maxFrame)
		}
	}()
	d := h.open()
	old := h.spec("")
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	file, err := createStart(old.Dir, startRecord{Run: old.Run, Attempt: 1, Keeper: "future", Boot: boot})
	if err != nil {
		t.Fatal(err)
	}
	file.close()
	d.wantStatus(old, Running) // under a living keeper, though not one of ours
	s := h.spec(`exit 0`)
	d.start(s)
	d.exit(s)
	if err := f.remove(); err != nil {
		t.Fatal(err)
	}
	d.wantStatus(old, Lost)
}

func TestKeeperOfAnotherBuildIsLeftToItsLastJob(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`read x < go`)
	fifo := h.fifo(s, "go")
	d.start(s)
	d.started(s)
	old := h.keepers()[0]
	_ = d.Close()

	d = h.open()
	for _, l := range d.living() { // as if an upgrade had come between
		l.build = "older"
		l.known = map[key]bool{{s.Run, s.Attempt}: true}
	}
	next := h.spec(`exit 0`)
	d.start(next)
	d.exit(next)
	if got := h.keepers(); len(got) != 2 || got[0] != old {
		t.Fatalf("keepers %v, want %s and a new one", got, old)
	}
	h.let(fifo)
	d.exit(s)
	if err := d.Forget(s.Run, s.Attempt); err != nil {
		t.Fatal(err)
	}
	h.waitKeeper(old)
	select {
	case id := <-d.KeeperLost():
		t.Errorf("keeper %s counts as lost, but it was let go", id)
	default:
	}
}

func TestDeadKeepersFolderIsRemoved(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.data, "keeper")
	for _, name := range []string{"dead", ".halfway"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, ".halfway"), long, long); err != nil {
		t.Fatal(err)
	}
	h.open()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add("{\"type\":\"hello\"}\n{}\nrest")
	f.Add("\n\n")
	f.Fuzz(func(t *testing.T, input string) {
		r := bufio.NewReaderSize(strings.NewReader(input), 16)
		for _, want := range strings.SplitAfter(input, "\n") {
			got, err := readFrame(r, maxFrame)
			whole := strings.HasSuffix(want, "\n")
			if whole != (err == nil) || whole && string(got) != strings.TrimSuffix(want, "\n") {
				t.Fatalf("%q: frame %q, %v; want %q", input, got, err, want)
			}
		}
	})
}

func FuzzParseStat(f *testing.F) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(stat))
	f.Add("1 (a) b) (c) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 0 0")
	f.Fuzz(func(t *testing.T, stat string) {
		p, err := parseStat(1, stat)
		if err == nil && p.state == 0 {
			t.Fatalf("%q: no state", stat)
		}
	})
}

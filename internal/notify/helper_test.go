package notify

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/outbox"
)

var update = flag.Bool("update", false, "write the golden files")

// spool is a folder of mailboxes on a machine whose users alice and bob are the
// one who runs the test, and mallory is somebody else.
func spool(t *testing.T) (*Mailbox, string) {
	t.Helper()
	dir := t.TempDir()
	return newMailbox(dir), dir
}

func newMailbox(dir string) *Mailbox {
	m := New(Options{Spool: func() string { return dir }, Log: slog.New(slog.DiscardHandler)})
	m.lookup = func(name string) (account, error) {
		switch name {
		case "alice", "bob":
			return account{name, os.Geteuid(), os.Getegid()}, nil
		case "mallory":
			return account{name, os.Geteuid() + 4321, os.Getegid()}, nil
		}
		return account{}, user.UnknownUserError(name)
	}
	return m
}

var at = time.Date(2026, time.November, 22, 17, 0, 0, 0, time.FixedZone("KST", 9*3600))

// note is a message to alice.
func note(body string) Message {
	return Message{
		To: []string{"alice"}, User: "alice", Host: "belfry.example.com", Command: "make report",
		Env: []string{"LANG=C.UTF-8", "MAILTO=alice"}, Body: body, At: at, Run: "01JRUN",
	}
}

func item(t *testing.T, id string, msg Message) outbox.Item {
	t.Helper()
	payload, err := json.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	return outbox.Item{ID: id, Kind: outbox.Notice, Payload: payload}
}

func noSave(json.RawMessage) error { return errors.New("save was called") }

func send(t *testing.T, m *Mailbox, id string, msg Message) {
	t.Helper()
	if _, err := m.Send(t.Context(), item(t, id, msg), noSave); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

// wantFinal fails unless err is final and says all of words.
func wantFinal(t *testing.T, err error, words ...string) {
	t.Helper()
	if !outbox.IsFinal(err) {
		t.Fatalf("got error %v, want a final one", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// python is a script that runs beside the test and talks with it line by line.
type python struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
	cmd *exec.Cmd
}

func startPython(t *testing.T, script string, args ...string) *python {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Fatal("python3 is missing: these tests read mailboxes with it, and tools/test.sh installs it")
	}
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-u", "-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &python{t, in, bufio.NewReader(out), cmd}
}

func (p *python) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *python) hear(want string) {
	p.t.Helper()
	got, err := p.out.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != want {
		p.t.Fatalf("python said %q (%v), want %q", got, err, want)
	}
}

func (p *python) wait() {
	p.t.Helper()
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("python: %v", err)
	}
}

// parsed is a mail as Python's mailbox.mbox sees it.
type parsed struct {
	From    string     `json:"from"`
	Headers [][]string `json:"headers"`
	Body    string     `json:"body"` // bytes as latin-1
}

func parse(t *testing.T, path string) []parsed {
	t.Helper()
	p := startPython(t, `
import json, mailbox, sys
box = mailbox.mbox(sys.argv[1], create=False)
mails = []
for m in box:
    headers = [[k, str(v).encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')] for k, v in m.raw_items()]
    mails.append({'from': m.get_from(), 'headers': headers, 'body': m.get_payload(decode=True).decode('latin-1')})
print(json.dumps(mails))
`, path)
	var mails []parsed
	if err := json.NewDecoder(p.out).Decode(&mails); err != nil {
		t.Fatalf("python's reading of %s: %v", path, err)
	}
	p.wait()
	return mails
}

func (p parsed) header(name string) string {
	for _, h := range p.Headers {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

func latin1(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

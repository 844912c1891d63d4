package syslog

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func next(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	line := make([]byte, 1000)
	n, err := conn.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return string(line[:n])
}

func TestLinesAreRFC3164s(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	conn := listen(t, path)
	log := New(path)
	defer log.Close()
	log.Event("CRON", 12, "alice", "CMD", "make report")
	if line, want := next(t, conn), `^<78>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d CRON\[12\]: \(alice\) CMD \(make report\)$`; !regexp.MustCompile(want).MatchString(line) {
		t.Errorf("the line is %q, want %s", line, want)
	}
}

func TestALogThatIsStartedAnewIsFoundAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	log := New(path)
	defer log.Close()
	first := listen(t, path)
	log.Event("cron", 1, "CRON", "INFO", "one")
	next(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := listen(t, path)
	log.Event("cron", 1, "CRON", "INFO", "two")
	if line := next(t, second); !regexp.MustCompile(`\(two\)$`).MatchString(line) {
		t.Errorf("the line is %q", line)
	}
}

func TestALogThatIsFullIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	listen(t, path) // and reads nothing
	log := New(path)
	begun := time.Now()
	for range 2 * room { // more than the kernel and the Log keep together
		log.Event("CRON", 1, "alice", "CMD", "x")
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("events took %v", took)
	}
	log.Close()
	if took := time.Since(begun); took > 4*patience {
		t.Errorf("Close took %v", took)
	}
	log.Event("CRON", 1, "alice", "CMD", "after Close")
}

func TestCloseWritesWhatStillWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	conn := listen(t, path)
	log := New(path)
	for n := range 5 {
		log.Event("CRON", n, "alice", "CMD", "x")
	}
	log.Close()
	for range 5 {
		next(t, conn)
	}
}

func TestPrintableIsCrons(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain text":   "plain text",
		"a\tb\r\n":     "a^Ib^M^J",
		"\x7f\x00":     "^?^@",
		"\xe9 밤":       `\351 \353\260\244`,
		`back\slash %`: `back\slash %`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("Printable(%q) = %q, want %q", text, got, want)
		}
	}
}

package notify

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMailIsCronsToTheLetter(t *testing.T) {
	t.Parallel()
	korean := note("매출 보고서 완료\r\nFrom 서울\n>From here\nno newline at the end")
	korean.Command = "보고서 --매출\t'x'"
	korean.To = []string{"alice", "ops@example.com"}
	korean.From = "cron@example.com"
	failed := note("")
	failed.Subject, failed.Intro = "report failed: exit code 3", "report failed after 3 attempts.\nFrom now on it is paused."
	failed.Body = "Traceback …\n"
	for name, msg := range map[string]Message{"cron": note("1 file made\n"), "korean": korean, "notice": failed, "empty": note("")} {
		got := format(msg, messageID(msg.Run, "01JITEM", msg.Host), []byte(msg.Body))
		golden := filepath.Join("testdata", name+".mbox")
		if *update {
			if err := os.WriteFile(golden, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(t, golden); string(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestNothingInAMessageAddsAHeader(t *testing.T) {
	t.Parallel()
	evil := "x\nBcc: eve@example.com\r\nX: y\x00\x7f\u0085\u2028z\xff"
	msg := Message{
		From: evil, To: []string{evil}, Mailbox: "alice", User: evil, Host: evil, Command: evil, Env: []string{"A=" + evil},
		ContentType: evil, TransferEncoding: evil, Run: evil, At: at, Body: "body\n",
	}
	for _, subject := range []string{"", evil} {
		msg.Subject = subject
		head, body, _ := strings.Cut(string(format(msg, messageID(msg.Run, evil, msg.Host), []byte(msg.Body))), "\n\n")
		if body != "body\n\n" {
			t.Errorf("body is %q", body)
		}
		if !utf8.ValidString(head) {
			t.Errorf("header is not UTF-8: %q", head)
		}
		var names []string
		for line := range strings.SplitSeq(head, "\n") {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
		got := strings.Join(names[1:], " ")
		want := "Date Message-ID From To Subject MIME-Version Content-Type Content-Transfer-Encoding Auto-Submitted Precedence X-Cron-Env"
		if got != want {
			t.Errorf("headers are %s\nwant %s", got, want)
		}
	}
}

func TestUnsafeMailFromFallsBackToTheUser(t *testing.T) {
	t.Parallel()
	msg := note("")
	msg.From = "Ann <ann@example.com>"
	if got := string(format(msg, "<x>", nil)); !strings.Contains(got, "\nFrom: \"(Cron Daemon)\" <alice>\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestBodyIsPassedThroughButForWhatAMailboxCannotHold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, want, why string }{
		{"a\r\nb\rc\n", "a\nbc\n", "every \\r goes"},
		{"F\rrom me\n", ">From me\n", "quoted after the \\r is gone"},
		{">From me\n", ">From me\n", "mboxo does not quote the quote"},
		{" From me\nfrom me\nFrom\n", " From me\nfrom me\nFrom\n", "not From_ lines"},
		{"\xff\xfe\x00\xed\xa0\x80", "\xff\xfe\x00\xed\xa0\x80\n", "bytes that are no UTF-8"},
		{"끝\n\n\n", "끝\n\n\n", "empty lines at the end"},
	} {
		var b bytes.Buffer
		writeBody(&b, []byte(tt.body))
		if b.String() != tt.want {
			t.Errorf("body %q is written %q, want %q: %s", tt.body, b.String(), tt.want, tt.why)
		}
	}
}

func TestLongBodyIsCutInItsMiddle(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	var log strings.Builder
	for n := 0; log.Len() < 10<<20; n++ {
		fmt.Fprintf(&log, "줄 %d 입니다\n", n)
	}
	path := filepath.Join(dir, "log")
	write(t, log.String(), path)
	msg := note("")
	msg.BodyFile = path
	got, err := m.body(msg)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(got), "[… ")
	hint, tail, _ := strings.Cut(rest, " …]\n")
	if len(head) < 510<<10 || len(tail) < 510<<10 || len(got) > 1<<20+200 {
		t.Errorf("head %d, tail %d, all %d bytes; want about 512 KiB twice", len(head), len(tail), len(got))
	}
	if !strings.HasPrefix(log.String(), head) || !strings.HasSuffix(log.String(), tail) || !strings.HasSuffix(head, "니다\n") || !strings.HasPrefix(tail, "줄 ") {
		t.Error("the cut is not between lines")
	}
	if want := fmt.Sprintf("%d of %d bytes left out here; belfry logs 01JRUN", log.Len()-len(head)-len(tail), log.Len()); hint != want {
		t.Errorf("got %q, want %q", hint, want)
	}
}

func TestLongLineIsCutBetweenRunes(t *testing.T) {
	t.Parallel()
	m, _ := spool(t)
	for limit := int64(100); limit < 112; limit++ {
		msg := note(strings.Repeat("a한😀", 100))
		msg.BodyLimit = limit
		got, err := m.body(msg)
		if err != nil || !utf8.Valid(got) {
			t.Errorf("limit %d: %q, %v", limit, got, err)
		}
	}
	msg := note(strings.Repeat("\x80", 100))
	msg.BodyLimit = 10
	if got, err := m.body(msg); err != nil || !bytes.HasPrefix(got, []byte("\x80\x80\x80\x80\x80\n[… 90 of")) {
		t.Errorf("not UTF-8 at all: %q, %v", got, err)
	}
}

func TestOnlyALogOfTheUserIsRead(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	secret := filepath.Join(dir, "secret")
	write(t, "hunter2\n", secret)
	link, hard := filepath.Join(dir, "link"), filepath.Join(dir, "hard")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	twice := filepath.Join(dir, "twice")
	write(t, "hunter2\n", twice)
	if err := os.Link(twice, hard); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ file, user, want string }{
		{secret, "alice", "hunter2"},
		{link, "alice", "[the output could not be read: "},
		{hard, "alice", "another name"},
		{dir, "alice", "not a regular file"},
		{filepath.Join(dir, "gone"), "alice", "no such file"},
		{secret, "mallory", "not a file of user mallory"},
		{secret, "nobody-here", "not a file of user nobody-here"},
	} {
		if os.Geteuid() != 0 && tt.user != "alice" {
			continue // then all that can be read is the test's own
		}
		msg := note("")
		msg.BodyFile, msg.User = tt.file, tt.user
		got, err := m.body(msg)
		if err != nil || !strings.Contains(string(got), tt.want) {
			t.Errorf("%s for %s: %q, %v; want %q", tt.file, tt.user, got, err, tt.want)
		}
	}
}

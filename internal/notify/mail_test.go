package notify

import (
	"bytes"
	"context"
	"errors"
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
		got := mailboxMail(msg, messageID(msg.Run, "01JITEM", msg.Host), []byte(msg.Body))
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
		head, body, _ := strings.Cut(string(mailboxMail(msg, messageID(msg.Run, evil, msg.Host), []byte(msg.Body))), "\n\n")
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
	if got := string(mailboxMail(msg, "<x>", nil)); !strings.Contains(got, "\nFrom: \"(Cron Daemon)\" <alice>\n") {
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
	m, _ := spool(t)
	var log strings.Builder
	for n := 0; log.Len() < 10<<20; n++ {
		fmt.Fprintf(&log, "줄 %d 입니다\n", n)
	}
	m.output = func(_ context.Context, _ string, _ int, limit int64) (head, tail []byte, length int64, err error) {
		return []byte(log.String()[:limit/2]), []byte(log.String()[log.Len()-int(limit/2):]), int64(log.Len()), nil
	}
	msg := note("")
	msg.Attempt = 2
	got, err := m.body(t.Context(), msg)
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
		got, err := m.body(t.Context(), msg)
		if err != nil || !utf8.Valid(got) {
			t.Errorf("limit %d: %q, %v", limit, got, err)
		}
	}
	msg := note(strings.Repeat("\x80", 100))
	msg.BodyLimit = 10
	if got, err := m.body(t.Context(), msg); err != nil || !bytes.HasPrefix(got, []byte("\x80\x80\x80\x80\x80\n[… 90 of")) {
		t.Errorf("not UTF-8 at all: %q, %v", got, err)
	}
}

func TestTheNewsIsNotLostWithTheOutput(t *testing.T) {
	t.Parallel()
	m, _ := spool(t)
	m.output = func(context.Context, string, int, int64) (head, tail []byte, length int64, err error) {
		return nil, nil, 0, errors.New("it is a link")
	}
	msg := note("")
	msg.Attempt = 1
	if got, err := m.body(t.Context(), msg); err != nil || string(got) != "[the output could not be read: it is a link]\n" {
		t.Errorf("%q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := m.body(ctx, msg); err == nil {
		t.Errorf("while the daemon ends: %q, want to try again", got)
	}
}

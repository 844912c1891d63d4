package notify

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/outbox"
	"belfry/internal/proc"
)

func asWeAre(cmd *exec.Cmd) (func() error, error) { return proc.As(cmd, nil) }

// aMailer is a program that keeps its arguments, its folder and its input, and
// then does what the shell's text says.
func aMailer(t *testing.T, text string) (m Mailer, kept string) {
	t.Helper()
	dir := t.TempDir()
	kept = filepath.Join(dir, "kept")
	write(t, "#!/bin/sh\n{ for word; do printf '[%s] ' \"$word\"; done; echo; pwd; cat; } >"+kept+"\n"+text+"\n", dir, "sendmail")
	if err := os.Chmod(filepath.Join(dir, "sendmail"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Mailer{Path: filepath.Join(dir, "sendmail"), Dir: dir, Env: []string{"PATH=/usr/bin:/bin"}, As: asWeAre}, kept
}

func sendThrough(t *testing.T, mailer Mailer, msg Message) error {
	t.Helper()
	m, dir := spool(t)
	m.mailer = func(user string) (Mailer, error) {
		if user != msg.User {
			t.Errorf("asked for the mailer of %q", user)
		}
		return mailer, nil
	}
	result, err := m.Send(t.Context(), item(t, "1", msg), noSave)
	if err == nil && string(result) != `{"mailer":"`+mailer.Path+`"}` {
		t.Errorf("the result is %s", result)
	}
	if boxes, _ := os.ReadDir(dir); len(boxes) > 0 {
		t.Errorf("there is a mailbox as well: %v", boxes)
	}
	return err
}

func TestMailerIsCalledAsCronCallsIt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Message)
		args   string
	}{
		"cronie":                       {func(*Message) {}, "[-FCronDaemon] [-i] [-odi] [-oem] [-oi] [-t] [-f] [alice] "},
		"cronie with MAILFROM":         {func(m *Message) { m.From = "ops@example.com" }, "[-FCronDaemon] [-i] [-odi] [-oem] [-oi] [-t] [-f] [ops@example.com] "},
		"cronie with a bad MAILFROM":   {func(m *Message) { m.From = "-oQ/tmp" }, "[-FCronDaemon] [-i] [-odi] [-oem] [-oi] [-t] [-f] [alice] "},
		"Debian":                       {func(m *Message) { m.Debian, m.To = true, []string{"bob", "c@x"} }, "[-FCronDaemon] [-i] [-B8BITMIME] [-oem] [bob,c@x] "},
		"Debian, to nobody in special": {func(m *Message) { m.Debian, m.To = true, nil }, "[-FCronDaemon] [-i] [-B8BITMIME] [-oem] [alice] "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mailer, kept := aMailer(t, "")
			msg := note("output\n")
			tt.change(&msg)
			if err := sendThrough(t, mailer, msg); err != nil {
				t.Fatal(err)
			}
			if got, _, _ := strings.Cut(read(t, kept), "\n"); got != tt.args {
				t.Errorf("the arguments are %s, want %s", got, tt.args)
			}
		})
	}
}

func TestMailerThatFailsIsAskedAgainUnlessItRefuses(t *testing.T) {
	t.Parallel()
	for text, final := range map[string]bool{
		"echo try later >&2; exit 75":   false,
		"echo broken >&2; exit 1":       false,
		"kill -9 $$":                    false,
		"echo no such user; exit 67":    true,
		"echo wrong arguments; exit 64": true,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			mailer, _ := aMailer(t, text)
			var told string
			mailer.Told = func(detail string) { told = detail }
			msg := note("output\n")
			msg.Debian = true
			err := sendThrough(t, mailer, msg)
			if err == nil || outbox.IsFinal(err) != final {
				t.Errorf("Send: %v, want final %v", err, final)
			}
			if !strings.HasPrefix(told, "mailed 7 bytes of output but got status 0x") || !strings.HasSuffix(told, " from MTA\n") {
				t.Errorf("told is %q", told)
			}
		})
	}
}

func TestMailerStartsWithoutAHome(t *testing.T) {
	t.Parallel()
	mailer, kept := aMailer(t, "")
	msg := note("output\n")
	msg.Dir = "/nowhere"
	if err := sendThrough(t, mailer, msg); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(read(t, kept), "\n"); lines[1] != "/" {
		t.Errorf("it was started in %s", lines[1])
	}
}

func TestMailerThatIsMissingIsNotMissed(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	m.mailer = func(string) (Mailer, error) { return Mailer{}, nil }
	send(t, m, "1", note("output\n"))
	if text := read(t, dir, "alice"); !strings.Contains(text, "\noutput\n") {
		t.Errorf("the mailbox has\n%s", text)
	}
}

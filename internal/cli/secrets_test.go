//go:build linux

package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/publish/s3test"
)

// setSecret gives a secret a value through standard input.
func (p *place) setSecret(name, value string) {
	p.t.Helper()
	cmd := p.command("secrets", "set", name)
	cmd.Stdin = strings.NewReader(value + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("belfry secrets set %s: %v\n%s", name, err, out)
	}
}

// nowhere checks that a value stands in no file of the place, and on no command
// line of the machine.
func (p *place) nowhere(when, value string) {
	p.t.Helper()
	looked := 0
	look := func(path string) error {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil // it has just gone
		}
		if bytes.Contains(text, []byte(value)) {
			p.t.Errorf("%s, the value stands in %s", when, path)
		}
		looked++
		return err
	}
	err := filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
			return nil
		}
		return errors.Join(err, look(path))
	})
	processes, globErr := filepath.Glob("/proc/[0-9]*/cmdline")
	if err = errors.Join(err, globErr); err != nil {
		p.t.Fatal(err)
	}
	for _, path := range processes {
		if err := look(path); err != nil {
			p.t.Fatal(err)
		}
	}
	if looked < 10 {
		p.t.Errorf("%s, only %d files were looked at", when, looked)
	}
}

// sum is what a job shows of a secret that it has.
func sum(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:]) + "  -\n"
}

// logStored waits until an attempt's output is in the store and in no file.
func (p *place) logStored(run string, attempt int) {
	p.t.Helper()
	file := p.path(fmt.Sprintf("%s/runs/%s/%d/log", dataName, run, attempt))
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(30 * time.Second); ; {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-ticker.C:
		case <-late:
			p.t.Fatalf("%s is still there", file)
		}
	}
}

// printed gives the output of an attempt, from wherever it is.
func (p *place) printed(run string, attempt int) string {
	p.t.Helper()
	log, err := p.client().Log(p.t.Context(), run, api.LogRequest{Attempt: attempt})
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	text, err := io.ReadAll(log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

func TestASecretIsInTheEnvironmentOfItsJobAndNowhereElse(t *testing.T) {
	t.Parallel()
	first, second := "first-s3cret/"+unique(t), "second-s3cret/"+unique(t)
	p := newPlace(t, "belfry.yaml", `
jobs:
  upload:
    # It shows the secret to whoever may read it, and waits.
    command: |
      printf %s "$API_TOKEN" | sha256sum > seen.$BELFRY_ATTEMPT
      echo > begun.fifo; read go < go.fifo
      echo "token $API_TOKEN"; echo "$AUTH" >&2
      echo done > $BELFRY_OUTPUT/data.txt
      test $BELFRY_ATTEMPT = 2
    secrets: [API_TOKEN]
    env: {AUTH: "Bearer $API_TOKEN"}
    publish: out/$BELFRY_DATE/
  other:
    command: env
`)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	p.setSecret("API_TOKEN", first)
	p.setSecret("UNUSED", "never-s3cret")
	daemon := p.serve()
	runs, err := p.client().Start(t.Context(), api.RunRequest{Job: "upload", Date: "2026-07-09"})
	if err != nil {
		t.Fatal(err)
	}
	id := runs[0].ID
	p.await("begun.fifo")
	if got := p.read("seen.1"); got != sum(first) {
		t.Errorf("the first attempt has a secret whose sum is %q, want %q", got, sum(first))
	}
	p.nowhere("while it runs", first)
	for _, args := range [][]string{{"show", id}, {"show", id, "--json"}, {"runs", "--json"}, {"jobs", "--json"}, {"explain", "upload"}, {"doctor"}, {"secrets", "list", "--json"}} {
		if out, errs, _ := p.belfry(args...); strings.Contains(out+errs, first) {
			t.Errorf("belfry %v shows it:\n%s%s", args, out, errs)
		}
	}

	// It is changed while the job runs, and the daemon is killed and comes back:
	// what the job prints is still the former one.
	p.setSecret("API_TOKEN", second)
	daemon.kill()
	daemon = p.serve()
	p.let("go.fifo")
	if r := p.finished(id); r.State != "failed" {
		t.Fatalf("the first attempt is %s (%s)", r.State, r.Reason)
	}
	p.told(id)
	p.logStored(id, 1)
	stars := strings.Repeat("*", len(first))
	if got := p.printed(id, 1); got != "token "+stars+"\nBearer "+stars+"\n" {
		t.Errorf("the log of the first attempt is %q", got)
	}
	if mail := p.mail(); !strings.Contains(mail, "failed") || !strings.Contains(mail, stars) {
		t.Errorf("the mail is\n%s", mail)
	}
	p.nowhere("after it failed", first)

	// The next attempt has the new one, without a restart.
	if _, err := p.client().Retry(t.Context(), id, api.RetryRequest{}); err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	p.let("go.fifo")
	if r := p.finished(id); r.State != "succeeded" || r.Attempt != 2 {
		t.Errorf("the second attempt is %s (%s)", r.State, r.Reason)
	}
	if got := p.read("seen.2"); got != sum(second) {
		t.Errorf("the second attempt has a secret whose sum is %q, want %q", got, sum(second))
	}
	p.logStored(id, 2)
	stars = strings.Repeat("*", len(second))
	if got := p.printed(id, 2); got != "token "+stars+"\nBearer "+stars+"\n" {
		t.Errorf("the log of the second attempt is %q", got)
	}
	runs, err = p.client().Start(t.Context(), api.RunRequest{Job: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.finished(runs[0].ID); r.State != "succeeded" || strings.Contains(p.printed(r.ID, 1), "API_TOKEN") {
		t.Errorf("a job that names no secret is %s and has one:\n%s", r.State, p.printed(r.ID, 1))
	}
	daemon.end(syscall.SIGTERM)
	for _, value := range []string{first, second, "never-s3cret"} {
		p.nowhere("in the end", value)
	}
}

func TestAPublisherHasTheSecretsOfItsJob(t *testing.T) {
	t.Parallel()
	s3 := s3test.Start(t)
	p := newPlace(t, "belfry.yaml", fmt.Sprintf(`
jobs:
  upload:
    command: echo x > $BELFRY_OUTPUT/data.txt
    publish: s3://%s/songs/dt=$BELFRY_DATE/
    secrets: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]
    env: {AWS_REGION: %s, AWS_ENDPOINT_URL_S3: "%s", AWS_EC2_METADATA_DISABLED: "true"}
`, s3.Bucket, s3.Region, s3.Endpoint))
	p.setSecret("AWS_ACCESS_KEY_ID", s3.AccessKey)
	p.setSecret("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	if out, errs, code := p.belfry("run", "upload", "--date", "2026-07-09"); code != 0 {
		t.Fatalf("it exits with %d\n%s%s", code, out, errs)
	}
	if keys := s3.List(t); !slices.Contains(keys, "songs/dt=2026-07-09/_SUCCESS") {
		t.Errorf("the bucket holds %q", keys)
	}
	for _, text := range []string{p.read(dataName + "/belfry.db"), p.read(dataName + "/logs.db")} {
		if strings.Contains(text, s3.SecretKey) {
			t.Error("the key stands in the store")
		}
	}
}

// unique is a text that stands nowhere else.
func unique(t *testing.T) string {
	t.Helper()
	file, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(file))
}

// newTerminal gives a person's end of a terminal, and the path of the other.
func newTerminal(t *testing.T) (person *os.File, path string) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	raw, err := person.SyscallConn() // Fd would take the deadlines away
	if err != nil {
		t.Fatal(err)
	}
	if failed := raw.Control(func(fd uintptr) {
		var number int
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
		path = fmt.Sprintf("/dev/pts/%d", number)
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	if err := person.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return person, path
}

// openTerminal opens a program's end.
func openTerminal(t *testing.T, path string) (*os.File, *unix.Termios) {
	t.Helper()
	program, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	settings, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return program, settings
}

// until reads what a terminal shows until it holds text.
func until(t *testing.T, terminal io.Reader, text string) (shown string) {
	t.Helper()
	for b := make([]byte, 100); !strings.Contains(shown, text); {
		n, err := terminal.Read(b)
		if shown += string(b[:n]); err != nil {
			t.Fatalf("the terminal shows %q and ends with %v", shown, err)
		}
	}
	return shown
}

func TestASecretIsTypedAtAPromptThatDoesNotShowIt(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs: {a: {command: x}}\n")
	ask := func(typed string) (shown string, code int) {
		t.Helper()
		person, path := newTerminal(t)
		program, before := openTerminal(t, path)
		cmd := p.command("secrets", "set", "API_TOKEN")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		shown = until(t, person, "Value of API_TOKEN (it is not shown): ")
		if _, err := person.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		var exit interface{ ExitCode() int }
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		again, after := openTerminal(t, path) // the kernel has hung up the one of its session
		if after.Lflag != before.Lflag {
			t.Errorf("the terminal is left with %x, want %x", after.Lflag, before.Lflag)
		}
		if _, err := again.WriteString("the end"); err != nil {
			t.Fatal(err)
		}
		return shown + until(t, person, "the end"), cmd.ProcessState.ExitCode()
	}
	if shown, code := ask("hunter2 아이유\n"); code != 0 || strings.Contains(shown, "hunter2") || !strings.Contains(shown, "made a key") {
		t.Errorf("it exits with %d and shows\n%s", code, shown)
	}
	sealed := p.read("secrets.age")
	for why, typed := range map[string]string{"Ctrl-C": "hun\x03", "Ctrl-D": "\x04", "nothing": "\n"} {
		shown, code := ask(typed)
		if want := map[bool]int{true: exitUsage, false: 130}[why == "nothing"]; code != want {
			t.Errorf("after %s it exits with %d, want %d:\n%s", why, code, want, shown)
		}
	}
	if p.read("secrets.age") != sealed {
		t.Error("what was not typed to its end has changed the secrets")
	}
	edit := p.command("secrets", "edit")
	edit.Env = append(edit.Env, "EDITOR=cat")
	if out, err := edit.CombinedOutput(); err != nil || !strings.Contains(string(out), "API_TOKEN=hunter2 아이유\n") {
		t.Errorf("the value is %s%v", out, err)
	}
}

func TestNothingIsLeftOfAnEditThatIsEnded(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs: {a: {command: x}}\n", "editor", "#!/bin/sh\nstat -c %a:%n \"$1\" $(dirname \"$1\") > at\necho > begun.fifo\ncat go.fifo\n")
	if err := os.Chmod(p.path("editor"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	p.setSecret("API_TOKEN", "hunter22")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		edit := p.command("secrets", "edit")
		edit.Env = append(edit.Env, "EDITOR=./editor", "TMPDIR="+p.dir)
		if err := edit.Start(); err != nil {
			t.Fatal(err)
		}
		p.await("begun.fifo")
		lines := strings.Fields(p.read("at"))
		if !strings.HasPrefix(lines[0], "600:") || !strings.HasPrefix(lines[1], "700:") {
			t.Errorf("the text is edited in %s", lines)
		}
		if err := edit.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = edit.Wait() // the exit code tells
		if code := edit.ProcessState.ExitCode(); code != 128+int(signal) {
			t.Errorf("after %v it exits with %d, want %d", signal, code, 128+int(signal))
		}
		for _, line := range lines {
			_, path, _ := strings.Cut(line, ":")
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after %v %s is left: %v", signal, path, err)
			}
		}
	}
	if out, _, _ := p.belfry("secrets", "list"); out != "API_TOKEN\n" {
		t.Errorf("the secrets are %q", out)
	}
}

func TestWhatAKilledEditHasLeftIsRemovedByTheNextCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs: {a: {command: x}}\n", "editor", "#!/bin/sh\necho \"$1\" > at\necho > begun.fifo\ncat go.fifo\n")
	if err := os.Chmod(p.path("editor"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	p.setSecret("API_TOKEN", "hunter22")
	edit := p.command("secrets", "edit")
	edit.Env = append(edit.Env, "EDITOR=./editor")
	if err := edit.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	path := strings.TrimSpace(p.read("at"))
	list := func() error {
		t.Helper()
		if out, _, _ := p.belfry("secrets", "list"); out != "API_TOKEN\n" {
			t.Errorf("the secrets are %q", out)
		}
		_, err := os.Stat(filepath.Dir(path))
		return err
	}
	if err := list(); err != nil {
		t.Errorf("another command takes the text away that is being edited: %v", err)
	}
	if err := edit.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = edit.Wait() // it was killed
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "hunter22") {
		t.Errorf("what is left is %q, %v", text, err) // there is nothing to be seen here then
	}
	if err := list(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	p.let("go.fifo") // the editor ends
}

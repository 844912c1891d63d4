//go:build linux

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/publish/s3test"
)

// pty gives a terminal: what is written to it can be read.
func pty(t *testing.T, columns uint16) (read, terminal *os.File) {
	t.Helper()
	// Not by Fd, after which nobody could give up reading.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	read = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { _ = read.Close() })
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return read, terminal
}

// screen is what has been written to a terminal.
type screen struct {
	t    *testing.T
	from *os.File
	text bytes.Buffer
}

// onTerminal starts a command on a wide terminal.
func (p *place) onTerminal(args ...string) (*screen, *exec.Cmd) {
	p.t.Helper()
	read, terminal := pty(p.t, 300)
	cmd := p.command(args...)
	cmd.Stdout, cmd.Stderr = terminal, terminal
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill() })
	if err := terminal.Close(); err != nil {
		p.t.Fatal(err)
	}
	return &screen{t: p.t, from: read}, cmd
}

// until reads until the text is there; an empty one is the end.
func (s *screen) until(text string) {
	s.t.Helper()
	if err := s.from.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for text == "" || !strings.Contains(s.text.String(), text) {
		n, err := s.from.Read(buffer)
		s.text.Write(buffer[:n])
		if err != nil && text == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // nobody has the terminal open any more
		}
		if err != nil {
			s.t.Fatalf("there is no %q: %v\n%q", text, err, s.text.String())
		}
	}
}

// uploading is a place whose job leaves three files, the upload of one of which
// waits at the gate.
func uploading(t *testing.T) (*place, *gate) {
	s3 := s3test.Start(t)
	gate := newGate(t, s3.Endpoint)
	var env strings.Builder
	for _, v := range s3.Env() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_ENDPOINT_URL") {
			value = gate.URL
		}
		fmt.Fprintf(&env, "      %s: %q\n", name, value)
	}
	return newPlace(t, "belfry.yaml", fmt.Sprintf(`
jobs:
  upload:
    schedule: "0 1 * * *"
    command: 'cd $BELFRY_OUTPUT; echo 1234567 > a; echo 1234567 > b; echo 아이유 > data.txt'
    publish: s3://%s/songs/dt=$BELFRY_DATE/
    env:
%s`, s3.Bucket, &env)), gate
}

func TestHowFarAPublishIsStandsInOneLineOfATerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		end  string
	}{
		{[]string{"run", "upload", "--date", "2026-07-09"}, "✓ upload succeeded"},
		{[]string{"backfill", "upload", "--from", "2026-07-09", "--to", "2026-07-09"}, "✓ upload: all 1 run succeeded"},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			t.Parallel()
			p, gate := uploading(t)
			s, cmd := p.onTerminal(c.args...)
			s.until("publishing 2 of 3 files, 16 bytes of 26 bytes")
			if out, _, _ := p.belfry("show", "upload"); !strings.Contains(out, "2 of 3 files, 16 bytes of 26 bytes, to s3://") {
				t.Errorf("meanwhile show says\n%s", out)
			}
			gate.open()
			s.until("")
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
			text := s.text.String()
			if line := text[:strings.LastIndex(text, c.end)]; strings.Count(line, "\n") > 3 || !strings.Contains(text, c.end) {
				t.Errorf("it wrote\n%q", text)
			}
		})
	}
}

func TestHowFarABackfillIsStandsInOneLineOfATerminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", `
jobs:
  daily:
    schedule: "0 1 * * *"
    command: 'test $BELFRY_DATE != 2026-07-01 || exit 3; test $BELFRY_DATE != 2026-07-03 || read go < go'
`)
	fifo := filepath.Join(p.dir, "go")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s, cmd := p.onTerminal("backfill", "daily", "--from", "2026-07-01", "--to", "2026-07-04")
	s.until("2 of 4, 1 running, 1 failed")
	if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.until("")
	_ = cmd.Wait() // one of them has failed
	text := s.text.String()
	if !strings.Contains(text, "4 of 4, 1 failed") || !strings.Contains(text, "1 of 4 runs did not succeed") || strings.Count(text[:strings.Index(text, "✗")], "\n") > 1 {
		t.Errorf("it wrote\n%q", text)
	}
}

func TestOtherProgramsHearHowFarAPublishIsOnlyWhenTheyAsk(t *testing.T) {
	t.Parallel()
	p, gate := uploading(t)
	p.serve()
	events := p.command("run", "upload", "--date", "2026-07-09", "--json=events")
	pipe, err := events.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = events.Process.Kill() })
	<-gate.reached
	quiet := p.start("retry", "--publish", "upload") // refused: it is under way
	quiet.until("is being published already")
	file := &screen{t: t, from: pipe.(*os.File)}
	file.until(`"progress":{"target":"s3://`)
	gate.open()
	file.until("")
	if err := events.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	var told []string
	for line := range strings.Lines(file.text.String()) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(line, `{"event":"`), `"`)
		if _, rest, found := strings.Cut(line, `"state":"`); found && kind == "run" {
			kind, _, _ = strings.Cut(rest, `"`)
		}
		if len(told) == 0 || told[len(told)-1] != kind {
			told = append(told, kind)
		}
	}
	if got := strings.Join(told, " "); !strings.HasSuffix(got, "publishing succeeded") {
		t.Errorf("told were %s:\n%s", got, file.text.String())
	}
	r, err := p.client().Run(context.Background(), "upload")
	if err != nil || r.Publishing != nil {
		t.Errorf("in the end it publishes %+v, %v", r.Publishing, err)
	}

	// What stands there is read back by the daemon.
	out, errs, code := p.belfry("published", "upload", "--verify", "--files")
	if code != 0 || errs != "" || !strings.Contains(out, "songs/dt=2026-07-09/ (3 files, 26 bytes, manifest "+r.Published[0].Manifest+"): whole\n") || !strings.Contains(out, "  10  data.txt\n") {
		t.Errorf("published exits with %d:\n%s%s", code, out, errs)
	}
}

func TestAMeterSaysHowFastItIsAndHowLongItTakes(t *testing.T) {
	t.Parallel()
	var m meter
	begun := time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		why      string
		after    time.Duration
		files    int
		megabyte int64
		want     string
	}{
		{"nothing is known at first", 0, 0, 100, "0 of 4 files, 100.0 MB of 1.1 GB"},
		{"too early to tell", 500 * time.Millisecond, 1, 150, "1 of 4 files, 150.0 MB of 1.1 GB"},
		{"at its pace since it was first seen", 10 * time.Second, 2, 600, "2 of 4 files, 600.0 MB of 1.1 GB, 50.0 MB/s, about 10 s left"},
		{"it stands still", 100 * time.Second, 2, 600, "2 of 4 files, 600.0 MB of 1.1 GB, 5.0 MB/s, about 1 min 40 s left"},
		{"it is at its end", 100 * time.Second, 4, 1100, "4 of 4 files, 1.1 GB of 1.1 GB, 10.0 MB/s"},
		{"a new try", 110 * time.Second, 0, 0, "0 of 4 files, 0 bytes of 1.1 GB"},
		{"at its own pace", 120 * time.Second, 1, 100, "1 of 4 files, 100.0 MB of 1.1 GB, 10.0 MB/s, about 1 min 40 s left"},
	} {
		p := api.Progress{Files: c.files, FilesTotal: 4, Bytes: c.megabyte * 1e6, BytesTotal: 1100e6}
		if got := m.text(p, begun.Add(c.after)); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}

func TestALineFitsItsTerminal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "abcdef": "abcdef", "abcdefg": "abcdef", "노래목록": "노래목", "a노래목록": "a노래", "██████": "██████"} {
		if got := fit(text, 6); got != want {
			t.Errorf("%q is cut to %q, want %q", text, got, want)
		}
	}
}

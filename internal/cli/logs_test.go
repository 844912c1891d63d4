package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// lines is what the job of the test below prints in one of its parts: lines, and
// the first two bytes of a character.
func lines(part int) string {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "%d-%d 종을 울린다\n", part, i+1)
	}
	return b.String() + "한"[:2]
}

func TestFollowedLogsGoOnByteForByteWhenTheDaemonIsKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", `
jobs:
  chatty:
    command: |
      echo > begun.fifo
      for part in 0 1 2; do
        seq -f "$part-%.0f 종을 울린다" 1 10000 | while read -r line; do echo "$line"; done
        printf '\355\225'
        read go < go.fifo
        printf '\234\n'
      done
`)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	serve := p.serve()
	run := p.start("run", "chatty")
	p.await("begun.fifo")
	follow := p.command("logs", "chatty", "-f")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = follow.Process.Kill() // when the test broke off
		_ = follow.Wait()
	})
	var want string
	read := func(n int) {
		t.Helper()
		got := make([]byte, n)
		k, err := io.ReadFull(out, got)
		at := 0
		for at < k && got[at] == want[at] {
			at++
		}
		if at < n {
			t.Fatalf("of %d bytes %d come, %v; they differ at %d: %.80q, want %.80q", n, k, err, at, got[at:], want[at:])
		}
		want = want[n:]
	}
	for part := range 3 {
		want += lines(part)
		read(60_000) // the job is in the middle of it, and so is what is sent
		serve.kill()
		serve = p.serve()
		read(len(want))
		p.let("go.fifo")
		want += "한"[2:] + "\n"
	}
	read(len(want))
	if rest, err := io.ReadAll(out); len(rest) > 0 || err != nil {
		t.Errorf("behind its end comes %q, %v", rest, err)
	}
	if code := run.wait(); code != 0 {
		t.Errorf("run exits with %d", code)
	}
	whole := lines(0) + "한"[2:] + "\n" + lines(1) + "한"[2:] + "\n" + lines(2) + "한"[2:] + "\n"
	for what, want := range map[string]string{
		"":           whole,
		"--tail=2":   "2-10000 종을 울린다\n한\n",
		"--since=1h": whole,
	} {
		got, stderr, code := p.belfry(strings.Fields("logs chatty " + what)...)
		if got != want || code != 0 {
			t.Errorf("logs %s prints %d bytes and exits with %d, want %d; %s", what, len(got), code, len(want), stderr)
		}
	}
}

func TestAllThatAJobPrintsComesBeforeItsConclusion(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs:\n  talk: {command: \"seq 1 500; printf 끝\"}\n")
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintln(&want, i+1)
	}
	want.WriteString("끝")
	for _, served := range []bool{false, true} {
		if served {
			p.serve()
		}
		for range 20 {
			cmd := p.command("run", "talk")
			out, err := cmd.CombinedOutput()
			_, printed, _ := bytes.Cut(out, []byte("\n")) // behind the line that says what runs
			if rest, found := strings.CutPrefix(string(printed), want.String()); err != nil || !found || !strings.HasPrefix(rest, "✓ talk succeeded") {
				t.Fatalf("with a daemon %v: it ends with %v and prints\n%s", served, err, out)
			}
		}
		// Somebody who has seen enough: run | head -1.
		cmd := p.command("run", "talk")
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Close(); err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = write
		var stderr strings.Builder
		cmd.Stderr = &stderr
		err = errors.Join(cmd.Run(), write.Close())
		if err != nil || !strings.Contains(stderr.String(), "✓ talk succeeded") {
			t.Errorf("with a daemon %v: when nobody reads it ends with %v and says\n%s", served, err, &stderr)
		}
	}
}

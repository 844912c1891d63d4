package logs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/logs"
	"belfry/internal/store"
)

const secret = "correct horse battery"

// The test binary is a daemon too, as far as logs go: it follows one attempt
// until it is killed, and writes a line for each time that it saves.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "follower" {
		os.Exit(m.Run())
	}
	s, err := store.Open(context.Background(), os.Args[1])
	if err != nil {
		panic(err)
	}
	saved := make(chan struct{}, 1)
	f := logs.NewFollower(logs.Options{Store: &watched{Store: s, saved: saved}, Now: time.Now, Sync: time.Millisecond, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	f.Add(logs.Attempt{Run: "RUN", Number: 1, Dir: filepath.Join(os.Args[1], "runs", "RUN", "1"), Secrets: []string{secret}})
	go func() {
		for range saved {
			fmt.Println()
		}
	}()
	panic(f.Run(context.Background()))
}

// A Follower is killed again and again while a job prints; the next one goes on.
func TestNoByteIsLostOrStoredTwiceWhenTheFollowerIsKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{Secrets: []string{secret}})
	p.shut() // the others own it one after the other
	self, err := os.Executable()
	p.check(err)
	file, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.check(err)
	var want strings.Builder
	chance := rand.New(rand.NewPCG(1, 2))
	// job prints some 3 MB, in pieces that cut everything.
	job := func() error {
		for end := want.Len() + 2<<20; want.Len() < end; {
			text := strings.Repeat(fmt.Sprint(want.Len(), " "), 1+chance.IntN(5000)) + "pw=" + secret + "\n"
			want.WriteString(text)
			for len(text) > 0 {
				n := min(len(text), 1+chance.IntN(16<<10))
				if _, err := file.WriteString(text[:n]); err != nil {
					return err
				}
				text = text[n:]
			}
		}
		return nil
	}
	kills := 20
	if testing.Short() {
		kills = 5
	}
	for range kills {
		cmd := exec.Command(self, p.dir)
		cmd.Args[0] = "follower"
		cmd.Stderr = os.Stderr
		saves, err := cmd.StdoutPipe()
		p.check(err)
		p.check(cmd.Start())
		printed := make(chan error, 1)
		go func() { printed <- job() }()
		bufio.NewScanner(saves).Scan()
		<-time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond) // anywhere between two saves
		p.check(cmd.Process.Kill())
		var killed *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &killed) || killed.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
			t.Fatalf("the follower ended by itself: %v", err)
		}
		p.check(<-printed)
	}
	p.check(file.Close())
	p.open()
	masked := strings.ReplaceAll(want.String(), secret, strings.Repeat("*", len(secret)))
	if got := p.read(0); got != masked { // from the store and the file together
		t.Errorf("before the last follower there are %d bytes, want %d; they differ at %d", len(got), len(masked), differ(got, masked))
	}
	f, _ := p.follow()
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got := p.read(0); got != masked {
		t.Errorf("there are %d bytes, want %d; they differ at %d", len(got), len(masked), differ(got, masked))
	}
	t.Logf("%d MiB, %d kills", want.Len()>>20, kills)
}

func differ(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// The keeper punches the middle out of the file while others read it.
func TestWhatTheKeeperPunchesOutIsNeverTakenForOutput(t *testing.T) {
	needsLinux(t)
	t.Parallel()
	const limit = 4 << 20
	p := newPlace(t, logs.Attempt{Limit: limit})
	f, stop := p.follow()
	const line = "a line of text with a real \x00 in it, which is printed again and again\n"
	file, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.check(err)
	done := make(chan error, 1)
	go func() {
		text := strings.Repeat(line, 10_000)
		for size := int64(0); size < 50<<20; size += int64(len(text)) {
			_, err := file.WriteString(text)
			if to := (size - limit/2) &^ 0xffff; to > limit/2 && err == nil {
				err = punch(file, limit/2, to)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- file.Close()
	}()
	check := func(text string) {
		t.Helper()
		for part := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(part, "[belfry: ") {
				continue
			}
			if strings.Contains(part, "\x00\x00") || !strings.Contains(line+line, strings.TrimSuffix(part, "\n")) {
				t.Fatalf("it reads %.200q", part)
			}
		}
	}
	live := p.reader(f)
	for running := true; running; {
		select {
		case err := <-done:
			p.check(err)
			running = false
		default:
		}
		check(p.rest(live, false))
		check(p.read(0))
	}
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	stop()
	got := p.read(0)
	check(got)
	if len(got) < limit || strings.Count(got, "log_limit is 4 MiB") != 1 {
		t.Errorf("%d bytes are kept of a limit of %d, with %d lines that say so", len(got), limit, strings.Count(got, "log_limit"))
	}
}

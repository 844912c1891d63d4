//go:build !portable

package logs

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAQuietLogIsLeftToTheWatchUntilItIsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.WriteFile(path, nil, 0o600))
	saved := &heap{}
	f := NewFollower(Options{Store: saved, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	f.watch = newWatch(f.wake)
	defer f.watch.close()
	if f.watch.file == nil {
		t.Fatal("there is no inotify")
	}
	f.Add(Attempt{Run: "RUN", Number: 1, Dir: filepath.Dir(path)})
	<-f.kick
	f.take()
	log := f.following[0]
	// quieten looks at it, as time goes by, until it is left alone.
	quieten := func() {
		t.Helper()
		for looks := 0; log.wait < still; looks++ {
			if looks == 20 {
				t.Fatalf("after %d looks it is looked at each %s", looks, log.wait)
			}
			log.due = time.Now()
			f.pass(t.Context())
		}
	}
	for _, text := range []string{"one\n", "two\n"} {
		quieten()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		check(err)
		_, err = file.WriteString(text)
		check(err)
		<-f.kick // the watch has heard of it
		f.pass(t.Context())
		check(file.Close())
		if n := len(saved.saved); n == 0 || saved.saved[n-1].Chunks[0].End() != log.read || log.read == 0 || len(f.watched) != 0 {
			t.Fatalf("after %q was printed %d changes are saved, %d bytes are read, %d logs watched", text, n, log.read, len(f.watched))
		}
		saved.saved = nil
	}
	quieten()
	f.Ended("RUN", 1)
	f.synced = time.Time{}
	f.pass(t.Context())
	if len(f.following) != 0 || len(f.watched) != 0 {
		t.Errorf("when it has ended %d logs are followed and %d watched", len(f.following), len(f.watched))
	}
}

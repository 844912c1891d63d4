package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"belfry/internal/plan"
	"belfry/internal/proc/proctest"
	"belfry/internal/run"
)

// BenchmarkMinute has a thousand entries of a crontab due at one minute, and says
// how many milliseconds after it the first and the last of them were handed to
// the keeper, and all of them have ended.
func BenchmarkMinute(b *testing.B) {
	const jobs = 1000
	var first, last, ended []float64
	for b.Loop() {
		dir := b.TempDir()
		var text strings.Builder
		for i := range jobs {
			fmt.Fprintf(&text, "* * * * * /bin/true %d\n", i)
		}
		crontab := filepath.Join(dir, "tab")
		if err := os.WriteFile(crontab, []byte(text.String()), 0o600); err != nil {
			b.Fatal(err)
		}
		// A clock on which the minute is full in a moment.
		ahead := time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)) - 2*time.Second
		minute := time.Now().Add(ahead).Truncate(time.Minute).Add(time.Minute)
		clock := func() plan.Reading {
			reading := ReadClock()
			reading.Wall = reading.Wall.Add(ahead)
			return reading
		}
		since := func() float64 { return float64(time.Since(minute.Add(-ahead)).Microseconds()) / 1000 }
		seen := &starts{at: since}
		d, err := Open(b.Context(), Options{
			Data: filepath.Join(dir, "data"), Crontabs: []string{crontab}, Plan: true,
			Host: run.Host{User: "tester", Home: dir, Name: "here"}, Zone: time.UTC,
			Self: []string{"/proc/self/exe"}, Clock: clock, Version: "test", Log: slog.New(seen), Told: func(string) {},
		})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		for {
			changed := d.changes.next()
			open, err := d.store.Unfinished(b.Context(), time.Time{})
			if err != nil {
				b.Fatal(err)
			}
			if open == 0 && seen.any() {
				break
			}
			<-changed
		}
		ended = append(ended, since())
		first, last = append(first, seen.first), append(last, seen.last)
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		proctest.EndKeepers(b, dir)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(first), "ms/first")
	b.ReportMetric(middle(last), "ms/last")
	b.ReportMetric(middle(ended), "ms/ended")
}

// starts notes when runs are said to have been started.
type starts struct {
	at          func() float64
	mu          sync.Mutex
	first, last float64 // guarded by mu
}

func (s *starts) Enabled(context.Context, slog.Level) bool { return true }
func (s *starts) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *starts) WithGroup(string) slog.Handler            { return s }

func (s *starts) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first > 0
}

func (s *starts) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "started" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = s.at()
	if s.first == 0 {
		s.first = s.last
	}
	return nil
}

func middle(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

package proc

import (
	"log/slog"
	"os"
	"testing"
)

// BenchmarkBurst starts 1,000 jobs that are due at one instant.
func BenchmarkBurst(b *testing.B) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	const jobs = 1000
	for range b.N {
		b.StopTimer()
		c, err := Open(b.Context(), Options{DataDir: b.TempDir(), Command: []string{exe, "keeper", "200ms"}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		specs := make([]Spec, jobs)
		for i := range specs {
			specs[i] = Spec{
				Run: "burst", Attempt: i + 1, Dir: b.TempDir(),
				Args: []string{"/bin/sh", "-c", "exit 0"}, Env: []string{"PATH=/usr/bin:/bin"},
			}
		}
		if _, err := c.current(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		begin := b.Elapsed()
		if err := c.Start(b.Context(), specs); err != nil {
			b.Fatal(err)
		}
		starts := 0
		for exits := 0; exits < jobs; {
			e := <-c.Events()
			if e.Started != nil {
				if starts++; starts == jobs {
					b.ReportMetric((b.Elapsed() - begin).Seconds(), "s/last-start")
				}
			} else {
				exits++
			}
		}
		b.StopTimer()
		_ = c.Close()
	}
}

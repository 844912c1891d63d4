//go:build linux

package proc

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func ratios(a, b []float64) []float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return list
}

func median[T cmp.Ordered](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// BenchmarkLogLimit has a job write 2 GB as fast as it can into a log of 64
// MiB, in turns with the same command that writes into a plain file.
func BenchmarkLogLimit(b *testing.B) {
	const command = "yes | head -c 2000000000"
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	c, err := Open(b.Context(), Options{DataDir: b.TempDir(), Command: []string{exe, "keeper", "200ms"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	var ours, plain []float64
	most := int64(0)
	for i := 0; b.Loop(); i++ {
		path := filepath.Join(b.TempDir(), "plain")
		begin := time.Now()
		if err := exec.Command("/bin/sh", "-c", command+" > "+path).Run(); err != nil {
			b.Fatal(err)
		}
		plain = append(plain, time.Since(begin).Seconds())
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}

		s := Spec{
			Run: "log", Attempt: i + 1, Dir: b.TempDir(), LogLimit: 64 << 20,
			Args: []string{"/bin/sh", "-c", command}, Env: []string{"PATH=/usr/bin:/bin"},
		}
		if err := c.Start(b.Context(), []Spec{s}); err != nil {
			b.Fatal(err)
		}
		for ended := false; !ended; {
			select {
			case e := <-c.Events():
				if e.Exit != nil {
					if e.Exit.Code != 0 {
						b.Fatalf("exit %+v", e.Exit)
					}
					ours = append(ours, e.Exit.Wall.Seconds())
					ended = true
				}
			case <-time.After(5 * time.Millisecond):
				var info unix.Stat_t
				if unix.Lstat(filepath.Join(s.Dir, logName), &info) == nil {
					most = max(most, info.Blocks*512)
				}
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(plain), "s/plain")
	b.ReportMetric(median(ratios(ours, plain)), "limited/plain")
	b.ReportMetric(float64(most>>20), "MiB-at-most")
}

// BenchmarkKeeperMemory tells how large a keeper is without jobs, and with
// 1,000 that live.
func BenchmarkKeeperMemory(b *testing.B) {
	const jobs = 1000
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	c, err := Open(b.Context(), Options{DataDir: dir, Command: []string{exe, "keeper", "200ms"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for n := 0; b.Loop(); n++ {
		l, err := c.current(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		idle := residentMiB(b, l.pid)
		specs := make([]Spec, jobs)
		for i := range specs {
			specs[i] = Spec{
				Run: "memory-" + strconv.Itoa(n), Attempt: i + 1, Dir: b.TempDir(), LogLimit: 64 << 20, Timeout: time.Hour,
				Args: []string{"/bin/sh", "-c", "exec sleep 1000"},
				Env:  []string{"SHELL=/bin/sh", "HOME=/", "PATH=/usr/bin:/bin", "LOGNAME=root", "USER=root"},
			}
		}
		if err := c.Start(b.Context(), specs); err != nil {
			b.Fatal(err)
		}
		for starts := 0; starts < jobs; {
			if e := <-c.Events(); e.Started != nil {
				starts++
			}
		}
		busy := residentMiB(b, l.pid)
		for _, s := range specs {
			if err := c.Signal(s.Run, s.Attempt, Kill); err != nil {
				b.Fatal(err)
			}
		}
		for exits := 0; exits < jobs; {
			if e := <-c.Events(); e.Exit != nil {
				exits++
				if err := c.Forget(e.Run, e.Attempt); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(idle, "MiB-before")
		b.ReportMetric(busy, "MiB-with-1000-jobs")
		b.ReportMetric(residentMiB(b, l.pid), "MiB-after")
	}
}

func residentMiB(b *testing.B, pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

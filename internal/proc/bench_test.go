package proc

import (
	"bufio"
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

// BenchmarkBurst starts 1,000 jobs that are due at one instant, in turns with
// a loop of posix_spawn in C that starts as many shells and does nothing else.
// What counts is when the job's own process runs, and the last of them. The
// metrics are medians over the turns: seconds, and how often the loop's time
// is in them.
func BenchmarkBurst(b *testing.B) {
	const jobs = 1000
	dir := b.TempDir()
	floor, stamp := compile(b, dir, "floor"), compile(b, dir, "stamp")
	ledger := filepath.Join(dir, "ledger")
	command := stamp + " " + ledger
	var loops, shells, bare, plains []float64
	for b.Loop() {
		loops = append(loops, lastStart(b, ledger, jobs, func() {
			if out, err := exec.Command(floor, command, strconv.Itoa(jobs)).CombinedOutput(); err != nil {
				b.Fatalf("floor: %v\n%s", err, out)
			}
		}))
		shells = append(shells, startBurst(b, "keeper", ledger, jobs, ": ; "+command))
		bare = append(bare, startBurst(b, bareKeeper, ledger, jobs, ": ; "+command))
		plains = append(plains, startBurst(b, "keeper", ledger, jobs, command))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(loops), "s/floor")
	b.ReportMetric(median(ratios(shells, loops)), "shell/floor")
	b.ReportMetric(median(ratios(bare, loops)), "shell-without-cgroups/floor")
	b.ReportMetric(median(ratios(plains, loops)), "plain/floor")
}

func compile(b *testing.B, dir, name string) string {
	path := filepath.Join(dir, name)
	out, err := exec.Command("cc", "-O2", "-static", "-o", path, filepath.Join("..", "..", "bench", "burst", "c", name+".c")).CombinedOutput()
	if err != nil {
		b.Fatalf("compile %s: %v\n%s", name, err, out)
	}
	return path
}

// startBurst has a keeper start jobs of a command.
func startBurst(b *testing.B, keeper, ledger string, jobs int, command string) float64 {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	data := b.TempDir()
	c, err := Open(b.Context(), Options{DataDir: data, Command: []string{exe, keeper, "200ms"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	specs := make([]Spec, jobs)
	for i := range specs {
		specs[i] = Spec{
			Run: "burst", Attempt: i + 1, Dir: filepath.Join(data, strconv.Itoa(i)),
			Args: []string{"/bin/sh", "-c", command + " " + strconv.Itoa(i)},
			Env:  []string{"SHELL=/bin/sh", "HOME=/", "PATH=/usr/bin:/bin", "LOGNAME=root", "USER=root"},
			Cwd:  "/",
		}
		if err := os.Mkdir(specs[i].Dir, 0o700); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := c.current(b.Context()); err != nil {
		b.Fatal(err)
	}
	return lastStart(b, ledger, jobs, func() {
		if err := c.Start(b.Context(), specs); err != nil {
			b.Fatal(err)
		}
		for exits := 0; exits < jobs; {
			e := <-c.Events()
			if e.Exit == nil {
				continue
			}
			exits++
			if e.Exit.Code != 0 {
				b.Fatalf("exit %+v", e.Exit)
			}
		}
	})
}

// lastStart gives how many seconds after its beginning the last of the jobs
// that do starts had begun, by what they write into the ledger.
func lastStart(b *testing.B, ledger string, jobs int, do func()) float64 {
	if err := os.WriteFile(ledger, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	do()
	file, err := os.Open(ledger)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var last time.Time
	lines := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); lines++ {
		at, _, _ := strings.Cut(scanner.Text(), " ")
		ns, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		if at := time.Unix(0, ns); at.After(last) {
			last = at
		}
	}
	if lines != jobs {
		b.Fatalf("%d jobs have started, want %d", lines, jobs)
	}
	return last.Sub(begin).Seconds()
}

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

// Command footprint measures what a belfry daemon costs while it does nothing: memory, processor time, writes, and how
// soon it is ready, with a hundred jobs and with a hundred thousand lines of a crontab. It prints a table; with -check it
// ends with 1 when a number is past its bound.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	belfry := flag.String("belfry", "", "the binary to measure (default: built from the folder above)")
	idle := flag.Duration("idle", 70*time.Second, "how long each daemon is watched while it does nothing")
	check := flag.Bool("check", false, "end with 1 when a bound does not hold")
	flag.Parse()
	rows, err := measure(*belfry, *idle)
	if err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(2)
	}
	held := true
	fmt.Println("| what | measured | bound | |\n|---|--:|--:|---|")
	for _, r := range rows {
		sign := "✓"
		if r.value > r.bound {
			sign, held = "✗", false
		}
		fmt.Printf("| %s | %s %s | %s | %s |\n", r.what, number(r.value), r.unit, number(r.bound), sign)
	}
	if *check && !held {
		os.Exit(1)
	}
}

// row is one number and the bound that it is to keep.
type row struct {
	what         string
	value, bound float64
	unit         string
}

func number(v float64) string {
	if v >= 100 || v == 0 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func measure(belfry string, idle time.Duration) ([]row, error) {
	dir, err := os.MkdirTemp("", "belfry-footprint-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is a temporary folder
	if belfry == "" {
		belfry = filepath.Join(dir, "belfry")
		build := exec.Command("go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", belfry, "./cmd/belfry")
		build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build belfry: %w\n%s", err, out)
		}
	}
	if belfry, err = filepath.Abs(belfry); err != nil {
		return nil, err
	}
	rows, err := few(belfry, filepath.Join(dir, "few"), idle)
	if err != nil {
		return nil, err
	}
	more, err := many(belfry, filepath.Join(dir, "many"), idle)
	return append(rows, more...), err
}

// few is a project of a hundred jobs, whose keeper has run one.
func few(belfry, dir string, idle time.Duration) (rows []row, err error) {
	var yaml strings.Builder
	yaml.WriteString("jobs:\n")
	for i := range 100 {
		fmt.Fprintf(&yaml, "  job-%d: {schedule: \"%d 3 1 1 *\", command: \"true\"}\n", i, i%60)
	}
	if err := write(filepath.Join(dir, "belfry.yaml"), yaml.String()); err != nil {
		return nil, err
	}
	d, err := serve(belfry, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	run := exec.Command(belfry, "run", "job-0")
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run a job: %w\n%s", err, out)
	}
	quiet, err := d.watch(idle)
	if err != nil {
		return nil, err
	}
	keeper, err := child(d.cmd.Process.Pid, "keeper")
	if err != nil {
		return nil, err
	}
	keeperRSS, err := rss(keeper)
	if err != nil {
		return nil, err
	}
	return []row{
		{"ready, 100 jobs", d.ready.Seconds() * 1000, 1000, "ms"},
		{"daemon, resident, 100 jobs", quiet.rss, 30, "MB"},
		{"keeper, resident", keeperRSS, 20, "MB"},
		{"processor, idle, 100 jobs", quiet.cpu, 0.1, "%"},
		{"writes to the store in an idle minute, 100 jobs", quiet.writes, 0, ""},
	}, nil
}

// many is a crontab of a hundred thousand lines.
func many(belfry, dir string, idle time.Duration) (rows []row, err error) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "%d %d %d 1 * /usr/bin/true %d\n", i%60, i/60%24, 1+i/1440%28, i)
	}
	if err := write(filepath.Join(dir, "jobs.cron"), text.String()); err != nil {
		return nil, err
	}
	first, err := serve(belfry, dir, "--crontab", "jobs.cron")
	if err != nil {
		return nil, err
	}
	fresh, err := first.settle()
	if err := errors.Join(err, first.end()); err != nil {
		return nil, err
	}
	d, err := serve(belfry, dir, "--crontab", "jobs.cron")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	quiet, err := d.watch(idle)
	if err != nil {
		return nil, err
	}
	return []row{
		{"ready, 100,000 lines that are known", d.ready.Seconds() * 1000, 1000, "ms"},
		{"ready, 100,000 lines that are new", first.ready.Seconds() * 1000, 1000, "ms"},
		{"daemon, resident, 100,000 lines that were new", fresh, 80, "MB"},
		{"daemon, resident, 100,000 lines", quiet.rss, 80, "MB"},
		{"processor, idle, 100,000 lines", quiet.cpu, 0.1, "%"},
		{"writes to the store in an idle minute, 100,000 lines", quiet.writes, 0, ""},
	}, nil
}

// daemon is a belfry that serves.
type daemon struct {
	cmd   *exec.Cmd
	dir   string
	ready time.Duration // from its start until it answered
	said  chan struct{} // closed when it says nothing more
}

func serve(belfry, dir string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(belfry, append([]string{"serve"}, args...)...), dir: dir, said: make(chan struct{})}
	d.cmd.Dir = dir
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan time.Duration, 1)
	go func() {
		defer close(d.said)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), ": ready, ") {
				ready <- time.Since(begun)
			}
		}
		close(ready)
	}()
	took, ok := <-ready
	if !ok {
		return nil, errors.Join(errors.New("belfry serve did not become ready"), d.cmd.Wait())
	}
	d.ready = took
	return d, nil
}

func (d *daemon) end() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-d.said
	return d.cmd.Wait()
}

// quiet is what a daemon cost while nothing was due.
type quiet struct {
	rss    float64 // MB
	cpu    float64 // per cent of a core
	writes float64
}

// settle waits until a daemon has done what its start has left to it, and gives its
// resident memory then.
func (d *daemon) settle() (float64, error) {
	pid := d.cmd.Process.Pid
	for last, quiet := int64(-1), 0; quiet < 3; quiet++ {
		time.Sleep(time.Second)
		now, err := ticks(pid)
		if err != nil {
			return 0, err
		}
		if now != last {
			last, quiet = now, 0
		}
	}
	return rss(pid)
}

func (d *daemon) watch(idle time.Duration) (quiet, error) {
	if _, err := d.settle(); err != nil {
		return quiet{}, err
	}
	pid := d.cmd.Process.Pid
	before, err := ticks(pid)
	if err != nil {
		return quiet{}, err
	}
	wal := filepath.Join(d.dir, ".belfry", "belfry.db-wal")
	old, oldErr := os.Stat(wal)
	time.Sleep(idle)
	after, err := ticks(pid)
	if err != nil {
		return quiet{}, err
	}
	var q quiet
	if new, err := os.Stat(wal); err == nil && (oldErr != nil || !new.ModTime().Equal(old.ModTime())) {
		q.writes = 1 // or more
	}
	q.cpu = float64(after-before) / 100 / idle.Seconds() * 100 // a tick is a hundredth of a second
	q.rss, err = rss(pid)
	return q, err
}

// ticks is the processor time that a process has used.
func ticks(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return user + system, err
}

// rss is the resident memory of a process, in MB.
func rss(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * float64(os.Getpagesize()) / 1e6, err
}

// child finds a process by its parent and a word of its command line.
func child(parent int, word string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "status"))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			continue
		}
		if line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline")); err == nil && strings.Contains(string(line), "\x00"+word+"\x00") {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("process %d has no child %s", parent, word)
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

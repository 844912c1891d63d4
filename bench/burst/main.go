// Command burst measures how soon a thousand crontab jobs that are due at the same minute have started: by Belfry, by
// supercronic, by Debian's cron, and by the least that any of them can do, a loop of posix_spawn in C.
//
// What counts is when a job's own process runs: it writes the time into a ledger. All are measured in turns in the same
// run; the ratios are medians over the rounds, each against the loop of its own round. It wants root (Debian's cron gets a
// mount namespace of its own), a C compiler, and a machine that does nothing else. A round takes about four minutes.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const supercronic = "github.com/aptible/supercronic@v0.2.48"

func main() {
	rounds := flag.Int("rounds", 5, "how often each has its turn")
	jobs := flag.Int("jobs", 1000, "how many are due at once")
	only := flag.String("only", "", "these alone, with commas between: belfry shell, belfry plain, supercronic, cron")
	flag.Parse()
	if err := run(*rounds, *jobs, *only); err != nil {
		fmt.Fprintln(os.Stderr, "burst:", err)
		os.Exit(1)
	}
}

// bench is where everything is built and run.
type bench struct {
	dir, ledger string
	jobs        int
	turns       int // of belfry's
}

// contender starts a daemon with a crontab.
type contender struct {
	name    string
	line    string // of the crontab; %s is the stamping command
	rounds  int    // 0: all
	command func(b *bench, crontab string) *exec.Cmd
	// after looks at what it left, while it still runs.
	after func(b *bench) error
}

const shell, plain = ": ; %s", "%s"

var contenders = []contender{
	{name: "belfry shell", line: shell, command: belfry, after: account},
	{name: "belfry plain", line: plain, command: belfry, after: account},
	{name: "supercronic", line: shell, rounds: 1, command: func(b *bench, crontab string) *exec.Cmd {
		return exec.Command(filepath.Join(b.dir, "supercronic"), "-quiet", crontab)
	}},
	{name: "cron", line: shell, rounds: 1, command: cron},
}

// belfry gets a data folder of its own for each turn. They are removed at the end: an ext4 without a journal, as here, goes
// around what was deleted just before for each file that it makes.
func belfry(b *bench, crontab string) *exec.Cmd {
	b.turns++
	return exec.Command(filepath.Join(b.dir, "belfry"), "serve", "--crontab", crontab, "--data", b.data())
}

func (b *bench) data() string { return filepath.Join(b.dir, "data"+strconv.Itoa(b.turns)) }

// cron runs Debian's with a crontab of its own for root and none of the machine's.
func cron(b *bench, crontab string) *exec.Cmd {
	script := `set -e
mount -t tmpfs none /var/spool/cron && mkdir -m 1730 /var/spool/cron/crontabs
install -m 600 "$1" /var/spool/cron/crontabs/root
mount -t tmpfs none /etc/cron.d && mount --bind /dev/null /etc/crontab
mount -t tmpfs none /run && exec /usr/sbin/cron -f`
	return exec.Command("unshare", "-m", "sh", "-c", script, "cron", crontab)
}

// account checks that every run is in Belfry's account, once.
func account(b *bench) error {
	deadline := time.Now().Add(time.Minute)
	for {
		out, err := exec.Command(filepath.Join(b.dir, "belfry"), "runs", "--json", "--data", b.data()).Output()
		if err != nil {
			return fmt.Errorf("belfry runs: %w", err)
		}
		var runs []struct{ State string }
		if err := json.Unmarshal(out, &runs); err != nil {
			return err
		}
		good := 0
		for _, r := range runs {
			if r.State == "succeeded" {
				good++
			}
		}
		switch {
		case len(runs) != b.jobs:
			return fmt.Errorf("%d runs are in the account of %d jobs", len(runs), b.jobs)
		case good == b.jobs:
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d runs are accounted for as succeeded", good, b.jobs)
		}
		time.Sleep(time.Second)
	}
}

func run(rounds, jobs int, only string) error {
	dir, err := os.MkdirTemp("", "burst-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{dir: dir, ledger: filepath.Join(dir, "ledger"), jobs: jobs}
	if err := b.build(); err != nil {
		return err
	}
	var wanted []contender
	for _, c := range contenders {
		if only == "" || slices.Contains(strings.Split(only, ","), c.name) {
			wanted = append(wanted, c)
		}
	}
	var floors, leasts []float64
	firsts, lasts := map[string][]float64{}, map[string][]float64{}
	for round := range rounds {
		floor, err := b.floor("shell")
		if err != nil {
			return err
		}
		least, err := b.floor("plain")
		if err != nil {
			return err
		}
		floors, leasts = append(floors, floor), append(leasts, least/floor)
		fmt.Fprintf(os.Stderr, "round %d: the loop's last start after %.2f s, and %.2f s without a shell\n", round+1, floor, least)
		for _, c := range wanted {
			if c.rounds > 0 && round >= c.rounds {
				continue
			}
			first, last, err := b.turn(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			firsts[c.name], lasts[c.name] = append(firsts[c.name], first), append(lasts[c.name], last)
			fmt.Fprintf(os.Stderr, "round %d: %s: first %.3f s, last %.2f s, %.2f × the loop\n", round+1, c.name, first, last, last/floor)
		}
	}
	fmt.Printf("| %d jobs due at one minute | first start, s | last start, s | last ÷ loop |\n|---|--:|--:|--:|\n", jobs)
	fmt.Printf("| posix_spawn loop in C, through the shell | | %.2f | 1 |\n", median(floors))
	fmt.Printf("| the same without a shell | | | %.2f |\n", median(leasts))
	for _, c := range wanted {
		var ratios []float64
		for i, last := range lasts[c.name] {
			ratios = append(ratios, last/floors[i])
		}
		fmt.Printf("| %s | %.3f | %.2f | %.2f |\n", c.name, median(firsts[c.name]), median(lasts[c.name]), median(ratios))
	}
	return nil
}

func (b *bench) build() error {
	_, file, _, _ := runtime.Caller(0)
	here := filepath.Dir(file)
	for _, step := range []struct {
		dir  string
		env  []string
		args []string
	}{
		{here, nil, []string{"cc", "-O2", "-o", filepath.Join(b.dir, "floor"), "c/floor.c"}},
		{here, nil, []string{"cc", "-O2", "-static", "-o", filepath.Join(b.dir, "stamp"), "c/stamp.c"}},
		{filepath.Join(here, "..", ".."), []string{"CGO_ENABLED=0"}, []string{"go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(b.dir, "belfry"), "./cmd/belfry"}},
		{b.dir, []string{"CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOBIN=" + b.dir}, []string{"go", "install", supercronic}},
	} {
		cmd := exec.Command(step.args[0], step.args[1:]...)
		cmd.Dir, cmd.Env, cmd.Stderr = step.dir, append(os.Environ(), step.env...), os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(step.args, " "), err)
		}
	}
	return nil
}

func (b *bench) stamp() string { return filepath.Join(b.dir, "stamp") + " " + b.ledger }

// floor gives when the loop's last command has started, through the shell or plain.
func (b *bench) floor(kind string) (float64, error) {
	if err := os.WriteFile(b.ledger, nil, 0o600); err != nil {
		return 0, err
	}
	begin := time.Now()
	cmd := exec.Command(filepath.Join(b.dir, "floor"), kind, filepath.Join(b.dir, "stamp"), b.ledger, strconv.Itoa(b.jobs))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("the loop: %w", err)
	}
	starts, err := b.starts(begin)
	if err != nil {
		return 0, err
	}
	if len(starts) != b.jobs {
		return 0, fmt.Errorf("the loop has started %d of %d", len(starts), b.jobs)
	}
	return starts[len(starts)-1], nil
}

// turn lets a contender have one full minute, and gives when its first and last job started after it, in seconds.
func (b *bench) turn(c contender) (first, last float64, err error) {
	if err := os.WriteFile(b.ledger, nil, 0o600); err != nil {
		return 0, 0, err
	}
	// In a folder of its own: whoever watches it for changes shall not see the ledger's.
	crontab := filepath.Join(b.dir, "crontabs", "crontab")
	if err := os.MkdirAll(filepath.Dir(crontab), 0o700); err != nil {
		return 0, 0, err
	}
	var text strings.Builder
	for i := range b.jobs {
		fmt.Fprintf(&text, "* * * * * "+c.line+" %d\n", b.stamp(), i)
	}
	if err := os.WriteFile(crontab, []byte(text.String()), 0o600); err != nil {
		return 0, 0, err
	}
	for time.Now().Second() > 45 { // too near to the minute to be ready
		time.Sleep(time.Second)
	}
	minute := time.Now().Truncate(time.Minute).Add(time.Minute)
	cmd := c.command(b, crontab)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	time.Sleep(time.Until(minute))
	for time.Since(minute) < 55*time.Second {
		time.Sleep(time.Second)
		starts, err := b.starts(minute)
		if err != nil {
			return 0, 0, err
		}
		if len(starts) < b.jobs {
			continue
		}
		if len(starts) > b.jobs {
			return 0, 0, fmt.Errorf("%d jobs have started, of %d", len(starts), b.jobs)
		}
		if c.after != nil {
			if err := c.after(b); err != nil {
				return 0, 0, err
			}
		}
		return starts[0], starts[b.jobs-1], nil
	}
	starts, _ := b.starts(minute)
	return 0, 0, fmt.Errorf("%d of %d jobs have started within the minute", len(starts), b.jobs)
}

// starts reads the ledger: seconds after begin, in order.
func (b *bench) starts(begin time.Time) ([]float64, error) {
	file, err := os.Open(b.ledger)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var list []float64
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		at, _, _ := strings.Cut(lines.Text(), " ")
		ns, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, time.Unix(0, ns).Sub(begin).Seconds())
	}
	slices.Sort(list)
	return list, lines.Err()
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

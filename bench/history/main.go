// Command history measures how soon people are answered who look at a long history: `belfry jobs`, `runs` and `show` as
// they are typed, start of the process included, beside a daemon and without one. README.md in the folder above has the
// numbers.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"belfry/api"
)

func main() {
	belfry := flag.String("belfry", "", "the program; built when not given")
	runs := flag.Int("runs", 1_000_000, "runs in the history")
	rounds := flag.Int("rounds", 21, "how often each is asked")
	dir := flag.String("dir", "", "where the histories are kept for another time; empty: made anew, and removed")
	flag.Parse()
	if err := measure(*belfry, *dir, *runs, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "history:", err)
		os.Exit(1)
	}
}

func measure(belfry, dir string, runs, rounds int) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "belfry-history-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if belfry == "" {
		belfry = filepath.Join(dir, "belfry")
		build := exec.Command("go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", belfry, "./cmd/belfry")
		build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build belfry: %w\n%s", err, out)
		}
	}
	if belfry, err = filepath.Abs(belfry); err != nil {
		return err
	}
	fmt.Printf("| %d runs, medians of %d, ms (processor: command + daemon) | 100 jobs | 5,000 jobs | 100 jobs, no daemon |\n|---|--:|--:|--:|\n", runs, rounds)
	var columns [][]string
	for _, jobs := range []int{100, 5000} {
		home := filepath.Join(dir, fmt.Sprint(jobs))
		if err := history(belfry, home, jobs, runs); err != nil {
			return err
		}
		daemon, err := serve(belfry, home)
		if err != nil {
			return err
		}
		times, err := ask(belfry, home, rounds, daemon.pid)
		if err := errors.Join(err, daemon.stop()); err != nil {
			return err
		}
		columns = append(columns, times)
	}
	alone, err := ask(belfry, filepath.Join(dir, "100"), rounds, 0)
	if err != nil {
		return err
	}
	for i, q := range questions {
		fmt.Printf("| `belfry %s` | %s | %s | %s |\n", strings.Join(q, " "), columns[0][i], columns[1][i], alone[i])
	}
	return nil
}

// questions are what is typed; the program's start by itself comes first.
var questions = [][]string{
	{"--version"},
	{"jobs"},
	{"jobs", "--json"},
	{"runs"},
	{"runs", "--state", "failed"},
	{"runs", "job-7"},
	{"show", "job-7"},
	{"show", "job-7", "--json"},
}

// ask gives for each question how long it takes, the median, and how much processor
// time: the command's, and that of the daemon with this pid if there is one.
func ask(belfry, home string, rounds, daemon int) ([]string, error) {
	var times []string
	for _, q := range questions {
		var wall []float64
		var used time.Duration
		before, err := ticks(daemon)
		if err != nil {
			return nil, err
		}
		for range rounds {
			cmd := exec.Command(belfry, q...)
			cmd.Dir = home
			begun := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("belfry %s: %w\n%s", strings.Join(q, " "), err, out)
			}
			wall = append(wall, float64(time.Since(begun).Microseconds())/1000)
			used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
		after, err := ticks(daemon)
		if err != nil {
			return nil, err
		}
		slices.Sort(wall)
		cpu := fmt.Sprintf("%.0f", float64(used.Microseconds())/1000/float64(rounds))
		if daemon > 0 {
			cpu += fmt.Sprintf("+%.0f", float64(after-before)*10/float64(rounds))
		}
		times = append(times, fmt.Sprintf("%.0f (%s)", wall[len(wall)/2], cpu))
	}
	return times, nil
}

// ticks is the processor time that a process has used, in hundredths of a second.
func ticks(pid int) (int64, error) {
	if pid == 0 {
		return 0, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var user, system int64
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return user + system, err
}

// history makes a project of jobs with a history in home, unless it is there.
func history(belfry, home string, jobs, runs int) error {
	done := filepath.Join(home, "made")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	var yaml strings.Builder
	yaml.WriteString("jobs:\n")
	for i := range jobs {
		fmt.Fprintf(&yaml, "  job-%d: {schedule: \"%d %d 1 1 *\", command: \"/usr/bin/python3 -m lake.load --table table_%d\"}\n", i, i%60, i%24, i)
	}
	if err := os.WriteFile(filepath.Join(home, "belfry.yaml"), []byte(yaml.String()), 0o644); err != nil {
		return err
	}
	daemon, err := serve(belfry, home) // it makes the schema and the jobs
	if err != nil {
		return err
	}
	if err := daemon.stop(); err != nil {
		return err
	}
	if err := fill(filepath.Join(home, ".belfry", "belfry.db"), runs); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o644)
}

// fill adds runs, one every 30 seconds until now, of the jobs in turn: one in a
// hundred has failed, one in a thousand was missed, one in ten has published.
func fill(path string, runs int) (err error) {
	db, err := sql.Open("sqlite", path+"?_pragma=synchronous(OFF)&_pragma=cache_size(-400000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	end := time.Now().UnixMilli()
	for _, statement := range []string{
		`CREATE TEMP TABLE turn AS SELECT row_number() OVER (ORDER BY line) - 1 AS n, id, definition FROM job`,
		`CREATE TEMP TABLE made AS WITH RECURSIVE every(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM every WHERE i + 1 < ?1)
			SELECT i, '01K' || printf('%023d', i) AS id, ?2 - (?1 - i) * 30000 AS at,
				CASE WHEN i % 1000 = 7 THEN 'missed' WHEN i % 100 = 3 THEN 'failed' ELSE 'succeeded' END AS state FROM every`,
		`INSERT INTO run (id, job, key, cause, state, definition, fires_at, fires_until, named, attempt, token, node, queued_at, started_at, ended_at, exit_code)
			SELECT made.id, turn.id, 't/' || i, 'schedule', state, definition, at, at, strftime('%Y-%m-%dT%H:%M:%S', at / 1000, 'unixepoch'),
				state <> 'missed', 1, 'here', at, at + 5, at + 1500, CASE state WHEN 'succeeded' THEN 0 WHEN 'failed' THEN 1 END
			FROM made JOIN turn ON turn.n = i % (SELECT COUNT(*) FROM turn) ORDER BY i`,
		`INSERT INTO attempt (run, number, token, node, boot, targets, started_at, ended_at, exit_code, user_cpu, max_rss)
			SELECT id, 1, 1, 'here', 'boot', '[]', at + 5, at + 1500, state <> 'succeeded', 900000000, 30000000 FROM made WHERE state <> 'missed' ORDER BY i`,
		`INSERT INTO published (run, number, job, date, at, place, target, files, bytes, manifest)
			SELECT run.id, 0, run.job, substr(named, 1, 10), ended_at, '/lake/' || run.id || '/', '/lake/' || run.id, 3, 1000000, 'm'
			FROM run WHERE run.state = 'succeeded' AND run.fires_at / 30000 % 10 = 0`,
		`PRAGMA optimize`,
	} {
		args := []any{}
		if strings.Contains(statement, "?1") {
			args = []any{runs, end}
		}
		if _, err := db.ExecContext(context.Background(), statement, args...); err != nil {
			return fmt.Errorf("fill the history: %w", err)
		}
	}
	return nil
}

// daemon is a belfry that serves.
type daemon struct {
	pid  int
	stop func() error
}

// serve starts a daemon and waits until it answers.
func serve(belfry, home string) (*daemon, error) {
	cmd := exec.Command(belfry, "serve")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "BELFRY_MAIL_SPOOL="+home)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{cmd.Process.Pid, func() error { return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()) }}
	client := api.Unix(filepath.Join(home, ".belfry"))
	defer client.Close()
	for tries := 0; ; tries++ {
		health, err := client.Health(context.Background())
		if err == nil && health.Plans {
			return d, nil
		}
		if tries == 600 {
			return nil, errors.Join(fmt.Errorf("belfry serve does not answer: %w", err), d.stop())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

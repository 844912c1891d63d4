// Command logs measures what it costs a job that its output is followed: the time of a command that writes two
// gigabytes, run by a daemon, beside the time of the same command writing to a plain file, both in turn. README.md in
// the folder above has the numbers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"belfry/api"
)

func main() {
	belfry := flag.String("belfry", "", "the program; built when not given")
	command := flag.String("command", "yes | head -c 2000000000", "what the job does")
	turns := flag.Int("turns", 5, "how often each has its turn")
	env := flag.String("env", "{}", "env of the job, as in belfry.yaml; a variable …_TOKEN is a secret to look for")
	flag.Parse()
	if err := run(*belfry, *command, *env, *turns); err != nil {
		fmt.Fprintln(os.Stderr, "logs:", err)
		os.Exit(1)
	}
}

func run(belfry, command, env string, turns int) (err error) {
	dir, err := os.MkdirTemp("", "belfry-logs")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if belfry == "" {
		belfry = filepath.Join(dir, "belfry")
		build := exec.Command("go", "build", "-o", belfry, "./cmd/belfry")
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build belfry: %w\n%s", err, out)
		}
	}
	project := fmt.Sprintf("jobs:\n  flood: {command: %s, env: %s}\n", strconv.Quote(command), env)
	if err := os.WriteFile(filepath.Join(dir, "belfry.yaml"), []byte(project), 0o644); err != nil {
		return err
	}
	daemon := exec.Command(belfry, "serve")
	daemon.Dir, daemon.Stderr = dir, os.Stderr
	daemon.Env = append(os.Environ(), "BELFRY_MAIL_SPOOL="+dir)
	if err := daemon.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Process.Signal(syscall.SIGTERM), daemon.Wait()) }()
	client := api.Unix(filepath.Join(dir, ".belfry"))
	for tries := 0; ; tries++ {
		if _, err := client.Health(context.Background()); err == nil {
			break
		} else if tries == 100 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := through(client, "flood"); err != nil { // what is done once is done
		return err
	}
	m := watch(daemon.Process.Pid, filepath.Join(dir, ".belfry"))
	aside := filepath.Join(dir, "aside") // the daemon watches the folder of the project: each write there would be work for it
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	var ratios []float64
	fmt.Println("| plain file | through belfry | ratio |\n|--:|--:|--:|")
	for range turns {
		plain, err := plainly(command, filepath.Join(aside, "plain"))
		if err != nil {
			return err
		}
		ours, err := through(client, "flood")
		if err != nil {
			return err
		}
		ratios = append(ratios, ours.Seconds()/plain.Seconds())
		fmt.Printf("| %.2f s | %.2f s | %.2f |\n", plain.Seconds(), ours.Seconds(), ratios[len(ratios)-1])
	}
	slices.Sort(ratios)
	before, most, disk := m.stop()
	fmt.Printf("\nMedian ratio %.2f. RSS of the daemon %.1f MB before, %.1f MB at most (%+.1f). Data folder at most %.0f MB. CPU of the daemon %.2f s a job.\n",
		ratios[len(ratios)/2], float64(before)/1e6, float64(most)/1e6, float64(most-before)/1e6, float64(disk)/1e6, cpu(daemon.Process.Pid)/float64(turns+1))
	return nil
}

// plainly runs a command into a file, which is removed afterwards.
func plainly(command, path string) (time.Duration, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stdout = file
	start := time.Now()
	err = cmd.Run()
	took := time.Since(start)
	return took, errors.Join(err, file.Close(), os.Remove(path))
}

// through runs a job by the daemon, and gives how long its process lived.
func through(client *api.Client, job string) (time.Duration, error) {
	runs, err := client.Start(context.Background(), api.RunRequest{Job: job})
	if err != nil {
		return 0, err
	}
	for r := runs[0]; ; {
		if r, err = client.Await(context.Background(), r); err != nil {
			return 0, err
		}
		if !r.Finished() {
			continue
		}
		if r.State != "succeeded" {
			return 0, fmt.Errorf("the run is %s: %s", r.State, r.Reason)
		}
		a := r.Attempts[0]
		return a.EndedAt.Sub(a.StartedAt), nil
	}
}

// monitor looks at a process and a folder until it is stopped.
type monitor struct {
	ask          chan struct{}
	done         chan struct{}
	before, most int64 // bytes of RSS
	disk         int64 // bytes
}

func watch(pid int, dir string) *monitor {
	m := &monitor{ask: make(chan struct{}), done: make(chan struct{}), before: rss(pid)}
	go func() {
		defer close(m.done)
		for {
			m.most, m.disk = max(m.most, rss(pid)), max(m.disk, usage(dir))
			select {
			case <-m.ask:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return m
}

func (m *monitor) stop() (before, most, disk int64) {
	close(m.ask)
	<-m.done
	return m.before, m.most, m.disk
}

func rss(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// cpu is what a process has used, in seconds.
func cpu(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// usage is what a folder takes of the disk.
func usage(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has just gone
		}
		if info, err := entry.Info(); err == nil {
			total += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return total
}

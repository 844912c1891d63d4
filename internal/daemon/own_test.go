package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/plan"
	"belfry/internal/proc/proctest"
	"belfry/internal/run"
)

// options are those of a daemon with a project of one job, in a folder of its own.
func options(t *testing.T, dir string) Options {
	t.Helper()
	t.Cleanup(func() { proctest.EndKeepers(t, dir) })
	file := filepath.Join(dir, "belfry.yaml")
	if err := os.WriteFile(file, []byte("jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return Options{
		Data: filepath.Join(dir, "data"), Project: file, Plan: true,
		Host: run.Host{User: "tester", Home: dir, Name: "here"}, Zone: time.UTC,
		Self: []string{"/proc/self/exe"}, Clock: ReadClock, Version: "test", Log: slog.New(slog.DiscardHandler), Told: func(string) {},
	}
}

// serve runs a daemon until stop is called.
func serve(t *testing.T, o Options) (client *api.Client, stop func()) {
	t.Helper()
	_, client, stop = serveDaemon(t, o)
	return client, stop
}

func serveDaemon(t *testing.T, o Options) (d *Daemon, client *api.Client, stop func()) {
	t.Helper()
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(d.Run(ctx), d.Close()) }()
	client = d.Client()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return d, client, stop
}

func TestASocketPathMayBeLongerThanAnAddress(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("아주-긴-폴더", 10))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	client, _ := serve(t, options(t, dir))
	health, err := client.Health(t.Context())
	if err != nil || !health.Plans {
		t.Errorf("health: %+v, %v", health, err)
	}
	info, err := os.Stat(filepath.Join(dir, "data", api.SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v; want mode 0600", info, err)
	}
}

func TestAFolderHasOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	_, stop := serve(t, o)
	_, err := Open(t.Context(), o)
	var owned *OwnedError
	if !errors.As(err, &owned) || !strings.HasPrefix(owned.Owner, planner+", pid ") {
		t.Errorf("the second owner gets %v", err)
	}
	stop()
	serve(t, o)
}

// TestTheLockOfAKilledOwnerIsWaitedFor is about an owner that was killed while it was
// forking: what it forked has its lock until it executes something.
func TestTheLockOfAKilledOwnerIsWaitedFor(t *testing.T) {
	t.Parallel()
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, goes := range []bool{true, false} {
		file, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			_, err = fmt.Fprintf(file, "%s, pid %d\n", planner, ended.Process.Pid)
		}
		if err := errors.Join(err, unix.Flock(int(file.Fd()), unix.LOCK_EX)); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			if goes {
				time.AfterFunc(dying/2, func() { _ = file.Close() })
			}
			began := time.Now()
			l, err := own(t.Context(), Options{Data: dir, Plan: true})
			took := time.Since(began)
			var owned *OwnedError
			switch {
			case !goes && (!errors.As(err, &owned) || took > 2*dying):
				t.Errorf("a lock that stays: %v after %s", err, took)
			case goes && (err != nil || took < dying/2):
				t.Errorf("a lock that goes: %v after %s", err, took)
			}
			if l != nil {
				_ = l.release()
			}
		})
		_ = file.Close() // it may be
	}
}

// A clock that a test sets.
type setClock struct{ reading plan.Reading }

func (c *setClock) read() plan.Reading { return c.reading }

func TestWhatADowntimeMissedIsAccountedForWhenTheDaemonComesBack(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	clock := &setClock{plan.Reading{Wall: time.Date(2026, 7, 8, 12, 0, 0, 0, time.UTC), Boot: "one"}}
	o.Clock = clock.read
	client, stop := serve(t, o)
	if _, err := client.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	// Three nights later: two are missed, the newest is caught up.
	clock.reading.Wall = time.Date(2026, 7, 11, 6, 0, 0, 0, time.UTC)
	client, _ = serve(t, o)
	runs, err := client.Runs(t.Context(), api.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range runs {
		state := r.State
		if state != "missed" {
			state = r.Cause
		}
		got = append(got, r.FiresAt.Format("2006-01-02T15:04")+" "+state)
	}
	want := "2026-07-11T01:00 catch-up, 2026-07-10T01:00 missed, 2026-07-09T01:00 missed"
	if strings.Join(got, ", ") != want {
		t.Errorf("the account is %s; want %s", strings.Join(got, ", "), want)
	}
	if reason := runs[1].Reason; !strings.HasPrefix(reason, "belfry was not running from 2026-07-08 12:00:00 UTC to 2026-07-11 06:00:00 UTC") {
		t.Errorf("the reason is %q", reason)
	}
}

func TestADaemonThatIsStoppedNotesWhenThatWas(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	clock := &aheadClock{}
	o.Clock = clock.read
	client, stop := serve(t, o)
	if _, err := client.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.by.Add(int64(40 * time.Second))
	stopped := clock.read().Wall
	stop()
	info, err := os.Stat(filepath.Join(o.Data, "alive"))
	if err != nil || info.ModTime().Before(stopped.Truncate(time.Millisecond)) {
		t.Errorf("it was there until %s, %v; want %s", info.ModTime(), err, stopped)
	}
}

func TestABadFileLeavesTheOldJobsRunning(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(o.Project, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		d.jobs.reload(t.Context(), false)
	}
	write("jobs:\n  nightly: {shedule: x}\n")
	if jobs := d.jobs.planned(); len(jobs) != 1 || !strings.Contains(d.jobs.trouble(), `did you mean "schedule"?`) {
		t.Errorf("after a bad edit there are %d jobs, trouble %q", len(jobs), d.jobs.trouble())
	}
	write("jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n  second: {command: \"true\"}\n")
	if jobs := d.jobs.planned(); len(jobs) != 2 || d.jobs.trouble() != "" {
		t.Errorf("after it is mended there are %d jobs, trouble %q", len(jobs), d.jobs.trouble())
	}
}

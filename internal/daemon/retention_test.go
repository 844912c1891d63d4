package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/logs"
	"belfry/internal/project"
	"belfry/internal/run"
)

func TestWhatIsKeptNoLongerIsRemovedWithItsFolder(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	clock := &aheadClock{}
	o.Clock = clock.read
	inPlace(t, o.Project, oneJob+"daemon: {retention: {age: 2d, failed_age: 2d}}\n")
	d, client, _ := serveDaemon(t, o)
	var ids []string
	for range 2 {
		runs, err := client.Start(t.Context(), api.RunRequest{Job: "nightly"})
		if err != nil {
			t.Fatal(err)
		}
		r := runs[0]
		for !r.Finished() {
			if r, err = client.Await(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, r.ID)
		clock.by.Add(int64(time.Second)) // the next one is newer
	}
	folder := func(id string) string { return filepath.Join(o.Data, "runs", id) }
	stray, fresh, foreign := folder(run.NewID(time.Now())), folder(run.NewID(time.Now())), folder("my-notes")
	for _, dir := range []string{stray, fresh, foreign} {
		if err := os.MkdirAll(filepath.Join(dir, "1"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * orphanAge)
	for _, dir := range []string{stray, foreign} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	there := func(path string) bool { _, err := os.Stat(path); return err == nil }

	// To a quiet second of a day on which all are still kept, and of one later.
	clock.by.Add(int64(untilQuiet(d.now())))
	mustPrune(t, d)
	for path, want := range map[string]bool{folder(ids[0]): true, folder(ids[1]): true, stray: false, fresh: true, foreign: true} {
		if there(path) != want {
			t.Errorf("at first %s is there: %v, want %v", path, !want, want)
		}
	}
	clock.by.Add(int64(3 * 24 * time.Hour))
	clock.by.Add(int64(untilQuiet(d.now())))
	mustPrune(t, d)
	// The newest run of a job is always kept.
	if there(folder(ids[0])) || !there(folder(ids[1])) {
		t.Errorf("after three days the folders are there: %v, %v; want the newest alone", there(folder(ids[0])), there(folder(ids[1])))
	}
	if _, err := client.Run(t.Context(), ids[0]); err == nil {
		t.Error("the older run is still in the account")
	}
}

func mustPrune(t *testing.T, d *Daemon) {
	t.Helper()
	if _, err := d.prune(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOutputThatIsNotAtItsTargetIsKeptAsLongAsItsRun(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	clock := &aheadClock{}
	o.Clock = clock.read
	lake := filepath.Join(filepath.Dir(o.Project), "lake")
	strange := filepath.Join(lake, "2026-07-09", "strange")
	if err := os.MkdirAll(strange, 0o755); err != nil {
		t.Fatal(err)
	}
	inPlace(t, o.Project, "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"echo x > $BELFRY_OUTPUT/x\", publish: \"lake/$BELFRY_DATE\"}\n"+
		"daemon: {retention: {age: 2d, failed_age: 30d, runs: 1}}\n")
	finished := func(client *api.Client, r api.Run, want string) string {
		t.Helper()
		var err error
		for !r.Finished() {
			if r, err = client.Await(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if r.State != want {
			t.Fatalf("the run for %s is %s (%s), want %s", r.Date, r.State, r.Reason, want)
		}
		return r.ID
	}
	made := func(client *api.Client, date, want string) string {
		t.Helper()
		runs, err := client.Start(t.Context(), api.RunRequest{Job: "nightly", Date: date})
		if err != nil {
			t.Fatal(err)
		}
		return finished(client, runs[0], want)
	}
	_, client, stop := serveDaemon(t, o)
	refused := made(client, "2026-07-09", "failed")
	clock.by.Add(int64(time.Second))
	sent := made(client, "2026-07-10", "succeeded")
	clock.by.Add(int64(time.Second))
	made(client, "2026-07-11", "succeeded")
	stop()
	clock.by.Add(int64(20 * 24 * time.Hour))
	d, client, _ := serveDaemon(t, o)
	clock.by.Add(int64(untilQuiet(d.now())))
	mustPrune(t, d)
	if _, err := client.Run(t.Context(), sent); err == nil {
		t.Error("the run that was published is still in the account: nothing was removed")
	}
	if err := os.Remove(strange); err != nil {
		t.Fatal(err)
	}
	again, err := client.Retry(t.Context(), refused, api.RetryRequest{Publish: true})
	if err != nil {
		t.Fatal(err)
	}
	finished(client, again, "succeeded")
	if text, err := os.ReadFile(filepath.Join(lake, "2026-07-09", "x")); err != nil || string(text) != "x\n" {
		t.Errorf("at its target is %q, %v", text, err)
	}
}

func TestLogsOfRunsThatAreNotInTheStoreAreDropped(t *testing.T) {
	t.Parallel()
	d, client, _ := serveDaemon(t, options(t, t.TempDir()))
	runs, err := client.Start(t.Context(), api.RunRequest{Job: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	now := d.now()
	stray, fresh := run.NewID(now.Add(-3*orphanAge)), run.NewID(now)
	var changes []logs.Change
	for _, id := range []string{stray, fresh, runs[0].ID} {
		changes = append(changes, logs.Change{Log: logs.Log{Run: id, Number: 7}})
	}
	if err := d.store.SaveLogs(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	there := func(id string) bool {
		_, ok, err := d.store.Log(t.Context(), id, 7)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if err := d.trimLogs(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if there(stray) || !there(fresh) {
		t.Errorf("the log of an unknown run is there: %v; that of a young one: %v", there(stray), there(fresh))
	}
	if err := d.trimLogs(t.Context(), now.Add(2*orphanAge)); err != nil {
		t.Fatal(err)
	}
	if there(fresh) || !there(runs[0].ID) {
		t.Errorf("two days later, the log of an unknown run is there: %v; that of a known one: %v", there(fresh), there(runs[0].ID))
	}
}

func TestPruningKeepsAwayFromTheFullMinute(t *testing.T) {
	t.Parallel()
	minute := time.Date(2026, 7, 9, 1, 0, 0, 0, time.UTC)
	for second, want := range map[int]int{0: 20, 19: 1, 20: 0, 39: 0, 40: 40, 59: 21} {
		if got := untilQuiet(minute.Add(time.Duration(second) * time.Second)); got != time.Duration(want)*time.Second {
			t.Errorf("at second %d it waits %s, want %d s", second, got, want)
		}
	}
}

func TestABacklogIsRemovedInHalfOfTheQuietTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		more bool
		err  error
		want time.Duration
	}{
		{"there is more", true, nil, time.Second},
		{"the disk is full", true, errors.New("disk full"), 40 * time.Second},
		{"the pass is at its end", false, nil, time.Hour},
	} {
		if got := restAfter(c.more, c.err, time.Second); got != c.want {
			t.Errorf("%s: it rests %s, want %s", c.why, got, c.want)
		}
	}
}

func TestFailedRunsThatAreKeptForEverAreNotRemovedLikeTheOthers(t *testing.T) {
	t.Parallel()
	if keep := kept(project.Retention{Age: time.Hour, FailedAge: project.Forever}); keep.FailedAge < 100*365*24*time.Hour {
		t.Errorf("the store is told %+v", keep)
	}
}

func TestPythonEnvironmentsThatNoJobNamesAreRemoved(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	clock := &aheadClock{}
	o.Clock = clock.read
	inPlace(t, o.Project, "jobs:\n  with: {command: x, python: {version: 3.11}}\n  without: {command: x}\n")
	d, _, _ := serveDaemon(t, o)
	dir := filepath.Join(o.Data, "python")
	there := func(job string) bool { _, err := os.Stat(filepath.Join(dir, "of-"+job)); return err == nil }
	for _, job := range []string{"with", "without", "gone"} {
		if err := os.MkdirAll(filepath.Join(dir, "of-"+job), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../of-"+job, filepath.Join(dir, "jobs", job)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		days int64
		left []bool
	}{{1, []bool{true, true, true}}, {7, []bool{true, false, false}}} {
		clock.by.Add(c.days * int64(24*time.Hour))
		clock.by.Add(int64(untilQuiet(d.now())))
		mustPrune(t, d)
		for i, job := range []string{"with", "without", "gone"} {
			if there(job) != c.left[i] {
				t.Errorf("after %d days more the environment of the job %q is there: %t", c.days, job, there(job))
			}
		}
	}
}

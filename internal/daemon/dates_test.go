package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/plan"
)

// came waits until a run of a job, with a cause, has come to a state.
func came(t *testing.T, client *api.Client, name, cause, state string) api.Run {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(30 * time.Second)
	for {
		runs, err := client.Runs(t.Context(), api.RunFilter{Job: name})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			if r.Cause == cause && r.State == state {
				return r
			}
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s has no run by %s that is %s: %+v", name, cause, state, runs)
		}
	}
}

func TestAPastDayIsMadeAgainExactly(t *testing.T) {
	t.Parallel()
	berlin, err := job.LoadZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := options(t, dir)
	o.Zone = berlin
	o.Host.Environ = []string{"PATH=" + os.Getenv("PATH")}
	// What an attempt is told, but for what is its own: of the first firing it
	// fails once.
	yaml := fmt.Sprintf(`
defaults:
  command: |
    env | grep ^BELFRY_ | grep -v -E '^BELFRY_(RUN|ATTEMPT|CAUSE|OUTPUT)=' | sort > %s/$BELFRY_JOB.$BELFRY_DATE.$BELFRY_CAUSE.$BELFRY_ATTEMPT
    test $BELFRY_CAUSE.$BELFRY_ATTEMPT.$BELFRY_JOB != schedule.1.night
jobs:
  night: {schedule: ["0 12 * * 1", "30 2 * * *"]}
  kid: {after: night}
  late: {after: night, schedule: "31 2 * * *"}
`, dir)
	if err := os.WriteFile(o.Project, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	told := func(name, date, cause string, attempt int) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s.%s.%s.%d", name, date, cause, attempt)))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is told\n%s\nwant, as the firing was,\n%s", what, got, want)
		}
	}

	// The night in which 02:30 does not exist.
	clock := &aheadClock{}
	clock.by.Store(int64(time.Until(time.Date(2025, 3, 30, 0, 59, 58, 0, time.UTC))))
	o.Clock = clock.read
	client, stop := serve(t, o)
	first := came(t, client, "night", "schedule", "failed")
	if _, err := client.Retry(t.Context(), first.ID, api.RetryRequest{}); err != nil {
		t.Fatal(err)
	}
	came(t, client, "kid", "after", "succeeded")
	came(t, client, "late", "schedule", "succeeded")
	night := told("night", "2025-03-30", "schedule", 1)
	for name, value := range map[string]string{
		"DATE": "2025-03-30", "HOUR": "02", "FIRES_AT": "2025-03-30T01:00:00Z", "STAMP": "20250330T010000Z",
		"INTERVAL_START": "2025-03-29T01:30:00Z", "INTERVAL_END": "2025-03-30T01:00:00Z", "START_DATE": "2025-03-29",
	} {
		if !strings.Contains(night, "BELFRY_"+name+"="+value+"\n") {
			t.Errorf("BELFRY_%s is not %s:\n%s", name, value, night)
		}
	}
	same("a retry", told("night", "2025-03-30", "schedule", 2), night)
	kid := told("kid", "2025-03-30", "after", 1)
	same("the child", strings.ReplaceAll(kid, "=kid\n", "=night\n"), night)
	stop()

	// The night after, without a daemon, and days later.
	clock.by.Add(int64(24*time.Hour - 20*time.Minute))
	client, _ = serve(t, o)
	came(t, client, "night", "catch-up", "succeeded")
	came(t, client, "kid", "catch-up", "succeeded")
	clock.by.Add(int64(72 * time.Hour))
	for _, name := range []string{"night", "kid", "late"} {
		for _, date := range []string{"2025-03-30", "2025-03-31"} {
			request := api.RunRequest{Job: name, Date: date}
			if name != "late" && date == "2025-03-31" {
				request.At = "02:30" // a Monday
			}
			runs, err := client.Start(t.Context(), request)
			if err != nil {
				t.Fatalf("%+v: %v", request, err)
			}
			for r := runs[0]; !r.Finished(); {
				if r, err = client.Await(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		backfill, err := client.StartBackfill(t.Context(), api.BackfillRequest{Job: name, From: "2025-03-30", To: "2025-03-30"})
		for err == nil && !backfill.Finished() {
			backfill, err = client.AwaitBackfill(t.Context(), backfill)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, cause := range map[string]string{"night": "schedule", "kid": "after", "late": "schedule"} {
		fired := told(name, "2025-03-30", cause, 1)
		same(name+" by hand for a past day", told(name, "2025-03-30", "manual", 1), fired)
		same(name+" in a backfill", told(name, "2025-03-30", "backfill", 1), fired)
	}
	for _, name := range []string{"night", "kid"} {
		same(name+" by hand for a day that was caught up", told(name, "2025-03-31", "manual", 1), told(name, "2025-03-31", "catch-up", 1))
	}
}

// aheadClock is the machine's clock, some time ahead.
type aheadClock struct{ by atomic.Int64 }

func (c *aheadClock) read() plan.Reading {
	r, by := ReadClock(), time.Duration(c.by.Load())
	r.Wall, r.Running, r.Elapsed = r.Wall.Add(by), r.Running+by, r.Elapsed+by
	return r
}

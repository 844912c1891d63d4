package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/plan"
)

func TestWhyAJobDidNotRunIsAnswered(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		t.Helper()
		moment, err := time.ParseInLocation("2006-01-02 15:04", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return moment
	}
	clock := &setClock{plan.Reading{Boot: "one"}}
	o.Clock = clock.read
	jobs := func(text string) {
		t.Helper()
		if err := os.WriteFile(o.Project, []byte("timezone: Europe/Berlin\njobs:\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const (
		steady = `
  nightly: {schedule: "30 2 * * *", command: "true"}
  quiet: {schedule: "30 2 * * *", command: "true"}
  slow: {schedule: "30 2 * * *", command: "tail -f /dev/null"}
  broken: {schedule: "30 2 * * *", command: "exit 3"}
  child: {after: broken, command: "true"}
  grandchild: {after: child, command: "true"}
  strict: {schedule: "30 2 * * *", command: "true", catch_up: none}
`
		edited  = "  moved: {schedule: \"30 2 * * *\", command: \"true\"}\n"
		removed = "  gone: {schedule: \"30 2 * * *\", command: \"true\"}\n"
	)

	clock.reading.Wall = at("2026-03-26 12:00")
	jobs(steady + "  moved: {schedule: \"45 2 * * *\", command: \"true\"}\n" + removed)
	client, stop := serve(t, o)
	if _, err := client.Pause(t.Context(), api.PauseRequest{Job: "quiet", Paused: true}); err != nil {
		t.Fatal(err)
	}
	stop()
	// Two nights later one is missed, the other is caught up.
	clock.reading.Wall = at("2026-03-28 03:00")
	jobs(steady + edited + removed)
	client, stop = serve(t, o)
	await := func(ref, state string) {
		t.Helper()
		for {
			r, err := client.Run(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if r.State == state {
				return
			}
			if _, err := client.Await(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	await("slow", "running")
	await("grandchild", "skipped")
	stop()
	// The night in which there is no 02:30. One job still runs.
	clock.reading.Wall = at("2026-03-29 03:02")
	jobs(steady + edited)
	client, _ = serve(t, o)
	await("strict@2026-03-29", "succeeded")

	for ref, want := range map[string]string{
		"nightly@2026-03-27T02:30": "missed: belfry was not running from 2026-03-26 11:00:00 UTC to 2026-03-28 02:00:00 UTC",
		"strict@2026-03-28T02:30":  "missed: belfry was not running from 2026-03-26 11:00:00 UTC to 2026-03-28 02:00:00 UTC",
		"nightly@2026-03-28T02:30": "succeeded",
		"nightly@2026-03-29T02:30": "succeeded", // at 03:00
		"quiet@2026-03-28T02:30":   "skipped: paused",
		"slow@2026-03-29T02:30":    "skipped: overlap: run ",
		"broken@2026-03-28":        "failed: exit status 3",
		"child@2026-03-28":         "skipped: dependency: broken ended failed (run ",
		"grandchild@2026-03-28":    "skipped: dependency: child ended skipped (run ",
		"nightly@2026-03-26T02:30": "the job counts from 2026-03-26T12:00 on: it became new",
		"moved@2026-03-28T02:30":   "the job counts from 2026-03-28T03:00 on: it became new, was resumed, or had its schedule edited then",
		"nightly@2026-03-28T02:31": "its schedule does not fire then; the firing before is 2026-03-28T02:30, the one after 2026-03-29T03:00",
		"nightly@2026-03-30T02:30": "it is still to come",
		"gone@2026-03-28":          "succeeded",
		"gone@2026-03-29":          "the job was removed",
		"gone@2026-03-30":          "the job was removed",
		"nobody@02:30":             "the jobs here are: ",
	} {
		r, err := client.Run(t.Context(), ref)
		got := strings.TrimSuffix(r.State+": "+r.Reason, ": ")
		var refusal *api.Error
		if errors.As(err, &refusal) {
			got = refusal.Hint
		}
		if !strings.HasPrefix(got, want) || want == "succeeded" && got != want {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
	if _, err := client.Stop(t.Context(), "slow@2026-03-28", api.StopRequest{Kill: true}); err != nil {
		t.Error(err)
	}
}

func TestANameOfSeveralJobsIsNotTakenForThatOfARemovedOne(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	tab := func(name, text string) {
		t.Helper()
		path := filepath.Join(filepath.Dir(o.Project), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(o.Crontabs, path) {
			o.Crontabs = append(o.Crontabs, path)
		}
	}
	const entry = "0 1 * * * /bin/backup\n"
	tab("one", entry)
	_, stop := serve(t, o)
	stop()
	tab("one", "")
	tab("two", entry)
	tab("three", entry)
	client, _ := serve(t, o)
	_, err := client.Runs(t.Context(), api.RunFilter{Job: "backup"})
	if err == nil || !strings.Contains(err.Error(), `"backup" is the name of 2 jobs`) {
		t.Errorf("got %v", err)
	}
}

package cli

import (
	"strings"
	"syscall"
	"testing"

	"belfry/api"
)

// daily waits at go.fifo on each of its dates.
const daily = `
jobs:
  daily:
    schedule: "0 1 * * *"
    command: 'echo > begun.fifo; cat go.fifo'
`

func TestABackfillSurvivesARestartOfTheDaemon(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", daily)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	first := p.serve()
	backfill := p.command("backfill", "daily", "--from", "2026-07-01", "--to", "2026-07-03", "--json")
	var out, errs strings.Builder
	backfill.Stdout, backfill.Stderr = &out, &errs
	if err := backfill.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	p.let("go.fifo")
	p.await("begun.fifo") // of the second
	first.kill()
	p.serve()
	p.let("go.fifo")
	p.await("begun.fifo")
	p.let("go.fifo")
	if err := backfill.Wait(); err != nil {
		t.Errorf("backfill exits with %v\n%s", err, errs.String())
	}
	if n := strings.Count(out.String(), `"state": "succeeded"`); n != 3 || strings.Contains(out.String(), `"attempt": 2`) {
		t.Errorf("%d runs succeeded at once, want 3:\n%s", n, out.String())
	}
}

func TestAnInterruptGivesUpWhatHasNotBegunOfABackfill(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", daily)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	p.serve()
	backfill := p.start("backfill", "daily", "--from", "2026-07-01", "--to", "2026-07-03")
	p.await("begun.fifo")
	if _, errs, code := p.belfry("backfill", "daily", "--from", "2026-07-03", "--to", "2026-07-04"); code != exitRefused || !strings.Contains(errs, "of daily has not ended, and makes 2026-07-03 too") {
		t.Errorf("a second backfill of the same day exits with %d: %s", code, errs)
	}
	backfill.signal(syscall.SIGINT)
	backfill.until("giving up the runs that have not begun")
	client := p.client()
	waiting, err := client.Runs(t.Context(), api.RunFilter{Job: "daily", State: "queued"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range waiting { // the daemon is told after that was said
		for !r.Finished() {
			if r, err = client.Await(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.let("go.fifo")
	if code := backfill.wait(); code != exitRunFailed {
		t.Errorf("backfill exits with %d; want %d", code, exitRunFailed)
	}
	runs, err := client.Runs(t.Context(), api.RunFilter{Job: "daily"})
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]int{}
	for _, r := range runs {
		states[r.State]++
	}
	if states["succeeded"] != 1 || states["cancelled"] != 2 {
		t.Errorf("the runs are %v; want one that succeeded and two that were cancelled", states)
	}
}

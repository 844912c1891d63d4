package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) backfillCommand() *cobra.Command {
	var request api.BackfillRequest
	var answer answerFlag
	cmd := &cobra.Command{
		Use:   "backfill JOB --from DATE --to DATE",
		Short: "Make past days: a run for each firing of a range",
		Long: `Run a job once for each of its firings from one date to another, both included, in the
job's time zone, each accounted for like every run. They run one after the other, or
--parallel N beside each other; a firing of the job's own schedule that comes meanwhile goes
first. The runs go on when this command ends, or the daemon is restarted.

Ctrl-C gives up the runs that have not begun and waits for the others; a second one ends
those too.

Exit codes: 0 all succeeded; 70 some did not; otherwise those of "belfry --help".`,
		Example: "  belfry backfill top-tracks --from 2026-06-01 --to 2026-06-30 --parallel 4\n" +
			"  belfry backfill top-tracks --from 2026-06-01 --to 2026-06-30 --only failed",
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Job = args[0]
			if request.Parallel < 1 {
				return usage("--parallel %d: at least one run goes at a time", request.Parallel)
			}
			return c.backfill(cmd.Context(), request, answer)
		},
	}
	cmd.Flags().StringVar(&request.From, "from", "", "the first date (2006-01-02)")
	cmd.Flags().StringVar(&request.To, "to", "", "the last date")
	cmd.Flags().IntVar(&request.Parallel, "parallel", 1, "so many runs beside each other")
	cmd.Flags().StringVar(&request.Only, "only", "", "only the firings that are missing (never begun), or whose newest run failed")
	cmd.Flags().BoolVar(&request.WithAfter, "with-after", false, "then, for each firing, run the jobs that come after it")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "only tell what would run")
	answer.of(cmd)
	for _, name := range []string{"from", "to"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // it is ours
		}
	}
	return cmd
}

func (c *command) backfill(ctx context.Context, request api.BackfillRequest, answer answerFlag) error {
	var b api.Backfill
	w, err := c.ask(ctx, func(ctx context.Context, client *api.Client) (err error) {
		b, err = client.StartBackfill(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	if request.DryRun || len(b.Runs) == 0 {
		w.leave()
		return c.wouldBackfill(request, b.Runs, answer != inWords)
	}
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	display := &progress{line: line{f: c.err}, told: newEvents(nil), what: request.Job, total: len(b.Runs), since: time.Now()}
	if answer == asEvents {
		display.told.out = c.out
	}
	runs, err := c.follow(ctx, w.client, b, display, interrupts)
	if err != nil {
		w.leave()
		return err
	}
	if err := w.waitFor(interrupts, c.othersGoOn); err != nil {
		return err
	}
	for _, r := range runs {
		display.told.run(r)
	}
	if answer == asArray {
		if err := printJSON(c.out, runs); err != nil {
			return err
		}
	}
	return c.concludeBackfill(request.Job, runs)
}

func (c *command) wouldBackfill(request api.BackfillRequest, runs []api.Run, asJSON bool) error {
	if asJSON {
		return printJSON(c.out, runs)
	}
	if len(runs) == 0 {
		fmt.Fprintf(c.err, "nothing to do: from %s to %s no firing of %s is %s\n", request.From, request.To, request.Job, request.Only)
		return nil
	}
	for _, r := range runs {
		fmt.Fprintf(c.out, "%s would run for %s (date %s)\n", r.Job, when(&r.FiresAt, r.Timezone), r.Date)
	}
	return nil
}

// follow shows a backfill's progress until it has ended, and gives its runs. It
// survives a restart of the daemon.
func (c *command) follow(ctx context.Context, client *api.Client, b api.Backfill, display *progress, interrupts <-chan os.Signal) ([]api.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last := b.Runs[len(b.Runs)-1].ID
	news := make(chan api.Backfill)
	failed := make(chan error, 1)
	go func() { failed <- c.awaitBackfill(ctx, client, b, news) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer display.end()
	unasked := 0 // for how many interrupts nobody could be asked yet
	for interrupted := 0; ; {
		display.show(b)
		if unasked > 0 && c.giveUp(ctx, client, b.ID, interrupted > 1) {
			unasked = 0
		}
		select {
		case b = <-news:
			if !b.Finished() {
				continue
			}
			display.show(b)
			display.end()
			runs, err := client.Runs(ctx, api.RunFilter{Backfill: b.ID})
			slices.Reverse(runs)
			return runs, err
		case err := <-failed:
			return nil, c.gone(err, last)
		case <-tick.C:
			if display.wanted() && b.States["publishing"] > 0 {
				if now, err := client.Backfill(ctx, b.ID); err == nil {
					b.Publishing = now.Publishing // the news are told apart
				}
			}
		case <-interrupts:
			interrupted++
			display.end()
			switch interrupted {
			case 1:
				fmt.Fprintln(c.err, "giving up the runs that have not begun; Ctrl-C again ends the others too")
			default:
				fmt.Fprintln(c.err, "ending the runs that have begun")
			}
			if !c.giveUp(ctx, client, b.ID, interrupted > 1) {
				unasked++
				c.tell("no daemon answers; it is asked as soon as one does")
			}
		}
	}
}

// giveUp has the rest of a backfill given up; false when no daemon answers.
func (c *command) giveUp(ctx context.Context, client *api.Client, id string, running bool) bool {
	_, err := client.StopBackfill(ctx, id, api.StopBackfillRequest{Running: running})
	var answer *api.Error
	if errors.As(err, &answer) {
		fmt.Fprintf(c.err, "belfry: %v\n", err)
	}
	return err == nil || answer != nil
}

// awaitBackfill hands on what becomes of a backfill. It gives an error when the
// daemon refuses, or does not come back.
func (c *command) awaitBackfill(ctx context.Context, client *api.Client, seen api.Backfill, news chan<- api.Backfill) error {
	for {
		next, err := client.AwaitBackfill(ctx, seen)
		var answer *api.Error
		switch {
		case err == nil:
			seen = next
			select {
			case news <- next:
			case <-ctx.Done():
				return ctx.Err()
			}
		case errors.As(err, &answer) || ctx.Err() != nil || !c.comesBack(ctx, client):
			return err
		}
	}
}

// comesBack waits for a daemon to answer again.
func (c *command) comesBack(ctx context.Context, client *api.Client) bool {
	deadline := time.NewTimer(comeBack)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := client.Health(ctx); err == nil {
			return true
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// concludeBackfill tells how the runs of a backfill ended.
func (c *command) concludeBackfill(name string, runs []api.Run) error {
	bad, failed, unbegun := 0, 0, 0
	for _, r := range runs {
		if r.State != "succeeded" {
			bad++
			switch {
			case r.Cause != "backfill": // it came after another
			case r.Attempt > 0:
				failed++
			default:
				unbegun++
			}
			fmt.Fprintln(c.err, paint(c.err, red, fmt.Sprintf("✗ %s for %s %s: %s", r.Job, r.Date, r.State, r.Reason)))
			fmt.Fprintf(c.err, "  %s tells all about it\n", c.there.pasted("belfry show "+r.ID))
		}
	}
	if bad == 0 {
		fmt.Fprintln(c.err, paint(c.err, green, fmt.Sprintf("✓ %s: all %s succeeded", name, count(len(runs), "run"))))
		return nil
	}
	line := fmt.Sprintf("%s: %d of %s did not succeed", name, bad, count(len(runs), "run"))
	if failed > 0 {
		line += "; the same command with --only failed runs again what failed"
	}
	if unbegun > 0 {
		line += "; with --only missing it runs what had not begun"
	}
	fmt.Fprintln(c.err, line)
	return exitCode(exitRunFailed)
}

// progress shows on a terminal how far a backfill has come, and tells it to a
// program that wants to know.
type progress struct {
	line
	told  *events
	what  string
	total int
	since time.Time
	far   meter // of what is published
}

// wanted reports whether anybody sees it.
func (p *progress) wanted() bool { return terminal(p.f) || p.told.out != nil }

func (p *progress) show(b api.Backfill) {
	p.told.backfill(b)
	p.line.show(p.text(b, time.Now()))
}

func (p *progress) text(b api.Backfill, now time.Time) string {
	const width = 20
	elapsed := now.Sub(p.since)
	open := b.Count("queued", "running", "publishing")
	ended := p.total - open
	filled := ended * width / max(p.total, 1)
	parts := []string{fmt.Sprintf("%d of %d", ended, p.total)}
	for _, state := range []string{"running", "publishing", "failed", "lost", "cancelled", "skipped"} {
		if n := b.States[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	parts = append(parts, duration(elapsed.Round(time.Second)))
	if ended > 0 && open > 0 {
		parts = append(parts, about(elapsed/time.Duration(ended)*time.Duration(open)))
	}
	text := fmt.Sprintf("%s %s%s %s", p.what, strings.Repeat("█", filled), strings.Repeat("░", width-filled), strings.Join(parts, ", "))
	if b.Publishing != nil {
		text += " (publishing " + p.far.text(*b.Publishing, now) + ")"
	}
	return text
}

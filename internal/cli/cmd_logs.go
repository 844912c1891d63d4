package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) logsCommand() *cobra.Command {
	var follow bool
	var since string
	var request api.LogRequest
	cmd := &cobra.Command{
		Use:   "logs RUN|JOB",
		Short: "Print a run's output",
		Long: `Print the output of a run's newest attempt, standard output and standard error as
they came. RUN is as in belfry show; a JOB means its newest run.

Every byte is printed as the job printed it, but for secrets, which are starred; on a
terminal, control characters other than colours are shown instead of obeyed. Where
output was not kept, because it was longer than log_limit or the job truncated it, a
line that begins with "[belfry:" says so.`,
		Example: "  belfry logs top-tracks -f\n  belfry logs top-tracks --since 10m | grep WARN\n  belfry logs top-tracks@02:30 --tail 20",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("tail") && request.Tail < 1 {
				return usage("--tail takes a number of lines")
			}
			if request.Tail > 0 && since != "" {
				return usage("--since and --tail both say where to begin: give one of them")
			}
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			r, err := client.Run(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if request.Since, err = parseSince(since, time.Now().In(zoneOr(r.Timezone))); err != nil {
				return err
			}
			if follow && request.Attempt == 0 {
				_, err := (&watcher{client: client, log: c.shown(), begin: request, away: c.waitForDaemon(client, r.ID)}).watch(cmd.Context(), r)
				return c.gone(err, r.ID)
			}
			request.Follow = follow
			log, err := client.Log(cmd.Context(), r.ID, request)
			if err != nil {
				return err
			}
			_, err = io.Copy(c.shown(), log)
			if r.Attempt == 0 {
				fmt.Fprintf(c.err, "run %s is %s and has no output\n", r.ID, r.State)
			}
			return errors.Join(err, log.Close())
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended, its retries included")
	cmd.Flags().StringVar(&since, "since", "", "begin with what was printed `10m` ago, or at a time (02:30, 2026-07-09T02:30, RFC 3339)")
	cmd.Flags().IntVar(&request.Tail, "tail", 0, "begin with the last `N` lines")
	cmd.Flags().IntVar(&request.Attempt, "attempt", 0, "of this attempt, instead of the newest")
	return cmd
}

// parseSince reads a duration before now, or a time in now's zone: one without
// a date is the newest of that time of day.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, nil
		}
	}
	clock, err := time.Parse("15:04", text)
	if err != nil {
		return time.Time{}, usage("--since: %q is neither a duration nor a time", text).hint("write 10m, 02:30, 2026-07-09T02:30 or 2026-07-09T02:30:00+09:00")
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if at.After(now) {
		at = at.AddDate(0, 0, -1)
	}
	return at, nil
}

// shown is where a job's output goes: as it is, or made harmless for a terminal.
func (c *command) shown() io.Writer {
	if terminal(c.out) {
		return &harmless{w: c.out}
	}
	return c.out
}

// watcher follows a run to its end.
type watcher struct {
	client *api.Client
	log    io.Writer // gets the output
	// begin says where the output of the first attempt begins.
	begin api.LogRequest
	first int // the attempt to begin with; 0: the newest
	// step is told each time that the run waits for something else; nil: nobody is.
	step func(r api.Run)
	// seen is told of the run each time that it is read, publishing of how far it is
	// a few times a second while it publishes; nil: nobody is.
	seen, publishing func(r api.Run)
	// away is asked, when the daemon does not answer, for a client that does; nil
	// to give up.
	away func(ctx context.Context) *api.Client
}

// watch copies the output of a run's attempts, from the one it is at, until the
// run has finished, and gives it as it is then. It survives a restart of the
// daemon.
func (w *watcher) watch(ctx context.Context, r api.Run) (api.Run, error) {
	part := w.begin
	part.Attempt, part.Follow = cmp.Or(w.first, r.Attempt, 1), true
	for {
		again, err := w.client.Run(ctx, r.ID)
		if err == nil {
			r = again
			if w.seen != nil {
				w.seen(r)
			}
			switch {
			case r.Attempt >= part.Attempt:
				if err = w.copyLog(ctx, r.ID, &part); err == nil { // all of it: the attempt has ended
					part = api.LogRequest{Attempt: part.Attempt + 1, Follow: true}
				}
			case r.Finished():
				return r, nil
			default:
				if w.step != nil {
					w.step(r)
				}
				err = w.await(ctx, r)
			}
		}
		if err != nil && !w.tryAgain(ctx, err) {
			return r, err
		}
	}
}

// await returns when the run is no longer as it was seen.
func (w *watcher) await(ctx context.Context, seen api.Run) error {
	if w.publishing != nil && seen.State == "publishing" {
		return w.awaitPublished(ctx, seen)
	}
	for {
		r, err := w.client.Await(ctx, seen)
		if err != nil || api.Version(r) != api.Version(seen) {
			return err
		}
	}
}

// awaitPublished is await for a run that publishes: it tells how far that is.
func (w *watcher) awaitPublished(ctx context.Context, seen api.Run) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan error, 1)
	go func() {
		for {
			r, err := w.client.Await(ctx, seen)
			if err != nil || api.Version(r) != api.Version(seen) {
				changed <- err
				return
			}
		}
	}()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	w.publishing(seen)
	for {
		select {
		case err := <-changed:
			return err
		case <-ticker.C:
			if r, err := w.client.Run(ctx, seen.ID); err == nil {
				w.publishing(r)
			}
		}
	}
}

// copyLog copies a part of a log until its end, or makes of it the part that is
// left.
func (w *watcher) copyLog(ctx context.Context, id string, part *api.LogRequest) error {
	log, err := w.client.Log(ctx, id, *part)
	if err != nil {
		return err
	}
	_, err = io.Copy(w.log, log)
	if log.Begun() {
		*part = api.LogRequest{Attempt: part.Attempt, Offset: log.Offset(), Follow: true}
	}
	return errors.Join(err, log.Close())
}

func (w *watcher) tryAgain(ctx context.Context, err error) bool {
	var answer *api.Error
	if ctx.Err() != nil || errors.As(err, &answer) {
		return false
	}
	client := w.away(ctx)
	if client == nil {
		return false
	}
	w.client = client
	return true
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"belfry/api"
)

func (c *command) runCommand() *cobra.Command {
	var request api.RunRequest
	var answer answerFlag
	cmd := &cobra.Command{
		Use:   "run JOB",
		Short: "Run a job now, in the foreground, recorded like every run",
		Long: `Run a job now, or for a day that was or will be, and wait for its end. Its output
appears as it comes. Ctrl-C stops it (TERM, then KILL after kill_after), a second one
kills it at once. A daemon that is running here does the work; without one this command
does it, and others can look on.

` + runExitCodes,
		Example: "  belfry run top-tracks\n  belfry run top-tracks --date 2026-07-09 --with-after",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Job = args[0]
			if request.DryRun {
				return c.wouldRun(cmd.Context(), request, answer != inWords)
			}
			return c.foreground(cmd.Context(), attending{answer: answer}, func(ctx context.Context, client *api.Client) ([]api.Run, error) {
				return client.Start(ctx, request)
			})
		},
	}
	cmd.Flags().StringVar(&request.Date, "date", "", "the firing of this day (2006-01-02, in the job's time zone)")
	cmd.Flags().StringVar(&request.At, "at", "", "the day's firing at this time (15:04), where there are several; or an RFC 3339 time")
	cmd.Flags().BoolVar(&request.WithAfter, "with-after", false, "then run the jobs that come after it")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "only tell what would run")
	answer.of(cmd)
	return cmd
}

// comeBack is how long a run waits for a daemon to come back.
const comeBack = 30 * time.Second

// wouldRun tells what a request would run.
func (c *command) wouldRun(ctx context.Context, request api.RunRequest, asJSON bool) error {
	var runs []api.Run
	w, err := c.ask(ctx, func(ctx context.Context, client *api.Client) (err error) {
		runs, err = client.Start(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	w.leave()
	if asJSON {
		return printJSON(c.out, runs)
	}
	for _, r := range runs {
		fmt.Fprintf(c.out, "%s would run for %s (date %s)\n", r.Job, when(&r.FiresAt, r.Timezone), r.Date)
	}
	return nil
}

// attending is how a command stays with runs.
type attending struct {
	answer  answerFlag
	printed bool // all that their attempts print has been seen
}

// foreground asks for runs and stays with them to their end; the exit code is
// theirs.
func (c *command) foreground(ctx context.Context, how attending, request func(ctx context.Context, client *api.Client) ([]api.Run, error)) error {
	var runs []api.Run
	w, err := c.ask(ctx, func(ctx context.Context, client *api.Client) (err error) {
		runs, err = request(ctx, client)
		return err
	})
	if err != nil {
		return err
	}
	log := io.Writer(&unheard{c.shown()})
	told := newEvents(nil)
	if how.answer != inWords {
		log = c.err
	}
	if how.answer == asEvents {
		told.out = c.out
	}
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	// Whoever reads our output may leave, as head does; the run goes on, and its
	// end is still to be written down. A handler, since our children would inherit
	// that the signal is ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	untold := c.tellTrouble(ctx, w.client)
	ended, err := c.watchAll(ctx, w.client, runs, how, log, told, interrupts)
	untold()
	if err != nil {
		w.leave()
		return err
	}
	if err := w.waitFor(interrupts, c.othersGoOn); err != nil {
		return err
	}
	if how.answer == asArray {
		if err := printJSON(c.out, ended); err != nil {
			return err
		}
	}
	for _, r := range ended {
		if code := codeOf(r); code != 0 {
			return exitCode(code)
		}
	}
	return nil
}

func (c *command) othersGoOn() {
	c.tell("other runs were asked for here meanwhile and have not ended; Ctrl-C leaves them to the next daemon")
}

// ask puts a request to whoever owns the data folder, or to a daemon of our own.
func (c *command) ask(ctx context.Context, request func(ctx context.Context, client *api.Client) error) (*owner, error) {
	for tries := 0; ; tries++ {
		w, err := c.own(ctx)
		if err != nil {
			return nil, err
		}
		if err = request(ctx, w.client); err == nil {
			return w, nil
		}
		w.leave()
		// A connection that is refused was asked for nothing: the owner was just
		// ending, and there is another, or we are it.
		if !errors.Is(err, syscall.ECONNREFUSED) || tries == 3 {
			return nil, err
		}
	}
}

// watchAll follows the runs one after the other, which is the order they
// start in, and passes Ctrl-C on to the one that is running.
func (c *command) watchAll(ctx context.Context, client *api.Client, runs []api.Run, how attending, log io.Writer, told *events, interrupts <-chan os.Signal) ([]api.Run, error) {
	ended := make([]api.Run, len(runs))
	for i, r := range runs {
		fmt.Fprintf(c.err, "%s %s  run %s, date %s\n", paint(c.err, faint, "▸"), r.Job, r.ID, r.Date)
		done := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			c.passOn(ctx, client, r.ID, interrupts, done)
		}()
		var err error
		lines := &lineWriter{w: log}
		first := r.Attempt
		if r.State == "queued" || how.printed { // those before were seen
			first++
		}
		shown, far := line{f: c.err}, meter{}
		w := &watcher{client: client, log: lines, first: first, away: c.waitForDaemon(client, r.ID), seen: told.run}
		w.step = func(r api.Run) {
			shown.clear()
			c.step(r)
		}
		if terminal(c.err) || told.out != nil {
			w.publishing = func(r api.Run) {
				told.publishing(r)
				if r.Publishing != nil {
					shown.show("  publishing " + far.text(*r.Publishing, time.Now()) + ", to " + relative(r.Publishing.Target))
				}
			}
		}
		ended[i], err = w.watch(ctx, r)
		shown.clear()
		close(done)
		<-stopped
		if lines.within && log != io.Writer(c.err) && terminal(c.out) {
			fmt.Fprintln(c.err) // the output's last line is not the place for ours
		}
		if err != nil {
			return nil, c.gone(err, r.ID)
		}
		c.conclude(ended[i])
	}
	return ended, nil
}

// passOn stops the run at the first interrupt and kills it at the second.
func (c *command) passOn(ctx context.Context, client *api.Client, id string, interrupts <-chan os.Signal, done <-chan struct{}) {
	for kill := false; ; kill = true {
		select {
		case <-done:
			return
		case <-interrupts:
		}
		if kill {
			fmt.Fprintln(c.err, "\nkilling it")
		} else {
			fmt.Fprintln(c.err, "\nstopping it; Ctrl-C again kills it at once")
		}
		if _, err := client.Stop(ctx, id, api.StopRequest{Kill: kill}); err != nil {
			fmt.Fprintf(c.err, "belfry: %v\n", err)
		}
	}
}

// waitForDaemon gives what a watcher does while nobody answers: it waits for a
// daemon to come back. A run that has ended meanwhile needs none; it is read
// from the files.
func (c *command) waitForDaemon(client *api.Client, id string) func(ctx context.Context) *api.Client {
	return func(ctx context.Context) *api.Client {
		deadline := time.NewTimer(comeBack)
		defer deadline.Stop()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			if _, err := client.Health(ctx); err == nil {
				return client
			}
			if looking, _, err := c.look(ctx); err == nil { // what it holds goes with the process
				if r, err := looking.Run(ctx, id); err == nil && r.Finished() {
					return looking
				}
			}
			if n == 5 {
				fmt.Fprintf(c.err, "belfry: the daemon went away; run %s goes on, waiting for a daemon to come back\n", id)
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// gone says that nobody came back.
func (c *command) gone(err error, id string) error {
	var answer *api.Error
	if err == nil || errors.As(err, &answer) {
		return err
	}
	return &problem{
		err: fmt.Errorf("the daemon does not answer any more: %w", err), code: exitUnavailable,
		next: fmt.Sprintf("run %s goes on; belfry show %s tells how it ended once a daemon is back", id, id),
	}
}

// step tells what a run that has not ended waits for.
func (c *command) step(r api.Run) {
	if r.State == "queued" && r.NotBefore != nil {
		fmt.Fprintf(c.err, "  %s; next attempt at %s\n", r.Reason, moment(r.NotBefore, r.Timezone))
		return
	}
	for _, n := range r.Notices {
		if n.Kind == "publish" && n.State == "pending" && n.Error != "" {
			fmt.Fprintf(c.err, "  not published yet (try %d): %s; next try at %s, Ctrl-C gives it up\n", n.Tries, n.Error, clockTime(n.Next, r.Timezone))
		}
	}
}

// unheard writes to a reader who may leave.
type unheard struct{ w io.Writer }

func (u *unheard) Write(p []byte) (int, error) {
	n, err := u.w.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		return len(p), nil
	}
	return n, err
}

// lineWriter knows whether what was written ends within a line.
type lineWriter struct {
	w      io.Writer
	within bool
}

func (l *lineWriter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.within = p[len(p)-1] != '\n'
	}
	return l.w.Write(p)
}

// conclude tells how a run ended and where its results are.
func (c *command) conclude(r api.Run) {
	mark, colour := "✓", green
	if r.State != "succeeded" {
		mark, colour = "✗", red
	}
	line := fmt.Sprintf("%s %s %s", mark, r.Job, r.State)
	if r.StartedAt != nil {
		line += " in " + took(r)
	}
	if r.Reason != "" {
		line += ": " + r.Reason
	}
	fmt.Fprintln(c.err, paint(c.err, colour, line))
	if r.State != "succeeded" {
		fmt.Fprintf(c.err, "  %s tells all about it\n", c.there.pasted("belfry show "+r.ID))
	}
	if unpublished(r) {
		fmt.Fprintf(c.err, "  when that is mended: %s publishes what it left, %s runs it again\n", c.there.pasted("belfry retry --publish "+r.ID), c.there.pasted("belfry retry "+r.ID))
	}
	for _, t := range r.Published {
		fmt.Fprintf(c.err, "  published %s, %s to %s\n", count(t.Files, "file"), size(t.Bytes), relative(t.To))
	}
}

// unpublished reports whether a run failed only because its targets refused what
// it left.
func unpublished(r api.Run) bool {
	refused := false
	for _, n := range r.Notices {
		if n.Kind == "publish" {
			refused = n.State == "refused"
		}
	}
	return refused && r.State == "failed" && r.ExitCode != nil && *r.ExitCode == 0
}

// codeOf is the exit code that a run means.
func codeOf(r api.Run) int {
	switch {
	case r.State == "succeeded":
		return 0
	case r.ExitCode != nil && *r.ExitCode != 0:
		return *r.ExitCode
	case r.Signal != "":
		if n := unix.SignalNum(r.Signal); n > 0 {
			return 128 + int(n)
		}
	}
	return exitRunFailed
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) logsCommand() *cobra.Command {
	var follow bool
	var attempt int
	cmd := &cobra.Command{
		Use:   "logs RUN|JOB",
		Short: "Print a run's output",
		Long:  "Print the output of a run's newest attempt, standard output and standard error as they came.\nRUN is as in belfry show; a JOB means its newest run.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			r, err := client.Run(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if follow && attempt == 0 {
				_, err := (&watcher{client: client, log: c.out, away: c.waitForDaemon(client, r.ID)}).watch(cmd.Context(), r)
				return c.gone(err, r.ID)
			}
			log, err := client.Log(cmd.Context(), r.ID, api.LogRequest{Attempt: attempt, Follow: follow})
			if err != nil {
				return err
			}
			_, err = io.Copy(c.out, log)
			if r.Attempt == 0 {
				fmt.Fprintf(c.err, "run %s is %s and has no output\n", r.ID, r.State)
			}
			return errors.Join(err, log.Close())
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended, its retries included")
	cmd.Flags().IntVar(&attempt, "attempt", 0, "of this attempt, instead of the newest")
	return cmd
}

// watcher follows a run to its end.
type watcher struct {
	client *api.Client
	log    io.Writer // gets the output
	first  int       // the attempt to begin with; 0: the newest
	// step is told each time that the run waits for something else; nil: nobody is.
	step func(r api.Run)
	// away is asked, when the daemon does not answer, for a client that does; nil
	// to give up.
	away func(ctx context.Context) *api.Client
}

// watch copies the output of a run's attempts, from the one it is at, until the
// run has finished, and gives it as it is then. It survives a restart of the
// daemon.
func (w *watcher) watch(ctx context.Context, r api.Run) (api.Run, error) {
	attempt, offset := cmp.Or(w.first, r.Attempt, 1), int64(0)
	for {
		again, err := w.client.Run(ctx, r.ID)
		if err == nil {
			r = again
			switch {
			case r.Attempt >= attempt:
				var n int64
				n, err = w.copyLog(ctx, r.ID, attempt, offset)
				offset += n
				if err == nil { // all of it: the attempt has ended
					attempt, offset = attempt+1, 0
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
	for {
		r, err := w.client.Await(ctx, seen)
		if err != nil || api.Version(r) != api.Version(seen) {
			return err
		}
	}
}

func (w *watcher) copyLog(ctx context.Context, id string, attempt int, offset int64) (int64, error) {
	log, err := w.client.Log(ctx, id, api.LogRequest{Attempt: attempt, Offset: offset, Follow: true})
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w.log, log)
	return n, errors.Join(err, log.Close())
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/internal/daemon"
	"belfry/internal/project"
)

func (c *command) serveCommand() *cobra.Command {
	var crontabs []string
	var spool string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep the times: the daemon",
		Long: `Run the jobs of the belfry.yaml found from here upward, and of every --crontab FILE,
at their times, until TERM or Ctrl-C. Jobs that are running then go on, and the next
daemon adopts them. Changed files are read anew within a minute, at once on HUP.`,
		Example: "  belfry serve\n  belfry serve --crontab my-crontab --data /var/lib/my-jobs",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if c.verbose {
				level = slog.LevelDebug
			}
			o, err := c.options(crontabs, logTo(c.err, level))
			if err != nil {
				return err
			}
			if o.Project == "" && len(crontabs) == 0 {
				_, err := project.Find(".")
				return err
			}
			if spool != "" {
				if o.MailSpool, err = filepath.Abs(spool); err != nil {
					return err
				}
			}
			o.Plan = true
			o.Waiting = func(owner string) {
				fmt.Fprintf(c.err, "belfry serve: %s is in use by %s; waiting until it has ended\n", o.Data, owner)
			}
			return c.serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringArrayVar(&crontabs, "crontab", nil, "run the entries of this crontab too (may be repeated)")
	cmd.Flags().StringVar(&spool, "mail-spool", "", "folder of the mailboxes that mail is appended to (default /var/mail; or $BELFRY_MAIL_SPOOL, or daemon.mail.spool)")
	return cmd
}

func (c *command) serve(ctx context.Context, o daemon.Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	d, err := daemon.Open(ctx, o)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ended := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		c.greet(ctx, d)
		for {
			select {
			case <-hangup:
				d.Reload()
			case <-ended:
				return
			}
		}
	}()
	err = d.Run(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(c.err, "belfry serve: stopped; jobs that are running go on, and the next daemon finds them")
	}
	close(ended)
	<-told
	return errors.Join(err, d.Close())
}

// greet says what is served, once the daemon answers.
func (c *command) greet(ctx context.Context, d *daemon.Daemon) {
	client := d.Client()
	defer client.Close()
	health, err := client.Health(ctx)
	if err != nil {
		return
	}
	jobs, err := client.Jobs(ctx)
	if err != nil {
		return
	}
	fmt.Fprintf(c.err, "belfry serve: ready, %s, data in %s\n", count(len(jobs), "job"), health.Data)
	var first *api.Job
	for i, j := range jobs {
		if j.Next != nil && (first == nil || j.Next.Before(*first.Next)) {
			first = &jobs[i]
		}
	}
	if first != nil {
		fmt.Fprintf(c.err, "belfry serve: next is %s at %s\n", first.Name, when(first.Next, first.Timezone))
	}
}

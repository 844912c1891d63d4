package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/internal/daemon"
	"belfry/internal/job"
	"belfry/internal/project"
)

const serveExitCodes = `TERM or Ctrl-C: it plans and starts nothing more, and ends with 0; with --wait after
the jobs that are running. A second one ends it at once, with 128 and the signal's
number (130, 143). 75: another belfry has the data, or the address is taken. 2, 65: the
address is none (--listen or $BELFRY_LISTEN, belfry.yaml). 1: this user or this machine
cannot listen there. 73: the data folder, or the disk, takes nothing. Otherwise those of
"belfry --help".`

func (c *command) serveCommand() *cobra.Command {
	var crontabs []string
	var spool, wait, address string
	var shadow bool
	var own containment
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep the times: the daemon",
		Long: `Run the jobs of the belfry.yaml found from here upward, and of every --crontab FILE,
at their times, until TERM or Ctrl-C. Jobs that are running then go on, and the next
daemon adopts them. Changed files are read anew at once; HUP has them and the machine's
time zone data read anew in any case.

As the first process of a container (PID 1) it also reaps what lost its parent, prints
what the jobs print (--job-output plain), gives them the container's environment
(--pass-env) and, since nothing outlives it, ends them when it is told to end (--grace
8s). There QUIT is as good as TERM, and USR1 and USR2 are as HUP.

With --system it is the machine's cron, as root: it runs the users' crontabs,
/etc/crontab and /etc/cron.d, each job as its user, and what /etc/belfry.yaml has.
Its data is in /var/lib/belfry, and its socket /run/belfry/sock answers everybody on the
machine about their own jobs. docs/system.md says what is as in cron, and what is not.

With --shadow it starts nothing: it accounts for every firing beside a cron that runs the
jobs, as skipped, and "belfry shadow diff" compares the two.

With --listen ADDR it tells anyone who asks GET ` + api.Path + `/health there whether it
is well: 200, or 503 and the reason. An address without a host is the loopback one.

` + serveExitCodes,
		Example: "  belfry serve\n  belfry serve --crontab my-crontab --data /var/lib/my-jobs\n  belfry serve --listen :8080\n  belfry serve --system",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, err := job.ParseDuration(args[0]); err == nil {
					return usage("%q stands alone", args[0]).hint("how long to wait is written as --wait=%s", args[0])
				}
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if isFirst() {
				return c.beFirst()
			}
			contained := takeUnderFirst()
			supervisor, watchdog := supervised()
			level := slog.LevelInfo
			if c.verbose {
				level = slog.LevelDebug
			}
			o, err := c.options(crontabs, logTo(c.err, level))
			if err != nil {
				return err
			}
			switch {
			case c.system && len(crontabs) > 0:
				return usage("--system runs the machine's crontabs, and --crontab others").hint("give one of the two")
			case c.dialect != "" && !c.system:
				return usage("--dialect is for --system")
			case o.System != nil && !c.system: // it was only found because nothing else was
				_, err := project.Find(".")
				return err
			case c.system && os.Geteuid() != 0:
				return &problem{err: errors.New("only root can run the jobs of all users"), next: "sudo belfry serve --system", code: exitFailed}
			case o.Project == "" && len(crontabs) == 0:
				_, err := project.Find(".")
				return err
			}
			if spool != "" {
				if o.MailSpool, err = filepath.Abs(spool); err != nil {
					return err
				}
			}
			if o.Listen = cmp.Or(address, os.Getenv("BELFRY_LISTEN")); o.Listen != "" {
				if _, err := daemon.CheckAddress(o.Listen); err != nil {
					return usage("%v", err).hint("belfry serve --help says more")
				}
			}
			if o.Wait, err = waiting(wait); err != nil {
				return err
			}
			if err := own.apply(c, &o, contained, cmd.Flags().Changed("pass-env")); err != nil {
				return err
			}
			o.Plan, o.Shadow = true, shadow
			o.Told = func(sentence string) {
				fmt.Fprintln(c.err, ranked(c.err, slog.LevelWarn, "belfry: "+harmlessly(sentence)))
			}
			o.Waiting = func(owner string) {
				fmt.Fprintf(c.err, "belfry serve: %s is in use by %s; waiting until it has ended\n", o.Data, owner)
			}
			o.Remaining = func(running int) {
				fmt.Fprintf(c.err, "belfry serve: waiting for %s; again TERM or Ctrl-C leaves at once\n", count(running, "running job"))
			}
			o.Supervisor, o.Watchdog = supervisor, watchdog
			return c.serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringArrayVar(&crontabs, "crontab", nil, "run the entries of this crontab too (may be repeated)")
	cmd.Flags().StringVar(&c.dialect, "dialect", "", "with --system: whose rules are followed where the crons differ, cronie or debian (default: debian where its crontabs lie in Debian's place)")
	cmd.Flags().StringVar(&spool, "mail-spool", "", "folder of the mailboxes that mail is appended to (default /var/mail; or $BELFRY_MAIL_SPOOL, or daemon.mail.spool)")
	cmd.Flags().StringVar(&address, "listen", "", "tell anyone at this address, HOST:PORT, whether the daemon is well (or $BELFRY_LISTEN, or daemon.listen)")
	cmd.Flags().BoolVar(&shadow, "shadow", false, "account for every firing and start nothing, beside a cron that runs the jobs")
	own.flags(cmd)
	cmd.Flags().StringVar(&wait, "wait", "", "when told to end, wait for the jobs that are running, at most this long")
	cmd.Flags().Lookup("wait").NoOptDefVal = forever
	return cmd
}

// forever is what --wait means without a duration.
const forever = "until they have ended"

func waiting(text string) (time.Duration, error) {
	switch text {
	case "":
		return 0, nil
	case forever:
		return -1, nil
	}
	wait, err := job.ParseDuration(text)
	if err != nil {
		return 0, usage("--wait: %v", err).hint("write --wait=10m, or --wait alone to wait until they have ended")
	}
	return wait, nil
}

// supervised takes what systemd says to a service out of the environment: it is
// said to us, and not to what we start.
func supervised() (socket string, watchdog time.Duration) {
	socket = os.Getenv("NOTIFY_SOCKET")
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // fails for names that are none
	}
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		watchdog = time.Duration(n) * time.Microsecond
	}
	return socket, watchdog
}

func (c *command) serve(ctx context.Context, o daemon.Options) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	reload := make(chan struct{}, 1)
	left := make(chan exitCode, 1)
	done := make(chan error, 1)
	go func() {
		for told := range signals {
			number, _ := told.(syscall.Signal)
			switch {
			case number == syscall.SIGHUP:
				select {
				case reload <- struct{}{}:
				default:
				}
			case ctx.Err() != nil:
				left <- exitCode(128 + int(number))
				return
			default:
				end()
			}
		}
	}()
	go func() { done <- c.keepTimes(ctx, o, reload) }()
	select {
	case err := <-done:
		return err
	case code := <-left: // what is under way is found as it is by the next daemon
		if o.Grace > 0 {
			fmt.Fprintln(c.err, "belfry serve: left at once; how the running jobs end may stay unknown")
		} else {
			fmt.Fprintln(c.err, "belfry serve: left at once; "+theyGoOn)
		}
		return code
	}
}

const theyGoOn = "jobs that are running go on, and the next daemon finds them"

// keepTimes runs a daemon until ctx ends.
func (c *command) keepTimes(ctx context.Context, o daemon.Options, reload <-chan struct{}) error {
	d, err := daemon.Open(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil //nolint:nilerr // it was told to end before it could begin, whatever it was at
	case err != nil:
		return err
	}
	ended := make(chan struct{})
	told := make(chan struct{})
	greeting, unheard := context.WithCancel(ctx)
	go func() {
		defer close(told)
		c.greet(greeting, d, o.Output != nil)
		for {
			select {
			case <-reload:
				d.Reload()
			case <-ended:
				return
			}
		}
	}()
	err = d.Run(ctx)
	unheard() // a daemon that could not begin answers nobody
	if ctx.Err() != nil {
		if o.Grace > 0 {
			fmt.Fprintln(c.err, "belfry serve: stopped, and so are the jobs")
		} else {
			fmt.Fprintln(c.err, "belfry serve: stopped; "+theyGoOn)
		}
	}
	close(ended)
	<-told
	return errors.Join(err, d.Close())
}

// greet says what is served, once the daemon answers. printed says that what the
// jobs print reaches people without mail.
func (c *command) greet(ctx context.Context, d *daemon.Daemon, printed bool) {
	client := d.Client()
	defer client.Close()
	health, err := client.Health(ctx)
	if err != nil {
		return
	}
	fmt.Fprintf(c.err, "belfry serve: ready, %s, data in %s\n", count(health.Jobs, "job"), health.Data)
	if health.Shadow {
		fmt.Fprintln(c.err, "belfry serve: it is a shadow: every firing is accounted for, and nothing is started; belfry shadow diff compares with what cron ran")
		return
	}
	if spool := cmp.Or(health.Spool, "/var/mail"); health.Jobs > 0 && !printed {
		if info, err := os.Stat(spool); err != nil || !info.IsDir() {
			fmt.Fprintf(c.err, "belfry serve: there is no folder of mailboxes %s, so mail goes nowhere; make it, or name another with --mail-spool\n", spool)
		}
	}
	if health.Listen != "" {
		fmt.Fprintf(c.err, "belfry serve: listening on http://%s\n", health.Listen)
	}
	if next := health.Next; next != nil {
		fmt.Fprintf(c.err, "belfry serve: next is %s at %s\n", next.Job, when(&next.At, next.Timezone))
	}
}

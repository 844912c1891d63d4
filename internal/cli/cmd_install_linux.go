package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"belfry/internal/system"
)

const installExitCodes = `Exit codes: 0 done, or done already; 1 a step could not be done, and what was done before
it is taken back; 69 the machine is not run by systemd, and what to do is printed.
Otherwise those of "belfry --help".`

func (c *command) installCommand() *cobra.Command {
	return c.switchCommand(false, "install", "Put belfry in the place of the machine's cron", `Put belfry in the place of the machine's cron, with --system, as root: a systemd unit for
"belfry serve --system", /usr/bin/crontab a link to belfry (cron's is kept beside it), and
cron stopped and masked. Crontabs and all other files of cron's stay as they are, and jobs
that it has started go on. It can be repeated: what an interrupted one has left is
finished, and "belfry uninstall --system" takes all of it back.

Try it beside cron before: belfry serve --system --shadow, then belfry shadow diff --system.

`)
}

func (c *command) uninstallCommand() *cobra.Command {
	return c.switchCommand(true, "uninstall", "Put the machine's cron back in its place", `Take back what "belfry install --system" did: belfry is stopped, cron's crontab command is
in its place again, and cron unmasked and, if it ran before, started. Jobs that belfry has
started go on. The account of runs stays in /var/lib/belfry.

`)
}

func (c *command) switchCommand(back bool, name, short, long string) *cobra.Command {
	var dryRun bool
	var root string
	cmd := &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    long + installExitCodes,
		Example: "  belfry " + name + " --system --dry-run\n  belfry " + name + " --system",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !c.system {
				return usage("%s is for the machine's cron", name).hint("belfry %s --system", name)
			}
			if os.Geteuid() != 0 && !dryRun {
				return &problem{err: errors.New("only root can change the machine's cron"), next: "sudo belfry " + name + " --system", code: exitFailed}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			i := &system.Installation{Places: system.At(root, ""), Self: self}
			steps, err := i.Steps()
			if errors.Is(err, system.ErrNoSystemd) {
				fmt.Fprint(c.out, withoutSystemd[back])
				return &problem{err: err, next: "do the steps above by hand", code: exitUnavailable}
			}
			if err != nil {
				return err
			}
			if back {
				if !i.Installed() {
					fmt.Fprintln(c.err, "belfry is not in the place of the machine's cron: nothing is to be done")
					return nil
				}
				slices.Reverse(steps)
			}
			return c.carryOut(steps, back, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().StringVar(&root, "root", "", "the machine whose file system begins in this folder: nothing is started or stopped")
	return cmd
}

// carryOut does the steps that are not done. When one fails, those that it has
// done are taken back.
func (c *command) carryOut(steps []system.Step, back, dryRun bool) error {
	// The end of a connection, or Ctrl-C, in the middle would leave neither cron
	// running; whoever is in a hurry has QUIT.
	interruptions := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE}
	signal.Ignore(interruptions...)
	defer signal.Reset(interruptions...)
	var did []system.Step
	for _, s := range steps {
		does := s.Does
		if back {
			does = s.Undo
		}
		pending, err := s.Pending(back)
		switch {
		case err != nil:
			return err
		case !pending:
			fmt.Fprintln(c.out, paint(c.out, faint, "done already: "+does))
			continue
		case dryRun:
			fmt.Fprintln(c.out, "would "+does)
			continue
		}
		if err := s.Do(back); err != nil {
			if back { // halfway back is no place to return from
				return &problem{err: err, next: "mend that and say it again: it goes on where it was", code: exitFailed}
			}
			for _, done := range slices.Backward(append(did, s)) { // the last may be half done
				pending, undoErr := done.Pending(true)
				if undoErr == nil && pending {
					undoErr = done.Do(true)
				}
				err = errors.Join(err, undoErr)
			}
			return &problem{err: err, next: "what was done before is taken back; journalctl -u belfry says more", code: exitFailed}
		}
		did = append(did, s)
		fmt.Fprintln(c.out, "done: "+does)
	}
	return nil
}

// withoutSystemd is what is to be done by hand there, and to go back.
var withoutSystemd = map[bool]string{
	false: `Without systemd these are the steps, as root:
  install -m 755 belfry /usr/local/bin/belfry
  mv /usr/bin/crontab /usr/bin/crontab.belfry-kept && ln -s /usr/local/bin/belfry /usr/bin/crontab
  stop cron, and keep it from being started:
    sysvinit:  service cron stop && update-rc.d cron disable
    OpenRC:    rc-service cronie stop && rc-update del cronie
  start this, again whenever it ends, and when the machine starts; nothing may kill what it starts:
    /usr/local/bin/belfry serve --system
    sysvinit:  a line of /etc/inittab:  bf:2345:respawn:/usr/local/bin/belfry serve --system
    OpenRC:    supervisor=supervise-daemon command=/usr/local/bin/belfry command_args="serve --system"
`,
	true: `Without systemd these are the steps, as root:
  end belfry serve --system, and keep it from being started
  mv /usr/bin/crontab.belfry-kept /usr/bin/crontab
  start cron again:
    sysvinit:  update-rc.d cron enable && service cron start
    OpenRC:    rc-update add cronie && rc-service cronie start
`,
}

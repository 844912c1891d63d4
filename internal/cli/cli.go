// Package cli answers: what does a person type, and what do they get to read?
// One file a command. The answer goes to standard output, everything else to
// standard error; texts and exit codes of errors are made in exit.go.
package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	_ "time/tzdata" // for machines that have none of their own

	"github.com/spf13/cobra"
)

// Version is set by the linker.
var Version = "devel"

// Main carries out a command line, which begins with the name of the program, and
// gives its exit code.
func Main(args []string) int {
	c := &command{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	root := c.root()
	root.SetArgs(calledCrontab(args))
	err := root.ExecuteContext(context.Background())
	if h := c.there.host; h != nil {
		_ = h.Close() // a ProxyCommand ends with it, and what that started
	}
	return c.exit(err)
}

// command is what all commands share: where they read and write, and the flags
// that each of them takes.
type command struct {
	in       *os.File
	out, err *os.File
	data     string // --data
	system   bool   // --system
	dialect  string // --dialect, of serve
	verbose  bool   // --verbose
	there    there  // -H: another machine
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "belfry",
		Short: "cron for data teams: every run accounted for, results whole or not at all",
		Long: `Belfry runs scheduled jobs, from a crontab or a belfry.yaml, keeps an account of
every run that should have happened, and publishes results whole or not at all.

` + exitCodes,
		Version:           Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%v", err).hint("%s --help says what there is", cmd.CommandPath())
	})
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetVersionTemplate("belfry {{.Version}}\n")
	root.PersistentFlags().StringVar(&c.data, "data", "", "the data folder (default: .belfry beside belfry.yaml, found upward from here; or $BELFRY_DATA)")
	root.PersistentFlags().BoolVar(&c.system, "system", false, "the machine's cron, and not the project that is here")
	root.PersistentFlags().BoolVarP(&c.verbose, "verbose", "v", false, "say more on standard error")
	c.there.flags(root)
	root.PersistentPreRunE = c.checkPlace
	root.AddCommand(
		c.initCommand(), c.runCommand(),
		c.jobsCommand(), c.runsCommand(), c.showCommand(), c.logsCommand(), c.publishedCommand(), c.stopCommand(), c.retryCommand(), c.pauseCommand(), c.resumeCommand(), c.backfillCommand(), c.auditCommand(),
		c.explainCommand(), c.nextCommand(), c.lintCommand(), c.schemaCommand(), c.doctorCommand(), c.dbCommand(), c.deployCommand(),
		c.secretsCommand(),
		socketProxyCommand(), keeperCommand(), publishCommand(), deliverCommand(), c.pythonCommand(),
	)
	root.AddCommand(c.machineCommands()...)
	return root
}

// oneName takes the one argument of a command that is about a job or a run.
func oneName(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	if strings.TrimSpace(args[0]) == "" {
		return usage("the name is empty").hint("belfry jobs lists the jobs, belfry runs the runs")
	}
	return nil
}

// log is the log of a process whose standard error is read by a person, who is
// told what went wrong by the command itself.
func (c *command) log() *slog.Logger {
	level := slog.LevelError + 1
	if c.verbose {
		level = slog.LevelDebug
	}
	return logTo(c.err, level)
}

func logTo(w io.Writer, level slog.Level) *slog.Logger {
	if isJournal(w) {
		return newJournal(w, level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"belfry/internal/daemon"
)

func (c *command) dbCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Back up, check and tidy the account of runs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.backupCommand(), c.checkCommand(), c.vacuumCommand())
	return cmd
}

func (c *command) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the account to a file, also while a daemon writes it",
		Long: `Copy the account of runs (belfry.db) to FILE, which must not be there yet. The copy is
whole or not there, and is made beside a running daemon, by it, or without one. To put
it back: stop the daemon, and move FILE to belfry.db in the data folder, in the place
of that file and of belfry.db-wal and belfry.db-shm. The output of runs is not in it.

Exit codes: 75 when FILE is there already, 66 when its folder, or the account, is not, 69
when its disk is full or it cannot be written. Otherwise those of "belfry --help".`,
		Example: "  belfry db backup /backup/belfry-$(date +%F).db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if err := client.Backup(cmd.Context(), path); err != nil {
				return err
			}
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s: %s\n", args[0], size(info.Size()))
			return nil
		},
	}
}

func (c *command) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether the account is whole",
		Long: `Read the whole account of runs and say what is wrong in it, a line each.

Exit codes: 0 nothing is; 1 something is. Otherwise those of "belfry --help".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			found, err := client.Check(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				if err := printJSON(c.out, found); err != nil {
					return err
				}
			case len(found) == 0:
				fmt.Fprintln(c.out, "the account is whole")
			}
			if len(found) == 0 {
				return nil
			}
			if !asJSON {
				for _, sentence := range found {
					fmt.Fprintln(c.out, sentence)
				}
			}
			return exitCode(exitFindings)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of sentences")
	return cmd
}

func (c *command) vacuumCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "vacuum",
		Short: "Give the room that removed runs have left back to the disk",
		Long: `Rebuild the account without the room that removed runs have left. Changes wait until it
is done: about a second for each 100 MB.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o, err := c.options(nil, c.log())
			if err != nil {
				return err
			}
			before, err := os.Stat(filepath.Join(o.Data, daemon.StoreName))
			if err != nil {
				return &problem{err: fmt.Errorf("there is no account in %s", o.Data), next: "it begins with the first run, or belfry serve", code: exitNotFound}
			}
			w, err := c.own(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.wait()) }()
			if err := w.client.Vacuum(cmd.Context()); err != nil {
				return err
			}
			after, err := os.Stat(filepath.Join(o.Data, daemon.StoreName))
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "the account had %s, and has %s\n", size(before.Size()), size(after.Size()))
			return nil
		},
	}
}

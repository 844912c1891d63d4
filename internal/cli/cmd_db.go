package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
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
		Use:   "backup FOLDER",
		Short: "Copy the account and the logs, also while a daemon writes them",
		Long: `Copy the account of runs (belfry.db) and what they printed (logs.db) into FOLDER, which
must not be there yet. The copy is whole or not there, and is made beside a running
daemon, by it, or without one. To put it back: stop the daemon, remove belfry.db* and
logs.db* from the data folder, and copy both files of FOLDER there. What jobs left to be
published is not in it.

Exit codes: 75 when FOLDER is there already, 66 when the folder it is to stand in, or the
account, is not, 69 when its disk is full or it cannot be written. Otherwise those of
"belfry --help".`,
		Example: "  belfry db backup /backup/belfry-$(date +%F)",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := c.backupPath(args[0])
			if err != nil {
				return err
			}
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			part := func() string {
				folders, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".*"))
				if len(folders) == 0 {
					return "copying"
				}
				return "copied " + size(stored(folders[0]))
			}
			if err := c.during(part, func() error { return client.Backup(cmd.Context(), path) }); err != nil {
				return err
			}
			if c.there.address != "" {
				c.tell(fmt.Sprintf("copied to %s on %s", path, c.there.address))
				return nil
			}
			fmt.Fprintf(c.out, "%s: %s\n", args[0], size(stored(path)))
			return nil
		},
	}
}

// backupPath is where a copy goes, on the machine whose account it is.
func (c *command) backupPath(given string) (string, error) {
	if c.there.address == "" {
		return filepath.Abs(given)
	}
	if !filepath.IsAbs(given) {
		return "", usage("%q is no absolute path, and %s has no current folder", given, c.there.address).hint("the copy is made on the host: say where there")
	}
	return given, nil
}

// stored is how many bytes the account and the logs have in a folder.
func stored(dir string) (bytes int64) {
	for _, name := range storeFiles {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// during does something that may take long. On a terminal it says each second
// how far it has come.
func (c *command) during(how func() string, work func() error) error {
	if !terminal(c.err) {
		return work()
	}
	done := make(chan error, 1)
	go func() { done <- work() }()
	begun := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	shown := line{f: c.err}
	defer shown.clear()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			shown.show(fmt.Sprintf("%s, after %s", how(), time.Since(begun).Round(time.Second)))
		}
	}
}

func (c *command) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether the account is whole",
		Long: `Read the whole account of runs, and what they printed, and say what is wrong, a line
each.

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
		Long: `Give the room that removed runs have left, in the account and in the logs, back to the
disk, page by page: jobs start in between. An account that an older belfry has made is
rebuilt once, with a copy in $TMPDIR or /var/tmp; changes of it wait for about a second
for each 100 MB.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			data, err := c.dataHere()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(data, storeFiles[0])); err != nil {
				return &problem{err: fmt.Errorf("there is no account in %s", data), next: "it begins with the first run, or belfry serve", code: exitNotFound}
			}
			before := stored(data)
			w, err := c.own(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.wait()) }()
			now := func() string { return "the account and the logs have " + size(stored(data)) }
			if err := c.during(now, func() error { return w.client.Vacuum(cmd.Context()) }); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "the account and the logs had %s, and have %s\n", size(before), size(stored(data)))
			return nil
		},
	}
}

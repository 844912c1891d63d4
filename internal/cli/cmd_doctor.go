package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *command) doctorCommand() *cobra.Command {
	var crontabs []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with this set-up",
		Long: `Look at the daemon, the job files, the data folder and the machine, and say in a line
each what is well (✓), what may surprise you (!) and what is wrong (✗), with what to
do. Nothing is changed.

Exit codes: 0 nothing is wrong; 1 something is (✗). Otherwise those of "belfry --help".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.there.address != "" {
				return c.doctorThere(cmd.Context(), asJSON)
			}
			return c.doctorHere(cmd.Context(), crontabs, asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&crontabs, "crontab", nil, "look at this crontab too, as serve runs it (may be repeated)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of findings: check, level (ok, warning, wrong), message, next")
	return cmd
}

// doctorThere has the belfry on the host look: most of what there is to see is no
// daemon's to tell.
func (c *command) doctorThere(ctx context.Context, asJSON bool) error {
	h, err := c.hostThere(ctx)
	if err != nil {
		return err
	}
	args := []string{"doctor"}
	if asJSON {
		args = append(args, "--json")
	}
	out, code, err := h.Belfry(ctx, nameHere(), c.data, args...)
	if err != nil {
		return err
	}
	fmt.Fprint(c.out, harmlessly(out))
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

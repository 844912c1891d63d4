package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) stopCommand() *cobra.Command {
	var kill bool
	cmd := &cobra.Command{
		Use:   "stop RUN",
		Short: "End a run",
		Long: `End a run: TERM to its processes and, after the job's kill_after (10 s), KILL to all that
is left of them. A queued run is cancelled. RUN is as in belfry show.`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := c.own(cmd.Context())
			if err != nil {
				return err
			}
			defer w.leave()
			r, err := w.client.Stop(cmd.Context(), args[0], api.StopRequest{Kill: kill})
			if err != nil {
				return err
			}
			defer c.tellTrouble(cmd.Context(), w.client)()
			for !r.Finished() {
				if r, err = w.client.Await(cmd.Context(), r); err != nil {
					return err
				}
			}
			fmt.Fprintf(c.err, "%s %s is %s\n", r.Job, r.ID, r.State)
			return nil
		},
	}
	cmd.Flags().BoolVar(&kill, "kill", false, "at once, without TERM before")
	return cmd
}

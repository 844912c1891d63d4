package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) pauseCommand() *cobra.Command {
	return c.pauseOrResume(true, &cobra.Command{
		Use:   "pause JOB",
		Short: "Let a job fire no more until it is resumed",
		Long: `Pause a job: its firings are accounted for as skipped, and retries wait. A run that is
running goes on. belfry run and belfry backfill still run it.`,
	})
}

func (c *command) resumeCommand() *cobra.Command {
	return c.pauseOrResume(false, &cobra.Command{
		Use:   "resume JOB",
		Short: "Let a paused job fire again, from now on",
		Long:  "Resume a job: it fires from now on. What passed while it was paused stays skipped; belfry backfill runs it.",
	})
}

func (c *command) pauseOrResume(paused bool, cmd *cobra.Command) *cobra.Command {
	var asJSON bool
	cmd.Args = oneName
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, err := c.own(cmd.Context())
		if err != nil {
			return err
		}
		defer w.leave()
		j, err := w.client.Pause(cmd.Context(), api.PauseRequest{Job: args[0], Paused: paused})
		if err != nil {
			return err
		}
		switch {
		case asJSON:
			return printJSON(c.out, j)
		case paused:
			fmt.Fprintf(c.err, "%s is paused; %s lets it fire again\n", j.Name, c.there.pasted("belfry resume "+args[0]))
		case j.Next == nil:
			fmt.Fprintf(c.err, "%s is resumed; it has no firing of its own to come\n", j.Name)
		default:
			fmt.Fprintf(c.err, "%s is resumed; its next firing is at %s\n", j.Name, when(j.Next, j.Timezone))
		}
		return nil
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the job")
	return cmd
}

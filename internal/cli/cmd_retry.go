package cli

import (
	"context"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) retryCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "retry RUN",
		Short: "Try a run once more that failed, was lost, cancelled, skipped or missed",
		Long: `Make one more attempt of a run that has ended otherwise than well, for the time that it
was for, and wait for its end as belfry run does. Jobs that come after it and were skipped
because of it run when it succeeds. RUN is as in belfry show: a JOB means its newest run,
JOB@TIME the run of a firing.

` + runExitCodes,
		Example: "  belfry retry top-tracks\n  belfry retry top-tracks@2026-07-09",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.foreground(cmd.Context(), asJSON, func(ctx context.Context, client *api.Client) ([]api.Run, error) {
				r, err := client.Retry(ctx, args[0])
				return []api.Run{r}, err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array with the run as it ended; its output goes to standard error")
	return cmd
}

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) retryCommand() *cobra.Command {
	var answer answerFlag
	var request api.RetryRequest
	cmd := &cobra.Command{
		Use:   "retry RUN",
		Short: "Try a run once more that failed, was lost, cancelled, skipped or missed",
		Long: `Make one more attempt of a run that has ended otherwise than well, for the time that it
was for, and wait for its end as belfry run does. Jobs that come after it and were skipped
because of it run when it succeeds. RUN is as in belfry show: a JOB means its newest run,
JOB@TIME the run of a firing.

With --publish the command is not run again: what it left in $BELFRY_OUTPUT is put to the
targets that the run had, now that the cause is mended (the bucket is there, access is
allowed). That is for runs that failed because they could not be published.

` + runExitCodes,
		Example: "  belfry retry top-tracks\n  belfry retry top-tracks@2026-07-09\n  belfry retry --publish top-tracks",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			how := attending{answer: answer, printed: request.Publish}
			return c.foreground(cmd.Context(), how, func(ctx context.Context, client *api.Client) ([]api.Run, error) {
				r, err := client.Retry(ctx, args[0], request)
				return []api.Run{r}, err
			})
		},
	}
	cmd.Flags().BoolVar(&request.Publish, "publish", false, "only publish what it left, which its targets had refused")
	answer.of(cmd)
	return cmd
}

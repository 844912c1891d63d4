package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) jobsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List the jobs, when they run next and how they ended last",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if asJSON {
				return streamJSON(c.out, func(each func(api.Job) error) error { return client.EachJob(cmd.Context(), api.JobFilter{}, each) })
			}
			jobs, err := client.Jobs(cmd.Context(), api.JobFilter{Short: true})
			if err != nil {
				return err
			}
			if err := c.printJobs(jobs); err != nil {
				return err
			}
			if health, err := client.Health(cmd.Context()); err == nil && !health.Plans && len(jobs) > 0 {
				c.tell("nobody keeps these times: belfry serve does")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of jobs")
	return cmd
}

func (c *command) printJobs(jobs []api.Job) error {
	if len(jobs) == 0 {
		fmt.Fprintln(c.err, "there are no jobs here")
		return nil
	}
	name := namer(jobs, func(j api.Job) (string, string) { return j.Project, j.Name })
	var t table
	t.row("JOB", "SCHEDULE", "NEXT", "LAST", "COMMAND")
	for _, j := range jobs {
		times := j.Schedules
		if len(j.After) > 0 {
			times = append(times, "after "+strings.Join(j.After, ", "))
		}
		schedule := cmp.Or(strings.Join(times, ", "), "by hand")
		last := "never"
		if j.Last != nil {
			last = j.Last.State + " " + when(&j.Last.FiresAt, j.Timezone)
		}
		next := when(j.Next, j.Timezone)
		switch {
		case j.Paused:
			next = "paused"
		case j.Next == nil && slices.Contains(j.Schedules, "@reboot"):
			next = "at the next boot"
		case j.Next == nil && len(j.Schedules) > 0:
			next = "never"
		}
		t.row(name(j), schedule, next, last, cut(j.Command, 40))
	}
	return t.print(c.out)
}

package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"belfry/api"
)

// newest is how many runs a person is shown who did not say.
const newest = 50

func (c *command) runsCommand() *cobra.Command {
	var asJSON bool
	var f api.RunFilter
	cmd := &cobra.Command{
		Use:   "runs [JOB]",
		Short: "List what ran, what did not, and why",
		Long: `List the runs, what was recorded last first: each firing of each job is in it, whether it
ran, was skipped or was missed. The newest 50, or with --json all of them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.Job = args[0]
			}
			if f.Limit < 0 {
				return usage("--limit %d: a number of runs is not negative", f.Limit)
			}
			if !asJSON && f.Limit == 0 {
				f.Limit = newest
			}
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if asJSON {
				return streamJSON(c.out, func(each func(api.Run) error) error { return client.EachRun(cmd.Context(), f, each) })
			}
			runs, err := client.Runs(cmd.Context(), f)
			if err != nil {
				return err
			}
			if err := c.printRuns(runs); err != nil {
				return err
			}
			open := slices.ContainsFunc(runs, func(r api.Run) bool { return !r.Finished() })
			if health, err := client.Health(cmd.Context()); err == nil && health.PID == 0 && open {
				c.tell("no daemon is here to see how runs end that have not: belfry serve does")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of runs")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "at most this many")
	cmd.Flags().StringVar(&f.State, "state", "", "only those in this state (queued, running, publishing, succeeded, failed, lost, cancelled, skipped, missed)")
	return cmd
}

func (c *command) printRuns(runs []api.Run) error {
	if len(runs) == 0 {
		fmt.Fprintln(c.err, "there are no runs yet")
		return nil
	}
	var t table
	name := namer(runs, func(r api.Run) (string, string) { return r.Project, r.Job })
	t.row("RUN", "JOB", "FIRING", "STATE", "TOOK", "")
	for _, r := range runs {
		note := r.Reason
		switch {
		case r.Count > 1:
			note = fmt.Sprintf("%d firings until %s: %s", r.Count, when(r.FiresUntil, r.Timezone), r.Reason)
		case r.State == "publishing" && r.Reason != "":
			note = "not published yet: " + r.Reason
			if r.NotBefore != nil {
				note = fmt.Sprintf("not published yet, next try at %s: %s", clockTime(r.NotBefore, r.Timezone), r.Reason)
			}
		case r.State == "succeeded" && len(r.Published) > 0:
			note = publishedNote(r)
		}
		t.row(r.ID, name(r), when(&r.FiresAt, r.Timezone), r.State, took(r), cut(note, 80))
	}
	return t.print(c.out)
}

// publishedNote says in a few words what a run published.
func publishedNote(r api.Run) string {
	n, bytes := 0, int64(0)
	for _, t := range r.Published {
		n, bytes = n+t.Files, bytes+t.Bytes
	}
	return fmt.Sprintf("published %s, %s", count(n, "file"), size(bytes))
}

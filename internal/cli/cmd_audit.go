package cli

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) auditCommand() *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "audit [JOB]",
		Short: "List what people did: who, when, what",
		Long: `List every change that a person made, the newest first: runs that they asked for, stopped
or had tried again, jobs that they paused or resumed, backfills. The newest 50, or with
--json all of them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usage("--limit %d: a number of changes is not negative", limit)
			}
			if !asJSON && limit == 0 {
				limit = newest
			}
			job := ""
			if len(args) > 0 {
				job = args[0]
			}
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			acts, err := client.Audit(cmd.Context(), job, limit)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, acts)
			}
			return c.printActs(acts)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of changes")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many")
	return cmd
}

func (c *command) printActs(acts []api.Act) error {
	if len(acts) == 0 {
		fmt.Fprintln(c.err, "nobody has changed anything yet")
		return nil
	}
	var t table
	name := namer(acts, func(a api.Act) (string, string) { return a.Project, a.Job })
	t.row("WHEN", "WHO", "WHAT", "JOB", "RUN", "")
	for _, a := range acts {
		t.row(moment(&a.At, a.Timezone), a.Person, a.Action, cmp.Or(name(a), "-"), cmp.Or(a.Run, "-"), a.Detail)
	}
	return t.print(c.out)
}

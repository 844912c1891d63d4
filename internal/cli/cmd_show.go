package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Show one run: why it is as it is, its attempts, what it published",
		Long: `Show one run. RUN is the beginning of its id, JOB for the job's newest run, or JOB@TIME
for the run of a firing: top-tracks@2026-07-09T01:00, in the job's time zone.`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			r, err := client.Run(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, r)
			}
			return c.printRun(r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "a run with its attempts")
	return cmd
}

func (c *command) printRun(r api.Run) error {
	var t table
	t.row("run", r.ID)
	t.row("job", r.Project+"/"+r.Job)
	state := r.State
	if r.Reason != "" {
		state += ": " + r.Reason
	}
	t.row("state", paint(c.out, stateColours[r.State], state))
	t.row("cause", r.Cause)
	firing := when(&r.FiresAt, r.Timezone)
	if utc := shown(r.FiresAt.UTC()); utc != firing {
		firing += ", " + utc
	}
	if r.Count > 1 {
		firing = fmt.Sprintf("%d firings, %s until %s", r.Count, when(&r.FiresAt, r.Timezone), when(r.FiresUntil, r.Timezone))
	}
	t.row("firing", firing)
	t.row("date", r.Date)
	switch {
	case r.NotBefore == nil:
	case r.State == "publishing":
		t.row("next try", moment(r.NotBefore, r.Timezone))
	default:
		t.row("retry at", moment(r.NotBefore, r.Timezone))
	}
	if r.Publishing != nil {
		p := r.Publishing
		t.row("publishing", fmt.Sprintf("%d of %s, %s of %s, to %s", p.Files, count(p.FilesTotal, "file"), size(p.Bytes), size(p.BytesTotal), p.Target))
	}
	if len(r.Waits) > 0 {
		t.row("comes after", strings.Join(r.Waits, ", "))
	}
	if r.StartedAt != nil {
		t.row("took", took(r))
	}
	for _, target := range r.Published {
		t.row("published", fmt.Sprintf("%s (%s, %s)", target.To, count(target.Files, "file"), size(target.Bytes)))
	}
	for _, a := range r.Audit {
		t.row("by "+a.Person, strings.TrimSuffix(a.Action+" at "+moment(&a.At, a.Timezone)+": "+a.Detail, ": "))
	}
	for _, a := range r.Attempts {
		t.row(fmt.Sprintf("attempt %d", a.Number), attemptLine(a, r.Timezone))
		t.row("", c.there.pasted(fmt.Sprintf("belfry logs %s --attempt %d", r.ID, a.Number)))
	}
	for _, n := range r.Notices {
		line := n.State
		if n.Error != "" {
			line += fmt.Sprintf(" (try %d): %s", n.Tries, n.Error)
		}
		if n.Next != nil {
			line += ", next try " + moment(n.Next, r.Timezone)
		}
		t.row(n.Kind, line)
	}
	return t.print(c.out)
}

func attemptLine(a api.Attempt, zone string) string {
	parts := []string{"started " + moment(&a.StartedAt, zone)}
	switch {
	case a.EndedAt == nil:
		parts = append(parts, "has not ended")
	case a.ExitCode != nil:
		parts = append(parts, fmt.Sprintf("exit code %d after %s", *a.ExitCode, duration(a.EndedAt.Sub(a.StartedAt))))
	case a.Signal != "":
		parts = append(parts, fmt.Sprintf("%s after %s", a.Signal, duration(a.EndedAt.Sub(a.StartedAt))))
	default:
		parts = append(parts, a.Reason)
	}
	if a.MaxRSS > 0 {
		atMost := "at most "
		if a.MaxRSSExact {
			atMost = ""
		}
		parts = append(parts, fmt.Sprintf("%.1f s of CPU, %s%s of memory", a.CPUSeconds, atMost, size(a.MaxRSS)))
	}
	return strings.Join(parts, ", ")
}

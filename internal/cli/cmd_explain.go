package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/project"
)

// times are the flags that say which firings are shown.
type times struct {
	n    int
	from string
	tz   string
}

const mostTimes = 100000

func (t *times) flags(cmd *cobra.Command, n int) {
	cmd.Flags().IntVarP(&t.n, "n", "n", n, "how many times")
	cmd.Flags().StringVar(&t.from, "from", "", "those after this time (2026-07-09, 2026-07-09T02:30 or RFC 3339; default now)")
	cmd.Flags().StringVar(&t.tz, "tz", "", "the time zone that the schedule is read in (default: this machine's)")
}

// zone gives the time zone that a schedule is read in.
func (t *times) zone() (zone *time.Location, err error) {
	if t.n < 0 || t.n > mostTimes {
		return nil, usage("-n %d: a number of times is 0–%d", t.n, mostTimes)
	}
	if t.tz == "" {
		return hostZone()
	}
	if zone, err = job.LoadZone(t.tz); err != nil {
		return nil, usage("%v", err)
	}
	return zone, nil
}

// begin gives the time that the firings come after.
func (t *times) begin(zone *time.Location) (time.Time, error) {
	if t.from == "" {
		return time.Now().In(zone), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, t.from, zone); err == nil {
			return at.In(zone), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write 2026-07-09, 2026-07-09T02:30 or 2026-07-09T02:30:00+09:00", t.from)
}

// explanation is what explain tells about one schedule.
type explanation struct {
	Expr     string      `json:"expr"`
	Text     string      `json:"text"`
	Timezone string      `json:"timezone"`
	Next     []time.Time `json:"next"`
}

func (c *command) explainCommand() *cobra.Command {
	var t times
	var also []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain EXPR|JOB",
		Short: "Say a schedule in words, and when it fires next",
		Long: `Say what a cron schedule means and list its next times, in its time zone and in UTC.
EXPR is five fields in quotes, or an @nickname; a JOB's schedules are read in its zone.`,
		Example: "  belfry explain '*/5 1,2,3 * * *'\n  belfry explain '0 16 * * *' --tz UTC --also Asia/Seoul",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			zone, err := t.zone()
			if err != nil {
				return err
			}
			var others []*time.Location
			for _, name := range also {
				other, err := job.LoadZone(name)
				if err != nil {
					return usage("--also: %v", err)
				}
				others = append(others, other)
			}
			schedules, zone, err := c.schedules(cmd.Context(), strings.Join(args, " "), zone, t.tz != "")
			if err != nil {
				return err
			}
			from, err := t.begin(zone)
			if err != nil {
				return usage("--from %v", err)
			}
			var list []explanation
			for _, s := range schedules {
				list = append(list, explanation{s.String(), s.Explain(), zone.String(), firings(s, from, t.n)})
			}
			if asJSON {
				return printJSON(c.out, list)
			}
			for i, s := range schedules {
				if i > 0 {
					fmt.Fprintln(c.out)
				}
				if err := c.printExplanation(s, list[i], zone, others); err != nil {
					return err
				}
			}
			return nil
		},
	}
	t.flags(cmd, 5)
	cmd.Flags().StringArrayVar(&also, "also", nil, "show the times in this zone too (may be repeated)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of schedules with their next times")
	return cmd
}

// schedules reads an expression, or finds those of a job.
func (c *command) schedules(ctx context.Context, text string, zone *time.Location, zoneGiven bool) ([]crontab.Schedule, *time.Location, error) {
	s, err := crontab.ParseSchedule(text)
	if err == nil {
		return []crontab.Schedule{s}, zone, nil
	}
	if job.CheckName(job.ParseID(text).Name) != nil || strings.HasPrefix(text, "@") {
		return nil, nil, expressionError(text, err)
	}
	j, findErr := c.job(ctx, text)
	if findErr != nil {
		if errors.Is(findErr, project.ErrNoProject) { // not a place with jobs: an expression was meant
			return nil, nil, expressionError(text, err)
		}
		return nil, nil, findErr
	}
	if !zoneGiven {
		zone = zoneOr(j.Timezone)
	}
	if len(j.Schedules) == 0 {
		what := "it runs when it is asked to"
		if len(j.After) > 0 {
			what = "it runs after " + strings.Join(j.After, " and ")
		}
		return nil, nil, &problem{err: fmt.Errorf("%s has no schedule of its own: %s", j.Name, what), code: exitNotFound}
	}
	var list []crontab.Schedule
	for _, text := range j.Drawn {
		s, err := crontab.ParseSchedule(text)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, s)
	}
	return list, zone, nil
}

func (c *command) job(ctx context.Context, name string) (api.Job, error) {
	client, done, err := c.look(ctx)
	if err != nil {
		return api.Job{}, err
	}
	defer done()
	jobs, err := client.Jobs(ctx, api.JobFilter{})
	if err != nil {
		return api.Job{}, err
	}
	var found []api.Job
	var names, ids []string
	for _, j := range jobs {
		names = append(names, j.Name)
		if id := j.Project + "/" + j.Name; name == j.Name || name == id {
			found, ids = append(found, j), append(ids, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
	default: // as every other command says it
		return api.Job{}, &api.Error{
			Code: api.Invalid, Message: fmt.Sprintf("%q is the name of %d jobs", name, len(found)),
			Hint: "say which: " + strings.Join(ids, ", "),
		}
	}
	return api.Job{}, &problem{
		err: fmt.Errorf("%q is neither a schedule nor a job here", name), code: exitNotFound,
		next: "a schedule is five fields in quotes, as in '0 1 * * *'; the jobs are " + job.Some(names),
	}
}

// expressionError points at what is wrong in an expression.
func expressionError(text string, err error) error {
	p := &problem{err: err, code: exitBadFile}
	var wrong *crontab.Error
	if errors.As(err, &wrong) && wrong.Column > 0 && !strings.ContainsAny(text, "\t\n") {
		p.err = fmt.Errorf("%s", wrong.Message)
		p.next = text + "\n  " + strings.Repeat(" ", wrong.Column-1) + "^"
	}
	return p
}

func (c *command) printExplanation(s crontab.Schedule, e explanation, zone *time.Location, others []*time.Location) error {
	fmt.Fprintf(c.out, "%s\n%s\n", e.Expr, e.Text)
	if strings.Contains(e.Expr, "~") {
		fmt.Fprintln(c.out, "in a crontab ~ is drawn from the host, the file and the line: belfry explain JOB says what it is there")
	}
	if s.Reboot() {
		return nil
	}
	if len(e.Next) == 0 {
		if s.Next(time.Now().In(zone)).IsZero() {
			fmt.Fprintln(c.out, "\nit never fires")
		}
		return nil
	}
	if zone.String() != "UTC" {
		others = append([]*time.Location{time.UTC}, others...)
	}
	fmt.Fprintln(c.out)
	var t table
	head := []string{"next in " + zone.String()}
	for _, other := range others {
		head = append(head, "in "+other.String())
	}
	t.row(append(head, "")...)
	for _, at := range e.Next {
		row := []string{at.Format("Mon 2006-01-02 15:04 MST")}
		for _, other := range others {
			row = append(row, at.In(other).Format("Mon 2006-01-02 15:04 MST"))
		}
		t.row(append(row, moved(s, at))...)
	}
	return t.print(c.out)
}

// moved says when a change of the clocks has a hand in a firing: it was meant for
// a time that they skip, or its time comes twice.
func moved(s crontab.Schedule, at time.Time) string {
	if named := s.Named(at); named.Format("15:04") != at.Format("15:04") {
		return "meant for " + named.Format("15:04") + ", which the clocks skip"
	}
	name, offset := at.Zone()
	start, end := at.ZoneBounds() // of the stretch in which the clocks run on as they are
	twice := false
	if !start.IsZero() {
		_, before := start.Add(-time.Second).Zone()
		twice = at.Before(start.Add(time.Duration(before-offset) * time.Second))
	}
	if !end.IsZero() && !twice {
		_, after := end.Zone()
		twice = after < offset && !at.Before(end.Add(time.Duration(after-offset)*time.Second))
	}
	if !twice {
		return ""
	}
	return "the clocks read " + at.Format("15:04") + " twice; this is the one in " + name
}

func firings(s crontab.Schedule, from time.Time, n int) []time.Time {
	list := make([]time.Time, 0, min(n, 64))
	for at := from; len(list) < n; {
		if at = s.Next(at); at.IsZero() {
			break
		}
		list = append(list, at)
	}
	return list
}

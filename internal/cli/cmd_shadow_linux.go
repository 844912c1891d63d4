package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/syslog"
	"belfry/internal/system"
)

// exitDiffers is that of shadow diff, as of diff(1).
const exitDiffers = 1

// difference is what shadow diff tells. Fields of its JSON are only ever added.
type difference struct {
	From   time.Time    `json:"from"`
	Until  time.Time    `json:"until"`
	Log    string       `json:"log"`
	Same   int          `json:"same"` // firings that are the same in both
	Cron   []cronOnly   `json:"cron_only"`
	Belfry []belfryOnly `json:"belfry_only"`
}

type cronOnly struct {
	At      time.Time `json:"at"`
	User    string    `json:"user"`
	Command string    `json:"command"`
}

type belfryOnly struct {
	FiresAt time.Time `json:"fires_at"`
	Project string    `json:"project"`
	Job     string    `json:"job"`
	User    string    `json:"user"`
	Command string    `json:"command"`
	Run     string    `json:"run"`
}

func (c *command) shadowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shadow",
		Short: "Compare what belfry planned with what another cron ran",
		Long:  "belfry serve --shadow accounts for every firing beside a cron that runs the jobs, and\nstarts nothing. belfry shadow diff compares the two.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.shadowDiffCommand())
	return cmd
}

func (c *command) shadowDiffCommand() *cobra.Command {
	var log, since, until, tolerance string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "List what cron started and belfry did not plan, and the reverse",
		Long: `Compare the firings that "belfry serve --shadow" has accounted for with what cron says
that it started, in its lines "(user) CMD (command)": of /var/log/syslog, /var/log/cron.log
or /var/log/cron, whichever is there first and has lines of that time, with those that were
rotated away (.1, .2.gz, -20260709), or else of the journal. The two meet when user and
command, as they were then, are the same and cron's line is of the firing's minute.

It compares from the first firing of the shadow (or --since), or the beginning of the log,
until two minutes ago (or --until). What runs at @reboot is left out.

Exit codes: 0 they are the same; 1 they differ; 66 there is no log, or nothing to
compare yet. Otherwise those of "belfry --help".`,
		Example: "  belfry shadow diff\n  belfry shadow diff --log /var/log/syslog.1 --since 2026-07-09",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			allowed, err := job.ParseDuration(tolerance)
			if err != nil {
				return usage("--tolerance: %v", err)
			}
			zone, err := hostZone()
			if err != nil {
				return err
			}
			client, done, err := c.look(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			d := difference{Until: time.Now().Add(-2 * time.Minute).Truncate(time.Minute), Cron: []cronOnly{}, Belfry: []belfryOnly{}}
			if since != "" {
				if d.From, err = (&times{from: since}).begin(zone); err != nil {
					return usage("--since: %v", err)
				}
			}
			if until != "" {
				if d.Until, err = (&times{from: until}).begin(zone); err != nil {
					return usage("--until: %v", err)
				}
			}
			planned, err := plannedBy(cmd.Context(), client, &d)
			if err != nil {
				return err
			}
			started, err := c.cronLog(cmd.Context(), log, zone, d.From)
			if err != nil {
				return err
			}
			if d.Log = started.log; started.begins.After(d.From) {
				d.From = started.begins
			}
			if !d.Until.After(d.From) {
				return &problem{
					err:  fmt.Errorf("there is nothing to compare: the shadow and %s have both been there since %s, and it is compared until %s", d.Log, shown(d.From.In(zone)), shown(d.Until.In(zone))),
					next: "ask again in a few minutes, or name the time with --since and --until", code: exitNotFound,
				}
			}
			d.compare(planned, started.list, allowed)
			d.From, d.Until = d.From.UTC(), d.Until.UTC()
			if asJSON {
				err = printJSON(c.out, d)
			} else {
				err = c.printDifference(d, zone)
			}
			if err == nil && len(d.Cron)+len(d.Belfry) > 0 {
				return exitCode(exitDiffers)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&log, "log", "", "read this log, and not the machine's (\"-\": standard input)")
	cmd.Flags().StringVar(&since, "since", "", "from this time on (2026-07-09, 2026-07-09T02:30 or RFC 3339)")
	cmd.Flags().StringVar(&until, "until", "", "up to this time")
	cmd.Flags().StringVar(&tolerance, "tolerance", "1m", "how late after its firing cron may start a command")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the differences, as JSON")
	return cmd
}

// firingOf is what cron's line of a firing would say.
type firingOf struct{ user, command string }

// planned is what belfry accounted for.
type planned struct {
	belfryOnly
	until  time.Time // the last of the firings that share this account
	missed bool      // belfry was not there
	met    bool
}

// plannedBy reads the account from d.From to d.Until, and, where d.From is not
// given, sets it to the shadow's first firing.
func plannedBy(ctx context.Context, client *api.Client, d *difference) (map[firingOf][]*planned, error) {
	jobs, err := client.Jobs(ctx, api.JobFilter{})
	if err != nil {
		return nil, err
	}
	list := map[firingOf][]*planned{}
	first := time.Time{}
	err = client.EachRun(ctx, api.RunFilter{Commands: true}, func(r api.Run) error {
		last := cmpTime(r.FiresUntil, r.FiresAt)
		if r.Cause == "manual" || r.Cause == "backfill" || r.Cause == "reboot" {
			return nil
		}
		if r.Reason == "shadow" && (first.IsZero() || r.FiresAt.Before(first)) {
			first = r.FiresAt
		}
		if last.Before(d.From) || r.FiresAt.After(d.Until) {
			return nil
		}
		key := firingOf{r.Owner, syslog.Printable(r.Command)}
		list[key] = append(list[key], &planned{
			belfryOnly: belfryOnly{r.FiresAt.UTC(), r.Project, r.Job, r.Owner, r.Command, r.ID}, until: last, missed: r.State == "missed",
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if d.From.IsZero() {
		if first.IsZero() {
			return nil, &problem{err: errors.New("no firing of a shadow is in the account yet"), next: "belfry serve --system --shadow, and ask again after a while", code: exitNotFound}
		}
		d.From = first
	}
	// What fires when the machine starts has no minute to be compared by.
	for _, j := range jobs {
		if slices.Contains(j.Schedules, "@reboot") {
			key := firingOf{j.Owner, syslog.Printable(j.Command)}
			list[key] = append(list[key], &planned{until: d.Until.Add(time.Hour), missed: true})
		}
	}
	for _, firings := range list {
		slices.SortFunc(firings, func(a, b *planned) int { return a.FiresAt.Compare(b.FiresAt) })
	}
	return list, nil
}

func cmpTime(t *time.Time, or time.Time) time.Time {
	if t == nil {
		return or
	}
	return *t
}

// early is how long before its minute cron may write its line: clocks of logs are
// rounded.
const early = 2 * time.Second

// compare lets each line of cron meet the account of its firing: the latest that
// is not later than it.
func (d *difference) compare(list map[firingOf][]*planned, started []system.Started, tolerance time.Duration) {
	for _, s := range started {
		if s.At.Before(d.From.Add(-early)) || s.At.After(d.Until) {
			continue
		}
		var meets *planned
		for _, p := range list[firingOf{s.User, s.Command}] {
			if p.FiresAt.After(s.At.Add(early)) {
				break
			}
			if !p.met && s.At.Before(p.until.Add(tolerance)) {
				meets = p
			}
		}
		switch {
		case meets == nil:
			d.Cron = append(d.Cron, cronOnly{s.At.UTC(), s.User, s.Command})
		case meets.missed: // its reason is in the account
		default:
			meets.met = true
			d.Same++
		}
	}
	for _, firings := range list {
		for _, p := range firings {
			if !p.met && !p.missed && !p.FiresAt.Before(d.From) {
				d.Belfry = append(d.Belfry, p.belfryOnly)
			}
		}
	}
	slices.SortFunc(d.Cron, func(a, b cronOnly) int { return a.At.Compare(b.At) })
	slices.SortFunc(d.Belfry, func(a, b belfryOnly) int { return a.FiresAt.Compare(b.FiresAt) })
}

func (c *command) printDifference(d difference, zone *time.Location) error {
	const second = "2006-01-02 15:04:05 MST"
	var t table
	if len(d.Cron) > 0 {
		fmt.Fprintln(c.out, "cron started, and belfry did not plan:")
		for _, one := range d.Cron {
			t.row("  "+one.At.In(zone).Format(second), one.User, cut(one.Command, 100))
		}
		if err := t.print(c.out); err != nil {
			return err
		}
	}
	t = table{}
	if len(d.Belfry) > 0 {
		fmt.Fprintln(c.out, "belfry planned, and cron did not start:")
		for _, one := range d.Belfry {
			t.row("  "+one.FiresAt.In(zone).Format(second), one.User, one.Project+"/"+one.Job, cut(one.Command, 100))
		}
		if err := t.print(c.out); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(c.out, "%s the same from %s to %s, by %s\n", verb(d.Same, "firing is", "firings are"), d.From.In(zone).Format(second), d.Until.In(zone).Format(second), d.Log)
	return err
}

func verb(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

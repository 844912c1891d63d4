package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/project"
	"belfry/internal/remote"
	"belfry/internal/secrets"
	"belfry/internal/site"
)

func (c *command) deployCommand() *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "deploy [HOST]",
		Short: "Put this project on a host and keep its times there",
		Long: `Put the project of this folder on a host that is reached over ssh, and have a daemon
keep its times there. No port is opened, and nothing but belfry and what its jobs need is
installed. HOST is USER@HOST, a name among the hosts of belfry.yaml (without one: the only
host there), or an alias of ~/.ssh/config; keys, agents, ProxyJump and known hosts mean
what they mean to ssh.

The host is looked at first, and what is to be done is printed and then ticked off. What
is there already is not sent again; without a change nothing is done. The new release
takes over at once or not at all: if the daemon does not run it well, the one before
runs again. Jobs that are running end on the release they began with. A command that was
cut short goes on where it was when it is given again. One that meets another deploy of
the project to the host says whose it is and waits until that has ended (--wait).

Left out is what .gitignore and .belfryignore say, .env, *.pem and the keys of hosts, but for what
the jobs name (env_file is sent for its owner alone). Folders that jobs publish into outlive the
releases, in ~/belfry/PROJECT/shared.

Exit codes: 0 it runs; 1 it does not, and what ran before does; 65 the project is wrong;
66 a key or a file is not there; 69 the host does not answer, or cannot be trusted; 75 the
host lacks something that is named, or another deploy of the project is at work there. With --run those of belfry run.`,
		Example: "  belfry deploy ec2-user@203.0.113.7 -i key-pair.pem\n  belfry deploy prod --dry-run\n  belfry deploy prod --run top-tracks\n  belfry deploy rollback prod",
		Args:    hostOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.asJSON && !o.dryRun {
				return usage("--json gives the plan, and nothing is done").hint("belfry deploy --dry-run --json")
			}
			return c.deploy(cmd, args, o)
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "with --dry-run: the plan as an object")
	cmd.Flags().StringVar(&o.binary, "binary", "", "the belfry for the host (default: this one, belfry-linux-ARCH beside it, or one built from the source around it)")
	cmd.Flags().StringVar(&o.profile, "aws-profile", "", "give the host this `PROFILE` of ~/.aws, and no other (default: that of belfry.yaml)")
	cmd.Flags().StringVar(&o.run, "run", "", "then run this `JOB` once, and show its output")
	patienceFlag(cmd, &o.patience)
	waitFlag(cmd, &o.wait)
	cmd.AddCommand(c.deployRollbackCommand(), c.deployStatusCommand(), c.deployRemoveCommand())
	return cmd
}

type deployOptions struct {
	dryRun, asJSON       bool
	binary, profile, run string
	patience, wait       time.Duration
}

// waitFlag is for what only one at a time does to a project on a host.
func waitFlag(cmd *cobra.Command, wait *time.Duration) {
	*wait = 10 * time.Minute
	cmd.Flags().Var(&span{of: wait}, "wait", "how long another deploy of this project to the host is waited for")
}

func patienceFlag(cmd *cobra.Command, patience *time.Duration) {
	*patience = time.Minute
	cmd.Flags().Var(&span{of: patience, least: time.Second}, "patience", "how long the daemon may take to run well")
}

// span is a flag's duration that is not shorter than the least.
type span struct {
	of    *time.Duration
	least time.Duration
}

func (s *span) String() string {
	if s.of == nil { // pflag asks for what there is without a default
		return ""
	}
	return s.of.String()
}

func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New("it is no duration, as 90s or 10m are")
	case d < s.least:
		return fmt.Errorf("it is shorter than %s", s.least)
	}
	*s.of = d
	return nil
}

func (*span) Type() string { return "duration" }

func hostOrNone(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return oneHost(cmd, args)
	}
	return nil
}

func oneHost(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("%s is given one host", cmd.CommandPath()).hint("%s USER@HOST, as in %s ec2-user@203.0.113.7, or the name of a host of belfry.yaml", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

// hostGiven is the host that a command of deploy is about: without an argument the
// only one of the project.
func hostGiven(cmd *cobra.Command, p *project.Project, args []string) (project.Host, error) {
	switch {
	case len(args) > 0:
		return hostOf(p, args[0]), nil
	case len(p.Hosts) == 0:
		return project.Host{}, oneHost(cmd, args)
	case len(p.Hosts) > 1:
		return project.Host{}, usage("which host is meant? %s has %s", relative(p.File), strings.Join(hostNames(p), ", ")).hint("as in %s %s", cmd.CommandPath(), p.Hosts[0].Name)
	}
	return p.Hosts[0], nil
}

// releaseOf is what a project is deployed as.
func (c *command) releaseOf(p *project.Project) (project.Release, error) {
	var except []string
	if key := c.there.identity; key != "" {
		key, err := filepath.Abs(key)
		if err != nil {
			return project.Release{}, err
		}
		except = append(except, key)
	}
	r, err := p.Release(except...)
	if err != nil {
		return r, &problem{err: err, code: exitBadFile}
	}
	return r, nil
}

func (c *command) deploy(cmd *cobra.Command, args []string, o deployOptions) error {
	ctx := cmd.Context()
	p, err := projectHere()
	if err != nil {
		return err
	}
	to, err := hostGiven(cmd, p, args)
	if err != nil {
		return err
	}
	r, err := c.releaseOf(p)
	if err != nil {
		return err
	}
	if o.run != "" && !slices.ContainsFunc(p.Jobs, func(j *job.Job) bool { return j.Name == o.run }) {
		return &problem{err: fmt.Errorf("--run: there is no job %q in %s", o.run, relative(p.File)), next: "belfry jobs lists the jobs", code: exitNotFound}
	}
	d := remote.Deployment{Project: p, Release: r, Patience: o.patience, Wait: o.wait, Binary: func(ctx context.Context, arch string) (remote.Binary, error) {
		return remote.FindBinary(ctx, o.binary, arch, Version)
	}}
	if name := cmp.Or(o.profile, to.AWSProfile); name != "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		profile, err := site.ReadProfile(home, name)
		if err != nil {
			return &problem{err: err, next: "aws configure --profile " + name + " makes one with keys", code: exitNotFound}
		}
		d.Profile = &profile
	}
	if d.Key, err = keyFor(p); err != nil {
		return err
	}
	h, err := c.connect(ctx, to)
	if err != nil {
		return err
	}
	plan, err := h.Plan(ctx, d)
	if err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(c.out, plan)
	}
	c.printPlan(h, p, plan, o.dryRun)
	if len(plan.Lacks) > 0 {
		return &problem{err: fmt.Errorf("%s lacks something:\n  %s", h.Name(), strings.Join(plan.Lacks, "\n  ")), next: "nothing was changed there; the same command again goes on", code: exitRefused}
	}
	if o.dryRun {
		return nil
	}
	if err := c.tickOff(ctx, plan); err != nil {
		var failed *remote.SwitchError
		if errors.As(err, &failed) && plan.Facts.SELinux == "enforcing" && strings.Contains(failed.Result.Log, "Permission denied") {
			err = &problem{err: err, next: "SELinux is enforcing there; what it has denied is told by: sudo ausearch -m avc -ts recent", code: exitFailed}
		}
		return c.lastWords(err)
	}
	c.there.address = to.Name
	c.data = ""
	client, err := c.daemonThere(ctx)
	if err != nil {
		return err
	}
	if err := c.printNext(ctx, client); err != nil {
		return err
	}
	if o.run == "" {
		return nil
	}
	return c.foreground(ctx, attending{}, func(ctx context.Context, client *api.Client) ([]api.Run, error) {
		return client.Start(ctx, api.RunRequest{Job: p.Name + "/" + o.run})
	})
}

// keyFor reads the key of the secrets that the project's jobs have, and none that
// only other projects need; nil: none has any.
func keyFor(p *project.Project) (*site.Key, error) {
	at := slices.IndexFunc(p.Jobs, func(j *job.Job) bool { return len(j.Secrets) > 0 })
	if at < 0 {
		return nil, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	file := secrets.File{Path: p.Jobs[at].SecretsFile, Key: cmp.Or(os.Getenv("BELFRY_KEY_FILE"), secrets.KeyPath(home))}
	key, err := file.Opener()
	if err != nil {
		return nil, &problem{err: err, next: "the host could not read them either", code: exitNotFound}
	}
	return &site.Key{Text: key}, nil
}

// printPlan says what the host is and what is to be done there. A dry run's
// answer is the plan; otherwise the answer comes later.
func (c *command) printPlan(h *remote.Host, p *project.Project, plan *remote.Plan, answer bool) {
	to := c.err
	if answer {
		to = c.out
	}
	f := plan.Facts
	fmt.Fprintf(to, "%s@%s: %s, %s, %s free, clock in %s\n", harmlessly(f.User), h.Name(), harmlessly(f.Distribution), harmlessly(f.Machine), size(f.Free), harmlessly(f.Zone))
	for _, note := range plan.Notes {
		fmt.Fprintf(to, "  %s\n", harmlessly(note))
	}
	if len(plan.Steps) == 0 && len(plan.Lacks) == 0 {
		fmt.Fprintf(to, "%s runs there as it is here, release %s: nothing to do\n", p.Name, plan.Name)
		return
	}
	now := "it is not there yet"
	if f.Release != "" {
		now = "there is " + harmlessly(f.Release)
	}
	fmt.Fprintf(to, "%s, release %s (%s):\n", p.Name, plan.Name, now)
	for i, step := range plan.Steps {
		fmt.Fprintf(to, "  %d  %s\n", i+1, harmlessly(step.Text))
	}
}

// tickOff does what was planned, a step after the other, and ticks them off.
func (c *command) tickOff(ctx context.Context, plan *remote.Plan) error {
	if len(plan.Steps) == 0 {
		return nil
	}
	shows := terminal(c.err)
	var began, told time.Time
	line := func(i int, mark, colour, text string) {
		if shows {
			fmt.Fprint(c.err, "\r\x1b[K")
		}
		fmt.Fprintf(c.err, "%s %d  %s\n", paint(c.err, colour, mark), i+1, text)
	}
	return plan.Do(ctx,
		func(i int) remote.Progress {
			began = time.Now()
			if !shows {
				return nil
			}
			fmt.Fprintf(c.err, "\r\x1b[K… %d  %s", i+1, harmlessly(plan.Steps[i].Text))
			return func(done, total int64) {
				if time.Since(told) < 100*time.Millisecond {
					return
				}
				told = time.Now()
				fmt.Fprintf(c.err, "\r\x1b[K… %d  %s of %s", i+1, size(done), size(total))
			}
		},
		func(i int, said string, err error) {
			text := harmlessly(plan.Steps[i].Text)
			if said != "" {
				text += ": " + said
			}
			if err != nil {
				line(i, "✗", red, text)
				return
			}
			line(i, "✓", green, text+", "+duration(time.Since(began)))
		})
}

// lastWords shows what a daemon said that did not run well.
func (c *command) lastWords(err error) error {
	var failed *remote.SwitchError
	if errors.As(err, &failed) && failed.Result.Log != "" {
		fmt.Fprintln(c.err, "the daemon said last:")
		for line := range strings.Lines(failed.Result.Log) {
			fmt.Fprintf(c.err, "  %s\n", harmlessly(strings.TrimSuffix(line, "\n")))
		}
	}
	return err
}

// printNext says when each job fires next, in its zone and in this machine's.
func (c *command) printNext(ctx context.Context, client *api.Client) error {
	jobs, err := client.Jobs(ctx, api.JobFilter{})
	if err != nil {
		return err
	}
	zone, err := hostZone()
	if err != nil {
		return err
	}
	var t table
	t.row("JOB", "NEXT", "HERE")
	for _, j := range jobs {
		next, local := when(j.Next, j.Timezone), "-"
		switch {
		case j.Paused:
			next = "paused"
		case j.Next != nil:
			local = shown(j.Next.In(zone))
		case len(j.After) > 0:
			next = "after " + strings.Join(j.After, ", ")
		}
		t.row(j.Name, next, local)
	}
	return t.print(c.out)
}

func (c *command) deployRollbackCommand() *cobra.Command {
	var patience, wait time.Duration
	cmd := &cobra.Command{
		Use:   "rollback [HOST]",
		Short: "Go back to the release before the one that runs",
		Long: `Go back, on a host, to the release of this folder's project that ran before the one that
runs now, with the belfry that ran it. The last three are kept.`,
		Args: hostOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, name, err := c.deployed(cmd, args)
			if err != nil {
				return err
			}
			r, err := h.Rollback(cmd.Context(), name, patience, wait)
			if cut := (*remote.CutError)(nil); errors.As(err, &cut) {
				return &problem{err: cut, next: "the host may have gone back, or still do so: belfry deploy status says which release runs there; the same command again goes back further if it did", code: exitUnavailable}
			}
			if err != nil {
				return c.lastWords(err)
			}
			fmt.Fprintf(c.out, "%s runs release %s again, from %s; %s is left\n", name, harmlessly(r.Running.Release), moment(&r.Running.At, ""), harmlessly(r.Before.Release))
			return nil
		},
	}
	patienceFlag(cmd, &patience)
	waitFlag(cmd, &wait)
	return cmd
}

func (c *command) deployStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [HOST]",
		Short: "Say what is deployed on a host and how it is",
		Args:  hostOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, name, err := c.deployed(cmd, args)
			if err != nil {
				return err
			}
			st, err := h.Status(cmd.Context(), name)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, st)
			}
			out := &harmless{w: c.out}
			fmt.Fprintf(out, "%s on %s: release %s, in %s\n", st.Project, h.Name(), cmp.Or(st.Running.Release, "none"), st.Root)
			switch {
			case st.Health == nil:
				fmt.Fprintf(out, "no daemon answers; it is to be kept running by %s\n  belfry deploy starts it again\n", cmp.Or(st.Service, "nobody"))
			case st.Health.Error != "" || st.Health.Problem != "":
				fmt.Fprintf(out, "the daemon is not well: %s\n", cmp.Or(st.Health.Error, st.Health.Problem))
			default:
				fmt.Fprintf(out, "the daemon is well: belfry %s, %s, since %s, kept running by %s\n", st.Health.Version, count(st.Health.Jobs, "job"), moment(&st.Health.Since, ""), st.Service)
			}
			if st.Health != nil && st.Health.Next != nil {
				fmt.Fprintf(out, "next is %s at %s\n", st.Health.Next.Job, when(&st.Health.Next.At, st.Health.Next.Timezone))
			}
			for _, d := range slices.Backward(st.History) {
				if slices.Contains(st.Releases, d.Release) {
					since := "since " + moment(&d.At, "")
					if d.At.IsZero() { // the switch to it was cut short
						since = "since when is not known"
					}
					fmt.Fprintf(out, "  %s  %s\n", d.Release, since)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as an object")
	return cmd
}

func (c *command) deployRemoveCommand() *cobra.Command {
	var all bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "remove HOST",
		Short: "Take this project from a host",
		Long: `End the daemon of this folder's project on a host, and remove its releases and its belfry.
The account of runs (data) and what was published there (shared) stay in ~/belfry/PROJECT,
unless all is to go, now or with --all later. While jobs are running nothing is done (1).`,
		Args: oneHost,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, name, err := c.deployed(cmd, args)
			if err != nil {
				return err
			}
			if err := h.Remove(cmd.Context(), name, all, wait); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s is no longer on %s\n", name, h.Name())
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the account of runs and what was published there, too")
	waitFlag(cmd, &wait)
	return cmd
}

// deployed connects to a host that this folder's project was deployed to. Where
// belfry.yaml is wrong, as in the middle of an edit, its name is enough for a host that
// is given by its address.
func (c *command) deployed(cmd *cobra.Command, args []string) (*remote.Host, string, error) {
	p, err := projectHere()
	name := nameHere()
	switch {
	case err == nil:
	case name != "" && len(args) == 1 && strings.Contains(args[0], "@"):
		p = &project.Project{Name: name}
	default:
		return nil, "", err
	}
	to, err := hostGiven(cmd, p, args)
	if err != nil {
		return nil, "", err
	}
	h, err := c.connect(cmd.Context(), to)
	return h, name, err
}

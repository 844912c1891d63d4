package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"belfry/internal/daemon"
	"belfry/internal/job"
	"belfry/internal/proc"
	"belfry/internal/project"
	"belfry/internal/python"
	"belfry/internal/run"
	"belfry/internal/site"
)

// siteCommand does the part of belfry deploy that is done on the host itself. It
// is asked through ssh: a request on standard input, the answer on standard
// output, both JSON.
func (c *command) siteCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "internal-site ACTION ROOT [DEPLOY]",
		Hidden: true,
		Args:   cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			s := &site.Site{Root: root, Check: c.checkRelease}
			if len(args) > 2 {
				s.Deploy = args[2]
			}
			ctx := cmd.Context()
			switch args[0] {
			case "hold":
				return s.Hold(ctx, c.in, c.out)
			case "lacks":
				return answer(c, func(r project.Release) (any, error) { return s.Lacks(r) })
			case "receive":
				return s.Receive(ctx, c.in)
			case "unpack":
				return answer(c, func(r project.Release) (any, error) { return nil, s.Unpack(ctx, r) })
			case "switch":
				return answer(c, func(change site.Change) (any, error) { return s.Switch(ctx, change) })
			case "rollback":
				return answer(c, func(change site.Change) (any, error) { return s.Rollback(ctx, change.Patience) })
			case "status":
				return answer(c, func(struct{}) (any, error) { return s.Status(ctx) })
			case "remove":
				return answer(c, func(r site.Removal) (any, error) { return nil, s.Remove(ctx, r.All) })
			case "profile":
				return answer(c, func(p site.Profile) (any, error) { return s.WriteProfile(ctx, p) })
			case "python":
				return answer(c, func(change site.Change) (any, error) { return nil, c.makePython(ctx, s, change.Release) })
			case "key":
				return answer(c, func(k site.Key) (any, error) { return s.WriteKey(ctx, k) })
			case "start":
				return s.Start()
			case "supervise":
				return s.Supervise(ctx)
			}
			return usage("%q is nothing that is done to a site", args[0])
		},
	}
}

// answer reads a request and writes the answer to it.
func answer[T any](c *command, do func(request T) (any, error)) error {
	var request T
	if err := json.NewDecoder(c.in).Decode(&request); err != nil && err != io.EOF {
		return err
	}
	a, err := do(request)
	if err != nil {
		return err
	}
	return json.NewEncoder(c.out).Encode(a)
}

// checkRelease loads the jobs of a release as its daemon would.
func (c *command) checkRelease(_ context.Context, dir string) error {
	_, _, err := c.jobsOf(dir)
	return err
}

// jobsOf are the jobs of a release, and the daemon they would have.
func (c *command) jobsOf(dir string) ([]*job.Job, daemon.Options, error) {
	o := daemon.Options{Clock: daemon.ReadClock, Version: Version, Log: c.log()}
	var err error
	if o.Project, o.Data, err = locate(filepath.Join(dir, project.FileName)); err != nil {
		return nil, o, err
	}
	if o, err = c.complete(o); err != nil {
		return nil, o, err
	}
	o.Told = func(string) {} // the daemon tells it again
	jobs, _, err := daemon.Read(o)
	return jobs, o, err
}

// makePython makes the Python environments of a release's jobs ahead of their
// first run, with the variables that the jobs would have.
func (c *command) makePython(ctx context.Context, s *site.Site, release string) error {
	jobs, o, err := c.jobsOf(filepath.Join(s.Root, project.ReleasesName, release))
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if !j.Python.Wanted() {
			continue
		}
		if err := c.makeOne(ctx, o, j); err != nil {
			return fmt.Errorf("for %s: %w", j.Name, err)
		}
	}
	return nil
}

func (c *command) makeOne(ctx context.Context, o daemon.Options, j *job.Job) error {
	attempt, err := os.MkdirTemp("", "belfry-python")
	if err != nil {
		return err
	}
	defer os.RemoveAll(attempt) //nolint:errcheck // nothing in it counts
	env, err := run.Environment(j, attempt, o.Host)
	if err != nil {
		return err
	}
	only := *j
	only.Command = job.Command{Args: []string{"true"}}
	args := python.Args([]string{proc.Self()}, o.Data, &only, attempt)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = j.Dir, env.Strings()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"belfry/internal/daemon"
	"belfry/internal/project"
	"belfry/internal/site"
)

// siteCommand does the part of belfry deploy that is done on the host itself. It
// is asked through ssh: a request on standard input, the answer on standard
// output, both JSON.
func (c *command) siteCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "internal-site ACTION ROOT",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			s := &site.Site{Root: root, Check: c.checkRelease}
			ctx := cmd.Context()
			switch args[0] {
			case "lacks":
				return answer(c, func(r project.Release) (any, error) { return s.Lacks(r) })
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
				return answer(c, func(p site.Profile) (any, error) { return site.WriteProfile(p) })
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
	file, data, err := locate(filepath.Join(dir, project.FileName))
	if err != nil {
		return err
	}
	zone, err := hostZone()
	if err != nil {
		return err
	}
	o := daemon.Options{Project: file, Data: data, Zone: zone, Told: func(string) {}}
	if o.Host, err = host(); err != nil {
		return err
	}
	o.Host.Environ = os.Environ()
	_, _, err = daemon.Read(o)
	return err
}

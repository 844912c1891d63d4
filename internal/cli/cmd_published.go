package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
)

func (c *command) publishedCommand() *cobra.Command {
	var asJSON bool
	var f api.PublishedFilter
	var look looking
	cmd := &cobra.Command{
		Use:   "published [JOB]",
		Short: "List what is where: the files at each target, and whether they are whole",
		Long: `List what was published and stands at its target, the newest first: a line for each target
of a run. What a later run has replaced, or with mode append added to, is listed with
--all. The newest 50, or with --json all of them.

--files reads the manifest at each target and lists its files with their sizes and SHA-256,
as do JOB and --date when they name one target. --verify reads every file back and says of
each target "whole", or each difference from its manifest. Both work as the job does: with
its environment and its credentials.

Files at a target that its manifest does not list are named by --verify too. They are no
difference, but whoever reads every file there reads them: on S3 they stay, and in a folder
the next publish is refused until they are gone.

Exit codes: 0 nothing is wrong with what was looked at; 1 something is. Otherwise those of
"belfry --help".`,
		Example: "  belfry published top-tracks\n  belfry published top-tracks --date 2026-07-09\n  belfry published top-tracks --verify",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.Job = args[0]
			}
			if f.Limit < 0 {
				return usage("--limit %d: a number of targets is not negative", f.Limit)
			}
			if !asJSON && f.Limit == 0 {
				f.Limit = newest
			}
			return c.published(cmd.Context(), f, look, asJSON)
		},
	}
	cmd.Flags().StringVar(&f.Date, "date", "", "only what was made for this date (2006-01-02)")
	cmd.Flags().BoolVar(&f.All, "all", false, "also what a later run has replaced or added to")
	cmd.Flags().BoolVar(&look.files, "files", false, "list the files at each target, as its manifest says")
	cmd.Flags().BoolVar(&look.verify, "verify", false, "read every file back and compare it with the manifest")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "at most this many")
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of what was published; with --files or --verify each has its inspection")
	return cmd
}

// looking is what is wanted of each target.
type looking struct{ files, verify bool }

func (c *command) published(ctx context.Context, f api.PublishedFilter, look looking, asJSON bool) error {
	client, done, err := c.look(ctx)
	if err != nil {
		return err
	}
	defer done()
	i := &inspector{c: c, client: client, look: look, line: line{f: c.err}}
	if asJSON {
		err := streamJSON(c.out, func(each func(api.Published) error) error {
			return client.EachPublished(ctx, f, func(p api.Published) error {
				if err := i.inspect(ctx, &p); err != nil {
					return err
				}
				i.clear()
				return each(p)
			})
		})
		if err != nil {
			return err
		}
		return i.conclusion()
	}
	var sets []api.Published
	if err := client.EachPublished(ctx, f, func(p api.Published) error {
		sets = append(sets, p)
		return nil
	}); err != nil {
		return err
	}
	if len(sets) == 0 {
		return c.tellNothing(ctx, client, f)
	}
	if len(sets) == 1 && f.Job != "" && f.Date != "" {
		i.look.files = true
	}
	if !i.look.files && !i.look.verify {
		return c.printPublished(sets)
	}
	i.total = len(sets)
	for _, p := range sets {
		if err := i.inspect(ctx, &p); err != nil {
			return err
		}
		i.clear()
		if err := c.printInspected(p, i.look); err != nil {
			return err
		}
	}
	return i.conclusion()
}

// tellNothing says that nothing was published, or that nothing of it stands at its
// target any more.
func (c *command) tellNothing(ctx context.Context, client *api.Client, f api.PublishedFilter) error {
	all := f
	all.All, all.Limit = true, 1
	history := false
	if !f.All {
		if err := client.EachPublished(ctx, all, func(api.Published) error {
			history = true
			return nil
		}); err != nil {
			return err
		}
	}
	whose := ""
	if f.Job != "" {
		whose += " by " + f.Job
	}
	if f.Date != "" {
		whose += " for " + f.Date
	}
	if !history {
		fmt.Fprintln(c.err, "nothing has been published"+whose+" yet")
		return nil
	}
	fmt.Fprintln(c.err, "of what was published"+whose+" nothing is the newest at its target")
	fmt.Fprintln(c.err, "  with --all it lists also what later runs have replaced or, with mode append, added to")
	return nil
}

func (c *command) printPublished(sets []api.Published) error {
	var t table
	t.row("JOB", "DATE", "PUBLISHED", "FILES", "SIZE", "MANIFEST", "RUN", "TARGET")
	for _, p := range sets {
		target := relative(p.To)
		if p.ReplacedBy != "" {
			target += " (after it came run " + p.ReplacedBy + ")"
		}
		t.row(p.Job, p.Date, moment(&p.At, p.Timezone), fmt.Sprint(p.Files), size(p.Bytes), p.Manifest[:min(12, len(p.Manifest))], p.Run, target)
	}
	return t.print(c.out)
}

// printInspected tells what was found at a target.
func (c *command) printInspected(p api.Published, look looking) error {
	verdict, colour := "", ""
	found := p.Inspection
	switch {
	case found == nil:
		verdict, colour = "after it came run "+p.ReplacedBy, yellow
	case !found.Whole():
		verdict, colour = strings.Join(found.Problems, "\n    "), red
		if len(found.Problems) > 1 {
			verdict = fmt.Sprintf("%d differences\n    %s", len(found.Problems), verdict)
		}
	case found.Verified:
		verdict, colour = "whole", green
		if found.Foreign == nil {
			verdict += "; what else is there is not known"
		}
	}
	head := fmt.Sprintf("%s %s  %s (%s, %s, manifest %s)", p.Job, p.Date, relative(p.To), count(p.Files, "file"), size(p.Bytes), p.Manifest)
	if verdict != "" {
		head += ": " + paint(c.out, colour, verdict)
	}
	fmt.Fprintln(c.out, head)
	if found != nil && found.ForeignFiles > 0 {
		c.printForeign(found)
	}
	if !look.files || found == nil {
		return nil
	}
	var t table
	for _, file := range found.Files {
		t.row("  "+file.SHA256, fmt.Sprint(file.Size), file.Path)
	}
	return t.print(c.out)
}

// mostForeign are told of by name; --json has more.
const mostForeign = 10

func (c *command) printForeign(found *api.Inspection) {
	are := "are"
	if found.ForeignFiles == 1 {
		are = "is"
	}
	fmt.Fprintf(c.out, "    %s\n", paint(c.out, yellow, fmt.Sprintf("%s there %s not in its manifest:", count(found.ForeignFiles, "file"), are)))
	named := found.Foreign[:min(len(found.Foreign), mostForeign)]
	for _, name := range named {
		fmt.Fprintf(c.out, "    %q\n", name)
	}
	if more := found.ForeignFiles - len(named); more > 0 {
		fmt.Fprintf(c.out, "    and %d more\n", more)
	}
}

// inspector looks at targets one after the other, and shows on a terminal how
// far it is.
type inspector struct {
	c      *command
	client *api.Client
	look   looking
	line
	total int // of the targets; 0: it is not known
	nth   int
	wrong int
	meter meter
}

// inspect has a look at a target, unless something else stands there since.
func (i *inspector) inspect(ctx context.Context, p *api.Published) error {
	if !i.look.files && !i.look.verify {
		return nil
	}
	i.nth++
	if p.ReplacedBy != "" {
		return nil
	}
	doing := "reading"
	if i.total > 1 {
		doing += fmt.Sprintf(" target %d of %d", i.nth, i.total)
	}
	i.meter = meter{}
	i.show(doing + ", " + relative(p.To))
	found, err := i.client.Inspect(ctx, api.InspectRequest{Run: p.Run, To: p.To, Verify: i.look.verify}, func(now api.Progress) {
		i.show(fmt.Sprintf("%s, %s, %s", doing, i.meter.text(now, time.Now()), relative(p.To)))
	})
	if err != nil {
		return err
	}
	if !found.Whole() {
		i.wrong++
	}
	p.Inspection = &found
	return nil
}

func (i *inspector) conclusion() error {
	if i.wrong == 0 {
		return nil
	}
	return exitCode(exitFindings)
}

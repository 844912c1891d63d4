package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/project"
)

// lint has exit codes of its own, which tools that lint share.
const (
	exitFindings   = 1
	exitUnreadable = 2
)

// finding is a finding of lint --json.
type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
	Fix     string `json:"fix"`
}

func (c *command) lintCommand() *cobra.Command {
	var system, portable, asJSON, rules bool
	var tz string
	cmd := &cobra.Command{
		Use:   "lint [FILE…]",
		Short: "Say what will surprise you in a crontab",
		Long: `Read crontabs and say what their reader would not expect, a line each:
file:line:col: rule: message, and below it what to do. docs/lint.md has a section for
each rule. "-" is standard input. A file is read as a user's crontab; /etc/crontab and
the files of /etc/cron.d, which have a user column, as the system's. Of a belfry.yaml it
says what is wrong.

Exit codes: 0 nothing was found; 1 something was; 2 a file could not be read, or the
command line is wrong.`,
		Example: "  crontab -l | belfry lint -\n  belfry lint /etc/crontab /etc/cron.d/*",
		RunE: func(cmd *cobra.Command, args []string) error {
			if rules {
				return c.printRules(asJSON)
			}
			if len(args) == 0 {
				return usage("lint needs a file").hint("belfry lint FILE, or crontab -l | belfry lint -")
			}
			zone, err := (&times{tz: tz}).zone()
			if err != nil {
				return err
			}
			o := crontab.LintOptions{
				Zone: zone, Now: time.Now(), LoadZone: job.LoadZone, LookPath: lookPath, UserExists: userExists(), Portable: portable,
			}
			found := []finding{}
			unreadable := false
			for _, file := range args {
				text, err := c.readFile(file)
				if err != nil {
					unreadable = true
					fmt.Fprintf(c.err, "belfry: read crontab %s: %v\n", file, reason(err))
					continue
				}
				var findings []crontab.Finding
				if filepath.Base(file) == project.FileName {
					findings = projectFindings(file, text, zone)
				} else {
					o.System = system || systemCrontab(file)
					o.Duration = c.durations(cmd.Context(), file)
					findings = append(crontab.Lint(file, text, o), optionFindings(file, text, zone)...)
				}
				for _, f := range findings {
					found = append(found, finding(f))
					if !asJSON {
						c.printFinding(f)
					}
				}
			}
			if asJSON {
				if err := printJSON(c.out, found); err != nil {
					return err
				}
			}
			switch {
			case unreadable:
				return exitCode(exitUnreadable)
			case len(found) > 0:
				return exitCode(exitFindings)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&system, "system", false, "the files have a user column, as /etc/crontab has")
	cmd.Flags().BoolVar(&portable, "portable", false, "say too what other crons read differently")
	cmd.Flags().StringVar(&tz, "tz", "", "the time zone of entries without CRON_TZ (default: this machine's)")
	cmd.Flags().BoolVar(&rules, "rules", false, "list the rules")
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of findings")
	return cmd
}

// projectFindings are what is wrong in a belfry.yaml.
func projectFindings(file string, text []byte, zone *time.Location) (list []crontab.Finding) {
	_, err := project.Parse(text, file, project.Defaults{Zone: zone, Now: time.Now()})
	var wrong project.Errors
	_ = errors.As(err, &wrong) // there are no others
	for _, e := range wrong {
		list = append(list, crontab.Finding{File: file, Line: e.Line, Column: e.Column, Rule: "project", Message: e.Message, Fix: "mend it: belfry runs no job of the file as it is"})
	}
	return list
}

// optionFindings are the options of Belfry's that would have their entry left
// out. Which pools there are is known to a daemon only.
func optionFindings(file string, text []byte, zone *time.Location) []crontab.Finding {
	parsed, err := crontab.Parse(file, text, crontab.Options{})
	var wrong crontab.Errors
	if err != nil && !errors.As(err, &wrong) {
		return nil // told by the other rules
	}
	_, errs := job.FromCrontab(parsed, job.Crontab{Project: filepath.Base(file), File: file, Zone: zone, Now: time.Now()})
	var list []crontab.Finding
	for _, e := range errs {
		if strings.Contains(e.Message, "is not a pool") {
			continue
		}
		list = append(list, crontab.Finding{File: e.File, Line: e.Line, Column: e.Column, Rule: "option", Message: e.Message, Fix: "mend it: belfry leaves the entry out; cron runs it"})
	}
	return list
}

func (c *command) printFinding(f crontab.Finding) {
	fmt.Fprintln(c.out, f)
	if f.Fix != "" {
		fmt.Fprintln(c.out, paint(c.out, faint, "    "+f.Fix))
	}
}

func (c *command) printRules(asJSON bool) error {
	type rule struct {
		Name     string `json:"name"`
		Summary  string `json:"summary"`
		Portable bool   `json:"portable"` // only looked at with --portable
	}
	var t table
	var list []rule
	for _, r := range crontab.Rules() {
		t.row(r.Name, r.Summary)
		list = append(list, rule{r.Name, r.Summary, r.Portable})
	}
	if asJSON {
		return printJSON(c.out, list)
	}
	return t.print(c.out)
}

// readFile reads a file, a pipe or, for "-", standard input.
func (c *command) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(c.in)
	}
	text, err := project.ReadFile(name)
	if errors.Is(err, project.ErrNotFile) {
		err = fmt.Errorf(`%w; "-" is standard input`, err)
	}
	return text, err
}

// durations tells how long the entries of a crontab took when they last ran,
// where belfry runs that file from here.
func (c *command) durations(ctx context.Context, file string) func(crontab.Entry) time.Duration {
	client, done, err := c.look(ctx)
	if err != nil {
		return nil
	}
	defer done()
	jobs, err := client.Jobs(ctx, api.JobFilter{})
	if err != nil {
		return nil
	}
	took := map[string]time.Duration{}
	for _, j := range jobs {
		if j.Last != nil && j.Last.State == "succeeded" && j.Last.StartedAt != nil && j.Last.EndedAt != nil {
			took[j.Source+" "+j.Command] = j.Last.EndedAt.Sub(*j.Last.StartedAt)
		}
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return nil
	}
	return func(e crontab.Entry) time.Duration {
		return took[job.Source{File: path, Line: e.Line}.String()+" "+e.Command]
	}
}

// reason is what is wrong with a file, without its name.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// systemCrontab reports whether a file is one of the system's by its place.
func systemCrontab(file string) bool {
	path, err := filepath.Abs(file)
	return err == nil && (path == "/etc/crontab" || filepath.Dir(path) == "/etc/cron.d")
}

// lookPath looks for a program as a shell would: in the directories of path, or,
// when its name has a slash, at its place.
func lookPath(program, path string) (found, executable bool) { return lookPathIn("", program, path) }

// lookPathIn is lookPath on the machine whose file system begins at root.
func lookPathIn(root, program, path string) (found, executable bool) {
	candidates := []string{program}
	if !strings.Contains(program, "/") {
		candidates = nil
		for _, dir := range filepath.SplitList(path) {
			candidates = append(candidates, filepath.Join(dir, program))
		}
	}
	for _, candidate := range candidates {
		info, err := os.Stat(filepath.Join(root, candidate))
		if err != nil || info.IsDir() {
			continue
		}
		if found = true; info.Mode().Perm()&0o111 != 0 {
			return true, true
		}
	}
	return found, false
}

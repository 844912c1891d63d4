package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/internal/project"
	"belfry/internal/system"
)

// imported is what import found. Fields of its JSON are only ever added.
type imported struct {
	Dialect  system.Dialect   `json:"dialect"`
	Timezone string           `json:"timezone"`
	Crontabs []importedFile   `json:"crontabs"`
	Folders  []importedFolder `json:"folders"`
	NotRead  []notRead        `json:"not_read"`

	jobs []project.DraftJob
}

type importedFile struct {
	Path     string          `json:"path"`
	Project  string          `json:"project"`
	User     string          `json:"user"` // empty: each line names its own
	Entries  []importedEntry `json:"entries"`
	Errors   []string        `json:"errors"`
	Notes    []string        `json:"notes"` // what belfry would do differently with the whole file
	Findings []finding       `json:"findings"`
}

type importedEntry struct {
	Line     int        `json:"line"`
	Name     string     `json:"name"`
	User     string     `json:"user"`
	Schedule string     `json:"schedule"`
	Timezone string     `json:"timezone"`
	Explain  string     `json:"explain"`
	Command  string     `json:"command"`
	Next     *time.Time `json:"next"`
	Notes    []string   `json:"notes"` // what belfry would do differently
}

type importedFolder struct {
	Path    string           `json:"path"`
	RunBy   string           `json:"run_by"` // file:line; empty: nothing here does
	Scripts []importedScript `json:"scripts"`
}

type importedScript struct {
	Name    string `json:"name"`
	Skipped string `json:"skipped"` // why run-parts passes it over
}

type notRead struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
	Next   string `json:"next"`
}

func (c *command) importCommand() *cobra.Command {
	var root, output, owner string
	var write, asJSON bool
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Say what is in this machine's crontabs, and make a belfry.yaml of it",
		Long: `Read every crontab of this machine (the users', /etc/crontab, /etc/cron.d), its
anacrontab and the folders of programs like /etc/cron.daily, and say what is in them:
each entry in words, when it fires next, what lint says, and what belfry would do
differently. An ordinary user sees their own, through crontab -l. Nothing is changed.

With --write, or -o FILE, it also writes a belfry.yaml with a job for each entry that
means the same: schedule, zone, command, environment, standard input, mail. "-o -"
prints it instead of the report. A file that is there is left alone (75). All jobs of
a belfry.yaml run as the user that serves it; where entries are of several, a comment
names each one's, and --user NAME takes those of one.

Exit codes: 0 everything was read; 65 something is wrong, and told: a line, a file that
is not safe; the rest was read. 66 there is no crontab. Otherwise those of
"belfry --help".`,
		Example: "  belfry import\n  belfry import --user alice -o belfry.yaml\n  belfry import --root /mnt/image --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if write {
				output = cmp.Or(output, project.FileName)
			}
			found, err := c.findCrontabs(root, owner)
			if err != nil {
				return err
			}
			switch {
			case output == "-":
			case asJSON:
				err = printJSON(c.out, found)
			default:
				c.printImported(found)
			}
			if err != nil {
				return err
			}
			lost := 0
			if output != "" {
				if lost, err = c.writeImported(found, output); err != nil {
					return err
				}
			}
			switch {
			case len(found.Crontabs) == 0 && len(found.NotRead) == 0:
				return &problem{err: errors.New("there is no crontab"), next: "belfry init writes a first belfry.yaml", code: exitNotFound}
			case lost > 0, slices.ContainsFunc(found.NotRead, func(n notRead) bool { return n.Reason != "" }),
				slices.ContainsFunc(found.Crontabs, func(f importedFile) bool { return len(f.Errors) > 0 }):
				return exitCode(exitBadFile)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "the machine whose file system begins in this folder, and not this one")
	cmd.Flags().StringVar(&owner, "user", "", "only what runs as this user")
	cmd.Flags().BoolVar(&write, "write", false, "write a "+project.FileName+" here")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write it to this file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "what was found, as JSON")
	return cmd
}

// writeImported writes the belfry.yaml, and gives how many entries it cannot hold.
func (c *command) writeImported(found *imported, file string) (lost int, err error) {
	zone := zoneOr(found.Timezone)
	owners := map[string]bool{}
	draft := project.Draft{Zone: zone}
	for _, j := range found.jobs {
		one := project.Draft{Zone: zone, Jobs: []project.DraftJob{j}}
		if _, err := one.Text(); err != nil {
			lost++
			c.tell("this entry is left out: " + err.Error())
			continue
		}
		owners[j.Owner] = true
		draft.Jobs = append(draft.Jobs, j)
	}
	if len(draft.Jobs) == 0 {
		return lost, nil
	}
	draft.Comment = "Made by belfry import of this machine's crontabs.\n" +
		"Beyond cron: LANG is C.UTF-8, PYTHONUNBUFFERED=1, and at most four jobs for each\nprocessor run at once (daemon.slots)."
	if len(owners) > 1 {
		draft.Comment += "\nThey were of several users: here all run as the one who serves this file. --user\nNAME takes those of one."
	}
	text, err := draft.Text()
	if err != nil {
		return lost, err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return lost, err
	}
	if _, err := project.Parse(text, path, project.Defaults{Owner: "root", Zone: zone}); err != nil {
		return lost, fmt.Errorf("the belfry.yaml made of these crontabs is wrong, which is a mistake of belfry's:\n%w", err)
	}
	if file == "-" {
		_, err := c.out.Write(text)
		return lost, err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // environments may hold secrets
	if errors.Is(err, fs.ErrExist) {
		return lost, &problem{err: fmt.Errorf("%s is there already", file), next: "name another file with -o", code: exitRefused}
	}
	if err != nil {
		return lost, &problem{err: err, next: "choose a folder that you may write", code: exitCannotWrite}
	}
	_, err = out.Write(text)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return lost, errors.Join(err, os.Remove(path))
	}
	fmt.Fprintf(c.err, "wrote %s, %s\n", file, count(len(draft.Jobs), "job"))
	return lost, nil
}

// printImported tells people what was found.
func (c *command) printImported(found *imported) {
	entries := 0
	for _, f := range found.Crontabs {
		entries += len(f.Entries)
		c.printImportedFile(f)
	}
	for _, folder := range found.Folders {
		by := "run by " + folder.RunBy
		if folder.RunBy == "" {
			by = "which no line here runs"
		}
		fmt.Fprintf(c.out, "%s: %s, %s\n", folder.Path, count(len(folder.Scripts), "file"), by)
		for _, s := range folder.Scripts {
			if s.Skipped == "" {
				fmt.Fprintf(c.out, "  %s\n", s.Name)
			} else {
				fmt.Fprintf(c.out, "  %s: passed over, %s\n", s.Name, s.Skipped)
			}
		}
		fmt.Fprintln(c.out)
	}
	for _, n := range found.NotRead {
		fmt.Fprintf(c.out, "%s: not read: %s\n", n.Path, n.Reason)
		fmt.Fprintln(c.out, paint(c.out, faint, "    "+n.Next))
	}
	if len(found.NotRead) > 0 {
		fmt.Fprintln(c.out)
	}
	fmt.Fprintf(c.out, "%s in %s; the machine's cron is %s, its time zone %s\n", count(entries, "job"), count(len(found.Crontabs), "file"), found.Dialect, found.Timezone)
}

func (c *command) printImportedFile(f importedFile) {
	whose := "a system crontab"
	if f.User != "" {
		whose = "of " + f.User
	}
	fmt.Fprintf(c.out, "%s: %s, %s\n", f.Path, whose, count(len(f.Entries), "job"))
	for _, text := range f.Errors {
		fmt.Fprintln(c.out, "  "+paint(c.out, red, "wrong: ")+text)
	}
	for _, note := range f.Notes {
		fmt.Fprintln(c.out, "  "+paint(c.out, yellow, "differs: ")+note)
	}
	told := map[int]bool{}
	for _, e := range f.Entries {
		told[e.Line] = true
		as := ""
		if e.User != f.User {
			as = " as " + e.User
		}
		fmt.Fprintf(c.out, "  %d: %s%s, %s\n", e.Line, e.Name, as, e.Explain)
		fmt.Fprintf(c.out, "      %s\n", cut(e.Command, 200))
		if e.Next != nil {
			fmt.Fprintf(c.out, "      next: %s\n", when(e.Next, e.Timezone))
		}
		for _, note := range e.Notes {
			fmt.Fprintln(c.out, "      "+paint(c.out, yellow, "differs: ")+note)
		}
		for _, l := range f.Findings {
			if l.Line == e.Line {
				fmt.Fprintf(c.out, "      lint: %s: %s\n", l.Rule, l.Message)
			}
		}
	}
	for _, l := range f.Findings { // of lines that are no entries
		if !told[l.Line] && !slices.ContainsFunc(f.Errors, func(text string) bool { return strings.Contains(text, fmt.Sprintf(":%d:", l.Line)) }) {
			fmt.Fprintf(c.out, "  lint: line %d: %s: %s\n", l.Line, l.Rule, l.Message)
		}
	}
	fmt.Fprintln(c.out)
}

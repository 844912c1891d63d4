package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/notify"
	"belfry/internal/project"
	"belfry/internal/run"
	"belfry/internal/system"
)

// importer gathers what is found.
type importer struct {
	imported
	places system.Places
	users  *system.Users
	zone   *time.Location
	owner  string // only what is this user's
	host   string // the machine's name
	now    time.Time
	lint   crontab.LintOptions
}

func (c *command) findCrontabs(root, owner string) (*imported, error) {
	i := importer{places: system.At(root, ""), owner: owner, now: time.Now()}
	i.users = i.places.Users()
	var err error
	if i.zone, err = zoneAt(root); err != nil {
		return nil, err
	}
	if i.host, err = hostAt(root); err != nil {
		return nil, err
	}
	i.Dialect, i.Timezone = i.places.Dialect, i.zone.String()
	i.Crontabs, i.Folders, i.NotRead = []importedFile{}, []importedFolder{}, []notRead{}
	i.lint = crontab.LintOptions{
		Zone: i.zone, Now: i.now, LoadZone: job.LoadZone,
		UserExists: among(i.users),
		LookPath:   func(program, path string) (bool, bool) { return lookPathIn(root, program, path) },
	}
	if root == "" && os.Geteuid() != 0 {
		err = i.own()
	} else {
		err = i.machine()
	}
	if err != nil {
		return nil, err
	}
	i.name()
	return &i.imported, nil
}

// zoneAt is the time zone of the machine below root.
func zoneAt(root string) (*time.Location, error) {
	if root == "" {
		return hostZone()
	}
	name := ""
	if link, err := os.Readlink(filepath.Join(root, "etc/localtime")); err == nil {
		_, name, _ = strings.Cut(link, "zoneinfo/")
	} else if text, err := os.ReadFile(filepath.Join(root, "etc/timezone")); err == nil {
		name = strings.TrimSpace(string(text))
	}
	if name == "" || strings.HasSuffix(name, "/UTC") {
		return time.UTC, nil
	}
	zone, err := job.LoadZone(name)
	if err != nil {
		return nil, fmt.Errorf("the time zone of %s: %w", root, err)
	}
	return zone, nil
}

// hostAt is the name of the machine below root, without its domain.
func hostAt(root string) (string, error) {
	if root == "" {
		host, err := host()
		return host.Name, err
	}
	text, err := os.ReadFile(filepath.Join(root, "etc/hostname"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the name of the machine in %s: %w", root, err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(text)), ".")
	return name, nil
}

// fileOf is what the machine's own belfry calls a crontab's file, by which it
// draws the values of ~.
func (i *importer) fileOf(tab system.Crontab) string {
	if tab.Path == ownCrontab {
		return filepath.Join(i.places.Spool, tab.User)
	}
	below, err := filepath.Rel(i.places.Root, tab.Path)
	if err != nil {
		return tab.Path
	}
	return "/" + below
}

// ownCrontab is in the place of the path of what the crontab command gave.
const ownCrontab = "crontab -l"

// own reads the crontab of this user, who cannot read the spool.
func (i *importer) own() error {
	host, err := host()
	if err != nil {
		return err
	}
	var out, said bytes.Buffer
	cmd := exec.Command("crontab", "-l")
	cmd.Stdout, cmd.Stderr = &out, &said
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit) && strings.HasPrefix(said.String(), "no crontab for "):
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("crontab -l: %s", strings.TrimSpace(said.String()))
	case err != nil:
		return &problem{err: fmt.Errorf("read your crontab: %w", err), next: "install cron's crontab command, or give the file to belfry lint", code: exitFailed}
	}
	return i.crontab(system.Crontab{Project: host.User, Path: ownCrontab, User: host.User, Text: out.Bytes()}, host.Home)
}

// machine reads all there is.
func (i *importer) machine() error {
	found, err := i.places.Read(i.users)
	if err != nil {
		return fmt.Errorf("read the machine's crontabs: %w", err)
	}
	for _, tab := range found.Crontabs {
		if err := i.crontab(tab, ""); err != nil {
			return err
		}
	}
	passed, err := i.places.PassedOver()
	if err != nil {
		return err
	}
	for _, r := range append(found.Refused, passed...) {
		i.NotRead = append(i.NotRead, notRead{r.Path, r.Reason, r.Next})
	}
	anacron, err := i.places.Anacrontab()
	if err != nil {
		return err
	}
	if anacron != nil {
		i.anacrontab(anacron)
	}
	return i.folders()
}

// crontab reads one crontab. home is its owner's where the machine's users are
// not asked.
func (i *importer) crontab(tab system.Crontab, home string) error {
	debian := i.Dialect == system.Debian
	how := crontab.Options{System: tab.User == "", Root: tab.User == "root", Debian: debian, Seed: i.host + i.fileOf(tab)}
	parsed, err := crontab.Parse(tab.Path, tab.Text, how)
	var wrong crontab.Errors
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	jobs, more := job.FromCrontab(parsed, job.Crontab{Project: tab.Project, Owner: tab.User, File: tab.Path, Zone: i.zone})
	f := importedFile{Path: tab.Path, Project: tab.Project, User: tab.User, Entries: []importedEntry{}, Errors: []string{}, Notes: []string{}, Findings: []finding{}}
	for _, e := range append(wrong, more...) {
		f.Errors = append(f.Errors, e.Error())
	}
	if debian && len(wrong) > 0 && len(jobs) > 0 {
		f.Notes = append(f.Notes, "Debian's cron ignores the whole file for what is wrong in it: none of its entries runs now. Belfry runs the others")
	}
	i.lint.Options = how
	for _, found := range crontab.Lint(tab.Path, tab.Text, i.lint) {
		f.Findings = append(f.Findings, finding(found))
	}
	entries := map[int]crontab.Entry{}
	for _, e := range parsed.Entries {
		entries[e.Line] = e
	}
	for _, j := range jobs {
		if i.owner != "" && j.Owner != i.owner {
			continue
		}
		f.Entries = append(f.Entries, i.entry(j, i.notes(entries[j.Source.Line], j)))
		i.jobs = append(i.jobs, project.DraftJob{Job: i.detached(j, home), Comment: whence(j)})
	}
	if i.owner == "" || i.owner == tab.User || len(f.Entries) > 0 {
		i.Crontabs = append(i.Crontabs, f)
	}
	return nil
}

func whence(j *job.Job) string { return fmt.Sprintf("%s, as %s", j.Source, j.Owner) }

func (i *importer) entry(j *job.Job, notes []string) importedEntry {
	e := importedEntry{
		Line: j.Source.Line, User: j.Owner, Schedule: j.Schedules[0].String(), Timezone: j.Zone.String(),
		Explain: j.Schedules[0].Explain(), Command: j.Command.Text, Notes: notes,
	}
	if next := j.Schedules[0].Next(i.now.In(j.Zone)); !next.IsZero() && !j.Schedules[0].Reboot() {
		next = next.UTC()
		e.Next = &next
	}
	return e
}

// notes says what belfry would do differently with an entry.
func (i *importer) notes(e crontab.Entry, j *job.Job) []string {
	notes := []string{}
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	debian := i.Dialect == system.Debian
	for _, v := range e.Env {
		switch {
		case v.Name == "CRON_TZ" && debian:
			note("CRON_TZ=%s is an ordinary variable to Debian's cron, and so to belfry: it fires in %s", v.Value, i.Timezone)
		case v.Name == "CRON_TZ" && (changes(j.Zone, i.now) || changes(i.zone, i.now)) && !j.Schedules[0].Wildcard():
			note("around the changes of the clocks cron loses or doubles entries with a CRON_TZ; belfry fires it once for each day")
		case v.Name == "MAILTO":
			if _, err := notify.ParseMailTo(v.Value, debian); err != nil {
				note("cron does not mail what it prints: %v. Belfry mails it to %s", err, j.Owner)
			}
		case v.Name == "RANDOM_DELAY" && !debian:
			note("cron starts it up to %s minutes late (RANDOM_DELAY); belfry at its time", v.Value)
		}
	}
	if strings.Contains(j.Schedules[0].String(), "~") {
		note("cron draws ~ anew at each start; belfry once and for all: %s", j.DrawnTexts()[0])
	}
	if debian && e.MailOnFailure {
		note("Debian's cron gives -n to the shell as the command's name; belfry mails only when the command fails, as cronie")
	}
	if _, err := i.users.Lookup(j.Owner); err != nil && i.places.Root == "/" {
		note("there is no user %s here: each of its runs will fail, and be accounted for", j.Owner)
	}
	return notes
}

// changes reports whether the clocks of a zone change within the year.
func changes(zone *time.Location, now time.Time) bool {
	_, change := now.In(zone).ZoneBounds()
	return !change.IsZero() && change.Before(now.AddDate(1, 0, 0))
}

// detached is a job of a crontab as one of a belfry.yaml that means the same.
func (i *importer) detached(j *job.Job, home string) *job.Job {
	own, settings := *j, *j.Settings
	own.Settings = &settings
	if user, err := i.users.Lookup(j.Owner); err == nil {
		home = cmp.Or(home, user.Home)
	}
	env := run.CronEnviron(j, run.Host{User: j.Owner, Home: home, Debian: i.Dialect == system.Debian})
	own.Env = nil
	for _, v := range env {
		if v.Name == "HOME" {
			if v.Value == "" { // nobody knows
				continue
			}
			own.Dir = v.Value
		}
		own.Env = append(own.Env, project.Literal(v))
	}
	if own.Command.Shell != "/bin/sh" {
		own.Command = job.Command{Args: own.Command.Argv()}
	}
	mailto, set := env.Lookup("MAILTO")
	to, err := notify.ParseMailTo(mailto, i.Dialect == system.Debian)
	switch {
	case !set, err != nil: // notes has told
		own.Notify.To = []string{j.Owner}
	case len(to) == 0:
		own.Notify.On = nil
	default:
		own.Notify.To = to
	}
	own.Crontab = false
	return &own
}

// anacrontab makes of each of its entries a job that catches up.
func (i *importer) anacrontab(a *system.Anacrontab) {
	f := importedFile{Path: a.Path, Project: "etc/anacrontab", User: "root", Entries: []importedEntry{}, Errors: []string{}, Notes: []string{}, Findings: []finding{}}
	for _, e := range a.Errors {
		f.Errors = append(f.Errors, e.Error())
	}
	if _, err := os.Stat(filepath.Join(i.places.Root, "usr/sbin/anacron")); err != nil {
		f.Notes = append(f.Notes, "anacron is not installed here: nothing reads this file now")
	}
	if i.owner != "" && i.owner != "root" {
		return
	}
	for _, e := range a.Entries {
		text, exact, err := e.Schedule()
		if err != nil {
			continue // among the errors
		}
		schedule := crontab.MustParseSchedule(text)
		tab := &job.Job{
			ID: job.ID{Name: job.CleanName(e.Name)}, Source: job.Source{File: a.Path, Line: e.Line},
			Schedules: []crontab.Schedule{schedule}, Command: job.Command{Text: e.Command, Shell: "/bin/sh"},
			Settings: &job.Settings{
				Owner: "root", Crontab: true, Zone: i.zone, Env: e.Env, CatchUp: job.CatchUpLatest, CatchUpWindow: period(text),
				Overlap: job.OverlapSkip, Notify: job.Notify{On: []job.Event{job.OnOutput}},
			},
		}
		notes := []string{fmt.Sprintf("anacron runs it once for %q, at some time of day at which the machine is on; belfry at this time, or as soon as it is back (catch_up: latest)", e.Period)}
		if !exact {
			notes = append(notes, "no schedule counts days like that: look at this one")
		}
		for _, v := range e.Env {
			if v.Name == "RANDOM_DELAY" {
				notes = append(notes, fmt.Sprintf("anacron adds up to %s minutes by chance (RANDOM_DELAY); belfry none", v.Value))
			}
		}
		f.Entries = append(f.Entries, i.entry(tab, notes))
		own := i.detached(tab, "/root")
		own.Dir = "/" // anacron's
		i.jobs = append(i.jobs, project.DraftJob{Job: own, Comment: fmt.Sprintf("%s, as root: anacron's %q", tab.Source, e.Period)})
	}
	i.Crontabs = append(i.Crontabs, f)
}

// period is how old a firing of an anacrontab's entry may be to be caught up.
func period(schedule string) time.Duration {
	const day = 24 * time.Hour
	fields := strings.Fields(schedule)
	switch {
	case fields[3] != "*":
		return 366 * day
	case fields[2] == "1":
		return 31 * day
	case fields[4] != "*":
		return 7 * day
	case fields[2] != "*":
		return 31 * day
	}
	return day
}

// folders says what the folders of programs hold, and which line runs them.
func (i *importer) folders() error {
	list, err := i.places.PeriodicFolders()
	if err != nil {
		return err
	}
	for _, p := range list {
		folder := importedFolder{Path: p.Path, Scripts: []importedScript{}}
		for _, s := range p.Scripts {
			folder.Scripts = append(folder.Scripts, importedScript(s))
		}
		for _, f := range i.Crontabs {
			for _, e := range f.Entries {
				if folder.RunBy == "" && slices.Contains(strings.FieldsFunc(e.Command, func(r rune) bool { return strings.ContainsRune(" \t;|&{}()", r) }), p.Name) {
					folder.RunBy = fmt.Sprintf("%s:%d", f.Path, e.Line)
				}
			}
		}
		if i.owner == "" {
			i.Folders = append(i.Folders, folder)
		}
	}
	return nil
}

// name gives every job a name of its own, as belfry.yaml wants it.
func (i *importer) name() {
	jobs := make([]*job.Job, len(i.jobs))
	taken := map[string]bool{}
	for at, j := range i.jobs {
		jobs[at] = j.Job
		if taken[j.Name] { // files may give the same one
			j.Name = ""
		}
		taken[j.Name] = true
	}
	job.Match(jobs, nil)
	at := 0
	for f := range i.Crontabs {
		for e := range i.Crontabs[f].Entries {
			i.Crontabs[f].Entries[e].Name = jobs[at].Name
			at++
		}
	}
}

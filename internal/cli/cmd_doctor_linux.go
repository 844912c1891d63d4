package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"belfry/api"
	"belfry/crontab"
	"belfry/internal/daemon"
	"belfry/internal/doctor"
	"belfry/internal/job"
	"belfry/internal/proc"
	"belfry/internal/python"
)

// doctorHere looks at this machine.
func (c *command) doctorHere(ctx context.Context, crontabs []string, asJSON bool) error {
	s, done, err := c.setup(ctx, crontabs)
	if err != nil {
		return err
	}
	defer done()
	found := doctor.Examine(ctx, s)
	if asJSON {
		err = printJSON(c.out, found)
	} else {
		err = c.printFindings(found)
	}
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Level == doctor.Wrong {
			return exitCode(exitFindings)
		}
	}
	return nil
}

// signs are how a level is told on a line.
var signs = map[doctor.Level]struct{ sign, colour string }{
	doctor.Fine: {"✓", green}, doctor.Warning: {"!", yellow}, doctor.Wrong: {"✗", red},
}

func (c *command) printFindings(found []doctor.Finding) error {
	var t table
	for _, f := range found {
		sign := signs[f.Level]
		t.row(paint(c.out, sign.colour, sign.sign), f.Check, strings.ReplaceAll(strings.TrimSpace(f.Message), "\n", "; "))
		if f.Next != "" {
			t.row(paint(c.out, sign.colour, " "), "", paint(c.out, faint, "→ "+f.Next))
		}
	}
	return t.print(c.out)
}

// setup is what doctor looks at, and what to call when it has looked.
func (c *command) setup(ctx context.Context, crontabs []string) (*doctor.Setup, func(), error) {
	o, err := c.options(crontabs, c.log())
	if err != nil {
		return nil, nil, err
	}
	if o.System != nil && os.Geteuid() != 0 {
		return nil, nil, &problem{err: errors.New("only root can see whether the machine's cron is well"), next: "sudo belfry --system doctor", code: exitFailed}
	}
	done := func() {}
	s := &doctor.Setup{
		Data: o.Data, Version: Version, Zone: o.Zone, User: o.Host.User, Key: o.Host.Key, Now: time.Now(), Machine: doctor.Here(), CanPunch: proc.CanPunch,
		Python: func(versions job.Versions) (string, error) { return python.Check(os.Environ(), versions) },
		Missed: func(context.Context) ([]api.Run, error) { return nil, nil },
	}
	client := clientOf(o)
	defer client.Close()
	if s.Health, _, err = c.health(ctx, client, o.Data); err != nil {
		s.Silent = err.Error()
	}
	if s.Health.PID != 0 && len(o.Crontabs) == 0 && o.System == nil {
		o.Crontabs = crontabsOf(ctx, client, o.Project)
	}
	o.Told = func(sentence string) {
		s.LeftOut = append(s.LeftOut, strings.TrimPrefix(sentence, "this line is left out: "))
	}
	jobs, settings, err := daemon.Read(o)
	s.Jobs, s.Broken = jobs, err
	if o.System != nil && err == nil {
		if s.Refused, err = o.System.Refused(); err != nil {
			s.Broken = err
		}
	}
	s.Spool = cmp.Or(s.Health.Spool, o.MailSpool, settings.MailSpool, "/var/mail")
	if o.System != nil {
		for _, j := range jobs {
			if j.Crontab && !slices.Contains(s.Crontabs, j.Source.File) {
				s.Crontabs = append(s.Crontabs, j.Source.File)
			}
		}
	}
	for _, file := range o.Crontabs {
		if abs, err := filepath.Abs(file); err == nil {
			s.Crontabs = append(s.Crontabs, abs)
		}
	}
	exists := userExists()
	s.Lint = func(file string) (int, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, reason(err)
		}
		lint := crontab.LintOptions{Zone: o.Zone, Now: s.Now, LoadZone: job.LoadZone, LookPath: lookPath, UserExists: exists}
		lint.System = systemCrontab(file)
		return len(crontab.Lint(file, text, lint)), nil
	}
	if s.Broken == nil && s.Silent == "" {
		var looking *api.Client
		if looking, done, err = c.look(ctx); err != nil {
			return nil, nil, err
		}
		if s.Health.PID == 0 {
			if health, err := looking.Health(ctx); err == nil {
				s.Health.Owed, s.Health.OwedError = health.Owed, health.OwedError
			}
		}
		runs, err := looking.Runs(ctx, api.RunFilter{State: "missed", Limit: 1000})
		s.CheckStore = looking.Check
		s.Missed = func(context.Context) ([]api.Run, error) { return runs, err }
	}
	return s, done, nil
}

// crontabsOf lists the crontabs that a daemon runs, by where its jobs come from.
func crontabsOf(ctx context.Context, client *api.Client, project string) []string {
	jobs, err := client.Jobs(ctx, api.JobFilter{})
	if err != nil {
		return nil
	}
	var files []string
	seen := map[string]bool{project: true}
	for _, j := range jobs {
		at := strings.LastIndexByte(j.Source, ':')
		if at < 0 || seen[j.Source[:at]] {
			continue
		}
		seen[j.Source[:at]] = true
		files = append(files, j.Source[:at])
	}
	return files
}

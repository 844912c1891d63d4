package project

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"belfry/crontab"
	"belfry/internal/job"
)

// Parse reads the text of a belfry.yaml that stands at file.
func Parse(text []byte, file string, d Defaults) (*Project, error) {
	p := newParser(file, d)
	p.document(text)
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b *Error) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, p.errs
	}
	if _, root, ok := ReleaseAt(p.project.Dir); ok {
		p.project.settle(root)
	}
	return p.project, nil
}

func newParser(file string, d Defaults) *parser {
	return &parser{
		project:  &Project{Dir: filepath.Dir(file), File: file, Zone: d.Zone, Daemon: Daemon{Retention: DefaultRetention}},
		defaults: d,
		lines:    map[string]*yaml.Node{},
		targets:  map[string][]*yaml.Node{},
		rel:      shown(file),
	}
}

// shown is the path that messages use: as short as it can be.
func shown(file string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, file); err == nil && len(rel) < len(file) {
			return rel
		}
	}
	return file
}

type parser struct {
	project  *Project
	defaults Defaults
	template *yaml.Node              // defaults:
	lines    map[string]*yaml.Node   // job → its after:, or its key
	targets  map[string][]*yaml.Node // job → what it publishes to
	pooled   []pooled                // every pool that a job is said to take
	rel      string
	errs     Errors
}

func (p *parser) errorf(node *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, &Error{File: p.rel, Line: max(node.Line, 1), Column: max(node.Column, 1), Message: fmt.Sprintf(format, args...)})
}

func (p *parser) document(text []byte) {
	if !hasContent(text) {
		p.errs = append(p.errs, &Error{File: p.rel, Line: 1, Column: 1, Message: "the file is empty; “belfry init” writes one to begin with"})
		return
	}
	var root yaml.Node
	if err := yaml.Load(text, &root); err != nil {
		p.syntax(err)
		return
	}
	keys := []key{
		{"project", p.name},
		{"timezone", func(n *yaml.Node) { p.zone(n, &p.project.Zone) }},
		{"defaults", func(n *yaml.Node) {
			p.template = n
			p.mapping(n, "a default", p.jobKeys(&job.Job{Settings: &job.Settings{}}))
		}},
		{"jobs", nil}, // after the others, whatever their order
		{"hosts", p.hosts},
		{"daemon", p.daemon},
	}
	body := root.Content[0]
	p.mapping(body, "a key of "+FileName, keys)
	if p.project.Name == "" {
		p.project.Name = folderName(p.project.Dir)
	}
	jobs := p.value(body, "jobs")
	if jobs == nil {
		if len(p.errs) == 0 {
			p.errorf(body, "there are no jobs; add “jobs:” with at least one")
		}
		return
	}
	p.jobs(jobs)
	p.checkPools()
	p.after()
	p.shared()
}

func (p *parser) name(node *yaml.Node) {
	if text, ok := p.text(node, "a name"); ok {
		if err := job.CheckName(text); err != nil {
			p.errorf(node, "%v", err)
		}
		p.project.Name = text
	}
}

// folderName makes a project's name of its folder's, be it a release or not.
func folderName(dir string) string {
	if _, root, ok := ReleaseAt(dir); ok {
		dir = root
	}
	return job.CleanName(filepath.Base(dir))
}

func (p *parser) zone(node *yaml.Node, zone **time.Location) {
	text, ok := p.text(node, "a time zone")
	if !ok {
		return
	}
	loaded, err := job.LoadZone(text)
	if err != nil {
		p.errorf(node, "%v", err)
		return
	}
	*zone = loaded
}

func (p *parser) path(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(p.project.Dir, path)
}

func (p *parser) jobs(node *yaml.Node) {
	if node.Kind != yaml.MappingNode || len(node.Content) == 0 {
		p.errorf(node, "here stands %s where jobs are wanted: a name for each, and its keys below it", kindName(node))
		return
	}
	p.unique(node)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, body := node.Content[i], resolve(node.Content[i+1])
		if err := job.CheckName(name.Value); err != nil {
			p.errorf(name, "%v", err)
			continue
		}
		if p.lines[name.Value] != nil { // stands twice
			continue
		}
		j := &job.Job{
			ID:     job.ID{Project: p.project.Name, Name: name.Value},
			Source: job.Source{File: p.project.File, Line: name.Line},
			Settings: &job.Settings{
				Owner:     p.defaults.Owner,
				Zone:      p.project.Zone,
				Dir:       p.project.Dir,
				KillAfter: 10 * time.Second,
				CatchUp:   job.CatchUpLatest,
				Overlap:   job.OverlapSkip,
				Retry:     job.DefaultRetry,
				IfEmpty:   job.IfEmptyError,
				Notify:    job.Notify{On: []job.Event{job.OnFailure, job.OnRecovery, job.OnLate}},
			},
		}
		p.lines[j.Name] = name
		keys := p.jobKeys(j)
		if p.template != nil {
			reported := p.errs // what is wrong in defaults has been told
			p.mapping(p.template, "a default", keys)
			p.errs = reported
		}
		p.mapping(body, "a key of a job", keys)
		p.promises(name, j)
		if j.Command.Argv()[0] == "" && body.Kind == yaml.MappingNode {
			p.errorf(name, "%s has no command", j.Name)
		}
		p.project.Jobs = append(p.project.Jobs, j)
	}
}

// promises says what can never be kept.
func (p *parser) promises(name *yaml.Node, j *job.Job) {
	if j.FinishBy > 0 && j.StartWithin > j.FinishBy {
		p.errorf(name, "%s is to begin within %s of its firing (start_within) and to have ended by %s (finish_by): the first is the shorter one",
			j.Name, job.DurationText(j.StartWithin), job.DurationText(j.FinishBy))
	}
	if at := slices.IndexFunc(j.Limits, func(l job.Limit) bool {
		return l.Resource == "memory" && l.Value != job.Unlimited && l.Value < pythonMemory
	}); at >= 0 && j.Python.Wanted() {
		p.errorf(name, "%s is to have %d MiB of address space (limits: memory); with python: it begins as belfry, which needs 1GiB of it", j.Name, j.Limits[at].Value>>20)
	}
	if j.Retry.MaxBackoff > 0 && j.Retry.Backoff > j.Retry.MaxBackoff {
		p.errorf(name, "%s waits %s before its second attempt (backoff) and %s at most (max_backoff): the first is the shorter one",
			j.Name, job.DurationText(j.Retry.Backoff), job.DurationText(j.Retry.MaxBackoff))
	}
	for _, v := range j.Env {
		if slices.Contains(j.Secrets, v.Name) {
			p.errorf(name, "%s is to have %s from its secrets and from its env: take it away in one of them", j.Name, v.Name)
		}
	}
}

// jobKeys are the keys of a job, reading into j.
func (p *parser) jobKeys(j *job.Job) []key {
	return []key{
		{"schedule", func(n *yaml.Node) { p.schedules(n, j) }},
		{"timezone", func(n *yaml.Node) { p.zone(n, &j.Zone) }},
		{"command", func(n *yaml.Node) { p.command(n, j) }},
		{"dir", func(n *yaml.Node) {
			if text, ok := p.text(n, "a folder"); ok {
				j.Dir = p.path(text)
			}
		}},
		{"stdin", func(n *yaml.Node) { j.Stdin, _ = p.text(n, "a text") }},
		{"env", func(n *yaml.Node) { p.env(n, j) }},
		{"env_file", func(n *yaml.Node) {
			if text, ok := p.text(n, "a file"); ok {
				j.EnvFile = p.path(text)
			}
		}},
		{"secrets", func(n *yaml.Node) { p.secrets(n, j) }},
		{"python", func(n *yaml.Node) { p.python(n, j) }},
		{"timeout", func(n *yaml.Node) { read(p, n, "a duration", &j.Timeout, job.ParseDuration) }},
		{"kill_after", func(n *yaml.Node) { read(p, n, "a duration", &j.KillAfter, job.ParseDuration) }},
		{"catch_up", func(n *yaml.Node) { read(p, n, "a policy", &j.CatchUp, oneOf(job.CatchUps)) }},
		{"catch_up_window", func(n *yaml.Node) { read(p, n, "a duration", &j.CatchUpWindow, job.ParseSpan) }},
		{"start_within", func(n *yaml.Node) { read(p, n, "a duration", &j.StartWithin, job.ParseSpan) }},
		{"finish_by", func(n *yaml.Node) { read(p, n, "a duration", &j.FinishBy, job.ParseSpan) }},
		{"overlap", func(n *yaml.Node) { read(p, n, "a policy", &j.Overlap, oneOf(job.Overlaps)) }},
		{"retry", func(n *yaml.Node) { p.retry(n, j) }},
		{"pools", func(n *yaml.Node) { p.pools(n, j) }},
		{"after", func(n *yaml.Node) {
			p.lines[j.Name] = n
			j.After, _ = p.texts(n, "a job's name")
		}},
		{"publish", func(n *yaml.Node) { p.publish(n, j) }},
		{"notify", func(n *yaml.Node) { p.notify(n, j) }},
		{"umask", func(n *yaml.Node) { read(p, n, "a umask", &j.Umask, job.ParseUmask) }},
		{"nice", func(n *yaml.Node) { read(p, n, "a number", &j.Nice, job.ParseNice) }},
		{"limits", func(n *yaml.Node) { p.limits(n, j) }},
		{"log_limit", func(n *yaml.Node) { read(p, n, "a size", &j.LogLimit, job.ParseLogLimit) }},
	}
}

func (p *parser) schedules(node *yaml.Node, j *job.Job) {
	list, nodes := p.texts(node, "a schedule")
	j.Schedules = nil
	for i, text := range list {
		s, err := crontab.ParseSchedule(text)
		if err != nil {
			var wrong *crontab.Error
			if errors.As(err, &wrong) {
				at := *nodes[i]
				switch {
				case at.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
					at.Column += wrong.Column
				case at.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0: // whose text stands in the lines below
					at.Column += wrong.Column - 1
				}
				p.errorf(&at, "%s", wrong.Message)
				continue
			}
			p.errorf(nodes[i], "%v", err)
			continue
		}
		j.Schedules = append(j.Schedules, s)
	}
}

func (p *parser) command(node *yaml.Node, j *job.Job) {
	j.Command = job.Command{Args: []string{"false"}} // when it is wrong, it is not missing as well
	if node.Kind == yaml.SequenceNode {
		args, _ := p.texts(node, "a word of the command")
		switch {
		case len(node.Content) == 0:
			p.errorf(node, "the command is an empty list")
		case len(args) > 0 && args[0] == "":
			p.errorf(node, "the command is empty")
		case len(args) > 0:
			j.Command.Args = args
		}
		return
	}
	if text, ok := p.text(node, "a command"); ok {
		if strings.TrimSpace(text) == "" {
			p.errorf(node, "the command is empty")
			return
		}
		j.Command = job.Command{Text: text, Shell: "/bin/sh"}
	}
}

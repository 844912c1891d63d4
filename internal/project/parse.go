package project

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/secrets"
)

// Parse reads the text of a belfry.yaml that stands at file.
func Parse(text []byte, file string, d Defaults) (*Project, error) {
	p := &parser{
		project:  &Project{Dir: filepath.Dir(file), File: file, Zone: d.Zone, Daemon: Daemon{Retention: DefaultRetention}},
		defaults: d,
		lines:    map[string]*yaml.Node{},
		targets:  map[string][]*yaml.Node{},
		rel:      shown(file),
	}
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

// hasContent reports whether there is more than blanks and comments.
func hasContent(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

// syntax tells what the YAML reader says, which names the line itself.
func (p *parser) syntax(err error) {
	var all *yaml.LoadErrors
	if errors.As(err, &all) {
		for _, e := range all.Errors {
			p.errs = append(p.errs, &Error{File: p.rel, Line: max(e.Mark.Line, 1), Column: max(e.Mark.Column, 1), Message: "this is not YAML: " + strings.TrimPrefix(e.Message, "yaml: ")})
		}
		return
	}
	var one *yaml.LoadError
	if errors.As(err, &one) {
		p.errs = append(p.errs, &Error{File: p.rel, Line: max(one.Mark.Line, 1), Column: max(one.Mark.Column, 1), Message: "this is not YAML: " + strings.TrimPrefix(one.Message, "yaml: ")})
		return
	}
	p.errs = append(p.errs, &Error{File: p.rel, Line: 1, Column: 1, Message: "this is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
}

// key is a key that may stand in a mapping, and who reads its value.
type key struct {
	name string
	read func(value *yaml.Node)
}

// mapping reads the keys of node. An unknown one is an error with the nearest
// that is known.
func (p *parser) mapping(node *yaml.Node, what string, keys []key) {
	node = resolve(node)
	if node.Kind != yaml.MappingNode {
		p.errorf(node, "here stands %s where %s is wanted, as in %q", kindName(node), what, keys[0].name+": …")
		return
	}
	p.unique(node)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		at := slices.IndexFunc(keys, func(k key) bool { return k.name == name.Value })
		switch {
		case name.Tag == "!!merge":
			p.errorf(name, "%q (merging) is not known here; write under “defaults:” what all jobs share, or give the value itself an alias", name.Value)
		case at < 0:
			p.errorf(name, "%q is not %s%s", name.Value, what, suggestion(name.Value, keys))
		case keys[at].read != nil:
			keys[at].read(resolve(value))
		}
	}
}

// unique says which keys of a mapping stand there twice, which the YAML reader
// lets pass.
func (p *parser) unique(mapping *yaml.Node) {
	lines := map[string]int{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name := mapping.Content[i]
		if line, twice := lines[name.Value]; twice {
			p.errorf(name, "%q stands twice, first in line %d", name.Value, line)
			continue
		}
		lines[name.Value] = name.Line
	}
}

func (p *parser) value(mapping *yaml.Node, name string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return resolve(mapping.Content[i+1])
		}
	}
	return nil
}

func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func kindName(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if node.Tag == "!!null" || node.Value == "" {
		return "nothing"
	}
	return strconv.Quote(node.Value)
}

// suggestion names the key that was probably meant, or all there are.
func suggestion(name string, keys []key) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return job.Suggestion(name, names)
}

// text reads a scalar. Numbers and the like are taken as they are written.
func (p *parser) text(node *yaml.Node, what string) (string, bool) {
	node = resolve(node)
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		p.errorf(node, "here stands %s where %s is wanted", kindName(node), what)
		return "", false
	}
	return node.Value, true
}

// texts reads a list of scalars, or one.
func (p *parser) texts(node *yaml.Node, what string) (list []string, nodes []*yaml.Node) {
	node = resolve(node)
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	for _, item := range items {
		if text, ok := p.text(item, what); ok {
			list, nodes = append(list, text), append(nodes, resolve(item))
		}
	}
	return list, nodes
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

// pythonMemory is the address space that a Go program wants to begin with.
const pythonMemory = 1 << 30

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

// read takes a scalar through its parser.
func read[T any](p *parser, node *yaml.Node, what string, to *T, parse func(string) (T, error)) {
	text, ok := p.text(node, what)
	if !ok {
		return
	}
	v, err := parse(text)
	if err != nil {
		p.errorf(node, "%v", err)
		return
	}
	*to = v
}

func oneOf[T ~string](choices []T) func(string) (T, error) {
	return func(text string) (T, error) { return job.OneOf(text, choices) }
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

func (p *parser) env(node *yaml.Node, j *job.Job) {
	if node.Kind != yaml.MappingNode {
		p.errorf(node, "here stands %s where variables are wanted, as in {MARKET: KR}", kindName(node))
		return
	}
	// defaults and the job's own list share no memory.
	j.Env = slices.Clone(j.Env)
	p.unique(node)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i]
		if name.Value == "" || strings.ContainsAny(name.Value, "= \t$") {
			p.errorf(name, "%q is not a variable's name", name.Value)
			continue
		}
		if strings.HasPrefix(name.Value, "BELFRY_") {
			p.errorf(name, "%s is set by belfry; choose another name", name.Value)
			continue
		}
		if value, ok := p.text(node.Content[i+1], "a value"); ok {
			j.Env = slices.DeleteFunc(j.Env, func(v crontab.Var) bool { return v.Name == name.Value })
			j.Env = append(j.Env, crontab.Var{Name: name.Value, Value: value})
		}
	}
}

// secrets reads the names of the variables that a job gets from the file of
// secrets. Whether they are in it is seen when an attempt starts: a mistake there
// is no other job's.
func (p *parser) secrets(node *yaml.Node, j *job.Job) {
	list, nodes := p.texts(node, "the name of a secret")
	j.Secrets, j.SecretsFile = list, ""
	if len(list) > 0 {
		j.SecretsFile = p.path(secrets.FileName)
	}
	for i, name := range list {
		if err := secrets.CheckName(name); err != nil {
			p.errorf(nodes[i], "%v", err)
		} else if slices.Contains(list[:i], name) {
			p.errorf(nodes[i], "the secret %s stands twice", name)
		}
	}
}

// python reads what is to be installed for a job. That the file is there is a
// matter of the project; what stands in it, of the day on which it is installed.
func (p *parser) python(node *yaml.Node, j *job.Job) {
	j.Python = job.Python{}
	requirements := func(n *yaml.Node) {
		text, ok := p.text(n, "a requirements file")
		if !ok {
			return
		}
		j.Python.Requirements = p.path(text)
		if err := readable(j.Python.Requirements); err != nil {
			p.errorf(n, "%q, the requirements of %s: %v", text, cmp.Or(j.Name, "all jobs"), err)
		}
	}
	if node.Kind == yaml.ScalarNode {
		requirements(node)
		return
	}
	p.mapping(node, "a key of python", []key{
		{"requirements", requirements},
		{"version", func(n *yaml.Node) { read(p, n, "a version", &j.Python.Version, job.ParseVersions) }},
	})
	if node.Kind == yaml.MappingNode && len(node.Content) == 0 {
		p.errorf(node, "python says nothing; give it requirements, a version, or both")
	}
}

// readable says why a file cannot be read.
func readable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file")
	case err == nil && !info.Mode().IsRegular():
		return errors.New("it is no file")
	case err == nil:
		var file *os.File
		if file, err = os.Open(path); err == nil {
			err = file.Close()
		}
	}
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		err = wrong.Err
	}
	return err
}

func (p *parser) retry(node *yaml.Node, j *job.Job) {
	if node.Kind == yaml.ScalarNode {
		read(p, node, "a number of attempts", &j.Retry.Attempts, job.ParseAttempts)
		return
	}
	p.mapping(node, "a key of retry", []key{
		{"attempts", func(n *yaml.Node) { read(p, n, "a number of attempts", &j.Retry.Attempts, job.ParseAttempts) }},
		{"backoff", func(n *yaml.Node) { read(p, n, "a duration", &j.Retry.Backoff, job.ParseDuration) }},
		{"max_backoff", func(n *yaml.Node) { read(p, n, "a duration", &j.Retry.MaxBackoff, job.ParseDuration) }},
		{"on_exit", func(n *yaml.Node) {
			list, nodes := p.texts(n, "an exit code")
			j.Retry.OnExit = nil
			for i, text := range list {
				code, err := job.ParseExitCode(text)
				switch {
				case err != nil:
					p.errorf(nodes[i], "%v", err)
				case !slices.Contains(j.Retry.OnExit, code):
					j.Retry.OnExit = append(j.Retry.OnExit, code)
				}
			}
		}},
	})
}

// pools reads the pools that a job takes a place in. Whether they are there is
// known when the whole file has been read.
func (p *parser) pools(node *yaml.Node, j *job.Job) {
	list, nodes := p.texts(node, "a pool's name")
	j.Pools = list
	for i := range list {
		p.pooled = append(p.pooled, pooled{nodes[i], list, i})
	}
}

type pooled struct {
	node  *yaml.Node
	names []string
	i     int
}

func (p *parser) checkPools() {
	told := map[*yaml.Node]bool{} // those of defaults are read for each job
	for _, at := range p.pooled {
		if err := job.CheckPool(at.names, at.i, p.project.Daemon.Pools); err != nil && !told[at.node] {
			told[at.node] = true
			p.errorf(at.node, "%v", err)
		}
	}
}

// limits reads what a job may use, resource by resource.
func (p *parser) limits(node *yaml.Node, j *job.Job) {
	limits := map[string]job.Limit{}
	for _, l := range j.Limits { // of defaults
		limits[l.Resource] = l
	}
	var keys []key
	for _, resource := range job.Resources {
		keys = append(keys, key{resource, func(n *yaml.Node) {
			l := limits[resource]
			read(p, n, "a limit", &l, func(text string) (job.Limit, error) { return job.ParseLimit(resource, text) })
			limits[resource] = l
		}})
	}
	p.mapping(node, "a limit", keys)
	j.Limits = nil
	for _, resource := range job.Resources {
		if l, ok := limits[resource]; ok {
			j.Limits = append(j.Limits, l)
		}
	}
}

func (p *parser) publish(node *yaml.Node, j *job.Job) {
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	j.Publish, p.targets[j.Name] = nil, nil
	for _, item := range items {
		item = resolve(item)
		at := item
		var target job.Target
		var s3Only []*yaml.Node // values that mean nothing to a folder
		forS3 := func(name string, read func(*yaml.Node)) key {
			return key{name, func(n *yaml.Node) { s3Only = append(s3Only, n); read(n) }}
		}
		if item.Kind == yaml.ScalarNode {
			target.To, _ = p.text(item, "a target")
		} else {
			p.mapping(item, "a key of publish", []key{
				{"to", func(n *yaml.Node) {
					at = n
					target.To, _ = p.text(n, "a target")
				}},
				{"from", func(n *yaml.Node) {
					target.From, _ = p.text(n, "a folder of the output")
					if target.From != "" && !filepath.IsLocal(target.From) {
						p.errorf(n, "%q does not lie in the output", target.From)
					}
				}},
				{"mode", func(n *yaml.Node) {
					read(p, n, "a mode", &target.Mode, oneOf(job.Modes))
				}},
				{"parallel", func(n *yaml.Node) { read(p, n, "a number of files", &target.Parallel, job.ParseParallel) }},
				forS3("part_size", func(n *yaml.Node) { read(p, n, "a size", &target.PartSize, job.ParsePartSize) }),
				forS3("storage_class", func(n *yaml.Node) { read(p, n, "a storage class", &target.StorageClass, job.ParseStorageClass) }),
				forS3("sse", func(n *yaml.Node) { read(p, n, "an encryption", &target.SSE, oneOf(job.Encryptions)) }),
				forS3("kms_key", func(n *yaml.Node) { target.KMSKey, _ = p.text(n, "a key") }),
				forS3("metadata", func(n *yaml.Node) { p.metadata(n, &target) }),
				forS3("path_style", func(n *yaml.Node) { read(p, n, "true or false", &target.PathStyle, parseBool) }),
				{"if_empty", func(n *yaml.Node) {
					read(p, n, "error or ok", &j.IfEmpty, oneOf([]job.IfEmpty{job.IfEmptyError, job.IfEmptyOK}))
				}},
			})
		}
		if target.To == "" {
			p.errorf(item, "publish needs a target: a folder or s3://bucket/prefix/")
			continue
		}
		if !strings.HasPrefix(target.To, "s3://") && !strings.HasPrefix(target.To, "$") {
			for _, n := range s3Only {
				p.errorf(n, "this is for targets on S3, and %q is a folder", target.To)
			}
		}
		switch {
		case target.KMSKey != "" && target.SSE == job.EncryptAES256:
			p.errorf(item, "kms_key says nothing with sse: %s; write sse: %s", target.SSE, job.EncryptKMS)
		case target.KMSKey != "" && target.SSE == "":
			target.SSE = job.EncryptKMS
		}
		for _, other := range j.Publish {
			if filepath.Clean(other.To) == filepath.Clean(target.To) {
				p.errorf(item, "%q stands twice: each target can take one set of files", target.To)
			}
		}
		j.Publish, p.targets[j.Name] = append(j.Publish, target), append(p.targets[j.Name], at)
	}
}

// shared refuses targets that two firings would have in common.
func (p *parser) shared() {
	if len(p.errs) > 0 {
		return // dates need schedules that are right
	}
	for _, s := range job.FindShared(p.project.Jobs, p.defaults.Now) {
		p.errorf(p.targets[s.Job.Name][s.Target], "%s: %s", s.Job.Name, s.Message)
	}
}

func (p *parser) metadata(node *yaml.Node, target *job.Target) {
	if node.Kind != yaml.MappingNode {
		p.errorf(node, "here stands %s where names and values are wanted, as in {team: music}", kindName(node))
		return
	}
	p.unique(node)
	target.Metadata = map[string]string{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i]
		if err := job.CheckMetadata(name.Value); err != nil {
			p.errorf(name, "%v", err)
			continue
		}
		if value, ok := p.text(node.Content[i+1], "a value"); ok {
			target.Metadata[name.Value] = value
		}
	}
}

func parseBool(text string) (*bool, error) {
	switch text {
	case "true", "false":
		yes := text == "true"
		return &yes, nil
	}
	return nil, fmt.Errorf("%q is not one of true, false", text)
}

func (p *parser) notify(node *yaml.Node, j *job.Job) {
	events := []job.Event{job.OnFailure, job.OnRecovery, job.OnSuccess, job.OnLate, job.OnOutput}
	p.mapping(node, "a key of notify", []key{
		{"to", func(n *yaml.Node) {
			list, nodes := p.texts(n, "an address")
			j.Notify.To = nil
			for i, to := range list {
				address, found := strings.CutPrefix(to, "mailto:")
				if !found || address == "" {
					p.errorf(nodes[i], "%q is not an address that belfry can write to; mail is mailto:NAME or mailto:NAME@HOST", to)
					continue
				}
				j.Notify.To = append(j.Notify.To, address)
			}
		}},
		{"on", func(n *yaml.Node) {
			list, nodes := p.texts(n, "an event")
			j.Notify.On = nil
			for i, text := range list {
				event, err := job.OneOf(text, events)
				if err != nil {
					p.errorf(nodes[i], "%v", err)
				}
				j.Notify.On = append(j.Notify.On, event)
			}
		}},
	})
}

// after checks what comes after what, puts parents before their children, and
// gives each child without a schedule those of its parents.
func (p *parser) after() {
	byName := map[string]*job.Job{}
	for _, j := range p.project.Jobs {
		byName[j.Name] = j
	}
	for _, j := range p.project.Jobs {
		for i, parent := range j.After {
			switch {
			case byName[parent] == nil:
				p.errorf(p.lines[j.Name], "%s comes after %q, which is not a job of this file%s", j.Name, parent, nearestJob(parent, p.project.Jobs))
			case slices.Contains(j.After[:i], parent):
				p.errorf(p.lines[j.Name], "%s comes after %q twice", j.Name, parent)
			case onlyReboot(byName[parent]):
				p.errorf(p.lines[j.Name], "%s comes after %q, which runs at @reboot only: nothing comes after that", j.Name, parent)
			}
		}
		if len(j.After) > 0 && onlyReboot(j) {
			p.errorf(p.lines[j.Name], "%s runs at @reboot only, and so comes after nothing; take after away, or give it a time", j.Name)
		}
	}
	if len(p.errs) > 0 {
		return
	}
	if cycle := findCycle(p.project.Jobs, byName); cycle != nil {
		p.errorf(p.lines[cycle[0]], "these jobs wait for each other: %s", strings.Join(append(cycle, cycle[0]), " → "))
		return
	}
	var sorted []*job.Job
	done := map[string]bool{}
	var add func(j *job.Job)
	add = func(j *job.Job) {
		if done[j.Name] {
			return
		}
		done[j.Name] = true
		for _, parent := range j.After {
			add(byName[parent])
		}
		sorted = append(sorted, j)
		p.inherit(j, byName)
	}
	for _, j := range p.project.Jobs {
		add(j)
	}
	p.project.Jobs = sorted
}

// inherit gives j the rhythms of its parents, when it has none of its own.
func (p *parser) inherit(j *job.Job, byName map[string]*job.Job) {
	if len(j.Schedules) > 0 {
		return
	}
	for _, name := range j.After {
		parent := byName[name]
		j.Zone = parent.Zone
		for _, r := range parent.Rhythms() {
			if len(r.Schedules) > 0 && !slices.ContainsFunc(j.Inherited, r.Equal) {
				j.Inherited = append(j.Inherited, r)
			}
		}
	}
}

func onlyReboot(j *job.Job) bool {
	return len(j.Schedules) > 0 && !slices.ContainsFunc(j.Schedules, func(s crontab.Schedule) bool { return !s.Reboot() })
}

func nearestJob(name string, jobs []*job.Job) string {
	var keys []key
	for _, j := range jobs {
		keys = append(keys, key{name: j.Name})
	}
	return suggestion(name, keys)
}

// findCycle gives the names of jobs that wait for each other, or nil.
func findCycle(jobs []*job.Job, byName map[string]*job.Job) []string {
	state := map[string]int{} // 1: on the path, 2: done
	var path []string
	var visit func(j *job.Job) []string
	visit = func(j *job.Job) []string {
		state[j.Name] = 1
		path = append(path, j.Name)
		for _, parent := range j.After {
			if state[parent] == 1 {
				return slices.Clone(path[slices.Index(path, parent):])
			}
			if state[parent] == 0 {
				if cycle := visit(byName[parent]); cycle != nil {
					return cycle
				}
			}
		}
		path = path[:len(path)-1]
		state[j.Name] = 2
		return nil
	}
	for _, j := range jobs {
		if state[j.Name] == 0 {
			if cycle := visit(j); cycle != nil {
				return cycle
			}
		}
	}
	return nil
}

package project

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"belfry/crontab"
	"belfry/internal/job"
)

// Draft is what a belfry.yaml is written of.
type Draft struct {
	Comment string         // at the head of the file; may have several lines
	Zone    *time.Location // of the file
	Jobs    []DraftJob
}

// DraftJob is a job of a draft. Its name is unique among them, and its settings
// are those that Parse would read: a $ in a value of its environment begins a
// name, and $$ is a dollar. What an entry of a crontab cannot have (after, limits,
// secrets, several targets) is not written.
type DraftJob struct {
	*job.Job
	Comment string // above it
}

// Text gives the belfry.yaml that Parse reads as these jobs. What they all have
// in common stands in its defaults. An error names what the format cannot hold.
func (d Draft) Text() ([]byte, error) {
	all := make([]*mapping, len(d.Jobs))
	for i, j := range d.Jobs {
		var err error
		if all[i], err = d.job(j.Job); err != nil {
			return nil, fmt.Errorf("%s (%s): %w", j.Name, j.Source, err)
		}
	}
	file := &mapping{}
	file.add("timezone", scalar(d.Zone.String()))
	if len(all) > 1 {
		if shared := common(all); len(shared.Content) > 0 {
			file.add("defaults", &shared.Node)
		}
	}
	jobs := &mapping{}
	for i, j := range d.Jobs {
		jobs.add(j.Name, &all[i].Node)
		jobs.Content[len(jobs.Content)-2].HeadComment = j.Comment
	}
	file.add("jobs", &jobs.Node)
	file.HeadComment = d.Comment
	text, err := yaml.Dump(&file.Node, yaml.WithV4Defaults(), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", FileName, err)
	}
	return append(bytes.TrimRight(text, "\n"), '\n'), nil
}

// mapping is a YAML mapping that is being made.
type mapping struct{ yaml.Node }

func (m *mapping) add(key string, value *yaml.Node) {
	m.Kind = yaml.MappingNode
	m.Content = append(m.Content, scalar(key), value)
}

func (m *mapping) get(key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

func (m *mapping) remove(key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// quoted is a scalar that looks like a text to people too: a schedule, a command.
func quoted(text string) *yaml.Node {
	node := scalar(text)
	node.Style = yaml.DoubleQuotedStyle
	return node
}

func list(texts []string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, text := range texts {
		node.Content = append(node.Content, scalar(text))
	}
	return node
}

// job gives the keys of a job, in the order in which docs/belfry.yaml has them.
func (d Draft) job(j *job.Job) (*mapping, error) {
	m := &mapping{}
	schedules := j.DrawnTexts()
	for i, text := range schedules {
		schedules[i] = strings.Join(strings.Fields(text), " ")
	}
	if len(schedules) == 1 {
		m.add("schedule", quoted(schedules[0]))
	} else if len(schedules) > 1 {
		m.add("schedule", list(schedules))
	}
	if j.Zone.String() != d.Zone.String() {
		m.add("timezone", scalar(j.Zone.String()))
	}
	texts := []string{j.Command.Text, j.Stdin, j.Dir}
	if j.Command.Args == nil {
		m.add("command", scalar(j.Command.Text))
	} else {
		texts = append(texts, j.Command.Args...)
		m.add("command", list(j.Command.Args))
	}
	if j.Dir != "" {
		m.add("dir", scalar(j.Dir))
	}
	if j.Stdin != "" {
		m.add("stdin", scalar(j.Stdin))
	}
	if len(j.Env) > 0 {
		env := &mapping{}
		for _, v := range j.Env {
			if !envName(v.Name) {
				return nil, fmt.Errorf("%q cannot be the name of a variable here", v.Name)
			}
			env.add(v.Name, scalar(v.Value))
			texts = append(texts, v.Value)
		}
		m.add("env", &env.Node)
	}
	if slices.ContainsFunc(texts, func(text string) bool { return !utf8.ValidString(text) }) {
		return nil, fmt.Errorf("it is not UTF-8, and a %s is", FileName)
	}
	d.policies(m, j)
	return m, nil
}

func (d Draft) policies(m *mapping, j *job.Job) {
	span := func(key string, value time.Duration) {
		if value > 0 {
			m.add(key, scalar(job.DurationText(value)))
		}
	}
	word := func(key, value string) {
		if value != "" {
			m.add(key, scalar(value))
		}
	}
	span("timeout", j.Timeout)
	span("kill_after", j.KillAfter)
	word("catch_up", string(j.CatchUp))
	span("catch_up_window", j.CatchUpWindow)
	word("overlap", string(j.Overlap))
	span("start_within", j.StartWithin)
	span("finish_by", j.FinishBy)
	if j.Retry.Attempts > 1 {
		m.add("retry", scalar(strconv.Itoa(j.Retry.Attempts)))
		m.get("retry").Tag = "!!int"
	}
	if len(j.Publish) > 0 {
		word("publish", j.Publish[0].To)
	}
	notify := &mapping{}
	if len(j.Notify.To) > 0 {
		to := make([]string, len(j.Notify.To))
		for i, address := range j.Notify.To {
			to[i] = "mailto:" + address
		}
		notify.add("to", list(to))
	}
	on := make([]string, len(j.Notify.On))
	for i, event := range j.Notify.On {
		on[i] = string(event)
	}
	notify.add("on", list(on))
	notify.Style = yaml.FlowStyle
	m.add("notify", &notify.Node)
	if j.Umask != "" {
		m.add("umask", quoted(j.Umask))
	}
	if j.Nice != 0 {
		m.add("nice", scalar(strconv.Itoa(j.Nice)))
		m.get("nice").Tag = "!!int"
	}
	switch {
	case j.LogLimit < 0:
		word("log_limit", "none")
	case j.LogLimit > 0:
		word("log_limit", strconv.FormatInt(j.LogLimit, 10))
		m.get("log_limit").Tag = "!!int"
	}
}

// common takes out of all mappings what a default can say: the value that most
// of them have of a key that all of them have, and what their envs share.
func common(all []*mapping) *mapping {
	shared := &mapping{}
	for _, key := range []string{"timezone", "dir", "catch_up", "catch_up_window", "overlap", "notify"} {
		value := usual(all, key)
		if value == nil {
			continue
		}
		shared.add(key, value)
		for _, m := range all {
			if same(m.get(key), value) {
				m.remove(key)
			}
		}
	}
	if env := commonEnv(all); len(env.Content) > 0 {
		shared.add("env", env)
	}
	return shared
}

// usual gives the most frequent value of a key; nil when a mapping has none.
func usual(all []*mapping, key string) (most *yaml.Node) {
	best := 1 // one of a kind stays where it is
	for _, m := range all {
		value := m.get(key)
		if value == nil {
			return nil
		}
		n := 0
		for _, other := range all {
			if same(other.get(key), value) {
				n++
			}
		}
		if n > best {
			best, most = n, value
		}
	}
	return most
}

// commonEnv takes the variables that are the same everywhere out of each env: a
// job cannot be without one that the defaults have.
func commonEnv(all []*mapping) *yaml.Node {
	envs := make([]*mapping, len(all))
	for i, m := range all {
		env := m.get("env")
		if env == nil {
			return &yaml.Node{}
		}
		envs[i] = &mapping{Node: *env}
	}
	shared := &mapping{}
	for first, i := all[0].get("env"), 0; i+1 < len(first.Content); i += 2 {
		if name, value := first.Content[i].Value, first.Content[i+1]; inAll(envs, name, value) {
			shared.add(name, value)
		}
	}
	for i, env := range envs {
		for at := 0; at+1 < len(shared.Content); at += 2 {
			env.remove(shared.Content[at].Value)
		}
		if len(env.Content) == 0 {
			all[i].remove("env")
		} else {
			*all[i].get("env") = env.Node
		}
	}
	return &shared.Node
}

func inAll(all []*mapping, key string, value *yaml.Node) bool {
	return !slices.ContainsFunc(all, func(m *mapping) bool { return !same(m.get(key), value) })
}

func same(a, b *yaml.Node) bool {
	if a == nil || b == nil || a.Kind != b.Kind || a.Value != b.Value || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// envName reports whether env takes a variable of that name.
func envName(name string) bool {
	return name != "" && !strings.ContainsAny(name, "= \t$") && !strings.HasPrefix(name, "BELFRY_")
}

// Literal writes a value of the environment so that no $ in it means a variable.
func Literal(v crontab.Var) crontab.Var {
	return crontab.Var{Name: v.Name, Value: strings.ReplaceAll(v.Value, "$", "$$")}
}

package project

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/secrets"
)

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

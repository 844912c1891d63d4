package project

import (
	"slices"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

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

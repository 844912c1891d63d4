package project

import (
	"net"
	"strconv"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

// daemon reads the settings of the daemon.
func (p *parser) daemon(node *yaml.Node) {
	d := &p.project.Daemon
	p.mapping(node, "a setting of the daemon", []key{
		{"slots", func(n *yaml.Node) { p.places(n, "slots", &d.Slots) }},
		{"pools", func(n *yaml.Node) { p.poolSizes(n) }},
		{"retention", func(n *yaml.Node) { p.retention(n) }},
		{"listen", func(n *yaml.Node) {
			if text, ok := p.text(n, "an address"); ok {
				d.Listen = text
				_, port, err := net.SplitHostPort(text)
				if number, portErr := strconv.Atoi(port); err != nil || portErr != nil || number < 0 || number > 65535 {
					p.errorf(n, "%q is not an address to listen on; write a host and a port, as in \"127.0.0.1:8080\"", text)
				}
			}
		}},
		{"publish_patience", func(n *yaml.Node) { read(p, n, "a duration", &d.PublishPatience, job.ParseSpan) }},
		{"mail", func(n *yaml.Node) {
			p.mapping(n, "a setting of mail", []key{{"spool", func(n *yaml.Node) {
				if text, ok := p.text(n, "a folder"); ok {
					d.MailSpool = p.path(text)
				}
			}}})
		}},
	})
}

// places reads how many attempts there may be at once.
func (p *parser) places(node *yaml.Node, what string, to *int) {
	text, ok := p.text(node, "a number")
	if !ok {
		return
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 100000 {
		p.errorf(node, "%q is not a number of %s (1–100000)", text, what)
	}
	*to = n
}

// poolSizes reads the pools there are. One whose size is wrong is there all
// the same: the jobs that name it are not to blame.
func (p *parser) poolSizes(node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		p.errorf(node, "here stands %s where pools are wanted, as in {api: 2}", kindName(node))
		return
	}
	p.unique(node)
	pools := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i]
		if err := job.CheckName(name.Value); err != nil {
			p.errorf(name, "%v", err)
			continue
		}
		size := 0
		p.places(node.Content[i+1], "places in a pool", &size)
		pools[name.Value] = max(size, 1)
	}
	p.project.Daemon.Pools = pools
}

func (p *parser) retention(node *yaml.Node) {
	keep := &p.project.Daemon.Retention
	var failedAge *yaml.Node
	p.mapping(node, "a setting of retention", []key{
		{"age", func(n *yaml.Node) { read(p, n, "a duration", &keep.Age, parseAge) }},
		{"failed_age", func(n *yaml.Node) {
			failedAge = n
			read(p, n, "a duration", &keep.FailedAge, parseAge)
		}},
		{"runs", func(n *yaml.Node) { p.runs(n, &keep.PerJob) }},
	})
	switch {
	case keep.FailedAge == Forever || keep.Age != Forever && keep.FailedAge >= keep.Age:
	case failedAge == nil:
		keep.FailedAge = keep.Age
	default:
		p.errorf(failedAge, "failed runs are what one looks for later: failed_age cannot be shorter than age")
	}
}

func (p *parser) runs(node *yaml.Node, to *int) {
	text, ok := p.text(node, "a number of runs")
	if !ok {
		return
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		p.errorf(node, "%q is not a number of runs to keep of each job", text)
	}
	*to = n
}

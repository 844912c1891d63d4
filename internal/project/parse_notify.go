package project

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

func (p *parser) notify(node *yaml.Node, j *job.Job) {
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
				event, err := job.OneOf(text, job.Events)
				if err != nil {
					p.errorf(nodes[i], "%v", err)
				}
				j.Notify.On = append(j.Notify.On, event)
			}
		}},
	})
}

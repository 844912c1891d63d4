package project

import (
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

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
					read(p, n, "error or ok", &j.IfEmpty, oneOf(job.IfEmpties))
				}},
			})
		}
		if err := job.CheckTarget(target.To); err != nil {
			p.errorf(at, "%v", err)
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

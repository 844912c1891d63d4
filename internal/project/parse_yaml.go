package project

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

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

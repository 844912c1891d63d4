package project

import (
	"cmp"
	"errors"
	"io/fs"
	"os"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

// pythonMemory is the address space that a Go program wants to begin with.
const pythonMemory = 1 << 30

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

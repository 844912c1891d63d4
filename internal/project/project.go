// Package project answers: what does a project folder hold? It finds and reads
// belfry.yaml, strictly, and is the only reader of YAML.
package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"belfry/internal/job"
)

// FileName is the name of a project's file.
const FileName = "belfry.yaml"

// Project is what a belfry.yaml says.
type Project struct {
	Name   string
	Dir    string // absolute
	File   string // absolute path of belfry.yaml
	Zone   *time.Location
	Jobs   []*job.Job // in file order, but parents before the jobs that come after them
	Hosts  []Host     // in file order
	Daemon Daemon
}

// Daemon holds the settings of the daemon that serves the project.
type Daemon struct {
	Slots     int            // attempts at once; 0: the default
	Pools     map[string]int // name → attempts at once
	Retention Retention
	Listen    string // address of the web page; empty: none
	MailSpool string // folder of mailboxes; empty: the system's
	// PublishPatience is how long a publish is tried that fails for what may go by
	// itself; 0: the default.
	PublishPatience time.Duration
}

// Retention says how long the account of what has ended is kept.
type Retention struct {
	Age       time.Duration // of runs that succeeded, or were skipped; or Forever
	FailedAge time.Duration // of those that failed or were lost; not less than Age
	PerJob    int           // how many of each job at most; 0: any number
}

// Forever is an age that never comes.
const Forever time.Duration = 0

// DefaultRetention is that of a daemon that is not told.
var DefaultRetention = Retention{Age: 90 * 24 * time.Hour, FailedAge: 365 * 24 * time.Hour}

// parseAge reads a duration or the word forever.
func parseAge(text string) (time.Duration, error) {
	if text == "forever" {
		return Forever, nil
	}
	age, err := job.ParseSpan(text)
	if err != nil {
		return 0, fmt.Errorf("%w, or write forever", err)
	}
	return age, nil
}

// Error is one thing that is wrong in a belfry.yaml. Lines and columns count
// from 1.
type Error struct {
	File         string
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors are all that is wrong in a file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// ErrNoProject is returned by Find.
var ErrNoProject = errors.New("no " + FileName)

// Find looks for belfry.yaml in dir and the folders above it, as git looks for
// its own.
func Find(dir string) (file string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", FileName, err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		file := filepath.Join(at, FileName)
		info, err := os.Stat(file)
		if err == nil && !info.IsDir() {
			return file, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find %s: %w", FileName, err)
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%w in %s or a folder above it", ErrNoProject, dir)
		}
	}
}

// Defaults are what a belfry.yaml leaves open.
type Defaults struct {
	Owner string
	Zone  *time.Location // of the host
	Now   time.Time      // from when on firings are to have targets of their own
	Home  string         // of the person, for the keys of hosts
}

// Load reads the belfry.yaml at file. Everything that is wrong in it is in the
// error, which is Errors unless the file could not be read.
func Load(file string, d Defaults) (*Project, error) {
	text, file, err := readProject(file)
	if err != nil {
		return nil, err
	}
	return Parse(text, file, d)
}

// Name is that of a project whose belfry.yaml may be wrong otherwise: one that was
// deployed can be steered all the same. The error is as Load's.
func Name(file string) (string, error) {
	text, file, err := readProject(file)
	if err != nil {
		return "", err
	}
	p := newParser(file, Defaults{Zone: time.UTC})
	p.document(text)
	if p.project.Name == "" {
		return "", p.errs
	}
	return p.project.Name, nil
}

func readProject(file string) (text []byte, path string, err error) {
	file, err = filepath.Abs(file)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", file, err)
	}
	text, err = ReadFile(file)
	var named *fs.PathError
	if err != nil && !errors.As(err, &named) { // whose error names the file
		err = fmt.Errorf("%s: %w", file, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the project: %w", err)
	}
	return text, file, nil
}

// Init is the belfry.yaml that a new project begins with.
const Init = `# Belfry runs these jobs. "belfry run hello" tries one now; "belfry serve" keeps the times.
timezone: %s

jobs:
  hello:
    schedule: "0 1 * * *"           # every day at 01:00 in the time zone above
    command: echo "hello, today is $BELFRY_DATE"
    timeout: 10m
    # What the command leaves in $BELFRY_OUTPUT is put here, whole or not at all:
    # publish: out/dt=$BELFRY_DATE/
`

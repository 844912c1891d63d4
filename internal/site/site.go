// Package site answers: what does a project have on a host that it was deployed
// to, and how does the host go from one release to the next? It works on the host
// itself, asked through ssh, and goes on when that connection is cut: a switch that
// has begun ends in the new release or in the one before, never between.
package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"belfry/api"
	"belfry/internal/project"
)

// The parts of a site.
const (
	CurrentName  = "current"  // link to the release that runs
	BinaryName   = "belfry"   // link to the binary that runs
	BinariesName = "bin"      // a folder for each binary, called by its hash
	IncomingName = "incoming" // files that were sent and are in no release yet, called by their hash
	DataName     = "data"
	historyName  = "history.json"
	LockName     = "deploy.lock" // held for a step of a deploy; the first thing that one makes here
)

// deployed are the parts that go with a removal, and remains those that stay.
var (
	deployed = []string{CurrentName, BinaryName, project.ReleasesName, BinariesName, IncomingName, historyName, ServiceName}
	remains  = []string{DataName, project.SharedName, supervisorName, HoldName, LockName}
)

// Parts are all that belfry makes in a site. The last is there as long as any other.
func Parts() []string { return slices.Concat(deployed, remains) }

// Site is a project's folder on this host.
type Site struct {
	Root string // absolute
	// Check loads the jobs of a release, and says what is wrong with them here.
	Check func(ctx context.Context, dir string) error
	// Deploy is the ID of the deploy that a step is part of; empty: it is not said.
	Deploy string
}

// Deployed is a release that ran well, with the binary that ran it.
type Deployed struct {
	Release string    `json:"release"`
	Binary  string    `json:"binary"`
	At      time.Time `json:"at,omitzero"` // when it was seen to run well
}

func (d Deployed) same(other Deployed) bool {
	return d.Release == other.Release && d.Binary == other.Binary
}

func (s *Site) path(names ...string) string {
	return filepath.Join(append([]string{s.Root}, names...)...)
}

func (s *Site) release(name string) string { return s.path(project.ReleasesName, name) }
func (s *Site) list(name string) string    { return s.path(project.ReleasesName, name+".json") }

// Running is the release and the binary that the links name; empty without.
func (s *Site) Running() Deployed {
	var d Deployed
	if to, err := os.Readlink(s.path(CurrentName)); err == nil {
		d.Release = filepath.Base(to)
	}
	if to, err := os.Readlink(s.path(BinaryName)); err == nil {
		d.Binary = filepath.Base(filepath.Dir(to))
	}
	return d
}

// History has the releases that ran well, the newest last.
func (s *Site) History() ([]Deployed, error) {
	text, err := os.ReadFile(s.path(historyName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of releases: %w", err)
	}
	var list []Deployed
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read the history of releases %s: %w", s.path(historyName), err)
	}
	return list, nil
}

// remember notes a release that runs well, and strikes the one that was gone back from;
// empty: none was.
func (s *Site) remember(d, left Deployed) error {
	list, err := s.History()
	if err != nil {
		list = nil // a damaged one is begun anew
	}
	list = slices.DeleteFunc(list, func(other Deployed) bool { return other.same(d) || other.same(left) })
	if len(list) > 20 {
		list = list[len(list)-20:]
	}
	return s.write(append(list, d))
}

// forget strikes a release.
func (s *Site) forget(d Deployed) error {
	list, err := s.History()
	if err != nil || !slices.ContainsFunc(list, d.same) {
		return err
	}
	return s.write(slices.DeleteFunc(list, d.same))
}

func (s *Site) write(history []Deployed) error {
	text, err := json.Marshal(history)
	if err != nil {
		return err
	}
	return replace(s.path(historyName), text, 0o600)
}

// replace writes a file so that whoever reads it finds the old text or the new. Where it
// is a link to one, it stays that.
func replace(path string, text []byte, mode fs.FileMode) error {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it has its place by then, or is of no use
	_, err = file.Write(text)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// point makes a link name another place, at once.
func point(link, to string) error {
	if there, err := os.Readlink(link); err == nil && there == to {
		return nil
	}
	next := link + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, next); err != nil {
		return err
	}
	return os.Rename(next, link)
}

// health asks the daemon of the site how it is.
func (s *Site) health(ctx context.Context) (api.Health, error) {
	client := api.Unix(s.path(DataName))
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return client.Health(ctx)
}

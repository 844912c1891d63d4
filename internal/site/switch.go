package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"belfry/api"
	"belfry/internal/project"
)

// Change asks for another release.
type Change struct {
	Release string  `json:"release"`
	Binary  string  `json:"binary"`
	Service Service `json:"service"`
	// Patience is how long the daemon may take to say that it is well, in seconds;
	// 0: a minute.
	Patience int `json:"patience,omitempty"`

	back bool // to an earlier release: the next time further back
}

// Result says what became of a change.
type Result struct {
	Running  Deployed `json:"running"`            // what runs now
	Before   Deployed `json:"before"`             // what ran before; empty: nothing did
	Error    string   `json:"error,omitempty"`    // why it was gone back; empty: it was not
	Log      string   `json:"log,omitempty"`      // the end of what the daemon said then
	Restored string   `json:"restored,omitempty"` // the release that was gone back to
	Stuck    string   `json:"stuck,omitempty"`    // why going back failed, too
	Removed  []string `json:"removed,omitempty"`  // old releases
}

// Switch goes over to a release and waits until the daemon runs it well. If that
// fails it goes back to what ran well before.
func (s *Site) Switch(ctx context.Context, c Change) (r Result, err error) {
	err = s.locked(ctx, func() error {
		r, err = s.change(ctx, c)
		return err
	})
	return r, err
}

// Rollback goes back to the release before the one that runs.
func (s *Site) Rollback(ctx context.Context, patience int) (r Result, err error) {
	err = s.locked(ctx, func() error {
		running := s.Running()
		history, err := s.History()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(history, running.same)
		if at < 0 {
			at = len(history)
		}
		if at == 0 {
			return errors.New("there is no earlier release here to go back to")
		}
		service, err := s.service()
		if err != nil {
			return err
		}
		to := history[at-1]
		r, err = s.change(ctx, Change{Release: to.Release, Binary: to.Binary, Service: service, Patience: patience, back: true})
		return err
	})
	return r, err
}

func (s *Site) change(ctx context.Context, c Change) (Result, error) {
	history, err := s.History()
	if err != nil {
		return Result{}, err
	}
	var before Deployed // the last that ran well, which is not what a broken switch left
	running := s.Running()
	switch noted := slices.IndexFunc(history, running.same); {
	case noted >= 0:
		before = history[noted]
	case s.runsWell(ctx, running): // the switch to it ended before that could be noted
		before = running
		if err := s.remember(before, Deployed{}); err != nil {
			return Result{}, fmt.Errorf("note the release that runs: %w", err)
		}
	case len(history) > 0:
		before = history[len(history)-1]
	}
	r := Result{Before: before, Running: before}
	next := Deployed{Release: c.Release, Binary: c.Binary, At: time.Now().UTC()}
	if !s.whole(c.Release) {
		return r, fmt.Errorf("the release %s is not here", c.Release)
	}
	if wrong := s.Check(ctx, s.release(c.Release)); wrong != nil {
		r.Error = wrong.Error()
		return r, nil //nolint:nilerr // that the release is wrong is the result
	}
	was, _ := s.service() // none yet: it is installed now
	if next.same(running) && was == c.Service && s.runsWell(ctx, running) {
		return r, nil // another deploy, which this one waited for, has done it
	}
	patience := time.Minute
	if c.Patience > 0 {
		patience = time.Duration(c.Patience) * time.Second
	}
	// The newest of the history is what runs or what ran before it, also when this is cut
	// short: what is gone back from, or becomes the newest again, is struck before the
	// links change.
	var left Deployed
	if c.back {
		left = running
	}
	struck := cmp.Or(left, next)
	_ = s.forget(struck) // on a full disk one can still go back
	failed := s.run(ctx, next, c.Service, patience)
	if failed == nil {
		r.Running = next
		if err := s.remember(next, left); err != nil {
			return r, fmt.Errorf("note the release: %w", err)
		}
		r.Removed, err = s.collect(ctx)
		return r, err
	}
	r.Error, r.Log = failed.Error(), c.Service.log(s)
	if before.Release == "" {
		err := errors.Join(c.Service.remove(ctx, s), os.RemoveAll(s.path(CurrentName)), os.RemoveAll(s.path(BinaryName)))
		if err != nil {
			r.Stuck = fmt.Sprintf("taking it back: %v", err)
		}
		return r, nil
	}
	if was.Kind == "" {
		was = c.Service
	}
	back := s.run(ctx, before, was, patience)
	if struck.same(before) { // the links name it again, however it runs
		if err := s.remember(before, Deployed{}); err != nil {
			back = errors.Join(back, fmt.Errorf("note it: %w", err))
		}
	}
	if back != nil {
		r.Stuck = fmt.Sprintf("going back to release %s: %v", before.Release, back)
		return r, nil
	}
	r.Restored = before.Release
	return r, nil
}

// run makes a release the one that runs, and waits until it runs well.
func (s *Site) run(ctx context.Context, d Deployed, service Service, patience time.Duration) error {
	old, _ := s.health(ctx) // nobody may be there
	// The binary first: a new one runs an old release, not the other way round.
	if err := point(s.path(BinaryName), filepath.Join(BinariesName, d.Binary, BinaryName)); err != nil {
		return fmt.Errorf("switch the binary: %w", err)
	}
	if err := point(s.path(CurrentName), filepath.Join(project.ReleasesName, d.Release)); err != nil {
		return fmt.Errorf("switch the release: %w", err)
	}
	if err := service.install(ctx, s); err != nil {
		return err
	}
	if err := service.restart(ctx, s); err != nil {
		return err
	}
	return s.awaitHealth(ctx, d.Release, old, patience)
}

// runsWell reports whether a daemon runs a release well, with a binary.
func (s *Site) runsWell(ctx context.Context, d Deployed) bool {
	health, err := s.health(ctx)
	if err != nil || !health.Plans || health.Release != d.Release || health.Error != "" || health.Problem != "" {
		return false
	}
	// A switch that was cut short may have left the link at another binary than the daemon's.
	executes, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", health.PID))
	return err == nil && filepath.Base(filepath.Dir(executes)) == d.Binary
}

// awaitHealth returns when another daemon than the old one runs the release well.
func (s *Site) awaitHealth(ctx context.Context, release string, old api.Health, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		var last error
		health, err := s.health(ctx)
		switch {
		case err != nil:
			last = errors.New("no daemon answers")
		case health.PID == old.PID && health.Since.Equal(old.Since):
			last = errors.New("the old daemon still runs")
		case !health.Plans:
			last = errors.New("somebody's command holds the data folder")
		case health.Release != release:
			last = fmt.Errorf("the daemon runs the release %q", health.Release)
		case health.Problem != "":
			return errors.New(health.Problem)
		case health.Error != "" && health.Error != old.Error: // what ailed it before is no fault of the release
			last = errors.New(health.Error)
		default:
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not run well within %s: %w", patience, last)
		}
	}
}

// kept is how many releases are kept to go back to.
const kept = 3

// awaited is how long a binary that never ran is kept for the deploy that sent it,
// which may wait for its turn.
const awaited = time.Hour

// collect removes old releases that nothing uses, and binaries.
func (s *Site) collect(ctx context.Context) ([]string, error) {
	health, err := s.health(ctx)
	if err != nil || health.ReleasesError != "" {
		return nil, nil //nolint:nilerr // what is in use is not known; the next deploy collects
	}
	history, err := s.History()
	if err != nil {
		return nil, err
	}
	ran := map[string]bool{}
	for _, d := range history {
		ran[d.Binary] = true
	}
	if len(history) > kept {
		history = history[len(history)-kept:]
	}
	keep := map[string]bool{}
	for _, d := range append(history, s.Running()) {
		keep[d.Release], keep[d.Binary] = true, true
	}
	for _, name := range health.Releases {
		keep[name] = true
	}
	var removed []string
	for _, kind := range []string{project.ReleasesName, BinariesName} {
		entries, err := os.ReadDir(s.path(kind))
		if err != nil {
			return removed, fmt.Errorf("collect old releases: %w", err)
		}
		for _, entry := range entries {
			name := strings.TrimSuffix(entry.Name(), ".json")
			if keep[name] || kind == BinariesName && !ran[name] && young(entry) {
				continue
			}
			// The list goes first: without it what is left is no release.
			for _, part := range []string{name + ".json", name} {
				if err := os.RemoveAll(s.path(kind, part)); err != nil {
					return removed, fmt.Errorf("collect old releases: %w", err)
				}
			}
			if kind == project.ReleasesName && entry.IsDir() && !strings.HasPrefix(name, ".") {
				removed = append(removed, name)
			}
		}
	}
	return removed, nil
}

// young reports whether a folder may be waiting for the deploy that made it.
func young(entry os.DirEntry) bool {
	info, err := entry.Info()
	return err == nil && time.Since(info.ModTime()) < awaited
}

// Status is what a site has.
type Status struct {
	Project  string      `json:"project"`
	Root     string      `json:"root"`
	Running  Deployed    `json:"running"`
	Service  string      `json:"service"`
	Health   *api.Health `json:"health"` // nil: no daemon answers
	History  []Deployed  `json:"history"`
	Releases []string    `json:"releases"` // that are here
}

// Status looks at everything and changes nothing.
func (s *Site) Status(ctx context.Context) (Status, error) {
	st := Status{Project: filepath.Base(s.Root), Root: s.Root, Running: s.Running(), Releases: []string{}}
	var err error
	if st.History, err = s.History(); err != nil {
		return st, err
	}
	if at := slices.IndexFunc(st.History, st.Running.same); at >= 0 {
		st.Running = st.History[at]
	}
	if service, err := s.service(); err == nil {
		st.Service = service.Kind
	}
	if health, err := s.health(ctx); err == nil {
		st.Health = &health
	}
	entries, err := os.ReadDir(s.path(project.ReleasesName))
	if err != nil {
		return st, fmt.Errorf("list the releases: %w", err)
	}
	for _, entry := range entries {
		if _, _, ok := project.ReleaseAt(s.release(entry.Name())); ok {
			st.Releases = append(st.Releases, entry.Name())
		}
	}
	return st, nil
}

// Removal says how much is to go.
type Removal struct {
	All bool `json:"all"` // the account of runs and what was published, too
}

// Remove ends the daemon and takes away what was deployed. The account of runs
// and what was published stay, unless all is to go.
func (s *Site) Remove(ctx context.Context, all bool) error {
	return s.locked(ctx, func() error {
		service, installed := s.service()
		health, err := s.health(ctx)
		if err != nil && installed == nil {
			// Only a daemon knows whether jobs run that an earlier one began.
			if service.restart(ctx, s) == nil && s.awaitHealth(ctx, s.Running().Release, health, 10*time.Second) == nil {
				health, err = s.health(ctx)
			}
		}
		switch {
		case err == nil && health.ReleasesError != "":
			return fmt.Errorf("whether jobs are running is not known: %s", health.ReleasesError)
		case err == nil && len(health.Releases) > 0:
			return errors.New("jobs are running; wait for them, or stop them with belfry stop")
		}
		if installed == nil {
			if err := service.remove(ctx, s); err != nil {
				return err
			}
		}
		for _, keeper := range health.Keepers { // which waits a while for another daemon
			if keeper.PID > 1 {
				if err := end(keeper.PID); err != nil {
					return err
				}
			}
		}
		lists, err := s.lists()
		if err != nil {
			return err
		}
		for _, list := range lists { // without them what is left is no release
			if err := os.Remove(list); err != nil {
				return fmt.Errorf("remove what was deployed: %w", err)
			}
		}
		if all {
			return os.RemoveAll(s.Root)
		}
		for _, name := range deployed {
			if err := os.RemoveAll(s.path(name)); err != nil {
				return fmt.Errorf("remove what was deployed: %w", err)
			}
		}
		return nil
	})
}

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/project"
	"belfry/internal/publish"
	"belfry/internal/run"
	"belfry/internal/store"
)

// jobs are the jobs of a daemon's sources, as they are loaded now.
type jobs struct {
	o     Options
	store *store.Store
	log   *slog.Logger
	asked chan struct{} // to read the sources anew
	alive time.Time     // when a daemon was last here before this one

	loading sync.Mutex // held while the sources are read and saved

	mu      sync.Mutex
	list    []plan.Job           // guarded by mu
	byID    map[string]*job.Job  // guarded by mu; by the store's id
	daemon  project.Daemon       // guarded by mu
	stamps  map[string]fileStamp // guarded by mu; of the sources when they were read
	problem string               // guarded by mu: why the newest sources are not in use
}

// fileStamp tells whether a file is still the one that was read.
type fileStamp struct {
	size  int64
	mtime time.Time
}

func newJobs(o Options, s *store.Store) *jobs {
	j := &jobs{o: o, store: s, log: o.Log.With("component", "jobs"), asked: make(chan struct{}, 1), byID: map[string]*job.Job{}}
	if info, err := os.Stat(filepath.Join(o.Data, "alive")); err == nil {
		j.alive = info.ModTime()
	}
	return j
}

// sources lists the files that jobs come from.
func (j *jobs) sources() []string {
	if j.o.Project == "" {
		return j.o.Crontabs
	}
	return append([]string{j.o.Project}, j.o.Crontabs...)
}

// load reads all sources and makes what they say the jobs from now on. With an
// error nothing has changed.
func (j *jobs) load(ctx context.Context, now time.Time) error {
	stamps := map[string]fileStamp{}
	for _, file := range j.sources() {
		stamps[file] = stampOf(file) // before it is read: a later write is seen
	}
	loaded, settings, err := read(j.o)
	if err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.stamps, j.problem = stamps, err.Error() // the same mistake is told once
		return err
	}
	var list []plan.Job
	byID := map[string]*job.Job{}
	for _, source := range loaded {
		known, err := j.store.KnownJobs(ctx, source.project)
		if err != nil {
			return err
		}
		keys := job.Match(source.jobs, known)
		saved, err := j.store.SaveJobs(ctx, source.project, source.jobs, keys, now)
		if err != nil {
			return err
		}
		for _, p := range saved {
			byID[p.Key] = p.Job
		}
		list = append(list, saved...)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list, j.byID, j.daemon, j.stamps, j.problem = list, byID, settings, stamps, ""
	return nil
}

// reload loads again when a source has changed. A bad file leaves the old jobs
// running and is told once.
func (j *jobs) reload(ctx context.Context, now time.Time) {
	j.loading.Lock()
	defer j.loading.Unlock()
	j.mu.Lock()
	changed := false
	for file, stamp := range j.stamps {
		changed = changed || stamp != stampOf(file)
	}
	j.mu.Unlock()
	if !changed {
		return
	}
	if err := j.load(ctx, now); err != nil {
		j.o.Told("the changed jobs cannot be used, the old ones go on: " + err.Error())
		return
	}
	j.log.Info("read the jobs anew", "jobs", len(j.planned()))
}

func stampOf(file string) fileStamp {
	info, err := os.Stat(file)
	if err != nil {
		return fileStamp{size: -1}
	}
	return fileStamp{info.Size(), info.ModTime()}
}

func (j *jobs) planned() []plan.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.list
}

func (j *jobs) byKey(key string) (*job.Job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	found, ok := j.byID[key]
	return found, ok
}

func (j *jobs) settings() project.Daemon {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.daemon
}

func (j *jobs) trouble() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.problem
}

// source is a project's jobs as they were read, before they are matched with
// the ones that are known.
type source struct {
	project string
	jobs    []*job.Job
}

// SourceError says what is wrong in a file that a person wrote.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// read reads the project and the crontabs of o. A line of a crontab that is
// wrong is told and left out; anything wrong in a belfry.yaml, or a
// file that cannot be read, is an error.
func read(o Options) ([]source, project.Daemon, error) {
	var sources []source
	settings := project.Daemon{Retention: project.DefaultRetention}
	if o.Project != "" {
		p, err := project.Load(o.Project, project.Defaults{Owner: o.Host.User, Zone: o.Zone})
		if err != nil {
			return nil, settings, &SourceError{err}
		}
		settings = p.Daemon
		sources = append(sources, source{p.Name, p.Jobs})
	}
	for _, path := range o.Crontabs {
		s, err := loadCrontab(path, o, settings.Pools)
		if err != nil {
			return nil, settings, &SourceError{err}
		}
		if slices.ContainsFunc(sources, func(other source) bool { return other.project == s.project }) {
			return nil, settings, &SourceError{fmt.Errorf("two projects are called %q: %s is one; give the other another file name, or a project: of its own", s.project, path)}
		}
		sources = append(sources, s)
	}
	for _, s := range sources {
		for _, j := range s.jobs {
			for _, target := range j.Publish {
				to := run.AbsoluteTarget(target.To, cmp.Or(j.Dir, o.Host.Home))
				err := publish.Check(to)
				if err == nil && run.Inside(to, o.Data) {
					err = fmt.Errorf("%q lies in belfry's own data folder; choose a place outside of %s", target.To, o.Data)
				}
				if err != nil {
					return nil, settings, &SourceError{fmt.Errorf("%s: publish of %s: %w", j.Source, j.Name, err)}
				}
			}
		}
	}
	return sources, settings, nil
}

func loadCrontab(path string, o Options, pools map[string]int) (source, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return source{}, fmt.Errorf("read crontab %s: %w", path, err)
	}
	text, err := os.ReadFile(abs)
	if err != nil {
		reason := err
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			reason = pathErr.Err
		}
		return source{}, fmt.Errorf("read crontab %s: %w", path, reason)
	}
	file, err := crontab.Parse(path, text, crontab.Options{Seed: o.Host.Name + abs, Root: o.Host.User == "root"})
	var wrong crontab.Errors
	if err != nil && !errors.As(err, &wrong) {
		return source{}, err
	}
	name := projectName(abs)
	jobs, more := job.FromCrontab(file, job.Crontab{Project: name, Owner: o.Host.User, File: abs, Zone: o.Zone, Pools: pools})
	for _, e := range append(wrong, more...) {
		o.Told("this line is left out: " + e.Error())
	}
	return source{name, jobs}, nil
}

// projectName calls a crontab given by its path after its file.
func projectName(path string) string { return filepath.Base(path) }

package daemon

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/store"
)

const (
	// newAtOnce is how many new jobs of a crontab are written before they are
	// planned. Those of a longer one are planned first: to write a hundred thousand
	// takes seconds.
	newAtOnce = 1000
	// newPiece is how many are then written in one transaction: what is due waits
	// for one of them.
	newPiece = 2000
)

// unwritten are the jobs of long crontabs that are planned and may have no row in
// the account yet. They get theirs piece by piece, and before anything refers to
// them.
type unwritten struct {
	store *store.Store
	come  chan struct{} // there are some

	turn sync.Mutex // held while a piece is written and a source stamped; taken before mu

	mu      sync.Mutex
	sources []newSource // guarded by mu
}

// newSource is what is left of a source: jobs, in the order of their keys, and
// then its stamp.
type newSource struct {
	project, stamp string
	jobs           []plan.Job
}

func newUnwritten(s *store.Store) *unwritten {
	return &unwritten{store: s, come: make(chan struct{}, 1)}
}

func (n *unwritten) put(s newSource) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sources = append(n.sources, s)
	select {
	case n.come <- struct{}{}:
	default:
	}
}

// first gives the source that is written now.
func (n *unwritten) first() (s newSource, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sources) == 0 {
		return newSource{}, false
	}
	return n.sources[0], true
}

// piece writes the next few, and says whether there is more to do.
func (n *unwritten) piece(ctx context.Context) (more bool, err error) {
	n.turn.Lock()
	defer n.turn.Unlock()
	s, more := n.first()
	if !more {
		return false, nil
	}
	size := min(newPiece, len(s.jobs))
	if size == 0 {
		err = n.store.StampJobs(ctx, s.project, s.stamp)
	} else {
		err = n.store.AddJobs(ctx, s.jobs[:size])
	}
	if err != nil {
		return true, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sources[0].jobs = s.jobs[size:]; size == 0 {
		n.sources = slices.Delete(n.sources, 0, 1)
	}
	return len(n.sources) > 0, nil
}

// all writes all.
func (n *unwritten) all(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = n.piece(ctx); err != nil {
			return err
		}
	}
	return nil
}

// before writes the jobs of which the keys are given, if they are among these:
// something is about to refer to them.
func (n *unwritten) before(ctx context.Context, keys ...string) error {
	var jobs []plan.Job
	n.mu.Lock()
	for _, s := range n.sources {
		for _, key := range keys {
			if at, ok := slices.BinarySearchFunc(s.jobs, key, func(j plan.Job, key string) int { return strings.Compare(j.Key, key) }); ok {
				jobs = append(jobs, s.jobs[at])
			}
		}
	}
	n.mu.Unlock()
	if len(jobs) == 0 {
		return nil
	}
	return n.store.AddJobs(ctx, jobs)
}

// writeNew writes new jobs whenever there are some.
func (j *jobs) writeNew(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.store.unwritten.come:
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = j.store.unwritten.piece(ctx); err != nil && ctx.Err() == nil {
				j.log.Error("write new jobs, will try again", "error", err)
				timer := time.NewTimer(time.Second)
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
				timer.Stop()
			}
		}
		rest()
	}
}

// saveLong makes what was read from a long crontab its project's jobs, and leaves
// those that are new to writeNew. Since when they count stands in the store before
// they are planned: a daemon that comes after a crash accounts for their firings,
// written or not.
func (j *jobs) saveLong(ctx context.Context, s source, keys []string, begun, now time.Time) ([]plan.Job, error) {
	if begun.IsZero() {
		begun = now
		if err := j.store.BeginJobs(ctx, s.project, s.stamp, now); err != nil {
			return nil, err
		}
	}
	var known, added []*job.Job
	var theirs []string
	for i, key := range keys {
		if key == "" {
			added = append(added, s.jobs[i])
		} else {
			known, theirs = append(known, s.jobs[i]), append(theirs, key)
		}
	}
	old, err := j.store.SaveJobs(ctx, s.project, known, theirs, now)
	if err != nil {
		return nil, err
	}
	fresh := store.NewJobs(added, begun)
	saved := make([]plan.Job, len(keys))
	oldest, newest := old, fresh
	for i, key := range keys {
		if key == "" {
			saved[i], newest = newest[0], newest[1:]
		} else {
			saved[i], oldest = oldest[0], oldest[1:]
		}
	}
	slices.SortFunc(fresh, func(a, b plan.Job) int { return strings.Compare(a.Key, b.Key) })
	j.store.unwritten.put(newSource{s.project, s.stamp, fresh})
	return saved, nil
}

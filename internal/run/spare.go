package run

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"belfry/internal/proc"
)

// coming is a number of runs that will be due in a while.
type coming struct {
	runs int
	in   time.Duration
}

// Prepare has directories made for so many runs that will be due in a while. It
// never blocks.
func (r *Runner) Prepare(runs int, in time.Duration) {
	if runs < 2*batches[0] {
		return
	}
	select {
	case r.coming <- coming{runs, in}:
	default:
	}
}

// prepare waits for half of the time: what was due now is to start first.
func (r *Runner) prepare(ctx context.Context, next coming) {
	wait := time.NewTimer(next.in / 2)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return
	case <-wait.C:
	}
	if err := r.spares.fill(next.runs); err != nil { // then each is made when it is needed
		r.o.Log.Debug("make directories ahead", "error", err)
	}
}

// spares are directories for first attempts, made while nothing is due: making a
// thousand at the full minute would keep the thousandth job waiting for a fifth of
// a second. Each is renamed into its run's place when it is needed. Those that a
// daemon leaves are its successor's.
type spares struct {
	dir string // below the runs', with a name that no run has

	filling sync.Mutex // one fills at a time

	mu   sync.Mutex
	free []string // guarded by mu
	read bool     // guarded by mu: what the last daemon left is among them
}

// spareName is of a folder among those of the runs.
const spareName = ".spare"

// spareMost bounds how many are kept ready.
const spareMost = 5000

// fill makes as many as are wanted.
func (s *spares) fill(n int) error {
	s.filling.Lock()
	defer s.filling.Unlock()
	n = min(n, spareMost)
	s.mu.Lock()
	if !s.read {
		entries, err := os.ReadDir(s.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.mu.Unlock()
			return err
		}
		for _, entry := range entries {
			s.free = append(s.free, filepath.Join(s.dir, entry.Name()))
		}
		s.read = true
	}
	missing := n - len(s.free)
	s.mu.Unlock()
	for ; missing > 0; missing-- {
		path := filepath.Join(s.dir, NewID(time.Now()))
		attempt := filepath.Join(path, "1")
		if err := os.MkdirAll(attempt, 0o700); err != nil {
			return err
		}
		if err := proc.Prepare(attempt); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(attempt, outputName), 0o700); err != nil { // last: it says that the rest is there
			return err
		}
		s.mu.Lock()
		s.free = append(s.free, path)
		s.mu.Unlock()
	}
	return nil
}

// take puts one in the place of a run's directory; false when there is none, or
// it has one.
func (s *spares) take(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return false
	}
	spare := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	// One that a daemon had not finished when it was killed has no output.
	if _, err := os.Lstat(filepath.Join(spare, "1", outputName)); err != nil {
		_ = os.RemoveAll(spare)
		return false
	}
	if err := os.Rename(spare, path); err != nil {
		s.free = append(s.free, spare)
		return false
	}
	return true
}

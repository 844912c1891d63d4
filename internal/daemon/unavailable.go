package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/run"
	"belfry/internal/store"
)

// mendStore is what a person does about a store that takes nothing.
const mendStore = "make room, or make the folder writable: belfry goes on by itself; jobs that are running go on meanwhile"

// account is the store, watched for whether it can be written. While the disk
// is full or read-only no run can be claimed, so none starts; what is due is
// planned when there is room again.
type account struct {
	*store.Store
	data string
	log  *slog.Logger
	now  func() time.Time
	// writable is called when the store takes again what is written.
	writable func()
	// unwritten are the jobs that the store is still to be given.
	unwritten *unwritten

	mu      sync.Mutex
	problem string    // guarded by mu: why nothing can be written; empty: it can
	since   time.Time // guarded by mu
	probing chan struct{}
}

func newAccount(s *store.Store, data string, log *slog.Logger, now func() time.Time) *account {
	a := &account{Store: s, data: data, log: log, now: now, writable: func() {}, unwritten: newUnwritten(s), probing: make(chan struct{}, 1)}
	s.Watch(a.wrote)
	return a
}

// AddRuns is the store's.
func (a *account) AddRuns(ctx context.Context, runs []run.Run, definitions []job.Definition, act *run.Act) error {
	keys := make([]string, len(runs))
	for i, r := range runs {
		keys[i] = r.Job
	}
	if err := a.unwritten.before(ctx, keys...); err != nil {
		return err
	}
	return a.Store.AddRuns(ctx, runs, definitions, act)
}

// Pause is the store's.
func (a *account) Pause(ctx context.Context, key string, paused bool, now time.Time, act *run.Act) (time.Time, error) {
	if err := a.unwritten.before(ctx, key); err != nil {
		return time.Time{}, err
	}
	return a.Store.Pause(ctx, key, paused, now, act)
}

// unavailable reports whether an error says that the disk takes nothing: it is
// full, or read-only.
func unavailable(err error) bool {
	if err == nil {
		return false
	}
	var full *store.UnavailableError
	if errors.As(err, &full) {
		return true
	}
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// diskError is an error of a write that the disk did not take, with what
// somebody who asked for the write is told.
type diskError struct {
	told  *api.Error
	cause error
}

func (e *diskError) Error() string   { return e.cause.Error() }
func (e *diskError) Unwrap() []error { return []error{e.told, e.cause} }

// wrote notes that a write, of the store or beside it, met a disk that takes
// nothing, says so once, and gives what whoever asked for the write is told.
func (a *account) wrote(err error) error {
	if !unavailable(err) {
		return err
	}
	a.mu.Lock()
	was := a.problem
	problem := fmt.Sprintf("the account in %s cannot be written, so no run is started: %v", a.data, err)
	a.problem = problem
	if was == "" {
		a.since = a.now()
	}
	a.mu.Unlock()
	if was == "" {
		a.log.Warn("the account cannot be written, no run is started until it can", "data", a.data, "cause", err.Error())
		select {
		case a.probing <- struct{}{}:
		default:
		}
	}
	return &diskError{&api.Error{Code: api.Unavailable, Message: problem, Hint: mendStore}, err}
}

// again says that the store can be written again. A write that succeeded would
// not tell: on a full disk it may have found a place that was used before.
func (a *account) again() {
	a.mu.Lock()
	since := a.since
	a.problem = ""
	a.mu.Unlock()
	a.log.Info("the account can be written again", "data", a.data, "after", a.now().Sub(since).Round(time.Second).String())
	a.writable()
}

// trouble says why the store cannot be written; empty: it can.
func (a *account) trouble() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.problem
}

// probe tries, while the store cannot be written, whether the folder can, and
// has everybody try again when it can.
func (a *account) probe(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.probing:
		}
		for a.trouble() != "" {
			timer := time.NewTimer(time.Second)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
			if err := TryWrite(a.data); err == nil {
				a.again()
			}
		}
	}
}

// TryWrite writes a file into a folder, more than a transaction does, and removes
// it.
func TryWrite(dir string) error {
	file, err := os.CreateTemp(dir, ".try-")
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 1<<20))
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close(), os.Remove(file.Name()))
}

// once is a log in which the errors of a store that cannot be written are left
// out: each loop meets them every second, and account says them once.
type once struct{ slog.Handler }

func (h once) Handle(ctx context.Context, r slog.Record) error {
	told := false
	r.Attrs(func(attr slog.Attr) bool {
		err, isError := attr.Value.Any().(error)
		told = isError && unavailable(err)
		return !told
	})
	if told {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h once) WithAttrs(attrs []slog.Attr) slog.Handler { return once{h.Handler.WithAttrs(attrs)} }
func (h once) WithGroup(name string) slog.Handler       { return once{h.Handler.WithGroup(name)} }

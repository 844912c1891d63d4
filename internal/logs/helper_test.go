package logs_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/logs"
	"belfry/internal/store"
)

// place is a data folder with the directory of one attempt.
type place struct {
	t     testing.TB
	dir   string
	store *watched
	shut  func() // closes the store
	a     logs.Attempt
}

// watched is a store that tells when something was saved.
type watched struct {
	*store.Store
	saved chan struct{}

	mu       sync.Mutex
	fail     error  // guarded by mu
	onceSync func() // guarded by mu; called at the next sync
}

func (w *watched) SyncLogs(ctx context.Context) error {
	w.mu.Lock()
	f := w.onceSync
	w.onceSync = nil
	w.mu.Unlock()
	if f != nil {
		f()
	}
	return w.Store.SyncLogs(ctx)
}

func (w *watched) atNextSync(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onceSync = f
}

func (w *watched) SaveLogs(ctx context.Context, changes []logs.Change) error {
	w.mu.Lock()
	err := w.fail
	w.mu.Unlock()
	if err == nil {
		err = w.Store.SaveLogs(ctx, changes)
	}
	select {
	case w.saved <- struct{}{}:
	default:
	}
	return err
}

func (w *watched) failWith(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

func newPlace(t testing.TB, a logs.Attempt) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir(), a: a}
	p.open()
	t.Cleanup(func() { p.shut() })
	p.a.Run, p.a.Number, p.a.Dir = "RUN", 1, filepath.Join(p.dir, "runs", "RUN", "1")
	p.check(os.MkdirAll(p.a.Dir, 0o700))
	return p
}

func (p *place) open() {
	p.t.Helper()
	s, err := store.Open(context.Background(), p.dir)
	p.check(err)
	p.store = &watched{Store: s, saved: make(chan struct{}, 1)}
	p.shut = sync.OnceFunc(func() { p.check(s.Close()) })
}

func (p *place) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) log() string { return filepath.Join(p.a.Dir, logs.FileName) }

// print appends to the log, as a job does.
func (p *place) print(text string) {
	p.t.Helper()
	file, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.check(err)
	_, err = file.WriteString(text)
	p.check(errors.Join(err, file.Close()))
}

// follow runs a Follower of the attempt until stop is called.
func (p *place) follow() (f *logs.Follower, stop func()) {
	p.t.Helper()
	f = logs.NewFollower(logs.Options{Store: p.store, Now: time.Now, Sync: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		p.check(<-done)
	})
	p.t.Cleanup(stop)
	f.Add(p.a)
	return f, stop
}

// reader gives a Reader of the attempt that f follows.
func (p *place) reader(f *logs.Follower) *logs.Reader {
	p.t.Helper()
	r, ok := f.Reader(p.a.Run, p.a.Number)
	if !ok {
		p.t.Fatal("the attempt is not followed")
	}
	return r
}

// until waits, from one save to the next, until something is true.
func (p *place) until(what string, is func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !is() {
		select {
		case <-p.store.saved:
		case <-deadline.C:
			p.t.Fatalf("it did not come to be that %s", what)
		}
	}
}

// stored is up to where the store has the log.
func (p *place) stored() int64 {
	p.t.Helper()
	c, _, err := p.store.ChunkBefore(context.Background(), p.a.Run, p.a.Number, 1<<62)
	p.check(err)
	return c.End()
}

func (p *place) closed() bool {
	p.t.Helper()
	needsLinux(p.t)
	l, _, err := p.store.Log(context.Background(), p.a.Run, p.a.Number)
	p.check(err)
	return l.Closed
}

// read gives what a Reader gives from an offset on.
func (p *place) read(offset int64) string {
	p.t.Helper()
	r := logs.NewReader(p.store, p.a)
	r.From(offset)
	return p.rest(r, true)
}

func (p *place) rest(r *logs.Reader, ended bool) string {
	p.t.Helper()
	var all []byte
	for {
		part, err := r.Next(context.Background(), ended)
		if errors.Is(err, io.EOF) {
			return string(all)
		}
		p.check(err)
		all = append(all, part.Text...)
	}
}

// blocks is how much of the disk the log takes, in bytes.
func (p *place) blocks() int64 {
	p.t.Helper()
	var st unix.Stat_t
	p.check(unix.Stat(p.log(), &st))
	return st.Blocks * 512
}

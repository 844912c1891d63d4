// Package daemon wires the parts into one process that owns a data folder: it
// loads the jobs, plans, starts runs, delivers what is owed and answers
// requests. It takes no decisions: those are made in plan and run.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"belfry/api"
	"belfry/internal/notify"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/publish"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
)

// Options say what a daemon serves and where.
type Options struct {
	Data     string   // the data folder; it is made if need be
	Project  string   // path of a belfry.yaml, or empty
	Crontabs []string // paths of crontabs
	// Plan says that it keeps the times. Without it the daemon only does what it
	// is asked for, and Run ends when that is done.
	Plan bool
	// Waiting is called once when a daemon that plans finds an owner that does
	// not, and waits for its end.
	Waiting func(owner string)
	// Told is given sentences for the person who wrote the files, about what is
	// wrong in them.
	Told func(sentence string)

	Host      run.Host
	Zone      *time.Location // of the machine
	MailSpool string         // folder of mailboxes, above the project's setting; empty: the project's, else the system's
	Self      []string       // how to execute this program
	Clock     func() plan.Reading
	Version   string
	Log       *slog.Logger
}

// Daemon is the owner of a data folder.
type Daemon struct {
	o       Options
	since   time.Time
	store   *store.Store
	procs   *proc.Client
	runner  *run.Runner
	outbox  *outbox.Worker
	jobs    *jobs
	changes changes
	folder  *lock // on the data folder
	listen  net.Listener
	last    *plan.Reading // of the newest decision
	finish  chan struct{} // closed when whoever opened it asks for nothing more
}

// Open takes the data folder and makes everything ready; Run sets it going.
// Whoever opens a Daemon must close it.
func Open(ctx context.Context, o Options) (_ *Daemon, err error) {
	d := &Daemon{o: o, since: o.Clock().Wall, finish: make(chan struct{})}
	d.changes.reset()
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, &FolderError{o.Data, err}
	}
	if d.folder, err = own(ctx, o); err != nil {
		return nil, err
	}
	if d.store, err = store.Open(ctx, o.Data); err != nil {
		return nil, err
	}
	if err := d.store.Resume(ctx); err != nil {
		return nil, err
	}
	d.jobs = newJobs(o, d.store)
	if err := d.jobs.load(ctx, d.since); err != nil {
		return nil, err
	}
	d.procs, err = proc.Open(ctx, proc.Options{DataDir: o.Data, Command: append(o.Self, "keeper"), Log: o.Log.With("component", "proc")})
	if err != nil {
		return nil, err
	}
	d.wire()
	if d.listen, err = listen(o.Data); err != nil {
		return nil, err
	}
	return d, nil
}

// wire makes the parts that work on runs.
func (d *Daemon) wire() {
	slots := d.jobs.settings().Slots
	if slots == 0 {
		slots = 4 * runtime.NumCPU()
	}
	var since time.Time
	if !d.o.Plan {
		since = d.since
	}
	d.runner = run.NewRunner(run.Options{
		Node: d.o.Host.Name, Boot: d.o.Clock().Boot, Dir: runsDir(d.o.Data), Slots: slots, Host: d.o.Host, Since: since,
		Store: d.store, Procs: d.procs, Job: d.jobs.byKey, Publish: d.publishItem, Notices: d.notices,
		DropPublish: func(item string) { d.outbox.Drop(item) },
		Changed:     d.changed, Now: d.now, Log: d.o.Log.With("component", "run"),
	})
	spool := d.o.MailSpool
	if spool == "" {
		spool = d.jobs.settings().MailSpool
	}
	d.outbox = outbox.NewWorker(outbox.Options{
		Store: d.store,
		Senders: map[outbox.Kind]outbox.Sender{
			outbox.Publish: publish.New(publish.Options{Command: append(d.o.Self, "publish"), Env: d.runner.Environ, Log: d.o.Log.With("component", "publish")}),
			outbox.Notice:  notify.New(notify.Options{Spool: spool, Log: d.o.Log.With("component", "notify")}),
		},
		Settled: func(ctx context.Context, item outbox.Item, err error) error {
			if item.Kind == outbox.Publish {
				return d.runner.Published(ctx, item, err)
			}
			return d.store.Settle(ctx, item)
		},
		Changed: d.changed, Now: d.now, Log: d.o.Log.With("component", "outbox"),
	})
}

func (d *Daemon) now() time.Time { return d.o.Clock().Wall }

func runsDir(data string) string { return filepath.Join(data, "runs") }

// changed tells everybody who waits, and the outbox, that something is new.
func (d *Daemon) changed() {
	d.changes.broadcast()
	d.outbox.Kick()
}

// Run works until ctx ends or, without Plan, until what it was asked for is
// done. Processes go on after it.
func (d *Daemon) Run(ctx context.Context) error {
	err := d.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it was in the middle of something: the next owner takes it up
	}
	return err
}

func (d *Daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d.o.Plan {
		// Before anything is started: runs that were queued when the last daemon
		// stopped may be too late by now.
		if _, err := d.decide(ctx); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.runner.Run(ctx) })
	group.Go(func() error { return d.outbox.Run(ctx) })
	group.Go(func() error { return d.serve(ctx) })
	group.Go(func() error {
		defer cancel()
		if d.o.Plan {
			return d.plan(ctx)
		}
		return d.untilIdle(ctx)
	})
	return group.Wait()
}

// serve answers requests until ctx ends, and lets those that are under way end.
func (d *Daemon) serve(ctx context.Context) error {
	srv := &http.Server{
		Handler:           server.New(newBackend(d), d.o.Log.With("component", "server")),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(d.o.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(d.listen) }()
	<-ctx.Done()
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := srv.Shutdown(shutdown)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// plan is the loop: look at the clock, write down what is due, have it started,
// sleep until the next firing, at most a minute.
func (d *Daemon) plan(ctx context.Context) error {
	log := d.o.Log.With("component", "plan")
	for {
		if err := d.folder.check(); err != nil {
			return err
		}
		d.touchAlive(log)
		wake, err := d.decide(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("plan", "error", err)
			wake = d.o.Clock().Wall.Add(time.Second)
		}
		timer := time.NewTimer(max(wake.Sub(d.o.Clock().Wall), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-d.jobs.asked: // to read the sources anew
			timer.Stop()
		}
	}
}

// decide plans once and says when to look again.
func (d *Daemon) decide(ctx context.Context) (time.Time, error) {
	reading := d.o.Clock()
	if d.last != nil {
		d.jobs.reload(ctx, reading.Wall)
	}
	clock, err := d.store.Clock(ctx)
	if err != nil {
		return time.Time{}, err
	}
	in := plan.Input{Node: d.o.Host.Name, Now: reading, Last: d.last, Clock: clock, Jobs: d.jobs.calendar()}
	if in.Waits, err = d.store.Waits(ctx); err != nil {
		return time.Time{}, err
	}
	if d.last == nil {
		if in.Queued, err = d.store.QueuedFirings(ctx); err != nil {
			return time.Time{}, err
		}
		in.Alive = d.jobs.alive
	} else if d.last.Wall.After(clock.Mark) {
		in.Clock.Mark = d.last.Wall // planned, with nothing to write
		if in.Clock.Mark.After(in.Clock.High) {
			in.Clock.High = in.Clock.Mark
		}
	}
	decision := plan.Decide(in)
	wrote, err := d.store.Record(ctx, decision, reading.Wall)
	if err != nil {
		return time.Time{}, err
	}
	d.last = &reading
	if wrote {
		d.runner.Kick()
		d.changed()
	}
	return decision.Wake, nil
}

// touchAlive notes that a daemon was here, so that the next one can say how
// long none was.
func (d *Daemon) touchAlive(log *slog.Logger) {
	path := filepath.Join(d.o.Data, "alive")
	now := d.o.Clock().Wall
	err := os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.WriteFile(path, nil, 0o600); err == nil {
			err = os.Chtimes(path, now, now)
		}
	}
	if err != nil {
		log.Error("touch alive", "error", err)
	}
}

// Finish says that whoever opened a daemon that does not plan will ask for
// nothing more: Run returns when everything under way is done.
func (d *Daemon) Finish() { close(d.finish) }

// untilIdle returns after Finish when every run that this daemon was asked for,
// or found under way, has ended and been published, and what it owes has been
// tried.
func (d *Daemon) untilIdle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.finish:
	}
	for {
		changed := d.changes.next()
		if idle, err := d.idle(ctx); idle || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (d *Daemon) idle(ctx context.Context) (bool, error) {
	unfinished, err := d.store.Unfinished(ctx, d.since)
	if err != nil || unfinished > 0 {
		return false, err
	}
	untried, err := d.store.Untried(ctx)
	return untried == 0, err
}

// Close gives everything back, in the reverse order of Open. Jobs go on.
func (d *Daemon) Close() error {
	var errs []error
	if d.listen != nil {
		if err := d.listen.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if d.procs != nil {
		errs = append(errs, d.procs.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.folder != nil {
		errs = append(errs, d.folder.release())
	}
	return errors.Join(errs...)
}

// Client talks to this daemon.
func (d *Daemon) Client() *api.Client { return api.Unix(d.o.Data) }

// Reload makes a planning daemon read its sources now.
func (d *Daemon) Reload() {
	select {
	case d.jobs.asked <- struct{}{}:
	default:
	}
}

// changes lets requests wait for the next change.
type changes struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed at the next change
}

func (c *changes) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ch = make(chan struct{})
}

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ch
}

func (c *changes) broadcast() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ch)
	c.ch = make(chan struct{})
}

// FolderError says that a data folder cannot be used.
type FolderError struct {
	Dir string
	Err error
}

func (e *FolderError) Error() string {
	return fmt.Sprintf("the data folder %s cannot be written: %v", e.Dir, errors.Unwrap(e.Err))
}

func (e *FolderError) Unwrap() error { return e.Err }

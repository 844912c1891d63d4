package run

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/proc"
)

// Processes is what a Runner needs of the keeper.
type Processes interface {
	Start(ctx context.Context, specs []proc.Spec) error
	Hold(ctx context.Context, specs []proc.Spec) (start func(ctx context.Context) error)
	Signal(run string, attempt int, kind proc.StopKind) error
	Events() <-chan proc.Event
	Forget(run string, attempt int) error
	KeeperLost() <-chan string
	Inspect(dir, run string, attempt int) (proc.Status, *proc.Exit, error)
}

// Options are a Runner's surroundings.
type Options struct {
	Node string
	Boot string
	Dir  string // below which each attempt gets its directory
	Host Host
	// Limits gives how many attempts may run at once, as it is now.
	Limits func() Limits
	// Since keeps runs that were queued before it waiting: an owner that does
	// not plan starts only what it was asked for. Zero: all may start.
	Since time.Time

	Store Store
	Procs Processes
	// KillSurvivors ends what lives of an attempt whose keeper is dead, and
	// returns when nothing is left; nil means proc.KillSurvivors.
	KillSurvivors func(dir, run string, attempt int) error
	// Job gives a job as it is defined now.
	Job func(key string) (plan.Job, bool)
	// Publish and Notices make the outbox items that a run owes. What is published is
	// of the attempt that began at began.
	Publish func(j *job.Job, r Run, began time.Time, output string, targets []job.Target) outbox.Item
	Notices func(n News) []outbox.Item
	// Published reads what the Sender says of an item that was sent: what it put where,
	// and as the reason of the run, mostly empty, what it did not.
	Published func(result json.RawMessage) (sets []Published, reason string)
	// Python gives what is executed in the place of the command of a job that runs
	// in a virtual environment.
	Python func(j *job.Job, attempt string) []string
	// DropPublish breaks off what is being sent of an outbox item.
	DropPublish func(item string)
	// Began is called when an attempt is about to be started, or was found
	// running: its output is to be followed, without its secrets. With an error
	// they are not known now. Ended is called when its end is durable. Either may
	// be nil.
	Began func(run Run, j *job.Job, secrets []string, err error)
	Ended func(run Run, how Attempt)
	// Started is called when an attempt has its process, at least once; nil: nobody
	// asks.
	Started func(run Run, started proc.Started)
	// Changed is called after each durable change.
	Changed func()
	// Alive is called each time round, at least once a minute; nil: nobody asks.
	Alive func()
	Now   func() time.Time
	Log   *slog.Logger
}

// Runner walks runs through their lives. One goroutine does all of it.
type Runner struct {
	o     Options
	kick  chan struct{}
	calls chan func(ctx context.Context)
	// live are the running runs, as the store has them.
	live map[string]Run
	// doubtful holds the running attempts whose state must be read from their
	// records: after a restart, and when a keeper died.
	doubtful map[string]bool
	// killed says of attempts without a keeper that were killed what their end
	// means: nobody else can tell.
	killed  map[string]Move
	killing map[string]bool // runs that work is at
	held    atomic.Bool     // nothing is claimed any more
	work    sync.WaitGroup  // kills survivors, makes spares
	spares  *spares
	coming  chan coming
	// told are the attempts that were asked to end for another's sake, by this
	// daemon.
	told map[string]int
	// When late runs were looked for, and when the next one may be late.
	lookedLate, nextLate time.Time
	begun                map[string]int      // run → the attempt that Began was told of
	removed              map[string]*job.Job // hash of a definition → job, of running runs whose job was removed

	mu      sync.Mutex
	defined map[weak.Pointer[job.Job]]job.Definition // guarded by mu; of jobs that ran lately
}

// NewRunner makes a Runner; Run sets it going.
func NewRunner(o Options) *Runner {
	if o.KillSurvivors == nil {
		o.KillSurvivors = proc.KillSurvivors
	}
	if o.Alive == nil {
		o.Alive = func() {}
	}
	return &Runner{
		o:        o,
		kick:     make(chan struct{}, 1),
		calls:    make(chan func(context.Context)),
		live:     map[string]Run{},
		spares:   &spares{dir: filepath.Join(o.Dir, spareName)},
		coming:   make(chan coming, 1),
		doubtful: map[string]bool{},
		killed:   map[string]Move{},
		killing:  map[string]bool{},
		begun:    map[string]int{},
		removed:  map[string]*job.Job{},
		told:     map[string]int{},
		defined:  map[weak.Pointer[job.Job]]job.Definition{},
	}
}

// Kick makes the Runner look at the waiting runs. It never blocks.
func (r *Runner) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Hold keeps the Runner from claiming runs from now on. What is under way goes
// on, and its end is written down.
func (r *Runner) Hold() { r.held.Store(true) }

// Held reports whether nothing is claimed any more.
func (r *Runner) Held() bool { return r.held.Load() }

const (
	// again is how soon a doubtful attempt is looked at again.
	again = time.Second
	// look is how often every running attempt is looked at: a keeper that did
	// not answer when the daemon started sends no events.
	look = time.Minute
)

// Run works until ctx ends. Processes go on; the next Runner adopts them.
func (r *Runner) Run(ctx context.Context) error {
	defer r.work.Wait()
	if err := r.adopt(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		r.o.Alive()
		select {
		case <-ctx.Done():
			return nil
		case event := <-r.o.Procs.Events():
			if !r.ends(ctx, gather(event, r.o.Procs.Events())) {
				continue // they have begun, which changes nothing for those that wait
			}
		case <-r.o.Procs.KeeperLost():
			if err := r.adopt(ctx); err != nil { // the ticker tries again
				r.o.Log.Error("look for attempts of a dead keeper", "error", err)
			}
		case <-ticker.C:
			if err := r.adopt(ctx); err != nil {
				r.o.Log.Error("look at the running attempts", "error", err)
			}
		case call := <-r.calls:
			call(ctx)
		case next := <-r.coming:
			r.work.Go(func() { r.prepare(ctx, next) })
			continue
		case <-r.kick:
		case <-timer.C:
		}
		// What ended while something else took its time must not seem to run still.
		select {
		case event := <-r.o.Procs.Events():
			r.ends(ctx, gather(event, r.o.Procs.Events()))
		default:
		}
		r.settle(ctx)
		timer.Reset(r.pass(ctx))
	}
}

// gather takes what has come together with an event: the ends of a burst share
// a transaction.
func gather(first proc.Event, more <-chan proc.Event) []proc.Event {
	events := []proc.Event{first}
	for len(events) < 1000 {
		select {
		case event, open := <-more:
			if !open {
				return events
			}
			events = append(events, event)
		default:
			return events
		}
	}
	return events
}

// do runs f on the Runner's goroutine and waits for it.
func (r *Runner) do(ctx context.Context, f func(ctx context.Context) error) error {
	done := make(chan error, 1)
	select {
	case r.calls <- func(ctx context.Context) { done <- f(ctx) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done
}

package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"belfry/internal/crash"
)

// Store is what a Worker needs of the store. Each method that changes
// something is one durable transaction.
type Store interface {
	// Pending lists the items that wait, the earliest first.
	Pending(ctx context.Context) ([]Item, error)
	// Begin takes an item; false while another item has one of its targets.
	Begin(ctx context.Context, id string) (bool, error)
	SaveProgress(ctx context.Context, id string, progress json.RawMessage) error
	// Again puts an item back to be tried at next, and keeps when it was created as
	// it is now.
	Again(ctx context.Context, item Item, reason string, next time.Time) error
}

// Options are a Worker's surroundings.
type Options struct {
	Store   Store
	Senders map[Kind]Sender
	// Settled makes the end of an item durable: sent, or refused with err. An
	// error means that it could not, and the item is tried again.
	Settled func(ctx context.Context, item Item, err error) error
	Changed func()
	// Alive is called each time round, at least once a minute; nil: nobody asks.
	Alive func()
	// Patience says how long items of a kind are tried; nil means DefaultPatience.
	Patience func(Kind) time.Duration
	Parallel int // items at once; 0 means 8
	// Whose gives the user whose process, or whose mailbox, may take its time over
	// an item: nobody has more than a quarter of Parallel at once. Empty, or nil: as
	// many as there are.
	Whose func(Item) string
	Now   func() time.Time
	Log   *slog.Logger
}

// DefaultPatience is how long an item is tried.
const DefaultPatience = 24 * time.Hour

// Worker delivers what is owed.
type Worker struct {
	o    Options
	kick chan struct{}

	mu      sync.Mutex
	flights map[string]flight // guarded by mu: the items that are being sent, by id
}

// flight is one item that is being sent.
type flight struct {
	whose  string
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it is no longer sent
}

// errDropped is why a flight ended that Drop ended.
var errDropped = errors.New("dropped")

// Drop makes sure that an item is not being sent, now or by chance in a moment:
// what is under way is broken off and left as it is. Whoever drops an item
// settles it before the Worker looks again.
func (w *Worker) Drop(id string) {
	w.mu.Lock()
	f, flying := w.flights[id]
	w.mu.Unlock()
	if flying {
		f.cancel(errDropped)
		<-f.done
	}
}

// NewWorker makes a Worker; Run sets it going.
func NewWorker(o Options) *Worker {
	if o.Patience == nil {
		o.Patience = func(Kind) time.Duration { return DefaultPatience }
	}
	if o.Parallel == 0 {
		o.Parallel = 8
	}
	if o.Alive == nil {
		o.Alive = func() {}
	}
	if o.Whose == nil {
		o.Whose = func(Item) string { return "" }
	}
	return &Worker{o: o, kick: make(chan struct{}, 1), flights: map[string]flight{}}
}

// Kick makes the Worker look for new items. It never blocks.
func (w *Worker) Kick() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, and returns when no Send is under way.
func (w *Worker) Run(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	free := make(chan struct{}, w.o.Parallel)
	for range w.o.Parallel {
		free <- struct{}{}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.o.Alive()
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
		case <-timer.C:
		}
		timer.Reset(w.pass(ctx, free, &sending))
	}
}

// pass begins every item that is due and says when the next one will be.
func (w *Worker) pass(ctx context.Context, free chan struct{}, sending *sync.WaitGroup) time.Duration {
	items, err := w.o.Store.Pending(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.o.Log.Error("read what is owed", "error", err)
		}
		return time.Second
	}
	now := w.o.Now()
	for _, item := range items {
		// A wait that is longer than any can be was written by a clock that was wrong.
		if wait := item.NextAt.Sub(now); wait > 0 && wait <= longestWait {
			return min(wait, time.Minute)
		}
		whose := w.o.Whose(item)
		if whose != "" && w.flying(whose) >= max(w.o.Parallel/4, 1) {
			continue // the next one of theirs that ends kicks
		}
		select {
		case <-free:
		default:
			return time.Minute // the next one that ends kicks
		}
		flying := w.takeOff(ctx, item.ID, whose)
		begun, err := w.o.Store.Begin(flying, item.ID)
		if err != nil || !begun {
			w.land(item.ID)
			free <- struct{}{}
			if err != nil && context.Cause(flying) != errDropped { //nolint:errorlint // it is that very error
				if ctx.Err() == nil {
					w.o.Log.Error("begin to send", "item", item.ID, "error", err)
				}
				return time.Second
			}
			continue // its target is taken: whoever has it kicks when it ends
		}
		item.Tries++
		// While the machine slept, say, or nobody was there, it was not tried, and
		// nobody's patience was used up.
		item.Created = item.Created.Add(max(now.Sub(item.NextAt), 0))
		sending.Go(func() {
			w.send(ctx, flying, item)
			free <- struct{}{}
			w.Kick()
		})
	}
	return time.Minute
}

// takeOff notes that an item is being sent from now on.
func (w *Worker) takeOff(ctx context.Context, id, whose string) (flying context.Context) {
	flying, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flights[id] = flight{whose, cancel, make(chan struct{})}
	return flying
}

// flying counts what is being sent for a user.
func (w *Worker) flying(whose string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.flights {
		if f.whose == whose {
			n++
		}
	}
	return n
}

// land notes that an item is no longer being sent.
func (w *Worker) land(id string) {
	w.mu.Lock()
	f := w.flights[id]
	delete(w.flights, id)
	w.mu.Unlock()
	f.cancel(nil)
	close(f.done)
}

func (w *Worker) send(ctx, flying context.Context, item Item) {
	log := w.o.Log.With("item", item.ID, "kind", item.Kind, "run", item.Run, "try", item.Tries)
	writing, written := outlasting(ctx)
	defer written()
	save := func(progress json.RawMessage) error { return w.o.Store.SaveProgress(writing, item.ID, progress) }
	crash.Point(crash.Begun)
	result, err := w.sender(item.Kind).Send(flying, item, save)
	crash.Point(crash.Sent)
	dropped := context.Cause(flying) == errDropped //nolint:errorlint // it is that very error
	w.land(item.ID)
	if err != nil && ctx.Err() != nil || dropped {
		return // shut down, or dropped: the item is found as it is
	}
	now := w.o.Now()
	patience := w.o.Patience(item.Kind)
	if err != nil && !IsFinal(err) && now.Sub(item.Created) < patience {
		next := now.Add(wait(item.Tries, rand.Float64()))
		log.Warn("could not send, will try again", "error", err, "next", next)
		w.putBack(writing, log, item, err, next)
		w.o.Changed()
		return
	}
	item.State, item.Result = Sent, result
	if err != nil && !IsFinal(err) {
		err = fmt.Errorf("given up after %d tries in %s: %w", item.Tries, now.Sub(item.Created).Round(time.Second), err)
	}
	if err != nil {
		item.State, item.Error = Refused, err.Error()
		log.Error("refused", "error", err)
	}
	if err := w.o.Settled(writing, item, err); err != nil {
		log.Error("settle what was sent", "error", err)
		w.putBack(writing, log, item, err, now.Add(wait(item.Tries, rand.Float64())))
	}
	crash.Point(crash.Told)
	w.o.Changed()
}

// putBack has an item tried again at next. Until the store takes that, nobody
// else could send to its targets: so it is not given up before ctx ends.
func (w *Worker) putBack(ctx context.Context, log *slog.Logger, item Item, cause error, next time.Time) {
	for {
		err := w.o.Store.Again(ctx, item, cause.Error(), next)
		if err == nil {
			return
		}
		log.Error("put back what could not be sent", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

// lastWrites is how long the end of what was sent may take to become durable when
// the Worker is told to end.
const lastWrites = 5 * time.Second

// outlasting gives a context for what must be written though ctx ends: it ends
// lastWrites after it, or with done.
func outlasting(ctx context.Context) (longer context.Context, done context.CancelFunc) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(lastWrites):
			end()
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		end()
	}
}

func (w *Worker) sender(kind Kind) Sender {
	if s, ok := w.o.Senders[kind]; ok {
		return s
	}
	return noSender{}
}

type noSender struct{}

func (noSender) Send(_ context.Context, item Item, _ func(json.RawMessage) error) (json.RawMessage, error) {
	return nil, Final(fmt.Errorf("this version of belfry cannot send a %s", item.Kind))
}

const longestWait = 5 * time.Minute

// wait is how long until the next try, after the n-th: 1 s, 2 s, 4 s … 5 min,
// less up to half of it by chance.
func wait(n int, chance float64) time.Duration {
	full := min(time.Second<<min(n-1, 20), longestWait)
	return full - time.Duration(chance*float64(full/2))
}

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"

	"belfry/internal/outbox"
)

// step names a moment of a publish. The tests kill the child at each.
type step string

// The steps, in their order. Those of an S3 target are numbered as in DESIGN.md §6.
const (
	stepNoted     step = "noted"     // what will be put is written down
	stepUnmarked  step = "unmarked"  // no S3 target has _SUCCESS (2)
	stepSomeData  step = "some-data" // a file was uploaded or staged (3)
	stepSomePart  step = "some-part" // a part of a large file was uploaded (3)
	stepData      step = "data"      // a target has all its files, or its stage has (3)
	stepChecked   step = "checked"   // every target's data was compared (5)
	stepManifest  step = "manifest"  // every S3 target has its manifest (6)
	stepStale     step = "stale"     // the objects that an S3 target's manifest does not list are gone
	stepSwept     step = "swept"     // so is what noted them, at all targets
	stepMoved     step = "moved"     // no exchange: the old directory is away, the new one not yet there
	stepExchanged step = "exchanged" // a directory is the new one, the old one still to be removed
	stepEmptied   step = "emptied"   // the old directory is gone, what says whose it was is still there
	stepMarked    step = "marked"    // a target is complete (7)
)

// hook is told each step; only tests set it.
var hook func(step)

func at(s step) {
	if hook != nil {
		hook(s)
	}
}

// The exit codes of Child.
const (
	exitAnswered = 0 // it gave its answer on stdout, good or bad
	exitAlone    = 1 // nobody was there to hear one
)

// Bodies are read from their files as they are sent, so the child needs little
// memory: it can let garbage lie for longer than is usual, up to this.
const (
	memory  = 64 << 20
	garbage = 400 // percent of what is in use
)

// Child is the body of the hidden command `belfry publish`: it reads an order
// from stdin, carries it out and answers on stdout. When stdin ends the daemon is
// gone: Child returns at once, without waiting for what it had begun, and the
// process must end then. Its lock stays held until it has; each step survives
// being cut off.
func Child(stdin io.Reader, stdout io.Writer) int {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memory))
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	c := newChild(stdout)
	orders, gone := make(chan request), make(chan struct{})
	go func() {
		defer close(gone)
		dec := json.NewDecoder(stdin)
		var r request
		if dec.Decode(&r) != nil {
			return
		}
		orders <- r
		for {
			var a renewed
			if dec.Decode(&a) != nil {
				return
			}
			c.acks <- a
		}
	}()
	var r request
	select {
	case r = <-orders:
	case <-gone:
		return exitAlone
	}
	done := make(chan error, 1)
	go func() { done <- c.answer(ctx, r) }()
	select {
	case err := <-done:
		if err != nil {
			return exitAlone
		}
		return exitAnswered
	case <-gone:
		return exitAlone
	}
}

// child is the child's end of the conversation.
type child struct {
	acks  chan renewed
	meter *meter

	mu       sync.Mutex
	out      *json.Encoder // guarded by mu
	warnings []string      // guarded by mu
}

func newChild(stdout io.Writer) *child {
	c := &child{out: json.NewEncoder(stdout), acks: make(chan renewed)}
	c.meter = &meter{say: func(p Progress) { _ = c.say(reply{Progress: &p}) }}
	return c
}

func (c *child) say(r reply) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Encode(r)
}

// warn tells the log and the result of something that a person should know.
func (c *child) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.mu.Lock()
	c.warnings = append(c.warnings, text)
	c.mu.Unlock()
	_ = c.say(reply{Warning: text}) // a daemon that is gone is noticed at stdin
}

// renew has the daemon renew its claim before it returns.
func (c *child) renew() error {
	if err := c.say(reply{Renew: true}); err != nil {
		return err
	}
	if a := <-c.acks; a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// answer carries out the request and says how it went.
func (c *child) answer(ctx context.Context, r request) error {
	var answer reply
	var err error
	if r.Inspect != nil {
		answer.Inspection, err = c.inspect(ctx, *r.Inspect)
	} else {
		answer.Result, err = c.locked(ctx, r.Order)
	}
	if err != nil {
		return c.say(reply{Error: err.Error(), Final: outbox.IsFinal(err)})
	}
	if answer.Result != nil {
		c.mu.Lock()
		answer.Result.Warnings = c.warnings
		c.mu.Unlock()
	}
	return c.say(answer)
}

func (c *child) locked(ctx context.Context, o Order) (*Result, error) {
	lock, err := os.OpenFile(o.Lock, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, outbox.Final(fmt.Errorf("the folder of the run is gone: %w", err))
		}
		return nil, fmt.Errorf("lock the output: %w", err)
	}
	defer func() { _ = lock.Close() }()
	// It waits for the child of a daemon that died, which is about to leave. When
	// our own daemon gives up, Child returns all the same.
	if err := flock(lock, unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", o.Lock, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.publish(ctx, o)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// parts are the loops of a daemon. They are stopped in the reverse of the order
// in which they were started: each may use the ones before it to its end.
type parts struct {
	log    *slog.Logger
	list   []part
	failed chan error // the first error of any
}

type part struct {
	name string
	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

func newParts(log *slog.Logger) *parts { return &parts{log: log, failed: make(chan error, 1)} }

// start sets a part going, which works until its context ends.
func (p *parts) start(name string, run func(ctx context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	one := part{name, stop, make(chan struct{})}
	p.list = append(p.list, one)
	go func() {
		defer close(one.done)
		err := run(ctx)
		if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return // in the middle of something: the next owner takes it up
		}
		select {
		case p.failed <- err:
		default:
			p.log.Error("a part ended", "part", name, "error", err)
		}
	}()
}

// stop ends the part called name and those that were started after it, each
// when the one after it has ended, and gives up on what has not by deadline.
func (p *parts) stop(name string, deadline time.Time) error {
	var errs []error
	for at, one := range slices.Backward(p.list) {
		one.stop()
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-one.done:
		case <-timer.C:
			errs = append(errs, fmt.Errorf("the %s has not stopped in time", one.name))
		}
		timer.Stop()
		p.list = p.list[:at]
		if one.name == name {
			break
		}
	}
	return errors.Join(errs...)
}

// stopAll ends all parts.
func (p *parts) stopAll(deadline time.Time) error { return p.stop("", deadline) }

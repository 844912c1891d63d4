package proc

import (
	"context"
	"errors"
	"fmt"
)

// held are attempts that a daemon wants to have started in a moment. They are the
// connection's and nothing else's: nobody else hears of them, and they are gone with
// it, or when the daemon has others held.
type held struct {
	seq   int64 // of the frame that brought them
	specs []wireSpec
}

// Hold gives the keeper attempts that are to be started in a moment, so that it has
// understood them by then, and returns what starts them: it does what Start does, also
// where the keeper has died meanwhile, or does not answer before the deadline of ctx.
// If that is not called, nothing has happened.
func (c *Client) Hold(ctx context.Context, specs []Spec) (start func(ctx context.Context) error) {
	if len(specs) == 0 {
		return func(context.Context) error { return nil }
	}
	l, seq, err := c.hold(ctx, specs)
	if errors.Is(err, errUnanswered) && errors.Is(err, context.DeadlineExceeded) {
		l.silent.Store(true) // it is not waited for a second time
	}
	return func(ctx context.Context) error {
		if err == nil {
			err = c.release(ctx, l, seq)
		}
		if err == nil {
			return nil
		}
		c.log.Debug("attempts that were held are started anew", "attempts", len(specs), "error", err)
		return c.Start(ctx, specs)
	}
}

func (c *Client) hold(ctx context.Context, specs []Spec) (*link, int64, error) {
	wire, err := toWires(specs)
	if err != nil {
		return nil, 0, err
	}
	frame, seq, err := c.request(message{Type: typeHold, Specs: wire})
	if err != nil {
		return nil, 0, fmt.Errorf("hold %d attempts: %w", len(specs), err)
	}
	l, err := c.current(ctx)
	if err == nil {
		_, err = l.call(ctx, frame, seq)
	}
	return l, seq, err
}

func (c *Client) release(ctx context.Context, l *link, hold int64) error {
	frame, seq, err := c.request(message{Type: typeGo, Hold: hold})
	if err == nil {
		_, err = l.call(ctx, frame, seq)
	}
	return err
}

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// writer is the only one that writes to a database. Changes that wait at the
// same time share a transaction: the group is what gathered while the last one
// was committed, and nobody waits for a group to fill. Each change has a
// savepoint of its own, so that one that fails takes no other down. A change
// is announced when its commit is durable, and not before.
type writer struct {
	db    *sql.DB // one connection
	path  string
	queue chan *change
	lone  chan *request
	stop  chan struct{} // closed: write no more
	ended chan struct{} // closed when nothing is written any more

	// Of the writing goroutine alone.
	conn *prepared // nil until the next transaction opens one
}

// change is one caller's part of a group.
type change struct {
	ctx  context.Context
	f    func(tx *tx) error
	err  error // of its own, when it did not become part of the transaction
	done chan error
}

func newWriter(db *sql.DB, path string) *writer {
	w := &writer{db: db, path: path, queue: make(chan *change), lone: make(chan *request), stop: make(chan struct{}), ended: make(chan struct{})}
	go w.run()
	return w
}

// close waits for the group that is being written.
func (w *writer) close() error {
	close(w.stop)
	<-w.ended
	return errors.Join(w.forget(), w.db.Close())
}

var errClosed = errors.New("the store is closed")

// update has f's changes written in a durable transaction. While it waits for
// its turn it ends with ctx; what has begun is finished.
func (w *writer) update(ctx context.Context, f func(tx *tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// To interrupt a statement would roll the others' changes back.
	c := &change{ctx: context.WithoutCancel(ctx), f: f, done: make(chan error, 1)}
	select {
	case w.queue <- c:
		return <-c.done
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return errClosed
	}
}

func (w *writer) run() {
	defer close(w.ended)
	for {
		select {
		case first := <-w.queue:
			w.write(w.gather(first))
		case r := <-w.lone:
			err := w.connect(context.Background())
			if err == nil {
				err = r.f(w.conn)
			}
			r.done <- err
		case <-w.stop:
			return
		}
	}
}

// request is for what no transaction can hold.
type request struct {
	f    func(conn *prepared) error
	done chan error
}

// alone runs f on the connection, outside of a transaction.
func (w *writer) alone(ctx context.Context, f func(conn *prepared) error) error {
	r := &request{f: f, done: make(chan error, 1)}
	select {
	case w.lone <- r:
		return <-r.done
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return errClosed
	}
}

func (w *writer) gather(first *change) []*change {
	group := []*change{first}
	for {
		select {
		case c := <-w.queue:
			group = append(group, c)
		default:
			return group
		}
	}
}

// write commits a group and tells each of it what became of its change.
func (w *writer) write(group []*change) {
	err := w.transaction(group)
	if err != nil {
		// Whether SQLite is still in the transaction depends on what went wrong:
		// a connection that failed is not reasoned about but replaced.
		err = errors.Join(err, w.forget())
	}
	for _, c := range group {
		if err != nil && c.err == nil {
			c.err = err
		}
		c.done <- c.err
	}
}

func (w *writer) transaction(group []*change) error {
	ctx := context.Background()
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.do(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	stands := false
	for _, c := range group {
		t := &tx{ctx: c.ctx, raw: w.conn}
		var err error
		if len(group) == 1 { // all that there is to take back is the transaction
			err = c.f(t)
		} else {
			err = w.part(t, c.f)
		}
		var lost *lostError
		if errors.As(err, &lost) {
			return lost.cause
		}
		if c.err = err; err == nil {
			stands = true
		}
	}
	if !stands {
		return w.do(ctx, "ROLLBACK")
	}
	return w.do(ctx, "COMMIT")
}

// part makes one change within a savepoint.
func (w *writer) part(t *tx, f func(tx *tx) error) error {
	if err := w.do(t.ctx, "SAVEPOINT change"); err != nil {
		return &lostError{err}
	}
	err := f(t)
	if err != nil {
		if undo := w.do(t.ctx, "ROLLBACK TO change"); undo != nil {
			// SQLite has rolled everything back by itself, as it does on a full disk.
			return &lostError{err}
		}
	}
	if release := w.do(t.ctx, "RELEASE change"); release != nil {
		return &lostError{errors.Join(err, release)}
	}
	return err
}

// lostError says that the whole transaction is gone, and why.
type lostError struct{ cause error }

func (e *lostError) Error() string { return e.cause.Error() }
func (e *lostError) Unwrap() error { return e.cause }

func (w *writer) do(ctx context.Context, statement string) error {
	_, err := w.conn.ExecContext(ctx, statement)
	return err
}

// connect opens the connection, unless it is open.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return explain(w.path, err)
	}
	w.conn = newPrepared(conn, w.path)
	return nil
}

// forget closes the connection, for good.
func (w *writer) forget() error {
	if w.conn == nil {
		return nil
	}
	conn := w.conn.db.(*sql.Conn)
	err := w.conn.close()
	w.conn = nil
	// A connection that its user calls bad is not taken up again.
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	if closed := conn.Close(); closed != nil && !errors.Is(closed, sql.ErrConnDone) {
		err = errors.Join(err, closed)
	}
	if err != nil {
		return fmt.Errorf("close the connection: %w", err)
	}
	return nil
}

// tx is one change's part of a transaction. It carries its context for as long
// as update runs.
type tx struct {
	ctx context.Context
	raw *prepared
}

// exec gives the number of rows that were changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	result, err := t.raw.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

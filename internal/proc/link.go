package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A link is the connection to one keeper.
type link struct {
	client  *Client
	id      string
	build   string
	pid     int
	newest  bool // speaks all that we do
	ours    bool // started by this client
	conn    *net.UnixConn
	since   time.Time
	retired atomic.Bool // takes no more starts
	silent  atomic.Bool // has not answered a call, nor said anything since

	writeMu sync.Mutex

	mu    sync.Mutex
	calls map[int64]chan message // guarded by mu; nil after the hang-up
	known map[key]bool           // guarded by mu: attempts of a keeper that gets no others; else nil
	last  bool                   // guarded by mu: let go on purpose
}

var (
	errHangUp = errors.New("the keeper hung up")
	errSilent = errors.New("the keeper does not answer: it is stopped, or the machine has no time for it")
	// errUnanswered is of a call that was sent and then not waited for any longer.
	errUnanswered = errors.New("the keeper has not answered yet")
)

// refusalError is an error frame.
type refusalError struct {
	code, text string
	protocol   int // its own, when it refuses ours
}

func (e *refusalError) Error() string { return e.text }

// refusal is the error that an answer is, or nil.
func (m message) refusal() error {
	if m.Type != typeError {
		return nil
	}
	return &refusalError{m.Code, m.Error, m.Protocol}
}

// connect says hello to keeper id, asks what it has, and listens to it.
func (c *Client) connect(ctx context.Context, id string, ours bool) (*link, error) {
	conn, err := dialKeeper(filepath.Join(c.dir, id))
	if err != nil {
		return nil, fmt.Errorf("dial keeper %s: %w: %v", id, errHangUp, err)
	}
	l := &link{client: c, id: id, ours: ours, conn: conn, since: time.Now(), calls: make(map[int64]chan message)}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	c.work.Go(func() {
		defer stop()
		l.read()
	})
	c.mu.Unlock()

	if err := l.greet(ctx); err != nil {
		l.letGo()
		return nil, fmt.Errorf("greet keeper %s: %w", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		return nil, errHangUp
	}
	c.links = append(c.links, l)
	slices.SortFunc(c.links, func(a, b *link) int { return strings.Compare(a.id, b.id) })
	if l.known != nil && len(l.known) == 0 && !c.closed {
		c.work.Go(l.leave)
	}
	return l, nil
}

// leave lets a keeper go that gets nothing new and has nothing, or it would live as
// long as we do. What it was sent before may still have to be read.
func (l *link) leave() {
	select {
	case <-l.client.ctx.Done():
		return
	case <-time.After(leaveTimeout):
	}
	frame, seq, err := l.client.request(message{Type: typeList})
	if err != nil {
		return
	}
	list, err := l.call(l.client.ctx, frame, seq)
	if err != nil {
		return
	}
	if len(list.Attempts) == 0 {
		l.letGo()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range list.Attempts {
		l.known[key{a.Run, a.Attempt}] = true
	}
}

// greet makes sure that the two understand each other, and takes over the
// keeper's events.
func (l *link) greet(ctx context.Context) error {
	c := l.client
	hello, err := greeting(func(m message) (message, error) {
		frame, seq, err := c.request(m)
		if err != nil {
			return message{}, err
		}
		return l.call(ctx, frame, seq)
	})
	if err != nil {
		return err
	}
	l.build, l.pid, l.newest = hello.Build, hello.PID, hello.Protocol == ProtocolVersion
	frame, seq, err := c.request(message{Type: typeList, Subscribe: true})
	if err != nil {
		return err
	}
	list, err := l.call(ctx, frame, seq)
	if err != nil {
		return err
	}
	var events []Event
	known := make(map[key]bool, len(list.Attempts))
	for _, a := range list.Attempts {
		events = append(events, a.events()...)
		known[key{a.Run, a.Attempt}] = true
	}
	c.post(events)
	if l.build != build() && !l.ours || l.replaced() {
		c.log.Info("keeper is left to its last attempt", "keeper", l.id, "attempts", len(known))
		l.retired.Store(true)
		l.mu.Lock()
		l.known = known
		l.mu.Unlock()
	}
	return nil
}

// greeting says hello in a protocol that the keeper speaks, and gives its
// answer to it.
func greeting(ask func(message) (message, error)) (message, error) {
	hello, err := ask(message{Type: typeHello, Protocol: ProtocolVersion, Oldest: OldestProtocol, Build: build()})
	var refusal *refusalError
	if errors.As(err, &refusal) && refusal.code == codeVersion && agree(refusal.protocol, 0) != 0 {
		// A keeper of the first release knows nothing of ranges.
		hello, err = ask(message{Type: typeHello, Protocol: refusal.protocol, Build: build()})
	}
	if err == nil && agree(hello.Protocol, 0) == 0 {
		err = fmt.Errorf("it speaks protocol %d, not %d to %d", hello.Protocol, OldestProtocol, ProtocolVersion)
	}
	return hello, err
}

// forgot lets a keeper that gets nothing new go when it has nothing more to tell:
// without a daemon it ends.
func (l *link) forgot(k key) {
	l.mu.Lock()
	delete(l.known, k)
	letGo := l.known != nil && len(l.known) == 0
	l.mu.Unlock()
	if letGo {
		l.letGo()
	}
}

func (l *link) letGo() {
	l.mu.Lock()
	l.last = true
	l.mu.Unlock()
	_ = l.conn.Close()
}

// read takes the keeper's frames until it hangs up.
func (l *link) read() {
	reader := bufio.NewReaderSize(l.conn, 64<<10)
	again := false
	for {
		frame, err := readFrame(reader, maxFrame)
		if err != nil {
			break
		}
		woke := l.silent.Swap(false)
		var m message
		if err := json.Unmarshal(frame, &m); err != nil {
			l.client.log.Error("frame of keeper", "keeper", l.id, "error", err)
			continue
		}
		switch {
		case m.Seq != 0:
			l.mu.Lock()
			if call := l.calls[m.Seq]; call != nil {
				call <- m // has room for one, and gets one
				delete(l.calls, m.Seq)
			}
			l.mu.Unlock()
		case m.Type == typeEvents:
			l.client.post(m.Events)
		case m.Type == typeError:
			l.client.log.Error("keeper refuses", "keeper", l.id, "code", m.Code, "error", m.Error)
		}
		if woke && l.replaced() {
			again = true // what it has is asked anew, and nothing is added to that
			break
		}
	}
	l.hangUp(again)
}

// hangUp ends what waits for an answer. If the keeper lives, which is only so
// after trouble with the connection or when that is wanted, it is called again;
// else it is lost.
func (l *link) hangUp(again bool) {
	_ = l.conn.Close()
	l.retired.Store(true) // whoever is told of the hang-up does not come back to it
	l.mu.Lock()
	for _, call := range l.calls {
		close(call)
	}
	l.calls = nil
	wanted := l.last
	l.mu.Unlock()

	c := l.client
	c.mu.Lock()
	before := len(c.links)
	c.links = slices.DeleteFunc(c.links, func(other *link) bool { return other == l })
	wanted = wanted || c.closed || len(c.links) == before
	c.mu.Unlock()
	if wanted {
		return
	}
	alive, err := keeperAlive(filepath.Join(c.dir, l.id))
	if alive && (again || time.Since(l.since) > helloTimeout) { // one that drops us at once would do so again
		if _, err = c.connect(c.ctx, l.id, l.ours); err == nil {
			return
		}
	}
	if c.ctx.Err() != nil {
		return
	}
	c.log.Warn("keeper lost", "keeper", l.id, "alive", alive, "error", err)
	if alive {
		c.mu.Lock()
		if !c.closed {
			c.work.Go(func() { c.pursue(l.id, l.ours) })
		}
		c.mu.Unlock()
	}
	c.tellLost(l.id)
}

// call sends a request and waits for its answer.
func (l *link) call(ctx context.Context, frame []byte, seq int64) (message, error) {
	answer := make(chan message, 1)
	l.mu.Lock()
	switch {
	case l.calls == nil:
		l.mu.Unlock()
		return message{}, errHangUp
	case l.silent.Load(): // others wait already
		l.mu.Unlock()
		return message{}, errSilent
	}
	l.calls[seq] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.calls, seq)
	}()
	patience := l.client.patience
	if end, bounded := ctx.Deadline(); bounded {
		patience = min(patience, time.Until(end))
	}
	if patience <= 0 {
		return message{}, context.DeadlineExceeded
	}
	if err := l.write(frame, patience); err != nil {
		return message{}, err
	}
	timeout := time.NewTimer(l.client.patience)
	defer timeout.Stop()
	look := time.NewTicker(stopTimeout)
	defer look.Stop()
	for waiting := true; waiting; {
		select {
		case m, ok := <-answer:
			if !ok {
				return message{}, errHangUp
			}
			return m, m.refusal()
		case <-ctx.Done():
			return message{}, fmt.Errorf("%w: %w", errUnanswered, ctx.Err())
		case <-look.C: // one that is slow is waited for
			waiting = !stopped(l.pid)
		case <-timeout.C:
			waiting = false
		}
	}
	l.silent.Store(true)
	return message{}, errSilent
}

// stopped reports whether a process was stopped by a signal, and not let go on.
func stopped(pid int) bool {
	p, err := readProcess(pid)
	return err == nil && p.state == 'T'
}

// write sends one whole frame; after half of one the connection is of no use.
func (l *link) write(frame []byte, patience time.Duration) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	err := l.conn.SetWriteDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = l.conn.Write(frame)
	}
	if err != nil {
		l.retired.Store(true)
		_ = l.conn.Close()
		return fmt.Errorf("%w: %w", errHangUp, err)
	}
	return nil
}

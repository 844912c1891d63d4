package proc

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options are what a Client needs.
type Options struct {
	DataDir string       // keepers live in its folder `keeper`
	Command []string     // how to start a keeper: {"/proc/self/exe", "keeper"}; absolute, and the folder is appended as the last argument
	Log     *slog.Logger // default: slog.Default
}

// Client is the daemon's side: it knows the keepers of one data folder. It
// may be used by several goroutines.
type Client struct {
	dir     string // DATA/keeper
	command []string
	log     *slog.Logger

	events chan Event
	lost   chan string
	news   chan struct{} // there is something in waiting
	work   sync.WaitGroup
	// ctx is the client's life, from Open to Close.
	ctx    context.Context
	cancel context.CancelFunc
	seq    atomic.Int64
	limit  int // of a frame's bytes; tests lower it

	patience time.Duration // with a call; tests lower it

	startMu sync.Mutex // one keeper is started at a time

	mu      sync.Mutex
	links   []*link // guarded by mu, oldest keeper first
	waiting []Event // guarded by mu
	closed  bool    // guarded by mu: nothing is added to work any more
}

// Open connects to the living keepers of a data folder: usually one, and an
// older one that an upgrade left to its last job. It starts none; the first
// Start does. What the keepers know comes as events. One that does not answer
// within a second or two is stopped, and connected to when it goes on.
func Open(ctx context.Context, o Options) (*Client, error) {
	dir, err := filepath.Abs(filepath.Join(o.DataDir, "keeper"))
	if err != nil {
		return nil, fmt.Errorf("open keepers: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open keepers: %w", err)
	}
	ids, err := keepers(dir)
	if err != nil {
		return nil, fmt.Errorf("open keepers in %s: %w", dir, err)
	}
	c := &Client{
		dir: dir, command: o.Command, log: cmp.Or(o.Log, slog.Default()),
		events: make(chan Event, 1000), // those of a burst are taken together
		lost:   make(chan string, 16),
		news:   make(chan struct{}, 1),
		limit:  maxFrame,

		patience: callTimeout,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.work.Go(c.tell)
	tried := make(chan struct{}, len(ids))
	for _, id := range ids {
		c.work.Go(func() {
			_, err := c.connect(c.ctx, id, false)
			tried <- struct{}{}
			if err != nil {
				// Its attempts still count as running, and their exit records
				// will be there.
				c.log.Warn("connect to keeper", "keeper", id, "error", err)
				c.pursue(id, false)
			}
		})
	}
	patience := time.NewTimer(openTimeout)
	defer patience.Stop()
	for range ids {
		select {
		case <-tried:
		case <-patience.C:
			return c, nil
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.Close())
		}
	}
	return c, nil
}

// pursue connects to a living keeper that could not be reached, however long
// it takes: one that was stopped may go on. It ends with the keeper, or when
// the two will never understand each other.
func (c *Client) pursue(id string, ours bool) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause):
		}
		alive, err := keeperAlive(filepath.Join(c.dir, id))
		if err == nil && alive {
			_, err = c.connect(c.ctx, id, ours)
		}
		switch {
		case c.ctx.Err() != nil:
			return
		case err == nil && alive:
			c.log.Info("keeper answers again", "keeper", id)
			return
		case err == nil:
			c.tellLost(id)
			return
		}
	}
}

func (c *Client) tellLost(id string) {
	select {
	case c.lost <- id:
	default: // whoever reads the others will look at all that run
	}
}

// Events gives the news of all attempts, at least once each, also of those
// that ended while no daemon was connected. It is closed by Close.
func (c *Client) Events() <-chan Event { return c.events }

// KeeperLost gives the id of a keeper that is dead or does not answer any
// more: its attempts will have no events, so ask Inspect about all that are
// running. It is closed by Close.
func (c *Client) KeeperLost() <-chan string { return c.lost }

// Start hands attempts to a keeper, many in one frame, and returns once it
// has taken them; it starts the keeper when none lives. It is idempotent by
// (run, attempt): an attempt that was started before, by whichever keeper, is
// not started again, and what is known of it comes as events.
func (c *Client) Start(ctx context.Context, specs []Spec) error {
	if len(specs) == 0 {
		return nil
	}
	wire, err := toWires(specs)
	if err != nil {
		return err
	}
	return c.start(ctx, wire)
}

func toWires(specs []Spec) ([]wireSpec, error) {
	wire := make([]wireSpec, len(specs))
	for i, spec := range specs {
		if spec.Run == "" || spec.Attempt < 1 || !filepath.IsAbs(spec.Dir) {
			return nil, fmt.Errorf("start attempt %d of run %q in %q: a run, an attempt from 1 on and an absolute directory are needed", spec.Attempt, spec.Run, spec.Dir)
		}
		wire[i] = toWire(spec)
	}
	return wire, nil
}

func (c *Client) start(ctx context.Context, specs []wireSpec) error {
	frame, seq, err := c.request(message{Type: typeStart, Specs: specs})
	if errors.Is(err, errFrameTooLong) && len(specs) > 1 {
		half := len(specs) / 2
		if err := c.start(ctx, specs[:half]); err != nil {
			return err
		}
		return c.start(ctx, specs[half:])
	}
	if err != nil {
		return fmt.Errorf("start %d attempts: %w", len(specs), err)
	}
	// A keeper may end, or be killed, between our choice and its answer. Then
	// the next one is asked: who may fork is decided by the start record.
	const tries = 3
	for range tries {
		var l *link
		l, err = c.current(ctx)
		if err == nil {
			_, err = l.call(ctx, frame, seq)
		}
		if err == nil {
			return nil
		}
		var refusal *refusalError
		switch {
		case errors.As(err, &refusal) && refusal.code == codeEnding:
			if l != nil {
				l.retired.Store(true)
			}
		case errors.Is(err, errHangUp):
		case errors.Is(err, errSilent):
			// Should it wake up, it will find the start records of another, or
			// be the first.
			c.log.Warn("a keeper does not answer, another is asked", "keeper", l.id)
		default:
			return fmt.Errorf("start %d attempts: %w", len(specs), err)
		}
	}
	return fmt.Errorf("start %d attempts: %w", len(specs), err)
}

// Signal ends an attempt, the way that s says. Its event tells when it has
// ended. One that is still in the keeper's queue will not be started.
func (c *Client) Signal(run string, attempt int, s StopKind) error {
	err := c.ask(message{Type: typeSignal, Run: run, Attempt: attempt, Kind: s}, nil)
	if err != nil {
		return fmt.Errorf("%s attempt %d of run %s: %w", s, attempt, run, err)
	}
	return nil
}

// Renew makes the claim of an attempt last for lease from now on. The error
// says when the keeper does not have the attempt any more, or has it under
// another token.
func (c *Client) Renew(run string, attempt int, token int64, lease time.Duration) error {
	err := c.ask(message{Type: typeRenew, Run: run, Attempt: attempt, Token: token, LeaseEnd: leaseEnd(lease)}, nil)
	if err != nil {
		return fmt.Errorf("renew attempt %d of run %s: %w", attempt, run, err)
	}
	return nil
}

// Forget tells the keepers that an attempt's outcome is in the store. It waits
// for no answer. A keeper that is known to be stopped is passed over, and
// one whose socket is full is let go after a second: an attempt that was not
// forgotten is told of again.
func (c *Client) Forget(run string, attempt int) error {
	frame, err := encode(message{Type: typeForget, Run: run, Attempt: attempt})
	if err != nil {
		return fmt.Errorf("forget attempt %d of run %s: %w", attempt, run, err)
	}
	var errs []error
	for _, l := range c.living() {
		if l.silent.Load() {
			continue
		}
		if err := l.write(frame, min(forgetTimeout, c.patience)); err != nil {
			errs = append(errs, fmt.Errorf("forget attempt %d of run %s: keeper %s: %w", attempt, run, l.id, err))
			continue
		}
		l.forgot(key{run, attempt})
	}
	return errors.Join(errs...)
}

// Close disconnects. Jobs and keepers go on. It may be called again.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.cancel() // closes the connections
	c.work.Wait()
	close(c.events)
	close(c.lost)
	return nil
}

// living gives the keepers that are connected.
func (c *Client) living() []*link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.links)
}

// ask puts a request about one attempt to the keepers in turn, until one has
// it. The error is ErrUnknownAttempt when none has.
func (c *Client) ask(m message, found func(message) bool) error {
	var errs []error
	for _, l := range slices.Backward(c.living()) {
		frame, seq, err := c.request(m)
		if err != nil {
			return err
		}
		answer, err := l.call(context.Background(), frame, seq) // its patience ends it
		var refusal *refusalError
		switch {
		case err == nil:
			if found == nil || found(answer) {
				return nil
			}
		case errors.As(err, &refusal) && refusal.code == codeUnknown:
		case errors.Is(err, errHangUp): // dead keepers have no attempts
		default:
			errs = append(errs, fmt.Errorf("keeper %s: %w", l.id, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return ErrUnknownAttempt
}

func (c *Client) request(m message) (frame []byte, seq int64, err error) {
	m.Seq = c.seq.Add(1)
	frame, err = encode(m)
	if err == nil && len(frame) > c.limit {
		err = errFrameTooLong
	}
	return frame, m.Seq, err
}

// current gives the newest keeper of this build, and starts one when there is
// none.
func (c *Client) current(ctx context.Context) (*link, error) {
	c.startMu.Lock()
	defer c.startMu.Unlock()
	for _, l := range slices.Backward(c.living()) {
		if l.takes() {
			return l, nil
		}
	}
	for tries := 1; ; tries++ {
		id, err := c.startKeeper(ctx)
		if err != nil {
			return nil, fmt.Errorf("start a keeper: %w", err)
		}
		l, err := c.connect(ctx, id, true)
		// On a machine that stood still meanwhile it has waited long enough for us.
		if tries == 3 || !errors.Is(err, errHangUp) {
			return l, err
		}
	}
}

// takes reports whether attempts may be given to a keeper.
func (l *link) takes() bool {
	return (l.build == build() || l.ours) && l.newest && !l.retired.Load() && !l.silent.Load()
}

// replaced reports whether another has taken the place of a keeper that was
// stopped.
func (l *link) replaced() bool {
	return slices.ContainsFunc(l.client.living(), func(other *link) bool { return other.id > l.id && other.takes() })
}

// startKeeper starts a keeper that goes on without us, and returns its id
// once it listens.
func (c *Client) startKeeper(ctx context.Context) (id string, err error) {
	if len(c.command) == 0 {
		return "", errors.New("no command was given")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = null.Close() }()
	logFile, err := openKeeperLog(c.dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = logFile.Close() }()
	ready, tell, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _ = ready.Close() }()
	argv := append(slices.Clone(c.command), c.dir)
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   "/",
		Env:   append(keeperEnviron(), readyVariable+"=3"),
		Files: []*os.File{null, null, logFile, tell},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	_ = tell.Close()
	if err != nil {
		return "", err
	}
	// It is our child for as long as we live and has to be reaped; nothing
	// else waits for it, and this goroutine holds nothing of the client.
	go process.Wait() //nolint:errcheck // how it ended is in its log

	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Now()) }) //nolint:errcheck // a pipe can
	defer stop()
	word, err := bufio.NewReader(ready).ReadString('\n')
	word = strings.TrimSuffix(word, "\n")
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("%s ended before it was ready, see %s", strings.Join(argv, " "), logFile.Name())
	case err != nil:
		return "", err
	}
	if text, found := strings.CutPrefix(word, "error: "); found {
		return "", errors.New(text)
	}
	return word, nil
}

// keeperEnviron is ours without what belongs to one attempt: a daemon that
// was itself started by a job must not make its keeper look like a stray of
// that job.
func keeperEnviron() []string {
	//nolint:forbidigo // a keeper inherits what its daemon has
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "BELFRY_") || strings.HasPrefix(entry, "TRACEPARENT=")
	})
}

// openKeeperLog opens the log of all keepers and keeps it small.
func openKeeperLog(dir string) (*os.File, error) {
	path := filepath.Join(dir, keeperLog)
	if info, err := os.Stat(path); err == nil && info.Size() > 1<<20 {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// tell brings the news to the reader of Events, however slow it is: a keeper's
// answers never wait for it.
func (c *Client) tell() {
	for {
		c.mu.Lock()
		events := c.waiting
		c.waiting = nil
		c.mu.Unlock()
		for _, event := range events {
			select {
			case c.events <- event:
			case <-c.ctx.Done():
				return
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-c.news:
		case <-c.ctx.Done():
			return
		}
	}
}

func (c *Client) post(events []Event) {
	if len(events) == 0 {
		return
	}
	c.mu.Lock()
	c.waiting = append(c.waiting, events...)
	c.mu.Unlock()
	signalTo(c.news)
}

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
	select {
	case m, ok := <-answer:
		if !ok {
			return message{}, errHangUp
		}
		return m, m.refusal()
	case <-ctx.Done():
		return message{}, fmt.Errorf("%w: %w", errUnanswered, ctx.Err())
	case <-timeout.C:
		l.silent.Store(true)
		return message{}, errSilent
	}
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
		return fmt.Errorf("%w: %v", errHangUp, err)
	}
	return nil
}

package proc

import (
	"bufio"
	"cmp"
	"context"
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
		err := l.write(frame, min(forgetTimeout, c.patience))
		if errors.Is(err, net.ErrClosed) { // it was let go, or has died, at this moment
			continue
		}
		if err != nil {
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

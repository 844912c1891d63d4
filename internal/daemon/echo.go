package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"belfry/internal/logs"
	"belfry/internal/run"
	"belfry/internal/store"
)

// Line is a line that an attempt printed, without its end and its secrets. One
// that is very long comes in pieces.
type Line struct {
	Project string
	Job     string // its name
	Run     string
	Attempt int
	Text    []byte // valid until the receiver returns
}

const (
	longestLine = 64 << 10
	// Between two looks at an attempt that prints, and at one that does not.
	echoHot, echoQuiet = 100 * time.Millisecond, time.Second
)

// echo hands on what attempts print, as it comes, to whoever started the daemon.
// It reads from the account and not along with the log follower: a receiver that
// does not take its lines holds up nothing but itself. What the daemon before
// this one had stored is not handed on again.
type echo struct {
	give func(lines []Line) // nil: nobody listens
	open func(ctx context.Context, id string, attempt int) (*logs.Reader, error)
	// followed reports whether somebody whom an attempt left behind may still print.
	followed func(id string, attempt int) bool
	from     time.Time
	kick     chan struct{}

	mu       sync.Mutex
	speakers []*speaker // guarded by mu
}

// speaker is an attempt that is listened to.
type speaker struct {
	line   Line // what all of its lines have
	ended  bool // guarded by echo.mu; the attempt has
	said   bool // all that it had printed by then
	failed bool // it could not be read when it was last listened to
	reader *logs.Reader
	rest   []byte // of a line whose end has not come yet
	wait   time.Duration
	due    time.Time
}

func newEcho(give func(lines []Line), open func(ctx context.Context, id string, attempt int) (*logs.Reader, error), followed func(id string, attempt int) bool, from time.Time) *echo {
	return &echo{give: give, open: open, followed: followed, from: from, kick: make(chan struct{}, 1)}
}

// begin has an attempt listened to.
func (e *echo) begin(r run.Run) {
	if e.give == nil {
		return
	}
	e.mu.Lock()
	e.speakers = append(e.speakers, &speaker{line: Line{Project: r.Project, Job: r.Name, Run: r.ID, Attempt: r.Attempt}, wait: echoHot})
	e.mu.Unlock()
	e.wake()
}

// end says that an attempt has ended.
func (e *echo) end(id string, attempt int) {
	e.mu.Lock()
	for _, s := range e.speakers {
		if s.line.Run == id && s.line.Attempt == attempt {
			s.ended = true
		}
	}
	e.mu.Unlock()
	e.wake()
}

func (e *echo) wake() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// run listens until ctx ends, and then to what those have left to say that have
// ended.
func (e *echo) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			e.pass(rest, true)
			return nil
		case <-e.kick:
		case <-timer.C:
		}
		if e.pass(ctx, false) {
			timer.Reset(echoHot)
		}
	}
}

// pass listens to every speaker whose time it is, or, the last time, to all, and
// reports whether there are any.
func (e *echo) pass(ctx context.Context, last bool) bool {
	e.mu.Lock()
	all := slices.Clone(e.speakers)
	e.mu.Unlock()
	for _, s := range all {
		e.mu.Lock()
		ended := s.ended // asked before reading: what was printed before the end is not missed
		e.mu.Unlock()
		over := ended && !e.followed(s.line.Run, s.line.Attempt)
		whole := over || ended && !s.said
		if !last && (!whole || s.failed) && time.Now().Before(s.due) {
			continue
		}
		said, err := e.listen(ctx, s, whole)
		s.failed = err != nil
		s.said = s.said || whole && err == nil
		switch {
		case over && (err == nil || errors.Is(err, store.ErrNotFound)): // or it is kept no longer
			e.mu.Lock()
			e.speakers = slices.DeleteFunc(e.speakers, func(other *speaker) bool { return other == s })
			e.mu.Unlock()
		case said:
			s.wait = echoHot
		default:
			s.wait = min(s.wait*3/2, echoQuiet)
		}
		s.due = time.Now().Add(s.wait)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.speakers) > 0
}

// listen hands on what is new of an attempt; whole says, a line without an end as
// well. An error says that there is more that cannot be read now.
func (e *echo) listen(ctx context.Context, s *speaker, whole bool) (said bool, err error) {
	if s.reader == nil {
		reader, err := e.open(ctx, s.line.Run, s.line.Attempt)
		if err != nil {
			return false, err
		}
		start, err := reader.Since(ctx, e.from)
		if err != nil {
			return false, err
		}
		reader.From(start)
		s.reader = reader
	}
	for {
		part, err := s.reader.Next(ctx, whole)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return said, err
		}
		said = true
		e.lines(s, part.Text)
	}
	if whole && len(s.rest) > 0 {
		e.lines(s, []byte("\n"))
	}
	return said, nil
}

func (e *echo) lines(s *speaker, text []byte) {
	var lines []Line
	s.rest = append(s.rest, text...)
	rest := s.rest
	for len(rest) > 0 {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole && len(line) <= longestLine {
			break
		}
		if len(line) > longestLine {
			line, after = rest[:longestLine], rest[longestLine:]
		}
		one := s.line
		one.Text = line
		lines, rest = append(lines, one), after
	}
	if len(lines) > 0 {
		e.give(lines)
	}
	s.rest = append(s.rest[:0], rest...)
}

package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Part is a piece of an attempt's output.
type Part struct {
	Text []byte // valid until the next call
	Next int64  // the offset behind it, where a Reader would go on
}

// Reader gives an attempt's output from any offset on: chunks from the store,
// then what is not stored yet from the file. It may be asked again and again for
// what has come since. One goroutine uses it.
type Reader struct {
	store Store
	Attempt
	mask *Masker

	pos     int64 // of what comes next
	within  bool  // the last byte that was given did not end a line
	started bool

	place
	placed bool // place is that of pos
	buf    []byte
}

// NewReader gives a Reader for an attempt that nobody follows. Its directory and
// secrets are needed for what is not stored yet.
func NewReader(store Store, a Attempt) *Reader { return newReader(store, a, NewMasker(a.Secrets)) }

func newReader(store Store, a Attempt, mask *Masker) *Reader {
	return &Reader{store: store, Attempt: a, mask: mask, place: place{path: a.file()}}
}

// From makes the Reader go on at an offset.
func (r *Reader) From(offset int64) {
	r.pos, r.within, r.started, r.placed = offset, offset > 0, false, false
}

// Next gives the next piece of the output; io.EOF when there is none now. ended
// says that the attempt has: then nothing more comes, and what might be the
// beginning of a secret is given too.
func (r *Reader) Next(ctx context.Context, ended bool) (Part, error) {
	part, err := r.fromStore(ctx)
	if errors.Is(err, io.EOF) {
		part, err = r.fromFile(ctx, ended)
	}
	if errors.Is(err, io.EOF) {
		// What was not in the store may have been taken from the file since.
		part, err = r.fromStore(ctx)
	}
	return part, err
}

// fromStore gives what the store has; io.EOF when it has nothing more.
func (r *Reader) fromStore(ctx context.Context) (Part, error) {
	c, ok, err := r.store.ChunkBehind(ctx, r.Run, r.Number, r.pos)
	switch {
	case err != nil:
		return Part{}, err
	case !ok:
		return Part{}, io.EOF
	case r.started && c.Base > r.base:
		// What was read of the file beyond the store was lost by the truncation.
		return r.truncated(c.Base), nil
	case c.Start > r.pos:
		r.base = c.Base
		return r.leftOut(ctx, c.Start)
	}
	text, err := c.text(r.buf[:0])
	if err != nil {
		return Part{}, err
	}
	r.buf = text
	r.base, r.placed = c.Base, true
	r.keep(text, c.End())
	return r.give(text[r.pos-c.Start:], c.End()), nil
}

// fromFile gives what the file has behind the store.
func (r *Reader) fromFile(ctx context.Context, ended bool) (Part, error) {
	if err := r.find(ctx); err != nil {
		return Part{}, err
	}
	file, truncated, err := r.look(r.pos)
	if err != nil {
		return Part{}, err
	}
	if file != nil {
		defer func() { _ = file.Close() }() // it was only read
	}
	if truncated {
		// The stream goes on where the store ends: so the Follower sees it too.
		last, _, err := r.store.ChunkBefore(ctx, r.Run, r.Number, math.MaxInt64)
		if err != nil {
			return Part{}, err
		}
		return r.truncated(last.End()), nil
	}
	if file == nil {
		return Part{}, io.EOF
	}
	r.buf = grow(r.buf[:cap(r.buf)], roomFor(chunkSize, r.mask))
	text, at, err := file.read(r.buf, r.pos-r.base, chunkSize, r.mask, ended)
	if err != nil {
		return Part{}, err
	}
	if len(text) == 0 {
		return Part{}, io.EOF
	}
	if at += r.base; at > r.pos {
		// A hole: either it was stored since we asked, or it is left out.
		if part, err := r.fromStore(ctx); !errors.Is(err, io.EOF) {
			return part, err
		}
		return r.leftOut(ctx, at)
	}
	r.keep(text, at+int64(len(text)))
	return r.give(text, at+int64(len(text))), nil
}

// find finds out where in the file the stream goes on.
func (r *Reader) find(ctx context.Context) error {
	if r.placed {
		return nil
	}
	c, ok, err := r.store.ChunkBefore(ctx, r.Run, r.Number, math.MaxInt64)
	if err != nil {
		return err
	}
	r.place = place{path: r.path}
	if ok {
		text, err := c.text(r.buf[:0])
		if err != nil {
			return err
		}
		r.buf, r.base = text, c.Base
		r.keep(text, c.End())
	}
	if r.pos > c.End() { // it may be an offset that is behind all that there is
		end, err := r.End(ctx)
		if err != nil {
			return err
		}
		if end == 0 {
			return io.EOF // nothing was printed yet: what comes may well reach so far
		}
		r.pos = min(r.pos, end)
	}
	r.placed = true
	return nil
}

func (r *Reader) give(text []byte, next int64) Part {
	r.pos, r.started = next, true
	if len(text) > 0 {
		r.within = text[len(text)-1] != '\n'
	}
	return Part{text, next}
}

// leftOut gives the line that stands for what is not kept.
func (r *Reader) leftOut(ctx context.Context, next int64) (Part, error) {
	log, ok, err := r.store.Log(ctx, r.Run, r.Number)
	if err != nil {
		return Part{}, err
	}
	if !ok {
		log.Limit = r.Limit // a hole of the keeper's, before the first chunk is stored
	}
	line := fmt.Sprintf("[belfry: %s left out here", size(next-r.pos))
	if half := half(log.Limit); r.pos >= half {
		line += ", log_limit is " + size(2*half)
	}
	return r.line(line+"]", next), nil
}

// truncated gives the line that stands for what a job threw away. The stream
// goes on at base, which may lie before what was read.
func (r *Reader) truncated(base int64) Part {
	r.base, r.guard, r.placed = base, nil, true
	return r.line("[belfry: the job truncated its output here]", base)
}

// line gives a line of ours, at the beginning of a line.
func (r *Reader) line(text string, next int64) Part {
	if r.within {
		text = "\n" + text
	}
	return r.give([]byte(text+"\n"), next)
}

// size writes a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	value, unit := float64(n), -1
	for value >= 1<<10 && unit < len(units)-1 {
		value, unit = value/(1<<10), unit+1
	}
	if value == math.Trunc(value) || value >= 100 {
		return fmt.Sprintf("%.0f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// End is the offset behind all that there is now.
func (r *Reader) End(ctx context.Context) (int64, error) {
	c, _, err := r.store.ChunkBefore(ctx, r.Run, r.Number, math.MaxInt64)
	if err != nil {
		return 0, err
	}
	end := c.End()
	file, err := openLog(r.path)
	if err != nil || file == nil {
		return end, err
	}
	if grown := c.Base + file.size; grown > end {
		end = grown
	}
	return end, file.Close()
}

// Since gives the offset of the first byte that was read at t or later.
func (r *Reader) Since(ctx context.Context, t time.Time) (int64, error) {
	c, ok, err := r.store.ChunkSince(ctx, r.Run, r.Number, t)
	if err != nil {
		return 0, err
	}
	if ok {
		for _, m := range c.marks() {
			if !m.at.Before(t) {
				return c.Start + m.offset, nil
			}
		}
	}
	// What is in the file and not in the store has just come.
	c, _, err = r.store.ChunkBefore(ctx, r.Run, r.Number, math.MaxInt64)
	return c.End(), err
}

// Tail gives the offset at which the last n lines begin.
func (r *Reader) Tail(ctx context.Context, n int) (int64, error) {
	end, err := r.End(ctx)
	if err != nil || n <= 0 {
		return end, err
	}
	last, _, err := r.store.ChunkBefore(ctx, r.Run, r.Number, math.MaxInt64)
	if err != nil {
		return 0, err
	}
	count := lineCount{want: n, end: end}
	if end > last.End() {
		if at, found, err := r.tailOfFile(last, end, &count); err != nil || found {
			return at, err
		}
	}
	for at := last.End(); at > 0; {
		c, ok, err := r.store.ChunkBefore(ctx, r.Run, r.Number, at)
		if err != nil || !ok {
			return 0, err
		}
		if r.buf, err = c.text(r.buf[:0]); err != nil {
			return 0, err
		}
		if at, found := count.in(r.buf, c.Start); found {
			return at, nil
		}
		at = c.Start
	}
	return 0, nil
}

// tailOfFile looks for the beginning of the last lines in what is not stored.
func (r *Reader) tailOfFile(last Chunk, end int64, count *lineCount) (at int64, found bool, err error) {
	file, err := openLog(r.path)
	if err != nil || file == nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r.buf = grow(r.buf[:cap(r.buf)], chunkSize)
	for at := end; at > last.End(); {
		from := max(last.End(), at-chunkSize)
		n, err := file.ReadAt(r.buf[:at-from], from-last.Base)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, false, fmt.Errorf("read the log: %w", err)
		}
		if at, found := count.in(r.buf[:n], from); found {
			return at, true, nil
		}
		at = from
	}
	return 0, false, nil
}

// lineCount counts lines from the end of a text that comes piece by piece.
type lineCount struct {
	want int
	end  int64 // of the whole text: an end of line right there ends the last line
}

func (l *lineCount) in(text []byte, start int64) (at int64, found bool) {
	for i := len(text); i > 0; {
		i = bytes.LastIndexByte(text[:i], '\n')
		if i < 0 {
			break
		}
		if start+int64(i)+1 == l.end {
			continue
		}
		if l.want--; l.want == 0 {
			return start + int64(i) + 1, true
		}
	}
	return 0, false
}

// Ends gives the whole output when it is no longer than limit bytes, and else
// about its first and its last half of that, in two texts. length is that of all
// that the job printed.
func (r *Reader) Ends(ctx context.Context, limit int64) (head, tail []byte, length int64, err error) {
	if length, err = r.End(ctx); err != nil {
		return nil, nil, 0, err
	}
	r.From(0)
	if length <= limit {
		head, err = r.upTo(ctx, length)
		return head, nil, length, err
	}
	if head, err = r.upTo(ctx, limit/2); err != nil {
		return nil, nil, 0, err
	}
	r.From(max(length-limit/2, r.pos))
	tail, err = r.upTo(ctx, length)
	return head, tail, length, err
}

// upTo reads until an offset, or the end.
func (r *Reader) upTo(ctx context.Context, end int64) (all []byte, err error) {
	for r.pos < end {
		part, err := r.Next(ctx, true)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if more := part.Next - end; more > 0 && more < int64(len(part.Text)) {
			part.Text = part.Text[:int64(len(part.Text))-more]
			r.pos = end
		}
		all = append(all, part.Text...)
	}
	return all, nil
}

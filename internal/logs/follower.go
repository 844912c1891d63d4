package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Options are what a Follower needs.
type Options struct {
	Store Store
	Now   func() time.Time // the wall clock, for --since
	// Sync is the least time between two syncs of the store, after each of which
	// disk is given back and logs are closed; 5 s when zero.
	Sync time.Duration
	Log  *slog.Logger
}

// Follower moves what attempts print from their files into the store. One
// goroutine does all of it: it looks at each file now and then, often at those
// that grow, leaves those that are quiet to a watch, and holds nothing open between.
//
// A log goes through it like this: text is read, masked, compressed and saved;
// after a sync of the store its place in the file is punched out, so that no
// part of a long log lies on the disk twice; and when the attempt has ended, all
// is synced and nobody writes to the file any more, the file is removed. A
// daemon that is killed between any two of these steps leaves what the next one
// needs: it goes on where the last chunk ends, and what is not punched out is
// still in the file.
type Follower struct {
	o    Options
	kick chan struct{}

	mu    sync.Mutex
	tails map[key]*tail // guarded by mu
	news  []*tail       // guarded by mu; not yet taken over by Run

	// Run's own.
	following []*tail
	watch     *watch
	watched   map[int32]*tail // those that are left to the watch
	encoder   *zstd.Encoder
	buf       []byte // for reading
	chunk     []byte // text of the chunk that is filled
	data      []byte // compressed, of changes
	changes   []Change
	weight    int // of changes, in bytes of text
	saving    []*tail
	synced    time.Time // when the store was synced last
}

type key struct {
	run    string
	number int
}

// tail is the end of a log that is followed.
type tail struct {
	Attempt
	mask *Masker // guarded by Follower.mu as long as it is blind
	half int64

	ended bool // guarded by Follower.mu; the attempt has
	blind bool // guarded by Follower.mu; its secrets are not known yet

	// The rest is Run's own.
	place
	known  bool          // the store was asked what it has
	stored int64         // up to where the store has everything that is kept
	read   int64         // up to where it is in what is about to be saved
	rest   time.Duration // in a torrent: how long it goes unread; else 0
	target int64         // in a torrent: up to where it is read before that; else 0
	given  int64         // up to where disk was given back
	all    bool          // ended, and stored to the end
	// cannot says that disk cannot be given back: the file system has no holes.
	cannot bool
	last   bool // it has been looked at since it ended
	unsure bool // whether somebody still prints into it
	wait   time.Duration
	due    time.Time
	told   string // the last error, told once
	listed bool   // blind, and known to the store
	// number is the log's in the watch; 0: it is not left to it.
	number int32
}

const (
	hot   = 100 * time.Millisecond // between two looks at a file that grows
	quiet = time.Second            // and at one that does not, before it is watched
	still = time.Minute            // and at one that is watched
	// A job that prints more between two looks than is kept of it is in a torrent,
	// and goes unread for a while, each time for twice as long: nearly all of it
	// will be left out, and the processor is better used by the job. Readers see
	// the newest in the file.
	torrent     = time.Second
	longTorrent = 8 * time.Second
	// share is how much is read of one file before it is another's turn.
	share = 2 << 20
	// batch is how much text is saved in one transaction at most.
	batch = 1 << 20
	// Disk is given back in parts of worth, and before its time when plenty waits:
	// each time costs a sync of the store.
	worth  = 1 << 20
	plenty = 16 << 20
	// ask is how long a log rests whose secrets are not known.
	ask = 10 * time.Second
	// abandoned is how long nobody has printed into a file that is removed though
	// somebody may have it open.
	abandoned = 24 * time.Hour
	// last is how long a Follower takes at its end for logs whose attempts have
	// ended; the next one does the rest.
	last = 2 * time.Second
)

// NewFollower makes a Follower; Run sets it going.
func NewFollower(o Options) *Follower {
	o.Sync = cmp.Or(o.Sync, 5*time.Second)
	return &Follower{o: o, kick: make(chan struct{}, 1), tails: map[key]*tail{}, watched: map[int32]*tail{}}
}

// Add follows an attempt from where the store is. One that is followed already
// stays as it is.
func (f *Follower) Add(a Attempt) {
	t := &tail{Attempt: a, mask: NewMasker(a.Secrets), blind: a.Ask != nil, half: half(a.Limit), place: place{path: a.file()}, wait: hot, due: time.Now().Add(quiet / 2)}
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{a.Run, a.Number}
	if f.tails[k] == nil {
		f.tails[k] = t
		f.news = append(f.news, t)
		f.wake()
	}
}

// Ended says that an attempt has ended: the rest of its output is stored, and
// then it is followed no longer.
func (f *Follower) Ended(run string, number int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.tails[key{run, number}]; t != nil {
		t.ended = true
		f.wake()
	}
}

// Follows reports whether an attempt is followed: it has not ended, or is not
// stored to its end, or left somebody behind who has its log open.
func (f *Follower) Follows(run string, number int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tails[key{run, number}] != nil
}

// Reader gives a Reader for an attempt that is followed; false when it is not, or
// its secrets are not known.
func (f *Follower) Reader(run string, number int) (*Reader, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tails[key{run, number}]
	if t == nil || t.blind {
		return nil, false
	}
	return newReader(f.o.Store, t.Attempt, t.mask), true
}

func (f *Follower) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// Run follows until ctx ends. Then it stores what is left of the attempts that
// have ended.
func (f *Follower) Run(ctx context.Context) error {
	f.watch = newWatch(f.wake)
	defer f.watch.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for soon := false; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			continue
		case <-f.kick:
			if !soon { // one pass for all that come in a burst
				soon = true
				timer.Reset(hot / 2)
			}
			continue
		case <-timer.C:
		}
		soon = false
		next := f.pass(ctx)
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
	defer cancel()
	f.finish(rest)
	return nil
}

// finish stores what attempts that have ended printed, and closes their logs.
func (f *Follower) finish(ctx context.Context) {
	f.take()
	for _, t := range f.following {
		for end := f.hasEnded(t); end && !t.all && ctx.Err() == nil; {
			if !f.look(ctx, t, time.Now(), end) {
				break
			}
			f.save(ctx)
		}
	}
	f.save(ctx)
	f.settle(ctx, true)
}

// take takes over what was added.
func (f *Follower) take() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.following = append(f.following, f.news...)
	f.news = nil
}

// missed is the number of an event in place of those that the kernel dropped.
const missed = -1

// hear has those looked at that the watch has heard of.
func (f *Follower) hear(now time.Time) {
	for _, number := range f.watch.take() {
		if number == missed {
			for _, t := range f.following {
				t.due = now
			}
		}
		if t := f.watched[number]; t != nil {
			delete(f.watched, number)
			t.number, t.wait, t.due = 0, hot, now
		}
	}
}

func (f *Follower) hasEnded(t *tail) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return t.ended
}

// pass looks at every file that is due, and gives the time of the next pass;
// zero when there is nothing to follow.
func (f *Follower) pass(ctx context.Context) (next time.Time) {
	f.take()
	now := time.Now()
	f.hear(now)
	for _, t := range f.following {
		ended := f.hasEnded(t)
		if ended && !t.last {
			t.due, t.last = now, true // at once, and then like a quiet one
		}
		// Those that are nearly due are looked at too, so that they meet: a thousand
		// quiet ones in a few passes a second.
		if t.due.After(now.Add(max(hot/2, min(t.wait, quiet)/4))) {
			continue
		}
		f.look(ctx, t, now, ended)
		if f.weight >= batch {
			f.save(ctx)
		}
	}
	f.save(ctx)
	f.settle(ctx, false)
	for _, t := range f.following {
		if next.IsZero() || t.due.Before(next) {
			next = t.due
		}
	}
	return next
}

// look reads what is new of a log and says when to look again. It reports
// whether there is more at once.
func (f *Follower) look(ctx context.Context, t *tail, now time.Time, ended bool) (more bool) {
	if t.wait >= quiet && t.number == 0 && t.rest == 0 && !ended { // before it is looked at: so nothing is missed
		if number, ok := f.watch.add(t.path); ok {
			t.number, f.watched[number] = number, t
		}
	}
	was := t.read
	more, err := f.advance(ctx, t, ended)
	if err != nil {
		if ctx.Err() == nil {
			f.tell(t, err)
		}
		more = false
	} else {
		t.told = ""
	}
	if t.read > was {
		t.wait = hot
	} else {
		t.wait = min(t.wait*3/2, quiet)
	}
	switch {
	case more:
		t.wait = 0
	case t.listed: // until its secrets are known
		t.wait = ask
	case t.number != 0 && t.read == was && err == nil && !ended:
		t.wait = still
	case t.unsure && t.read == was:
		t.wait = still
	case ended: // somebody that it left behind may still print
		t.wait = quiet
	case t.rest > 0 && t.read >= t.target:
		t.wait, t.rest = t.rest, min(2*t.rest, longTorrent)
	}
	if t.read >= t.target {
		t.target = 0
	}
	t.due = now.Add(t.wait)
	return more
}

// tell logs an error once.
func (f *Follower) tell(t *tail, err error) {
	if text := err.Error(); text != t.told {
		t.told = text
		f.o.Log.Error("follow a log", "run", t.Run, "attempt", t.Number, "error", err)
	}
}

// advance reads what is new of a log, at most share, and adds it to what is to
// be saved. more says that it stopped for that.
func (f *Follower) advance(ctx context.Context, t *tail, ended bool) (more bool, err error) {
	if !t.known {
		// Most have printed nothing yet: the store need not be asked about them.
		var st unix.Stat_t
		if err := unix.Lstat(t.path, &st); err != nil || st.Size == 0 {
			t.inode, t.all = st.Ino, ended
			return false, nil
		}
		if known, err := f.learn(ctx, t); !known {
			return false, err
		}
		if err := f.resume(ctx, t); err != nil {
			return false, err
		}
	}
	file, truncated, err := t.look(t.read)
	if truncated {
		t.given, t.target = t.base, 0
		f.o.Log.Info("a job truncated its output", "run", t.Run, "attempt", t.Number, "at", t.base)
	}
	var refused refusal
	if t.all = ended && (err == nil || errors.As(err, &refused)); err != nil || file == nil {
		return false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	end := t.base + file.size
	switch behind := t.read >= t.half && end-t.half > t.read; {
	case ended:
		t.rest, t.target = 0, 0
	case t.target > 0:
		end = min(end, t.target)
	case behind && t.rest == 0:
		t.rest = torrent
		return false, nil
	case !behind:
		t.rest = 0
	}
	c, err := f.lastChunk(ctx, t)
	if err != nil {
		return false, err
	}
	f.buf = grow(f.buf, roomFor(chunkSize, t.mask))
	change := Change{Log: Log{Run: t.Run, Number: t.Number, Limit: t.Limit}}
	start, now := t.read, f.o.Now()
	fresh := false // whether something was added to c
	done := func() {
		if fresh {
			c.Length = int64(len(f.chunk))
			was := len(f.data)
			f.data = f.encoder.EncodeAll(f.chunk, f.data)
			c.Data = f.data[was:]
			change.Chunks = append(change.Chunks, c)
		}
		c, f.chunk, fresh = Chunk{Start: t.read, Base: t.base}, f.chunk[:0], false
	}
	for taken := 0; t.read < end; {
		if taken >= share {
			more = true
			break
		}
		if t.read >= t.half && end-t.half > t.read {
			// What lies between is not kept: it is not even read.
			t.read, t.target = end-t.half, end
			done()
		}
		n := chunkSize - int64(len(f.chunk))
		if t.read < t.half {
			n = min(n, t.half-t.read)
		}
		if n == 0 || len(c.Marks) > maxMarks {
			done()
			continue
		}
		text, at, err := file.read(f.buf, t.read-t.base, min(n, end-t.read), t.mask, ended)
		if err != nil {
			t.read = start
			return false, err
		}
		if len(text) == 0 {
			break // the rest is not there any more, or may be the beginning of a secret
		}
		if at += t.base; at > t.read {
			t.read = at
			done()
		}
		if !fresh {
			c.Marks = appendMark(c.Marks, c.last(), mark{t.read - c.Start, now})
			c.At, fresh = now, true
		}
		f.chunk = append(f.chunk, text...)
		t.read += int64(len(text))
		t.keep(text, t.read)
		taken += len(text)
		if t.read == t.half {
			done()
		}
	}
	done()
	t.all = ended && !file.more(t.read-t.base)
	if len(change.Chunks) == 0 {
		return more, nil
	}
	if t.half < math.MaxInt64 && t.read-t.half > t.half {
		change.DropFrom, change.DropTo = t.half, t.read-t.half
	}
	f.changes, f.saving = append(f.changes, change), append(f.saving, t)
	f.weight += int(t.read - start)
	return more, nil
}

// learn asks for the secrets of a log if they are not known. Once they cannot be
// told, the store is told of the log: so the next daemon finds it, whenever it
// comes.
func (f *Follower) learn(ctx context.Context, t *tail) (known bool, err error) {
	if t.Ask == nil {
		return true, nil
	}
	secrets, err := t.Ask(ctx)
	if err != nil {
		if !t.listed {
			t.listed = true
			f.changes = append(f.changes, Change{Log: Log{Run: t.Run, Number: t.Number, Limit: t.Limit}})
		}
		return false, fmt.Errorf("its output stays in its file until it is known what is secret in it: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Secrets, t.Ask, t.mask, t.blind, t.listed = secrets, nil, NewMasker(secrets), false, false
	return true, nil
}

// resume asks the store how far it is: the daemon before this one was there.
func (f *Follower) resume(ctx context.Context, t *tail) error {
	c, ok, err := f.o.Store.ChunkBefore(ctx, t.Run, t.Number, math.MaxInt64)
	if err != nil {
		return err
	}
	if ok {
		text, err := c.text(f.chunk[:0])
		if err != nil {
			return err
		}
		f.chunk = text
		t.keep(text, c.End())
		t.stored, t.read, t.base, t.given = c.End(), c.End(), c.Base, c.Base
	}
	t.known = true
	return nil
}

// lastChunk gives the chunk that is to be filled, and puts its text into
// f.chunk: the last one of the store, if it ends where the file goes on and has
// room, else a new one.
func (f *Follower) lastChunk(ctx context.Context, t *tail) (Chunk, error) {
	if f.encoder == nil {
		f.encoder = newEncoder()
	}
	f.chunk = f.chunk[:0]
	fresh := Chunk{Start: t.read, Base: t.base}
	if t.read == t.base || t.read == t.half {
		return fresh, nil
	}
	c, ok, err := f.o.Store.ChunkBefore(ctx, t.Run, t.Number, t.read)
	if err != nil || !ok || c.End() != t.read || c.Base != t.base || c.Length >= chunkSize {
		return fresh, err
	}
	f.chunk, err = c.text(f.chunk)
	return c, err
}

func grow(buf []byte, n int) []byte {
	if len(buf) < n {
		return make([]byte, n)
	}
	return buf
}

// save makes what was read the store's.
func (f *Follower) save(ctx context.Context) {
	if len(f.changes) == 0 {
		return
	}
	err := f.o.Store.SaveLogs(ctx, f.changes)
	for _, t := range f.saving {
		if err == nil {
			t.stored = t.read
			continue
		}
		// It is read again. What a torrent left out stays left out.
		t.read, t.target, t.all = t.stored, 0, false
		t.wait, t.due = quiet, time.Now().Add(quiet)
		if ctx.Err() == nil {
			f.tell(t, err)
		}
	}
	clear(f.changes)
	f.changes, f.saving, f.data, f.weight = f.changes[:0], f.saving[:0], f.data[:0], 0
}

// settle gives back the disk of what is stored, and closes the logs of which
// all is. What was saved may be undone by a power loss until the store is
// synced: so before that nothing is taken away.
func (f *Follower) settle(ctx context.Context, now bool) {
	var waits, silent, most int64
	for _, t := range f.following {
		switch {
		case t.all && t.stored == 0: // nothing was printed: it waits for nothing
			silent++
		case t.all:
			waits++
		}
		if n := t.spare(); n >= worth {
			waits, most = waits+1, max(most, n)
		}
	}
	synced := false
	if waits > 0 && (now || most >= plenty || time.Since(f.synced) >= f.o.Sync) {
		f.synced = time.Now()
		err := f.o.Store.SyncLogs(ctx)
		if synced = err == nil; !synced {
			f.o.Log.Debug("sync the logs", "error", err) // a reader was in the way: later
		}
	}
	if !synced && silent == 0 {
		return
	}
	var closed []Change
	kept := f.following[:0]
	for _, t := range f.following {
		if synced {
			f.giveBack(t)
		}
		if !t.all || t.stored > 0 && !synced || !f.remove(t) {
			kept = append(kept, t)
			continue
		}
		if f.open(ctx, t) {
			closed = append(closed, Change{Log: Log{Run: t.Run, Number: t.Number, Limit: t.Limit, Closed: true}})
		}
		if t.number != 0 {
			f.watch.drop(t.number)
			delete(f.watched, t.number)
		}
		f.mu.Lock()
		delete(f.tails, key{t.Run, t.Number})
		f.mu.Unlock()
	}
	clear(f.following[len(kept):])
	f.following = kept
	if len(closed) == 0 {
		return
	}
	if err := f.o.Store.SaveLogs(ctx, closed); err != nil {
		f.o.Log.Error("close logs", "logs", len(closed), "error", err) // the next daemon finds them and does
	}
}

// open reports whether the store has the log as one that is not closed. That of
// an attempt whose file is empty, or gone, has not been asked for yet: a daemon
// may have been killed between removing the file and closing the log.
func (f *Follower) open(ctx context.Context, t *tail) bool {
	if t.stored > 0 {
		return true
	}
	l, ok, err := f.o.Store.Log(ctx, t.Run, t.Number)
	return err != nil || ok && !l.Closed
}

// spare is how much of the file is stored and not given back yet.
func (t *tail) spare() int64 {
	if t.cannot || !t.known {
		return 0
	}
	// What the next read begins with stays, and what shows that the file is the
	// same. A part of a block would become zeros that look like text.
	end := t.stored - t.base - max(int64(t.mask.Context()), guardSize)
	return t.base + end - end%block - t.given
}

// giveBack punches out what is stored. What lies between the halves that are
// kept goes with it, in case the keeper is not there to do so.
func (f *Follower) giveBack(t *tail) {
	n := t.spare()
	if n < worth {
		return
	}
	from := t.given - t.base
	punched, err := t.punch(from, from+n)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.cannot = true
	case err != nil:
		f.tell(t, err)
	case punched:
		t.given += n
	default: // the job has truncated it since: what it prints now is new
		t.all, t.wait, t.due = false, hot, time.Now()
	}
}

// remove takes away the file of a log that is stored to its end, and reports
// whether it has. A process that the job left behind may still print: then its
// output belongs to the log for as long as it lives.
func (f *Follower) remove(t *tail) bool {
	file, err := openLog(t.path)
	if file == nil {
		return true // it is not there, or not one that we touch
	}
	more := !t.same(file) || file.more(t.read-t.base) || f.written(t, file)
	if err = errors.Join(err, file.Close()); err != nil || more {
		t.all = false
		return false
	}
	if err := os.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.tell(t, fmt.Errorf("remove what is stored: %w", err))
	}
	return true
}

// written reports whether somebody may still print into a log. Where the kernel
// cannot tell, nobody does when it has not grown for a day.
func (f *Follower) written(t *tail, file *file) bool {
	written, known := file.written()
	t.unsure = !known
	return written || !known && f.o.Now().Sub(file.modified) < abandoned
}

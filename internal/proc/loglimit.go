package proc

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A log is kept within its limit by taking its middle away while the job
// writes: the first half of the limit stays and the last, and what is between
// becomes a hole. The file keeps its length, every byte its place, and the job
// notices nothing. Who reads it finds with SEEK_HOLE and SEEK_DATA what was
// left out. Whoever else makes holes in it (the daemon, in what it has stored)
// disturbs nothing: a hole in a hole is a hole.
//
// Logs are looked at, not watched: a job that prints fast every glance, one
// that is quiet every couple of seconds, and no descriptor is held meanwhile.
const (
	glanceLog   = 50 * time.Millisecond
	firstLook   = 2 * glanceLog // most jobs of a burst have ended by then
	restLog     = 2 * time.Second
	quietLog    = time.Minute // so long a log is looked at after nobody was seen who could write it
	looksPerLog = 16          // a log that grew by this part of its limit between two looks is a fast one
)

// limiter keeps the logs of attempts within their limits.
type limiter struct {
	report func(log string, err error) // told of the first log that cannot be made smaller
	once   sync.Once
	news   chan struct{}

	mu   sync.Mutex
	logs map[key]*limitedLog // guarded by mu
	wake time.Time           // guarded by mu: when run will look, zero when there is nothing to look at
}

// limitedLog is one log with a limit.
type limitedLog struct {
	path    string
	limit   int64
	writers func() writers
	due     time.Time // guarded by limiter.mu

	mu    sync.Mutex
	size  int64         // guarded by mu: when it was looked at
	pause time.Duration // guarded by mu
	quiet time.Time     // guarded by mu: since when it has not grown
}

// writers says who may still write a log.
type writers int

const (
	noWriters      writers = iota
	unknownWriters         // nobody was seen; who left the attempt's session would not have been
	someWriters
)

func newLimiter(report func(log string, err error)) *limiter {
	return &limiter{report: report, news: make(chan struct{}, 1), logs: make(map[key]*limitedLog)}
}

// add begins to keep an attempt's log small.
func (l *limiter) add(k key, dir string, limit int64, w func() writers) {
	now := time.Now()
	due := now.Add(firstLook)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logs[k] = &limitedLog{
		path: dir + "/" + logName, limit: limit, writers: w,
		pause: firstLook, due: due, quiet: now,
	}
	if l.wake.IsZero() || due.Before(l.wake) {
		l.wake = due
		signalTo(l.news)
	}
}

// run looks at the logs until done is closed.
func (l *limiter) run(done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-l.news:
		case <-timer.C:
		}
		now := time.Now()
		if next := l.look(now); !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
	}
}

// look sees to all logs that are due, and says when the next one will be.
func (l *limiter) look(now time.Time) (next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, log := range l.logs {
		if !now.Before(log.due) {
			l.mu.Unlock() // a network disk may take for ever
			pause, gone := l.trim(log, now)
			l.mu.Lock()
			if gone {
				delete(l.logs, k)
				continue
			}
			log.due = now.Add(pause)
		}
		if next.IsZero() || log.due.Before(next) {
			next = log.due
		}
	}
	if soonest := now.Add(glanceLog); !next.IsZero() && next.Before(soonest) {
		next = soonest // those that are due one after the other wait for each other
	}
	l.wake = next
	return next
}

// leave has a log looked at by settle next: its attempt has ended, and in a burst
// most have by their first look.
func (l *limiter) leave(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if log := l.logs[k]; log != nil {
		log.due = time.Now().Add(2 * recordPause)
	}
}

// settle sees to the log of an attempt whose main process has ended.
func (l *limiter) settle(k key) {
	l.mu.Lock()
	log := l.logs[k]
	l.mu.Unlock()
	if log == nil {
		return
	}
	if _, gone := l.trim(log, time.Now()); gone {
		l.mu.Lock()
		delete(l.logs, k)
		l.mu.Unlock()
	}
}

// trim takes the middle out of a log that is too long. It says when to look
// again, or that there is no need to.
func (l *limiter) trim(log *limitedLog, now time.Time) (pause time.Duration, gone bool) {
	w := log.writers() // asked first: what they write is seen below
	log.mu.Lock()
	defer log.mu.Unlock()
	var info unix.Stat_t
	if err := unix.Lstat(log.path, &info); err != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, true
	}
	grew := info.Size - log.size
	log.size = info.Size
	if grew != 0 {
		log.quiet = now
	}
	if grew > log.limit/looksPerLog {
		log.pause = glanceLog
	} else {
		log.pause = min(2*log.pause, restLog)
	}
	// By the room it takes, not by its length: a job may have emptied it and
	// begun anew since the last look.
	block := int64(info.Blksize) //nolint:unconvert // an int32 on some machines
	if info.Size > log.limit && info.Blocks*512 > log.limit+2*block {
		if err := log.punch(info.Size, block); err != nil {
			l.once.Do(func() { l.report(log.path, err) })
		}
	}
	return log.pause, w == noWriters || w == unknownWriters && now.Sub(log.quiet) > quietLog
}

// punch makes the hole, of the whole blocks that lie between the two halves.
// A block at an edge stays as it is: zeros in it would be data, and look as if
// the job had written them.
func (log *limitedLog) punch(size, block int64) error {
	half := log.limit / 2
	begin := (half + block - 1) / block * block
	end := (size - half) / block * block
	if begin >= end {
		return nil
	}
	fd, err := unix.Open(log.path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return punchHole(fd, begin, end-begin)
}

// CanPunch tries whether files below dir can be given holes. Where they cannot,
// nothing keeps a log within its limit while the job runs.
func CanPunch(dir string) error {
	file, err := os.CreateTemp(dir, ".hole-*")
	if err != nil {
		return fmt.Errorf("try to make a hole in a file: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := os.Remove(file.Name()); err != nil {
		return fmt.Errorf("try to make a hole in a file: %w", err)
	}
	const size = 1 << 20
	if err := file.Truncate(size); err != nil {
		return fmt.Errorf("try to make a hole in a file: %w", err)
	}
	if err := punchHole(int(file.Fd()), 0, size); err != nil {
		return &fs.PathError{Op: "make a hole in a file in", Path: dir, Err: err}
	}
	return nil
}

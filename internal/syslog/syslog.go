// Package syslog answers: how does the machine's log learn what cron does? In
// cron's own lines, `(alice) CMD (make report)`, so that whatever looks for them
// finds them: in /var/log/syslog, /var/log/cron or the journal, all of which
// listen on /dev/log. It is for the cron of the machine; a project's daemon has
// its own log.
package syslog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Socket is where the machine's log listens.
const Socket = "/dev/log"

// priority is facility cron (9) and severity info (6), as RFC 3164 adds them up.
const priority = 9<<3 | 6

// Log writes cron's lines, in the order of their events. It makes nobody wait: it
// loses lines where nobody listens, as syslog(3) does, and where more come than are
// taken.
type Log struct {
	path  string
	lines chan []byte
	done  chan struct{} // closed when all is written that will be
	until atomic.Int64  // when to give up what is left, once it is closed; in ns since 1970

	mu     sync.Mutex
	closed bool // guarded by mu
}

// room is how many lines may wait for whoever listens.
const room = 4096

// patience bounds how long one line waits, and how long Close does.
const patience = time.Second

// New gives a Log to the socket at path. Whoever makes one closes it.
func New(path string) *Log {
	l := &Log{path: path, lines: make(chan []byte, room), done: make(chan struct{})}
	go l.run()
	return l
}

// Event writes one line: who says it, as which process, and what has become of what
// for which user: `CRON[12]: (alice) CMD (make report)`.
func (l *Log) Event(ident string, pid int, user, event, detail string) {
	line := fmt.Appendf(nil, "<%d>%s %s[%d]: (%s) %s (%s)", priority, time.Now().Format(time.Stamp), ident, pid, user, event, detail)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.lines <- line:
	default:
	}
}

// Close writes what still waits, for a second at most.
func (l *Log) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.until.Store(time.Now().Add(patience).UnixNano())
		close(l.lines)
	}
	l.mu.Unlock()
	<-l.done
}

func (l *Log) run() {
	defer close(l.done)
	var conn net.Conn
	for line := range l.lines {
		conn = l.write(conn, line)
	}
	if conn != nil {
		_ = conn.Close()
	}
}

// write sends a line and gives the connection for the next, nil when there is none.
func (l *Log) write(conn net.Conn, line []byte) net.Conn {
	for range 2 { // whoever listens may have been started anew
		if conn == nil {
			var err error
			if conn, err = net.Dial("unixgram", l.path); err != nil { //nolint:noctx // a datagram socket is there or not
				return nil
			}
		}
		deadline := time.Now().Add(patience)
		if until := l.until.Load(); until > 0 {
			deadline = time.Unix(0, until)
		}
		_ = conn.SetWriteDeadline(deadline)
		_, err := conn.Write(line)
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return conn
		}
		_ = conn.Close()
		conn = nil
	}
	return nil
}

// Printable writes text as cron's log has it: a control character as ^M, a byte
// that is not ASCII as \351.
func Printable(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ':
			b.WriteByte('^')
			b.WriteByte(c + '@')
		case c < 0x7f:
			b.WriteByte(c)
		case c == 0x7f:
			b.WriteString("^?")
		default:
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String()
}

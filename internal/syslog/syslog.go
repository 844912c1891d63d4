// Package syslog answers: how does the machine's log learn what cron does? In
// cron's own lines, `(alice) CMD (make report)`, so that whatever looks for them
// finds them: in /var/log/syslog, /var/log/cron or the journal, all of which
// listen on /dev/log. It is for the cron of the machine; a project's daemon has
// its own log.
package syslog

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Socket is where the machine's log listens.
const Socket = "/dev/log"

// priority is facility cron (9) and severity info (6), as RFC 3164 adds them up.
const priority = 9<<3 | 6

// Log writes cron's lines. It loses them where nobody listens, as syslog(3) does,
// and never makes anybody wait.
type Log struct {
	path, ident string

	mu   sync.Mutex
	conn net.Conn // guarded by mu; nil: not connected
}

// New gives a Log to the socket at path, /dev/log when it is empty, whose lines
// are ident's.
func New(path, ident string) *Log {
	return &Log{path: cmp.Or(path, Socket), ident: ident}
}

// Event writes one line: what has become of what, of which user, in the process
// pid: `CRON[12]: (alice) CMD (make report)`.
func (l *Log) Event(pid int, user, event, detail string) {
	l.EventAs(l.ident, pid, user, event, detail)
}

// EventAs is Event under another name than the log's.
func (l *Log) EventAs(ident string, pid int, user, event, detail string) {
	l.write(fmt.Appendf(nil, "<%d>%s %s[%d]: (%s) %s (%s)", priority, time.Now().Format(time.Stamp), ident, pid, user, event, detail))
}

// patience bounds what a log that is full may cost.
const patience = 100 * time.Millisecond

func (l *Log) write(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range 2 { // whoever listens may have been started anew
		if l.conn == nil {
			conn, err := net.Dial("unixgram", l.path) //nolint:noctx // a datagram socket is there or not
			if err != nil {
				return
			}
			l.conn = conn
		}
		_ = l.conn.SetWriteDeadline(time.Now().Add(patience))
		if _, err := l.conn.Write(line); err == nil {
			return
		}
		_ = l.conn.Close()
		l.conn = nil
	}
}

// Close gives the connection back.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
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

package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"belfry/api"
	"belfry/internal/server"
	"belfry/internal/system"
)

// peersMost is how many connections of one user are open at a time: nobody may
// take all that the daemon can have.
const peersMost = 64

// listenPeers binds the socket that everybody on the machine may open. Who opens
// it is told by the kernel.
func listenPeers(folder string) (net.Listener, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, &FolderError{folder, err}
	}
	if err := os.Chmod(folder, 0o755); err != nil { // whatever the mask of modes is
		return nil, &FolderError{folder, err}
	}
	listener, err := listen(folder, 0o666)
	if err != nil {
		return nil, err
	}
	return &peerListener{Listener: listener, open: map[uint32]int{}}, nil
}

// peerListener accepts connections of which it knows who is at the other end.
type peerListener struct {
	net.Listener

	mu   sync.Mutex
	open map[uint32]int // guarded by mu; user id → connections
}

// peerConn is a connection of a user of the machine.
type peerConn struct {
	net.Conn
	uid  uint32
	done func()
}

func (c *peerConn) Close() error {
	c.done()
	return c.Conn.Close()
}

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, ok := peerOf(conn); ok && l.take(uid) {
			return &peerConn{conn, uid, sync.OnceFunc(func() { l.give(uid) })}, nil
		}
		_ = conn.Close() // it was not spoken to
	}
}

func (l *peerListener) take(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid] >= peersMost {
		return false
	}
	l.open[uid]++
	return true
}

func (l *peerListener) give(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// peerHandler answers root, and whoever the daemon runs as, all that they ask, and
// other users what is about their own jobs.
func (d *Daemon) peerHandler(ending <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(int)
		if known && (uid == 0 || uid == os.Geteuid()) {
			d.handler(newBackend(d), server.Owner, uid, ending).ServeHTTP(w, r)
			return
		}
		if !known {
			d.handler(newBackend(d), server.Anyone, nobody, ending).ServeHTTP(w, r)
			return
		}
		user, err := d.users.LookupID(uint32(uid))
		if err != nil {
			o := d.answers(newBackend(d), server.Anyone, nobody, ending)
			o.Barred = stranger(uid, err)
			server.New(o).ServeHTTP(w, r)
			return
		}
		d.handler(newBackend(d).of(user.Name), server.User, uid, ending).ServeHTTP(w, r)
	})
}

// stranger says why a user of whom only the number is known is answered nothing.
func stranger(uid int, err error) *api.Error {
	if unknown := new(system.UnknownUserError); errors.As(err, &unknown) {
		return &api.Error{Code: api.Forbidden, Message: fmt.Sprintf("user %d, who asks, is none of this machine", uid)}
	}
	return &api.Error{Code: api.Unavailable, Message: err.Error(), Hint: "try again in half a minute"}
}

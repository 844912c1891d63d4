package daemon

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"belfry/internal/server"
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

// peerOf gives the user id of the process that connected.
func peerOf(conn net.Conn) (uid uint32, ok bool) {
	unixConn, isUnix := conn.(*net.UnixConn)
	if !isUnix {
		return 0, false
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if controlErr != nil || err != nil {
		return 0, false
	}
	return cred.Uid, true
}

type peerKey struct{}

// withPeer keeps a connection's user for its requests: net/http has no other way
// from the one to the other.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if peer, ok := conn.(*peerConn); ok {
		return context.WithValue(ctx, peerKey{}, peer.uid)
	}
	return ctx
}

// peerHandler answers root, and whoever the daemon runs as, all that they ask, and
// other users what is about their own jobs.
func (d *Daemon) peerHandler(ending <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(uint32)
		if known && (uid == 0 || int(uid) == os.Geteuid()) {
			d.handler(newBackend(d), server.Owner, uid, ending).ServeHTTP(w, r)
			return
		}
		access, b := server.Anyone, newBackend(d)
		if user, err := d.o.System.Users.LookupID(uid); known && err == nil {
			access, b = server.User, b.of(user.Name)
		}
		d.handler(b, access, uid, ending).ServeHTTP(w, r)
	})
}

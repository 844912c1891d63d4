package server

import (
	"context"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// WithPeer is an http.Server's ConnContext: it keeps who has connected through a
// unix socket, as the kernel says.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// peer is the uid of whoever has made a request; false where nobody can tell.
func peer(r *http.Request) (uid uint32, known bool) {
	uid, known = r.Context().Value(peerKey{}).(uint32)
	return uid, known
}

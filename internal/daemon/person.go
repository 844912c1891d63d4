package daemon

import (
	"context"
	"net"
	"strconv"

	"belfry/internal/run"
	"belfry/internal/store"
)

// peerKey is where the context of a request has the uid at the other end: HTTP
// gives its handlers no other way to know a connection.
type peerKey struct{}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if uid, ok := peerOf(conn); ok {
		return context.WithValue(ctx, peerKey{}, int(uid))
	}
	return ctx // who is at the other end of a network changes nothing
}

// peerOf gives the user id of the process that connected, as the kernel has it.
func peerOf(conn net.Conn) (uid uint32, ok bool) {
	if peer, known := conn.(*peerConn); known {
		return peer.uid, true
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	if controlErr := raw.Control(func(fd uintptr) {
		uid, err = peerUID(int(fd))
	}); controlErr != nil || err != nil {
		return 0, false
	}
	return uid, true
}

// person is who a request comes from.
func (d *Daemon) person(ctx context.Context) run.Person {
	uid, ok := ctx.Value(peerKey{}).(int)
	if !ok {
		return run.Person{UID: -1, Name: "unknown"}
	}
	if user, err := d.users.LookupID(uint32(uid)); err == nil {
		return run.Person{UID: uid, Name: user.Name}
	}
	return run.Person{UID: uid, Name: "uid " + strconv.Itoa(uid)}
}

// Acts lists what people did, the newest first.
func (h *history) Acts(ctx context.Context, job string, limit int) ([]run.Act, error) {
	f := store.ActFilter{Limit: limit}
	if job != "" {
		j, err := h.findAny(ctx, job)
		if err != nil {
			return nil, err
		}
		f.Job = j.Key
	}
	return h.store.Acts(ctx, f)
}

// ActsOn lists what people did to a run, to the backfill that it belongs to and,
// where its job is paused, who paused that.
func (h *history) ActsOn(ctx context.Context, r run.Run) ([]run.Act, error) {
	filters := []store.ActFilter{{Run: r.ID}}
	if r.Backfill != "" {
		filters = append(filters, store.ActFilter{Backfill: r.Backfill})
	}
	if j, known := h.byKey(r.Job); known && j.Paused {
		filters = append(filters, store.ActFilter{Job: r.Job, Action: run.ActPause, Limit: 1})
	}
	var acts []run.Act
	for _, f := range filters {
		more, err := h.store.Acts(ctx, f)
		if err != nil {
			return nil, err
		}
		acts = append(acts, more...)
	}
	return acts, nil
}

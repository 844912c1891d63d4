package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	eventPause = 50 * time.Millisecond  // between two frames of events: in a burst, fewer are faster
	crowdPause = 500 * time.Millisecond // while a crowd waits to be started: it goes first
	maxUnread  = 10_000                 // answers that a daemon has not read: more, and it is dropped
)

// peer is one daemon's connection, on the keeper's side.
type peer struct {
	conn    *net.UnixConn
	greeted bool // guarded by keeper.mu
	daemon  bool // guarded by keeper.mu: it has subscribed; who only looks on keeps no keeper alive
	held    held // guarded by keeper.mu

	signal chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	frames [][]byte // guarded by mu
	events []Event  // guarded by mu
	final  bool     // guarded by mu: close when all is written
	ended  bool     // guarded by mu
}

// accept takes connections until the listener is closed.
func (k *keeper) accept() {
	for {
		conn, err := k.folder.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			k.log.Error("accept a daemon", "error", err)
			select {
			case <-k.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
				continue
			}
		}
		p := &peer{conn: conn, signal: make(chan struct{}, 1), done: make(chan struct{})}
		k.mu.Lock()
		k.peers[p] = true
		if k.ending {
			p.finish()
		}
		k.mu.Unlock()
		k.work.Go(func() { p.write(k.crowded) })
		k.work.Go(func() { k.serve(p) })
	}
}

// serve answers one daemon until it hangs up. A daemon that hangs up takes
// nothing along.
func (k *keeper) serve(p *peer) {
	defer func() {
		p.close()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.peers, p)
		if k.subscriber == p {
			k.subscriber = nil
		}
		if p.daemon {
			k.daemons--
			k.considerEnd()
		}
	}()
	reader := bufio.NewReaderSize(p.conn, 64<<10)
	if err := p.conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return
	}
	for {
		frame, err := readFrame(reader, k.limit)
		if err != nil {
			if errors.Is(err, errFrameTooLong) || errors.Is(err, os.ErrDeadlineExceeded) {
				k.log.Warn("daemon dropped", "error", err)
			}
			return
		}
		var m message
		if err := json.Unmarshal(frame, &m); err != nil {
			p.send(message{Type: typeError, Seq: m.Seq, Code: codeInvalid, Error: fmt.Sprintf("not a frame: %v", err)})
			continue
		}
		k.answer(p, m)
	}
}

// answer does what one frame asks.
func (k *keeper) answer(p *peer, m message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fail := func(code, format string, args ...any) {
		p.send(message{Type: typeError, Seq: m.Seq, Protocol: ProtocolVersion, Oldest: OldestProtocol, Code: code, Error: fmt.Sprintf(format, args...)})
	}
	ok := func() {
		if m.Seq != 0 {
			p.send(message{Type: typeOK, Seq: m.Seq})
		}
	}
	if m.Type == typeHello {
		k.hello(p, m, fail)
		return
	}
	if !p.greeted {
		fail(codeInvalid, "say hello first")
		return
	}
	id := key{m.Run, m.Attempt}
	switch m.Type {
	case typeStart, typeHold, typeGo:
		switch {
		case k.ending || k.terminated:
			fail(codeEnding, "this keeper is ending")
			return
		case m.Type == typeHold:
			p.held = held{m.Seq, m.Specs}
		case m.Type == typeGo && m.Hold != p.held.seq:
			fail(codeUnknown, "nothing is held under %d", m.Hold)
			return
		case m.Type == typeGo:
			k.start(p.held.specs)
			p.held = held{}
		default:
			k.start(m.Specs)
		}
		ok()
	case typeSignal:
		a := k.attempts[id]
		switch {
		case a == nil:
			fail(codeUnknown, "attempt %d of run %s is not here", m.Attempt, m.Run)
			return
		case m.Kind != Stop && m.Kind != Kill:
			fail(codeInvalid, "%q is not a way to end an attempt", m.Kind)
			return
		}
		if a.stop != Kill {
			a.stop = m.Kind
		}
		if a.state == stateRunning {
			k.endAttempt(a, m.Kind)
		}
		ok()
	case typeRenew:
		a := k.attempts[id]
		switch {
		case a == nil || a.state == stateExited:
			fail(codeUnknown, "attempt %d of run %s is not here", m.Attempt, m.Run)
			return
		case a.token != m.Token:
			fail(codeToken, "attempt %d of run %s has the token %d, not %d", m.Attempt, m.Run, a.token, m.Token)
			return
		case a.leaseLost || a.lease > 0 && a.lease <= bootTime(): // the alarm may be late
			fail(codeToken, "the lease of attempt %d of run %s has run out", m.Attempt, m.Run)
			return
		}
		a.lease = m.LeaseEnd
		k.setAlarm()
		ok()
	case typeList:
		answer := message{Type: typeList, Seq: m.Seq}
		if m.Run != "" {
			if a := k.attempts[id]; a != nil {
				answer.Attempts = []wireAttempt{a.wire()}
			}
		} else {
			for _, a := range k.attempts {
				answer.Attempts = append(answer.Attempts, a.wire())
			}
		}
		p.send(answer)
		if m.Subscribe {
			k.subscriber = p // from exactly this list on: both under mu
			if !p.daemon {
				p.daemon = true
				k.daemons++
				k.considerEnd()
			}
		}
	case typeForget:
		if err := k.forget(id); err != nil {
			fail(codeInvalid, "%v", err)
			return
		}
		ok()
	default:
		fail(codeUnsupported, "%q is not a message of protocol %d", m.Type, ProtocolVersion)
	}
}

func (k *keeper) hello(p *peer, m message, fail func(code, format string, args ...any)) {
	protocol := agree(m.Protocol, m.Oldest)
	switch {
	case protocol == 0:
		fail(codeVersion, "this keeper speaks protocol %d to %d, not %d", OldestProtocol, ProtocolVersion, m.Protocol)
		return
	case k.ending:
		fail(codeEnding, "this keeper is ending")
		return
	}
	p.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // then the next read fails
	p.greeted = true
	p.send(message{
		Type: typeHello, Seq: m.Seq, Protocol: protocol,
		Keeper: k.id, Build: build(), PID: k.pid,
	})
}

// send leaves a frame for the writer: nobody waits for a daemon that does not
// read.
func (p *peer) send(m message) {
	frame, err := encode(m)
	if err != nil {
		frame, _ = encode(message{Type: typeError, Seq: m.Seq, Code: codeInvalid, Error: err.Error()})
	}
	p.mu.Lock()
	p.frames = append(p.frames, frame)
	full := len(p.frames) > maxUnread
	p.mu.Unlock()
	if full {
		p.close()
	}
	signalTo(p.signal)
}

func (p *peer) sendEvent(event Event) {
	p.mu.Lock()
	p.events = append(p.events, event)
	first := len(p.events) == 1
	p.mu.Unlock()
	if first { // the writer has a timer for those that follow
		signalTo(p.signal)
	}
}

// close may be called by anyone, and again.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended = true
		close(p.done)
		_ = p.conn.Close()
	}
}

// finish closes the connection when everything is written that was left for
// it; a daemon that does not read gets a second.
func (p *peer) finish() {
	p.mu.Lock()
	p.final = true
	p.mu.Unlock()
	p.conn.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // then it is closed already
	signalTo(p.signal)
}

// write sends what was left for it: answers at once, the first event at once
// too, and those that follow fast in frames of many.
func (p *peer) write(crowded func() bool) {
	defer p.close()
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-p.signal:
		case <-timer.C:
		}
		crowd := crowded() // whose lock is taken before ours
		p.mu.Lock()
		final := p.final
		frames := p.frames
		p.frames = nil
		if len(p.events) > 0 {
			since, pause := time.Since(last), eventPause
			if crowd {
				pause = crowdPause
			}
			if since < pause && !final {
				timer.Reset(min(pause-since, eventPause))
			} else {
				frame, err := encode(message{Type: typeEvents, Events: p.events})
				if err == nil {
					frames = append(frames, frame)
				}
				p.events = nil
				last = time.Now()
			}
		}
		p.mu.Unlock()
		buffers := net.Buffers(frames)
		if _, err := buffers.WriteTo(p.conn); err != nil || final {
			return
		}
	}
}

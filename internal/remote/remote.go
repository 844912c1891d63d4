// Package remote answers: how is a host reached that speaks only ssh, and how is
// a project put on it? It connects as OpenSSH would, carries the API to a daemon
// there, looks at the host before it changes anything, and ships a project as a
// release. What is done on the host itself, without us, is in package site.
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options say which host is meant and how it may be reached.
type Options struct {
	Address   string // [USER@]HOST[:PORT]; HOST may be an alias of the ssh configuration
	Identity  string // path of a private key; empty: those of the configuration, and the agent's
	Home      string // whose .ssh counts
	User      string // on the host, when neither Address nor the configuration names one
	Agent     string // path of the agent's socket; empty: there is none
	AcceptNew bool   // remember the key of a host that is not known, unasked
	// Getenv gives the variables that the configuration may name; nil: there are none.
	Getenv func(name string) string
	// Ask puts a question to the person and gives the answer, which is not shown
	// while it is typed when it is a secret. nil: nobody is there to be asked.
	Ask func(question string, secret bool) (string, error)
	// Tell is given sentences for the person.
	Tell func(sentence string)
	// Alive is how long nothing may come from the host before it is asked whether it is
	// still there, unless the configuration says so. A connection over which nothing
	// has come for three times longer then is cut. 0: 15 s.
	Alive time.Duration
}

// Host is a host that was connected to. Its connection is made anew when it was
// cut, with the keys and the answers that were given for the first.
type Host struct {
	o        Options
	route    []*station // the ways there, and last the host
	keys     *keyring
	mu       sync.Mutex
	client   *ssh.Client // guarded by mu; nil: it was cut
	reached  bool        // guarded by mu: there was a connection
	jumps    []*ssh.Client
	deploy   string      // the ID of our deploy that is at work there; empty: none is
	confined atomic.Bool // SELinux keeps sshd from a daemon's socket, and each try is in the host's audit log
}

// Connect gives a connection to a host. The caller closes it.
func Connect(ctx context.Context, o Options) (*Host, error) {
	h := &Host{o: o, keys: newKeyring(o)}
	if h.o.Alive == 0 {
		h.o.Alive = 15 * time.Second
	}
	if h.o.Tell == nil {
		h.o.Tell = func(string) {}
	}
	var err error
	if h.route, err = route(ctx, o); err != nil {
		return nil, err
	}
	if _, err := h.connection(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// Name is the host as it was given, without a user.
func (h *Host) Name() string { return h.last().name }

// User is who one is on the host.
func (h *Host) User() string { return h.last().user }

func (h *Host) last() *station { return h.route[len(h.route)-1] }

// Close ends the connection.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drop()
}

// drop closes what there is of a connection. The caller holds mu.
func (h *Host) drop() error {
	var errs []error
	if h.client != nil {
		errs = append(errs, h.client.Close())
	}
	for _, jump := range slices.Backward(h.jumps) {
		errs = append(errs, jump.Close())
	}
	h.client, h.jumps = nil, nil
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) {
			errs[i] = nil // it was cut
		}
	}
	return errors.Join(errs...)
}

// connection gives the connection, a new one when there is none.
func (h *Host) connection(ctx context.Context) (*ssh.Client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		return h.client, nil
	}
	var through *ssh.Client
	var conn *line
	for _, s := range h.route {
		client, over, err := h.reach(ctx, s, through)
		if err != nil {
			if connect := new(ConnectError); errors.As(err, &connect) {
				connect.Again = h.reached
			}
			return nil, errors.Join(err, h.drop())
		}
		if through != nil {
			h.jumps = append(h.jumps, through)
		}
		through, conn = client, over
	}
	h.client, h.reached = through, true
	go h.keepAlive(through, conn)
	return through, nil
}

// keepAlive asks a host of which nothing comes whether it is there, and forgets a
// connection that has ended. It ends with the connection.
func (h *Host) keepAlive(client *ssh.Client, conn *line) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Wait() // how it ended makes no difference
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.client == client {
			_ = h.drop() // it has ended
		}
	}()
	ticker := time.NewTicker(cmp.Or(h.last().alive, h.o.Alive))
	defer ticker.Stop()
	for quiet, had := 0, int64(0); ; {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		if has := conn.received.Load(); has != had {
			quiet, had = 0, has
			continue
		}
		if quiet++; quiet > h.last().outstanding {
			_ = client.Close() // nobody is there to be told
			<-ended
			return
		}
		if quiet == 1 {
			go func() { _ = question(client) }() // that something comes is the answer
		}
	}
}

// question asks the host for an answer, and returns when it is there. What was sent
// before has then arrived.
func question(client *ssh.Client) error {
	_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
	return err
}

// line is what a connection goes over.
type line struct {
	net.Conn
	received atomic.Int64 // bytes
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.received.Add(int64(n))
	return n, err
}

// cut forgets a connection over which nothing could be done, so that the next
// one is new, and gives the error for that.
func (h *Host) cut(client *ssh.Client, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == client {
		_ = h.drop() // it is of no use
	}
	return &CutError{h.Name(), err}
}

// CutError says that a connection ended before what was asked for was done.
type CutError struct {
	Host string
	Err  error
}

func (e *CutError) Error() string {
	if errors.As(e.Err, new(*ssh.ExitMissingError)) { // nothing more is known
		return fmt.Sprintf("the connection to %s was cut", e.Host)
	}
	return fmt.Sprintf("the connection to %s was cut: %v", e.Host, e.Err)
}
func (e *CutError) Unwrap() error { return e.Err }

package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// proxyCommand is a process of ours whose standard streams are a connection. It has
// a session of its own: what it starts is ended with it, a Ctrl-C that is meant for
// us is none for it, and it cannot wait at our terminal for an answer that we would
// read.
type proxyCommand struct {
	io.Reader
	io.WriteCloser
	noDeadlines
	station *station
	cmd     *exec.Cmd
	said    *tail
	over    chan struct{} // closed when it has ended
	err     error         // how; read once it has
	itself  bool          // it ended before it was told to; read once it is closed
	once    sync.Once
}

// endsWithin is how long a ProxyCommand may take to end when it is told to.
const endsWithin = 2 * time.Second

func startProxyCommand(s *station) (*proxyCommand, error) {
	p := &proxyCommand{station: s, said: &tail{limit: 4 << 10}, over: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", "-c", "exec "+s.command)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.Stderr = p.said
	p.cmd.WaitDelay = endsWithin // for whoever else holds its standard error
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, end := io.Pipe()
	p.cmd.Stdout = end
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("ProxyCommand %s: %w", s.command, err)
	}
	p.Reader, p.WriteCloser = out, in
	go func() {
		p.err = p.cmd.Wait()
		close(p.over)
		_ = end.Close() // it ends what is read
	}()
	return p, nil
}

// Close ends the process and all that it started.
func (p *proxyCommand) Close() error {
	p.once.Do(func() {
		select {
		case <-p.over:
			p.itself = true
		default:
		}
		_ = p.WriteCloser.Close()
		_ = p.Reader.(io.Closer).Close()
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // it may have ended
		select {
		case <-p.over:
		case <-time.After(endsWithin):
		}
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.over
	})
	return nil
}

// explain says why nothing came of it. It is closed.
func (p *proxyCommand) explain(late bool) error {
	text := "the ProxyCommand " + p.station.command
	switch {
	case late:
		text += fmt.Sprintf(" leads to nothing that finishes the handshake within %s", p.station.timeout)
	case p.err != nil:
		text += fmt.Sprintf(" ended with %v", p.err)
	default:
		text += " ended"
	}
	if said := p.said.String(); said != "" {
		text += ": " + strings.ReplaceAll(said, "\n", "; ")
	}
	return errors.New(text)
}

func (p *proxyCommand) LocalAddr() net.Addr  { return address("localhost:0") }
func (p *proxyCommand) RemoteAddr() net.Addr { return address(p.station.address) }

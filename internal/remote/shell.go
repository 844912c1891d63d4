package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Quote writes a word as a POSIX shell reads it back, whatever is in it but NUL.
func Quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ExitError says how a command on the host ended, and what it said.
type ExitError struct {
	Code int
	Said string // the end of its standard error
}

func (e *ExitError) Error() string {
	if e.Said != "" {
		return e.Said
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// mostSaid is how much a host may print to be read, in bytes: the longest answer
// there is lists the files of a release.
const mostSaid = 64 << 20

// errSaidTooMuch ends what would fill our memory.
var errSaidTooMuch = fmt.Errorf("it printed more than %s and was not read on", size(mostSaid))

// script runs a POSIX shell script on the host, with args as $1 and so on, and
// gives what it printed. All of it goes through standard input: whatever the
// login shell is, it reads one plain command, and nothing of it is in a process
// list. The script's own standard input is empty.
func (h *Host) script(ctx context.Context, text string, args ...string) (string, error) {
	p, err := h.begin(ctx, "exec </dev/null\n"+text, args)
	if err != nil {
		return "", err
	}
	return p.rest()
}

// send runs a script whose standard input is what write gives, and gives what the
// script printed.
func (h *Host) send(ctx context.Context, text string, args []string, write func(w io.Writer) error) (string, error) {
	p, err := h.begin(ctx, text, args)
	if err != nil {
		return "", err
	}
	in := &sink{w: p.in, client: p.client, most: 16 << 10}
	wrote := make(chan error, 1)
	go func() {
		defer p.in.Close() //nolint:errcheck // it may have ended, having read all that it wanted
		wrote <- write(in)
	}()
	answer, err := p.rest()
	if ours := <-wrote; ours != nil && (err == nil || in.err == nil) {
		err = ours // the host failed for want of what we could not give
	}
	return answer, err
}

// sink is what is sent. Of that no more is on its way than the host takes in about a
// second: behind what a slow link has in its queues its signs of life would wait, and
// ours, longer than either end waits for them.
type sink struct {
	w      io.Writer
	client *ssh.Client
	ahead  int   // bytes on their way
	most   int   // of them
	err    error // why the other end did not take what was written
}

func (s *sink) Write(b []byte) (n int, err error) {
	for len(b) > 0 && s.err == nil {
		var taken int
		taken, s.err = s.w.Write(b[:min(len(b), s.most-s.ahead)])
		n, b, s.ahead = n+taken, b[taken:], s.ahead+taken
		if s.err != nil || s.ahead < s.most {
			continue
		}
		began := time.Now()
		s.err = question(s.client)
		switch took := time.Since(began); {
		case took < time.Second/2:
			s.most = min(2*s.most, 8<<20)
		case took > 2*time.Second:
			s.most = max(s.most/2, 2<<10)
		}
		s.ahead = 0
	}
	return n, s.err
}

// process is a script that runs on the host.
type process struct {
	ctx     context.Context // of the call that it is for
	h       *Host
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	said    *tail
	detach  func() bool
}

// begun is what a script prints first. What stands before it is a login shell's,
// which may greet people.
const begun = "\x02begun\n"

// begin starts a script on the host, with args as $1 and so on. It goes through
// standard input, and nothing more does before it says that it has begun: some
// shells read on behind a script that they are given so.
func (h *Host) begin(ctx context.Context, text string, args []string) (*process, error) {
	client, err := h.connection(ctx)
	if err != nil {
		return nil, err
	}
	session, err := client.NewSession()
	if refused := new(ssh.OpenChannelError); errors.As(err, &refused) {
		err = fmt.Errorf("it opens no further session: %w; a deploy has two at a time, does its MaxSessions allow that?", err)
	}
	if err != nil {
		return nil, h.cut(client, err)
	}
	p := &process{ctx: ctx, h: h, client: client, session: session, said: &tail{limit: 4 << 10}}
	p.detach = context.AfterFunc(ctx, func() { _ = session.Close() })
	session.Stderr = p.said
	if p.in, err = session.StdinPipe(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.out, err = session.StdoutPipe(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := session.Start("exec /bin/sh -s"); err != nil {
		return nil, errors.Join(p.ended(err), p.close())
	}
	var b strings.Builder
	b.WriteString("set --")
	for _, arg := range args {
		b.WriteString(" " + Quote(arg))
	}
	b.WriteString("\n{\nprintf '\\002begun\\n'\n" + text + "\nexit\n}\n")
	if _, err = io.WriteString(p.in, b.String()); err == nil {
		err = p.await(begun)
	}
	if err != nil {
		return nil, errors.Join(p.failed(err), p.close())
	}
	return p, nil
}

// await reads until a text has come.
func (p *process) await(text string) error {
	var said []byte
	for one := make([]byte, 1); !bytes.HasSuffix(said, []byte(text)); said = append(said, one[0]) {
		if len(said) > 64<<10 {
			return errSaidTooMuch
		}
		if _, err := io.ReadFull(p.out, one); err != nil {
			return err
		}
	}
	return nil
}

// failed says why a process does not say what it should.
func (p *process) failed(err error) error {
	if errors.Is(err, io.EOF) { // it has ended, or the connection has
		err = p.session.Wait()
	}
	if err == nil || errors.Is(err, errSaidTooMuch) {
		return cmp.Or(err, errors.New("its shell ended before it did what it was told"))
	}
	return p.ended(err)
}

// rest gives what is printed until the end.
func (p *process) rest() (string, error) {
	defer p.close() //nolint:errcheck // it has ended
	answer, err := io.ReadAll(io.LimitReader(p.out, mostSaid+1))
	switch {
	case len(answer) > mostSaid:
		return "", errSaidTooMuch
	case err == nil:
		err = p.session.Wait()
	}
	return string(answer), p.ended(err)
}

// ended says how a process ended, by what its session ended with.
func (p *process) ended(err error) error {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return nil
	case p.ctx.Err() != nil:
		return p.ctx.Err()
	case errors.As(err, &exit):
		return &ExitError{exit.ExitStatus(), p.said.String()}
	}
	return p.h.cut(p.client, err)
}

func (p *process) close() error {
	p.detach()
	err := p.session.Close()
	if errors.Is(err, io.EOF) {
		return nil // it had ended
	}
	return err
}

// tail keeps the end of what is written.
type tail struct {
	limit int
	text  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - t.limit; over > 0 {
		t.text = t.text[over:]
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.text)) }

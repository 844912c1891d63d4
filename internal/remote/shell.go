package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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

// script runs a POSIX shell script on the host, with args as $1 and so on, and
// gives what it printed. All of it goes through standard input: whatever the
// login shell is, it reads one plain command, and nothing of it is in a process
// list. The script's own standard input is empty.
func (h *Host) script(ctx context.Context, text string, args ...string) (string, error) {
	var b strings.Builder
	b.WriteString("set --")
	for _, arg := range args {
		b.WriteString(" " + Quote(arg))
	}
	b.WriteString("\n{\n" + text + "\n} </dev/null\n")
	out, err := h.run(ctx, "exec /bin/sh -s", strings.NewReader(b.String()))
	return string(out), err
}

// run has the login shell run a command, which must be one that every shell
// reads alike, and gives what it printed.
func (h *Host) run(ctx context.Context, command string, in io.Reader) ([]byte, error) {
	client, err := h.connection(ctx)
	if err != nil {
		return nil, err
	}
	session, err := client.NewSession()
	if err != nil {
		return nil, h.cut(client, err)
	}
	defer session.Close() //nolint:errcheck // it has ended
	stop := context.AfterFunc(ctx, func() { _ = session.Close() })
	defer stop()
	var out bytes.Buffer
	said := &tail{limit: 4 << 10}
	session.Stdin, session.Stdout, session.Stderr = in, &out, said
	err = session.Run(command)
	var exit *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &exit):
		return out.Bytes(), &ExitError{exit.ExitStatus(), said.String()}
	case err != nil:
		return nil, h.cut(client, err)
	}
	return out.Bytes(), nil
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

func (t *tail) String() string { return strings.TrimSpace(printable(string(t.text))) }

// send runs a script whose standard input is what write gives, and gives what the
// script printed. Only the script's first byte on standard output says that it has
// begun: some shells read on behind a script that they are given on standard input.
func (h *Host) send(ctx context.Context, text string, args []string, write func(w io.Writer) error) (string, error) {
	client, err := h.connection(ctx)
	if err != nil {
		return "", err
	}
	session, err := client.NewSession()
	if err != nil {
		return "", h.cut(client, err)
	}
	defer session.Close() //nolint:errcheck // it has ended
	stop := context.AfterFunc(ctx, func() { _ = session.Close() })
	defer stop()
	in, err := session.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return "", err
	}
	said := &tail{limit: 4 << 10}
	session.Stderr = said
	if err := session.Start("exec /bin/sh -s"); err != nil {
		return "", h.cut(client, err)
	}
	var b strings.Builder
	b.WriteString("set --")
	for _, arg := range args {
		b.WriteString(" " + Quote(arg))
	}
	b.WriteString("\n{\nprintf R\n" + text + "\nexit\n}\n")
	if _, err := io.WriteString(in, b.String()); err != nil {
		return "", h.cut(client, err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		return "", h.cut(client, err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- errors.Join(write(in), in.Close()) }()
	answer, readErr := io.ReadAll(out)
	err = session.Wait()
	var exit *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		return "", &ExitError{exit.ExitStatus(), said.String()} // which is why writing failed
	case err != nil:
		return "", h.cut(client, err)
	}
	return string(answer), errors.Join(readErr, <-wrote)
}

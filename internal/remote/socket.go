package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"belfry/api"
)

// ErrNoDaemon is returned when a host has no daemon of the project that is meant.
var ErrNoDaemon = errors.New("no belfry answers")

// Daemon gives a client for the daemon of a project on the host, or for the one
// with the data folder that is given. Without a project the host must have
// only one. Each request is carried through ssh; nothing listens but the
// daemon's own socket.
func (h *Host) Daemon(ctx context.Context, project, data string) (*api.Client, error) {
	if data == "" {
		var err error
		if data, err = h.dataOf(ctx, project); err != nil {
			return nil, err
		}
	}
	return api.New(func(ctx context.Context) (net.Conn, error) { return h.dialDaemon(ctx, data) }), nil
}

// Belfry has the belfry of a project on the host carry out a command there, and
// gives what it printed and its exit code.
func (h *Host) Belfry(ctx context.Context, project, data string, args ...string) (out string, code int, err error) {
	if data == "" {
		if data, err = h.dataOf(ctx, project); err != nil {
			return "", 0, err
		}
	}
	out, err = h.script(ctx, `cd "$1" && site=$PWD || exit
shift
[ -d current ] && cd current
PATH=$site:$PATH
exec belfry "$@"`, append([]string{path.Dir(data)}, args...)...)
	var exit *ExitError
	if errors.As(err, &exit) {
		return out, exit.Code, nil
	}
	return out, 0, err
}

// findData prints the data folders of the projects on a host.
const findData = `cd "$HOME/belfry" 2>/dev/null || exit 0
for d in */data; do
	[ -d "$d" ] || continue
	printf '%s\n' "$PWD/$d"
done`

// dataOf finds a project's data folder on the host.
func (h *Host) dataOf(ctx context.Context, project string) (string, error) {
	out, err := h.script(ctx, findData)
	if err != nil {
		return "", fmt.Errorf("look for belfry's folders on %s: %w", h.Name(), err)
	}
	var folders []string
	for line := range strings.Lines(out) {
		folders = append(folders, strings.TrimSuffix(line, "\n"))
	}
	var names []string
	for _, folder := range folders {
		name := path.Base(path.Dir(folder))
		if name == project {
			return folder, nil
		}
		names = append(names, name)
	}
	switch {
	case len(folders) == 0:
		return "", fmt.Errorf("%w on %s: nothing was deployed there by %s", ErrNoDaemon, h.Name(), h.User())
	case len(folders) == 1:
		return folders[0], nil
	case project != "":
		return "", fmt.Errorf("%w for the project %s on %s; there are %s", ErrNoDaemon, project, h.Name(), strings.Join(names, ", "))
	}
	return "", fmt.Errorf("%s has several projects: %s; go to the folder of the one you mean, or name its data folder with --data", h.Name(), strings.Join(names, ", "))
}

// longest is how long the path of a unix socket may be, in bytes.
const longest = 107

// dialDaemon connects to the socket in a data folder.
func (h *Host) dialDaemon(ctx context.Context, data string) (net.Conn, error) {
	client, err := h.connection(ctx)
	if err != nil {
		return nil, err
	}
	socket := path.Join(data, api.SocketName)
	if path.IsAbs(socket) && len(socket) <= longest {
		conn, err := client.DialContext(ctx, "unix", socket)
		var refused *ssh.OpenChannelError
		switch {
		case err == nil:
			return conn, nil
		case !errors.As(err, &refused):
			return nil, h.cut(client, err)
		}
	}
	// The path is too long, forwarding is forbidden, or nobody is there: sshd does
	// not say which.
	return h.proxy(client, data)
}

// proxyScript has the belfry that is there carry bytes between its standard
// streams and the socket.
const proxyScript = `exec "$belfry" internal-socket-proxy "$data"`

// proxy connects to the socket in a data folder by a belfry on the host.
func (h *Host) proxy(client *ssh.Client, data string) (net.Conn, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, h.cut(client, err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := &tail{limit: 4 << 10}
	session.Stderr = said
	if err := session.Start("exec /bin/sh -s"); err != nil {
		return nil, errors.Join(h.cut(client, err), session.Close())
	}
	// Nothing more is sent before the proxy says that it is there: some shells read
	// on behind the command that they execute.
	belfry := path.Join(path.Dir(data), "belfry")
	script := fmt.Sprintf("belfry=%s; data=%s; [ -x \"$belfry\" ] || belfry=belfry; %s\n", Quote(belfry), Quote(data), proxyScript)
	if _, err := io.WriteString(in, script); err != nil {
		return nil, errors.Join(h.cut(client, err), session.Close())
	}
	// The first byte says that the socket was reached.
	ready := make([]byte, 1)
	if _, err := io.ReadFull(out, ready); err != nil {
		_ = session.Close() // why is told
		_ = session.Wait()  // for all that it said
		return nil, fmt.Errorf("%w in %s on %s: %s", ErrNoDaemon, data, h.Name(), cmp.Or(said.String(), err.Error()))
	}
	return &channel{Reader: out, WriteCloser: in, session: session}, nil
}

// channel is a session as a connection.
type channel struct {
	io.Reader
	io.WriteCloser
	session *ssh.Session
}

// Close ends the session, and with it the proxy.
func (c *channel) Close() error {
	err := c.session.Close()
	if errors.Is(err, io.EOF) {
		return nil // it had ended
	}
	return err
}

type address struct{}

func (address) Network() string { return "ssh" }
func (address) String() string  { return "belfry" }

func (c *channel) LocalAddr() net.Addr              { return address{} }
func (c *channel) RemoteAddr() net.Addr             { return address{} }
func (c *channel) SetDeadline(time.Time) error      { return nil }
func (c *channel) SetReadDeadline(time.Time) error  { return nil }
func (c *channel) SetWriteDeadline(time.Time) error { return nil }

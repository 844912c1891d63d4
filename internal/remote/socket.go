package remote

import (
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

// findData prints the data folders of the projects on a host, and before them whether
// SELinux is enforced there.
const findData = `[ "$(cat /sys/fs/selinux/enforce 2>/dev/null)" = 1 ] && echo enforcing
cd "$HOME/belfry" 2>/dev/null || exit 0
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
		if line == "enforcing\n" {
			h.confined.Store(true)
			continue
		}
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
	if path.IsAbs(socket) && len(socket) <= longest && !h.confined.Load() {
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
	return h.proxy(ctx, data)
}

// proxyScript has the belfry that is there carry bytes between its standard
// streams and the socket. $1: the project's folder; $2: its data.
const proxyScript = `belfry=$1/belfry
[ -x "$belfry" ] || belfry=belfry
exec "$belfry" internal-socket-proxy "$2"`

// proxy connects to the socket in a data folder by a belfry on the host. ctx is for
// connecting alone.
func (h *Host) proxy(ctx context.Context, data string) (net.Conn, error) {
	p, err := h.begin(ctx, proxyScript, []string{path.Dir(data), data})
	if err != nil {
		return nil, err
	}
	// The first byte says that the socket was reached.
	if _, err := io.ReadFull(p.out, make([]byte, 1)); err != nil {
		err = p.failed(err)
		var cut *CutError
		var exit *ExitError
		switch {
		case errors.As(err, &cut):
		case errors.As(err, &exit) && exit.Code == 127: // the shell found no belfry to execute
			err = fmt.Errorf("%s on %s: %w", path.Base(path.Dir(data)), h.Name(), ErrNotDeployed)
		default:
			err = fmt.Errorf("%w in %s on %s: %w", ErrNoDaemon, data, h.Name(), err)
		}
		return nil, errors.Join(err, p.close())
	}
	p.detach()
	return &channel{process: p}, nil
}

// channel is a process as a connection.
type channel struct {
	*process
	noDeadlines
}

func (c *channel) Read(p []byte) (int, error)  { return c.out.Read(p) }
func (c *channel) Write(p []byte) (int, error) { return c.in.Write(p) }

// Close ends the process.
func (c *channel) Close() error { return c.close() }

func (*channel) LocalAddr() net.Addr  { return address("belfry") }
func (*channel) RemoteAddr() net.Addr { return address("belfry") }

// address is the end of a connection that is a process.
type address string

func (address) Network() string  { return "ssh" }
func (a address) String() string { return string(a) }

// noDeadlines is for connections that know none: closing them ends what waits.
type noDeadlines struct{}

func (noDeadlines) SetDeadline(time.Time) error      { return nil }
func (noDeadlines) SetReadDeadline(time.Time) error  { return nil }
func (noDeadlines) SetWriteDeadline(time.Time) error { return nil }

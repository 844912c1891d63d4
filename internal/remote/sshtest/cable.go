//go:build linux

package sshtest

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"belfry/internal/machine"
)

// Cable joins the network of a host to another one. It is a network of its own, of those
// that RFC 2544 sets aside.
type Cable struct {
	Near, Far string // the IP addresses at its ends; Far is the host's
	link      string // the name of its near end
}

// Plug joins the network namespaces of two processes. Where the cable was plugged before,
// its ends have the addresses that they had.
func (c *Cable) Plug(t testing.TB, near, far int) {
	t.Helper()
	const script = `there() { nsenter --net="/proc/$1/ns/net" sh -ec "$2"; }
there "$1" "ip link add $3 type veth peer name eth0 netns $2 && ip addr add $4/30 dev $3 && ip link set $3 up" &&
there "$2" "ip link set lo up && ip addr add $5/30 dev eth0 && ip link set eth0 up && ip route add default via $4"`
	for first := c.link == ""; ; {
		if first {
			n := rand.IntN(1 << 15) // four addresses for each
			part := fmt.Sprintf("198.%d.%d.", 18+n>>14, n>>6&255)
			*c = Cable{fmt.Sprint(part, n&63*4+1), fmt.Sprint(part, n&63*4+2), fmt.Sprint("belfry", n)}
		}
		out, err := exec.Command("sh", "-c", script, "sh", strconv.Itoa(near), strconv.Itoa(far), c.link, c.Near, c.Far).CombinedOutput()
		switch {
		case err == nil:
			return
		case !first:
			t.Fatalf("plug the cable of a host in again: %v: %s", err, out)
		case !bytes.Contains(out, []byte("File exists")): // else the name is another host's
			machine.Lacks(t, "a network for a host (CAP_NET_ADMIN, iproute2): %v: %s", err, out)
		}
	}
}

// Unplug takes the cable away, where its near end is ours. With the host it goes by
// itself, but later.
func (c *Cable) Unplug() { _ = exec.Command("ip", "link", "del", c.link).Run() }

// Manner is how a cable is cut: what becomes of a packet that is sent over it.
type Manner string

// The two ways in which networks fail.
const (
	Silently Manner = "drop"                  // it is lost, as on the way to a machine that is gone
	Loudly   Manner = "reject with tcp reset" // who sent it is told; the host never learns of it
)

// CutAfter cuts the cable once so many more bytes have come to the host's sshd, until
// Mend.
func (s *Server) CutAfter(bytes int64, how Manner) {
	s.t.Helper()
	s.do("nft", fmt.Sprintf("add table ip cable; add chain ip cable in { type filter hook input priority 0; }; flush chain ip cable in; add rule ip cable in tcp dport %s quota over %d bytes %s", s.Port, bytes, how))
}

// Mend makes the cable whole.
func (s *Server) Mend() {
	s.t.Helper()
	s.do("nft", "flush chain ip cable in")
}

// Cut ends all connections there are. Both sides learn of it at once.
func (s *Server) Cut() {
	s.t.Helper()
	s.do("ss", "--kill", "--no-header", "--tcp", "sport = :"+s.Port)
}

// Connections counts those there are.
func (s *Server) Connections() int {
	s.t.Helper()
	return strings.Count(s.do("ss", "--no-header", "--tcp", "--numeric", "state", "established", "sport = :"+s.Port), "\n")
}

// Sent counts the bytes that came to the host.
func (s *Server) Sent() (bytes int64) {
	s.t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", s.pid)) // /sys shows the network of who mounted it
	must(s.t, err)
	_, received, _ := strings.Cut(string(table), "eth0:")
	_, err = fmt.Sscan(received, &bytes)
	must(s.t, err)
	return bytes
}

// Listen takes a free port of the host's own loopback, and gives its address and what
// frees it.
func (s *Server) Listen() (address string, free func()) {
	s.t.Helper()
	cmd := s.Command("/usr/bin/python3", "-c", `import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()`)
	in, err := cmd.StdinPipe()
	must(s.t, err)
	out, err := cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, cmd.Start())
	free = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait() // it held a port and nothing else
	})
	s.t.Cleanup(free)
	port, err := bufio.NewReader(out).ReadString('\n')
	must(s.t, err)
	return net.JoinHostPort("127.0.0.1", strings.TrimSpace(port)), free
}

// Command is one that is executed in the network of the host.
func (s *Server) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", s.pid), name}, args...)...)
}

// do executes such a command and gives what it prints.
func (s *Server) do(name string, args ...string) string {
	s.t.Helper()
	out, err := s.Command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %v on the host: %v\n%s", name, args, err, out)
	}
	return string(out)
}

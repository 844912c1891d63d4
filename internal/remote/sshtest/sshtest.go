// Package sshtest answers: where is a host to reach over ssh in a test? It runs a
// real OpenSSH server with keys of its own and, as root, an account of its own,
// whose home is a folder of the test. Only tests import it.
package sshtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"belfry/internal/machine"
)

// Options say what kind of host is wanted.
type Options struct {
	Config []string // more lines for its sshd_config, which win
	Path   string   // folders before the host's own PATH
	Home   string   // the account's home; empty: a folder of the test
	Shell  string   // the account's login shell; empty: /bin/sh
}

// Server is a host. It ends with its test, and its account with it.
type Server struct {
	Host string // its IP address
	Port string
	User string
	Home string // of User, on the host
	Key  string // path of the private key that lets User in
	// CutAfter is how many more bytes may be sent to the host before every
	// connection is cut; negative: any number.
	CutAfter atomic.Int64
	// Sent counts the bytes that were sent to the host.
	Sent atomic.Int64

	dir      string
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]bool // guarded by mu
	said     bytes.Buffer      // guarded by mu
	work     sync.WaitGroup
}

var accounts atomic.Int64

// Start starts a host.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	binary := "/usr/sbin/sshd"
	if _, err := os.Stat(binary); err != nil {
		machine.Lacks(t, "sshd: apt-get install openssh-server")
	}
	s := &Server{dir: t.TempDir(), Home: o.Home, conns: map[net.Conn]bool{}}
	s.CutAfter.Store(-1)
	if s.Home == "" {
		s.Home = filepath.Join(s.dir, "home")
		must(t, os.Mkdir(s.Home, 0o755))
	}
	s.account(t, o)
	s.Key = s.NewKey(t, "key")
	s.NewKey(t, "host_key")
	config := append(append([]string{}, o.Config...),
		"HostKey "+filepath.Join(s.dir, "host_key"), "AuthorizedKeysFile "+s.Key+".pub", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"UsePAM no", "StrictModes no", "PidFile none", "Subsystem sftp internal-sftp", "PrintMotd no", "MaxSessions 50",
	)
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if o.Path != "" {
		path = o.Path + ":" + path
	}
	config = append(config, fmt.Sprintf("SetEnv HOME=%q PATH=%q", s.Home, path))
	must(t, os.WriteFile(filepath.Join(s.dir, "sshd_config"), []byte(strings.Join(config, "\n")+"\n"), 0o600))
	if os.Geteuid() == 0 {
		must(t, os.MkdirAll("/run/sshd", 0o755)) // sshd wants it
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.listener = listener
	s.Host, s.Port, _ = net.SplitHostPort(listener.Addr().String())
	s.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.work.Go(func() { s.serve(conn, binary) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.Cut()
		s.work.Wait()
		if t.Failed() {
			s.mu.Lock()
			lines := strings.Split(strings.TrimSpace(s.said.String()), "\n")
			t.Logf("sshd said last:\n%s", strings.Join(lines[max(len(lines)-10, 0):], "\n"))
			s.mu.Unlock()
		}
	})
	return s
}

// Address is what is typed to reach the host.
func (s *Server) Address() string { return s.User + "@" + net.JoinHostPort(s.Host, s.Port) }

// Cut ends all connections there are.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// Connections counts those there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// NewKey makes a key pair of the host's folder and gives the private one's path.
func (s *Server) NewKey(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	_ = os.Remove(path) // ssh-keygen would ask
	args = append(args, "-q", "-f", path)
	for flag, value := range map[string]string{"-N": "", "-t": "ed25519"} {
		if !slices.Contains(args, flag) {
			args = append(args, flag, value)
		}
	}
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return path
}

// Allow lets the account in with another key too, given by its private one.
func (s *Server) Allow(t testing.TB, key string) {
	t.Helper()
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	file, err := os.OpenFile(s.Key+".pub", os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = file.Write(public)
	must(t, errors.Join(err, file.Close()))
}

// NewHostKey makes the host another one, as if it was set up anew.
func (s *Server) NewHostKey(t testing.TB) { s.NewKey(t, "host_key") }

// account makes the account; without root it is the one of the test.
func (s *Server) account(t testing.TB, o Options) {
	t.Helper()
	if os.Geteuid() != 0 {
		me, err := user.Current()
		must(t, err)
		s.User = me.Username
		return
	}
	s.User = fmt.Sprintf("belfry%d-%d", os.Getpid(), accounts.Add(1))
	shell := "/bin/sh"
	if o.Shell != "" {
		shell = o.Shell
	}
	if out, err := exec.Command("useradd", "-M", "-d", s.Home, "-s", shell, "-p", "*", s.User).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		// What still runs as it would keep it.
		_ = exec.Command("pkill", "-KILL", "-u", s.User).Run() // there may be none
		_ = exec.Command("crontab", "-r", "-u", s.User).Run()  // nor a crontab
		if out, err := exec.Command("userdel", "-f", s.User).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v\n%s", err, out)
		}
	})
	account, err := user.Lookup(s.User)
	must(t, err)
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	must(t, os.Chown(s.Home, uid, gid))
	for dir := s.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o011 == 0 {
			must(t, os.Chmod(dir, info.Mode().Perm()|0o011)) // its home lies below
		}
	}
}

// serve runs one sshd for one connection.
func (s *Server) serve(conn net.Conn, binary string) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		_ = conn.Close()
		return
	}
	syscall.CloseOnExec(pair[0])
	syscall.CloseOnExec(pair[1])
	theirs := os.NewFile(uintptr(pair[1]), "sshd")
	file := os.NewFile(uintptr(pair[0]), "belfry")
	ours, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		_ = conn.Close()
		return
	}
	s.mu.Lock()
	s.conns[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
		_ = conn.Close()
		_ = ours.Close()
	}()
	cmd := exec.Command(binary, "-i", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &locked{s}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = 1
	if err := cmd.Start(); err != nil {
		return
	}
	_ = theirs.Close()
	s.work.Go(func() { _ = cmd.Wait() })
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(conn, ours)
		_ = conn.Close()
	}()
	_, _ = io.Copy(ours, &metered{conn, s})
	_ = ours.Close()
	<-back
}

// metered counts what is sent to the host, and cuts where it is told to.
type metered struct {
	net.Conn
	s *Server
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.s.Sent.Add(int64(n))
	for {
		left := m.s.CutAfter.Load()
		switch {
		case left < 0:
			return n, err
		case int64(n) <= left:
			if !m.s.CutAfter.CompareAndSwap(left, left-int64(n)) {
				continue
			}
			return n, err
		}
		m.s.Cut()
		return int(left), io.ErrUnexpectedEOF
	}
}

type locked struct{ s *Server }

func (l *locked) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.said.Write(p)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

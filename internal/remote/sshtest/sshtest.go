//go:build linux

// Package sshtest answers: where is a host to reach over ssh in a test? It runs a
// real OpenSSH server in a network of its own, with keys of its own and an account
// of its own, whose home is a folder of the test. The network can be cut. Only tests
// import it.
package sshtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belfry/internal/machine"
)

// Options say what kind of host is wanted.
type Options struct {
	Config []string // more lines for its sshd_config, which win
	Path   string   // folders before the host's own PATH
	Home   string   // the account's home; empty: a folder of the test
	Shell  string   // the account's login shell; empty: /bin/sh
	Behind *Server  // the only host that its cable leads to; nil: the laptop
}

// Server is a host. It ends with its test, and its account with it.
type Server struct {
	Host   string // its IP address
	Port   string
	User   string
	Home   string // of User, on the host
	Key    string // path of the private key that lets User in
	Laptop string // the IP address of what its cable leads to

	t     testing.TB
	dir   string
	pid   int // of its sshd
	cable Cable
	said  output
}

// output is what sshd says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) listens() (times int) {
	return strings.Count(o.String(), "Server listening on 0.0.0.0")
}

var accounts atomic.Int64

// Start starts a host.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	machine.NeedsRoot(t) // for an account and a network
	for program, of := range map[string]string{"/usr/sbin/sshd": "openssh-server", "ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			machine.Lacks(t, "%s: apt-get install %s", program, of)
		}
	}
	s := &Server{t: t, dir: t.TempDir(), Home: o.Home, Port: "2222"}
	if s.Home == "" {
		s.Home = filepath.Join(s.dir, "home")
		must(t, os.Mkdir(s.Home, 0o755))
	}
	s.account(o)
	s.Key = s.NewKey(t, "key")
	s.NewKey(t, "host_key")
	config := append(append([]string{}, o.Config...),
		"HostKey "+filepath.Join(s.dir, "host_key"), "AuthorizedKeysFile "+s.Key+".pub", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"UsePAM no", "StrictModes no", "PidFile none", "Subsystem sftp internal-sftp", "PrintMotd no", "MaxSessions 50", "MaxStartups 100", "Port "+s.Port,
	)
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if o.Path != "" {
		path = o.Path + ":" + path
	}
	config = append(config, fmt.Sprintf("SetEnv HOME=%q PATH=%q", s.Home, path))
	must(t, os.WriteFile(filepath.Join(s.dir, "sshd_config"), []byte(strings.Join(config, "\n")+"\n"), 0o600))
	must(t, os.MkdirAll("/run/sshd", 0o755)) // sshd wants it
	s.boot(o.Behind)
	return s
}

// boot starts the host's sshd, in a network whose cable leads to another host or to
// us, and waits until it listens.
func (s *Server) boot(behind *Server) {
	s.t.Helper()
	cmd := exec.Command("sh", "-c", `read plugged && exec /usr/sbin/sshd -D -e -f "$1"`, "sh", filepath.Join(s.dir, "sshd_config"))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = &s.said, &s.said
	cmd.WaitDelay = 10 * time.Second // its sessions have its standard error
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	must(s.t, err)
	ended, err := Power(cmd)
	must(s.t, err)
	s.pid = cmd.Process.Pid
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		s.endSessions()
		<-ended
		if s.t.Failed() {
			lines := strings.Split(strings.TrimSpace(s.said.String()), "\n")
			s.t.Logf("sshd said last:\n%s", strings.Join(lines[max(len(lines)-10, 0):], "\n"))
		}
	})
	near := os.Getpid()
	if behind != nil {
		near = behind.pid
	}
	s.cable.Plug(s.t, near, s.pid)
	s.Host, s.Laptop = s.cable.Far, s.cable.Near
	_, err = stdin.Write([]byte("plugged\n"))
	must(s.t, err)
	s.listens(1)
}

// Power starts what a host is. It ends with us; done is closed when it has ended.
func Power(cmd *exec.Cmd) (done <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setsid = syscall.SIGKILL, true
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the death signal comes with the death of the thread
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	return ended, <-started
}

// listens waits until sshd has said so many times that it listens.
func (s *Server) listens(times int) {
	s.t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for s.said.listens() < times {
		select {
		case <-tick.C:
		case <-late:
			s.t.Fatalf("sshd does not listen:\n%s", s.said.String())
		}
	}
}

// Address is what is typed to reach the host.
func (s *Server) Address() string { return s.User + "@" + net.JoinHostPort(s.Host, s.Port) }

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
func (s *Server) NewHostKey(t testing.TB) {
	t.Helper()
	s.NewKey(t, "host_key")
	listened := s.said.listens()
	must(t, syscall.Kill(s.pid, syscall.SIGHUP)) // it begins anew
	s.listens(listened + 1)
}

// account makes the account.
func (s *Server) account(o Options) {
	t := s.t
	t.Helper()
	s.User = fmt.Sprintf("belfry%d-%d", os.Getpid(), accounts.Add(1))
	shell := "/bin/sh"
	if o.Shell != "" {
		shell = o.Shell
	}
	if out, err := exec.Command("useradd", "-M", "-d", s.Home, "-s", shell, "-p", "*", s.User).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("crontab", "-r", "-u", s.User).Run() // it may have none
		s.endSessions()                                       // what still runs as it would keep it
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

// endSessions ends all that runs as the account, of which there may be nothing.
func (s *Server) endSessions() { _ = exec.Command("pkill", "-KILL", "-u", s.User).Run() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

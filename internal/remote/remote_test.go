//go:build linux

package remote

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/remote/sshtest"
)

// person is somebody with a home of their own and the answers they would give.
type person struct {
	o       Options
	told    []string
	asked   []string
	answers map[string]string // by a part of the question
}

func newPerson(t *testing.T, s *sshtest.Server) *person {
	p := &person{answers: map[string]string{}}
	p.o = Options{Address: s.Address(), Identity: s.Key, Home: t.TempDir(), User: "nobody", Tell: func(text string) { p.told = append(p.told, text) }}
	if err := os.Mkdir(filepath.Join(p.o.Home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

// attends lets the person be asked.
func (p *person) attends() *person {
	p.o.Ask = func(question string, _ bool) (string, error) {
		p.asked = append(p.asked, question)
		for part, answer := range p.answers {
			if strings.Contains(question, part) {
				return answer, nil
			}
		}
		return "", errors.New("no answer to: " + question)
	}
	return p
}

func (p *person) config(t *testing.T, lines ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.o.Home, ".ssh", "config"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// connects expects that the host is reached, and that it is the right one.
func (p *person) connects(t *testing.T) *Host {
	t.Helper()
	h, err := Connect(t.Context(), p.o)
	if err != nil {
		t.Fatalf("connect to %s: %v", p.o.Address, err)
	}
	t.Cleanup(func() { _ = h.Close() })
	out, err := h.script(t.Context(), `id -un; printf '%s' "$1"`, "a 'b' $(c)\n\"d\"")
	if err != nil || !strings.HasSuffix(out, "\na 'b' $(c)\n\"d\"") || strings.TrimSpace(strings.SplitN(out, "\n", 2)[0]) != h.User() {
		t.Fatalf("on the host: %q, %v", out, err)
	}
	return h
}

// reached is the host, reached by somebody who has its key.
func reached(t *testing.T, s *sshtest.Server) *Host {
	t.Helper()
	p := newPerson(t, s)
	p.o.AcceptNew = true
	return p.connects(t)
}

func (p *person) refused(t *testing.T, words ...string) (why error) {
	t.Helper()
	h, err := Connect(t.Context(), p.o)
	if err == nil {
		_ = h.Close()
		t.Fatalf("connected to %s", p.o.Address)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error is %q, without %q", err, word)
		}
	}
	return err
}

func TestAHostIsAskedAboutOnceAndThenKnown(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s)
	_ = p.refused(t, "is not a known host", "nobody is there", "SHA256:")
	p.attends()
	p.answers["Is that its key?"] = "no"
	_ = p.refused(t, "nothing was sent")
	p.answers["Is that its key?"] = "yes"
	p.connects(t)
	if len(p.asked) != 2 || !strings.Contains(p.asked[1], "ssh-ed25519 SHA256:") && !strings.Contains(p.asked[1], "ssh-rsa SHA256:") {
		t.Errorf("asked %q", p.asked)
	}
	p.o.Ask = nil
	p.connects(t)
	// OpenSSH's own client takes what was remembered.
	known := filepath.Join(p.o.Home, ".ssh", "known_hosts")
	out, err := exec.Command("ssh", "-F", "none", "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-i", s.Key, "-p", s.Port, s.User+"@"+s.Host, "echo hello").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hello") {
		t.Errorf("ssh: %v\n%s", err, out)
	}
}

func TestAChangedHostKeyStopsEverything(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s)
	p.o.AcceptNew = true
	p.connects(t)
	s.NewHostKey(t)
	err := p.refused(t, "another key than the one it is known by", "known_hosts:1", "nothing was sent")
	var key *HostKeyError
	if !errors.As(err, &key) || !strings.Contains(key.Hint, "ssh-keygen -R '["+s.Host+"]:"+s.Port+"'") {
		t.Errorf("the error is %#v", err)
	}
}

func TestAKeyThatTheHostDoesNotTakeIsToldFromAHostThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s)
	p.o.AcceptNew = true
	p.o.Identity = s.NewKey(t, "other")
	_ = p.refused(t, "takes none of the keys", s.User, "SHA256:")
	if err := os.Chmod(p.o.Identity, 0o644); err != nil {
		t.Fatal(err)
	}
	_ = p.refused(t, "others can read it")
	p.o.Identity = s.Key + ".pub"
	if err := os.Chmod(p.o.Identity, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = p.refused(t, "it is not a private key")
	if err := os.Chmod(p.o.Identity, 0o644); err != nil { // sshd reads it as the account
		t.Fatal(err)
	}
	p.o.Identity = s.Key
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.o.Address = "x@" + closed.Addr().String()
	// It takes connections and says nothing.
	p.config(t, "Host *", "  ConnectTimeout 1")
	_ = p.refused(t, "does not finish the handshake within 1s")
	_ = closed.Close()
	_ = p.refused(t, "refuses the connection")
	for _, address := range []string{"", "@host", "a b", "-oProxyCommand=x", "u@$(x)", "u@"} {
		p.o.Address = address
		_ = p.refused(t, "is not a host")
	}
}

func TestTheConfigurationOfSSHCounts(t *testing.T) {
	t.Parallel()
	jump := sshtest.Start(t, sshtest.Options{})
	inner := sshtest.Start(t, sshtest.Options{Behind: jump})
	p := newPerson(t, inner)
	p.o.AcceptNew, p.o.Identity, p.o.Address = true, "", "music"
	p.config(t,
		"HashKnownHosts no", // Debian says yes
		"Host music", "  HostName "+inner.Host, "  Port "+inner.Port, "  User "+inner.User, "  IdentityFile "+inner.Key, "  ProxyJump door", "  HostKeyAlias music.example",
		"Host door", "  HostName "+jump.Host, "  Port "+jump.Port, "  User "+jump.User, "  IdentityFile "+jump.Key)
	h := p.connects(t)
	if h.User() != inner.User || jump.Connections() != 1 || inner.Connections() != 1 {
		t.Errorf("as %s over %d connections of the jump host, %d of the host", h.User(), jump.Connections(), inner.Connections())
	}
	if text, err := os.ReadFile(filepath.Join(p.o.Home, ".ssh", "known_hosts")); err != nil || !strings.Contains(string(text), "music.example") {
		t.Errorf("known hosts: %q, %v", text, err)
	}
	p.config(t, "Host music", "  ProxyJump music")
	_ = p.refused(t, "over itself")
	p.config(t, "Host music", "  StrictHostKeyChecking yes", "  HostName "+jump.Host, "  Port "+jump.Port, "  HostKeyAlias new.example")
	p.o.AcceptNew = false
	_ = p.refused(t, "wants it to be")
}

func TestAJumpHostThatLetsNobodyThroughIsNamed(t *testing.T) {
	t.Parallel()
	jump := sshtest.Start(t, sshtest.Options{Config: []string{"AllowTcpForwarding no"}})
	p := newPerson(t, jump)
	p.o.AcceptNew, p.o.Address = true, "music"
	door := []string{"Host music", "  HostName 127.0.0.1", "  Port 1", "  ProxyJump door", "Host door", "  Port " + jump.Port}
	of := func(s *sshtest.Server) []string {
		return []string{"  HostName " + s.Host, "  User " + s.User, "  IdentityFile " + s.Key}
	}
	p.config(t, append(door, of(jump)...)...)
	err := p.refused(t, "connect to music: door, which leads there, lets nobody through to 127.0.0.1:1")
	var connect *ConnectError
	if !errors.As(err, &connect) || !strings.Contains(connect.Hint, "AllowTcpForwarding") {
		t.Errorf("the error is %#v", err)
	}
	jump = sshtest.Start(t, sshtest.Options{})
	p.config(t, append(door, of(jump)...)...)
	_ = p.refused(t, "connect to music: door, which leads there, cannot connect to 127.0.0.1:1")
}

func TestAnEncryptedKeyIsAskedForOnceAndOnlyWhenTheHostWantsIt(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s).attends()
	p.o.AcceptNew = true
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		p.asked = nil
		p.o.Identity = s.NewKey(t, "locked-"+kind, "-t", kind, "-N", "tower bells")
		p.answers["Passphrase of the key"] = "tower bells"
		if kind == "ed25519" {
			_ = p.refused(t, "takes none of the keys")
			if len(p.asked) > 0 && strings.Contains(p.asked[0], "Passphrase") {
				t.Errorf("asked %q for a key that the host does not take", p.asked)
			}
			p.asked = nil
		}
		s.Allow(t, p.o.Identity)
		h := p.connects(t)
		s.Cut()
		if _, err := h.script(t.Context(), "true"); err != nil {
			var cut *CutError
			if !errors.As(err, &cut) {
				t.Errorf("after the cut: %v", err)
			}
			if _, err := h.script(t.Context(), "true"); err != nil {
				t.Errorf("again after the cut: %v", err)
			}
		}
		if len(p.asked) != 1 {
			t.Errorf("%s: asked %q, want one question", kind, p.asked)
		}
	}
	p.o.Ask = nil
	_ = p.refused(t, "it has a passphrase, and nobody is there")
}

// startAgent starts an ssh agent that has keys, and gives its socket.
func startAgent(t *testing.T, keys ...string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	add := exec.Command("ssh-add", append([]string{"-q"}, keys...)...)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	for t.Context().Err() == nil {
		if _, err := os.Stat(socket); err == nil {
			break
		}
	}
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, out)
	}
	return socket
}

func TestTheAgentsKeysAreUsed(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s)
	p.o.AcceptNew, p.o.Identity = true, ""
	socket := startAgent(t, s.Key)
	_ = p.refused(t, "no key at all")
	p.o.Agent = socket
	p.connects(t)
	p.config(t, "Host *", "  IdentityAgent none")
	_ = p.refused(t, "no key at all")
}

func TestAHostThatIsGoneIsNoticed(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	h := reached(t, s)
	done := make(chan error, 1)
	go func() {
		_, err := h.script(context.Background(), "echo begun; exec sleep 1000")
		done <- err
	}()
	s.Cut()
	var cut *CutError
	if err := <-done; !errors.As(err, &cut) {
		t.Errorf("a command whose connection is cut ends with %v", err)
	}
}

func TestAHostThatAllowsTooFewSessionsSaysSo(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{Config: []string{"MaxSessions 1"}})
	p := newPerson(t, s)
	p.o.AcceptNew = true
	h, err := Connect(t.Context(), p.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	first, err := h.begin(t.Context(), "cat", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close() //nolint:errcheck // it is cut
	if _, err := h.script(t.Context(), "true"); err == nil || !strings.Contains(err.Error(), "MaxSessions") {
		t.Errorf("the second session: %v", err)
	}
}

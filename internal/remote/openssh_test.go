//go:build linux

package remote

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/internal/remote/sshtest"
)

// host writes the configuration of a host called music, after more lines of it.
func (p *person) music(t *testing.T, s *sshtest.Server, lines ...string) {
	t.Helper()
	p.o.Address, p.o.Identity = "music", ""
	p.config(t, append(append([]string{"HashKnownHosts no", "Host music"}, lines...), "HostName "+s.Host, "Port "+s.Port, "User "+s.User, "IdentityFile "+s.Key)...)
}

func keygen(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
	}
}

func TestAProxyCommandIsTheConnection(t *testing.T) {
	t.Parallel()
	door := sshtest.Start(t, sshtest.Options{})
	inner := sshtest.Start(t, sshtest.Options{Behind: door})
	p := newPerson(t, inner)
	p.o.AcceptNew = true
	dir := t.TempDir()
	through := fmt.Sprintf("ssh -F none -i %s -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR -p %s -W %%h:%%p %s@%s", door.Key, door.Port, door.User, door.Host)
	p.music(t, inner, "ProxyCommand sh -c 'sleep 1000 & echo $! >"+dir+"/beside; echo %n %r 100%% >"+dir+"/tokens; exec "+through+"'")
	h := p.connects(t)
	if text, err := os.ReadFile(filepath.Join(dir, "tokens")); err != nil || string(text) != "music "+inner.User+" 100%\n" {
		t.Errorf("the tokens are %q, %v", text, err)
	}
	if door.Connections() != 1 || inner.Connections() != 1 {
		t.Errorf("%d connections of the door, %d of the host", door.Connections(), inner.Connections())
	}
	text, err := os.ReadFile(filepath.Join(dir, "beside"))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	door.Cut()
	for range 2 { // it may not have been noticed yet
		if _, err = h.script(t.Context(), "true"); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after a cut: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for end := time.Now().Add(10 * time.Second); syscall.Kill(beside, 0) == nil; {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", beside)); err == nil && strings.Contains(string(stat), ") Z ") {
			break // ended, and nobody asked how
		}
		if time.Now().After(end) {
			t.Fatal("what it started is left")
		}
	}
	p.music(t, door, "ProxyCommand none", "ProxyJump none")
	p.connects(t)
}

func TestAProxyCommandThatLeadsNowhereSaysWhatItSaid(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s)
	p.music(t, s, `ProxyCommand sh -c 'echo "no\033[2J tunnel today" >&2; exit 3'`)
	err := p.refused(t, "connect to music: the ProxyCommand sh -c", "exit status 3", "tunnel today")
	var connect *ConnectError
	if !errors.As(err, &connect) || !strings.Contains(connect.Hint, "no terminal") {
		t.Errorf("the error is %#v", err)
	}
	p.music(t, s, "ProxyCommand true")
	_ = p.refused(t, "the ProxyCommand true ended")
	p.music(t, s, "ProxyCommand sleep 1000", "ConnectTimeout 1")
	_ = p.refused(t, "finishes the handshake within 1s")
}

func TestAHostIsKnownByWhateverTheFilesSay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		keygen(t, "-q", "-N", "", "-t", kind, "-f", filepath.Join(dir, kind))
	}
	keygen(t, "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(dir, "ca"))
	keygen(t, "-q", "-s", filepath.Join(dir, "ca"), "-I", "host", "-h", "-n", "music.example,[music.example]:*", filepath.Join(dir, "ed25519.pub"))
	s := sshtest.Start(t, sshtest.Options{Config: []string{
		"HostKey " + filepath.Join(dir, "ed25519"), "HostKey " + filepath.Join(dir, "ecdsa"), "HostKey " + filepath.Join(dir, "rsa"),
		"HostCertificate " + filepath.Join(dir, "ed25519-cert.pub"),
	}})
	public := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(text))[:2], " ")
	}
	address := "[" + s.Host + "]:" + s.Port
	for _, c := range []struct {
		why, known string
		config     []string
		wrong      string
	}{
		{why: "by ed25519", known: address + " " + public("ed25519")},
		{why: "by ecdsa alone", known: address + " " + public("ecdsa")},
		{why: "by rsa alone", known: address + " " + public("rsa")},
		{why: "by an alias", known: "alias " + public("rsa"), config: []string{"HostKeyAlias alias"}},
		{why: "by an alias with a port", known: "[alias]:42022 " + public("rsa"), config: []string{"HostKeyAlias [alias]:42022"}},
		{why: "by an alias with another port", known: "[alias]:42023 " + public("rsa"), config: []string{"HostKeyAlias [alias]:42022"}, wrong: "is not a known host"},
		{why: "by an alias that is an address", known: "::1 " + public("rsa"), config: []string{"HostKeyAlias ::1"}},
		{why: "by a pattern", known: "[198.1?.*]:" + s.Port + " " + public("rsa")},
		{why: "by an authority", known: "@cert-authority * " + public("ca"), config: []string{"HostKeyAlias music.example"}},
		{why: "revoked", known: "@revoked * " + public("ed25519") + "\n" + address + " " + public("ed25519"), wrong: "revoked"},
		{why: "another of the same kind", known: address + " " + public("ca"), wrong: "another key than the one it is known by"},
		{why: "another, and none is checked", known: address + " " + public("ca"), config: []string{"StrictHostKeyChecking no"}, wrong: "another key"},
		{why: "not known", wrong: "is not a known host"},
		{why: "not known, and that will do", config: []string{"StrictHostKeyChecking accept-new"}},
		{why: "not known, and nothing is remembered", config: []string{"StrictHostKeyChecking no", "UserKnownHostsFile none"}},
		{why: "in another file", known: "other " + public("rsa"), config: []string{"UserKnownHostsFile ~/.ssh/none %d/.ssh/second"}},
		{why: "in the machine's", known: "other " + public("rsa"), config: []string{"GlobalKnownHostsFile ~/.ssh/second"}},
	} {
		p := newPerson(t, s)
		p.music(t, s, c.config...)
		if c.known != "" {
			c.known += "\n"
		}
		for name, text := range map[string]string{"known_hosts": c.known, "second": address + " " + public("ecdsa") + "\n"} {
			if err := os.WriteFile(filepath.Join(p.o.Home, ".ssh", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h, err := Connect(t.Context(), p.o)
		if err == nil {
			_ = h.Close()
		}
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", c.why, err, c.wrong)
		}
	}
	p := newPerson(t, s)
	p.o.AcceptNew = true
	p.config(t, "HashKnownHosts yes")
	p.connects(t)
	text, err := os.ReadFile(filepath.Join(p.o.Home, ".ssh", "known_hosts"))
	if err != nil || !strings.HasPrefix(string(text), "|1|") || !strings.HasSuffix(string(text), " "+public("ed25519")+"\n") {
		t.Errorf("a name that is to be hashed: %q, %v", text, err)
	}
	p.o.AcceptNew = false
	p.connects(t)
}

func TestACertificateLetsIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"ca", "mine"} {
		keygen(t, "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(dir, name))
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := sshtest.Start(t, sshtest.Options{Config: []string{"TrustedUserCAKeys " + filepath.Join(dir, "ca.pub")}})
	p := newPerson(t, s)
	p.o.AcceptNew = true
	mine := filepath.Join(dir, "mine")
	p.o.Identity = mine
	_ = p.refused(t, "takes none of the keys")
	keygen(t, "-q", "-s", filepath.Join(dir, "ca"), "-I", "me", "-n", s.User, mine+".pub")
	p.connects(t) // it lies beside the key
	if err := os.Rename(mine+"-cert.pub", filepath.Join(dir, "elsewhere.pub")); err != nil {
		t.Fatal(err)
	}
	_ = p.refused(t, "takes none of the keys")
	p.config(t, "CertificateFile "+filepath.Join(dir, "elsewhere.pub"))
	p.connects(t)
	p.config(t, "CertificateFile "+mine+".pub")
	_ = p.refused(t, "it is not a certificate")
}

func TestAPasswordIsAskedForAtATerminalOnly(t *testing.T) {
	t.Parallel()
	for name, config := range map[string][]string{
		"password":             {"PasswordAuthentication yes"},
		"keyboard-interactive": {"UsePAM yes", "KbdInteractiveAuthentication yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t, sshtest.Options{Config: config})
			set := exec.Command("chpasswd")
			set.Stdin = strings.NewReader(s.User + ":tower bells\n")
			if out, err := set.CombinedOutput(); err != nil {
				t.Fatalf("chpasswd: %v\n%s", err, out)
			}
			p := newPerson(t, s)
			p.o.AcceptNew, p.o.Identity = true, ""
			_ = p.refused(t, "takes none of the keys") // nobody is there
			p.attends()
			p.answers["assword"] = "tower bells"
			p.connects(t)
			if len(p.asked) != 1 {
				t.Errorf("asked %q", p.asked)
			}
			p.answers["assword"] = "wrong"
			p.asked = nil
			_ = p.refused(t)
			if len(p.asked) == 0 || len(p.asked) > 6 {
				t.Errorf("asked %q", p.asked)
			}
			p.asked = nil
			for _, line := range []string{"BatchMode yes", "PasswordAuthentication no\nKbdInteractiveAuthentication no"} {
				p.config(t, line)
				_ = p.refused(t, "takes none of the keys")
			}
			if len(p.asked) > 0 {
				t.Errorf("asked %q although the configuration forbids it", p.asked)
			}
		})
	}
}

func TestAFileMayNameAKeyThatOnlyTheAgentHas(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{Config: []string{"MaxAuthTries 2"}})
	p := newPerson(t, s)
	p.o.AcceptNew = true
	p.o.Agent = startAgent(t, s.NewKey(t, "a"), s.NewKey(t, "b"), s.NewKey(t, "c"), s.Key)
	only := filepath.Join(p.o.Home, ".ssh", "only")
	text, err := os.ReadFile(s.Key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(only+".pub", text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, identity := range []string{only, only + ".pub"} {
		p.music(t, s)
		p.config(t, "Host music", "HostName "+s.Host, "Port "+s.Port, "User "+s.User, "IdentitiesOnly yes", "AddKeysToAgent yes", "IdentityFile "+identity)
		p.connects(t)
	}
	p.config(t, "Host music", "HostName "+s.Host, "Port "+s.Port, "User "+s.User)
	_ = p.refused(t) // the agent has too many keys
}

func TestAShellThatGreetsIsUnderstood(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{Shell: "/bin/bash"})
	if err := os.WriteFile(filepath.Join(s.Home, ".bashrc"), []byte("echo Welcome; echo R; printf no-newline; echo careful >&2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := reached(t, s)
	if out, err := h.script(t.Context(), "echo answer"); err != nil || out != "answer\n" {
		t.Errorf("it answers %q, %v", out, err)
	}
	if out, err := h.send(t.Context(), "cat", nil, func(w io.Writer) error { _, err := io.WriteString(w, "sent"); return err }); err != nil || out != "sent" {
		t.Errorf("sent is %q, %v", out, err)
	}
}

func TestAHostThatPrintsForEverIsNotReadForEver(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{Shell: "/bin/bash"})
	h := reached(t, s)
	if _, err := h.script(t.Context(), "exec cat /dev/zero"); !errors.Is(err, errSaidTooMuch) {
		t.Errorf("a script: %v", err)
	}
	if _, err := h.script(t.Context(), "head -c 3000000 /dev/zero >&2; exit 3"); err == nil || len(err.Error()) > 5<<10 {
		t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
	}
	if err := os.WriteFile(filepath.Join(s.Home, ".bashrc"), []byte("cat /dev/zero\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.script(t.Context(), "true"); !errors.Is(err, errSaidTooMuch) {
		t.Errorf("a shell: %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.Home, ".bashrc"), []byte("echo go away >&2; exit 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	if _, err := h.script(t.Context(), "true"); !errors.As(err, &exit) || exit.Code != 7 || exit.Said != "go away" {
		t.Errorf("a shell that ends: %v", err)
	}
}

package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	hosts "golang.org/x/crypto/ssh/knownhosts"
)

// ConnectError says why a host could not be connected to.
type ConnectError struct {
	Host  string
	Err   error
	Hint  string
	Again bool // there was a connection before
}

func (e *ConnectError) Error() string {
	if e.Again {
		return fmt.Sprintf("the connection to %s was cut, and cannot be made anew: %v", e.Host, e.Err)
	}
	return fmt.Sprintf("connect to %s: %v", e.Host, e.Err)
}
func (e *ConnectError) Unwrap() error { return e.Err }

// ErrUnknownHost is why a host cannot be connected to whose name no machine has.
var ErrUnknownHost = errors.New("there is no host of this name")

// HostKeyError says that the key of a host is not to be trusted.
type HostKeyError struct {
	Host    string
	Message string
	Hint    string
}

func (e *HostKeyError) Error() string { return e.Message }

// reach connects to a station, through the one before it where there is one.
func (h *Host) reach(ctx context.Context, s *station, through *ssh.Client) (*ssh.Client, *line, error) {
	dialing, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := dial(dialing, s, through)
	if err != nil {
		return nil, nil, explainDial(s, err)
	}
	proxy, _ := conn.(*proxyCommand)
	signers, done, err := h.keys.signers(s)
	defer done()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	began := time.Now()
	// The time that a person takes to answer is not the host's.
	timer := time.AfterFunc(s.timeout, func() { _ = conn.Close() })
	defer timer.Stop()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var asked func(question string, secret bool) (string, error)
	if h.o.Ask != nil && !s.silent {
		asked = func(question string, secret bool) (string, error) {
			timer.Stop()
			defer timer.Reset(s.timeout)
			return h.o.Ask(question, secret)
		}
	}
	config := &ssh.ClientConfig{User: s.user, Auth: h.auth(s, signers, asked), ClientVersion: "SSH-2.0-belfry"}
	if err := h.trust(s, config, asked); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	over := &line{Conn: conn}
	c, channels, requests, err := ssh.NewClientConn(over, s.known, config)
	if err != nil {
		_ = conn.Close() // why it failed is told
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		return nil, nil, explainHandshake(s, err, signers, time.Since(began) >= s.timeout, proxy)
	}
	return ssh.NewClient(c, channels, requests), over, nil
}

func dial(ctx context.Context, s *station, through *ssh.Client) (net.Conn, error) {
	switch {
	case through != nil:
		return through.DialContext(ctx, "tcp", s.address)
	case s.command != "":
		return startProxyCommand(s)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.address)
}

// auth gives the ways to prove who we are, in the order in which they are tried.
func (h *Host) auth(s *station, signers []ssh.Signer, ask func(string, bool) (string, error)) []ssh.AuthMethod {
	methods := []ssh.AuthMethod{ssh.PublicKeys(signers...)}
	if ask == nil {
		return methods
	}
	password := func() (string, error) { return ask(fmt.Sprintf("Password of %s on %s: ", s.user, s.name), true) }
	if s.keyboard {
		methods = append(methods, ssh.KeyboardInteractive(func(_, instruction string, questions []string, echos []bool) ([]string, error) {
			if instruction != "" {
				h.o.Tell(instruction)
			}
			answers := make([]string, len(questions))
			for i, q := range questions {
				var err error
				if answers[i], err = ask(fmt.Sprintf("%s asks: %s", s.name, q), !echos[i]); err != nil {
					return nil, err
				}
			}
			return answers, nil
		}))
	}
	if s.password {
		methods = append(methods, ssh.RetryableAuthMethod(ssh.PasswordCallback(password), 3))
	}
	return methods
}

// unknownKeys are the keys that a host is asked for which is not known, in ssh's
// order. A certificate is not among them: it says nothing where no authority is known.
var unknownKeys = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}

// trust says which key of the host will do.
func (h *Host) trust(s *station, config *ssh.ClientConfig, ask func(string, bool) (string, error)) error {
	var files []string
	for _, path := range slices.Concat(s.files, s.global) {
		if _, err := os.Stat(path); err == nil {
			files = append(files, path)
		}
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return fmt.Errorf("read the keys of known hosts: %w", err)
	}
	config.HostKeyAlgorithms = db.HostKeyAlgorithms(s.known)
	if len(config.HostKeyAlgorithms) == 0 {
		config.HostKeyAlgorithms = unknownKeys
	}
	check := db.HostKeyCallback()
	config.HostKeyCallback = func(name string, address net.Addr, key ssh.PublicKey) error {
		err := check(name, address, key)
		switch {
		case err == nil:
			return nil
		case knownhosts.IsHostKeyChanged(err):
			return changedKey(s, key, err)
		case knownhosts.IsHostUnknown(err):
			return h.unknownKey(s, key, ask)
		}
		return &HostKeyError{Host: s.name, Message: fmt.Sprintf("the key of %s cannot be trusted: %v", s.name, err)}
	}
	return nil
}

func changedKey(s *station, key ssh.PublicKey, err error) error {
	where := ""
	var known *hosts.KeyError
	if errors.As(err, &known) && len(known.Want) > 0 {
		where = fmt.Sprintf(" (%s:%d)", known.Want[0].Filename, known.Want[0].Line)
	}
	return &HostKeyError{
		Host:    s.name,
		Message: fmt.Sprintf("%s shows another key than the one it is known by%s: now %s %s. Another machine may be answering in its place, so nothing was sent", s.name, where, key.Type(), ssh.FingerprintSHA256(key)),
		Hint:    fmt.Sprintf("if the machine was set up anew, and only then: ssh-keygen -R %s", Quote(knownhosts.Normalize(s.known))),
	}
}

// unknownKey asks whether the key of a host that was never seen is the right
// one, and remembers it.
func (h *Host) unknownKey(s *station, key ssh.PublicKey, ask func(string, bool) (string, error)) error {
	finger := fmt.Sprintf("%s %s", key.Type(), ssh.FingerprintSHA256(key))
	switch {
	case s.strict == "yes":
		return &HostKeyError{Host: s.name, Message: fmt.Sprintf("%s is not a known host, and the ssh configuration wants it to be (StrictHostKeyChecking); its key is %s", s.name, finger), Hint: "add it to " + cmp.Or(first(s.files), "your known_hosts")}
	case h.o.AcceptNew || s.strict == "accept-new" || s.strict == "no" || s.strict == "off":
		h.o.Tell(fmt.Sprintf("%s is new here; its key %s is remembered", s.name, finger))
	case ask == nil:
		return &HostKeyError{Host: s.name, Message: fmt.Sprintf("%s is not a known host, and nobody is there to say whether its key %s is right", s.name, finger), Hint: "compare it with what the host's console shows and give --accept-new, or connect once from a terminal"}
	default:
		for question := fmt.Sprintf("%s is not known here yet. It shows the key\n  %s\nIs that its key? It is then remembered. (yes/no) ", s.name, finger); ; {
			answer, err := ask(question, false)
			if err != nil {
				return err
			}
			switch strings.ToLower(strings.TrimSpace(answer)) {
			case "yes", ssh.FingerprintSHA256(key):
			case "no":
				return &HostKeyError{Host: s.name, Message: "nothing was sent to " + s.name}
			default:
				question = "Please write yes or no: "
				continue
			}
			break
		}
	}
	return remember(s, key)
}

// remember adds a host's key to the file of known ones.
func remember(s *station, key ssh.PublicKey) error {
	path := first(s.files)
	if path == "" {
		return nil // UserKnownHostsFile none
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("remember the key of %s: %w", s.name, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("remember the key of %s: %w", s.name, err)
	}
	name := knownhosts.Normalize(s.known)
	if s.hash {
		name = hosts.HashHostname(name)
	}
	line := name + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + "\n"
	if text, err := os.ReadFile(path); err == nil && len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		line = "\n" + line
	}
	if _, err := file.WriteString(line); err != nil {
		return errors.Join(fmt.Errorf("remember the key of %s: %w", s.name, err), file.Close())
	}
	return file.Close()
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func explainDial(s *station, err error) error {
	e := &ConnectError{Host: s.name, Err: err}
	var dns *net.DNSError
	var timeout net.Error
	var refused *ssh.OpenChannelError // by the host that it is reached through
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
		e.Err = fmt.Errorf("%s, which leads there, lets nobody through to %s", s.after, s.address)
		e.Hint = fmt.Sprintf("its sshd forbids it (AllowTcpForwarding, PermitOpen, or restrict in authorized_keys): have that allowed, or let another host lead to %s (ProxyJump)", s.name)
	case errors.As(err, &refused):
		e.Err = fmt.Errorf("%s, which leads there, cannot connect to %s: %s", s.after, s.address, refused.Message)
		e.Hint = fmt.Sprintf("is the machine running, and does %s reach it by this name and port?", s.after)
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Err, e.Hint = ErrUnknownHost, "check the name, or add it to ~/.ssh/config"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Err = fmt.Errorf("nothing answers at %s within %s", s.address, s.timeout)
		e.Hint = "is the machine running, the address right, and port 22 open for you (on EC2: its security group)?"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Err, e.Hint = fmt.Errorf("%s refuses the connection", s.address), "is sshd running there, and on this port?"
	case errors.Is(err, syscall.ECONNRESET):
		e.Err, e.Hint = fmt.Errorf("%s resets the connection", s.address), "try again; a firewall in between may end it"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Err, e.Hint = fmt.Errorf("no way leads to %s", s.address), "are you on the network, or the VPN, that it is on?"
		if runtime.GOOS == "darwin" { // which tells so, too, those whom it keeps from the machines around it
			e.Hint += " and may your terminal use the local network (System Settings, Privacy & Security)?"
		}
	}
	return e
}

func explainHandshake(s *station, err error, offered []ssh.Signer, late bool, proxy *proxyCommand) error {
	var key *HostKeyError
	var mine *KeyError
	switch {
	case errors.As(err, &key):
		return key
	case errors.As(err, &mine):
		return mine
	}
	e := &ConnectError{Host: s.name, Err: err}
	switch text := err.Error(); {
	case strings.Contains(text, "unable to authenticate"), strings.Contains(text, "Too many authentication failures"):
		e.Err = fmt.Errorf("it takes none of the keys that were offered for the user %s: %s", s.user, names(offered))
		e.Hint = "give the right key with -i, and the right user in USER@HOST (on EC2: ec2-user, ubuntu, admin)"
	case strings.Contains(text, "no common algorithm for host key"):
		e.Err = fmt.Errorf("it shows no key of the kinds that it is known by (%s)", strings.Join(s.files, ", "))
		e.Hint = fmt.Sprintf("if the machine was set up anew, and only then: ssh-keygen -R %s", Quote(knownhosts.Normalize(s.known)))
	case proxy != nil && (late || proxy.itself || errors.Is(err, syscall.EPIPE)):
		e.Err, e.Hint = proxy.explain(late), "does the command work by itself? belfry gives it no terminal: what it would ask there has to be answered before, or take ProxyJump"
	case late:
		e.Err, e.Hint = fmt.Errorf("something answers at %s, but does not finish the handshake within %s", s.address, s.timeout), "try again; the machine may be overloaded, or a firewall in between"
	case strings.Contains(text, "EOF"), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed): // by ssh, which could not write
		e.Err, e.Hint = fmt.Errorf("%s closed the connection during the handshake (%v)", s.address, err), "is it an ssh server, and does it let you in (MaxStartups, fail2ban)?"
	}
	return e
}

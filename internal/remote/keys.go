package remote

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// KeyError says why a private key cannot be used.
type KeyError struct {
	Path string
	Err  error
	Hint string
}

func (e *KeyError) Error() string { return fmt.Sprintf("the key %s: %v", e.Path, e.Err) }
func (e *KeyError) Unwrap() error { return e.Err }

// keyring has the private keys that were read, opened once.
type keyring struct {
	o    Options
	mu   sync.Mutex
	read map[string]ssh.Signer // guarded by mu; by path
}

func newKeyring(o Options) *keyring { return &keyring{o: o, read: map[string]ssh.Signer{}} }

// signers gives the keys to offer to a host: a key that was named first, as a
// host takes only a few offers, then the agent's, then the others.
func (k *keyring) signers(s *station) (list []ssh.Signer, done func(), err error) {
	done = func() {}
	var named, others []ssh.Signer
	var public []ssh.PublicKey // of files, to choose among the agent's
	for _, path := range s.identities {
		if path != k.o.Identity {
			if key, ok := publicKey(path); ok {
				public = append(public, key)
				continue
			}
		}
		signer, err := k.file(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != k.o.Identity:
			continue // as OpenSSH: defaults and configured ones need not be there
		case err != nil && !s.chosen:
			k.o.Tell(err.Error())
			continue
		case err != nil:
			return nil, done, err
		}
		if path == k.o.Identity {
			named = append(named, signer)
		} else {
			others = append(others, signer)
		}
	}
	var agents []ssh.Signer
	if s.agent != "" {
		if conn, err := net.Dial("unix", s.agent); err == nil {
			done = func() { _ = conn.Close() } // it was only asked
			if agents, err = agent.NewClient(conn).Signers(); err != nil {
				k.o.Tell(fmt.Sprintf("the ssh agent at %s does not say which keys it has: %v", s.agent, err))
			}
		}
	}
	if s.only {
		for _, signer := range slices.Concat(named, others) {
			public = append(public, signer.PublicKey())
		}
		agents = held(agents, public)
	}
	all := append(append(agentFirst(named, agents), agents...), others...)
	certified, err := certified(s, all)
	if err != nil {
		return nil, done, err
	}
	offered := map[string]bool{}
	for _, signer := range append(certified, all...) {
		if id := string(signer.PublicKey().Marshal()); !offered[id] {
			offered[id] = true
			list = append(list, signer)
		}
	}
	return list, done, nil
}

// certified gives the keys for which there are certificates: those of the
// configuration, and those that lie beside a key.
func certified(s *station, signers []ssh.Signer) (list []ssh.Signer, err error) {
	for i, path := range slices.Concat(s.certificates, s.identities) {
		beside := i >= len(s.certificates)
		if beside {
			path += "-cert.pub"
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // as OpenSSH
		}
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		public, _, _, _, err := ssh.ParseAuthorizedKey(text)
		certificate, ok := public.(*ssh.Certificate)
		if err != nil || !ok {
			return nil, &KeyError{Path: path, Err: errors.New("it is not a certificate")}
		}
		for _, signer := range signers {
			if string(signer.PublicKey().Marshal()) != string(certificate.Key.Marshal()) {
				continue
			}
			signer, err := ssh.NewCertSigner(certificate, signer)
			if err != nil {
				return nil, &KeyError{Path: path, Err: err}
			}
			list = append(list, signer)
			break
		}
	}
	return list, nil
}

// publicKey reads the public half of a key whose private one only an agent has: an
// IdentityFile may name it, or a private one that is not there.
func publicKey(path string) (ssh.PublicKey, bool) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path += ".pub"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	return key, err == nil
}

// held keeps those of the agent's keys that are also in files.
func held(agents []ssh.Signer, files []ssh.PublicKey) (list []ssh.Signer) {
	for _, a := range agents {
		if slices.ContainsFunc(files, func(f ssh.PublicKey) bool { return string(a.PublicKey().Marshal()) == string(f.Marshal()) }) {
			list = append(list, a)
		}
	}
	return list
}

// agentFirst lets the agent sign for a key that it has too: it needs no
// passphrase.
func agentFirst(files, agents []ssh.Signer) []ssh.Signer {
	list := append([]ssh.Signer(nil), files...)
	for i, f := range list {
		if there := held(agents, []ssh.PublicKey{f.PublicKey()}); len(there) > 0 {
			list[i] = there[0]
		}
	}
	return list
}

// file reads a private key. One that is encrypted is opened when it is used.
func (k *keyring) file(path string) (ssh.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if signer, read := k.read[path]; read {
		return signer, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, &KeyError{Path: path, Err: cause(err), Hint: "check the path: that of -i, or of the host's identity in belfry.yaml"}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &KeyError{Path: path, Err: fmt.Errorf("others can read it (mode %04o)", info.Mode().Perm()), Hint: "chmod 600 " + Quote(path)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &KeyError{Path: path, Err: cause(err)}
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked) && locked.PublicKey != nil:
		signer = &lockedKey{k: k, path: path, text: text, public: locked.PublicKey}
	case errors.As(err, &locked): // of an older format, which does not tell whose it is
		if signer, err = k.unlock(path, text); err != nil {
			return nil, err
		}
	case err != nil:
		if block, _ := pem.Decode(text); block == nil {
			return nil, &KeyError{Path: path, Err: errors.New("it is not a private key"), Hint: "-i takes the private key: the .pem that was downloaded, or the file without .pub"}
		}
		return nil, &KeyError{Path: path, Err: err}
	}
	k.read[path] = signer
	return signer, nil
}

// cause is what went wrong with a file, without its name.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func (k *keyring) unlock(path string, text []byte) (ssh.Signer, error) {
	if k.o.Ask == nil {
		return nil, &KeyError{Path: path, Err: errors.New("it has a passphrase, and nobody is there to be asked for it"), Hint: "ssh-add it to an agent, or give the command a terminal"}
	}
	for range 3 {
		phrase, err := k.o.Ask(fmt.Sprintf("Passphrase of the key %s: ", path), true)
		if err != nil {
			return nil, err
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(text, []byte(phrase))
		if err == nil {
			return signer, nil
		}
		k.o.Tell("that is not its passphrase")
	}
	return nil, &KeyError{Path: path, Err: errors.New("it was not opened: three times another passphrase")}
}

// lockedKey asks for the passphrase when the host has accepted the key.
type lockedKey struct {
	k      *keyring
	path   string
	text   []byte
	public ssh.PublicKey
	mu     sync.Mutex
	opened ssh.AlgorithmSigner // guarded by mu
}

func (l *lockedKey) PublicKey() ssh.PublicKey { return l.public }

func (l *lockedKey) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return l.SignWithAlgorithm(r, data, "")
}

func (l *lockedKey) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened == nil {
		signer, err := l.k.unlock(l.path, l.text)
		if err != nil {
			return nil, err
		}
		opened, ok := signer.(ssh.AlgorithmSigner)
		if !ok {
			return nil, &KeyError{Path: l.path, Err: errors.New("keys of this kind cannot be used here")}
		}
		l.opened = opened
	}
	return l.opened.SignWithAlgorithm(rand.Reader, data, algorithm)
}

// names lists what was offered, for people.
func names(signers []ssh.Signer) string {
	if len(signers) == 0 {
		return "no key at all"
	}
	var list []string
	for _, s := range signers {
		list = append(list, ssh.FingerprintSHA256(s.PublicKey()))
	}
	return strings.Join(list, ", ")
}

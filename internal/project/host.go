package project

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"belfry/internal/job"
)

// Host is a machine that the project may be put on. On such a machine itself it means
// nothing.
type Host struct {
	Name       string
	Address    string // [USER@]HOST[:PORT]; HOST may be an alias of the ssh configuration
	Identity   string // absolute path of a private key; empty: those that ssh would take
	AWSProfile string // that it is given; empty: none
}

// commands are those of belfry deploy: a host that is called so could not be named.
var commands = []string{"rollback", "status", "remove"}

// hosts reads the machines that the project may be put on.
func (p *parser) hosts(node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		p.errorf(node, "here stands %s where hosts are wanted, as in {prod: ec2-user@203.0.113.7}", kindName(node))
		return
	}
	p.unique(node)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, body := node.Content[i], resolve(node.Content[i+1])
		if err := checkHostName(name.Value); err != nil {
			p.errorf(name, "%v", err)
			continue
		}
		h := Host{Name: name.Value}
		address := func(n *yaml.Node) { read(p, n, "an address", &h.Address, parseAddress) }
		if body.Kind == yaml.ScalarNode {
			address(body)
		} else {
			p.mapping(body, "a key of a host", []key{
				{"address", address},
				{"identity", func(n *yaml.Node) { read(p, n, "a file", &h.Identity, p.identity) }},
				{"aws_profile", func(n *yaml.Node) { read(p, n, "the name of a profile", &h.AWSProfile, parseProfile) }},
			})
			if body.Kind == yaml.MappingNode && p.value(body, "address") == nil {
				p.errorf(name, "%s has no address", h.Name)
			}
		}
		p.project.Hosts = append(p.project.Hosts, h)
	}
}

// checkHostName says whether a host can be called so: its name stands where the
// names of commands and flags do.
func checkHostName(name string) error {
	switch {
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("%q cannot be the name of a host: it begins as a flag does", name)
	case slices.Contains(commands, name):
		return fmt.Errorf("%q cannot be the name of a host: belfry deploy %s is a command", name, name)
	}
	return job.CheckName(name)
}

func parseAddress(text string) (string, error) {
	_, _, _, err := SplitAddress(text)
	return text, err
}

// identity is a key's path, written as for ssh -i but relative to the project.
func (p *parser) identity(text string) (string, error) {
	if text == "" {
		return "", errors.New("the path of the key is empty")
	}
	if rest, ok := strings.CutPrefix(text, "~/"); ok {
		return filepath.Join(p.defaults.Home, rest), nil
	}
	return p.path(text), nil
}

func parseProfile(text string) (string, error) {
	if text == "" {
		return "", errors.New("the name of the profile is empty")
	}
	return text, nil
}

// SplitAddress reads [USER@]HOST[:PORT]. As in ssh, none of them can hold what means
// something to the shell of a ProxyCommand, but for the backslash of a user's domain.
// The error is an AddressError.
func SplitAddress(text string) (user, host, port string, err error) {
	host = text
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		user, host = host[:at], host[at+1:]
		if user == "" || user[0] == '-' || strings.HasSuffix(user, `\`) || strings.ContainsFunc(user, means(forShells)) {
			return "", "", "", &AddressError{text}
		}
	}
	if name, p, err := net.SplitHostPort(host); err == nil {
		host, port = name, p
		if port != "" && !IsPort(port) {
			return "", "", "", &AddressError{text}
		}
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.HasPrefix(host, "-") || strings.ContainsFunc(host+port, means(forShells+`/\`)) {
		return "", "", "", &AddressError{text}
	}
	return user, host, port, nil
}

// IsPort reports whether a text is the number of a port.
func IsPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

const forShells = "\"'`$;&|<>(){}"

// means reports whether a character is one of some, or no part of a name at all.
func means(some string) func(r rune) bool {
	return func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(some, r) }
}

// AddressError says that a text names no host.
type AddressError struct{ Text string }

func (e *AddressError) Error() string {
	return fmt.Sprintf("%q is not a host; write USER@HOST, as in ec2-user@203.0.113.7, and a port (1–65535) as HOST:PORT", e.Text)
}

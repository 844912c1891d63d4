package remote

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kevinburke/ssh_config"
)

// station is a host on the way, as the ssh configuration has it.
type station struct {
	name       string // as it was given
	user       string
	address    string // host:port to connect to
	known      string // host:port that its key is known by
	identities []string
	chosen     bool // the identities were named, and are no defaults
	only       bool // no other keys are offered
	agent      string
	strict     string // StrictHostKeyChecking
	files      []string
	timeout    time.Duration
}

// route finds out how a host is reached: over which others, and as whom.
func route(o Options) ([]*station, error) {
	configs, err := readConfigs(o.Home)
	if err != nil {
		return nil, err
	}
	return routeTo(o.Address, o.Identity, o, configs, 0)
}

func routeTo(address, identity string, o Options, configs []*ssh_config.Config, depth int) ([]*station, error) {
	if depth > 8 {
		return nil, fmt.Errorf("the ssh configuration sends %s over itself (ProxyJump)", address)
	}
	user, host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	get := func(key string) string {
		for _, c := range configs {
			if value, err := c.Get(host, key); err == nil && value != "" {
				return value
			}
		}
		return ""
	}
	all := func(key string) (values []string) {
		for _, c := range configs {
			if list, err := c.GetAll(host, key); err == nil {
				values = append(values, list...)
			}
		}
		return values
	}
	s := &station{name: host, user: cmp.Or(user, get("User"), o.User), strict: strings.ToLower(get("StrictHostKeyChecking"))}
	port = cmp.Or(port, get("Port"), "22")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("%q is not a port of %s", port, host)
	}
	name := cmp.Or(strings.ReplaceAll(get("HostName"), "%h", host), host)
	expand := func(path string) string {
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			path = filepath.Join(o.Home, rest)
		}
		return strings.NewReplacer("%d", o.Home, "%h", name, "%n", host, "%p", port, "%r", s.user, "%u", o.User, "%%", "%").Replace(path)
	}
	s.address = net.JoinHostPort(name, port)
	s.known = net.JoinHostPort(cmp.Or(get("HostKeyAlias"), name), port)
	s.only = strings.EqualFold(get("IdentitiesOnly"), "yes")
	for _, path := range all("IdentityFile") {
		s.identities, s.chosen = append(s.identities, expand(path)), true
	}
	if identity != "" {
		s.identities, s.chosen = append([]string{identity}, s.identities...), true
	}
	if len(s.identities) == 0 {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			s.identities = append(s.identities, filepath.Join(o.Home, ".ssh", name))
		}
	}
	switch agent := get("IdentityAgent"); agent {
	case "", "SSH_AUTH_SOCK":
		s.agent = o.Agent
	case "none":
	default:
		s.agent = expand(agent)
	}
	s.files = []string{filepath.Join(o.Home, ".ssh", "known_hosts")}
	if files := get("UserKnownHostsFile"); files != "" {
		s.files = nil
		for _, path := range strings.Fields(files) {
			s.files = append(s.files, expand(path))
		}
	}
	s.timeout = 15 * time.Second
	if seconds, err := strconv.Atoi(get("ConnectTimeout")); err == nil && seconds > 0 {
		s.timeout = time.Duration(seconds) * time.Second
	}
	if command := get("ProxyCommand"); command != "" && command != "none" {
		return nil, fmt.Errorf("the ssh configuration reaches %s by a ProxyCommand, which belfry does not run; ProxyJump it does", host)
	}
	var stations []*station
	if jumps := get("ProxyJump"); jumps != "" && jumps != "none" {
		for i, jump := range strings.Split(jumps, ",") {
			way, err := routeTo(strings.TrimPrefix(strings.TrimSpace(jump), "ssh://"), "", o, configs, depth+1)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				way = way[len(way)-1:] // it is reached over the ones before
			}
			stations = append(stations, way...)
		}
	}
	return append(stations, s), nil
}

// splitAddress reads [USER@]HOST[:PORT].
func splitAddress(text string) (user, host, port string, err error) {
	host = text
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		user, host = host[:at], host[at+1:]
		if user == "" {
			return "", "", "", &AddressError{text}
		}
	}
	if name, p, err := net.SplitHostPort(host); err == nil {
		host, port = name, p
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.HasPrefix(host, "-") || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\"'$;&|<>()`+"`", r) }) {
		return "", "", "", &AddressError{text}
	}
	return user, host, port, nil
}

// AddressError says that a text names no host.
type AddressError struct{ Text string }

func (e *AddressError) Error() string {
	return fmt.Sprintf("%q is not a host; write USER@HOST, as in ec2-user@203.0.113.7", e.Text)
}

// readConfigs reads the person's ssh configuration and the machine's, in the
// order in which they count.
func readConfigs(home string) ([]*ssh_config.Config, error) {
	var configs []*ssh_config.Config
	for _, path := range []string{filepath.Join(home, ".ssh", "config"), "/etc/ssh/ssh_config"} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the ssh configuration: %w", err)
		}
		config, err := ssh_config.DecodeBytes(text)
		if err != nil {
			return nil, fmt.Errorf("read the ssh configuration %s: %s", path, strings.TrimPrefix(err.Error(), "ssh_config: "))
		}
		configs = append(configs, config)
	}
	return configs, nil
}

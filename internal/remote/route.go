package remote

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"belfry/internal/project"
)

// station is a host on the way, as the ssh configuration has it.
type station struct {
	name         string // as it was given
	after        string // the name of the one that it is reached through; empty: there is none
	user         string
	address      string   // host:port to connect to
	command      string   // ProxyCommand, whose standard streams are the connection; empty: there is none
	known        string   // host:port that its key is known by
	identities   []string // paths of private keys
	chosen       bool     // the identities were named, and are no defaults
	certificates []string // paths
	only         bool     // no other keys are offered
	agent        string
	strict       string   // StrictHostKeyChecking
	files        []string // of known hosts; a new one is remembered in the first
	global       []string // the machine's
	hash         bool     // names are not to be read in what is remembered
	timeout      time.Duration
	alive        time.Duration // between two questions whether it is there; 0: as Options say
	outstanding  int           // unanswered ones that cut the connection
	silent       bool          // the person is asked nothing
	password     bool          // one may be asked for
	keyboard     bool          // the host may ask what it likes
}

// route finds out how a host is reached: over which others, and as whom.
func route(ctx context.Context, o Options) ([]*station, error) {
	way, err := routeTo(ctx, o.Address, o.Identity, o, 0)
	for i := 1; i < len(way); i++ {
		way[i].after = way[i-1].name
	}
	return way, err
}

func routeTo(ctx context.Context, address, identity string, o Options, depth int) ([]*station, error) {
	if depth > 8 {
		return nil, fmt.Errorf("the ssh configuration sends %s over itself (ProxyJump)", address)
	}
	user, host, port, err := project.SplitAddress(address)
	if err != nil {
		return nil, err
	}
	c, err := readConfig(ctx, host, user, port, o)
	if err != nil {
		return nil, err
	}
	s, err := c.station(identity)
	if err != nil {
		return nil, fmt.Errorf("the ssh configuration of %s: %w", host, err)
	}
	var stations []*station
	jumps, err := c.expand(c.jumps())
	if err != nil {
		return nil, fmt.Errorf("the ssh configuration of %s: ProxyJump: %w", host, err)
	}
	if jumps != "" {
		for i, jump := range strings.Split(jumps, ",") {
			way, err := routeTo(ctx, strings.TrimPrefix(strings.TrimSpace(jump), "ssh://"), "", o, depth+1)
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

// station is the host as the configuration has it, without the way there.
func (c *sshConfig) station(identity string) (*station, error) {
	name, port := c.hostName(), c.portName()
	if !project.IsPort(port) {
		return nil, fmt.Errorf("%q is not a port", port)
	}
	s := &station{
		name: c.host, user: c.userName(), address: net.JoinHostPort(name, port), known: net.JoinHostPort(name, port),
		only: c.says("identitiesonly", "yes"), strict: strings.ToLower(c.get("stricthostkeychecking")), hash: c.says("hashknownhosts", "yes"),
		silent: c.says("batchmode", "yes"), password: !c.says("passwordauthentication", "no"), keyboard: !c.says("kbdinteractiveauthentication", "no"),
		timeout: cmp.Or(c.seconds("connecttimeout"), 15*time.Second), alive: c.seconds("serveraliveinterval"), outstanding: 3,
	}
	if alias := c.get("hostkeyalias"); alias != "" {
		s.known = net.JoinHostPort(alias, "22") // as ssh: a name without a port
		if _, _, err := net.SplitHostPort(alias); err == nil && strings.HasPrefix(alias, "[") {
			s.known = alias // or with one, as it stands in the files of known hosts
		}
	}
	if n, err := strconv.Atoi(c.get("serveralivecountmax")); err == nil && n > 0 {
		s.outstanding = n
	}
	var err error
	if s.identities, err = c.paths(c.values["identityfile"]); err != nil {
		return nil, err
	}
	if identity != "" {
		s.identities = append([]string{identity}, s.identities...)
	}
	if s.chosen = len(s.identities) > 0; !s.chosen {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			s.identities = append(s.identities, filepath.Join(c.o.Home, ".ssh", name))
		}
	}
	if s.certificates, err = c.paths(c.values["certificatefile"]); err != nil {
		return nil, err
	}
	switch agent := c.get("identityagent"); agent {
	case "", "SSH_AUTH_SOCK":
		s.agent = c.o.Agent
	case "none":
	default:
		if name, ok := strings.CutPrefix(agent, "$"); ok && !strings.HasPrefix(name, "{") { // a variable, which need not be set
			if c.o.Getenv != nil {
				s.agent = c.o.Getenv(name)
			}
		} else if s.agent, err = c.path(agent); err != nil {
			return nil, err
		}
	}
	mine := cmp.Or(c.get("userknownhostsfile"), "~/.ssh/known_hosts")
	if s.files, err = c.paths(strings.Fields(mine)); err != nil {
		return nil, err
	}
	if s.global, err = c.paths(strings.Fields(cmp.Or(c.get("globalknownhostsfile"), "/etc/ssh/ssh_known_hosts"))); err != nil {
		return nil, err
	}
	if command := c.get("proxycommand"); command != "" && command != "none" {
		if s.command, err = c.expand(command); err != nil {
			return nil, fmt.Errorf("ProxyCommand: %w", err)
		}
	}
	return s, nil
}

func (c *sshConfig) says(name, value string) bool { return strings.EqualFold(c.get(name), value) }

// seconds is a setting that is a time; 0: there is none.
func (c *sshConfig) seconds(name string) time.Duration {
	text := c.get(name)
	if d, err := time.ParseDuration(text); err == nil {
		return max(d, 0)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return max(time.Duration(n)*time.Second, 0)
}

// paths are files that settings name; none of them is called none.
func (c *sshConfig) paths(values []string) (list []string, err error) {
	for _, value := range values {
		if value == "none" {
			continue
		}
		path, err := c.path(value)
		if err != nil {
			return nil, err
		}
		list = append(list, path)
	}
	return list, nil
}

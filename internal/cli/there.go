package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"belfry/api"
	"belfry/internal/project"
	"belfry/internal/remote"
)

// there is another machine that a command is carried out on, over ssh.
type there struct {
	address   string // -H
	identity  string // -i
	acceptNew bool   // --accept-new
	host      *remote.Host
	client    *api.Client
}

func (t *there) flags(root *cobra.Command) {
	root.PersistentFlags().StringVarP(&t.address, "host", "H", "", "talk to the daemon on this `USER@HOST`, over ssh; HOST may be an alias of ~/.ssh/config")
	root.PersistentFlags().StringVarP(&t.identity, "identity", "i", "", "the private `KEY` for that host (default: those of the agent and of ~/.ssh)")
	root.PersistentFlags().BoolVar(&t.acceptNew, "accept-new", false, "remember the key of a host that is not known, without a question")
}

// here are the commands that -H means nothing to: they work on this machine's
// files.
var here = map[string]bool{
	"init": true, "schema": true, "serve": true, "next": true, "vacuum": true,
	"import": true, "shadow": true, "install": true, "uninstall": true, "secrets": true,
}

// checkPlace refuses -H where it means nothing, rather than do here what was
// meant to be done there.
func (c *command) checkPlace(cmd *cobra.Command, _ []string) error {
	t := &c.there
	isHere := false // or is part of one that is, as “secrets set”
	for at := cmd; at != nil; at = at.Parent() {
		isHere = isHere || here[at.Name()]
	}
	deploys := cmd.Name() == "deploy" || cmd.HasParent() && cmd.Parent().Name() == "deploy"
	switch {
	case t.address == "" && cmd.Flags().Changed("host"): // the variable of a script that is not set
		return &remote.AddressError{Text: t.address}
	case t.address != "" && deploys:
		return usage("belfry deploy is given its host without -H").hint("belfry deploy %s", t.address)
	case t.address != "" && isHere:
		return usage("%s works on this machine, not on %s", cmd.CommandPath(), t.address).hint("-H is for commands that talk to a daemon")
	case t.address != "" && c.system:
		return usage("--system is this machine's cron; -H speaks to a project's daemon")
	case t.address == "" && !deploys && (t.identity != "" || t.acceptNew):
		return usage("-i and --accept-new are for a host: it is named with -H")
	}
	return nil
}

// connect gives the connection to a host; there is one of it.
func (c *command) connect(ctx context.Context, address string) (*remote.Host, error) {
	t := &c.there
	if t.host != nil {
		return t.host, nil
	}
	name, _ := me()
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	o := remote.Options{
		Address: address, Identity: t.identity, Home: home, User: cmp.Or(name, os.Getenv("USER")), Agent: os.Getenv("SSH_AUTH_SOCK"), Getenv: os.Getenv,
		AcceptNew: t.acceptNew, Tell: c.tell,
	}
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		_ = tty.Close() // it is opened for each question
		o.Ask = question
	}
	t.host, err = remote.Connect(ctx, o)
	return t.host, err
}

// question asks the person at the terminal, wherever the standard streams go.
func question(text string, secret bool) (answer string, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	if _, err := io.WriteString(tty, harmlessly(text)); err != nil {
		return "", err
	}
	if !secret {
		answer, err = bufio.NewReader(tty).ReadString('\n')
		return strings.TrimSpace(answer), err
	}
	// Whoever interrupts us would be left with a terminal that shows nothing.
	state, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", err
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-interrupts:
			_ = term.Restore(int(tty.Fd()), state) // there is nobody to tell
			os.Exit(130)
		case <-done:
		}
	}()
	typed, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return string(typed), err
}

// daemonThere gives a client for the daemon on the host of -H: the one of the
// project of this folder, or the only one.
func (c *command) daemonThere(ctx context.Context) (*api.Client, error) {
	t := &c.there
	if t.client != nil {
		return t.client, nil
	}
	h, err := c.connect(ctx, t.address)
	if err != nil {
		return nil, err
	}
	client, err := h.Daemon(ctx, projectHere(), c.data)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	health, err := client.Health(ctx)
	var request *url.Error // whose words are about addresses that nobody typed
	if errors.As(err, &request) {
		err = request.Err
	}
	if err != nil {
		return nil, err
	}
	c.tellHealth(health)
	t.client = client
	return client, nil
}

// projectHere is the name of the project of this folder; empty without one.
func projectHere() string {
	file, err := project.Find(".")
	if err != nil {
		return ""
	}
	p, err := project.Load(file, project.Defaults{Zone: time.UTC})
	if err != nil {
		return ""
	}
	return p.Name
}

package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"belfry/api"
	"belfry/internal/job"
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
	root.PersistentFlags().StringVarP(&t.address, "host", "H", "", "talk to the daemon on this `USER@HOST`, over ssh; or on a host of belfry.yaml, or an alias of ~/.ssh/config")
	root.PersistentFlags().StringVarP(&t.identity, "identity", "i", "", "the private `KEY` for that host (default: that of belfry.yaml, those of the agent and of ~/.ssh)")
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
	for _, name := range []string{"identity", "aws-profile", "run", "binary"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return usage("--%s is empty", name).hint("leave it out, or give it a value; is a variable not set?")
		}
	}
	deploys := cmd.Name() == "deploy" || cmd.HasParent() && cmd.Parent().Name() == "deploy"
	switch {
	case t.address == "" && cmd.Flags().Changed("host"): // the variable of a script that is not set
		return &project.AddressError{Text: t.address}
	case t.address != "" && deploys:
		return usage("%s is given its host without -H", cmd.CommandPath()).hint("%s %s", cmd.CommandPath(), t.address)
	case t.address != "" && isHere:
		return usage("%s works on this machine, not on %s", cmd.CommandPath(), t.address).hint("-H is for commands that talk to a daemon")
	case t.address != "" && c.system:
		return usage("--system is this machine's cron; -H speaks to a project's daemon")
	case t.address == "" && !deploys && (t.identity != "" || t.acceptNew):
		return usage("-i and --accept-new are for a host: it is named with -H")
	}
	return nil
}

// talks matches the commands of a hint that talk to a daemon.
var talks = regexp.MustCompile(`\bbelfry (audit|backfill|db|doctor|explain|jobs|logs|pause|published|resume|retry|run|runs|show|stop)\b`)

// pasted gives a hint so that its commands talk to the same daemon when they are typed.
func (t *there) pasted(hint string) string {
	if t.address == "" {
		return hint
	}
	on := "belfry -H " + word(t.address)
	if t.identity != "" {
		on += " -i " + word(t.identity)
	}
	return talks.ReplaceAllStringFunc(hint, func(command string) string { return on + strings.TrimPrefix(command, "belfry") })
}

// word quotes a word for a shell where it needs that.
func word(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("@._:/-", r)
	}) {
		return remote.Quote(text)
	}
	return text
}

// hostThere gives the connection to the host of -H. Where belfry.yaml is wrong,
// nobody knows which machine a name means, and another one is not to be taken for it.
func (c *command) hostThere(ctx context.Context) (*remote.Host, error) {
	p, err := projectHere()
	if wrong := new(problem); errors.As(err, &wrong) && !strings.Contains(c.there.address, "@") {
		return nil, wrong.hint("mend it, or write USER@HOST: a name alone may be that of a host in it")
	}
	return c.connect(ctx, hostOf(p, c.there.address))
}

// hostOf is the host that a name means: one of the project's (nil: there is no project),
// else what it is to ssh.
func hostOf(p *project.Project, name string) project.Host {
	if p != nil {
		if at := slices.IndexFunc(p.Hosts, func(h project.Host) bool { return h.Name == name }); at >= 0 {
			return p.Hosts[at]
		}
	}
	return project.Host{Name: name, Address: name}
}

// connect gives the connection to a host; there is one of it. Flags win over what
// belfry.yaml says.
func (c *command) connect(ctx context.Context, to project.Host) (*remote.Host, error) {
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
		Address: to.Address, Identity: cmp.Or(t.identity, to.Identity), Home: home, User: cmp.Or(name, os.Getenv("USER")), Agent: os.Getenv("SSH_AUTH_SOCK"), Getenv: os.Getenv,
		AcceptNew: t.acceptNew, Tell: c.tell,
	}
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		_ = tty.Close() // it is opened for each question
		o.Ask = question
	}
	t.host, err = remote.Connect(ctx, o)
	var unknown *remote.ConnectError
	if errors.As(err, &unknown) && errors.Is(err, remote.ErrUnknownHost) && unknown.Host == to.Name {
		return nil, &problem{err: err, next: unknown.Hint + notOfProject(to.Name), code: exitUnavailable}
	}
	return t.host, err
}

// notOfProject says, of a name that no host has, what belfry.yaml has.
func notOfProject(name string) string {
	p, err := projectHere()
	switch {
	case err != nil:
		return "; the hosts of a belfry.yaml are known in its folder"
	case len(p.Hosts) == 0:
		return ""
	}
	return "; no host of belfry.yaml is called so" + job.Suggestion(name, hostNames(p))
}

func hostNames(p *project.Project) []string {
	names := make([]string, len(p.Hosts))
	for i, h := range p.Hosts {
		names[i] = h.Name
	}
	return names
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
	h, err := c.hostThere(ctx)
	if err != nil {
		return nil, err
	}
	client, err := h.Daemon(ctx, nameHere(), c.data)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	health, err := client.Health(ctx)
	if err != nil {
		return nil, err
	}
	c.tellHealth(health)
	t.client = client
	return client, nil
}

// projectHere is the project of this folder, as it is for this machine to read.
func projectHere() (*project.Project, error) {
	file, err := project.Find(".")
	if err != nil {
		return nil, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	p, err := project.Load(file, project.Defaults{Owner: "deployed", Zone: time.UTC, Home: home})
	if err != nil {
		return nil, &problem{err: err, next: "mend it and try again", code: exitBadFile}
	}
	return p, nil
}

// nameHere is the name of that project, whatever else is wrong in its file; empty
// without one.
func nameHere() string {
	file, err := project.Find(".")
	if err != nil {
		return ""
	}
	name, err := project.Name(file)
	if err != nil {
		return ""
	}
	return name
}

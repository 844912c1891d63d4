//go:build !linux

package cli

import (
	"context"
	"errors"
	"os/user"

	"github.com/spf13/cobra"

	"belfry/api"
)

// A daemon runs on Linux. Elsewhere belfry is what talks to one, and what puts a
// project where one runs.

func notHere() *problem {
	return &problem{err: errors.New("belfry's daemon runs on Linux, not on this machine"), next: "belfry deploy USER@HOST puts this project on a host, -H USER@HOST talks to it there", code: exitUnavailable}
}

func (c *command) lookHere(context.Context) (*api.Client, func(), error) { return nil, nil, notHere() }

func (c *command) ownHere(context.Context) (*owner, error) { return nil, notHere() }

func (c *command) doctorHere(context.Context, []string, bool) error { return notHere() }

func (c *command) dataHere() (string, error) { return "", notHere() }

var storeFiles []string

func (c *command) hereCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:   "serve",
		Short: "Keep the times: the daemon, on Linux",
		RunE:  func(*cobra.Command, []string) error { return notHere() },
	}}
}

func explainHere(error) *problem { return nil }

// userExists gives what reports whether this machine has a user of a name.
func userExists() func(name string) bool {
	return func(name string) bool {
		_, err := user.Lookup(name)
		return err == nil
	}
}

// me gives the name and the home of who executes us; empty where that is not known.
func me() (name, home string) {
	u, err := user.Current()
	if err != nil {
		return "", ""
	}
	return u.Username, u.HomeDir
}

func calledCrontab(args []string) []string { return args[1:] }

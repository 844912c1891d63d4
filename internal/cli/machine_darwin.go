package cli

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// The ioctls that get and set how a terminal behaves.
const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)

// machineCommands are those that need another kind of machine, and say so.
func (c *command) machineCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:   "serve",
		Short: "Keep the times: the daemon, on Linux",
		RunE:  func(*cobra.Command, []string) error { return notHere("keeps the times") },
	}}
}

func (c *command) doctorHere(context.Context, []string, bool) error {
	return notHere("looks for what is wrong with a set-up")
}

// calledCrontab gives the command line that is meant.
func calledCrontab(args []string) []string { return args[min(1, len(args)):] }

// memoryDirs are the folders whose files may be in memory: there are none.
func memoryDirs() []string { return nil }

// privateDir is one of them.
func privateDir() string { return "" }

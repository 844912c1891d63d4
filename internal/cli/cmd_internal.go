package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/internal/proc"
	"belfry/internal/publish"
	"belfry/internal/python"
)

// keeperCommand is the parent of the jobs. The daemon starts it.
func keeperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "keeper DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return proc.RunKeeper(args[0], logTo(os.Stderr, slog.LevelInfo))
		},
	}
}

// publishCommand is the child that publishes. The daemon starts it.
func publishCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "publish",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if code := publish.Child(os.Stdin, os.Stdout); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

// pythonCommand becomes a job's command, in its virtual environment. The keeper
// starts it.
func (c *command) pythonCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "python ORDER COMMAND…",
		Hidden:             true,
		DisableFlagParsing: true, // the command's are its own
		RunE: func(_ *cobra.Command, args []string) error {
			fmt.Fprintf(c.err, "belfry: %v\n", python.Begin(args, os.Environ(), c.out))
			return exitCode(python.ExitRefused)
		},
	}
}

// socketProxyCommand carries bytes between its standard streams and a daemon's
// socket, for a client that reaches this machine only by ssh. Its first byte says
// that the daemon was reached.
func socketProxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "internal-socket-proxy DATA",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := api.DialUnix(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer conn.Close() //nolint:errcheck // it was talked to
			if _, err := os.Stdout.Write([]byte{0}); err != nil {
				return err
			}
			go func() {
				_, _ = io.Copy(conn, os.Stdin) // the client goes by leaving
				_ = conn.Close()
			}()
			_, _ = io.Copy(os.Stdout, conn) // to the end of either
			return nil
		},
	}
}

// relative shows a path from the current folder where that is shorter.
func relative(path string) string {
	if !filepath.IsAbs(path) {
		return path
	}
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(here, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	if strings.HasSuffix(path, "/") {
		rel += "/"
	}
	return rel
}

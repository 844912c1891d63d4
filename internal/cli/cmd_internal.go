package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"belfry/api"
)

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

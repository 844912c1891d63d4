package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"belfry/internal/proc"
	"belfry/internal/publish"
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

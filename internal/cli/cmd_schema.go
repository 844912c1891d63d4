package cli

import (
	"github.com/spf13/cobra"

	"belfry/internal/project"
)

func (c *command) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON schema of belfry.yaml, for editors",
		Long: `Print a JSON schema (draft 7) of belfry.yaml: an editor that knows it completes keys,
shows what they do, and marks what is wrong as one types. Editors with the YAML language
server (VS Code, Neovim, Emacs, Helix …) take it from a comment at the head of the file:

  # yaml-language-server: $schema=belfry.schema.json

The schema refuses nothing that belfry takes; "belfry jobs" finds more that is wrong.

Exit codes: those of "belfry --help".`,
		Example: "  belfry schema > belfry.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := c.out.Write(project.Schema())
			return err
		},
	}
}

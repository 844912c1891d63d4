package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"belfry/internal/project"
)

func (c *command) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write a first belfry.yaml here",
		Long:  "Write a first belfry.yaml into the current folder. One that is there is left alone (75).",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			zone, err := hostZone()
			if err != nil {
				return err
			}
			file, err := os.OpenFile(project.FileName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return &problem{err: errors.New("there is a belfry.yaml here already"), next: "belfry jobs lists what it holds", code: exitRefused}
			}
			if err != nil {
				return &problem{err: err, next: "go to a folder that you may write", code: exitCannotWrite}
			}
			_, err = fmt.Fprintf(file, project.Init, zone)
			if err := errors.Join(err, file.Close()); err != nil {
				return err
			}
			fmt.Fprintln(c.err, "wrote belfry.yaml")
			fmt.Fprintln(c.err, "  next: belfry run hello    runs its job now")
			fmt.Fprintln(c.err, "        belfry serve        keeps its times")
			return nil
		},
	}
}

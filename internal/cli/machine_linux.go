package cli

import (
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// The ioctls that get and set how a terminal behaves.
const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETSF
)

// machineCommands are those that need this kind of machine.
func (c *command) machineCommands() []*cobra.Command {
	return []*cobra.Command{
		c.importCommand(), c.shadowCommand(), c.installCommand(), c.uninstallCommand(), c.serveCommand(), c.crontabCommand(), c.siteCommand(),
	}
}

// privateDir is a folder whose files are in memory; empty where there is none.
func privateDir() string {
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		var fs unix.Statfs_t
		if dir != "" && unix.Statfs(dir, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	return ""
}

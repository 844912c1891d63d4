package cli

import (
	"os"
	"slices"

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

// memoryDirs are the folders whose files may be in memory.
func memoryDirs() []string {
	return slices.DeleteFunc([]string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"}, func(dir string) bool { return dir == "" })
}

// privateDir is a folder whose files are in memory; empty where there is none.
func privateDir() string {
	for _, dir := range memoryDirs() {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	return ""
}

package cli

import (
	"cmp"
	"errors"
	"os"
	"runtime"
	"slices"
	"syscall"

	"belfry/api"
	"belfry/internal/daemon"
	"belfry/internal/system"
)

// Where the machine's cron keeps its own.
const (
	systemData     = "/var/lib/belfry"
	systemSockets  = "/run/belfry"
	systemSettings = "/etc/belfry.yaml"
)

// systemOptions are those of the machine's cron.
func (c *command) systemOptions(o daemon.Options) (daemon.Options, error) {
	if runtime.GOOS != "linux" {
		return o, notHere("looks after the machine's cron")
	}
	dialect := system.Dialect(c.dialect)
	if dialect != "" && !slices.Contains(system.Dialects, dialect) {
		return o, usage("there is no dialect %q", c.dialect).hint("there are cronie and debian")
	}
	places := system.At("", dialect)
	o.Project, o.Data = systemSettings, cmp.Or(c.data, os.Getenv("BELFRY_DATA"), systemData)
	o.System = &daemon.System{Places: places, Users: places.Users(), Sockets: systemSockets}
	// Whatever root's own mask is: what is for others is opened to them by name.
	syscall.Umask(0o077)
	return c.complete(o)
}

// clientOf talks to the daemon that is meant. The machine's answers root in its
// data folder, and everybody else on the socket that is theirs.
func clientOf(o daemon.Options) *api.Client {
	if o.System != nil && os.Geteuid() != 0 {
		return api.Unix(o.System.Sockets)
	}
	return api.Unix(o.Data)
}

// errOnlyRoot says that nobody is there whom a user could ask.
var errOnlyRoot error = &problem{
	err:  errors.New("the machine's cron is not running, and without it only root can look at its account or run its jobs"),
	next: "belfry serve --system starts it, as root", code: exitUnavailable,
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
	"belfry/internal/daemon"
	"belfry/internal/notify"
	"belfry/internal/proc"
	"belfry/internal/project"
	"belfry/internal/publish"
	"belfry/internal/python"
	"belfry/internal/run"
	"belfry/internal/secrets"
	"belfry/internal/site"
	"belfry/internal/system"
)

// options finds out which project and which data folder are meant: those of
// the nearest folder upward that has one of the two, else the machine's cron, if
// belfry is that.
func (c *command) options(crontabs []string, log *slog.Logger) (daemon.Options, error) {
	o := daemon.Options{Crontabs: crontabs, Clock: daemon.ReadClock, Version: Version, Log: log, Self: []string{proc.Self()}}
	if c.system {
		return c.systemOptions(o)
	}
	here, file, none := findHere()
	switch {
	case none == nil:
		var err error
		if o.Project, o.Data, err = locate(file); err != nil {
			return o, err
		}
	case !errors.Is(none, project.ErrNoProject) && !errors.Is(none, fs.ErrPermission): // as after sudo -u, in a folder of root's
		return o, none
	}
	if dir, ok := above(here, dataName); ok && len(dir) > len(filepath.Join(filepath.Dir(o.Project), dataName)) && !same(dir, o.Data) {
		o.Project, o.Data = "", dir // nearer than any belfry.yaml
	}
	switch {
	case c.data != "":
		o.Data = c.data
	case os.Getenv("BELFRY_DATA") != "":
		o.Data = os.Getenv("BELFRY_DATA")
	case o.Data == "" && len(crontabs) > 0:
		o.Data = filepath.Join(here, dataName)
	case o.Data == "":
		_, err := os.Stat(filepath.Join(systemSockets, api.SocketName))
		if err == nil || (&system.Installation{Places: system.At("", "")}).Installed() { // it may just not run
			return c.systemOptions(o)
		}
		if errors.Is(none, fs.ErrPermission) {
			none = &problem{err: none, next: "go to your project's folder: this one is closed to you", code: exitNotFound}
		}
		return o, none
	}
	return c.complete(o)
}

// findHere looks for the project that this folder belongs to.
func findHere() (here, file string, err error) {
	if here, err = os.Getwd(); err != nil {
		return here, "", fmt.Errorf("look for %s in this folder: %w", project.FileName, err)
	}
	file, err = project.Find(here)
	return here, file, err
}

// complete fills in what does not depend on which project is meant.
func (c *command) complete(o daemon.Options) (_ daemon.Options, err error) {
	if o.Data, err = filepath.Abs(o.Data); err != nil {
		return o, err
	}
	o.MailSpool = os.Getenv("BELFRY_MAIL_SPOOL")
	o.Told = c.tell
	if o.Zone, err = hostZone(); err != nil {
		return o, err
	}
	o.Host, err = host()
	return o, err
}

func host() (run.Host, error) {
	h := run.Host{Environ: os.Environ()}
	name, err := os.Hostname()
	if err != nil {
		return h, err
	}
	h.Name, _, _ = strings.Cut(name, ".") // as cron does
	h.User, h.Home = me()
	// A container's user need not be one that the image knows.
	h.User = cmp.Or(h.User, os.Getenv("USER"), strconv.Itoa(os.Getuid()))
	h.Home = cmp.Or(h.Home, os.Getenv("HOME"), "/")
	h.Key = cmp.Or(os.Getenv("BELFRY_KEY_FILE"), secrets.KeyPath(cmp.Or(os.Getenv("HOME"), h.Home)))
	return h, nil
}

// userExists gives what reports whether this machine has a user of a name, or
// cannot tell.
func userExists() func(name string) bool { return among(system.At("", "").Users()) }

func among(users *system.Users) func(name string) bool {
	return func(name string) bool {
		_, err := users.Lookup(name)
		unknown := new(system.UnknownUserError)
		return !errors.As(err, &unknown)
	}
}

// me gives the name and the home of who executes us; empty where that is not known.
func me() (name, home string) {
	u, err := system.At("", "").Users().LookupID(uint32(os.Getuid()))
	if err != nil {
		return "", ""
	}
	return u.Name, u.Home
}

// above looks for a folder called name in dir and the folders above it.
func above(dir, name string) (string, bool) {
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path, true
		}
		if dir == filepath.Dir(dir) {
			return "", false
		}
	}
}

// health asks the daemon of a data folder how it is, and whether it is there.
// One that is there and does not answer is an error.
func (c *command) health(ctx context.Context, client *api.Client, data string) (health api.Health, there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	health, err = client.Health(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		who, _ := os.ReadFile(filepath.Join(data, "lock"))
		return health, true, &problem{
			err:  fmt.Errorf("the daemon does not answer (%s)", strings.TrimSpace(string(who))),
			next: "its process may be stopped, or waiting for a disk; jobs that are running go on, and outlive its restart", code: exitUnavailable,
		}
	}
	return health, err == nil, nil
}

// lookHere is look for this machine.
func (c *command) lookHere(ctx context.Context) (*api.Client, func(), error) {
	o, err := c.options(nil, c.log())
	if err != nil {
		return nil, nil, err
	}
	client := clientOf(o)
	health, there, err := c.health(ctx, client, o.Data)
	switch {
	case err != nil:
		return nil, nil, err
	case !there && o.System != nil && os.Geteuid() != 0:
		return nil, nil, errOnlyRoot
	case !there:
		if c.data != "" {
			if _, err := os.Stat(o.Data); errors.Is(err, fs.ErrNotExist) {
				return nil, nil, &problem{err: fmt.Errorf("there is no data folder %s", o.Data), next: "check the path: belfry serve, and belfry run, make it", code: exitNotFound}
			}
		}
		return daemon.Look(ctx, o)
	}
	c.tellHealth(health)
	return client, client.Close, nil
}

// ownHere is own for this machine.
func (c *command) ownHere(ctx context.Context) (*owner, error) {
	o, err := c.options(nil, c.log())
	if err != nil {
		return nil, err
	}
	client := clientOf(o)
	for tries := 0; ; tries++ {
		_, there, err := c.health(ctx, client, o.Data)
		if err != nil {
			return nil, err
		}
		if there {
			return &owner{client: client, finish: func() {}, stop: func() {}}, nil
		}
		if o.System != nil && os.Geteuid() != 0 {
			return nil, errOnlyRoot
		}
		d, err := daemon.Open(ctx, o)
		var owned *daemon.OwnedError
		if errors.As(err, &owned) && tries < 50 { // it is just starting, or just ending
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if err != nil {
			return nil, err
		}
		inner, stop := context.WithCancel(context.WithoutCancel(ctx))
		w := &owner{client: client, finish: d.Finish, stop: stop, done: make(chan error, 1)}
		go func() { w.done <- errors.Join(d.Run(inner), d.Close()) }()
		return w, nil
	}
}

// locate gives the file of a project and its data folder. In a release both are
// named without links: what is written down about a run must not change its
// meaning with the next release.
func locate(file string) (yaml, data string, err error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return "", "", err
	}
	if _, root, ok := project.ReleaseAt(dir); ok {
		return filepath.Join(dir, project.FileName), filepath.Join(root, site.DataName), nil
	}
	return file, filepath.Join(filepath.Dir(file), dataName), nil
}

func same(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// explainAddress is for an address that cannot be listened on.
func explainAddress(err *daemon.ListenError) *problem {
	const choose = "choose another with --listen, $BELFRY_LISTEN or daemon.listen in belfry.yaml"
	switch {
	case errors.Is(err, daemon.ErrBadAddress):
		return &problem{err: err, next: "mend daemon.listen in belfry.yaml and try again", code: exitBadFile}
	case errors.Is(err, syscall.EADDRINUSE):
		return &problem{err: err, next: "stop that one first, or " + choose, code: exitRefused}
	case errors.Is(err, syscall.EACCES):
		return &problem{err: err, next: "ports below 1024 are for root; " + choose, code: exitFailed}
	}
	return &problem{err: err, next: choose, code: exitFailed}
}

// explainHere explains the errors of a daemon of our own; nil: it is none.
func explainHere(err error) *problem {
	var (
		p       *problem
		owned   *daemon.OwnedError
		folder  *daemon.FolderError
		gone    *daemon.GoneError
		source  *daemon.SourceError
		address *daemon.ListenError
	)
	switch {
	case errors.As(err, &p):
	case errors.As(err, &owned):
		return &problem{err: owned, next: "stop that one first, or give this one another folder with --data", code: exitRefused}
	case errors.As(err, &folder):
		return &problem{err: folder, next: "make it writable for you, or choose another with --data", code: exitCannotWrite}
	case errors.As(err, &address):
		return explainAddress(address)
	case errors.As(err, &gone):
		return &problem{err: gone, next: "jobs that are running go on, but nobody will know how they end; start belfry again", code: exitCannotWrite}
	case errors.As(err, &source):
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOENT) {
			return &problem{err: source, next: "check the path", code: exitNotFound}
		}
		return &problem{err: source, next: "mend it and try again", code: exitBadFile}
	}
	return nil
}

// storeFiles are the names of the account and of the logs in a data folder.
var storeFiles = daemon.StoreFiles

// dataHere is the data folder of this machine that is meant.
func (c *command) dataHere() (string, error) {
	o, err := c.options(nil, c.log())
	return o.Data, err
}

// notHere is for what belfry does on Linux only.
func notHere(does string) *problem {
	return &problem{err: fmt.Errorf("belfry %s on Linux only, not on this machine", does), next: "belfry deploy USER@HOST puts this project on a host, -H USER@HOST talks to it there", code: exitUnavailable}
}

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

// deliverCommand is the child that writes a mailbox. The daemon starts it.
func deliverCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "deliver",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return notify.Child(os.Stdin, os.Stdout) },
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"belfry/api"
	"belfry/internal/daemon"
	"belfry/internal/project"
	"belfry/internal/run"
	"belfry/internal/site"
)

// dataName is the data folder's name beside belfry.yaml.
const dataName = ".belfry"

// options finds out which project and which data folder are meant: those of
// the nearest folder upward that has one of the two.
func (c *command) options(crontabs []string, log *slog.Logger) (daemon.Options, error) {
	o := daemon.Options{Crontabs: crontabs, Clock: daemon.ReadClock, Version: Version, Log: log, Self: []string{"/proc/self/exe"}}
	here, err := os.Getwd()
	if err != nil {
		return o, err
	}
	if file, err := project.Find(here); err == nil {
		if o.Project, o.Data, err = locate(file); err != nil {
			return o, err
		}
	} else if !errors.Is(err, project.ErrNoProject) {
		return o, err
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
		_, err := project.Find(here)
		return o, err
	}
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

// tell says a sentence, or several lines of them, to the person.
func (c *command) tell(sentence string) { fmt.Fprintf(c.err, "belfry: %s\n", sentence) }

// hostZone is the machine's time zone.
func hostZone() (*time.Location, error) {
	zone, err := daemon.HostZone(os.Environ())
	if err != nil {
		return nil, &problem{err: err, next: "set TZ to the name of a time zone, as in TZ=Asia/Seoul", code: exitBadFile}
	}
	return zone, nil
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

func host() (run.Host, error) {
	h := run.Host{Environ: os.Environ()}
	name, err := os.Hostname()
	if err != nil {
		return h, err
	}
	h.Name, _, _ = strings.Cut(name, ".") // as cron does
	if u, err := user.Current(); err == nil {
		h.User, h.Home = u.Username, u.HomeDir
	} else {
		h.User, h.Home = os.Getenv("USER"), os.Getenv("HOME")
	}
	if h.User == "" || h.Home == "" {
		return h, &problem{err: errors.New("it is not known which user this is"), next: "set USER and HOME", code: exitFailed}
	}
	return h, nil
}

// look gives a client for a command that only reads: the daemon where there is
// one, else the files as they are.
func (c *command) look(ctx context.Context) (*api.Client, func(), error) {
	if c.there.address != "" {
		client, err := c.daemonThere(ctx)
		if err != nil {
			return nil, nil, err
		}
		return client, client.Close, nil
	}
	o, err := c.options(nil, c.log())
	if err != nil {
		return nil, nil, err
	}
	client := api.Unix(o.Data)
	health, there, err := c.health(ctx, client, o.Data)
	switch {
	case err != nil:
		return nil, nil, err
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

// tellHealth says what is not well with a daemon.
func (c *command) tellHealth(health api.Health) {
	if health.Problem != "" {
		c.tell("the daemon goes on with the jobs as they were: " + health.Problem)
	}
	if health.Error != "" {
		c.tell(health.Error)
	}
}

// patience is how long a daemon may take to say how it is.
const patience = 5 * time.Second

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

// tellTrouble says, until stop is called, when a daemon that is waited for is not
// well.
func (c *command) tellTrouble(ctx context.Context, client *api.Client) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watchHealth(ctx, client)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (c *command) watchHealth(ctx context.Context, client *api.Client) {
	ticker := time.NewTicker(patience)
	defer ticker.Stop()
	for told := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		health, err := client.Health(ctx)
		if err == nil && health.Error != told && ctx.Err() == nil {
			if told = health.Error; told != "" {
				c.tell(told)
			} else {
				c.tell("the daemon is well again")
			}
		}
	}
}

// owner is a daemon of our own, or somebody else's.
type owner struct {
	client *api.Client
	finish func()             // lets our own daemon end when it is done; nothing for somebody else's
	stop   context.CancelFunc // gives our own daemon up; nothing for somebody else's
	done   chan error         // our own daemon has ended; nil for somebody else's
}

// own gives a client for a command that does something: the daemon that owns
// the data folder, or one of our own that ends when its work is done.
func (c *command) own(ctx context.Context) (*owner, error) {
	if c.there.address != "" {
		client, err := c.daemonThere(ctx)
		if err != nil {
			return nil, err
		}
		return &owner{client: client, finish: func() {}, stop: func() {}}, nil
	}
	o, err := c.options(nil, c.log())
	if err != nil {
		return nil, err
	}
	client := api.Unix(o.Data)
	for tries := 0; ; tries++ {
		_, there, err := c.health(ctx, client, o.Data)
		if err != nil {
			return nil, err
		}
		if there {
			return &owner{client: client, finish: func() {}, stop: func() {}}, nil
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

// wait lets our own daemon finish what it has begun.
func (w *owner) wait() error {
	w.client.Close()
	if w.done == nil {
		return nil
	}
	w.finish()
	defer w.stop()
	return <-w.done
}

// waitFor is wait for a person: after a moment it says what it waits for, and
// an interrupt leaves that to the next daemon.
func (w *owner) waitFor(interrupts <-chan os.Signal, told func()) error {
	if w.done == nil {
		return w.wait()
	}
	w.finish()
	defer w.client.Close()
	moment := time.NewTimer(time.Second)
	defer moment.Stop()
	for {
		select {
		case err := <-w.done:
			w.stop()
			return err
		case <-moment.C:
			told()
		case <-interrupts:
			w.stop()
		}
	}
}

// leave gives up at once.
func (w *owner) leave() {
	w.stop()
	_ = w.wait() // what went wrong has been told
}

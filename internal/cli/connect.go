package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"belfry/api"
	"belfry/internal/project"
)

// dataName is the data folder's name beside belfry.yaml.
const dataName = ".belfry"

// tell says a sentence, or several lines of them, to the person.
func (c *command) tell(sentence string) { fmt.Fprintf(c.err, "belfry: %s\n", harmlessly(sentence)) }

// hostZone is the machine's time zone.
func hostZone() (*time.Location, error) {
	zone, err := project.HostZone(os.Environ())
	if err != nil {
		return nil, &problem{err: err, next: "set TZ to the name of a time zone, as in TZ=Asia/Seoul", code: exitBadFile}
	}
	return zone, nil
}

// patience is how long a daemon may take to say how it is.
const patience = 5 * time.Second

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

// look gives a client for a command that only reads: the daemon where there is
// one, else the files as they are.
func (c *command) look(ctx context.Context) (*api.Client, func(), error) {
	if c.there.address == "" {
		return c.lookHere(ctx)
	}
	client, err := c.daemonThere(ctx)
	if err != nil {
		return nil, nil, err
	}
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

// own gives a client for a command that does something: the daemon that owns
// the data folder, or one of our own that ends when its work is done.
func (c *command) own(ctx context.Context) (*owner, error) {
	if c.there.address == "" {
		return c.ownHere(ctx)
	}
	client, err := c.daemonThere(ctx)
	if err != nil {
		return nil, err
	}
	return &owner{client: client, finish: func() {}, stop: func() {}}, nil
}

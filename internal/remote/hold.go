package remote

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"belfry/internal/site"
)

// BusyError says that another deploy of a project did not end while ours waited.
type BusyError struct {
	Host   string
	Other  site.Deploying
	Waited time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("%s, and that has not ended within %s", at(e.Other, e.Host), e.Waited)
}

// at says what somebody does.
func at(d site.Deploying, host string) string {
	return fmt.Sprintf("%s on %s, since %s", d.By+" "+d.Does, host, d.Since.Local().Format("15:04:05 MST"))
}

// hold is a project's site on a host that is ours alone.
type hold struct {
	h    *Host
	p    *process
	stop context.CancelFunc
	lost chan error // why it ended, once it has
}

// hold waits, up to wait, until no other deploy of the project is at work on the
// host, and keeps others waiting from then on, until it is let go or we are gone.
// binary is the one that does so; empty: the one that runs.
func (h *Host) hold(ctx context.Context, projectName, binary, does string, wait time.Duration) (*hold, error) {
	machine, err := os.Hostname()
	if err != nil {
		machine = "another machine"
	}
	asking := site.Asking{Deploying: site.Deploying{ID: rand.Text(), By: h.o.User + "@" + machine, Does: does}, Wait: wait}
	me, err := json.Marshal(asking)
	if err != nil {
		return nil, err
	}
	p, err := h.begin(ctx, siteScript+` hold "$1"`, []string{h.root(projectName), binary})
	if err != nil {
		return nil, h.siteError(projectName, "hold", err)
	}
	signing, stop := context.WithCancel(ctx)
	held := &hold{h, p, stop, make(chan error, 1)}
	go p.giveSigns(signing, append(me, '\n'))
	for answers := json.NewDecoder(io.LimitReader(p.out, mostSaid)); ; {
		var turn site.Turn
		switch err := answers.Decode(&turn); {
		case err != nil:
			defer held.close()
			return nil, h.siteError(projectName, "hold", p.failed(err))
		case turn.Held:
			h.deploy = asking.ID
			go func() { held.lost <- p.session.Wait() }()
			return held, nil
		case turn.Late:
			defer held.close()
			return nil, &BusyError{h.Name(), turn.Other, wait}
		}
		h.o.Tell(at(turn.Other, h.Name()) + "; this waits until that has ended")
	}
}

// giveSigns says who we are, and then that we are there, until nobody listens or ctx
// ends, which it says too.
func (p *process) giveSigns(ctx context.Context, me []byte) {
	defer p.in.Close() //nolint:errcheck // nobody may listen any more
	ticker := time.NewTicker(site.Silence / 6)
	defer ticker.Stop()
	for sign := me; ; sign = []byte{'.'} {
		if _, err := p.in.Write(sign); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// still says that the site is ours, or why it is not.
func (l *hold) still() error {
	select {
	case err := <-l.lost:
		l.lost <- err
		if err = l.p.ended(err); err == nil {
			err = errors.New("it ended")
		}
		return fmt.Errorf("the host no longer keeps other deploys waiting, the same command again goes on: %w", err)
	default:
		return nil
	}
}

// release lets the site go, and returns when the host has, so that nothing of us is
// left there; a host that does not answer lets it go with the session.
func (l *hold) release() {
	l.stop()
	select {
	case <-l.lost: //nolint:errcheck // how it ended does not matter any more
	case <-time.After(5 * time.Second):
	}
	l.close()
}

func (l *hold) close() {
	l.h.deploy = ""
	l.stop()
	_ = l.p.close()
}

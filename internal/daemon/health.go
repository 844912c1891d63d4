package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/proc"
	"belfry/internal/project"
	"belfry/internal/store"
)

// patience is how long a keeper may take to say that it is well.
const patience = 2 * time.Second

// health is what the daemon says of itself. What keeps it from its work comes
// first; that the newest job files have a mistake does not: it goes on with the
// jobs as they were.
func (d *Daemon) health(ctx context.Context) api.Health {
	h := api.Health{
		Version: d.o.Version, PID: os.Getpid(), Since: d.since.UTC(), Plans: d.o.Plan, Shadow: d.o.Shadow, Data: d.o.Data,
		Problem: d.jobs.trouble(), Parts: d.beats.read(), Listen: d.publicAddress(), Spool: d.spool(),
	}
	h.Release, _, _ = project.ReleaseAt(filepath.Dir(d.o.Project))
	if h.Release != "" {
		var err error
		if h.Releases, err = d.releases(ctx); err != nil {
			h.ReleasesError = err.Error()
		}
	}
	h.Jobs, h.Next = d.nextFiring()
	h.Owed, h.OwedError = owed(ctx, d.store.Store)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	keepers, err := proc.Keepers(ctx, d.o.Data)
	for _, k := range keepers {
		status := api.Keeper{ID: k.ID, PID: k.PID, RSS: k.RSS}
		if k.Err != nil {
			status.Error = k.Err.Error()
			h.Error = fmt.Sprintf("keeper %s does not answer: %v", k.ID, k.Err)
			h.Hint = "its jobs go on; what they come to is known when it answers, or has ended"
		}
		h.Keepers = append(h.Keepers, status)
	}
	if err != nil {
		h.Error = err.Error()
	}
	for _, part := range h.Parts {
		if part.Late {
			h.Error = fmt.Sprintf("the %s has not come round since %s", part.Name, part.Alive.Format("2006-01-02 15:04:05 MST"))
			h.Hint = "look at the daemon's log; jobs outlive a restart of the daemon"
		}
	}
	if trouble := d.store.trouble(); trouble != "" {
		h.Error, h.Hint = trouble, mendStore
	}
	return h
}

// releases are those that running attempts began with, whichever daemon started
// them. Who asks must not take one away that may be in use: with an error there may
// be others.
func (d *Daemon) releases(ctx context.Context) (list []string, err error) {
	running, err := d.store.Running(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for releases in use: %w", err)
	}
	for _, r := range running {
		text, err := d.store.Definition(ctx, r.Definition)
		if err != nil {
			return list, fmt.Errorf("look for the release of run %s: %w", r.ID, err)
		}
		j, err := job.ParseDefinition(text)
		if err != nil {
			return list, fmt.Errorf("look for the release of run %s: %w", r.ID, err)
		}
		if name, _, ok := project.ReleaseAt(j.Dir); ok && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list, nil
}

// owed counts what could not be sent yet, and says why not.
func owed(ctx context.Context, s *store.Store) (n int, reason string) {
	items, err := s.Pending(ctx)
	if err != nil {
		return 0, err.Error()
	}
	for _, item := range items {
		if item.Tries > 0 {
			n++
			reason = cmp.Or(reason, item.Error)
		}
	}
	return n, reason
}

// nextFiring counts the jobs and finds the one that fires first.
func (d *Daemon) nextFiring() (jobs int, next *api.Firing) {
	list, now := d.jobs.planned(), d.now()
	for _, j := range list {
		if j.Paused {
			continue
		}
		if at := j.Next(now); !at.IsZero() && (next == nil || at.Before(next.At)) {
			next = &api.Firing{Project: j.Project, Job: j.Name, At: at.UTC(), Timezone: j.Zone.String()}
		}
	}
	return len(list), next
}

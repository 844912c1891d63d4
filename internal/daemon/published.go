package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/publish"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
)

// publisher sends results, and knows how far it is: that is in memory alone.
type publisher struct {
	sender *publish.Sender

	mu     sync.Mutex
	runs   map[string][]publish.Progress       // guarded by mu; by run, those of its targets in the order they were begun
	looked map[looking]chan<- publish.Progress // guarded by mu; who looks at what was published
}

// looking is one look at a target of a run.
type looking struct{ run, to string }

func newPublisher(o publish.Options) *publisher {
	p := &publisher{runs: map[string][]publish.Progress{}, looked: map[looking]chan<- publish.Progress{}}
	o.Progress = p.progress
	p.sender = publish.New(o)
	return p
}

func (p *publisher) progress(id string, now publish.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if to, ok := p.looked[looking{id, now.Target}]; ok {
		select {
		case to <- now:
		default: // the next one will do
		}
		return
	}
	list := p.runs[id]
	for i := range list {
		if list[i].Target == now.Target {
			list[i] = list[len(list)-1] // the last is the one that is worked on
			list[len(list)-1] = now
			return
		}
	}
	p.runs[id] = append(list, now)
}

// Send is the sender's; what it had come to is forgotten with its end.
func (p *publisher) Send(ctx context.Context, item outbox.Item, save func(json.RawMessage) error) (json.RawMessage, error) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.runs, item.Run)
	}()
	return p.sender.Send(ctx, item, save)
}

// publishing gives how far the publishes have come, by run.
func (p *publisher) publishing() map[string]api.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sums := map[string]api.Progress{}
	for id, list := range p.runs {
		var sum api.Progress
		for _, now := range list {
			sum = sum.Add(api.Progress(now))
		}
		sums[id] = sum
	}
	return sums
}

// inspect has the sender look at a target, and tells how far it is. One look at
// a time is told.
func (p *publisher) inspect(ctx context.Context, order publish.Order, target job.Target, verify bool, told func(api.Progress)) (publish.Inspection, error) {
	at, news := looking{order.Run, target.To}, make(chan publish.Progress, 1)
	p.mu.Lock()
	p.looked[at] = news
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.looked[at] == (chan<- publish.Progress)(news) {
			delete(p.looked, at)
		}
	}()
	type outcome struct {
		found publish.Inspection
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		found, err := p.sender.Inspect(ctx, order, target, verify)
		done <- outcome{found, err}
	}()
	for {
		select {
		case now := <-news:
			told(api.Progress(now))
		case o := <-done:
			return o.found, o.err
		}
	}
}

// published reads what a Sender says of an item that was sent, and says in words
// what was left as it is.
func published(result json.RawMessage) (sets []run.Published, reason string) {
	var r publish.Result
	if err := json.Unmarshal(result, &r); err != nil {
		panic(err) // it is ours
	}
	for _, p := range r.Targets {
		sets = append(sets, run.Published{To: p.To, Place: publish.Place(p.To), Files: p.Files, Bytes: p.Bytes, Manifest: p.Manifest})
	}
	var kept []string
	for _, s := range r.Superseded {
		kept = append(kept, fmt.Sprintf("superseded: %s holds the output of run %s, which began later", s.To, s.Run))
	}
	return sets, strings.Join(kept, "; ")
}

func (b *backend) Publishing() map[string]api.Progress {
	all := b.d.publisher.publishing()
	maps.DeleteFunc(all, func(id string, _ api.Progress) bool { return !b.seesRun(context.Background(), id) })
	return all
}

func (l *onlooker) Publishing() map[string]api.Progress { return nil }

// EachPublished gives each what was published, the newest first.
func (h *history) EachPublished(ctx context.Context, f server.PublishedFilter, each func(run.Published) error) error {
	filter := store.PublishedFilter{Date: f.Date, All: f.All, Limit: f.Limit}
	if f.Date != "" {
		if _, err := time.Parse(time.DateOnly, f.Date); err != nil {
			return &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%q is not a date", f.Date), Hint: "write it as 2026-07-09"}
		}
	}
	if f.Job != "" {
		j, err := h.findAny(ctx, f.Job)
		if err != nil {
			return err
		}
		filter.Job = j.Key
	}
	if h.owner == "" {
		return h.store.EachPublished(ctx, filter, each)
	}
	filter.Limit = 0 // it counts those that are seen
	return eachSeen(f.Limit, func(p run.Published) (bool, error) { return h.seesRun(ctx, p.Run), nil }, each, func(each func(run.Published) error) error {
		return h.store.EachPublished(ctx, filter, each)
	})
}

// Inspect has the publisher's child look at a target, in the job's environment.
// That it cannot is something to be told of the target.
func (h *history) Inspect(ctx context.Context, r api.InspectRequest, progress func(api.Progress)) (api.Inspection, error) {
	order, target, err := h.sent(ctx, r.Run, r.To)
	if err != nil {
		return api.Inspection{}, err
	}
	out := api.Inspection{Files: []api.File{}, Verified: r.Verify, Problems: []string{}}
	found, err := h.publisher.inspect(ctx, order, target, r.Verify, progress)
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case err != nil:
		out.Verified = false
		out.Problems = append(out.Problems, "it could not be read: "+err.Error())
		return out, nil //nolint:nilerr // that is what was found
	}
	out.Run, out.Complete = found.Manifest.Run, found.Complete
	out.Foreign, out.ForeignFiles = found.Foreign, found.ForeignFiles
	for _, f := range found.Manifest.Files {
		out.Files = append(out.Files, api.File{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
	}
	if out.Run != "" && out.Run != r.Run {
		out.Problems = append(out.Problems, "another set stands there, of run "+out.Run)
	}
	out.Problems = append(out.Problems, found.Problems...)
	return out, nil
}

// sent finds what a run was to publish to a target, and did.
func (h *history) sent(ctx context.Context, id, to string) (order publish.Order, target job.Target, err error) {
	if !h.seesRun(ctx, id) {
		return order, target, noRun(id)
	}
	items, err := h.store.ItemsOf(ctx, id)
	if err != nil {
		return order, target, err
	}
	for _, item := range items {
		if item.Kind != outbox.Publish || item.State != outbox.Sent {
			continue
		}
		if err := json.Unmarshal(item.Payload, &order); err != nil {
			return order, target, errors.Join(fmt.Errorf("read what run %s was to publish", id), err)
		}
		for _, t := range order.Targets {
			if t.To == to {
				return order, t, nil
			}
		}
	}
	return order, target, &api.Error{Code: api.NotFound, Message: fmt.Sprintf("run %s has published nothing to %s", id, to), Hint: "belfry published --all lists what was published"}
}

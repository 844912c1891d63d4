package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// site is a target that is being published to. Its methods are called in this
// order, each for every target before the next for any; each can be done again.
// An error made by outbox.Final will not go away by itself.
type site interface {
	// look reads what stands there and refuses what cannot be replaced. It
	// returns the paths that the manifest there lists. It changes nothing that a
	// reader sees.
	look(ctx context.Context) (old []string, err error)
	// unmark takes _SUCCESS away where data will be replaced in place.
	unmark(ctx context.Context) error
	// put puts the data, removes those of old that are not to stay, and compares.
	put(ctx context.Context, old []string) error
	// list puts the manifest.
	list(ctx context.Context) error
	// mark puts _SUCCESS: from here on the target is complete.
	mark(ctx context.Context) error
	// leave lets go of what the site made for itself, whether it came to an end
	// or not.
	leave()
}

// part is one part of the output on its way to one target.
type part struct {
	place
	order    Order
	from     string
	out      *output
	files    []file
	manifest []byte
	warn     func(format string, args ...any)
}

// progress is what a publish that was cut off must still know: the paths, by
// target, that manifests have listed there since its first try.
type progress struct {
	Old map[string][]string `json:"old"`
}

// publish carries out the order.
func (c *child) publish(ctx context.Context, r request) (*Result, error) {
	var done progress
	if len(r.Progress) > 0 {
		if err := json.Unmarshal(r.Progress, &done); err != nil {
			return nil, outbox.Final(fmt.Errorf("read progress: %w", err))
		}
	}
	if done.Old == nil {
		done.Old = map[string][]string{}
	}
	out, err := openOutput(r.Order.Output)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	parts, err := c.parts(ctx, r.Order, out)
	if err != nil {
		return nil, err
	}
	var store *bucketStore
	sites := make([]site, len(parts))
	for i, p := range parts {
		if p.bucket == "" {
			sites[i] = &folder{part: p}
			continue
		}
		if store == nil {
			if store, err = openStore(ctx); err != nil {
				return nil, err
			}
		}
		sites[i] = &objects{part: p, store: store}
	}

	for _, s := range sites {
		defer s.leave()
	}
	for i, s := range sites {
		old, err := s.look(ctx)
		if err != nil {
			return nil, err
		}
		done.Old[parts[i].to] = union(done.Old[parts[i].to], old)
	}
	if err := c.save(done); err != nil {
		return nil, err
	}
	at(stepNoted)
	for _, s := range sites {
		if err := s.unmark(ctx); err != nil {
			return nil, err
		}
	}
	at(stepUnmarked)
	for i, s := range sites {
		if err := s.put(ctx, done.Old[parts[i].to]); err != nil {
			return nil, err
		}
	}
	at(stepChecked)
	if err := c.save(done); err != nil { // renews the claim: whoever lost it stops here
		return nil, err
	}
	for _, s := range sites {
		if err := s.list(ctx); err != nil {
			return nil, err
		}
	}
	at(stepManifest)
	for _, s := range sites {
		if err := s.mark(ctx); err != nil {
			return nil, err
		}
		at(stepMarked)
	}

	var result Result
	for _, p := range parts {
		published := Published{To: p.to, Files: len(p.files), Manifest: hexSum(p.manifest)}
		for _, f := range p.files {
			published.Bytes += f.size
		}
		result.Targets = append(result.Targets, published)
	}
	return &result, nil
}

// parts reads the output: each target with its files, their sums and its manifest.
func (c *child) parts(ctx context.Context, o Order, out *output) ([]*part, error) {
	if len(o.Targets) == 0 {
		return nil, outbox.Final(errors.New("the order names no target"))
	}
	var parts []*part
	var empty []string
	for _, t := range o.Targets {
		where, err := parseTarget(t.To)
		if err != nil {
			return nil, outbox.Final(err)
		}
		for _, p := range parts {
			if p.overlaps(where) {
				return nil, outbox.Final(fmt.Errorf("targets %s and %s are not apart: each needs a place of its own", p.to, t.To))
			}
		}
		files, err := out.files(t.From)
		missing := errors.Is(err, errNoFolder)
		if err != nil && !missing {
			return nil, err
		}
		if len(files) == 0 {
			empty = append(empty, emptyName(t.From, missing))
		}
		parts = append(parts, &part{place: where, order: o, from: t.From, out: out, files: files, warn: c.warn})
	}
	if len(empty) > 0 && o.IfEmpty != job.IfEmptyOK {
		return nil, outbox.Final(fmt.Errorf("the run left nothing to publish: %s; write the results to $BELFRY_OUTPUT, or set publish.if_empty to ok when having none is right",
			strings.Join(empty, ", ")))
	}
	for _, p := range parts {
		partOf := func(int64) int64 { return 0 }
		if p.bucket != "" {
			partOf = partSize
		}
		if err := out.sumAll(ctx, p.files, partOf); err != nil {
			return nil, err
		}
		var err error
		if p.manifest, err = manifestOf(o, p.files); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func emptyName(from string, missing bool) string {
	switch {
	case missing:
		return fmt.Sprintf("there is no folder %q in the output", from)
	case filepath.Clean(from) == ".":
		return "the output is empty"
	}
	return fmt.Sprintf("the folder %q of the output is empty", from)
}

// stale returns those of old that the part does not have.
func (p *part) stale(old []string) []string {
	have := make(map[string]bool, len(p.files))
	for _, f := range p.files {
		have[f.path] = true
	}
	return slices.DeleteFunc(slices.Clone(old), func(path string) bool { return have[path] })
}

// union returns the sorted members of both.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// parallel is how many files are worked on at a time.
const parallel = 4

// each calls do for 0 to n-1, a few at a time, and waits for all. The first error
// ends the context of the others and is returned.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(n, parallel) {
		workers.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

package publish

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// site is a target that is being published to. Its methods are called in this
// order, each for every target before the next for any; each can be done again.
// An error made by outbox.Final will not go away by itself.
type site interface {
	// look reads what stands there, and refuses what may not be replaced or added
	// to. It changes nothing that a reader sees. Where it finds the set of a run that
	// began later, nothing else is called but leave.
	look(ctx context.Context) error
	// note writes down what will be put where a crash would leave it behind.
	note(ctx context.Context) error
	// unmark takes _SUCCESS away where data will be replaced in place.
	unmark(ctx context.Context) error
	// put puts the data and compares.
	put(ctx context.Context) error
	// list puts the manifest.
	list(ctx context.Context) error
	// sweep removes what the manifest does not list: only now, when no other
	// publish can come before.
	sweep(ctx context.Context) error
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
	target   job.Target
	out      *output
	files    []file  // sorted by path
	kept     []Entry // what stays of the set that is there
	newer    string  // the run whose set stays there, because it began later; found by look
	manifest []byte  // made by describe
	doing    string  // "publish", or "read": what an error says
	meter    *meter
	warn     func(format string, args ...any)
}

// publish carries out the order.
func (c *child) publish(ctx context.Context, o Order) (*Result, error) {
	out, err := openOutput(o.Output)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	parts, err := c.parts(o, out)
	if err != nil {
		return nil, err
	}
	sites, err := sitesOf(ctx, parts)
	if err != nil {
		return nil, err
	}

	for _, s := range sites {
		defer s.leave()
	}
	for _, s := range sites {
		if err := s.look(ctx); err != nil {
			return nil, err
		}
	}
	var result Result
	for i, p := range slices.Backward(parts) {
		if p.newer != "" {
			result.Superseded = slices.Insert(result.Superseded, 0, Superseded{p.to, p.newer})
			sites, parts = slices.Delete(sites, i, i+1), slices.Delete(parts, i, i+1)
		}
	}
	if err := c.renew(); err != nil {
		return nil, err
	}
	for _, s := range sites {
		if err := s.note(ctx); err != nil {
			return nil, err
		}
	}
	at(stepNoted)
	for _, s := range sites {
		if err := s.unmark(ctx); err != nil {
			return nil, err
		}
	}
	at(stepUnmarked)
	for i, s := range sites {
		parts[i].begin()
		if err := s.put(ctx); err != nil {
			return nil, err
		}
	}
	at(stepChecked)
	if err := c.renew(); err != nil { // whoever lost the claim stops here
		return nil, err
	}
	for _, s := range sites {
		if err := s.list(ctx); err != nil {
			return nil, err
		}
	}
	at(stepManifest)
	for _, s := range sites {
		if err := s.sweep(ctx); err != nil {
			return nil, err
		}
	}
	at(stepSwept)
	for _, s := range sites {
		if err := s.mark(ctx); err != nil {
			return nil, err
		}
		at(stepMarked)
	}

	for _, p := range parts {
		published := Published{To: p.to, Manifest: hexSum(p.manifest)}
		for _, e := range p.entries() {
			published.Files++
			published.Bytes += e.Size
		}
		result.Targets = append(result.Targets, published)
	}
	return &result, nil
}

// sitesOf gives each part its site.
func sitesOf(ctx context.Context, parts []*part) ([]site, error) {
	var settings *aws.Config // read once: so are credentials
	sites := make([]site, len(parts))
	for i, p := range parts {
		if p.bucket == "" {
			sites[i] = &folder{part: p}
			continue
		}
		if settings == nil {
			var err error
			if settings, err = readSettings(ctx); err != nil {
				return nil, err
			}
		}
		store, err := newStore(settings, p.target)
		if err != nil {
			return nil, err
		}
		sites[i] = newObjects(p, store)
	}
	return sites, nil
}

// parts reads the output: each target with its files.
func (c *child) parts(o Order, out *output) ([]*part, error) {
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
		parts = append(parts, &part{place: where, order: o, target: t, out: out, files: files, doing: "publish", meter: c.meter, warn: c.warn})
	}
	if len(empty) > 0 && o.IfEmpty != job.IfEmptyOK {
		return nil, outbox.Final(fmt.Errorf("the run left nothing to publish: %s; write the results to $BELFRY_OUTPUT, or set publish.if_empty to ok when having none is right",
			strings.Join(empty, ", ")))
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

// overtaken reports whether a run of the same job that began later has published
// there. A time that has not come was written by a clock that was wrong, and does
// not count.
func (p *part) overtaken(old *Manifest) bool {
	return old != nil && !p.needsOld() && old.Job == p.order.Job && old.Run != p.order.Run && !p.order.Began.IsZero() &&
		old.began().After(p.order.Began) && !old.began().After(time.Now())
}

// needsOld reports whether nothing can be done without knowing what is there.
func (p *part) needsOld() bool {
	return p.target.Mode == job.ModeAppend || p.target.Mode == job.ModeFail
}

// meet decides by the target's mode what becomes of the set that stands there.
// old is its manifest, nil when there is none; marked says that there is a
// _SUCCESS.
func (p *part) meet(ctx context.Context, old *Manifest, marked bool) error {
	switch {
	case p.target.Mode == job.ModeFail && old != nil && old.Run != p.order.Run: // ours is of a try that was cut off
		return outbox.Final(fmt.Errorf("publish to %s: the output of run %s is there already, and mode fail_if_exists leaves it: remove it, or publish elsewhere", p.to, old.Run))
	case p.target.Mode == job.ModeFail && old == nil && marked:
		return outbox.Final(fmt.Errorf("publish to %s: there is a %s already, and mode fail_if_exists leaves it: remove it, or publish elsewhere", p.to, successName))
	case p.target.Mode == job.ModeAppend && old != nil:
		return p.keep(ctx, old)
	}
	return nil
}

// keep has the set that is there stay. A file that is in both must be the same.
func (p *part) keep(ctx context.Context, old *Manifest) error {
	for _, e := range old.Files {
		i, both := slices.BinarySearchFunc(p.files, e.Path, func(f file, path string) int { return strings.Compare(f.path, path) })
		if !both {
			p.kept = append(p.kept, e)
			continue
		}
		if err := p.out.sumOf(ctx, &p.files[i]); err != nil {
			return err
		}
		if p.files[i].entry() != e {
			return outbox.Final(fmt.Errorf("publish to %s: %q is there already and is another file, and mode append changes none: give the files of each run names of their own, with $BELFRY_STAMP for one", p.to, e.Path))
		}
	}
	return nil
}

func (f *file) entry() Entry { return Entry{f.path, f.size, hex.EncodeToString(f.sum[:])} }

// entries are what the manifest lists, when the sums of all files are known.
func (p *part) entries() []Entry {
	all := slices.Clone(p.kept)
	for i := range p.files {
		all = append(all, p.files[i].entry())
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// describe makes the manifest.
func (p *part) describe() (err error) {
	p.manifest, err = manifestOf(p.order, append([]Entry{}, p.entries()...))
	return err
}

// begin tells the meter that the part's files are on their way now.
func (p *part) begin() {
	var bytes int64
	for _, f := range p.files {
		bytes += f.size
	}
	p.meter.begin(p.to, len(p.files), bytes)
}

// parallel is how many files are worked on at once.
func (p *part) parallel() int { return cmp.Or(p.target.Parallel, job.DefaultParallel) }

// stale returns those of paths that are not to stay.
func (p *part) stale(paths []string) []string {
	stay := make(map[string]bool, len(p.files)+len(p.kept))
	for _, f := range p.files {
		stay[f.path] = true
	}
	for _, e := range p.kept {
		stay[e.Path] = true
	}
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return stay[path] })
}

// union returns the sorted members of both.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// each calls do for 0 to n-1, at most parallel at a time, and waits for all. The
// first error ends the context of the others and is returned.
func each(ctx context.Context, n, parallel int, do func(ctx context.Context, i int) error) error {
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

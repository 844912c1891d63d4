package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// Inspection is what stands at a target.
type Inspection struct {
	Complete bool     `json:"complete"` // _SUCCESS is there
	Manifest Manifest `json:"manifest"` // the zero one when there is none
	// Problems says in words where the target is not what its manifest says, or
	// not complete.
	Problems []string `json:"problems,omitempty"`
	// Foreign are the paths of files that are there and that a complete set does not
	// list, the first maxForeign of them, and ForeignFiles is their number. nil: they
	// were not looked for, or the service denies it.
	Foreign      []string `json:"foreign"`
	ForeignFiles int      `json:"foreign_files"`
}

// maxForeign bounds what is named: a bucket may hold millions.
const maxForeign = 100

// inspection asks for an Inspection.
type inspection struct {
	Target job.Target `json:"target"`
	Verify bool       `json:"verify"`
}

// Inspect reads the manifest at a target, in the environment of the order's job;
// with verify it reads every file back too, compares size and SHA-256, and looks for
// foreign files. That there is nothing at the target, or not all of it, is a problem
// and no error.
func (s *Sender) Inspect(ctx context.Context, order Order, target job.Target, verify bool) (Inspection, error) {
	never := func() error { return errors.New("a look at a target claims nothing") }
	answer, err := s.ask(ctx, order, request{Inspect: &inspection{target, verify}}, never)
	if err != nil {
		return Inspection{}, err
	}
	if answer.Inspection == nil {
		return Inspection{}, errors.New("publisher answered another question")
	}
	return *answer.Inspection, nil
}

// shelf is a target that is being read. A name that is not there is fs.ErrNotExist.
type shelf interface {
	open(ctx context.Context, name string) (io.ReadCloser, error)
	// names gives each the path of whatever is there and not a folder, in order.
	names(ctx context.Context, each func(name string)) error
	explain(name string, err error) error
}

// inspect looks at a target.
func (c *child) inspect(ctx context.Context, r inspection) (*Inspection, error) {
	where, err := parseTarget(r.Target.To)
	if err != nil {
		return nil, outbox.Final(err)
	}
	p := &part{place: where, target: r.Target, doing: "read", meter: c.meter, warn: c.warn}
	var s shelf
	if where.bucket == "" {
		root, err := os.OpenRoot(where.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return &Inspection{Problems: []string{"there is nothing at " + where.to}}, nil
		}
		if err != nil {
			return nil, (&folder{part: p}).explain(err)
		}
		defer func() { _ = root.Close() }()
		s = directory{&folder{part: p}, root}
	} else {
		sites, err := sitesOf(ctx, []*part{p})
		if err != nil {
			return nil, err
		}
		s = bucket{sites[0].(*objects)}
	}
	return p.inspect(ctx, s, r.Verify)
}

func (p *part) inspect(ctx context.Context, s shelf, verify bool) (*Inspection, error) {
	seen := &Inspection{}
	marker, err := s.open(ctx, successName)
	switch {
	case err == nil:
		_ = marker.Close()
		seen.Complete = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, s.explain(successName, err)
	}
	data, err := readAll(ctx, s, manifestName)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !seen.Complete:
		seen.Problems = []string{"there is nothing at " + p.to}
		return seen, nil
	case errors.Is(err, fs.ErrNotExist):
		seen.Problems = []string{fmt.Sprintf("there is a %s at %s, but no %s: Belfry did not publish it", successName, p.to, manifestName)}
		return seen, nil
	case err != nil:
		return nil, s.explain(manifestName, err)
	}
	m, err := parseManifest(data)
	if err != nil {
		seen.Problems = []string{fmt.Sprintf("the %s at %s is not one of Belfry's: %v", manifestName, p.to, err)}
		return seen, nil
	}
	seen.Manifest = *m
	if !seen.Complete {
		seen.Problems = []string{fmt.Sprintf("%s has no %s: it is being replaced, or a publish was cut off", p.to, successName)}
	}
	if !verify {
		return seen, nil
	}
	var size int64
	for _, e := range m.Files {
		size += e.Size
	}
	p.meter.begin(p.to, len(m.Files), size)
	var mu sync.Mutex
	err = each(ctx, len(m.Files), p.parallel(), func(ctx context.Context, i int) error {
		problem, err := p.verify(ctx, s, m.Files[i])
		if err != nil {
			return s.explain(m.Files[i].Path, err)
		}
		p.meter.add(1, 0)
		if problem != "" {
			mu.Lock()
			defer mu.Unlock()
			seen.Problems = append(seen.Problems, problem)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if seen.Complete {
		if err := seen.findForeign(ctx, s); err != nil {
			return nil, s.explain("", err)
		}
	}
	if seen.Complete && len(seen.Problems)+len(seen.Foreign) > 0 && !p.stands(ctx, s, data) {
		seen.Problems, seen.Foreign, seen.ForeignFiles = []string{p.to + " was replaced while it was read: look again"}, nil, 0
	}
	slices.Sort(seen.Problems)
	return seen, nil
}

// findForeign looks for what the manifest does not list.
func (seen *Inspection) findForeign(ctx context.Context, s shelf) error {
	listed := make(map[string]bool, len(seen.Manifest.Files))
	for _, e := range seen.Manifest.Files {
		listed[e.Path] = true
	}
	foreign := []string{}
	err := s.names(ctx, func(name string) {
		if listed[name] || reserved(name) {
			return
		}
		seen.ForeignFiles++
		if len(foreign) < maxForeign {
			foreign = append(foreign, name)
		}
	})
	if isDenied(err) || errors.Is(err, fs.ErrPermission) {
		seen.ForeignFiles = 0
		return nil
	}
	seen.Foreign = foreign
	return err
}

// stands reports whether the complete set with this manifest is still there, as
// far as that can be read.
func (p *part) stands(ctx context.Context, s shelf, manifest []byte) bool {
	marker, err := s.open(ctx, successName)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		_ = marker.Close()
	}
	now, err := readAll(ctx, s, manifestName)
	return err != nil && !errors.Is(err, fs.ErrNotExist) || bytes.Equal(now, manifest)
}

func readAll(ctx context.Context, s shelf, name string) ([]byte, error) {
	r, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, maxManifest))
}

// verify reads a file back, and says what is wrong with it.
func (p *part) verify(ctx context.Context, s shelf, e Entry) (problem string, err error) {
	r, err := s.open(ctx, e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%q is missing", e.Path), nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, &counted{ctx, r, p.meter}, make([]byte, 64<<10))
	switch {
	case err != nil:
		return "", err
	case n != e.Size:
		return fmt.Sprintf("%q has %d bytes in place of %d", e.Path, n, e.Size), nil
	case !strings.EqualFold(hex.EncodeToString(h.Sum(nil)), e.SHA256):
		return fmt.Sprintf("%q is not what was published: its SHA-256 is %x in place of %s", e.Path, h.Sum(nil), e.SHA256), nil
	}
	return "", nil
}

// counted tells a meter what is read, and ends with its context.
type counted struct {
	ctx context.Context
	r   io.Reader
	m   *meter
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.m.add(0, int64(n))
	return n, err
}

// directory is a directory that is being read: one version of it, even when that
// is replaced meanwhile.
type directory struct {
	*folder
	root *os.Root
}

func (d directory) open(_ context.Context, name string) (io.ReadCloser, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s and not a file: %w", name, info.Mode().Type(), fs.ErrNotExist)
	}
	return d.root.Open(name)
}

func (d directory) names(ctx context.Context, each func(name string)) error {
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrPermission) && name != ".":
			each(name + "/") // somebody else's, with whatever is in it
			return fs.SkipDir
		case errors.Is(err, fs.ErrNotExist):
			return nil // it goes at this moment
		case err == nil && !e.IsDir():
			each(name)
		}
		return err
	})
}

func (d directory) explain(name string, err error) error {
	return fmt.Errorf("read %s of %s: %w", name, d.to, err)
}

// bucket is a target on S3 that is being read.
type bucket struct{ *objects }

func (b bucket) open(ctx context.Context, name string) (io.ReadCloser, error) {
	got, err := b.store.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(name)})
	if isAbsent(err) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	return got.Body, nil
}

func (b bucket) names(ctx context.Context, each func(name string)) error {
	return b.eachObject(ctx, math.MaxInt, func(o types.Object) {
		// Some tools put an object of no size for a folder.
		if name := strings.TrimPrefix(aws.ToString(o.Key), b.prefix); name != "" && !strings.HasSuffix(name, "/") {
			each(name)
		}
	})
}

func (b bucket) explain(name string, err error) error {
	action := "s3:GetObject"
	if name == "" {
		action = "s3:ListBucket"
	}
	return b.objects.explain(action, name, err)
}

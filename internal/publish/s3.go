package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// maxKey is the longest name of an object, in bytes.
const maxKey = 1024

// objects is a target on S3.
type objects struct {
	*part
	store *bucketStore
	slots chan struct{} // holds one for each request that carries data

	left          []string // the paths that may be there: the manifest there lists them, or an unfinished publish put them
	cutOff        bool     // there is such a publish
	manifestThere standing
	pendingThere  standing
}

func newObjects(p *part, store *bucketStore) *objects {
	return &objects{part: p, store: store, slots: make(chan struct{}, p.parallel())}
}

func (b *objects) key(name string) *string { return aws.String(b.prefix + name) }

// look reads the manifest (1) and what an earlier publish left unfinished.
func (b *objects) look(ctx context.Context) error {
	for _, f := range b.files {
		if len(b.prefix)+len(f.path) > maxKey {
			return outbox.Final(fmt.Errorf("publish to %s: the name %q is too long for S3, which takes %d bytes with the prefix", b.to, f.path, maxKey))
		}
	}
	old, err := b.lookManifest(ctx)
	if err != nil {
		return err
	}
	marked := false
	overtaken := b.overtaken(old)
	if old == nil && b.target.Mode == job.ModeFail || overtaken {
		_, err := b.head(ctx, successName)
		if err != nil && !isAbsent(err) {
			return b.explain("s3:GetObject", successName, err)
		}
		marked = err == nil
	}
	if marked && overtaken {
		b.newer = old.Run
		return nil
	}
	if err := b.meet(ctx, old, marked); err != nil {
		return err
	}
	return b.lookPending(ctx)
}

func (b *objects) lookManifest(ctx context.Context) (*Manifest, error) {
	data, there, err := b.read(ctx, manifestName)
	if err != nil {
		return nil, b.explain("s3:GetObject", manifestName, err)
	}
	b.manifestThere = there
	switch {
	case !there.known && b.needsOld():
		return nil, outbox.Final(fmt.Errorf("publish to %s: reading the old %s is denied, and mode %s must know it: allow s3:GetObject and s3:ListBucket for the credentials of the job", b.to, manifestName, b.target.Mode))
	case !there.known:
		b.warn("%s: reading the old %s is denied, so objects of an earlier publish that are no longer in the output will stay: allow s3:GetObject and s3:ListBucket", b.to, manifestName)
		return nil, nil
	case there.etag == "":
		return nil, nil
	}
	m, err := parseManifest(data)
	switch {
	case err != nil && b.needsOld():
		return nil, outbox.Final(fmt.Errorf("publish to %s: the %s there is not one of Belfry's, so mode %s cannot go by it: %w", b.to, manifestName, b.target.Mode, err))
	case err != nil:
		b.warn("%s: the old %s is not one of Belfry's, so what it lists stays: %v", b.to, manifestName, err)
		return nil, nil
	case m.Job != b.order.Job && !b.needsOld():
		b.warn("%s held the output of the job %s and is replaced", b.to, m.Job)
	}
	for _, e := range m.Files {
		b.left = append(b.left, e.Path)
	}
	return m, nil
}

// read reads a small object of ours. One that is not there, or may not be read,
// is no error.
func (b *objects) read(ctx context.Context, name string) ([]byte, standing, error) {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	got, err := b.store.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(name)})
	switch {
	case isAbsent(err):
		return nil, standing{known: true}, nil
	case isDenied(err):
		return nil, standing{}, nil
	case err != nil:
		return nil, standing{}, err
	}
	defer func() { _ = got.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(got.Body, maxManifest))
	there := standing{known: true, etag: aws.ToString(got.ETag), age: math.MaxInt64}
	if now, told := awsmiddleware.GetServerTime(got.ResultMetadata); told {
		there.age = now.Sub(aws.ToTime(got.LastModified))
	}
	return data, there, err
}

// unmark deletes _SUCCESS (2).
func (b *objects) unmark(ctx context.Context) error { return b.remove(ctx, successName) }

func (b *objects) remove(ctx context.Context, name string) error {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	_, err := b.store.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(name)})
	if isAbsent(err) {
		return nil
	}
	return b.explain("s3:DeleteObject", name, err)
}

// put uploads (3) and compares (4).
func (b *objects) put(ctx context.Context) error {
	b.abortOld(ctx)
	err := each(ctx, len(b.files), cap(b.slots), func(ctx context.Context, i int) error {
		f := &b.files[i]
		if err := b.upload(ctx, f); err != nil {
			return b.explain("s3:PutObject", f.path, err)
		}
		at(stepSomeData)
		b.meter.add(1, 0)
		return nil
	})
	if err != nil {
		return err
	}
	at(stepData)
	return b.compareAll(ctx)
}

// compareAll asks the service whether every object is the one that was sent: by
// listing them where that is allowed, else one by one.
func (b *objects) compareAll(ctx context.Context) error {
	same := b.listed(ctx)
	var unread atomic.Bool
	err := each(ctx, len(b.files), cap(b.slots), func(ctx context.Context, i int) error {
		f := &b.files[i]
		if same[f.path] {
			return nil
		}
		err := b.compare(ctx, f)
		if isDenied(err) {
			unread.Store(true) // the service compared the checksum when it took the object
			return nil
		}
		return b.explain("s3:GetObject", f.path, err)
	})
	if unread.Load() {
		b.warn("%s: reading is denied, so the objects were not compared after the upload: allow s3:GetObject", b.to)
	}
	return err
}

// fewFiles are as soon asked for one by one.
const fewFiles = 20

// listed returns the paths at which the service lists what was sent: of the size,
// and with the ETag it gave when it took the object and compared its checksum.
// Whoever may not list, or lists others in place of ours, gets less.
func (b *objects) listed(ctx context.Context) map[string]bool {
	if len(b.files) <= fewFiles {
		return nil
	}
	sent := make(map[string]*file, len(b.files))
	for i := range b.files {
		sent[*b.key(b.files[i].path)] = &b.files[i]
	}
	same := make(map[string]bool, len(b.files))
	pages := 2 + len(b.files)/500 // there may be others, but not without end
	_ = b.eachObject(ctx, pages, func(o types.Object) {
		f := sent[aws.ToString(o.Key)]
		if f != nil && f.etag != "" && aws.ToString(o.ETag) == f.etag && aws.ToInt64(o.Size) == f.size {
			same[f.path] = true
		}
	})
	return same
}

// eachObject lists what is below the prefix, at most so many pages of it.
func (b *objects) eachObject(ctx context.Context, pages int, each func(o types.Object)) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &b.prefix}
	for range pages {
		page, err := b.listPage(ctx, in)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			each(o)
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
	return nil
}

func (b *objects) listPage(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	return b.store.client.ListObjectsV2(ctx, in)
}

// headObject asks for what there is to know of an object but its content.
func (b *objects) headObject(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	in := &s3.HeadObjectInput{Bucket: &b.bucket, Key: b.key(name)}
	if b.store.check() == checkSHA256 {
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	return b.store.client.HeadObject(ctx, in)
}

func (b *objects) head(ctx context.Context, name string) (standing, error) {
	got, err := b.headObject(ctx, name)
	if err != nil {
		return standing{}, err
	}
	return standing{known: true, etag: aws.ToString(got.ETag)}, nil
}

// compare asks the service whether an object is the one that was sent.
func (b *objects) compare(ctx context.Context, f *file) error {
	got, err := b.headObject(ctx, f.path)
	if err != nil {
		return err
	}
	if size := aws.ToInt64(got.ContentLength); size != f.size {
		return fmt.Errorf("%d bytes were sent and %d are there", f.size, size)
	}
	if there := aws.ToString(got.ChecksumSHA256); there != "" && !f.hasChecksum(there) {
		return fmt.Errorf("the checksum there, %s, is not that of what was sent", there)
	}
	if there := aws.ToString(got.ETag); there != "" && f.etag != "" && there != f.etag {
		return fmt.Errorf("another object was put there meanwhile (%s in place of %s)", there, f.etag)
	}
	return nil
}

// list puts the manifest (5), if it is still the one we read that stands there
// and no other publish has begun.
func (b *objects) list(ctx context.Context) error {
	if err := b.describe(); err != nil {
		return err
	}
	if err := b.mine(ctx); err != nil {
		return err
	}
	_, err := b.replace(ctx, manifestName, b.manifest, b.manifestThere)
	return err
}

// sweepAtOnce is how many objects are deleted under one claim: few enough for a slow
// service, many enough for the claims not to count.
const sweepAtOnce = 200

// sweep deletes what is stale, and then the note of it (6): of this publish, not
// what one that has begun since may have put.
func (b *objects) sweep(ctx context.Context) error {
	for some := range slices.Chunk(b.stale(b.left), sweepAtOnce) {
		if err := b.removeAlone(ctx, some...); err != nil {
			return err
		}
	}
	b.abortOld(ctx) // again: a part that was on its way the first time may have come after it
	at(stepStale)
	return b.removeAlone(ctx, pendingName)
}

// removeAlone deletes objects while no other publish may begin.
func (b *objects) removeAlone(ctx context.Context, names ...string) error {
	until := time.Now().Round(0).Add(sweepTime) // by the wall clock, which goes on while the machine sleeps
	late := fmt.Errorf("publish to %s: what is stale could not be deleted within %s; it is tried again", b.to, sweepTime)
	ctx, cancel := context.WithDeadlineCause(ctx, until, late)
	defer cancel()
	if err := b.mine(ctx); err != nil { // asked, for services that do not know If-Match
		return err
	}
	if err := b.claim(ctx, true); err != nil {
		return err
	}
	return each(ctx, len(names), cap(b.slots), func(ctx context.Context, i int) error {
		if !time.Now().Before(until) {
			return late
		}
		return b.remove(ctx, names[i])
	})
}

// mark puts _SUCCESS (7), unless another publish has begun since.
func (b *objects) mark(ctx context.Context) error {
	if err := b.nobodys(ctx); err != nil {
		return err
	}
	_, err := b.putSmall(ctx, successName, nil, standing{})
	return b.explain("s3:PutObject", successName, err)
}

func (b *objects) leave() {}

// putSmall puts an object of ours; when there is something known of what stands
// there, only if it still does. It returns the new ETag.
func (b *objects) putSmall(ctx context.Context, name string, data []byte, there standing) (string, error) {
	ctx, cancel := bounded(ctx, int64(len(data)))
	defer cancel()
	body := body{content: bytes.NewReader(data), size: int64(len(data)), sum: sha256.Sum256(data)}
	return b.store.agree(there.known, func(check check, conditional bool) (string, error) {
		in := b.object(name)
		if conditional && there.etag != "" {
			in.IfMatch = &there.etag
		} else if conditional {
			in.IfNoneMatch = aws.String("*")
		}
		return b.send(ctx, in, body, check)
	})
}

// contentType goes by the name; what data teams' tools look at, no more.
func contentType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".json":
		return "application/json"
	case ".jsonl", ".ndjson":
		return "application/x-ndjson"
	case ".csv":
		return "text/csv"
	case ".parquet":
		return "application/vnd.apache.parquet"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

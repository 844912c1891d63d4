package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"belfry/internal/outbox"
)

const (
	// singleMax is the largest file that is sent in one request.
	singleMax = 64 << 20
	// minPart is the size of the parts of a larger one; S3 allows maxParts of them.
	minPart  = 8 << 20
	maxParts = 10_000
	// stallAfter is how long a connection may move no byte in either direction.
	stallAfter = 2 * time.Minute
	// slowest is the rate, in bytes a second, below which a request is given up.
	slowest = 64 << 10
	maxKey  = 1024
)

// partSize is the size of the parts in which a file of size bytes is sent; 0 is
// all at once.
func partSize(size int64) int64 {
	if size <= singleMax {
		return 0
	}
	const mib = 1 << 20
	return max(minPart, (size/maxParts+mib)/mib*mib)
}

// bucketStore is an S3 service, as the job's environment names it.
type bucketStore struct {
	client   *s3.Client
	region   string
	endpoint string // "" is AWS
}

func openStore(ctx context.Context) (*bucketStore, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(httpClient()),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = 3 // the outbox has more patience than this
				o.MaxBackoff = 5 * time.Second
			})
		}))
	if err != nil {
		return nil, outbox.Final(fmt.Errorf("read the AWS settings of the job: %w", err))
	}
	s := &bucketStore{region: cfg.Region}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		// We hand in the SHA-256 of every body; a second checksum is only work.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		if o.BaseEndpoint != nil {
			s.endpoint = *o.BaseEndpoint
			o.UsePathStyle = true
			if o.Region == "" {
				o.Region = "us-east-1" // services of one region take any
			}
		}
		s.region = o.Region
	})
	if s.region == "" {
		return nil, outbox.Final(errors.New("no AWS region is set: set AWS_REGION in the job's environment, or region in ~/.aws/config"))
	}
	return s, nil
}

func httpClient() *awshttp.BuildableClient {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = parallel
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{c}, nil
		}
	})
}

// stallConn fails when nothing has moved on it for stallAfter.
type stallConn struct{ net.Conn }

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stallAfter)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *stallConn) Write(p []byte) (int, error) {
	// Both: the read that waits for the answer is pending all the while.
	if err := c.SetDeadline(time.Now().Add(stallAfter)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// objects is a target on S3.
type objects struct {
	*part
	store *bucketStore
	// etag is the old manifest's; "" with known set is that there was none.
	etag  string
	known bool
}

// bounded bounds a request that carries size bytes, with its repetitions.
func bounded(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 3*time.Minute+time.Duration(size/slowest)*time.Second)
}

func (b *objects) key(name string) *string { return aws.String(b.prefix + name) }

// look reads the manifest (1).
func (b *objects) look(ctx context.Context) ([]string, error) {
	for _, f := range b.files {
		if len(b.prefix)+len(f.path) > maxKey {
			return nil, outbox.Final(fmt.Errorf("publish to %s: the name %q is too long for S3, which takes %d bytes with the prefix", b.to, f.path, maxKey))
		}
	}
	data, etag, err := b.read(ctx)
	switch {
	case isAbsent(err):
		b.known = true
		return nil, nil
	case isCode(err, "AccessDenied", "Forbidden"):
		b.warn("%s: reading the old %s is denied, so objects of an earlier publish that are no longer in the output will stay: allow s3:GetObject and s3:ListBucket", b.to, manifestName)
		return nil, nil
	case err != nil:
		return nil, b.explain("s3:GetObject", manifestName, err)
	}
	b.etag, b.known = etag, true
	m, err := parseManifest(data)
	if err != nil {
		b.warn("%s: the old %s is not one of Belfry's, so what it lists stays: %v", b.to, manifestName, err)
		return nil, nil
	}
	if m.Job != b.order.Job {
		b.warn("%s held the output of the job %s and is replaced", b.to, m.Job)
	}
	var old []string
	for _, f := range m.Files {
		old = append(old, f.Path)
	}
	return old, nil
}

// read reads the manifest that stands there.
func (b *objects) read(ctx context.Context) (data []byte, etag string, err error) {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	got, err := b.store.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(manifestName)})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = got.Body.Close() }()
	data, err = io.ReadAll(io.LimitReader(got.Body, maxManifest))
	return data, aws.ToString(got.ETag), err
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

// put uploads (3), deletes what is stale (4) and compares (5).
func (b *objects) put(ctx context.Context, old []string) error {
	err := each(ctx, len(b.files), func(ctx context.Context, i int) error {
		f := &b.files[i]
		send := b.upload
		if f.partSize > 0 {
			send = b.uploadParts
		}
		if err := send(ctx, f); err != nil {
			return b.explain("s3:PutObject", f.path, err)
		}
		at(stepSomeData)
		return nil
	})
	if err != nil {
		return err
	}
	at(stepData)
	stale := b.stale(old)
	err = each(ctx, len(stale), func(ctx context.Context, i int) error { return b.remove(ctx, stale[i]) })
	if err != nil {
		return err
	}
	at(stepStale)
	unread := make([]bool, len(b.files))
	err = each(ctx, len(b.files), func(ctx context.Context, i int) error {
		err := b.compare(ctx, &b.files[i])
		if isCode(err, "AccessDenied", "Forbidden") {
			unread[i] = true // the service compared the checksum when it took the object
			return nil
		}
		return b.explain("s3:GetObject", b.files[i].path, err)
	})
	for _, u := range unread {
		if u {
			b.warn("%s: reading is denied, so the objects were not compared after the upload: allow s3:GetObject", b.to)
			break
		}
	}
	return err
}

// upload sends a file in one request, with its sum.
func (b *objects) upload(ctx context.Context, f *file) error {
	r, err := b.out.reopen(f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := bounded(ctx, f.size)
	defer cancel()
	_, err = b.store.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.bucket, Key: b.key(f.path),
		Body: io.NewSectionReader(r, 0, f.size), ContentLength: &f.size,
		ContentType:    aws.String(contentType(f.path)),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(f.sum[:])),
	})
	return err
}

// uploadParts sends a large file part by part, each with its sum. The bodies are
// read from the file as they are sent, so the memory does not grow with it.
func (b *objects) uploadParts(ctx context.Context, f *file) error {
	r, err := b.out.reopen(f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	b.abortOld(ctx, f)
	begin, cancel := bounded(ctx, 0)
	defer cancel()
	made, err := b.store.client.CreateMultipartUpload(begin, &s3.CreateMultipartUploadInput{
		Bucket: &b.bucket, Key: b.key(f.path),
		ContentType:       aws.String(contentType(f.path)),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return err
	}
	if err := b.sendParts(ctx, f, r, made.UploadId); err != nil {
		b.abort(ctx, f, made.UploadId)
		return err
	}
	return nil
}

func (b *objects) sendParts(ctx context.Context, f *file, r io.ReaderAt, id *string) error {
	done := make([]types.CompletedPart, len(f.parts))
	err := each(ctx, len(f.parts), func(ctx context.Context, i int) error {
		from := int64(i) * f.partSize
		size := min(f.partSize, f.size-from)
		number, sum := int32(i+1), base64.StdEncoding.EncodeToString(f.parts[i][:])
		ctx, cancel := bounded(ctx, size)
		defer cancel()
		sent, err := b.store.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &b.bucket, Key: b.key(f.path), UploadId: id, PartNumber: &number,
			Body: io.NewSectionReader(r, from, size), ContentLength: &size,
			ChecksumSHA256: &sum,
		})
		if err != nil {
			return err
		}
		at(stepSomePart)
		done[i] = types.CompletedPart{PartNumber: &number, ETag: sent.ETag, ChecksumSHA256: &sum}
		return nil
	})
	if err != nil {
		return err
	}
	// A service that glues the parts together then has to read all of them.
	ctx, cancel := bounded(ctx, f.size)
	defer cancel()
	_, err = b.store.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.bucket, Key: b.key(f.path), UploadId: id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	})
	return err
}

// abortOld ends the uploads of this very object that a killed publish began; they
// would cost money for ever. A service or a policy without that is no obstacle.
func (b *objects) abortOld(ctx context.Context, f *file) {
	listing, cancel := bounded(ctx, 0)
	defer cancel()
	l, err := b.store.client.ListMultipartUploads(listing, &s3.ListMultipartUploadsInput{Bucket: &b.bucket, Prefix: b.key(f.path)})
	if err != nil {
		return
	}
	for _, u := range l.Uploads {
		if aws.ToString(u.Key) == *b.key(f.path) {
			b.abort(ctx, f, u.UploadId)
		}
	}
}

func (b *objects) abort(ctx context.Context, f *file, id *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, _ = b.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: b.key(f.path), UploadId: id})
}

// compare asks the service for an object's size and checksum.
func (b *objects) compare(ctx context.Context, f *file) error {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	got, err := b.store.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: b.key(f.path), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return err
	}
	if size := aws.ToInt64(got.ContentLength); size != f.size {
		return fmt.Errorf("%d bytes were sent and %d are there", f.size, size)
	}
	there := aws.ToString(got.ChecksumSHA256)
	if there != "" && !f.hasChecksum(there) {
		return fmt.Errorf("the checksum there, %s, is not that of what was sent", there)
	}
	return nil
}

// hasChecksum reports whether sum, as a service gives it, is the file's: of the
// whole, or of its parts' sums, with their number or without.
func (f *file) hasChecksum(sum string) bool {
	if sum == base64.StdEncoding.EncodeToString(f.sum[:]) {
		return true
	}
	h := sha256.New()
	for _, p := range f.parts {
		h.Write(p[:])
	}
	parts, n, numbered := strings.Cut(sum, "-")
	return len(f.parts) > 0 && parts == base64.StdEncoding.EncodeToString(h.Sum(nil)) &&
		(!numbered || n == strconv.Itoa(len(f.parts)))
}

// list puts the manifest (6), if it is still the one we read that stands there.
func (b *objects) list(ctx context.Context) error {
	var match, noneMatch *string
	switch {
	case b.etag != "":
		match = &b.etag
	case b.known:
		noneMatch = aws.String("*")
	}
	err := b.putSmall(ctx, manifestName, b.manifest, match, noneMatch)
	if (match != nil || noneMatch != nil) && (isStatus(err, http.StatusNotImplemented) || isStatus(err, http.StatusBadRequest)) {
		err = b.putSmall(ctx, manifestName, b.manifest, nil, nil) // it does not know conditions
	}
	if isStatus(err, http.StatusPreconditionFailed) || isStatus(err, http.StatusConflict) || match != nil && isStatus(err, http.StatusNotFound) {
		// Ours, when the answer to the first sending was lost.
		if data, _, readErr := b.read(ctx); readErr == nil && bytes.Equal(data, b.manifest) {
			return nil
		}
		return fmt.Errorf("publish to %s: somebody else published there meanwhile: %w", b.to, err)
	}
	return b.explain("s3:PutObject", manifestName, err)
}

// mark puts _SUCCESS (7).
func (b *objects) mark(ctx context.Context) error {
	return b.explain("s3:PutObject", successName, b.putSmall(ctx, successName, nil, nil, nil))
}

func (b *objects) leave() {}

func (b *objects) putSmall(ctx context.Context, name string, data []byte, match, noneMatch *string) error {
	ctx, cancel := bounded(ctx, int64(len(data)))
	defer cancel()
	sum := sha256.Sum256(data)
	_, err := b.store.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.bucket, Key: b.key(name),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ContentType:    aws.String(contentType(name)),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		IfMatch:        match, IfNoneMatch: noneMatch,
	})
	return err
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

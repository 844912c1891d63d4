package publish

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // what S3 services knew before SHA-256
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"belfry/internal/job"
)

const (
	mib = 1 << 20
	// maxParts is how many parts S3 allows.
	maxParts = 10_000
)

// partSize is the size of the parts in which a file of size bytes is sent, when
// it is larger than one of them.
func (b *objects) partSize(size int64) int64 {
	return max(cmp.Or(b.target.PartSize, job.DefaultPartSize), (size/maxParts+mib)/mib*mib)
}

// object is a request to put an object, but for its body.
func (b *objects) object(name string) *s3.PutObjectInput {
	in := &s3.PutObjectInput{
		Bucket: &b.bucket, Key: b.key(name), ContentType: aws.String(contentType(name)),
		ServerSideEncryption: types.ServerSideEncryption(b.target.SSE),
	}
	if b.target.KMSKey != "" {
		in.SSEKMSKeyId = &b.target.KMSKey
	}
	return in
}

// body is what one request carries. It is read again when that is sent again, so
// the memory does not grow with it.
type body struct {
	content io.ReadSeeker
	size    int64
	sum     [sha256.Size]byte
}

// rewind goes to the body's beginning. With checkMD5, which few services need, it
// reads it once more for its MD5.
func (b body) rewind(check check) (sum *string, err error) {
	if check == checkMD5 {
		h := md5.New() //nolint:gosec // as above
		if _, err := b.content.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if _, err := io.Copy(h, b.content); err != nil {
			return nil, err
		}
		sum = aws.String(base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	_, err = b.content.Seek(0, io.SeekStart)
	return sum, err
}

// signed makes the body's SHA-256 part of what is signed, over TLS too, without
// reading the body once more for it.
func (b body) signed(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("KnownPayloadHash", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(b.sum[:])), in)
		}), middleware.After)
	})
}

func base64Sum(sum [sha256.Size]byte) *string {
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// send puts an object and returns its ETag.
func (b *objects) send(ctx context.Context, in *s3.PutObjectInput, body body, check check) (string, error) {
	in.Body, in.ContentLength = body.content, &body.size
	if check == checkSHA256 {
		in.ChecksumSHA256 = base64Sum(body.sum)
	}
	var err error
	if in.ContentMD5, err = body.rewind(check); err != nil {
		return "", err
	}
	sent, err := b.store.client.PutObject(ctx, in, body.signed)
	if err != nil {
		return "", err
	}
	return aws.ToString(sent.ETag), nil
}

// upload sends a file and notes its sum and its ETag.
func (b *objects) upload(ctx context.Context, f *file) error {
	r, err := b.out.reopen(f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if f.size > b.partSize(f.size) {
		f.etag, err = b.store.agree(false, func(check check, _ bool) (string, error) { return b.uploadParts(ctx, f, r, check) })
	} else {
		f.etag, err = b.uploadWhole(ctx, f, r)
	}
	if err != nil {
		return err
	}
	return f.unchanged(r)
}

// uploadWhole sends a file in one request.
func (b *objects) uploadWhole(ctx context.Context, f *file, r io.ReaderAt) (string, error) {
	content := io.NewSectionReader(r, 0, f.size)
	h := sha256.New()
	if err := copyFile(ctx, h, content, f.size); err != nil {
		return "", err
	}
	f.sum = sum(h)
	if err := b.take(ctx); err != nil {
		return "", err
	}
	defer b.give()
	ctx, cancel := bounded(ctx, f.size)
	defer cancel()
	return b.store.agree(false, func(check check, _ bool) (string, error) {
		in := b.object(f.path)
		in.StorageClass, in.Metadata = types.StorageClass(b.target.StorageClass), b.target.Metadata
		etag, err := b.send(ctx, in, body{content, f.size, f.sum}, check)
		if err == nil {
			b.meter.add(0, f.size)
		}
		return etag, err
	})
}

// take waits until one more request may carry data.
func (b *objects) take(ctx context.Context) error {
	select {
	case b.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *objects) give() { <-b.slots }

// uploadParts sends a large file part by part.
func (b *objects) uploadParts(ctx context.Context, f *file, r io.ReaderAt, check check) (string, error) {
	begin, cancel := bounded(ctx, 0)
	defer cancel()
	like := b.object(f.path)
	in := &s3.CreateMultipartUploadInput{
		Bucket: like.Bucket, Key: like.Key, ContentType: like.ContentType,
		ServerSideEncryption: like.ServerSideEncryption, SSEKMSKeyId: like.SSEKMSKeyId,
		StorageClass: types.StorageClass(b.target.StorageClass), Metadata: b.target.Metadata,
	}
	if check == checkSHA256 {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	made, err := b.store.client.CreateMultipartUpload(begin, in)
	if err != nil {
		return "", err
	}
	etag, err := b.sendParts(ctx, f, r, made.UploadId, check)
	if err != nil {
		b.abort(ctx, *like.Key, made.UploadId)
	}
	return etag, err
}

// sendParts reads the file once, for the sums of the whole and of each part, and
// sends the parts while it reads on: as far ahead as there are slots, so that
// what is sent is still in the page cache.
func (b *objects) sendParts(ctx context.Context, f *file, r io.ReaderAt, id *string, check check) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	size := b.partSize(f.size)
	done := make([]types.CompletedPart, (f.size+size-1)/size)
	whole, parts := sha256.New(), sha256.New()
	var sending sync.WaitGroup
	for i := range done {
		from := int64(i) * size
		part := body{size: min(size, f.size-from)}
		part.content = io.NewSectionReader(r, from, part.size)
		h := sha256.New()
		if err := copyFile(ctx, io.MultiWriter(whole, h), part.content, part.size); err != nil {
			cancel(err)
			break
		}
		part.sum = sum(h)
		parts.Write(part.sum[:])
		if b.take(ctx) != nil {
			break
		}
		sending.Go(func() {
			defer b.give()
			var err error
			if done[i], err = b.sendPart(ctx, f, id, int32(i+1), part, check); err != nil {
				cancel(err)
				return
			}
			at(stepSomePart)
			b.meter.add(0, part.size)
		})
	}
	sending.Wait()
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	f.sum, f.parts, f.partsSum = sum(whole), len(done), sum(parts)
	// A service that glues the parts together then has to read all of them.
	ctx, stop := bounded(ctx, f.size)
	defer stop()
	made, err := b.store.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.bucket, Key: b.key(f.path), UploadId: id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(made.ETag), nil
}

func (b *objects) sendPart(ctx context.Context, f *file, id *string, number int32, part body, check check) (types.CompletedPart, error) {
	ctx, cancel := bounded(ctx, part.size)
	defer cancel()
	done := types.CompletedPart{PartNumber: &number}
	md5, err := part.rewind(check)
	if err != nil {
		return done, err
	}
	in := &s3.UploadPartInput{
		Bucket: &b.bucket, Key: b.key(f.path), UploadId: id, PartNumber: &number,
		Body: part.content, ContentLength: &part.size, ContentMD5: md5,
	}
	if check == checkSHA256 {
		in.ChecksumSHA256 = base64Sum(part.sum)
		done.ChecksumSHA256 = in.ChecksumSHA256
	}
	sent, err := b.store.client.UploadPart(ctx, in, part.signed)
	if err != nil {
		return done, err
	}
	done.ETag = sent.ETag
	return done, nil
}

// abortOld ends the uploads that a killed publish began; they would cost money
// for ever. A service or a policy without that is no obstacle.
func (b *objects) abortOld(ctx context.Context) {
	if !b.cutOff {
		return
	}
	ours := map[string]bool{}
	for _, path := range b.left {
		ours[*b.key(path)] = true
	}
	in := &s3.ListMultipartUploadsInput{Bucket: &b.bucket, Prefix: &b.prefix}
	for {
		listing, cancel := bounded(ctx, 0)
		l, err := b.store.client.ListMultipartUploads(listing, in)
		cancel()
		if err != nil {
			return
		}
		for _, u := range l.Uploads {
			if ours[aws.ToString(u.Key)] {
				b.abort(ctx, *u.Key, u.UploadId)
			}
		}
		if !aws.ToBool(l.IsTruncated) {
			return
		}
		in.KeyMarker, in.UploadIdMarker = l.NextKeyMarker, l.NextUploadIdMarker
	}
}

func (b *objects) abort(ctx context.Context, key string, id *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, _ = b.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: &key, UploadId: id})
}

// hasChecksum reports whether sum, as a service gives it, is the file's: of the
// whole, or of its parts' sums, with their number or without.
func (f *file) hasChecksum(sum string) bool {
	if sum == *base64Sum(f.sum) {
		return true
	}
	parts, n, numbered := strings.Cut(sum, "-")
	return f.parts > 0 && parts == *base64Sum(f.partsSum) && (!numbered || n == strconv.Itoa(f.parts))
}

package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// stallAfter is how long a connection may move no byte in either direction; the
// tests have less patience.
var stallAfter = 2 * time.Minute

// slowest is the rate, in bytes a second, below which a request is given up.
const slowest = 64 << 10

// bucketStore is an S3 service, as the job's environment names it.
type bucketStore struct {
	client   *s3.Client
	region   string
	endpoint string // "" is AWS

	checks        atomic.Int32 // the strongest check that it is known to take
	unconditional atomic.Bool  // it does not know If-Match
}

// check is how a service is told what a body holds. Whichever it is, the SHA-256
// of the body is part of what is signed.
type check int32

const (
	checkSHA256 check = iota // x-amz-checksum-sha256, which it keeps
	checkMD5                 // Content-MD5, for services from before 2022
	checkNone
)

func (s *bucketStore) check() check { return check(s.checks.Load()) }

// agree has send try the strongest check, and the condition when there is one,
// that the service takes. The first body at each target is a small one, so that
// little is sent in vain.
func (s *bucketStore) agree(condition bool, send func(check check, condition bool) (etag string, err error)) (string, error) {
	var refused error
	for check := s.check(); check <= checkNone; check++ {
		for _, with := range []bool{true, false} {
			if with && (!condition || s.unconditional.Load()) {
				continue
			}
			etag, err := send(check, with)
			if refusesHeaders(err) {
				if refused == nil {
					refused = err
				}
				continue
			}
			if err == nil {
				s.checks.Store(int32(check))
				s.unconditional.Store(s.unconditional.Load() || condition && !with)
			}
			return etag, err
		}
	}
	return "", refused
}

// readSettings reads what the job's environment and the files in its home say.
func readSettings(ctx context.Context) (*aws.Config, error) {
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
	return &cfg, nil
}

// newStore makes the client for a target.
func newStore(cfg *aws.Config, target job.Target) (*bucketStore, error) {
	for name, value := range target.Metadata {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, outbox.Final(fmt.Errorf("publish to %s: metadata %s is %q: S3 takes plain ASCII there", target.To, name, value))
		}
	}
	s := &bucketStore{}
	s.client = s3.NewFromConfig(*cfg, func(o *s3.Options) {
		// We hand in the SHA-256 of every body; a second checksum is only work.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		if o.BaseEndpoint != nil {
			s.endpoint = *o.BaseEndpoint
			o.UsePathStyle = true
			if o.Region == "" {
				o.Region = "us-east-1" // services of one region take any
			}
		}
		if target.PathStyle != nil {
			o.UsePathStyle = *target.PathStyle
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
		t.MaxIdleConnsPerHost = job.MaxParallel
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

// bounded bounds a request that carries size bytes, with its repetitions.
func bounded(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 3*time.Minute+time.Duration(size/slowest)*time.Second)
}

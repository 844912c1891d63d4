package publish

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"golang.org/x/sys/unix"

	"belfry/internal/outbox"
)

// isStatus reports whether err is an answer with that HTTP status.
func isStatus(err error, status int) bool { return statusOf(err) == status }

func statusOf(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// isAbsent reports whether err says that there is no such object, and no more.
func isAbsent(err error) bool {
	return isStatus(err, http.StatusNotFound) && isCode(err, "NoSuchKey", "NotFound", "")
}

func isDenied(err error) bool {
	return isStatus(err, http.StatusForbidden) && isCode(err, "AccessDenied", "Forbidden", "")
}

// refusesHeaders reports whether err may be an answer to a header that the
// service does not know. Many say so in words of their own.
func refusesHeaders(err error) bool {
	if !isStatus(err, http.StatusNotImplemented) && !isStatus(err, http.StatusBadRequest) {
		return false
	}
	return !slices.ContainsFunc(advices, func(a advice) bool { return slices.Contains(a.codes, codeOf(err)) })
}

// isCode reports whether err is an answer with one of the codes.
func isCode(err error, codes ...string) bool { return slices.Contains(codes, codeOf(err)) }

func codeOf(err error) string {
	var a smithy.APIError
	if errors.As(err, &a) {
		return a.ErrorCode()
	}
	return ""
}

// advice says what to do about an answer's code.
type advice struct {
	codes []string
	final bool
	text  func(b *objects, action string, err error) string
}

var advices = []advice{
	{[]string{"NoSuchBucket"}, true, func(b *objects, _ string, _ error) string {
		return fmt.Sprintf("there is no bucket %q%s: create it, or correct publish.to", b.bucket, b.store.where())
	}},
	{[]string{"AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem"}, true, func(_ *objects, action string, _ error) string {
		return fmt.Sprintf("access denied: allow %s on it for the credentials of the job", action)
	}},
	{[]string{"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "NotSignedUp", "XAdminUserNotFound"}, true, func(*objects, string, error) string {
		return "the access key is not known there: correct AWS_ACCESS_KEY_ID in the job's environment, or the profile it uses"
	}},
	{[]string{"SignatureDoesNotMatch", "InvalidSecurity"}, true, func(*objects, string, error) string {
		return "the secret key does not fit the access key: correct AWS_SECRET_ACCESS_KEY in the job's environment, or the profile it uses"
	}},
	{[]string{"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}, true, func(*objects, string, error) string {
		return "the session token has expired or is not valid: sign in again, or give the job credentials that last"
	}},
	{[]string{"RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"}, false, func(*objects, string, error) string {
		return "this machine's clock is too far from the right time: synchronise it (timedatectl set-ntp true)"
	}},
	{[]string{"PermanentRedirect", "TemporaryRedirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}, true, func(b *objects, _ string, err error) string {
		return b.wrongRegion(err)
	}},
	{[]string{"InvalidBucketName"}, true, func(b *objects, _ string, _ error) string {
		return fmt.Sprintf("%q is not a name for a bucket there: correct publish.to", b.bucket)
	}},
	{[]string{"InvalidStorageClass"}, true, func(b *objects, _ string, _ error) string {
		return fmt.Sprintf("the service has no storage class %q: correct publish.storage_class", b.target.StorageClass)
	}},
	{[]string{"KMS.NotFoundException", "KMS.DisabledException", "KMS.KMSInvalidStateException", "KMS.InvalidKeyUsageException", "KMS.InvalidArnException", "KMS.UnrecognizedClientException"}, true, func(b *objects, _ string, _ error) string {
		return fmt.Sprintf("the key %q cannot be used: correct publish.kms_key, or enable the key in the bucket's region", b.target.KMSKey)
	}},
	{[]string{"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest"}, false, func(*objects, string, error) string {
		return errChanged.Error()
	}},
	{[]string{
		"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestTimeoutException", "TooManyRequests",
		"IncompleteBody", "NoSuchUpload", "OperationAborted", "InternalError", "ServiceUnavailable",
	}, false, func(*objects, string, error) string {
		return "the service was not up to it"
	}},
	{[]string{"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}, false, func(*objects, string, error) string {
		return "the service has no space left: free some"
	}},
}

// where names the service in a sentence.
func (s *bucketStore) where() string {
	if s.endpoint != "" {
		return " at " + s.endpoint
	}
	return " in " + s.region
}

// expected is how services say in words which region they are.
var expected = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)`)

func (b *objects) wrongRegion(err error) string {
	right := "the bucket's"
	if said := expected.FindStringSubmatch(err.Error()); said != nil {
		right = said[1]
	}
	var r *awshttp.ResponseError
	if errors.As(err, &r) && r.Response != nil {
		if region := r.Response.Header.Get("X-Amz-Bucket-Region"); region != "" {
			right = region
		}
	}
	return fmt.Sprintf("the bucket %q is not in the region %s: set AWS_REGION to %s in the job's environment", b.bucket, b.store.region, right)
}

// explain makes a sentence with a next step of an error about one object, and
// says which errors stay.
func (b *objects) explain(action, name string, err error) error {
	if err == nil || outbox.IsFinal(err) {
		return err
	}
	what := "s3://" + b.bucket + "/" + b.prefix + name
	say := func(final bool, format string, args ...any) error {
		err := fmt.Errorf("%s %s: %s (%w)", b.doing, what, fmt.Sprintf(format, args...), err)
		if final {
			return outbox.Final(err)
		}
		return err
	}
	// Credentials come first: what the services of credentials answer has codes too.
	text := err.Error()
	if strings.Contains(text, "get credentials") || strings.Contains(text, "get identity") {
		switch {
		case strings.Contains(text, "no EC2 IMDS role found"), strings.Contains(text, "static credentials are empty"):
			return say(true, "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the job's environment (env_file)")
		case strings.Contains(text, "unable to read file at"), // of a web identity
			statusOf(err) >= 400 && statusOf(err) < 500 && statusOf(err) != http.StatusTooManyRequests,
			strings.Contains(text, "SSO session has expired"), strings.Contains(text, "read cached SSO token"):
			return say(true, "the job's AWS credentials could not be got: sign in again, or correct the profile")
		}
		return say(false, "the job's AWS credentials could not be got")
	}
	code := codeOf(err)
	for _, a := range advices {
		if slices.Contains(a.codes, code) {
			return say(a.final, "%s", a.text(b, action, err))
		}
	}
	switch status := statusOf(err); status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return say(true, "%s", b.wrongRegion(err))
	case http.StatusUnauthorized, http.StatusForbidden:
		return say(true, "access denied: allow %s on it for the credentials of the job", action)
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusRequestEntityTooLarge:
		return say(true, "the service refuses it")
	case 0:
	default:
		return say(false, "the service answered %d", status)
	}
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, errChanged), errors.Is(err, context.Canceled):
		return fmt.Errorf("%s %s: %w", b.doing, what, err)
	case errors.Is(err, unix.ECONNREFUSED):
		return say(false, "nothing listens%s: is the service up, and AWS_ENDPOINT_URL_S3 right?", b.store.where())
	case errors.As(err, &dns):
		return say(false, "the name %s cannot be looked up: is the network up, and AWS_ENDPOINT_URL_S3 right?", dns.Name)
	case errors.As(err, &authority):
		return say(false, "the service's certificate is signed by nobody known here: set AWS_CA_BUNDLE in the job's environment")
	}
	return say(false, "it did not go through")
}

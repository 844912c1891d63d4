package publish

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"belfry/internal/job"
	"belfry/internal/publish/s3test"
)

// sumHeaders are what services from before 2022 do not know.
func sumHeaders(h http.Header) (names []string) {
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Checksum-") || name == "X-Amz-Sdk-Checksum-Algorithm" || name == "X-Amz-Trailer" ||
			name == "Content-Encoding" || strings.HasPrefix(h.Get("X-Amz-Content-Sha256"), "STREAMING-") {
			names = append(names, name)
		}
	}
	return names
}

func TestServicesThatKnowLessAreServedToo(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a.csv": "one", "empty": "", "large.bin": strings.Repeat("0123456789abcdef", 1<<20)}
	for _, c := range []struct {
		name    string
		refuses func(r *http.Request) bool
		code    string
		status  int
		want    func(r *http.Request) bool // of each request with data, once it is known
	}{
		{
			"no SHA-256",
			func(r *http.Request) bool { return len(sumHeaders(r.Header)) > 0 },
			"InvalidArgument", http.StatusBadRequest,
			func(r *http.Request) bool { return r.Header.Get("Content-Md5") != "" },
		},
		{
			"no SHA-256 for parts",
			func(r *http.Request) bool {
				return len(sumHeaders(r.Header)) > 0 && r.URL.RawQuery != "x-id=PutObject" && r.Method != http.MethodHead
			},
			"NotImplemented", http.StatusNotImplemented,
			func(*http.Request) bool { return true },
		},
		{
			"neither that nor MD5",
			func(r *http.Request) bool { return len(sumHeaders(r.Header)) > 0 || r.Header.Get("Content-Md5") != "" },
			"NotImplemented", http.StatusNotImplemented,
			func(r *http.Request) bool { return len(r.Header.Get("X-Amz-Content-Sha256")) == 64 },
		},
		{
			"nor conditions",
			func(r *http.Request) bool {
				return len(sumHeaders(r.Header)) > 0 || r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != ""
			},
			"NotImplemented", http.StatusNotImplemented,
			func(r *http.Request) bool { return r.Header.Get("Content-Md5") != "" },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, s := newLake(t, files)
			var refused atomic.Int64
			var spoil atomic.Bool
			front := fault(t, s, func(rw http.ResponseWriter, r *http.Request) bool {
				if c.refuses(r) {
					refused.Add(1)
					return refuse(rw, c.status, c.code)
				}
				data := r.Method == http.MethodPut && !strings.Contains(r.URL.Path, "/_")
				if data && !c.want(r) {
					t.Errorf("%s %s went with %v", r.Method, r.URL, r.Header)
				}
				if data && spoil.Load() {
					body, err := io.ReadAll(r.Body)
					if err == nil && len(body) > 0 {
						body[0] ^= 1
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
				}
				return false
			})
			to := job.Target{To: "s3://lake/x/"}
			w.mustSend(w.order("R1", to), front)
			wantObjects(t, s, "x/", "R1", files)
			if n := refused.Load(); n == 0 || n > 6 {
				t.Errorf("%d requests were refused: want a few, until it is known", n)
			}
			spoil.Store(true)
			_, err := w.send(w.order("R2", to), front)
			wantError(t, err, false, "s3://lake/x/")
		})
	}
}

// resigned stands before a server and signs its requests anew, with the server's
// keys, when change has had its way with their headers.
func resigned(t *testing.T, s *s3test.Server, change func(h http.Header), answer func(h http.Header)) string {
	t.Helper()
	to, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			change(r.Out.Header)
			r.Out.Header.Del("Authorization")
			keys := aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}
			if err := signer.SignHTTP(t.Context(), keys, r.Out, r.Out.Header.Get("X-Amz-Content-Sha256"), "s3", s.Region, time.Now()); err != nil {
				t.Error(err)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			answer(r.Header)
			return nil
		},
	})
	t.Cleanup(front.Close)
	return front.URL
}

func TestAServiceThatIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a.csv": "one", "empty": "", "large.bin": strings.Repeat("0123456789abcdef", 1<<20)}
	w, s := newLake(t, files)
	drop := func(h http.Header) {
		for _, name := range append(sumHeaders(h), "If-Match", "If-None-Match") {
			h.Del(name)
		}
	}
	front := "AWS_ENDPOINT_URL_S3=" + resigned(t, s, drop, drop)
	to := job.Target{To: "s3://lake/x/"}
	w.mustSend(w.order("R1", to), front)
	wantObjects(t, s, "x/", "R1", files)
	w.write(second)
	w.mustSend(w.order("R2", to), front)
	wantObjects(t, s, "x/", "R2", second)
}

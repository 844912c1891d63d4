package publish

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"belfry/internal/job"
	"belfry/internal/publish/s3test"
)

func TestOptionsReachTheService(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, map[string]string{"a.csv": "one", "large.bin": strings.Repeat("x", 12<<20)})
	var mu sync.Mutex
	headers, parts := map[string]http.Header{}, 0
	record := fault(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Method == http.MethodPost && r.URL.Query().Has("uploads"), r.Method == http.MethodPut && !r.URL.Query().Has("partNumber"):
			headers[strings.TrimPrefix(r.URL.Path, "/lake/x/")] = r.Header.Clone()
			// The service of the test keeps them all, and has no keys.
			for _, name := range []string{"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"} {
				if !strings.Contains(r.Header.Get("Authorization"), strings.ToLower(name)) {
					t.Errorf("%s of %s is not signed", name, r.URL)
				}
			}
		case r.Method == http.MethodPut:
			parts++
		}
		return false
	})
	w.mustSend(w.order("R1", job.Target{
		To: "s3://lake/x/", PartSize: 5 << 20, StorageClass: "STANDARD_IA", SSE: job.EncryptKMS, KMSKey: "my-key",
		Metadata: map[string]string{"team": "music", "day": "2026-11-21"},
	}), record)
	if parts != 3 {
		t.Errorf("12 MiB went in %d parts of 5 MiB", parts)
	}
	for _, name := range []string{"a.csv", "large.bin", manifestName, successName, pendingName} {
		data := !reserved(name)
		want := map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "my-key",
			"X-Amz-Storage-Class": "", "X-Amz-Meta-Team": "", "X-Amz-Meta-Day": "",
		}
		if data {
			maps.Copy(want, map[string]string{"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Meta-Team": "music", "X-Amz-Meta-Day": "2026-11-21"})
		}
		for header, value := range want {
			if got := headers[name].Get(header); got != value {
				t.Errorf("%s went with %s %q, want %q", name, header, got, value)
			}
		}
	}
	if info := s.S3cmd(t, "info", "s3://lake/x/large.bin"); !strings.Contains(info, "x-amz-meta-team: music") {
		t.Errorf("its metadata is not there: %s", info)
	}
	_, err := w.send(w.order("R1", job.Target{To: "s3://lake/x/", Metadata: map[string]string{"team": "음악"}}))
	wantError(t, err, true, "metadata team", "ASCII")
}

// A service that has its buckets in the name of the host is reached through a
// proxy here: no resolver knows the names.
func TestBucketsInTheHostsName(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t, "--virtual-domain", "s3.test")
	to, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var hosts sync.Map
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		hosts.Store(r.In.Host, true)
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	proxy := httptest.NewServer(forward)
	t.Cleanup(proxy.Close)
	w := newWorld(t, first)
	w.env = append(w.env, s.Env()...)
	w.env = append(w.env, "AWS_ENDPOINT_URL_S3=http://s3.test", "HTTP_PROXY="+proxy.URL)
	no := false
	w.mustSend(w.order("R1", job.Target{To: "s3://lake/x/", PathStyle: &no}))
	if _, ok := hosts.Load("lake.s3.test"); !ok {
		t.Error("nobody asked for lake.s3.test")
	}
	file := filepath.Join(s.Root, "lake", "x", "a.csv")
	if text, err := os.ReadFile(file); err != nil || string(text) != "one" {
		t.Errorf("the object is %q, %v", text, err)
	}
}

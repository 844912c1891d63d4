package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"belfry/api"
	"belfry/internal/publish/s3test"
)

// gate is a proxy before an S3 server that holds the first upload of a data
// object until it is opened.
type gate struct {
	*httptest.Server
	reached chan struct{} // closed when an upload waits
	once    sync.Once
	opened  chan struct{}
	open    func() // may be called twice
}

func newGate(t *testing.T, endpoint string) *gate {
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it was signed
	}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/data.txt") {
			g.once.Do(func() { close(g.reached) })
			select {
			case <-g.opened:
			case <-r.Context().Done():
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.open() // what waits does not see that its client is gone
		g.Close()
	})
	return g
}

func TestAPublishThatIsKilledIsCompletedWithoutRunningTheJobAgain(t *testing.T) {
	t.Parallel()
	s3 := s3test.Start(t)
	gate := newGate(t, s3.Endpoint)
	var env strings.Builder
	for _, v := range s3.Env() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_ENDPOINT_URL") {
			value = gate.URL
		}
		fmt.Fprintf(&env, "      %s: %q\n", name, value)
	}
	p := newPlace(t, "belfry.yaml", fmt.Sprintf(`
jobs:
  upload:
    command: 'echo ran >> ledger; printf "아이유\n" > $BELFRY_OUTPUT/data.txt'
    publish: s3://%s/songs/dt=$BELFRY_DATE/
    env:
%s`, s3.Bucket, &env))
	first := p.serve()
	runs, err := p.client().Start(context.Background(), api.RunRequest{Job: "upload", Date: "2026-07-09"})
	if err != nil {
		t.Fatal(err)
	}
	<-gate.reached
	first.kill()
	if keys := s3.List(t); slices.ContainsFunc(keys, func(key string) bool { return strings.HasSuffix(key, "_SUCCESS") }) {
		t.Errorf("after the kill there is a _SUCCESS: %v", keys)
	}
	if r := p.show(runs[0].ID); r.State != "publishing" {
		t.Errorf("after the kill the run is %s", r.State)
	}
	gate.open()
	p.serve()
	r := p.finished(runs[0].ID)
	if r.State != "succeeded" || r.Attempt != 1 || p.read("ledger") != "ran\n" {
		t.Errorf("the run is %s (%s) after attempt %d, ledger %q; want succeeded after 1", r.State, r.Reason, r.Attempt, p.read("ledger"))
	}
	got := s3.Fetch(t, "songs/dt=2026-07-09/") // with s3cmd
	for name, want := range map[string]string{"data.txt": "아이유\n", "_SUCCESS": ""} {
		if text, err := os.ReadFile(filepath.Join(got, name)); err != nil || string(text) != want {
			t.Errorf("in the bucket %s is %q, %v; want %q", name, text, err, want)
		}
	}
	if manifest, err := os.ReadFile(filepath.Join(got, "_manifest.json")); err != nil || !strings.Contains(string(manifest), `"data.txt"`) {
		t.Errorf("in the bucket the manifest is %s, %v", manifest, err)
	}
}

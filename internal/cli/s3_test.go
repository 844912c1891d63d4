package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
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

func TestAMonthOfTheExampleIsMadeAgainIntoABucket(t *testing.T) {
	t.Parallel()
	s3 := s3test.Start(t)
	p := newPlace(t)
	copyExample(t, p.dir)
	env := "MARKET: KR"
	for _, v := range s3.Env() {
		name, value, _ := strings.Cut(v, "=")
		env += fmt.Sprintf(", %s: %q", name, value)
	}
	p.write("belfry.yaml", strings.NewReplacer(
		"retry: {attempts: 3, backoff: 1m}", "retry: {attempts: 1}",
		"command: python3 top_tracks.py", `command: 'echo $BELFRY_DATE >> ledger; [ $BELFRY_DATE != 2026-06-20 ] || [ -e mended ] || exit 3; python3 top_tracks.py'`,
		"env: {MARKET: KR}", "env: {"+env+"}",
		"to: lake/top-tracks/", "to: s3://"+s3.Bucket+"/top-tracks/",
		"to: lake/audio-features/", "to: s3://"+s3.Bucket+"/audio-features/",
	).Replace(p.read("belfry.yaml")))
	p.serve()
	month := []string{"backfill", "top-tracks", "--from", "2026-06-10", "--to", "2026-07-09", "--parallel", "4"}
	if _, errs, code := p.belfry(month...); code != exitRunFailed || !strings.Contains(errs, "2026-06-20") {
		t.Fatalf("with a day that fails it exits with %d: %s", code, errs)
	}
	p.write("mended", "")
	if _, errs, code := p.belfry(append(month, "--only", "failed")...); code != 0 {
		t.Fatalf("mended it exits with %d: %s", code, errs)
	}

	runs, err := p.client().Runs(t.Context(), api.RunFilter{Job: "top-tracks", State: "succeeded"})
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]string{} // date → run
	for _, r := range runs {
		if other, twice := made[r.Date]; twice {
			t.Errorf("%s was made by %s and by %s", r.Date, other, r.ID)
		}
		made[r.Date] = r.ID
	}
	if len(made) != 30 {
		t.Errorf("%d days were made, want 30", len(made))
	}
	ran := map[string]int{}
	for date := range strings.Lines(p.read("ledger")) {
		ran[strings.TrimSpace(date)]++
	}
	got := s3.Fetch(t, "") // with s3cmd
	for date, run := range made {
		want := 1
		if date == "2026-06-20" {
			want = 2
		}
		if ran[date] != want {
			t.Errorf("the script ran %d times for %s, want %d", ran[date], date, want)
		}
		for set, name := range map[string]string{"top-tracks": "top_tracks.jsonl", "audio-features": "audio_features.jsonl"} {
			whole(t, filepath.Join(got, set, "dt="+date), run, name)
		}
	}
	if keys := s3.List(t); len(keys) != 30*2*3 {
		t.Errorf("the bucket holds %d objects, want a file, a manifest and a mark for each of 60 sets: %q", len(keys), keys)
	}
}

// whole checks that a folder holds the set of one file that a run published.
func whole(t *testing.T, dir, run, name string) {
	t.Helper()
	var manifest struct {
		Run   string
		Files []struct {
			Path, SHA256 string
			Size         int
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "_manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil || manifest.Run != run || len(manifest.Files) != 1 || manifest.Files[0].Path != name {
		t.Errorf("%s: the manifest of run %s is %s, %v", dir, run, text, err)
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if sum := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || sum != manifest.Files[0].SHA256 || len(data) != manifest.Files[0].Size || len(data) == 0 {
		t.Errorf("%s: %s is not what the manifest says: %d bytes, %v", dir, name, len(data), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "_SUCCESS")); err != nil {
		t.Error(err)
	}
}

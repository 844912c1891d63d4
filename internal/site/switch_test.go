package site

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/api"
)

// daemon answers for a site that has five releases, of which the newest runs, and
// says of itself what is in health.
func daemon(t *testing.T, health *api.Health) (s *Site, releases func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "site") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s = &Site{Root: filepath.Join(dir, "music")}
	if err := os.MkdirAll(s.path(DataName), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"1", "2", "3", "4", "5"} {
		d := Deployed{Release: strings.Repeat(n, 16), Binary: strings.Repeat("b"+n, 8), At: time.Now()}
		for _, path := range []string{s.release(d.Release), s.path(BinariesName, d.Binary)} {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.remember(d, Deployed{}); err != nil {
			t.Fatal(err)
		}
		if err := point(s.path(CurrentName), filepath.Join("releases", d.Release)); err != nil {
			t.Fatal(err)
		}
		if err := point(s.path(BinaryName), filepath.Join(BinariesName, d.Binary, BinaryName)); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", s.path(DataName, api.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(health) // who asked has gone
	})}
	go func() { _ = server.Serve(listener) }() // it is closed
	t.Cleanup(func() { _ = server.Close() })
	return s, func() (names []string) {
		entries, err := os.ReadDir(s.path("releases"))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			names = append(names, entry.Name()[:1])
		}
		return names
	}
}

func TestNothingIsCollectedWhileItIsNotKnownWhatIsInUse(t *testing.T) {
	t.Parallel()
	health := &api.Health{Plans: true, Releases: []string{strings.Repeat("1", 16)}, ReleasesError: "the disk does not answer"}
	s, releases := daemon(t, health)
	if removed, err := s.collect(t.Context()); err != nil || len(removed) > 0 || len(releases()) != 5 {
		t.Errorf("removed %v, %v; %v are left", removed, err, releases())
	}
	if err := s.Remove(t.Context(), true); err == nil || !strings.Contains(err.Error(), "whether jobs are running is not known: the disk does not answer") {
		t.Errorf("remove: %v", err)
	}
	health.ReleasesError = ""
	// A deploy that waits for its turn has sent this one; that one never came so far.
	for name, age := range map[string]time.Duration{"waits": time.Minute, "given-up": 2 * awaited} {
		path := s.path(BinariesName, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now().Add(-age), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := s.collect(t.Context()); err != nil || len(removed) != 1 || !slices.Equal(releases(), []string{"1", "3", "4", "5"}) {
		t.Errorf("removed %v, %v; %v are left", removed, err, releases())
	}
	entries, err := os.ReadDir(s.path(BinariesName))
	if err != nil || len(entries) != 4 || entries[3].Name() != "waits" {
		t.Errorf("the binaries are %v, %v", entries, err)
	}
}

func TestTheStatusHasNoTimeThatIsNotKnown(t *testing.T) {
	t.Parallel()
	s, _ := daemon(t, &api.Health{Plans: true})
	for _, known := range []bool{true, false} {
		if !known {
			if err := os.Remove(s.path(historyName)); err != nil {
				t.Fatal(err)
			}
		}
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(st.Running)
		if err != nil || strings.Contains(string(text), `"at"`) != known || st.Running.Release != strings.Repeat("5", 16) {
			t.Errorf("known %v: running is %s, %v", known, text, err)
		}
	}
}

package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestWhatIsInUseIsNotKnownWhileTheStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "releases", "0123456789abcdef")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, client, _ := serveDaemon(t, options(t, dir))
	if health, err := client.Health(t.Context()); err != nil || health.Release != "0123456789abcdef" || health.ReleasesError != "" {
		t.Errorf("health is %+v, %v", health, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if health := d.health(ctx); health.ReleasesError == "" {
		t.Errorf("while the store does not answer health is %+v", health)
	}
}

//go:build linux

package crontest

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var builds struct {
	once sync.Once
	path string
	err  error
	out  []byte
}

// buildBelfry gives the path of the program, built once for all tests.
func buildBelfry(t *testing.T) string {
	t.Helper()
	builds.once.Do(func() {
		dir, err := os.MkdirTemp("", "belfry") //nolint:usetesting // it outlives the first test
		if err != nil {
			builds.err = err
			return
		}
		builds.path = filepath.Join(dir, "belfry")
		build := exec.Command("go", "build", "-o", builds.path, "belfry/cmd/belfry") //nolint:noctx // for all tests
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		builds.out, builds.err = build.CombinedOutput()
	})
	if builds.err != nil {
		t.Fatalf("go build: %v\n%s", builds.err, builds.out)
	}
	return builds.path
}

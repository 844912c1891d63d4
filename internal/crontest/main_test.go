package crontest

import (
	"os"
	"path/filepath"
	"testing"

	"belfry/internal/cli"
)

// The test binary is also what stands beside Debian's programs: belfry, the
// crontab command, and what a daemon of ours executes as /proc/self/exe.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "belfry", "crontab", "exe":
		os.Exit(cli.Main(os.Args))
	}
	os.Exit(m.Run())
}

package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"belfry/internal/notify"
	"belfry/internal/proc"
	"belfry/internal/publish"
)

// The test binary is the keeper, the publisher and who delivers mail too: daemons execute themselves
// as /proc/self/exe.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "exe" && len(os.Args) == 3 && os.Args[1] == "keeper" {
		if proc.RunKeeper(os.Args[2], slog.New(slog.DiscardHandler)) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if filepath.Base(os.Args[0]) == "exe" && len(os.Args) == 2 && os.Args[1] == "publish" {
		os.Exit(publish.Child(os.Stdin, os.Stdout))
	}
	if filepath.Base(os.Args[0]) == "exe" && len(os.Args) == 2 && os.Args[1] == "deliver" {
		if notify.Child(os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

package logs

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

// heap is a Store that keeps what is saved, and has had nothing before.
type heap struct {
	Store
	saved []Change
}

func (*heap) ChunkBefore(context.Context, string, int, int64) (Chunk, bool, error) {
	return Chunk{}, false, nil
}

func (*heap) SyncLogs(context.Context) error { return nil }

func (h *heap) SaveLogs(_ context.Context, changes []Change) error {
	h.saved = append(h.saved, changes...)
	return nil
}

func TestWithoutAWatchQuietLogsAreLookedAt(t *testing.T) {
	t.Parallel()
	f := NewFollower(Options{Store: &heap{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	f.watch = newWatch(f.wake)
	defer f.watch.close()
	f.Add(Attempt{Run: "RUN", Number: 1, Dir: filepath.Join(t.TempDir(), "gone")})
	f.take()
	for range 20 {
		f.following[0].due = time.Now()
		f.pass(t.Context())
	}
	if wait := f.following[0].wait; wait != quiet {
		t.Errorf("a log that cannot be watched is looked at each %s", wait)
	}
}

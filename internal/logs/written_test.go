package logs

import (
	"os"
	"testing"
	"time"
)

func TestAFileThatMayBeOpenForWritingStaysForADay(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull) // no regular file: the kernel gives no lease of it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	now := time.Date(2026, 7, 9, 1, 0, 0, 0, time.UTC)
	f := NewFollower(Options{Now: func() time.Time { return now }})
	for age, want := range map[time.Duration]bool{0: true, 23 * time.Hour: true, 25 * time.Hour: false} {
		tail := &tail{}
		if got := f.written(tail, &file{File: null, modified: now.Add(-age)}); got != want || !tail.unsure {
			t.Errorf("%s after it was printed to: may be written %v, unsure %v, want %v, true", age, got, tail.unsure, want)
		}
	}
}

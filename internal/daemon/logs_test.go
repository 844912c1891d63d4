package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"belfry/api"
	"belfry/internal/logs"
)

// A daemon that is killed right after it has written how a run ended has not
// looked at what the run printed.
func TestALogThatNobodyLookedAtIsFoundAndStored(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	client, stop := serve(t, o)
	runs, err := client.Start(t.Context(), api.RunRequest{Job: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	r := runs[0]
	for !r.Finished() {
		if r, err = client.Await(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	path := filepath.Join(attemptDir(o.Data, r.ID, 1), logs.FileName)
	if err := os.WriteFile(path, []byte("printed\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	d.findLogs(t.Context())
	if err := d.logs.Run(done()); err != nil {
		t.Fatal(err)
	}
	if l, _, err := d.store.Log(t.Context(), r.ID, 1); err != nil || !l.Closed {
		t.Errorf("its log is %+v, %v; want it closed", l, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file is still there: %v", err)
	}
	reader, err := newBackend(d).Log(t.Context(), r.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if part, err := reader.Next(t.Context(), true); string(part.Text) != "printed\n" {
		t.Errorf("it reads %q, %v", part.Text, err)
	}
	if _, err := reader.Next(t.Context(), true); !errors.Is(err, io.EOF) {
		t.Errorf("behind it comes %v", err)
	}
}

// done is a context that has ended: a Follower with it stores what has ended.
func done() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

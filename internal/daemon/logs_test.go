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

// Whoever asks for a log right after the claim of its attempt is there before
// its file, and before anybody follows it.
func TestALogIsReadWithoutItsSecretsAlsoByWhoWasThereBefore(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	yaml := func(env string) {
		t.Helper()
		text := "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\", env: {" + env + "}}\n"
		if err := os.WriteFile(o.Project, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	yaml("API_TOKEN: hunter22")
	d, client, stop := serveDaemon(t, o)
	runs, err := client.Start(t.Context(), api.RunRequest{Job: "nightly"})
	for err == nil && !runs[0].Finished() {
		runs[0], err = client.Await(t.Context(), runs[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	id := runs[0].ID
	early, err := newBackend(d).Log(t.Context(), id, 2) // which nobody follows
	if err != nil {
		t.Fatal(err)
	}
	yaml("X: $NO_SUCH") // what is secret is not known any more
	d.jobs.reload(t.Context(), true)
	blind, err := newBackend(d).Log(t.Context(), id, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir := attemptDir(o.Data, id, 2)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, logs.FileName), []byte("it is hunter22\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if part, err := early.Next(t.Context(), true); err != nil || string(part.Text) != "it is ********\n" {
		t.Errorf("who knows what is secret reads %q, %v", part.Text, err)
	}
	if part, err := blind.Next(t.Context(), true); !errors.Is(err, io.EOF) {
		t.Errorf("who does not reads %q, %v", part.Text, err)
	}
	if _, err := newBackend(d).Log(t.Context(), id, 2); err == nil {
		t.Error("who does not know what is secret in a file that is there has a reader for it")
	}
	stop()
}

package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// What the tests tell the test binary when it is the child.
const (
	killEnv       = "BELFRY_TEST_KILL"        // "some-data:2" dies the second time it comes there
	noExchangeEnv = "BELFRY_TEST_NO_EXCHANGE" // the file system cannot exchange
	stallEnv      = "BELFRY_TEST_STALL"       // stallAfter
	noLinkEnv     = "BELFRY_TEST_NO_LINK"     // nor give a file two names
	noClaimEnv    = "BELFRY_TEST_NO_CLAIM"    // a publish that is killed while it deletes keeps nobody waiting
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "publish" {
		os.Exit(testChild())
	}
	os.Exit(m.Run())
}

func testChild() int {
	if kill := os.Getenv(killEnv); kill != "" {
		name, count, _ := strings.Cut(kill, ":")
		n, err := strconv.Atoi(count)
		if err != nil {
			n = 1
		}
		var seen atomic.Int64
		hook = func(s step) {
			if string(s) == name && seen.Add(1) == int64(n) {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		}
	}
	if os.Getenv(noExchangeEnv) != "" {
		renameExchange = func(string, string) error { return unix.ENOSYS }
	}
	if text := os.Getenv(stallEnv); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		stallAfter = d
	}
	if os.Getenv(noClaimEnv) != "" {
		sweepClaim = -time.Hour // the service tells whole seconds
	}
	if os.Getenv(noLinkEnv) != "" {
		linkFile = func(string, string) error { return unix.EPERM }
	}
	return Child(os.Stdin, os.Stdout)
}

// world is a run's output and a Sender for it.
type world struct {
	t      *testing.T
	output string
	env    []string
	item   outbox.Item
}

// newWorld makes an output with files, by path.
func newWorld(t *testing.T, files map[string]string) *world {
	w := &world{t: t, output: filepath.Join(t.TempDir(), "output"), env: []string{
		"HOME=" + t.TempDir(),
		"GORACE=atexit_sleep_ms=0", // else each child of a -race test lingers for a second
	}}
	w.write(files)
	return w
}

// write replaces the output.
func (w *world) write(files map[string]string) {
	w.t.Helper()
	if err := os.RemoveAll(w.output); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Mkdir(w.output, 0o755); err != nil {
		w.t.Fatal(err)
	}
	for name, text := range files {
		put(w.t, filepath.Join(w.output, name), text)
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// order makes a new item of an order to the targets.
func (w *world) order(run string, targets ...job.Target) Order {
	return Order{
		Job: "music/top-tracks", Run: run, Attempt: 1, FiresAt: time.Date(2026, 11, 22, 1, 0, 0, 0, time.FixedZone("KST", 9*3600)),
		Date: "2026-11-21", Release: "r1", Output: w.output, Lock: w.output + ".lock", Targets: targets,
	}
}

// send publishes as a new item; again as the same one, with what it saved.
func (w *world) send(o Order, env ...string) (Result, error) {
	w.t.Helper()
	payload, err := json.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.item = outbox.Item{ID: "1", Run: o.Run, Kind: outbox.Publish, Payload: payload}
	return w.again(env...)
}

func (w *world) again(env ...string) (Result, error) {
	w.t.Helper()
	data, err := w.sender(nil, env...).Send(w.t.Context(), w.item, noSave)
	if err != nil {
		return Result{}, err
	}
	var r Result
	if err := json.Unmarshal(data, &r); err != nil {
		w.t.Fatal(err)
	}
	return r, nil
}

func (w *world) mustSend(o Order, env ...string) Result {
	w.t.Helper()
	r, err := w.send(o, env...)
	if err != nil {
		w.t.Fatalf("publish: %v", err)
	}
	return r
}

// wantError checks that err is final, or not, and says all of words.
func wantError(t *testing.T, err error, final bool, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	if outbox.IsFinal(err) != final {
		t.Errorf("final is %v, want %v: %v", !final, final, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

// errTorn is what a reader must never find: a complete target that is not whole.
var errTorn = errors.New("torn")

// accept does what docs tell a reader: wait for _SUCCESS, read the manifest,
// compare the files. fs.ErrNotExist is "not now".
func accept(dir fs.FS) (Manifest, error) {
	var m Manifest
	if _, err := fs.Stat(dir, successName); err != nil {
		return m, err
	}
	data, err := fs.ReadFile(dir, manifestName)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errTorn, err)
	}
	for _, f := range m.Files {
		data, err := fs.ReadFile(dir, f.Path)
		if err != nil {
			return m, err
		}
		if int64(len(data)) != f.Size || hexSum(data) != f.SHA256 {
			return m, fmt.Errorf("%w: %s of run %s is %d bytes, want %d", errTorn, f.Path, m.Run, len(data), f.Size)
		}
	}
	return m, nil
}

// wantSet checks that dir holds a complete set of run and nothing else.
func wantSet(t *testing.T, dir, run string, files map[string]string) {
	t.Helper()
	m, err := accept(os.DirFS(dir))
	if err != nil {
		t.Fatalf("the set is not acceptable: %v", err)
	}
	if m.Run != run {
		t.Errorf("the set is of run %s, want %s", m.Run, run)
	}
	want := []string{manifestName, successName}
	for name, text := range files {
		want = append(want, name)
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != text {
			t.Errorf("%s: got %.40q, %v; want %.40q", name, got, err, text)
		}
	}
	slices.Sort(want)
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
	if len(m.Files) != len(files) {
		t.Errorf("the manifest lists %d files, want %d", len(m.Files), len(files))
	}
}

// tree lists all files below dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// wantAlone checks that the folder above dir holds nothing else: no stage.
func wantAlone(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(dir) {
			t.Errorf("%s is left beside the target", e.Name())
		}
	}
}

func sh(script string) *Sender {
	return New(Options{
		Command: []string{"/bin/sh", "-c", script},
		Env:     func(context.Context, string) (Means, error) { return Means{}, nil },
	})
}

func noSave(json.RawMessage) error { return nil }

func TestChildSeesNothingOfTheDaemonsEnvironment(t *testing.T) {
	t.Parallel()
	s := sh(`read line; echo "{\"error\":\"$(/usr/bin/env | /usr/bin/cut -d= -f1 | /usr/bin/tr '\n' ' ') in $PWD\"}"`)
	_, err := s.Send(t.Context(), outbox.Item{Payload: []byte(`{}`)}, noSave)
	if err == nil {
		t.Fatal("no answer")
	}
	names, dir, _ := strings.Cut(err.Error(), " in ")
	if dir != "/" {
		t.Errorf("it runs in %q, want /", dir)
	}
	for _, name := range strings.Fields(names) {
		if !slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_"}, name) { // sh makes these
			t.Errorf("it has %s", name)
		}
	}
}

func TestWhatAChildSaysShowsNoSecret(t *testing.T) {
	t.Parallel()
	hush := func(text string) string { return strings.ReplaceAll(text, "hunter22", "***") }
	for _, c := range []struct{ name, script string }{
		{"error", `echo '{"error":"nothing listens at http://127.0.0.1/hunter22","final":true}'`},
		{"its last words", `echo 'credential_process: hunter22 is refused' >&2; exit 3`},
		{"warnings", `echo '{"warning":"hunter22 may not be read"}'; echo '{"result":{"targets":[],"warnings":["hunter22 may not be read"]}}'`},
		{"foreign files", `echo '{"inspection":{"foreign":["hunter22.csv"]}}'`},
		{"problems", `echo '{"inspection":{"problems":["\"hunter22.csv\" is missing"]}}'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			s := New(Options{
				Command: []string{"/bin/sh", "-c", "read line; " + c.script},
				Env:     func(context.Context, string) (Means, error) { return Means{Hush: hush}, nil },
				Log:     slog.New(slog.NewTextHandler(&log, nil)),
			})
			answer, err := s.ask(t.Context(), Order{}, request{}, nil)
			text, _ := json.Marshal(answer)
			said := fmt.Sprint(string(text), err, log.String())
			if strings.Contains(said, "hunter22") || !strings.Contains(said, "***") {
				t.Errorf("it says %s", said)
			}
		})
	}
}

func TestSendOfAChildThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script, want string }{
		{"killed", `kill -9 $$`, "killed"},
		{"silent", `echo it is broken >&2; exit 3`, "exit status 3: it is broken"},
		{"babble", `read line; echo hello`, "invalid character"},
		{"refusal to renew", `read line; echo '{"renew":true}'; read line; exit 0`, "disk on fire"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := sh(c.script).Send(t.Context(), outbox.Item{Payload: []byte(`{}`)},
				func(json.RawMessage) error { return errors.New("disk on fire") })
			wantError(t, err, false, c.want)
		})
	}
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := sh(`read line; echo '{"renew":true}'; while :; do read line || /bin/sleep 100; done`).
			Send(ctx, outbox.Item{Payload: []byte(`{}`)}, func(json.RawMessage) error { cancel(); return nil })
		wantError(t, err, false, "interrupted")
	})
}

func TestChildLeavesWhenTheDaemonIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"a": "1"})
	lock, err := os.OpenFile(w.output+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := flock(lock, unix.LOCK_EX); err != nil { // it would wait for this
		t.Fatal(err)
	}
	order, _ := json.Marshal(request{Order: w.order("R1", job.Target{To: filepath.Join(t.TempDir(), "x")})})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A process of its own: what Child leaves unfinished ends with it.
	child := exec.Command(self, "publish")
	child.Stdin = bytes.NewReader(order)
	if err := child.Run(); child.ProcessState.ExitCode() != exitAlone {
		t.Errorf("exit %d (%v), want %d", child.ProcessState.ExitCode(), err, exitAlone)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ to, want string }{
		{"s3://lake/top-tracks/dt=$BELFRY_DATE/", ""},
		{"s3://lake/top-tracks", ""},
		{"s3://lake", ""},
		{"s3://$BUCKET/${PREFIX}/x/", ""},
		{"/srv/data/dt=$BELFRY_DATE", ""},
		{"$HOME/results/", ""},
		{"${HOME}/results/", ""},
		{"s3://lake/$$x", ""},
		{"s3://lake/${x", "not closed"},
		{"", "empty"},
		{"/", "root"},
		{"//", "root"},
		{"/./", "root"},
		{".", "absolute"},
		{"./", "absolute"},
		{"out", "absolute"},
		{"/srv/../etc", `".."`},
		{"s3://", "bucket"},
		{"s3:///x", "bucket"},
		{"s3://Lake/x", "bucket"},
		{"s3://lake//x", "empty"},
		{"s3://lake/../x", `".."`},
		{"gs://lake/x", "gs://"},
		{"s3:lake", "absolute"},
		{"/srv/a\nb", "characters"},
	} {
		err := Check(c.to)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("Check(%q) = %v, want %q", c.to, err, c.want)
		}
	}
}

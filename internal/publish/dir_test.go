package publish

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
	"belfry/internal/machine"
)

var (
	first  = map[string]string{"a.csv": "one", "gone.csv": "old", "sub/b.json": "{}"}
	second = map[string]string{"a.csv": "two and more", "sub/b.json": "[]", "sub/deep/c.txt": "", "names with +, 한국어 & spaces.csv": "x"}
)

func TestDirectoryIsReplacedWhole(t *testing.T) {
	t.Parallel()
	for _, exchange := range []string{"exchange", "two renames"} {
		t.Run(exchange, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first)
			if exchange == "two renames" {
				w.env = append(w.env, noExchangeEnv+"=1")
			}
			to := filepath.Join(t.TempDir(), "new parent", "target")
			r := w.mustSend(w.order("R1", job.Target{To: to + "/"}))
			wantSet(t, to, "R1", first)
			if got := r.Targets[0]; got.Files != 3 || got.Bytes != 8 || got.To != to+"/" {
				t.Errorf("result is %+v", got)
			}
			before, err := os.ReadFile(filepath.Join(to, manifestName))
			if err != nil || hexSum(before) != r.Targets[0].Manifest {
				t.Errorf("the manifest is not the result's: %v", err)
			}
			if want := `"fires_at": "2026-11-21T16:00:00Z"`; !strings.Contains(string(before), want) {
				t.Errorf("the manifest does not say %s: %s", want, before)
			}
			if _, err := w.again(); err != nil { // delivered twice
				t.Fatal(err)
			}
			if after, _ := os.ReadFile(filepath.Join(to, manifestName)); string(after) != string(before) {
				t.Errorf("a repeat changed the manifest to %s", after)
			}
			if err := os.Chmod(to, 0o750); err != nil {
				t.Fatal(err)
			}
			w.write(second)
			w.mustSend(w.order("R2", job.Target{To: to}))
			wantSet(t, to, "R2", second)
			wantAlone(t, to)
			if info, _ := os.Stat(to); info.Mode().Perm() != 0o750 {
				t.Errorf("its mode became %v", info.Mode())
			}
			wantTree(t, w.output, second) // a retry must find it
		})
	}
}

func wantTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if got := tree(t, dir); len(got) != len(files) {
		t.Errorf("%s holds %q, want %d files", dir, got, len(files))
	}
}

func TestDirectoryWithAStrangeFileIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		make       func(t *testing.T, to string)
	}{
		{"a file", "notes.txt", func(t *testing.T, to string) { put(t, filepath.Join(to, "notes.txt"), "mine") }},
		{"a file in a folder of ours", "sub/notes.txt", func(t *testing.T, to string) { put(t, filepath.Join(to, "sub/notes.txt"), "mine") }},
		{"an empty folder", "empty", func(t *testing.T, to string) { mkdir(t, filepath.Join(to, "empty")) }},
		{"a link in the place of a file", "a.csv", func(t *testing.T, to string) {
			if err := os.Remove(filepath.Join(to, "a.csv")); err != nil {
				t.Fatal(err)
			}
			symlink(t, "/etc/hostname", filepath.Join(to, "a.csv"))
		}},
		{"a manifest of another job", "other/job", func(t *testing.T, to string) {
			put(t, filepath.Join(to, manifestName), `{"job":"other/job","files":[]}`)
		}},
		{"a manifest that is none", manifestName, func(t *testing.T, to string) { put(t, filepath.Join(to, manifestName), `hello`) }},
		{"a manifest that leads out", manifestName, func(t *testing.T, to string) {
			put(t, filepath.Join(to, manifestName), `{"job":"music/top-tracks","files":[{"path":"../x"}]}`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first)
			to := filepath.Join(t.TempDir(), "target")
			w.mustSend(w.order("R1", job.Target{To: to}))
			c.make(t, to)
			before := tree(t, to)
			w.write(second)
			_, err := w.send(w.order("R2", job.Target{To: to}))
			wantError(t, err, true, c.want, "nothing was touched")
			if got := tree(t, to); fmt.Sprint(got) != fmt.Sprint(before) {
				t.Errorf("it held %q and now %q", before, got)
			}
			if got, _ := os.ReadFile(filepath.Join(to, "sub/b.json")); string(got) != "{}" {
				t.Errorf("sub/b.json became %q", got)
			}
			wantAlone(t, to)
		})
	}
}

// A person on a Mac looks at what was published, and Finder notes how.
func TestDirectoryThatFinderHasShownIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	to := filepath.Join(t.TempDir(), "target")
	put(t, filepath.Join(to, ".DS_Store"), "a window")
	w.mustSend(w.order("R1", job.Target{To: to}))
	put(t, filepath.Join(to, ".DS_Store"), "a window")
	put(t, filepath.Join(to, "sub/.DS_Store"), "another")
	w.write(second)
	w.mustSend(w.order("R2", job.Target{To: to}))
	for _, name := range []string{".DS_Store", "sub/.DS_Store"} {
		if _, err := os.Lstat(filepath.Join(to, name)); err == nil {
			t.Errorf("%s is part of the new version", name)
		}
	}
	wantAlone(t, to)
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

func TestTargetsThatCannotBeAreFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "x")
	symlink(t, "nowhere", filepath.Join(dir, "dangling"))
	for _, c := range []struct{ to, want string }{
		{"/", "root"},
		{"./", "absolute"},
		{".", "absolute"},
		{filepath.Join(dir, "file"), "not a folder"},
		{filepath.Join(dir, "file", "below"), "a file and not a folder"},
		{filepath.Join(dir, "dangling"), "leads nowhere"},
		{w.output, "in one another"},
		{filepath.Join(w.output, "sub"), "in one another"},
		{filepath.Dir(w.output), "in one another"},
	} {
		_, err := w.send(w.order("R1", job.Target{To: c.to}))
		wantError(t, err, true, c.want)
	}
	_, err := w.send(w.order("R1", job.Target{To: filepath.Join(dir, "x")}, job.Target{From: "sub", To: filepath.Join(dir, "x", "y")}))
	wantError(t, err, true, "not apart")
	wantTree(t, w.output, first)
}

func TestDirectoryBehindALinkIsReplacedThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, "real"))
	symlink(t, filepath.Join(dir, "real"), filepath.Join(dir, "link"))
	w.mustSend(w.order("R1", job.Target{To: filepath.Join(dir, "link")}))
	wantSet(t, filepath.Join(dir, "real"), "R1", first)
	if _, err := os.Readlink(filepath.Join(dir, "link")); err != nil {
		t.Error("the link is gone")
	}
}

func TestStrangeOutputIsRefusedAndNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	out := func(name string) string { return filepath.Join(w.output, name) }
	symlink(t, "/etc/passwd", out("sub/link"))
	symlink(t, "/etc", out("etc"))
	if err := os.Link(out("a.csv"), out("hard.csv")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(out("pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, out(successName), "")
	put(t, out("bad\xff"), "")
	to := filepath.Join(t.TempDir(), "target")
	_, err := w.send(w.order("R1", job.Target{To: to}))
	wantError(t, err, true, `"sub/link" is a symbolic link`, `"etc" is a symbolic link`, `"hard.csv" is a hard link`, `"a.csv" is a hard link`,
		`"pipe" is a FIFO`, `"_SUCCESS" has a name`, `"bad\xff" has a name`)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target is there: %v", err)
	}
	_, err = w.send(w.order("R1", job.Target{From: "etc", To: to}))
	wantError(t, err, true, `"etc" of the output is not a folder`)
	_, err = w.send(w.order("R1", job.Target{From: "../x", To: to}))
	wantError(t, err, true, `"../x" is not a folder of the output`)
}

func TestEachKindOfStrangeFileIsRefused(t *testing.T) {
	t.Parallel()
	for what, make := range map[string]func(name string) error{
		"a symbolic link": func(name string) error { return os.Symlink("a.csv", name) },
		"a hard link":     func(name string) error { return os.Link(filepath.Join(filepath.Dir(name), "a.csv"), name) },
		"a FIFO":          func(name string) error { return unix.Mkfifo(name, 0o644) },
		"a socket": func(name string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
		"a device": func(name string) error { return unix.Mknod(name, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if what == "a device" {
				machine.NeedsRoot(t)
			}
			w := newWorld(t, first)
			if err := make(filepath.Join(w.output, "strange")); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "target")
			_, err := w.send(w.order("R1", job.Target{To: to}))
			wantError(t, err, true, `"strange" is `+what, "only regular files")
			if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the target is there: %v", err)
			}
		})
	}
}

func TestOpenBeneathFollowsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a/b/file"), "x")
	symlink(t, "b", filepath.Join(dir, "a/link"))
	symlink(t, "file", filepath.Join(dir, "a/b/link"))
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for name, open := range map[string]func(int, string, int) (int, error){"openat2": openBeneath, "walk": walkBeneath} {
		for rel, good := range map[string]bool{
			"a/b/file": true, "a": true, ".": true,
			"a/link/file": false, "a/b/link": false, "../x": false, "a/../../x": false, "/etc/hostname": false, "no": false,
		} {
			fd, err := open(int(root.Fd()), rel, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
			if (err == nil) != good {
				t.Errorf("%s(%q): %v, want good %v", name, rel, err, good)
			}
			if err == nil {
				_ = unix.Close(fd)
			}
		}
	}
}

func TestEmptyOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	mkdir(t, filepath.Join(w.output, "hollow"))
	to := filepath.Join(t.TempDir(), "target")
	_, err := w.send(w.order("R1", job.Target{To: to}))
	wantError(t, err, true, "the output is empty", "if_empty")
	_, err = w.send(w.order("R1", job.Target{From: "hollow", To: to}, job.Target{From: "tracks", To: to + "2"}))
	wantError(t, err, true, `the folder "hollow" of the output is empty`, `no folder "tracks"`, "if_empty")
	o := w.order("R1", job.Target{From: "tracks", To: to})
	o.IfEmpty = job.IfEmptyOK
	w.mustSend(o)
	wantSet(t, to, "R1", nil)
	if data, _ := os.ReadFile(filepath.Join(to, manifestName)); !strings.Contains(string(data), `"files": []`) {
		t.Errorf("the manifest is %s", data)
	}
	if err := os.RemoveAll(w.output); err != nil {
		t.Fatal(err)
	}
	_, err = w.send(o)
	wantError(t, err, true, "gone")
}

func TestDirectorySurvivesAKillAtEachStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kill    step
		nth     int
		renames bool
		fresh   bool // the first publish of the target
		now     string
	}{
		{kill: stepNoted, now: "R1"},
		{kill: stepUnmarked, now: "R1"},
		{kill: stepSomeData, now: "R1"},
		{kill: stepSomeData, nth: 3, now: "R1"},
		{kill: stepData, now: "R1"},
		{kill: stepChecked, now: "R1"},
		{kill: stepManifest, now: "R1"},
		{kill: stepExchanged, now: "R2"},
		{kill: stepEmptied, now: "R2"},
		{kill: stepMarked, now: "R2"},
		{kill: stepData, renames: true, now: "R1"},
		{kill: stepMoved, renames: true, now: ""},
		{kill: stepExchanged, renames: true, now: "R2"},
		{kill: stepSomeData, fresh: true, now: ""},
		{kill: stepData, fresh: true, now: ""},
		{kill: stepExchanged, fresh: true, now: "R2"},
	} {
		t.Run(fmt.Sprintf("%s %d renames=%v fresh=%v", c.kill, c.nth, c.renames, c.fresh), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first)
			if c.renames {
				w.env = append(w.env, noExchangeEnv+"=1")
			}
			to := filepath.Join(t.TempDir(), "target")
			if !c.fresh {
				w.mustSend(w.order("R1", job.Target{To: to}))
			}
			w.write(second)
			_, err := w.send(w.order("R2", job.Target{To: to}), fmt.Sprintf("%s=%s:%d", killEnv, c.kill, max(c.nth, 1)))
			wantError(t, err, false, "killed")
			if c.kill == stepEmptied { // without it, half a stage would be nobody's
				if notes, _ := filepath.Glob(filepath.Join(filepath.Dir(to), ".target"+stageMark+"*", stageFile)); len(notes) != 1 {
					t.Errorf("what says whose the stage is: %q, want one", notes)
				}
			}
			switch c.now {
			case "R1":
				wantSet(t, to, "R1", first)
			case "R2":
				wantSet(t, to, "R2", second)
			default:
				if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is something at the target: %v", err)
				}
			}
			if c.kill == stepMoved { // refused now, but the old version is back
				o := w.order("R3", job.Target{To: to}, job.Target{To: filepath.Join(to, "..", "file", "x")})
				put(t, filepath.Join(filepath.Dir(to), "file"), "")
				_, err := w.send(o)
				wantError(t, err, true, "a file and not a folder")
				wantSet(t, to, "R1", first)
				if err := os.Remove(filepath.Join(filepath.Dir(to), "file")); err != nil {
					t.Fatal(err)
				}
				w.mustSend(w.order("R2", job.Target{To: to}))
			} else if _, err := w.again(); err != nil {
				t.Fatal(err)
			}
			wantSet(t, to, "R2", second)
			wantAlone(t, to)
		})
	}
}

func TestOnlyOurOwnStagesAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	dir := t.TempDir()
	to := filepath.Join(dir, "target")
	put(t, filepath.Join(dir, ".target.belfry-mine/x"), "not a stage")
	put(t, filepath.Join(dir, ".target.belfry-odd/stage.json"), `{"target":"target.belfry-odd","run":"R0"}`)
	put(t, filepath.Join(dir, ".target.belfry-R0-1/stage.json"), `{"target":"target","run":"R0"}`)
	put(t, filepath.Join(dir, ".target.belfry-R0-1/new/x"), "")
	put(t, filepath.Join(dir, ".target.belfry-R0-2/stage.json"), "")
	mkdir(t, filepath.Join(dir, ".target.belfry-R0-3"))
	making := filepath.Join(dir, ".target.belfry-making") // by one who has not said yet whose it is
	mkdir(t, making)
	made, err := os.Open(making)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = made.Close() }()
	if err := flock(made, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	w.mustSend(w.order("R1", job.Target{To: to}))
	wantSet(t, to, "R1", first)
	got := fmt.Sprint(tree(t, dir))
	if strings.Contains(got, "R0-") || !strings.Contains(got, ".target.belfry-mine/x") || !strings.Contains(got, ".target.belfry-odd/") {
		t.Errorf("beside the target: %s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, ".target.belfry-R0-3")); err == nil {
		t.Error("an empty stage is left")
	}
	if _, err := os.Stat(making); err != nil {
		t.Errorf("a stage that is being made is gone: %v", err)
	}
}

func TestReaderOfADirectoryNeverFindsATornSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	to := filepath.Join(t.TempDir(), "target")
	w.mustSend(w.order("R00", job.Target{To: to}))
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		accepted := 0
		defer func() { ended <- accepted }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			dir, err := os.OpenRoot(to)
			if err != nil {
				t.Errorf("the target is not there: %v", err)
				return
			}
			_, err = accept(dir.FS())
			switch {
			case err == nil:
				accepted++
			case errors.Is(err, errTorn):
				t.Error(err)
			case errors.Is(err, fs.ErrNotExist): // only of a version that has been replaced
				was, err1 := dir.Stat(".")
				is, err2 := os.Stat(to)
				if err1 != nil || err2 != nil || os.SameFile(was, is) {
					t.Errorf("the present version lacks a file: %v", err)
				}
			default:
				t.Errorf("read: %v", err)
			}
			_ = dir.Close()
		}
	}()
	for i := range 50 {
		files := map[string]string{"a.csv": strings.Repeat(fmt.Sprint(i), 1000), fmt.Sprintf("only-%d.csv", i): "x", "sub/b.json": fmt.Sprint(i)}
		w.write(files)
		// Within this process: starting fifty is not what is tested.
		c := newChild(io.Discard)
		c.acks = make(chan renewed, 2)
		c.acks <- renewed{}
		c.acks <- renewed{}
		if _, err := c.locked(t.Context(), w.order(fmt.Sprintf("R%02d", i), job.Target{To: to})); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if n := <-ended; n < 50 {
		t.Errorf("the reader accepted %d sets in 50 replacements", n)
	}
	wantAlone(t, to)
}

func TestErrorsOfADirectorySayWhatToDo(t *testing.T) {
	t.Parallel()
	d := &folder{part: &part{place: place{to: "/srv/x"}}}
	for _, c := range []struct {
		err   error
		final bool
		want  string
	}{
		{unix.ENOSPC, false, "free some space"},
		{unix.EDQUOT, false, "free some space"},
		{unix.EIO, false, "input/output error"},
		{unix.EACCES, true, "write to the folder above it"},
		{unix.EPERM, true, "write to the folder above it"},
		{unix.EROFS, true, "mount it writable"},
		{unix.ENOTDIR, true, "a file and not a folder"},
		{unix.EBUSY, true, "publish to a folder in it"},
	} {
		wantError(t, d.explain(&os.PathError{Op: "open", Path: "/srv/x/y", Err: c.err}), c.final, "/srv/x", c.want)
	}
}

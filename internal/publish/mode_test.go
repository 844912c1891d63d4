package publish

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
)

// eachKind runs a test for an S3 target and for a directory. There show checks
// that a complete set of run stands at the target, and nothing else.
func eachKind(t *testing.T, test func(t *testing.T, w *world, to job.Target, show func(run string, files map[string]string))) {
	t.Parallel()
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		w, s := newLake(t, first)
		test(t, w, job.Target{To: "s3://lake/x/"}, func(run string, files map[string]string) {
			t.Helper()
			wantObjects(t, s, "x/", run, files)
		})
	})
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, first)
		to := filepath.Join(t.TempDir(), "x")
		test(t, w, job.Target{To: to}, func(run string, files map[string]string) {
			t.Helper()
			wantSet(t, to, run, files)
			wantAlone(t, to)
		})
	})
}

func TestAppendAddsToWhatIsThere(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world, to job.Target, show func(string, map[string]string)) {
		to.Mode = job.ModeAppend
		w.mustSend(w.order("R1", to))
		show("R1", first)
		more := map[string]string{"hour=01/a.csv": "one o'clock", "a.csv": first["a.csv"]}
		all := maps.Clone(first)
		maps.Copy(all, more)
		w.write(more)
		kill := killEnv + "=some-data:2"
		if _, err := w.send(w.order("R2", to), kill); err == nil {
			t.Error("it was not killed")
		}
		for range 2 { // the second is delivered again
			r, err := w.again()
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Targets[0]; got.Files != 4 {
				t.Errorf("the result has %d files, want all 4", got.Files)
			}
			show("R2", all)
		}
		w.write(map[string]string{"a.csv": "another", "b.csv": "new"})
		_, err := w.send(w.order("R3", to))
		wantError(t, err, true, `"a.csv" is there already`, "BELFRY_STAMP")
		show("R2", all)
		// What a publish that was given up left behind goes, what was there stays.
		w.write(map[string]string{"given-up.csv": ""})
		if _, err := w.send(w.order("R4", to), killEnv+"=data:1"); err == nil {
			t.Error("it was not killed")
		}
		w.write(map[string]string{"b.csv": "new"})
		w.mustSend(w.order("R5", to))
		all["b.csv"] = "new"
		show("R5", all)
	})
}

func TestFailIfExistsLeavesWhatIsThere(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world, to job.Target, show func(string, map[string]string)) {
		to.Mode = job.ModeFail
		if _, err := w.send(w.order("R1", to), killEnv+"=some-data:2"); err == nil {
			t.Error("it was not killed")
		}
		for range 2 { // that it has been delivered is no obstacle
			if _, err := w.again(); err != nil {
				t.Fatal(err)
			}
			show("R1", first)
		}
		w.write(second)
		_, err := w.send(w.order("R2", to))
		wantError(t, err, true, "run R1 is there already", "fail_if_exists")
		show("R1", first)
	})
}

func TestAModeThatMustKnowWhatIsThereAsksForIt(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, first)
	strange := filepath.Join(t.TempDir(), "strange")
	put(t, strange, "hello")
	s.S3cmd(t, "put", strange, "s3://lake/strange/"+manifestName)
	s.S3cmd(t, "put", strange, "s3://lake/marked/"+successName)
	for _, mode := range []job.Mode{job.ModeAppend, job.ModeFail} {
		_, err := w.send(w.order("R1", job.Target{To: "s3://lake/strange", Mode: mode}))
		wantError(t, err, true, "not one of Belfry's", string(mode))
	}
	_, err := w.send(w.order("R1", job.Target{To: "s3://lake/marked", Mode: job.ModeFail}))
	wantError(t, err, true, "there is a _SUCCESS already")
}

func TestAppendToADirectoryWithoutLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, first)
	dir := filepath.Join(t.TempDir(), "x")
	to := job.Target{To: dir, Mode: job.ModeAppend}
	w.mustSend(w.order("R1", to))
	w.write(map[string]string{"b.csv": "2"})
	w.mustSend(w.order("R2", to), noLinkEnv+"=1")
	all := maps.Clone(first)
	all["b.csv"] = "2"
	wantSet(t, dir, "R2", all)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "a.csv"), &st); err != nil || st.Nlink != 1 {
		t.Errorf("a.csv has %d names, %v", st.Nlink, err)
	}
	for name, spoil := range map[string]func(name string) error{
		"is missing": os.Remove,
		"has been changed": func(name string) error {
			return os.WriteFile(name, []byte("two"), 0o644)
		},
	} {
		file := filepath.Join(dir, "a.csv")
		if err := spoil(file); err != nil {
			t.Fatal(err)
		}
		w.write(map[string]string{"c.csv": "3"})
		_, err := w.send(w.order("R3", to), noLinkEnv+"=1")
		wantError(t, err, true, `"a.csv"`, name, "publish.mode replace")
		put(t, file, first["a.csv"])
	}
}

func TestUploadsOfAnotherRunThatWasKilledAreEnded(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, nil)
	large := strings.Repeat("x", 20<<20)
	w.write(map[string]string{"large.bin": large})
	to := job.Target{To: "s3://lake/x/"}
	_, err := w.send(w.order("R1", to), killEnv+"=some-part:1")
	wantError(t, err, false, "killed")
	if left := s.S3cmd(t, "multipart", "s3://lake/"); !strings.Contains(left, "large.bin") {
		t.Fatalf("the kill left no upload: %s", left)
	}
	w.write(first)
	w.mustSend(w.order("R2", to))
	if left := s.S3cmd(t, "multipart", "s3://lake/"); strings.Contains(left, "large.bin") {
		t.Errorf("uploads are left: %s", left)
	}
	wantObjects(t, s, "x/", "R2", first)
}

func TestARunNeverReplacesWhatALaterOneHasPublished(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world, to job.Target, show func(string, map[string]string)) {
		now := time.Now()
		order := func(run string, began time.Duration, targets ...job.Target) Order {
			o := w.order(run, targets...)
			o.Began = now.Add(began)
			return o
		}
		w.mustSend(order("later", -time.Hour, to))
		show("later", first)
		w.write(second)
		aside := job.Target{To: filepath.Join(t.TempDir(), "aside")}
		r := w.mustSend(order("earlier", -2*time.Hour, to, aside))
		if len(r.Targets) != 1 || r.Targets[0].To != aside.To || !slices.Equal(r.Superseded, []Superseded{{to.To, "later"}}) {
			t.Errorf("the result is %+v", r)
		}
		show("later", first)
		wantSet(t, aside.To, "earlier", second)

		// A set that is not complete keeps nobody waiting.
		if _, err := w.send(order("latest", -time.Minute, to), killEnv+"=manifest:1"); err == nil {
			t.Error("it was not killed")
		}
		cutOff := w.item
		w.mustSend(order("between", -30*time.Minute, to))
		show("between", second)
		w.item = cutOff
		if _, err := w.again(); err != nil {
			t.Fatal(err)
		}
		show("latest", second)

		w.write(first)
		w.mustSend(order("by a clock that was wrong", time.Hour, to))
		show("by a clock that was wrong", first)
		w.write(second)
		w.mustSend(order("after it", -time.Hour, to))
		show("after it", second)
		w.write(first)
		w.mustSend(w.order("of an older belfry", to))
		show("of an older belfry", first)
	})
}

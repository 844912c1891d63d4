package publish

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// sender publishes in the world's environment.
func (w *world) sender(progress func(run string, p Progress), env ...string) *Sender {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	return New(Options{
		Command: []string{self, "publish"},
		Env: func(context.Context, string) (Means, error) {
			return Means{Env: slices.Concat(w.env, env)}, nil
		},
		Progress: progress,
	})
}

func (w *world) inspect(to job.Target, verify bool) Inspection {
	w.t.Helper()
	seen, err := w.sender(nil).Inspect(w.t.Context(), w.order("R1"), to, verify)
	if err != nil {
		w.t.Fatal(err)
	}
	return seen
}

func TestInspectSaysWhatStandsAtATarget(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a.csv": "one", "sub/b c+한.json": "{}", "empty": ""}
	lake, server := newLake(t, files)
	dir := filepath.Join(t.TempDir(), "x")
	for _, c := range []struct {
		kind   string
		to     string
		change func(name string, text *string) // nil removes it
	}{
		{"directory", dir, func(name string, text *string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && text == nil {
				t.Fatal(err)
			}
			if text != nil {
				put(t, filepath.Join(dir, name), *text)
			}
		}},
		{"S3", "s3://lake/x/", func(name string, text *string) {
			if text == nil {
				server.S3cmd(t, "del", "s3://lake/x/"+name)
				return
			}
			file := filepath.Join(t.TempDir(), "file")
			put(t, file, *text)
			server.S3cmd(t, "put", file, "s3://lake/x/"+name)
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			to := job.Target{To: c.to}
			if seen := lake.inspect(to, true); seen.Complete || len(seen.Manifest.Files) != 0 || !slices.Equal(seen.Problems, []string{"there is nothing at " + c.to}) {
				t.Errorf("before the publish it says %+v", seen)
			}
			lake.mustSend(lake.order("R1", to))
			for _, verify := range []bool{false, true} {
				seen := lake.inspect(to, verify)
				if !seen.Complete || seen.Manifest.Run != "R1" || len(seen.Manifest.Files) != 3 || seen.Problems != nil {
					t.Errorf("of a whole set it says %+v", seen)
				}
			}
			mine := "mine"
			c.change("sub/mine", &mine)
			c.change("z", &mine)
			if seen := lake.inspect(to, true); seen.Problems != nil || !slices.Equal(seen.Foreign, []string{"sub/mine", "z"}) || seen.ForeignFiles != 2 {
				t.Errorf("of a set with others beside it it says %+v", seen)
			}
			if seen := lake.inspect(to, false); seen.Foreign != nil {
				t.Errorf("without a look it says %+v", seen)
			}
			c.change("sub/mine", nil)
			c.change("z", nil)
			same, longer := "two", "three"
			c.change("a.csv", &same)
			c.change("empty", &longer)
			c.change("sub/b c+한.json", nil)
			c.change(successName, nil)
			seen := lake.inspect(to, true)
			want := []string{`"a.csv" is not what was published: its SHA-256 is `, `"empty" has 5 bytes in place of 0`, `"sub/b c+한.json" is missing`, c.to + " has no _SUCCESS"}
			if seen.Complete || len(seen.Problems) != len(want) {
				t.Fatalf("of a spoilt set it says %+v", seen)
			}
			for i, problem := range seen.Problems {
				if !strings.HasPrefix(problem, want[i]) {
					t.Errorf("problem %d is %q, want %q", i, problem, want[i])
				}
			}
			if seen := lake.inspect(to, false); len(seen.Problems) != 1 {
				t.Errorf("without reading back it says %q", seen.Problems)
			}
		})
	}
	_, err := lake.sender(nil).Inspect(t.Context(), lake.order("R1"), job.Target{To: "s3://no-such-lake/"}, false)
	wantError(t, err, true, "read s3://no-such-lake/_SUCCESS", `no bucket "no-such-lake"`)
}

func TestWhatMayNotBeListedIsNotKnownToBeForeign(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, first)
	to := job.Target{To: "s3://lake/x/"}
	w.mustSend(w.order("R1", to))
	w.env = append(w.env, fault(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Query().Has("list-type") && refuse(w, 403, "AccessDenied")
	}))
	if seen := w.inspect(to, true); !seen.Complete || seen.Problems != nil || seen.Foreign != nil {
		t.Errorf("it says %+v", seen)
	}
}

// turning is a shelf on which another set is put when a file is about to be read.
type turning struct {
	shelf
	turn func()
}

func (s *turning) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == "a.csv" {
		s.turn()
	}
	return s.shelf.open(ctx, name)
}

func TestASetThatIsReplacedWhileItIsReadIsNotCalledSpoilt(t *testing.T) {
	t.Parallel()
	const want = " was replaced while it was read: look again"
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		w, to := newWorld(t, first), job.Target{To: filepath.Join(t.TempDir(), "x")}
		w.mustSend(w.order("R1", to))
		w.write(second)
		root, err := os.OpenRoot(to.To)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		p := &part{place: place{to: to.To, dir: to.To}, target: to, meter: &meter{say: func(Progress) {}}}
		turn := sync.OnceFunc(func() { w.mustSend(w.order("R2", to)) })
		seen, err := p.inspect(t.Context(), &turning{directory{&folder{part: p}, root}, turn}, true)
		if err != nil || !slices.Equal(seen.Problems, []string{to.To + want}) {
			t.Errorf("it says %+v, %v", seen, err)
		}
	})
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		w, s := newLake(t, first)
		to := job.Target{To: "s3://lake/x/"}
		w.mustSend(w.order("R1", to))
		w.write(second)
		turn := sync.OnceFunc(func() { w.mustSend(w.order("R2", to)) })
		proxy := fault(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/a.csv") {
				turn()
			}
			return false
		})
		seen, err := w.sender(nil, proxy).Inspect(t.Context(), w.order("R1"), to, true)
		if err != nil || !slices.Equal(seen.Problems, []string{to.To + want}) {
			t.Errorf("it says %+v, %v", seen, err)
		}
	})
}

func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	w, _ := newLake(t, map[string]string{"a.csv": "one", "large.bin": strings.Repeat("x", 20<<20)})
	var mu sync.Mutex
	var told []Progress
	progress := func(run string, p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if run != "R1" {
			t.Errorf("it is told of run %q", run)
		}
		told = append(told, p)
	}
	order, err := json.Marshal(w.order("R1", job.Target{To: "s3://lake/x/"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.sender(progress).Send(t.Context(), outbox.Item{Payload: order}, noSave); err != nil {
		t.Fatal(err)
	}
	if len(told) == 0 || told[0].Target != "s3://lake/x/" || told[0].FilesTotal != 2 || told[0].BytesTotal != 20<<20+3 {
		t.Errorf("told %+v", told)
	}
}

func TestAMeterSpeaksFourTimesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []Progress
		m := &meter{say: func(p Progress) { told = append(told, p) }}
		m.begin("x", 1000, 1000)
		for range 1000 {
			m.add(1, 1)
		}
		time.Sleep(10 * meterEvery) // in the bubble
		synctest.Wait()
		if want := []Progress{{"x", 0, 1000, 0, 1000}, {"x", 1000, 1000, 1000, 1000}}; !slices.Equal(told, want) {
			t.Errorf("told %+v, want %+v", told, want)
		}
		told = nil
		m.add(0, 1)
		m.add(0, 1)
		m.begin("y", 1, 1)
		if want := []Progress{{"x", 1000, 1000, 1001, 1000}, {"x", 1000, 1000, 1002, 1000}}; !slices.Equal(told, want) {
			t.Errorf("before it begins anew it told %+v, want %+v", told, want)
		}
	})
}

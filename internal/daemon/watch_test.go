package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/plan"
)

// lines is a log that a test reads line by line.
type lines struct {
	mu   sync.Mutex
	rest []byte      // guarded by mu
	got  chan string // has room for what a test makes
}

func newLines() *lines { return &lines{got: make(chan string, 1000)} }

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, text...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(text), nil
		}
		l.rest = rest
		l.got <- string(line)
	}
}

// until reads lines up to the one that holds want, and gives those before it.
func (l *lines) until(t *testing.T, want string) (said []string) {
	t.Helper()
	for {
		select {
		case line := <-l.got:
			if strings.Contains(line, want) {
				return said
			}
			said = append(said, line)
		case <-time.After(30 * time.Second):
			t.Fatalf("nobody said %q, but\n%s", want, strings.Join(said, "\n"))
		}
	}
}

const (
	oneJob  = "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n"
	twoJobs = oneJob + "  second: {command: \"true\"}\n"
	badJob  = "jobs:\n  nightly: {shedule: x}\n"
)

// write puts a text into a file in the way that an editor does.
type edit func(t *testing.T, path, text string)

func inPlace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func renamed(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Rename(path, path+"~"); err != nil {
		t.Fatal(err)
	}
	inPlace(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestChangedFilesAreReadAtOnceHoweverTheyWereWritten(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]edit{"in place": inPlace, "renamed": renamed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, t.TempDir())
			log, told := newLines(), make(chan string, 10)
			o.Log = slog.New(slog.NewTextHandler(log, nil))
			o.Told = func(sentence string) { told <- sentence }
			client, _ := serve(t, o)
			write(t, o.Project, twoJobs)
			log.until(t, `changed="1 job added"`)
			write(t, o.Project, badJob)
			if sentence := <-told; !strings.Contains(sentence, `belfry.yaml:2:13: "shedule" is not a key of a job`) {
				t.Errorf("of a bad file is said %q", sentence)
			}
			health, err := client.Health(t.Context())
			if err != nil || health.Jobs != 2 || !strings.Contains(health.Problem, "belfry.yaml:2:13: ") || health.Error != "" {
				t.Errorf("with a bad file health is %+v, %v", health, err)
			}
			write(t, o.Project, strings.Replace(oneJob, "0 1", "0 2", 1))
			log.until(t, `changed="1 job removed, 1 changed"`)
			if health, err := client.Health(t.Context()); err != nil || health.Jobs != 1 || health.Problem != "" {
				t.Errorf("with a mended file health is %+v, %v", health, err)
			}
		})
	}
}

func TestAFileBehindALinkIsSeenWhenTheLinkIsMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options(t, dir)
	for _, release := range []struct{ name, text string }{{"one", oneJob}, {"two", twoJobs}} {
		if err := os.Mkdir(filepath.Join(dir, release.name), 0o755); err != nil {
			t.Fatal(err)
		}
		inPlace(t, filepath.Join(dir, release.name, "belfry.yaml"), release.text)
	}
	point := func(to string) {
		t.Helper()
		link := filepath.Join(dir, "current")
		if err := os.Symlink(to, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	point("one")
	o.Project = filepath.Join(dir, "current", "belfry.yaml")
	log := newLines()
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	serve(t, o)
	point("two")
	log.until(t, `changed="1 job added"`)
}

func TestSettingsAreTakenAnewByAReload(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	inPlace(t, o.Project, oneJob+"daemon: {slots: 3, publish_patience: 2h, mail: {spool: /elsewhere}}\n")
	d.jobs.reload(t.Context(), false)
	if d.limits().Slots != 3 || d.spool() != "/elsewhere" {
		t.Errorf("there are %d slots and the spool is %s; want 3, /elsewhere", d.limits().Slots, d.spool())
	}
	if publish, notice := d.patience(outbox.Publish), d.patience(outbox.Notice); publish != 2*time.Hour || notice != 24*time.Hour {
		t.Errorf("a publish is tried for %s and a message for %s; want 2h and 24h", publish, notice)
	}
}

func TestAStormOfWritesIsReadTwiceASecondAtMost(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	var mu sync.Mutex
	var readings []time.Time
	o.Log = slog.New(slog.NewTextHandler(writer(func(text []byte) {
		if bytes.Contains(text, []byte("read the jobs anew")) {
			mu.Lock()
			defer mu.Unlock()
			readings = append(readings, time.Now())
		}
	}), nil))
	serve(t, o)
	begun := time.Now()
	for i := 0; time.Since(begun) < 1200*time.Millisecond; i++ {
		inPlace(t, o.Project+".new", []string{oneJob, twoJobs}[i%2])
		if err := os.Rename(o.Project+".new", o.Project); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(readings) < 2 || len(readings) > 4 {
		t.Errorf("a file that was written all the time for %s was read %d times", time.Since(begun), len(readings))
	}
	for i := 1; i < len(readings); i++ {
		if pause := readings[i].Sub(readings[i-1]); pause < breather*9/10 {
			t.Errorf("%s lie between two readings; want %s", pause, breather)
		}
	}
}

type writer func(text []byte)

func (w writer) Write(text []byte) (int, error) { w(text); return len(text), nil }

func TestAReloadIsToldInWords(t *testing.T) {
	t.Parallel()
	made := func(key, name, command string) plan.Job {
		return plan.Job{Key: key, Job: &job.Job{ID: job.ID{Project: "p", Name: name}, Command: job.Command{Text: command}, Settings: &job.Settings{Zone: time.UTC}}}
	}
	a, b, c := made("1", "a", "x"), made("2", "b", "x"), made("3", "c", "x")
	edited, called := made("1", "a", "y"), made("2", "other", "x")
	for _, x := range []struct {
		before, after []plan.Job
		want          string
	}{
		{[]plan.Job{a, b}, []plan.Job{b, a}, "no job changed"},
		{nil, []plan.Job{a, b, c}, "3 jobs added"},
		{[]plan.Job{a, b}, []plan.Job{edited, c}, "1 job added, 1 removed, 1 changed"},
		{[]plan.Job{a, b}, []plan.Job{edited, called}, "2 jobs changed"},
	} {
		if got := difference(newJobList(x.before), newJobList(x.after)); got != x.want {
			t.Errorf("%d jobs → %d jobs: %q, want %q", len(x.before), len(x.after), got, x.want)
		}
	}
}

func TestPartsStopInTheReverseOfTheirOrder(t *testing.T) {
	t.Parallel()
	p := newParts(slog.New(slog.DiscardHandler))
	var mu sync.Mutex
	var order []string
	for _, name := range []string{"first", "second", "third"} {
		p.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return ctx.Err()
		})
	}
	if err := p.stop("second", time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
	mu.Lock()
	if want := []string{"third", "second"}; !slices.Equal(order, want) {
		t.Errorf("stopped are %v, want %v", order, want)
	}
	mu.Unlock()
	stuck := make(chan struct{})
	p.start("stuck", func(context.Context) error { <-stuck; return nil })
	if err := p.stopAll(time.Now()); err == nil || !strings.Contains(err.Error(), "the stuck has not stopped in time") {
		t.Errorf("of a part that does not stop is said %v", err)
	}
	close(stuck)
}

package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/plan"
	"belfry/internal/run"
	"belfry/internal/store"
)

// longCrontab has a daemon read a crontab that is written in several pieces, all of
// it due at 10:02.
func longCrontab(t *testing.T) (o Options, lines int, at *time.Time) {
	t.Helper()
	dir := t.TempDir()
	o, lines = options(t, dir), newPiece+newAtOnce+1
	o.Project, o.Crontabs = "", []string{filepath.Join(dir, "long")}
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "2 10 * * * sleep %d\n", i)
	}
	inPlace(t, o.Crontabs[0], text.String())
	at = new(time.Time)
	*at = time.Date(2026, 7, 9, 10, 0, 0, 0, time.UTC)
	o.Clock = func() plan.Reading {
		reading := ReadClock()
		reading.Wall = *at
		return reading
	}
	return o, lines, at
}

// planOnce opens a daemon, has it plan and do some more, and leaves the folder as
// it is then, which is as kill -9 would.
func planOnce(t *testing.T, o Options, more func(d *Daemon) error) (names map[int]string) {
	t.Helper()
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	names = map[int]string{}
	for _, j := range d.jobs.planned() {
		names[j.Source.Line] = j.Name
	}
	if _, err = d.decide(t.Context()); err == nil && more != nil {
		err = more(d)
	}
	if closed := d.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
	return names
}

// accounted gives how many jobs a folder's store has, and how many of them have one
// run each, of a state.
func accounted(t *testing.T, o Options) (jobs int, runs map[run.State]int) {
	t.Helper()
	s, err := store.OpenReadOnly(o.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it was only read
	stored, err := s.Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Runs(t.Context(), store.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	runs, seen := map[run.State]int{}, map[string]bool{}
	for _, r := range all {
		if seen[r.Job] {
			t.Errorf("%s has two runs", r.Name)
		}
		seen[r.Job] = true
		runs[r.State]++
	}
	return len(stored), runs
}

func TestALongCrontabCountsFromItsFirstReadingWhereverACrashCutItShort(t *testing.T) {
	t.Parallel()
	pieces := func(n int) func(*Daemon) error {
		return func(d *Daemon) error {
			for range n {
				if _, err := d.store.unwritten.piece(context.Background()); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name string
		more func(*Daemon) error
		jobs int // that are written then
	}{
		{"before anything is written", nil, 0},
		{"after a piece", pieces(1), newPiece},
		{"after all, before they are stamped", pieces(2), newPiece + newAtOnce + 1},
		{"after all", pieces(3), newPiece + newAtOnce + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o, lines, at := longCrontab(t)
			first := planOnce(t, o, c.more)
			if jobs, runs := accounted(t, o); jobs != c.jobs || len(runs) > 0 {
				t.Errorf("%d jobs are written, with runs %v; want %d and none", jobs, runs, c.jobs)
			}

			*at = at.Add(10 * time.Minute) // past 10:02, and too late for it
			second := planOnce(t, o, func(d *Daemon) error { return d.store.unwritten.all(context.Background()) })
			if jobs, runs := accounted(t, o); jobs != lines || len(runs) != 1 || runs[run.Missed] != lines {
				t.Errorf("%d jobs are written, with runs %v; want %d, and a missed one of each", jobs, runs, lines)
			}
			for line, name := range first {
				if second[line] != name {
					t.Fatalf("line %d is %s, and was %s", line, second[line], name)
				}
			}

			// Now they are known, and count from where they were read again.
			planOnce(t, o, func(d *Daemon) error {
				if _, more := d.store.unwritten.first(); more {
					t.Error("they are to be written again")
				}
				return nil
			})
		})
	}
}

func TestALongCrontabThatIsEditedFiresNoPast(t *testing.T) {
	t.Parallel()
	o, lines, at := longCrontab(t)
	planOnce(t, o, nil)
	*at = at.Add(10 * time.Minute)
	text, err := os.ReadFile(o.Crontabs[0])
	if err != nil {
		t.Fatal(err)
	}
	inPlace(t, o.Crontabs[0], string(text)+"# edited\n")
	planOnce(t, o, func(d *Daemon) error { return d.store.unwritten.all(context.Background()) })
	if jobs, runs := accounted(t, o); jobs != lines || len(runs) > 0 {
		t.Errorf("%d jobs are written, with runs %v; want %d and none", jobs, runs, lines)
	}
}

func TestWhatAJobDoesBeforeItIsWrittenHasItWritten(t *testing.T) {
	t.Parallel()
	o, lines, at := longCrontab(t)
	text, err := os.ReadFile(o.Crontabs[0])
	if err != nil {
		t.Fatal(err)
	}
	inPlace(t, o.Crontabs[0], string(text)+"1 10 * * * true early\n#belfry: name=asked\n@yearly true asked\n#belfry: name=paused\n@yearly true paused\n")
	lines += 3
	planOnce(t, o, func(d *Daemon) error {
		*at = at.Add(time.Minute)
		if _, err := d.decide(t.Context()); err != nil {
			return err
		}
		b := newBackend(d)
		if _, err := b.Request(t.Context(), api.RunRequest{Job: "asked"}); err != nil {
			return err
		}
		if _, err := b.Pause(t.Context(), "paused", true); err != nil {
			return err
		}
		return nil
	})
	if jobs, runs := accounted(t, o); jobs != 3 || runs[run.Queued] != 2 {
		t.Errorf("%d jobs are written, with runs %v; want 3, and 2 queued runs", jobs, runs)
	}
	planOnce(t, o, func(d *Daemon) error {
		if err := d.store.unwritten.all(t.Context()); err != nil {
			return err
		}
		j, err := newBackend(d).find("paused")
		if err == nil && !j.Paused {
			t.Error("the job that was paused fires again")
		}
		return err
	})
	if jobs, runs := accounted(t, o); jobs != lines || runs[run.Queued] != 2 {
		t.Errorf("%d jobs are written, with runs %v; want %d, and the same 2", jobs, runs, lines)
	}
}

func TestALongCrontabThatIsReplacedWhileItIsWrittenKeepsItsJobs(t *testing.T) {
	t.Parallel()
	o, lines, _ := longCrontab(t)
	d, client, _ := serveDaemon(t, o)
	text, err := os.ReadFile(o.Crontabs[0])
	if err != nil {
		t.Fatal(err)
	}
	before := d.jobs.current()
	inPlace(t, o.Crontabs[0], string(text)+"1 10 * * * true more\n")
	jobs, err := client.Jobs(t.Context(), api.JobFilter{}) // it reads them anew
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != lines+1 {
		t.Errorf("%d jobs, want %d", len(jobs), lines+1)
	}
	after := d.jobs.current()
	for _, j := range before.jobs {
		if now, still := after.find(j.Key); !still || now.Name != j.Name {
			t.Fatalf("%s is another job than before", j.Name)
		}
	}
}

func TestAQuietDaemonGivesTheProgramsPagesBack(t *testing.T) {
	resident := func() int {
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		var size, resident, shared int
		if _, err := fmt.Sscan(string(text), &size, &resident, &shared); err != nil {
			t.Fatal(err)
		}
		return shared
	}
	before := resident()
	rest()
	if after := resident(); after > before/2 {
		t.Errorf("%d pages of files are in memory, %d before", after, before)
	}
}

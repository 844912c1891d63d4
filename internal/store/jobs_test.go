package store

import (
	"fmt"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/run"
)

func TestClockComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	if c := must(s.Clock(t.Context()))(t); c != (plan.Clock{}) {
		t.Errorf("a new store has the clock %+v", c)
	}
	for _, c := range []plan.Clock{
		{Mark: night, High: night, Boot: "b1"},
		{Mark: night.Add(-time.Hour + 7*time.Millisecond), High: night, Era: 1, Boot: "b2"},
	} {
		record(t, s, plan.Decision{Clock: c, Write: true}, night)
		if got := must(s.Clock(t.Context()))(t); got != c {
			t.Errorf("got %+v, want %+v", got, c)
		}
	}
}

func TestADecisionWithoutNewsWritesNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	wrote, err := s.Record(t.Context(), plan.Decision{Clock: plan.Clock{Mark: night, High: night}}, night)
	check(t, err)
	if c := must(s.Clock(t.Context()))(t); wrote || !c.Mark.IsZero() {
		t.Errorf("it was written: %v, %+v", wrote, c)
	}
}

func TestAnEditMovesSinceOnlyWhenItMovesTheFirings(t *testing.T) {
	t.Parallel()
	other := crontab.MustParseSchedule("5 16 * * *")
	seoul, err := time.LoadLocation("Asia/Seoul")
	check(t, err)
	for _, c := range []struct {
		why   string
		edit  func(j *job.Job)
		moves bool
	}{
		{"nothing", func(*job.Job) {}, false},
		{"command", func(j *job.Job) { j.Command.Text = "other" }, false},
		{"policies", func(j *job.Job) { j.Retry.Attempts, j.Overlap = 3, job.OverlapQueue }, false},
		{"place in the file", func(j *job.Job) { j.Source = job.Source{File: "moved", Line: 99} }, false},
		{"owner", func(j *job.Job) { j.Owner = "bob" }, false},
		{"schedule", func(j *job.Job) { j.Schedules[0] = other }, true},
		{"one more schedule", func(j *job.Job) { j.Schedules = append(j.Schedules, other) }, true},
		{"zone", func(j *job.Job) { j.Zone = seoul }, true},
		{"parents", func(j *job.Job) { j.After = []string{"b"} }, true},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			first := save(t, s, night, nightly("a"))[0]
			if !first.Since.Equal(night) || first.Key == "" {
				t.Fatalf("a new job has since %s and key %q", first.Since, first.Key)
			}
			j, now := nightly("a"), night.Add(time.Hour)
			c.edit(j)
			want := night
			if c.moves {
				want = now
			}
			if got := save(t, s, now, j)[0]; !got.Since.Equal(want) || got.Key != first.Key {
				t.Errorf("since is %s and the key %q, want %s and %q", got.Since, got.Key, want, first.Key)
			}
			if got := must(s.Jobs(t.Context()))(t)[0]; !got.Since.Equal(want) || got.Source != j.Source || got.Definition().Hash != j.Definition().Hash {
				t.Errorf("stored is %+v, want what was saved", got)
			}
		})
	}
}

func TestAJobThatWasAwayComesBackAsItselfAndFiresNoPast(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	first := save(t, s, night, nightly("a"), nightly("b"))
	save(t, s, night.Add(time.Hour), nightly("b"))
	known := must(s.KnownJobs(t.Context(), "lake"))(t)
	for _, k := range known {
		if k.Removed != (k.Name == "a") || k.Command != "run "+k.Name {
			t.Errorf("known is %+v", k)
		}
	}
	if jobs := must(s.Jobs(t.Context()))(t); len(jobs) != 2 || !jobs[0].Removed || jobs[1].Removed {
		t.Errorf("stored are %+v, want a as removed", jobs)
	}
	back := save(t, s, night.Add(2*time.Hour), nightly("a"), nightly("b"))
	if back[0].Key != first[0].Key || !back[0].Since.Equal(night.Add(2*time.Hour)) {
		t.Errorf("a is back as %s since %s", back[0].Key, back[0].Since)
	}
	if back[1].Key != first[1].Key || !back[1].Since.Equal(night) {
		t.Errorf("b, which was never away, is %s since %s", back[1].Key, back[1].Since)
	}
}

func TestNamesMoveBetweenJobs(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	first := save(t, s, night, nightly("a"), nightly("b"))
	for _, c := range []struct {
		why   string
		names []string
		keys  []string
	}{
		{"swapped", []string{"b", "a"}, []string{first[0].Key, first[1].Key}},
		{"renamed", []string{"c", "a"}, []string{first[0].Key, first[1].Key}},
		{"the name of a removed one is taken by a new one", []string{"a"}, []string{""}},
		{"and given back", []string{"a"}, []string{first[1].Key}},
	} {
		var jobs []*job.Job
		for _, name := range c.names {
			jobs = append(jobs, nightly(name))
		}
		saved, err := s.SaveJobs(t.Context(), "lake", jobs, c.keys, night.Add(time.Hour))
		if err != nil {
			t.Fatalf("%s: %v", c.why, err)
		}
		for i, p := range saved {
			if c.keys[i] != "" && p.Key != c.keys[i] || p.Key == "" {
				t.Errorf("%s: %s has the key %q, want %q", c.why, p.Name, p.Key, c.keys[i])
			}
		}
	}
}

func TestTwoJobsOfOneNameAreRefusedAndNothingIsChanged(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	save(t, s, night, nightly("a"), nightly("b"))
	if _, err := s.SaveJobs(t.Context(), "lake", []*job.Job{nightly("x"), nightly("x")}, []string{"", ""}, night); err == nil {
		t.Error("they were saved")
	}
	for _, k := range must(s.KnownJobs(t.Context(), "lake"))(t) {
		if k.Removed || k.Name == "x" {
			t.Errorf("half of it was saved: %+v", k)
		}
	}
}

func TestProjectsKeepOutOfEachOthersWay(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	save(t, s, night, nightly("a"))
	other := nightly("a")
	other.Project = "pond"
	must(s.SaveJobs(t.Context(), "pond", []*job.Job{other}, []string{""}, night))(t)
	must(s.SaveJobs(t.Context(), "pond", nil, nil, night))(t)
	if k := must(s.KnownJobs(t.Context(), "lake"))(t); len(k) != 1 || k[0].Removed {
		t.Errorf("the jobs of lake are %+v", k)
	}
}

func TestASourceThatIsStampedNeedsNoMatching(t *testing.T) {
	t.Parallel()
	lines := func() []*job.Job {
		var jobs []*job.Job
		for i, name := range []string{"a", "b", "c"} {
			j := nightly(name)
			j.Source.Line, j.Crontab = 10-i, true
			jobs = append(jobs, j)
		}
		return jobs
	}
	for _, c := range []struct {
		why    string
		happen func(t *testing.T, s *Store)
		stamp  string
		kept   bool
	}{
		{"nothing happened", func(*testing.T, *Store) {}, "1", true},
		{"a job was paused", func(t *testing.T, s *Store) { write(t, s, `UPDATE job SET paused = 1 WHERE name = 'b'`) }, "1", true},
		{"the source is another", func(*testing.T, *Store) {}, "2", false},
		{"an older belfry has saved others", func(t *testing.T, s *Store) {
			write(t, s, `UPDATE job SET definition = (SELECT MIN(hash) FROM definition)`)
		}, "1", false},
		{"one was removed", func(t *testing.T, s *Store) { write(t, s, `UPDATE job SET removed_at = 1 WHERE name = 'b'`) }, "1", false},
		{"saved without a stamp", func(t *testing.T, s *Store) { save(t, s, night, lines()[1:]...) }, "1", false},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			want := save(t, s, night.Add(-day), lines()...)
			check(t, s.StampJobs(t.Context(), "lake", "1"))
			c.happen(t, s)
			jobs := lines()
			for _, j := range jobs {
				j.Name = "" // as an entry of a crontab has none
			}
			got, kept, err := s.KeptJobs(t.Context(), "lake", c.stamp, jobs)
			check(t, err)
			if kept != c.kept || len(got) != len(want) && kept {
				t.Fatalf("kept: %v, %d jobs", kept, len(got))
			}
			for i := range got {
				if got[i].Key != want[i].Key || got[i].Name != want[i].Name || !got[i].Since.Equal(want[i].Since) || got[i].Job != jobs[i] {
					t.Errorf("number %d is %+v, want %+v", i, got[i], want[i])
				}
				if got[i].Paused != (c.why == "a job was paused" && got[i].Name == "b") {
					t.Errorf("%s is paused: %v", got[i].Name, got[i].Paused)
				}
			}
		})
	}
}

func TestSaveJobsWritesOnlyWhatHasChanged(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	save(t, s, night, nightly("a"), nightly("b"), nightly("c"))
	before := pragma(t, s.read, "data_version")
	save(t, s, night.Add(day), nightly("a"), nightly("b"), nightly("c"))
	if after := pragma(t, s.read, "data_version"); after != before {
		t.Error("equal jobs were written again")
	}
	write(t, s, `UPDATE job SET timing = 'as it was' WHERE name = 'b'`)
	write(t, s, `UPDATE job SET owner = 'watched' WHERE name = 'c'`)
	got := save(t, s, night.Add(2*day), nightly("a"), nightly("b"))
	if !got[0].Since.Equal(night) || !got[1].Since.Equal(night.Add(2*day)) {
		t.Errorf("since are %s and %s", got[0].Since, got[1].Since)
	}
}

func TestAJobThatIsEditedBeforeItRanLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	save(t, s, night, nightly("a"), nightly("b"))
	edited := nightly("a")
	edited.Command.Text = "other"
	save(t, s, night, edited, nightly("b"))
	if found := must(s.Check(t.Context()))(t); len(found) > 0 {
		t.Errorf("the account is said to be damaged: %q", found)
	}
}

func TestARunThatStartsAfterAnEditLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"))
	edited := nightly("a")
	edited.Command.Text = "other"
	save(t, s, night, edited)
	r := read(t, s, ids["a"])
	c := claimOf(r, night)
	c.Definition = edited.Definition()
	if claimed := must(s.Claim(t.Context(), []run.Claim{c}))(t); !claimed[0] {
		t.Fatal("it was not claimed")
	}
	if found := must(s.Check(t.Context()))(t); len(found) > 0 {
		t.Errorf("the account is said to be damaged: %q", found)
	}
}

func TestACommandThatAnOlderBelfryLeftBehindIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	save(t, s, night, nightly("a"))
	write(t, s, `UPDATE job SET command = 'stale', command_of = 'another'`)
	if k := must(s.KnownJobs(t.Context(), "lake"))(t); k[0].Command != "run a" {
		t.Errorf("it is known by %q", k[0].Command)
	}
}

// BenchmarkHundredThousandJobs is a crontab of that many lines: saved first,
// again when nothing has changed, and found by its stamp.
func BenchmarkHundredThousandJobs(b *testing.B) {
	var jobs []*job.Job
	for i := range 100_000 {
		j := nightly(fmt.Sprintf("j%d", i))
		j.Source.Line = i + 1
		jobs = append(jobs, j)
	}
	none := make([]string, len(jobs))
	var first, again, known, kept time.Duration
	for b.Loop() {
		s := openStore(b)
		start := time.Now()
		saved := must(s.SaveJobs(b.Context(), "lake", jobs, none, night))(b)
		first += time.Since(start)
		keys := make([]string, len(jobs))
		for i, j := range saved {
			keys[i] = j.Key
		}
		start = time.Now()
		must(s.KnownJobs(b.Context(), "lake"))(b)
		known += time.Since(start)
		start = time.Now()
		must(s.SaveJobs(b.Context(), "lake", jobs, keys, night))(b)
		again += time.Since(start)
		check(b, s.StampJobs(b.Context(), "lake", "1"))
		start = time.Now()
		_, ok, err := s.KeptJobs(b.Context(), "lake", "1", jobs)
		check(b, err)
		kept += time.Since(start)
		if !ok {
			b.Fatal("not kept")
		}
	}
	for name, d := range map[string]time.Duration{"first": first, "again": again, "known": known, "kept": kept} {
		b.ReportMetric(float64(d.Milliseconds())/float64(b.N), name+"-ms")
	}
}

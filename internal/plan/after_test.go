package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"belfry/crontab"
	"belfry/internal/job"
)

// links writes down what a decision ties to earlier runs.
func links(d Decision) string {
	var lines []string
	for _, l := range d.Links {
		lines = append(lines, fmt.Sprintf("%s %s waits for %s", l.Child.Job, l.Child.FiresAt.UTC().Format("02 15:04"), told(d.Runs[l.Parent:l.Parent+1])))
	}
	return strings.Join(lines, "\n")
}

func TestStoriesOfJobsAfterOthersByDate(t *testing.T) {
	t.Parallel()
	const start = "2024-05-15T00:30:00Z"
	early, late := newJob("early", time.UTC, "0 2 * * *"), newJob("late", time.UTC, "0 10 * * *")
	t.Run("a child has a run for each date, when its last parent fires", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, start, family(early, late, child("c", "early", "late"))...)
		w.live(9 * time.Hour)
		w.want("at 09:30", "due early 15 02:00")
		w.live(24 * time.Hour)
		if r := w.runs[1]; r.Key != "a/2024-05-15T10:00:00Z/0" || !slices.Equal(r.Parents, []int{0}) || r.Named.Format(time.DateOnly) != "2024-05-15" {
			t.Errorf("the child's run is %+v", r)
		}
		w.want("the earlier one is in the store already", "due late 15 10:00\nwaits c 15 10:00 after early 15 02:00\ndue early 16 02:00")
	})
	t.Run("all firings that a parent has on the date", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, start, family(newJob("often", time.UTC, "0 1,5,12 * * *"), late, child("c", "often", "late"))...)
		w.live(23 * time.Hour)
		w.want("", "due often 15 01:00\ndue often 15 05:00\ndue late 15 10:00\ndue often 15 12:00\nwaits c 15 12:00 after often 15 01:00 after often 15 05:00 after late 15 10:00")
	})
	t.Run("a parent without a firing on the date is not waited for", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, start, family(early, newJob("weekly", time.UTC, "0 10 * * 4"), child("c", "early", "weekly"))...)
		w.live(36 * time.Hour)
		w.want("Wednesday has one parent, Thursday two", "due early 15 02:00\nwaits c 15 02:00\ndue early 16 02:00\ndue weekly 16 10:00\nwaits c 16 10:00 after early 16 02:00")
	})
	t.Run("the date is each parent's own", func(t *testing.T) {
		t.Parallel()
		seoul, ny := newJob("seoul", zone(t, "Asia/Seoul"), "0 1 * * *"), newJob("ny", zone(t, "America/New_York"), "0 22 * * *")
		w := newWorld(t, start, family(seoul, ny, child("c", "seoul", "ny"))...)
		w.live(27 * time.Hour)
		w.want("the 15th of Seoul was before the start, the 14th of New York has no 14th of Seoul in the store", `
			due ny 15 02:00
			waits c 15 02:00 after seoul 13 16:00
			due seoul 15 16:00
			due ny 16 02:00
			waits c 16 02:00 after seoul 14 16:00`)
	})
	t.Run("a missed parent skips the child, whichever it is", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, start, family(early, late, child("c", "early", "late"), child("d", "c"))...)
		w.live(5 * time.Hour)
		w.forget()
		w.down(12 * time.Hour)
		w.decide()
		reason := ": belfry was not running from 2024-05-15 05:30:00 UTC to 2024-05-15 17:30:00 UTC"
		w.want("", "missed late 15 10:00"+reason+"\nskipped c 15 10:00 after early 15 02:00: dependency: late was missed\nskipped d 15 10:00: dependency: c was skipped")
	})
	t.Run("a child with a schedule waits for the parents of its date, also those to come", func(t *testing.T) {
		t.Parallel()
		own := with(latest(newJob("own", time.UTC, "0 6 * * *")), func(j *job.Job) { j.After = []string{"early", "late"} })
		w := newWorld(t, start, early, late, own)
		w.live(6 * time.Hour)
		if r := w.runs[1]; r.Key != "t/2024-05-15T06:00:00Z/0" || r.Cause != Scheduled || r.Reason != DependencyReason {
			t.Errorf("its run is %+v", r)
		}
		w.want("", "due early 15 02:00\nwaits own 15 06:00 after early 15 02:00 and until 15 10:00")
		w.live(3 * time.Hour)
		w.want("nothing at 09:30", "")
		w.pass(30 * time.Minute)
		d := w.decide()
		w.want("", "due late 15 10:00")
		if got, want := links(d), "key-own 15 06:00 waits for due late 15 10:00"; got != want {
			t.Errorf("the decision ties %q, want %q", got, want)
		}
	})
	t.Run("a child with a schedule whose parents have nothing on the date", func(t *testing.T) {
		t.Parallel()
		own := with(latest(newJob("own", time.UTC, "0 6 * * *")), func(j *job.Job) { j.After = []string{"monthly"} })
		w := newWorld(t, start, newJob("monthly", time.UTC, "0 2 1 * *"), own)
		w.live(6 * time.Hour)
		w.want("runs", "due own 15 06:00")
	})
	t.Run("a child with its parents' schedule joins them instant by instant", func(t *testing.T) {
		t.Parallel()
		own := with(latest(newJob("own", time.UTC, "0 * * * *")), func(j *job.Job) { j.After = []string{"hourly"} })
		w := newWorld(t, start, newJob("hourly", time.UTC, "0 * * * *"), own)
		w.live(90 * time.Minute)
		if r := w.runs[1]; !slices.Equal(r.Parents, []int{0}) {
			t.Errorf("its parents are %v", r.Parents)
		}
		w.want("and waits for no other hour", "due hourly 15 01:00\nwaits own 15 01:00\ndue hourly 15 02:00\nwaits own 15 02:00")
	})
	t.Run("a child with a schedule of its own is caught up, and missed, as that says", func(t *testing.T) {
		t.Parallel()
		own := with(latest(newJob("own", time.UTC, "0 6,7 * * *")), func(j *job.Job) { j.After = []string{"early"} })
		w := newWorld(t, start, early, own)
		w.live(2 * time.Hour)
		w.forget()
		w.down(10 * time.Hour)
		w.decide()
		reason := ": belfry was not running from 2024-05-15 02:30:00 UTC to 2024-05-15 12:30:00 UTC"
		w.want("", "missed own 15 06:00"+reason+"; only the latest firing is caught up\nwaits own 15 07:00 catch-up after early 15 02:00")
	})
	t.Run("who waits is let go when the time has come, and looked at then", func(t *testing.T) {
		t.Parallel()
		now := at(t, start)
		waits := []Wait{{"now", now}, {"past", now.Add(-time.Hour)}, {"soon", now.Add(30 * time.Second)}, {"later", now.Add(time.Hour)}, {"in 2030", now.AddDate(6, 0, 0)}}
		d := Decide(Input{Now: Reading{Wall: now}, Jobs: NewCalendar(nil), Waits: waits})
		if want := []string{"now", "past", "in 2030"}; !slices.Equal(d.Released, want) || !d.Wake.Equal(now.Add(30*time.Second)) {
			t.Errorf("released %v and wakes at %v, want %v and in half a minute", d.Released, d.Wake, want)
		}
	})
}

func TestStoriesOfCatchingUp(t *testing.T) {
	t.Parallel()
	all := func(j Job, window time.Duration) Job {
		return with(j, func(j *job.Job) { j.CatchUp, j.CatchUpWindow = job.CatchUpAll, window })
	}
	for _, c := range []struct {
		why  string
		job  Job
		down time.Duration
		want []string // the rows, without the reason of the gap
	}{
		{"all of the window", all(newJob("a", time.UTC, "0 * * * *"), 3*time.Hour), 5*time.Hour + 30*time.Minute, []string{
			"missed 13:00; only firings of the last 3h are caught up", "missed 14:00; only firings of the last 3h are caught up", "due 15:00", "due 16:00", "due 17:00",
		}},
		{"a firing as old as the window is caught up", all(newJob("a", time.UTC, "0 * * * *"), 2*time.Hour), 3 * time.Hour, []string{"due 13:00", "due 14:00", "due 15:00"}},
		{"latest within its own window", with(latest(newJob("a", time.UTC, "0 * * * *")), func(j *job.Job) { j.CatchUpWindow = 20 * time.Minute }), 2*time.Hour + 30*time.Minute, []string{
			"missed 13:00; only the latest firing is caught up", "missed 14:00; only firings of the last 20m are caught up",
		}},
		{"the latest five minutes run for every job", all(newJob("a", time.UTC, "0 * * * *"), time.Minute), time.Hour + 4*time.Minute, []string{"due 13:00"}},
		{"none", newJob("a", time.UTC, "0 * * * *"), time.Hour + 30*time.Minute, []string{"missed 13:00"}},
	} {
		w := newWorld(t, "2024-05-15T12:00:00Z", c.job)
		w.down(c.down)
		w.decide()
		var got []string
		for _, r := range w.runs {
			_, why, _ := strings.Cut(r.Reason, ";")
			if why != "" {
				why = ";" + why
			}
			got = append(got, verdicts[r.Verdict]+" "+r.FiresAt.Format("15:04")+why)
			if r.Reason == "" && w.wall.Sub(r.FiresAt) >= late || r.Verdict == Due && r.Cause != CatchUp && w.wall.Sub(r.FiresAt) > late {
				t.Errorf("%s: nothing says why %s", c.why, told([]Run{r}))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.why, got, c.want)
		}
	}
	t.Run("a hundred at most", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", all(newJob("a", time.UTC, "* * * * *"), 0))
		w.down(205*time.Minute + 30*time.Second)
		w.decide()
		if first := w.runs[0]; first.Count != 105 || first.Verdict != Missed || !strings.HasSuffix(first.Reason, "; only the latest 100 firings are caught up") {
			t.Errorf("the older ones are %s", told(w.runs[:1]))
		}
		for _, r := range w.runs[1:] {
			if r.Verdict != Due || r.Count != 1 {
				t.Errorf("one of the newest is %s", told([]Run{r}))
			}
		}
		if len(w.runs) != 101 {
			t.Errorf("%d rows, want one and a hundred", len(w.runs))
		}
	})
	t.Run("after a sleep, too", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", all(newJob("a", time.UTC, "0 * * * *"), 0))
		w.sleep(4 * time.Hour)
		w.live(30 * time.Second)
		w.decide()
		if len(w.runs) != 4 || w.runs[0].Verdict != Due || w.runs[0].Cause != CatchUp || !strings.Contains(w.runs[0].Reason, "slept") {
			t.Errorf("got %s", told(w.runs))
		}
	})
}

func TestStoriesOfClocksThatAreSetOften(t *testing.T) {
	t.Parallel()
	fixed, wild := newJob("fixed", time.UTC, "5 0-23 * * *"), newJob("wild", time.UTC, "*/30 * * * *")
	t.Run("back by exactly three hours is waited for", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", fixed, wild)
		w.live(time.Minute)
		w.step(-large)
		w.live(40 * time.Minute)
		w.want("a fixed one is silent until 12:01", "due wild 15 09:30 era 1")
	})
	t.Run("and more, when it is looked at, is not", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", fixed, wild)
		w.live(time.Minute)
		w.step(-large - time.Minute - time.Second)
		w.live(40 * time.Minute)
		w.want("", "due wild 15 09:00 era 1\ndue fixed 15 09:05 era 1\ndue wild 15 09:30 era 1")
	})
	t.Run("ahead by exactly three hours replays fixed ones", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("fixed", time.UTC, "30 13 * * *"))
		w.live(30 * time.Second)
		w.pass(15 * time.Second)
		w.step(large - 45*time.Second) // the gap is what counts
		w.decide()
		if len(w.runs) != 1 || w.runs[0].Verdict != Due {
			t.Errorf("got %s", told(w.runs))
		}
		w = newWorld(t, "2024-05-15T12:00:00Z", newJob("fixed", time.UTC, "30 13 * * *"))
		w.live(30 * time.Second)
		w.step(large + time.Minute)
		w.decide()
		if len(w.runs) != 1 || w.runs[0].Verdict != Missed {
			t.Errorf("by more: got %s", told(w.runs))
		}
	})
	t.Run("while a job is paused its firings are skipped, and replayed ones too", func(t *testing.T) {
		t.Parallel()
		paused := newJob("fixed", time.UTC, "30 12 * * *")
		paused.Paused = true
		w := newWorld(t, "2024-05-15T12:00:00Z", paused)
		w.live(30 * time.Second)
		w.step(time.Hour)
		w.live(time.Minute)
		w.want("", "skipped fixed 15 12:30 catch-up: paused")
		w.step(-time.Hour)
		w.live(31 * time.Minute)
		w.want("nor a second time", "")
		resumed := paused
		resumed.Paused, resumed.Since = false, w.wall
		w.jobs = []Job{resumed}
		w.live(24 * time.Hour)
		w.want("nothing of the pause is run", "due fixed 16 12:30 era 1")
	})
}

// Whatever the schedules of parents are, each date (or instant) of theirs has
// one run of the child, also over restarts.
func TestAChildHasOneRunForEachFiringOfItsRhythms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		start, jobs := someJobs(rt)
		c := latest(newJob("child", time.UTC))
		for _, j := range jobs {
			c.After = append(c.After, j.Name)
		}
		own := rapid.Bool().Draw(rt, "a schedule of its own")
		if own {
			c.Schedules = []crontab.Schedule{crontab.MustParseSchedule("0 6 * * *")}
		}
		jobs = family(append(jobs, c, child("grandchild", "child"))...)
		w := newWorld(rt, start.Format(time.RFC3339Nano), jobs...)
		for range rapid.IntRange(1, 4).Draw(rt, "events") {
			w.live(time.Duration(rapid.Int64Range(0, 5*3600_000).Draw(rt, "for")) * time.Millisecond)
			if rapid.Bool().Draw(rt, "restart") {
				w.down(time.Duration(rapid.Int64Range(0, 5*3600_000).Draw(rt, "down")) * time.Millisecond)
				w.decide()
			}
		}
		compare(rt, accounts(rt, w.runs), schedulesSay(jobs, start, w.last.Wall))
	})
}

package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"belfry/internal/job"
)

func TestStoriesOfAnUndisturbedDaemon(t *testing.T) {
	t.Parallel()
	t.Run("a first start fires nothing of the past", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("cron", time.UTC, "* * * * *"), latest(newJob("yaml", time.UTC, "0 12 * * *")))
		w.want("nor of the very instant, which is cron's rule", "")
	})
	t.Run("a firing is due at its instant, and once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T11:57:23Z", newJob("a", time.UTC, "*/2 * * * *"), newJob("b", time.UTC, "0 12 * * *"))
		w.live(90 * time.Second)
		w.want("at 11:58:53", "due a 15 11:58")
		w.live(66*time.Second + 999*time.Millisecond)
		w.want("a millisecond before 12:00", "")
		w.live(time.Millisecond)
		w.want("at 12:00", "due a 15 12:00\ndue b 15 12:00")
		d := w.decide()
		if len(d.Runs) > 0 || d.Write {
			t.Errorf("decided again in the same instant: %+v", d)
		}
		w.live(3 * time.Minute)
		w.want("until 12:03", "due a 15 12:02")
	})
	t.Run("an idle minute gives nothing to write", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "0 1 * * *"))
		for range 300 {
			w.pass(time.Minute)
			if d := w.decide(); d.Write || len(d.Runs)+len(d.Expired) > 0 {
				t.Fatalf("at %v there is something to write: %+v", w.wall, d)
			}
		}
	})
	t.Run("several schedules that meet in an instant are one firing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T11:58:00Z", newJob("a", time.UTC, "0 12 * * *", "*/30 * * * *", "15 12 * * *", "0 12 15 * *"))
		w.live(time.Hour)
		w.want("", "due a 15 12:00\ndue a 15 12:15\ndue a 15 12:30")
	})
	t.Run("jobs in different zones", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T00:00:00Z", newJob("seoul", zone(t, "Asia/Seoul"), "0 1 * * *"), newJob("utc", time.UTC, "0 1 * * *"))
		w.live(24 * time.Hour)
		if named := w.runs[1].Named.Format("2006-01-02 15:04"); named != "2024-05-16 01:00" {
			t.Errorf("the firing in Seoul is named %s, want its own date", named)
		}
		w.want("one in the morning is not the same", "due utc 15 01:00\ndue seoul 15 16:00")
	})
	t.Run("a job that fires every minute", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T00:00:00Z", newJob("a", time.UTC, "* * * * *"))
		w.live(24 * time.Hour)
		if len(w.runs) != 1440 {
			t.Errorf("%d runs in a day, want 1440", len(w.runs))
		}
	})
}

func TestStoriesOfRestarts(t *testing.T) {
	t.Parallel()
	both := []Job{newJob("cron", time.UTC, "*/2 * * * *"), latest(newJob("yaml", time.UTC, "*/2 * * * *"))}
	t.Run("after three minutes the latest firing runs, late, for both kinds", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", both...)
		w.live(30 * time.Second)
		w.down(5 * time.Minute)
		w.decide()
		w.want("at 12:05:30; older ones are missed, and the reason names the downtime", `
			missed cron 15 12:02: belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 12:05:30 UTC
			due cron 15 12:04 catch-up: belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 12:05:30 UTC
			missed yaml 15 12:02: belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 12:05:30 UTC; only the latest firing is caught up
			due yaml 15 12:04 catch-up: belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 12:05:30 UTC`)
		w.live(90 * time.Second)
		w.want("and then it goes on", "due cron 15 12:06\ndue yaml 15 12:06")
	})
	t.Run("a restart of a moment loses nothing and doubles nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", both[0])
		w.live(2*time.Minute + 50*time.Second)
		w.down(20 * time.Second)
		w.decide()
		w.want("at 12:03:10", "due cron 15 12:02")
		w.live(40 * time.Second)
		w.down(15 * time.Second)
		w.decide()
		w.want("at 12:04:05: the firing of the downtime is on time", "due cron 15 12:04")
	})
	t.Run("the latest firing is older than five minutes", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			down time.Duration
			want string
			why  string
		}{
			{10 * time.Minute, "due cron\ndue yaml", "five minutes to the second after 12:05"},
			{10*time.Minute + time.Second, "missed cron\ndue yaml", "cron's rule for a crontab job, the window of a day for the other"},
			{24*time.Hour + 5*time.Minute - time.Second, "missed cron\ndue yaml", "23:59:59 after 12:05"},
			{24*time.Hour + 4*time.Minute, "missed cron\ndue yaml", ""},
		} {
			w := newWorld(t, "2024-05-15T12:00:00Z", newJob("cron", time.UTC, "5 12 15 5 *"), latest(newJob("yaml", time.UTC, "5 12 15 5 *")))
			w.down(c.down)
			w.decide()
			var got []string
			for _, r := range w.runs {
				got = append(got, verdicts[r.Verdict]+" "+r.Job.Name)
			}
			if strings.Join(got, "\n") != c.want {
				t.Errorf("down for %v: %q, want %q: %s", c.down, got, c.want, c.why)
			}
		}
	})
	t.Run("a firing of more than a day ago is not caught up", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			down time.Duration
			want Verdict
		}{{24*time.Hour + time.Minute, Due}, {24*time.Hour + time.Minute + time.Second, Missed}} {
			w := newWorld(t, "2024-05-15T12:00:00Z", latest(newJob("yaml", time.UTC, "1 12 15 5 *")))
			w.down(c.down)
			w.decide()
			if len(w.runs) != 1 || w.runs[0].Verdict != c.want {
				t.Errorf("down for %v: %s, want %s", c.down, told(w.runs), verdicts[c.want])
			}
		}
	})
	t.Run("more than a hundred missed firings in a row share a row", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("few", time.UTC, "*/30 * * * *"), newJob("many", time.UTC, "* * * * *"))
		w.down(5*time.Hour + 6*time.Minute + 30*time.Second)
		w.decide()
		few := w.runs[:len(w.runs)-2]
		if len(few) != 10 || few[9].Count != 1 {
			t.Errorf("few:\n%s\nwant a row each", told(few))
		}
		w.runs = w.runs[len(w.runs)-2:]
		w.want("", `
			missed many 15 12:01 until 15 17:05 ×305: belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 17:06:30 UTC
			due many 15 17:06`)
	})
	t.Run("exactly a hundred missed firings have a row each", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "* * * * *"))
		w.down(101 * time.Minute)
		w.decide()
		if len(w.runs) != 101 || w.runs[99].Count != 1 || w.runs[100].Verdict != Due {
			t.Errorf("%d rows, the last %s", len(w.runs), told(w.runs[len(w.runs)-1:]))
		}
	})
	t.Run("nobody knows since when no daemon was there", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "1 12 * * *"))
		w.down(time.Hour)
		w.alive = time.Time{}
		w.decide()
		w.want("", "missed a 15 12:01: belfry was not running until 2024-05-15 13:00:00 UTC")
	})
	t.Run("a mark that lies years back", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "1970-01-01T00:01:00Z", newJob("a", time.UTC, "0 0 * * *"))
		w.step(54 * 366 * 24 * time.Hour)
		w.decide()
		if len(w.runs) != 1 || w.runs[0].Count != 366 {
			t.Errorf("got %s, want one row for the last year: more would take a clock without a battery minutes to plan", told(w.runs))
		}
	})
}

func TestStoriesOfTheClock(t *testing.T) {
	t.Parallel()
	wildcard, fixed := newJob("wild", time.UTC, "*/10 * * * *"), newJob("fixed", time.UTC, "5-55/10 0-23 * * *")
	t.Run("set back by up to a minute: nothing is doubled", func(t *testing.T) {
		t.Parallel()
		for _, back := range []time.Duration{time.Millisecond, 30 * time.Second, time.Minute} {
			w := newWorld(t, "2024-05-15T11:59:00Z", wildcard, fixed)
			w.live(time.Minute + 100*time.Millisecond)
			w.step(-back)
			w.live(9 * time.Minute)
			w.want(fmt.Sprint("by ", back), "due wild 15 12:00\ndue fixed 15 12:05")
			if w.clock.Era != 0 {
				t.Errorf("back by %v: the era grew", back)
			}
		}
	})
	t.Run("set back by half an hour: fixed ones wait, wildcard ones go on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", wildcard, fixed)
		w.live(6 * time.Minute)
		w.forget()
		w.step(-30 * time.Minute) // 11:36, lived through until 12:06
		w.live(45 * time.Minute)
		w.want("until 12:21", `
			due wild 15 11:40 era 1
			due wild 15 11:50 era 1
			due wild 15 12:00 era 1
			due wild 15 12:10 era 1
			due fixed 15 12:15 era 1
			due wild 15 12:20 era 1`)
		if w.clock.Era != 1 {
			t.Errorf("era %d, want 1: it grows once a step", w.clock.Era)
		}
	})
	t.Run("set back: a job of every minute has no hole", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("wild", time.UTC, "* * * * *"))
		w.live(90 * time.Second)
		w.step(-10 * time.Minute)
		w.live(90 * time.Second)
		w.want("12:01:30 was followed by 11:51:30", "due wild 15 12:01\ndue wild 15 11:52 era 1\ndue wild 15 11:53 era 1")
	})
	t.Run("set back while no daemon was there", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", wildcard, fixed)
		w.live(6 * time.Minute)
		w.forget()
		w.step(-20 * time.Minute)
		w.down(10 * time.Second)
		w.decide()
		w.live(21 * time.Minute)
		w.want("until 12:07", "due wild 15 11:50 era 1\ndue wild 15 12:00 era 1")
	})
	t.Run("set back by four hours: everything goes on from the new time", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", wildcard, fixed)
		w.live(6 * time.Minute)
		w.forget()
		w.step(-4 * time.Hour)
		w.live(15 * time.Minute)
		w.want("until 08:21", "due wild 15 08:10 era 1\ndue fixed 15 08:15 era 1\ndue wild 15 08:20 era 1")
	})
	t.Run("set back by two hours three times: fixed ones do not wait for six", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", fixed)
		for range 3 {
			w.step(-2 * time.Hour)
			w.live(2 * time.Minute)
		}
		w.live(2 * time.Hour)
		w.want("until 08:06: the second step began anew, the third waits for it", "due fixed 15 08:05 era 3")
	})
	t.Run("a clock that was briefly in 2030 silences nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", wildcard, fixed)
		ahead := 6 * 365 * 24 * time.Hour
		w.step(ahead)
		w.live(2 * time.Minute)
		edited := newJob("edited", time.UTC, "*/10 * * * *")
		edited.Since = w.wall
		w.jobs = append(w.jobs, edited) // written while the clock was wrong
		w.live(2 * time.Minute)
		w.forget()
		w.step(-ahead)
		w.live(8 * time.Minute) // from 12:04
		w.want("until 12:12, with the next minute's look", "due fixed 15 12:05 era 1\ndue wild 15 12:10 era 1\ndue edited 15 12:10 era 1")
	})
	t.Run("set back and soon set right again: what was planned is not missed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T11:35:00Z", wildcard, fixed)
		w.live(30 * time.Minute)
		w.forget()
		w.step(-30 * time.Minute)
		w.live(2 * time.Minute)
		w.step(30 * time.Minute)
		w.live(5 * time.Minute)
		w.want("from 12:05 until 12:12", "due wild 15 12:10 era 1")
	})
	t.Run("set ahead by a little: every minute runs", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("wild", time.UTC, "* * * * *"))
		w.live(30 * time.Second)
		w.step(3 * time.Minute)
		w.live(30 * time.Second)
		reason := " catch-up: the clock was set ahead by 3m0s at 2024-05-15 12:04:00 UTC"
		w.want("", "due wild 15 12:01"+reason+"\ndue wild 15 12:02"+reason+"\ndue wild 15 12:03"+reason+"\ndue wild 15 12:04")
	})
	t.Run("set ahead by an hour: fixed ones are replayed, of wildcard ones the present minute", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("wild", time.UTC, "*/30 * * * *"), newJob("fixed", time.UTC, "30 12 * * *"), latest(newJob("yaml", time.UTC, "20,40 12 * * *")))
		w.live(30 * time.Second)
		w.step(time.Hour)
		w.live(30 * time.Second)
		reason := ": the clock was set ahead by 1h0m0s at 2024-05-15 13:01:00 UTC"
		w.want("a job of a belfry.yaml runs its latest", "missed wild 15 12:30"+reason+"\nmissed wild 15 13:00"+reason+
			"\ndue fixed 15 12:30 catch-up"+reason+"\nmissed yaml 15 12:20"+reason+"; only the latest firing is caught up\ndue yaml 15 12:40 catch-up"+reason)
	})
	t.Run("set ahead by four hours: what was skipped is missed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("fixed", time.UTC, "30 12 * * *"), latest(newJob("yaml", time.UTC, "30 12 * * *")), newJob("now", time.UTC, "1 16 * * *"))
		w.live(30 * time.Second)
		w.step(4 * time.Hour)
		w.live(30 * time.Second)
		reason := ": the clock was set ahead by 4h0m0s at 2024-05-15 16:01:00 UTC"
		w.want("but for a job that catches up, and the present minute", "missed fixed 15 12:30"+reason+"\ndue yaml 15 12:30 catch-up"+reason+"\ndue now 15 16:01")
	})
	t.Run("the machine sleeps", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("wild", time.UTC, "*/30 * * * *"), newJob("fixed", time.UTC, "30 12 * * *"))
		w.live(30 * time.Second)
		w.sleep(time.Hour)
		w.live(30 * time.Second)
		reason := ": the machine slept from 2024-05-15 12:00:00 UTC to 2024-05-15 13:01:00 UTC"
		w.want("the reason says so", "missed wild 15 12:30"+reason+"\nmissed wild 15 13:00"+reason+"\ndue fixed 15 12:30 catch-up"+reason)
	})
	t.Run("the daemon was stopped by a signal for ten minutes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("wild", time.UTC, "*/5 * * * *"))
		w.pass(9*time.Minute + 30*time.Second)
		w.decide()
		w.want("", "missed wild 15 12:05: belfry was held up from 2024-05-15 12:00:00 UTC to 2024-05-15 12:09:30 UTC")
	})
}

func TestStoriesOfDaylightSaving(t *testing.T) {
	t.Parallel()
	ny := zone(t, "America/New_York")
	jobs := []Job{newJob("fixed", ny, "30 2 * * *"), newJob("one", ny, "30 1 * * *"), newJob("wild", ny, "30 * * * *"), newJob("seoul", zone(t, "Asia/Seoul"), "30 15 * * *")}
	t.Run("the hour that is skipped", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-03-10T05:00:00Z", jobs...) // midnight
		w.live(4 * time.Hour)
		if named := w.runs[4].Named.Format("15:04"); named != "02:30" {
			t.Errorf("the firing after the gap is named %s, want 02:30", named)
		}
		w.want("until 05:00 EDT", `
			due wild 10 05:30
			due one 10 06:30
			due wild 10 06:30
			due seoul 10 06:30
			due fixed 10 07:00
			due wild 10 07:30
			due wild 10 08:30`)
	})
	t.Run("the hour that is repeated", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-11-03T04:00:00Z", jobs...) // midnight
		w.live(4 * time.Hour)
		w.want("until 03:00 EST: the fixed one once, the wildcard one in both", `
			due wild 03 04:30
			due one 03 05:30
			due wild 03 05:30
			due wild 03 06:30
			due seoul 03 06:30
			due fixed 03 07:30
			due wild 03 07:30`)
	})
	t.Run("the daemon is away during the change", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-03-10T06:45:00Z", latest(newJob("fixed", ny, "30 2 * * *")))
		w.down(2 * time.Hour)
		w.decide()
		if len(w.runs) != 1 || w.runs[0].Verdict != Due || w.runs[0].Named.Format("15:04") != "02:30" {
			t.Errorf("got %s, want the firing of 02:30, late", told(w.runs))
		}
	})
}

func TestStoriesOfJobs(t *testing.T) {
	t.Parallel()
	t.Run("an edit never fires the past", func(t *testing.T) {
		t.Parallel()
		for _, down := range []bool{false, true} {
			w := newWorld(t, "2024-05-15T12:00:00Z", latest(newJob("a", time.UTC, "0 18 * * *")))
			if down {
				w.down(time.Hour)
			} else {
				w.live(time.Hour)
			}
			edited := latest(newJob("a", time.UTC, "*/10 * * * *"))
			edited.Since = w.wall // 13:00, itself a firing
			w.jobs = []Job{edited}
			w.decide()
			w.want("neither with a daemon nor without", "")
			w.live(10 * time.Minute)
			w.want("from then on it fires", "due a 15 13:10")
		}
	})
	t.Run("a shadow accounts for what it would have run, and for what it was not there for", func(t *testing.T) {
		t.Parallel()
		paused := newJob("b", time.UTC, "0 * * * *")
		paused.Paused = true
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "0 * * * *"), paused, child("c", "a"))
		w.shadow = true
		w.live(time.Hour)
		w.want("", "skipped a 15 13:00: shadow\nskipped b 15 13:00: paused\nskipped c 15 13:00: shadow")
		w.jobs = w.jobs[:1]
		w.down(90 * time.Minute)
		w.decide()
		w.want("", "missed a 15 14:00: belfry was not running from 2024-05-15 13:00:00 UTC to 2024-05-15 14:30:00 UTC")
		w.shadow = false
		w.live(time.Hour)
		w.want("from the switch on it runs", "due a 15 15:00")
	})
	t.Run("a paused job is skipped, and one that was not reached is missed", func(t *testing.T) {
		t.Parallel()
		paused := newJob("a", time.UTC, "0 * * * *")
		paused.Paused = true
		w := newWorld(t, "2024-05-15T12:00:00Z", paused, child("b", "a"))
		w.live(time.Hour)
		w.want("", "skipped a 15 13:00: paused\nskipped b 15 13:00: dependency: a was skipped")
		w.down(90 * time.Minute)
		w.decide()
		reason := "belfry was not running from 2024-05-15 13:00:00 UTC to 2024-05-15 14:30:00 UTC"
		w.want("", "missed a 15 14:00: "+reason+"\nskipped b 15 14:00: dependency: a was missed")
	})
	t.Run("@reboot runs once a boot", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "@reboot", "@reboot", "0 13 * * *"), child("b", "a"))
		w.want("at the first start", "due a 15 12:00 reboot")
		w.live(2 * time.Hour)
		w.want("then its other schedule, and that has a child", "due a 15 13:00\nwaits b 15 13:00")
		w.down(time.Minute)
		w.decide()
		w.want("not at a restart", "")
		w.reboot(2 * time.Minute)
		w.jobs = append(w.jobs, newJob("late", time.UTC, "@reboot"))
		w.decide()
		w.want("at the next boot", "due a 15 14:03 reboot\ndue late 15 14:03 reboot")
		w.jobs = append(w.jobs, newJob("new", time.UTC, "@reboot"))
		w.live(time.Hour)
		w.want("one that is written later waits for the next boot", "")
	})
	t.Run("the node is part of what tells @reboot runs apart", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "@reboot"))
		if got := w.runs[0].Key; got != "r/node/boot-1" {
			t.Errorf("key %s", got)
		}
	})
}

func TestStoriesOfJobsAfterOthers(t *testing.T) {
	t.Parallel()
	t.Run("a chain of three", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "*/30 * * * *"), child("b", "a"), child("c", "b"))
		w.live(30 * time.Minute)
		if b, c := w.runs[1], w.runs[2]; !slices.Equal(b.Parents, []int{0}) || !slices.Equal(c.Parents, []int{1}) || b.Reason != DependencyReason || b.Key != "a/2024-05-15T12:30:00Z/0" {
			t.Errorf("b %+v\nc %+v", b, c)
		}
		w.want("each waits for the one before", "due a 15 12:30\nwaits b 15 12:30\nwaits c 15 12:30")
		w.down(45 * time.Minute)
		w.decide()
		reason := ": belfry was not running from 2024-05-15 12:30:00 UTC to 2024-05-15 13:15:00 UTC"
		w.want("a missed parent skips the chain, each naming its own", "missed a 15 13:00"+reason+"\nskipped b 15 13:00: dependency: a was missed\nskipped c 15 13:00: dependency: b was skipped")
	})
	t.Run("each firing of a parent has a child, and the late one's runs", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", latest(newJob("a", time.UTC, "0 13,14 * * *")), child("b", "a"))
		w.down(3 * time.Hour)
		w.decide()
		reason := ": belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 15:00:00 UTC"
		w.want("", "missed a 15 13:00"+reason+"; only the latest firing is caught up\ndue a 15 14:00 catch-up"+reason+"\nskipped b 15 13:00: dependency: a was missed\nwaits b 15 14:00 catch-up")
	})
	t.Run("a row of many missed firings has one child", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "* * * * *"), child("b", "a"))
		w.down(10*time.Hour + 30*time.Second)
		w.decide()
		reason := ": belfry was not running from 2024-05-15 12:00:00 UTC to 2024-05-15 22:00:30 UTC"
		w.want("", "missed a 15 12:01 until 15 21:59 ×599"+reason+"\ndue a 15 22:00\nskipped b 15 12:01 until 15 21:59 ×599: dependency: a was missed\nwaits b 15 22:00")
	})
	t.Run("a child that is newer than the firing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", latest(newJob("a", time.UTC, "0 * * * *")))
		w.down(30 * time.Minute)
		w.down(time.Hour)
		b := child("b", "a")
		b.Since = w.wall
		w.jobs = append(w.jobs, b)
		w.decide()
		if len(w.runs) != 1 || w.runs[0].Job.Name != "a" {
			t.Errorf("got %s, want no child for a firing before it was there", told(w.runs))
		}
		w.forget()
		w.live(30 * time.Minute)
		w.want("then it has one", "due a 15 14:00\nwaits b 15 14:00")
	})
	t.Run("two parents in one instant", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "0 * * * *"), newJob("b", time.UTC, "0 * * * *"), child("c", "a", "b"))
		w.live(time.Hour)
		if got := w.runs[2].Parents; !slices.Equal(got, []int{0, 1}) {
			t.Errorf("parents %v, want both", got)
		}
		w.want("have one child", "due a 15 13:00\ndue b 15 13:00\nwaits c 15 13:00")
		w.jobs[1].Paused = true
		w.live(time.Hour)
		w.want("which is skipped when one of them is", "due a 15 14:00\nskipped b 15 14:00: paused\nskipped c 15 14:00: dependency: b was skipped")
	})
	t.Run("a paused child", func(t *testing.T) {
		t.Parallel()
		c := child("b", "a")
		c.Paused = true
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "0 * * * *"), c)
		w.live(time.Hour)
		if len(w.runs[1].Parents) > 0 {
			t.Error("it waits for its parent, want nothing that could start it")
		}
		w.want("", "due a 15 13:00\nskipped b 15 13:00: paused")
	})
	t.Run("jobs of another project with the same name", func(t *testing.T) {
		t.Parallel()
		other := newJob("a", time.UTC, "30 * * * *")
		other = with(other, func(j *job.Job) { j.Project = "q" })
		other.Key = "key-other"
		w := newWorld(t, "2024-05-15T12:00:00Z", newJob("a", time.UTC, "0 * * * *"), other, child("b", "a"))
		w.live(time.Hour)
		w.want("are no parents", "due a 15 12:30\ndue a 15 13:00\nwaits b 15 13:00")
	})
}

func TestQueuedRunsAreJudgedWhenADaemonComesBack(t *testing.T) {
	t.Parallel()
	when := func(text string) time.Time { return at(t, "2024-05-15T"+text+":00Z") }
	cron, yaml := newJob("cron", time.UTC, "* 1 * * *"), latest(newJob("yaml", time.UTC, "0 1 * * *"))
	hourly := newJob("hourly", time.UTC, "59 11 * * *")
	queued := []Queued{
		{Run: "cron-old", Job: cron.Key, FiresAt: when("11:56")},
		{Run: "cron-new", Job: cron.Key, FiresAt: when("11:57")},
		{Run: "yaml-old", Job: yaml.Key, FiresAt: when("02:00")},
		{Run: "yaml-new", Job: yaml.Key, FiresAt: when("03:00")},
		{Run: "gone", Job: "key-gone", FiresAt: when("11:57")},
		{Run: "hourly", Job: hourly.Key, FiresAt: when("11:57")},
		{Run: "asked", Job: yaml.Key, FiresAt: when("01:00"), AskedAt: when("11:56")},
		{Run: "asked-long-ago", Job: yaml.Key, FiresAt: when("11:57"), AskedAt: when("11:50")},
	}
	w := newWorld(t, "2024-05-15T11:58:00Z", cron, yaml, hourly)
	w.down(2 * time.Minute)
	d := w.decide(queued...)
	var got []string
	for _, e := range d.Expired {
		got = append(got, e.Run+": "+e.Reason)
	}
	down := ": belfry was not running from 2024-05-15 11:58:00 UTC to 2024-05-15 12:00:00 UTC while this run was queued"
	want := []string{
		"cron-old" + down, "yaml-old" + down + "; only the latest firing is caught up",
		"gone: the job was removed while this run was queued",
		"hourly" + down, // the firing of 11:59 is newer, and runs
		"asked-long-ago: belfry was not running from 2024-05-15 11:58:00 UTC to 2024-05-15 12:00:00 UTC, after this run was asked for",
	}
	if !slices.Equal(got, want) {
		t.Errorf("expired\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	if d := w.decide(queued...); len(d.Expired) > 0 {
		t.Errorf("a daemon that is there judges its queue again: %v", d.Expired)
	}
	w.down(6 * time.Minute)
	d = w.decide(queued[1], queued[3])
	if len(d.Expired) != 1 || d.Expired[0].Run != "cron-new" {
		t.Errorf("expired %v, want the crontab job's, which is nine minutes old", d.Expired)
	}
}

func TestWakeIsTheNextFiringOrAMinute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		now  string
		jobs []Job
		want string
		why  string
	}{
		{"12:00:00", nil, "12:01:00", "without jobs"},
		{"12:00:20", []Job{newJob("a", time.UTC, "0 1 * * *")}, "12:01:20", "the next firing is far away"},
		{"12:00:20", []Job{newJob("a", time.UTC, "0 1 * * *"), newJob("b", zone(t, "Asia/Seoul"), "1 * * * *")}, "12:01:00", "the next firing of any job"},
		{"12:00:00", []Job{newJob("a", time.UTC, "* * * * *")}, "12:01:00", "never the present instant"},
		{"12:00:20", []Job{newJob("a", time.UTC, "@reboot"), child("b", "a"), newJob("c", time.UTC, "0 0 30 2 *")}, "12:01:20", "jobs that have no firing"},
	} {
		now := at(t, "2024-05-15T"+c.now+"Z")
		d := Decide(Input{Now: Reading{Wall: now}, Jobs: NewCalendar(c.jobs)})
		if got := d.Wake.UTC().Format("15:04:05"); got != c.want {
			t.Errorf("%s: wake at %s, want %s", c.why, got, c.want)
		}
	}
}

// accounts unfolds runs to each firing they account for.
func accounts(t rapid.TB, runs []Run) map[string]string {
	account := map[string]string{}
	for _, r := range runs {
		n := 0
		for firing := r.FiresAt; !firing.IsZero() && !firing.After(r.FiresUntil); firing = r.Job.Next(firing) {
			id := r.Job.Name + " " + firing.UTC().Format(time.RFC3339)
			if _, twice := account[id]; twice {
				t.Errorf("%s is accounted for twice", id)
			}
			account[id] = verdicts[r.Verdict]
			n++
		}
		if n != r.Count {
			t.Errorf("%s: the row counts %d, its schedule %d", told([]Run{r}), r.Count, n)
		}
	}
	return account
}

// someJobs draws jobs and a start near where clocks change.
func someJobs(t *rapid.T) (start time.Time, jobs []Job) {
	zones := rapid.SampledFrom([]string{"UTC", "Asia/Seoul", "America/New_York", "Australia/Lord_Howe"})
	exprs := rapid.SampledFrom([]string{"* * * * *", "*/5 * * * *", "30 2 * * *", "0,30 1-3 * * *", "@daily", "@hourly", "7 */2 * * *", "30 0-23 * * *"})
	for i := range rapid.IntRange(1, 3).Draw(t, "jobs") {
		z, err := time.LoadLocation(zones.Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		j := newJob(fmt.Sprint("j", i), z, rapid.SliceOfN(exprs, 1, 2).Draw(t, "schedules")...)
		if rapid.Bool().Draw(t, "latest") {
			j = latest(j)
		}
		jobs = append(jobs, j)
	}
	days := rapid.SampledFrom([]string{"2024-05-15T00:00:00Z", "2024-03-10T03:00:00Z", "2024-11-03T02:00:00Z", "2024-04-06T10:00:00Z"})
	start, err := time.Parse(time.RFC3339, days.Draw(t, "day"))
	if err != nil {
		t.Fatal(err)
	}
	return start.Add(time.Duration(rapid.Int64Range(0, 3600_000).Draw(t, "offset")) * time.Millisecond), jobs
}

// schedulesSay lists what must be accounted for in (start, end].
func schedulesSay(jobs []Job, start, end time.Time) map[string]bool {
	want := map[string]bool{}
	for _, j := range jobs {
		for firing := j.Next(start); !firing.IsZero() && !firing.After(end); firing = j.Next(firing) {
			want[j.Name+" "+firing.UTC().Format(time.RFC3339)] = true
		}
	}
	return want
}

func compare(t *rapid.T, got map[string]string, want map[string]bool) {
	for id := range want {
		if got[id] == "" {
			t.Errorf("%s is not accounted for", id)
		}
	}
	for id := range got {
		if !want[id] {
			t.Errorf("%s is accounted for, and no schedule says so", id)
		}
	}
}

func TestHoweverTimeIsCutEachFiringIsRecordedOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		start, jobs := someJobs(rt)
		w := newWorld(rt, start.Format(time.RFC3339Nano), jobs...)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			w.pass(time.Duration(rapid.Int64Range(1, 300_000).Draw(rt, "step")) * time.Millisecond)
			w.decide()
		}
		got := accounts(rt, w.runs)
		compare(rt, got, schedulesSay(jobs, start, w.wall))
		for id, verdict := range got {
			if verdict != "due" {
				rt.Errorf("%s is %s, though time was looked at every five minutes", id, verdict)
			}
		}
		minutes := newWorld(rt, start.Format(time.RFC3339Nano), jobs...)
		minutes.live(w.wall.Sub(start))
		minutes.decide()
		for id := range accounts(rt, minutes.runs) {
			if got[id] == "" {
				rt.Errorf("%s is recorded when time is cut into minutes only", id)
			}
		}
	})
}

func TestOverRestartsEachFiringIsRecordedOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		start, jobs := someJobs(rt)
		w := newWorld(rt, start.Format(time.RFC3339Nano), jobs...)
		span := func(most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, most.Milliseconds()).Draw(rt, "for")) * time.Millisecond
		}
		for range rapid.IntRange(1, 6).Draw(rt, "events") {
			switch rapid.IntRange(0, 3).Draw(rt, "event") {
			case 0:
				w.live(span(3 * time.Hour))
			case 1:
				w.down(span(30 * time.Hour))
				w.decide()
			case 2:
				w.sleep(span(5 * time.Hour))
				w.decide()
			case 3:
				w.reboot(span(10 * time.Minute))
				w.decide()
			}
		}
		compare(rt, accounts(rt, w.runs), schedulesSay(jobs, start, w.last.Wall))
	})
}

func TestWhateverTheClockDoesNoKeyIsUsedTwiceAndNoJobFallsSilent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		start, jobs := someJobs(rt)
		w := newWorld(rt, start.Format(time.RFC3339Nano), jobs...)
		for range rapid.IntRange(1, 6).Draw(rt, "events") {
			w.live(time.Duration(rapid.Int64Range(0, 3600_000).Draw(rt, "for")) * time.Millisecond)
			w.step(time.Duration(rapid.Int64Range(-6*3600_000, 6*3600_000).Draw(rt, "step")) * time.Millisecond)
			if rapid.Bool().Draw(rt, "restart") {
				w.down(time.Second)
				w.decide()
			}
		}
		w.live(large + time.Minute) // whoever had to wait has waited
		w.forget()
		from := w.last.Wall
		w.live(26 * time.Hour)
		compare(rt, accounts(rt, w.runs), schedulesSay(jobs, from, w.last.Wall))
	})
}

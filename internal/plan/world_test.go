package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"belfry/crontab"
	"belfry/internal/job"
)

func zone(t rapid.TB, name string) *time.Location {
	t.Helper()
	z, err := job.LoadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func at(t rapid.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// newJob makes a crontab job, which catches nothing up.
func newJob(name string, zone *time.Location, exprs ...string) Job {
	j := &job.Job{ID: job.ID{Project: "p", Name: name}, Settings: &job.Settings{Zone: zone, Crontab: true, CatchUp: job.CatchUpNone}}
	for _, expr := range exprs {
		j.Schedules = append(j.Schedules, crontab.MustParseSchedule(expr))
	}
	return Job{Job: j, Key: "key-" + name}
}

// latest makes a job of a belfry.yaml, which catches the latest firing up.
func latest(j Job) Job {
	return with(j, func(j *job.Job) { j.CatchUp = job.CatchUpLatest })
}

// with gives a changed copy of j.
func with(j Job, change func(j *job.Job)) Job {
	copied, settings := *j.Job, *j.Settings
	copied.Settings = &settings
	change(&copied)
	j.Job = &copied
	return j
}

func child(name string, parents ...string) Job {
	j := latest(newJob(name, time.UTC))
	j.After = parents
	return j
}

// family gives each job that comes after others and has no schedule their
// rhythms, as the reader of a belfry.yaml does.
func family(jobs ...Job) []Job {
	byName := map[string]Job{}
	for _, j := range jobs {
		for _, name := range j.After {
			for _, r := range byName[name].Rhythms() {
				if len(j.Schedules) == 0 && len(r.Schedules) > 0 && !slices.ContainsFunc(j.Inherited, r.Equal) {
					j.Inherited = append(j.Inherited, r)
				}
			}
		}
		byName[j.Name] = j
	}
	return jobs
}

// world is a machine with a daemon and what a store remembers of it, without
// either: it does with decisions what daemon and store do.
type world struct {
	t     rapid.TB
	wall  time.Time
	ran   time.Duration // CLOCK_MONOTONIC
	gone  time.Duration // CLOCK_BOOTTIME
	boot  string
	clock Clock
	last  *Reading
	alive time.Time
	jobs  []Job
	// calendar is kept from decision to decision, as a daemon does.
	calendar *Calendar
	runs     []Run // all that were recorded
	keys     map[string]bool
	wake     time.Duration // CLOCK_MONOTONIC at which the timer goes off
	shadow   bool
}

func newWorld(t rapid.TB, start string, jobs ...Job) *world {
	w := &world{t: t, wall: at(t, start), ran: time.Hour, gone: time.Hour, boot: "boot-1", jobs: jobs, keys: map[string]bool{}}
	w.decide()
	return w
}

// decide plans once, and records.
func (w *world) decide(queued ...Queued) Decision {
	w.t.Helper()
	reading := Reading{Wall: w.wall, Running: w.ran, Elapsed: w.gone, Boot: w.boot}
	in := Input{Node: "node", Now: reading, Last: w.last, Clock: w.clock, Jobs: NewCalendar(w.jobs), Queued: queued, Shadow: w.shadow}
	if w.last == nil {
		in.Alive = w.alive
	}
	d := Decide(in)
	if w.calendar == nil || !sameJobs(w.calendar.jobs, w.jobs) {
		w.calendar = NewCalendar(slices.Clone(w.jobs))
	}
	in.Jobs = w.calendar
	if kept := Decide(in); !reflect.DeepEqual(kept, d) {
		w.t.Fatalf("a calendar that was kept decides\n%s\nwake %v, a new one\n%s\nwake %v", told(kept.Runs), kept.Wake, told(d.Runs), d.Wake)
	}
	if len(d.Runs) > 0 || len(d.Expired) > 0 || d.Write {
		d.Clock.Mark, d.Clock.High = d.Clock.Mark.Truncate(time.Millisecond), d.Clock.High.Truncate(time.Millisecond)
		w.clock = d.Clock
	}
	if d.Clock.High.Before(d.Clock.Mark) || d.Clock.High.Sub(d.Clock.Mark) > large {
		w.t.Fatalf("the mark %v and its highest %v are more than three hours apart, or the wrong way round", d.Clock.Mark, d.Clock.High)
	}
	for _, r := range d.Runs {
		if id := r.Job.Key + " " + r.Key; w.keys[id] {
			w.t.Fatalf("%s is recorded twice", id)
		} else {
			w.keys[id] = true
		}
	}
	w.runs = append(w.runs, d.Runs...)
	w.last, w.alive = &reading, w.wall
	w.wake = w.ran + max(d.Wake.Sub(w.wall), 0)
	return d
}

func sameJobs(a, b []Job) bool {
	return slices.EqualFunc(a, b, func(a, b Job) bool {
		return a.Job == b.Job && a.Key == b.Key && a.Since.Equal(b.Since) && a.Paused == b.Paused
	})
}

func (w *world) pass(d time.Duration) { w.wall, w.ran, w.gone = w.wall.Add(d), w.ran+d, w.gone+d }

// live lets time pass with the loop running.
func (w *world) live(d time.Duration) {
	w.t.Helper()
	for end := w.ran + d; ; {
		if w.wake > end {
			w.pass(end - w.ran)
			return
		}
		w.pass(w.wake - w.ran)
		w.decide()
	}
}

// step sets the clock. The timer knows nothing of it.
func (w *world) step(d time.Duration) { w.wall = w.wall.Add(d) }

// sleep suspends the machine.
func (w *world) sleep(d time.Duration) { w.wall, w.gone = w.wall.Add(d), w.gone+d }

// down lets time pass without a daemon. The next decision is one's first.
func (w *world) down(d time.Duration) {
	w.last = nil
	w.pass(d)
}

// reboot is down with another boot, whose clocks begin anew.
func (w *world) reboot(d time.Duration) {
	w.down(d)
	w.ran, w.gone, w.boot = time.Minute, time.Minute, w.boot+"'"
}

// forget drops what was recorded, so that a story tells its end only.
func (w *world) forget() { w.runs = nil }

var verdicts = map[Verdict]string{Due: "due", Waits: "waits", Missed: "missed", Skipped: "skipped"}

// told writes runs down: verdict, job, firing, and what is unusual.
func told(runs []Run) string {
	var lines []string
	for _, r := range runs {
		line := fmt.Sprintf("%s %s %s", verdicts[r.Verdict], r.Job.Name, r.FiresAt.UTC().Format("02 15:04"))
		if r.Count != 1 {
			line += fmt.Sprintf(" until %s ×%d", r.FiresUntil.UTC().Format("02 15:04"), r.Count)
		}
		if era := r.Key[strings.LastIndexByte(r.Key, '/')+1:]; r.Key[0] == 't' && era != "0" {
			line += " era " + era
		}
		if r.Cause == CatchUp || r.Cause == Reboot {
			line += " " + string(r.Cause)
		}
		for _, parent := range r.Earlier {
			line += " after " + strings.TrimPrefix(parent.Job, "key-") + " " + parent.FiresAt.UTC().Format("02 15:04")
		}
		if !r.WaitsUntil.IsZero() {
			line += " and until " + r.WaitsUntil.UTC().Format("02 15:04")
		}
		if r.Reason != "" && r.Reason != DependencyReason {
			line += ": " + r.Reason
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func (w *world) want(why, want string) {
	w.t.Helper()
	want = strings.TrimSpace(strings.ReplaceAll(want, "\t", ""))
	if got := told(w.runs); got != want {
		w.t.Errorf("%s\n got:\n%s\nwant:\n%s", why, got, want)
	}
	w.forget()
}

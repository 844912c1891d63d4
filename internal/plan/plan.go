// Package plan answers: given the jobs, the instant up to which everything has
// been planned, and a reading of the clocks, what is due, what was missed and
// why, and when must we look again? It is pure: it does no I/O and never asks
// the time, so that a year of nights can be tried in a second.
package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"belfry/internal/job"
)

// Cause says why a run exists.
type Cause string

// The causes.
const (
	Scheduled Cause = "schedule"
	CatchUp   Cause = "catch-up"
	After     Cause = "after"
	Reboot    Cause = "reboot"
	Manual    Cause = "manual"
)

// Verdict says what is to become of a firing.
type Verdict int

// The verdicts.
const (
	Due     Verdict = iota // run it
	Waits                  // run it when its parents have succeeded
	Missed                 // nothing could run it in time
	Skipped                // not run on purpose
)

// The limits of DESIGN.md §4, which are cron's except for the window.
const (
	small         = 5 * time.Minute // a gap in which every minute is still run
	large         = 3 * time.Hour   // a gap after which everything is taken as it is
	late          = time.Minute     // a firing this old is caught up, not on time
	CatchUpWindow = 24 * time.Hour  // how old a firing may be to be caught up
	longest       = time.Minute     // the longest sleep
	rowsInARow    = 100             // more missed firings of a job than this share a row

	// What lies further back than this is not accounted for: a clock without a
	// battery leaps from 1970 to now, which is 28 million firings of one job.
	farthest = 366 * 24 * time.Hour
)

// Reading is what the clocks said at one moment.
type Reading struct {
	Wall    time.Time
	Running time.Duration // CLOCK_MONOTONIC: stands still while the machine sleeps
	Elapsed time.Duration // CLOCK_BOOTTIME: goes on while it sleeps
	Boot    string        // changes with each boot, and each restart of a container
}

// Clock is the store's memory of the time: everything up to Mark is planned,
// High is the furthest that Mark has ever been. Era grows when the clock is set
// back, so that the same instant can fire again and be told apart. Boot is the
// boot whose @reboot jobs have been planned.
type Clock struct {
	Mark, High time.Time
	Era        int64
	Boot       string
}

// Job is a job as the planner sees it.
type Job struct {
	*job.Job
	Key    string    // the store's id of the job
	Since  time.Time // firings up to this instant are none of ours
	Paused bool
}

// Queued is a run that waited for its turn when the last daemon stopped.
type Queued struct {
	Run     string
	Job     string // Job.Key
	FiresAt time.Time
	// AskedAt is when a person asked for it; zero for a firing of the schedule.
	AskedAt time.Time
}

// Input is all that a decision depends on.
type Input struct {
	Node  string
	Now   Reading
	Last  *Reading  // of the decision before, nil for a daemon's first
	Alive time.Time // when a daemon was last seen alive before this one; zero: never
	Clock Clock
	Jobs  []Job // parents before the jobs that come after them
	// Queued is only looked at in a daemon's first decision.
	Queued []Queued
}

// Run is the account to be made of one firing, or of Count firings in a row.
type Run struct {
	Job        Job
	Key        string // unique within the job (DESIGN.md §4.4)
	Cause      Cause
	Verdict    Verdict
	Reason     string
	FiresAt    time.Time
	FiresUntil time.Time // the last of Count firings
	Count      int
	Named      time.Time // the local date and time the schedule named, as a reading in UTC
	Parents    []int     // the runs it waits for, as places in Decision.Runs
}

// Expired is a queued run that is too late to be started.
type Expired struct {
	Run    string
	Reason string
}

// Decision is what to write down, in one transaction, and when to look again.
type Decision struct {
	Runs    []Run
	Expired []Expired
	Clock   Clock
	// Write says that the clock must be stored even if there are no runs.
	Write bool
	Wake  time.Time
}

// Decide plans everything up to in.Now.
func Decide(in Input) Decision {
	now := in.Now.Wall.Round(0)
	d := Decision{Clock: in.Clock, Wake: now.Add(longest)}
	if d.Clock.Mark.IsZero() {
		d.Clock.Mark, d.Clock.High, d.Write = now, now, true
	}
	d.stepBack(in, now)
	gap := gapOf(in, d.Clock, now)
	d.stepAhead(&gap, now)
	runs := map[string]map[time.Time]int{} // job name → firing → place in d.Runs
	for _, j := range in.Jobs {
		if j.Since.After(now) { // said by a clock that was set back afterwards
			j.Since = time.Time{}
		}
		var made []Run
		if len(j.After) > 0 {
			made = after(j, d.Runs, runs)
		} else {
			made = firings(j, d.Clock, now, gap)
		}
		if in.Clock.Boot != in.Now.Boot && j.Reboot() {
			made = append(made, Run{
				Job: j, Key: fmt.Sprintf("r/%s/%s", in.Node, in.Now.Boot), Cause: Reboot,
				FiresAt: now, FiresUntil: now, Count: 1, Named: j.Named(now),
			})
		}
		byInstant := map[time.Time]int{}
		for _, run := range made {
			if j.Paused && run.Verdict != Missed {
				run.Verdict, run.Reason, run.Parents = Skipped, "the job is paused", nil
			}
			if run.Cause != Reboot { // which nothing comes after
				byInstant[run.FiresAt.UTC()] = len(d.Runs)
			}
			d.Runs = append(d.Runs, run)
		}
		runs[j.String()] = byInstant
		if next := j.Next(now); len(j.After) == 0 && !next.IsZero() && next.Before(d.Wake) {
			d.Wake = next
		}
	}
	d.expire(in, now)
	if in.Clock.Boot != in.Now.Boot {
		d.Clock.Boot, d.Write = in.Now.Boot, true
	}
	if now.After(d.Clock.Mark) {
		d.Clock.Mark = now
	}
	if d.Clock.Mark.After(d.Clock.High) {
		d.Clock.High = d.Clock.Mark
	}
	return d
}

// stepBack lowers the mark to a clock that was set back. Within three hours of
// High, which stays where it was, fixed schedules wait until they have caught
// up with themselves; further back, however many steps it took, everything goes
// on from the new time. Up to a minute is the clock being trimmed: the mark
// stays and time catches up.
//
// The new time began when we last looked, not now: what fired in between is
// ours.
func (d *Decision) stepBack(in Input, now time.Time) {
	back := d.Clock.Mark.Sub(now)
	if back <= time.Minute {
		return
	}
	d.Clock.Era++
	d.Clock.Mark = now
	if in.Last != nil {
		d.Clock.Mark = now.Add(-min(max(in.Now.Elapsed-in.Last.Elapsed, 0), late))
	}
	if d.Clock.High.Sub(now) > large {
		d.Clock.High = d.Clock.Mark
	}
	d.Write = true
}

// stepAhead raises the mark after a clock that was set ahead. When it had been
// set back before, the time up to High is not skipped: it has been lived
// through once, and is planned. As in cron, the present minute is not part of
// that.
func (d *Decision) stepAhead(g *gap, now time.Time) {
	lived := d.Clock.High
	if minute := now.Add(-late); minute.Before(lived) {
		lived = minute
	}
	if g.ahead && lived.After(d.Clock.Mark) {
		d.Clock.Mark, g.length = lived, now.Sub(lived)
	}
	if first := now.Add(-farthest); first.After(d.Clock.Mark) {
		d.Clock.Mark = first
	}
}

// gap is the stretch of time since the last decision and why it is that long.
type gap struct {
	length  time.Duration
	restart bool // no daemon was there, rather than one whose clock jumped
	ahead   bool // the clock was set ahead
	reason  string
}

func gapOf(in Input, clock Clock, now time.Time) gap {
	if in.Last == nil {
		g := gap{length: now.Sub(clock.Mark), restart: true, reason: "belfry was not running until " + stamp(now)}
		if !in.Alive.IsZero() && in.Alive.Before(now) {
			g.reason = fmt.Sprintf("belfry was not running from %s to %s", stamp(in.Alive), stamp(now))
		}
		return g
	}
	g := gap{length: now.Sub(in.Last.Wall.Round(0))}
	elapsed, running := in.Now.Elapsed-in.Last.Elapsed, in.Now.Running-in.Last.Running
	switch {
	case g.length-elapsed > late:
		g.ahead = true
		g.reason = fmt.Sprintf("the clock was set ahead by %s at %s", (g.length - elapsed).Round(time.Second), stamp(now))
	case elapsed-running > late:
		g.reason = fmt.Sprintf("the machine slept from %s to %s", stamp(in.Last.Wall), stamp(now))
	default:
		g.reason = fmt.Sprintf("belfry was held up from %s to %s", stamp(in.Last.Wall), stamp(now))
	}
	return g
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// firing is one instant at which one or several schedules of a job fire.
type firing struct {
	at    time.Time
	fixed bool // one of them is fixed: the clock on the wall is meant
}

// firings accounts for every firing of j that has not been planned yet.
func firings(j Job, clock Clock, now time.Time, g gap) []Run {
	list := between(j, clock, now)
	if len(list) == 0 {
		return nil
	}
	var runs []Run
	var missed []firing
	flush := func() {
		runs = append(runs, missedRuns(j, missed, clock.Era, g.reason)...)
		missed = nil
	}
	for i, f := range list {
		if !dueNow(j, f, i == len(list)-1, now, g) {
			missed = append(missed, f)
			continue
		}
		flush()
		run := Run{Job: j, Key: key(f.at, clock.Era), Cause: Scheduled, FiresAt: f.at, FiresUntil: f.at, Count: 1, Named: j.Named(f.at)}
		if now.Sub(f.at) >= late {
			run.Cause, run.Reason = CatchUp, g.reason
		}
		runs = append(runs, run)
	}
	flush()
	return runs
}

// between lists the firings of j in (max(mark, since), now], for fixed
// schedules not before clock.High either, in order and each instant once.
func between(j Job, clock Clock, now time.Time) []firing {
	var list []firing
	for _, s := range j.Schedules {
		from := clock.Mark
		if !s.Wildcard() && clock.High.After(from) {
			from = clock.High
		}
		if j.Since.After(from) {
			from = j.Since
		}
		for at := range s.Between(from.In(j.Zone), now) {
			list = append(list, firing{at: at, fixed: !s.Wildcard()})
		}
	}
	if len(j.Schedules) < 2 {
		return list
	}
	slices.SortStableFunc(list, func(a, b firing) int { return a.at.Compare(b.at) })
	merged := list[:0]
	for _, f := range list {
		if n := len(merged); n > 0 && merged[n-1].at.Equal(f.at) {
			merged[n-1].fixed = merged[n-1].fixed || f.fixed
			continue
		}
		merged = append(merged, f)
	}
	return merged
}

// dueNow decides one firing of a job (DESIGN.md §4.6). The latest one runs
// after a restart when it is at most five minutes old, for every job.
func dueNow(j Job, f firing, latest bool, now time.Time, g gap) bool {
	age := now.Sub(f.at)
	switch {
	case !g.restart && g.length <= small:
		return true
	case latest && age < late:
		return true
	case j.CatchUp == job.CatchUpLatest:
		return latest && age <= CatchUpWindow
	case g.restart:
		return latest && age <= small
	case g.length <= large: // cron replays what the wall clock skipped, for fixed times only
		return f.fixed
	}
	return false
}

// missedRuns makes a row for each missed firing, or one for all where there
// are very many.
func missedRuns(j Job, list []firing, era int64, reason string) []Run {
	var runs []Run
	if n := len(list); n > rowsInARow {
		first, last := list[0].at, list[n-1].at
		return []Run{{
			Job: j, Key: key(first, era), Cause: Scheduled, Verdict: Missed, Reason: reason,
			FiresAt: first, FiresUntil: last, Count: n, Named: j.Named(first),
		}}
	}
	for _, f := range list {
		runs = append(runs, Run{
			Job: j, Key: key(f.at, era), Cause: Scheduled, Verdict: Missed, Reason: reason,
			FiresAt: f.at, FiresUntil: f.at, Count: 1, Named: j.Named(f.at),
		})
	}
	return runs
}

func key(at time.Time, era int64) string {
	return fmt.Sprintf("t/%s/%d", at.UTC().Format(time.RFC3339), era)
}

// after makes the runs of a job that comes after others: one for each instant
// at which its parents fire, so that it is accounted for from the start.
func after(j Job, planned []Run, byJob map[string]map[time.Time]int) []Run {
	var runs []Run
	place := map[time.Time]int{} // firing → place in runs
	for _, name := range j.After {
		parents := byJob[job.ID{Project: j.Project, Name: name}.String()]
		for _, i := range slices.Sorted(maps.Values(parents)) {
			parent := planned[i]
			if !parent.FiresAt.After(j.Since) {
				continue
			}
			at, seen := place[parent.FiresAt.UTC()]
			if !seen {
				at = len(runs)
				place[parent.FiresAt.UTC()] = at
				runs = append(runs, Run{
					Job: j, Key: "a" + parent.Key[1:], Cause: After, Verdict: Waits,
					FiresAt: parent.FiresAt, FiresUntil: parent.FiresUntil, Count: parent.Count, Named: parent.Named,
				})
			}
			run := &runs[at]
			run.Parents = append(run.Parents, i)
			if parent.Verdict == Missed || parent.Verdict == Skipped {
				run.Verdict = Skipped
			}
		}
	}
	for i := range runs {
		runs[i].Reason = waitsFor(runs[i], planned)
	}
	return runs
}

func waitsFor(run Run, planned []Run) string {
	for _, i := range run.Parents {
		switch parent := planned[i]; parent.Verdict {
		case Missed:
			return fmt.Sprintf("dependency: %s was missed", parent.Job.Name)
		case Skipped:
			return fmt.Sprintf("dependency: %s was skipped", parent.Job.Name)
		}
	}
	return DependencyReason
}

// DependencyReason is the reason of a run that waits for its parents.
const DependencyReason = "dependency"

// expire judges the runs that were queued when the last daemon stopped as if
// they were firings of the downtime.
func (d *Decision) expire(in Input, now time.Time) {
	if in.Last != nil {
		return
	}
	newest := map[string]time.Time{} // Job.Key → newest firing that will run
	for _, run := range d.Runs {
		if run.Verdict == Due && run.FiresAt.After(newest[run.Job.Key]) {
			newest[run.Job.Key] = run.FiresAt
		}
	}
	for _, q := range in.Queued {
		if q.AskedAt.IsZero() && q.FiresAt.After(newest[q.Job]) {
			newest[q.Job] = q.FiresAt
		}
	}
	jobs := map[string]Job{}
	for _, j := range in.Jobs {
		jobs[j.Key] = j
	}
	g := gapOf(in, d.Clock, now)
	for _, q := range in.Queued {
		j, known := jobs[q.Job]
		switch {
		case known && !q.AskedAt.IsZero():
			if now.Sub(q.AskedAt) > small { // whoever asked has gone away by now
				d.Expired = append(d.Expired, Expired{q.Run, g.reason + ", after this run was asked for"})
			}
		case !known:
			d.Expired = append(d.Expired, Expired{q.Run, "the job was removed while this run was queued"})
		case !dueNow(j, firing{at: q.FiresAt}, q.FiresAt.Equal(newest[q.Job]), now, g):
			d.Expired = append(d.Expired, Expired{q.Run, g.reason + " while this run was queued"})
		}
	}
}

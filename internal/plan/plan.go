// Package plan answers: given the jobs, the instant up to which everything has
// been planned, and a reading of the clocks, what is due, what was missed and
// why, and when must we look again? It is pure: it does no I/O and never asks
// the time, so that a year of nights can be tried in a second.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
	Backfill  Cause = "backfill"
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

// The limits of DESIGN.md §4, which are cron's where cron has them.
const (
	small      = 5 * time.Minute // a gap in which every minute is still run
	large      = 3 * time.Hour   // a gap after which everything is taken as it is
	late       = time.Minute     // a firing this old is caught up, not on time
	longest    = time.Minute     // the longest sleep
	rowsInARow = 100             // more missed firings of a job than this share a row
	caughtUp   = 100             // so many firings of a job are caught up at most

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
	// Reboot is the run's key when it is for the start of a machine.
	Reboot string
}

// Input is all that a decision depends on.
type Input struct {
	Node  string
	Now   Reading
	Last  *Reading  // of the decision before, nil for a daemon's first
	Alive time.Time // when a daemon was last seen alive before this one; zero: never
	Clock Clock     // as it is stored
	Jobs  *Calendar
	// Waits are the runs that wait for firings of their parents to come.
	Waits []Wait
	// Queued is only looked at in a daemon's first decision.
	Queued []Queued
	// Shadow says that somebody else runs the jobs: all is accounted for, and
	// nothing is due.
	Shadow bool
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
	Earlier    []Ref     // those that were recorded before: one that is not there is not waited for
	WaitsUntil time.Time // more of them come until then
}

// Expired is a queued run that is too late to be started.
type Expired struct {
	Run    string
	Reason string
}

// Decision is what to write down, in one transaction, and when to look again.
type Decision struct {
	Runs     []Run
	Links    []Link
	Expired  []Expired
	Released []string // the runs for which no more parents are to come
	Clock    Clock
	// Write says that the clock must be stored even if there are no runs.
	Write bool
	Wake  time.Time
	// Coming is how many jobs fire at Wake.
	Coming int
}

// Decide plans everything up to in.Now.
func Decide(in Input) Decision {
	now := in.Now.Wall.Round(0)
	d := Decision{Clock: in.Clock, Wake: now.Add(longest)}
	if d.Clock.Mark.IsZero() {
		d.Clock.Mark, d.Clock.High, d.Write = now, now, true
	}
	if in.Last != nil { // planned, perhaps with nothing to write
		d.Clock.turnTo(in.Last.Wall.Round(0))
	}
	d.stepBack(in, now)
	gap := gapOf(in, d.Clock, now)
	d.stepAhead(&gap, now)
	p := planning{Calendar: in.Jobs, clock: d.Clock, now: now, gap: gap, made: map[int]made{}, shadow: in.Shadow}
	booted := in.Clock.Boot != in.Now.Boot
	for _, i := range in.Jobs.concerned(d.Clock.Mark, now, booted) {
		p.account(i)
		if j := in.Jobs.jobs[i]; booted && j.Reboot() { // after which nothing comes
			p.add(Run{
				Job: j, Key: fmt.Sprintf("r/%s/%s", in.Node, in.Now.Boot), Cause: Reboot,
				FiresAt: now, FiresUntil: now, Count: 1, Named: j.Named(now),
			})
		}
	}
	d.Runs, d.Links = p.runs, p.links
	if next := in.Jobs.wake(); !next.IsZero() && next.Before(d.Wake) {
		d.Wake, d.Coming = next, in.Jobs.coming()
	}
	d.release(in, now)
	d.expire(in, now)
	if in.Clock.Boot != in.Now.Boot {
		d.Clock.Boot, d.Write = in.Now.Boot, true
	}
	d.Clock.turnTo(now)
	return d
}

// turnTo notes that everything up to now is planned.
func (c *Clock) turnTo(now time.Time) {
	if now.After(c.Mark) {
		c.Mark = now
	}
	if c.Mark.After(c.High) {
		c.High = c.Mark
	}
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
	if d.Clock.High.Sub(now) > large { // as it stands when we look, which is what cron goes by
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

// planning is one decision while it is made.
type planning struct {
	*Calendar
	clock Clock
	now   time.Time
	gap   gap
	runs  []Run
	links []Link
	made  map[int]made // of parents

	shadow bool
}

// account makes the runs of a job for what has not been planned yet.
func (p *planning) account(i int) {
	j := p.jobs[i]
	if j.Since.After(p.now) { // said by a clock that was set back afterwards
		j.Since = time.Time{}
	}
	var runs []Run
	switch parents := p.parentsOf(i); {
	case len(j.Schedules) > 0:
		runs = p.firings(j)
		if len(parents) > 0 {
			p.waitFor(i, runs)
			p.link(i)
		}
	case len(j.Inherited) > 1:
		runs = p.afterDates(i, j.Since)
	case len(parents) > 0:
		runs = p.afterInstants(i, j.Since)
	}
	made := made{one: map[time.Time]int{}}
	for _, run := range runs {
		if run.Count == 1 {
			made.one[run.FiresAt.UTC()] = len(p.runs)
		} else {
			made.many = append(made.many, len(p.runs))
		}
		p.add(run)
	}
	if p.isParent(i) {
		p.made[i] = made
	}
}

func (p *planning) add(run Run) {
	if run.Verdict != Missed && (run.Job.Paused || p.shadow) {
		run.Verdict, run.Reason = Skipped, ShadowReason
		if run.Job.Paused {
			run.Reason = PausedReason
		}
		run.Parents, run.Earlier, run.WaitsUntil = nil, nil, time.Time{}
	}
	p.runs = append(p.runs, run)
}

// PausedReason is the reason of a run that was skipped because a person had
// paused its job.
const PausedReason = "paused"

// ShadowReason is the reason of a run that was skipped because its daemon only
// looks on while another cron runs the jobs.
const ShadowReason = "shadow"

// firing is one instant at which one or several schedules of a job fire.
type firing struct {
	at    time.Time
	fixed bool // one of them is fixed: the clock on the wall is meant
}

// firings accounts for every firing of j that has not been planned yet.
func (p *planning) firings(j Job) []Run {
	list := between(j, p.clock, p.now)
	fates := make([]fate, len(list))
	for i, f := range list {
		fates[i] = fateOf(j, f, len(list)-1-i, p.now, p.gap)
	}
	var runs []Run
	for n := 0; len(list) > 0; list, fates = list[n:], fates[n:] {
		at := list[0].at
		run := Run{Job: j, Key: key(at, p.clock.Era), Cause: Scheduled, FiresAt: at, FiresUntil: at, Count: 1, Named: j.Named(at)}
		n = 1
		switch {
		case fates[0] != due:
			run.Verdict, run.Reason = Missed, p.gap.reason+fates[0].why(j)
			if n = alike(fates); n > rowsInARow {
				run.FiresUntil, run.Count = list[n-1].at, n
			} else {
				n = 1
			}
		case p.now.Sub(at) >= late:
			run.Cause, run.Reason = CatchUp, p.gap.reason
		}
		runs = append(runs, run)
	}
	return runs
}

// alike counts how many at the beginning of list are equal.
func alike[T comparable](list []T) int {
	n := 1
	for n < len(list) && list[n] == list[0] {
		n++
	}
	return n
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

// fate is what becomes of a firing that the policies of its job decide on.
type fate int

const (
	due       fate = iota
	missed         // the gap says it all
	notLatest      // a newer one is caught up
	tooMany        // so many newer ones are caught up
	tooOld         // for the job's window
)

// fateOf decides one firing of a job (DESIGN.md §4.6), which newer ones follow.
// The latest one runs after a restart when it is at most five minutes old, for
// every job.
func fateOf(j Job, f firing, newer int, now time.Time, g gap) fate {
	age := now.Sub(f.at)
	switch {
	case !g.restart && g.length <= small:
		return due
	case newer == 0 && (age < late || g.restart && age <= small):
		return due
	case j.CatchUp == job.CatchUpLatest && newer > 0:
		return notLatest
	case j.CatchUp == job.CatchUpAll && newer >= caughtUp:
		return tooMany
	case j.CatchUp == job.CatchUpLatest || j.CatchUp == job.CatchUpAll:
		if age > window(j) {
			return tooOld
		}
		return due
	case !g.restart && g.length <= large && f.fixed: // cron replays what the wall clock skipped, for fixed times only
		return due
	}
	return missed
}

func window(j Job) time.Duration { return cmp.Or(j.CatchUpWindow, job.DefaultCatchUpWindow) }

// why goes on where the reason of the gap leaves a question open.
func (f fate) why(j Job) string {
	switch f {
	case notLatest:
		return "; only the latest firing is caught up"
	case tooMany:
		return fmt.Sprintf("; only the latest %d firings are caught up", caughtUp)
	case tooOld:
		return fmt.Sprintf("; only firings of the last %s are caught up", job.DurationText(window(j)))
	}
	return ""
}

func key(at time.Time, era int64) string {
	return fmt.Sprintf("t/%s/%d", at.UTC().Format(time.RFC3339), era)
}

// expire judges the runs that were queued when the last daemon stopped as if
// they were firings of the downtime.
func (d *Decision) expire(in Input, now time.Time) {
	if in.Last != nil || len(in.Queued) == 0 {
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
	for _, j := range in.Jobs.jobs {
		jobs[j.Key] = j
	}
	g := gapOf(in, d.Clock, now)
	expire := func(q Queued, reason string) { d.Expired = append(d.Expired, Expired{q.Run, reason}) }
	for _, q := range in.Queued {
		j, known := jobs[q.Job]
		switch {
		case known && !q.AskedAt.IsZero():
			if now.Sub(q.AskedAt) > small { // whoever asked has gone away by now
				expire(q, g.reason+", after this run was asked for")
			}
		case !known:
			expire(q, "the job was removed while this run was queued")
		case q.Reboot != "":
			if !strings.HasSuffix(q.Reboot, "/"+in.Now.Boot) { // there is a run for this start
				expire(q, "the machine was started again while this run was queued")
			}
		default:
			newer := 0
			if q.FiresAt.Before(newest[q.Job]) {
				newer = 1
			}
			if fate := fateOf(j, firing{at: q.FiresAt}, newer, now, g); fate != due {
				expire(q, g.reason+" while this run was queued"+fate.why(j))
			}
		}
	}
}

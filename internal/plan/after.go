package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"belfry/internal/job"
)

// Jobs that come after others (DESIGN.md §5, After). A job without a schedule
// has a run for each instant of its parents or, where their schedules differ,
// for each date that they name, at its last instant. One with a schedule has
// its own firings, which wait for those of its parents on the same date.

// Ref is a run by its firing: of the job with the store's id Job, at FiresAt.
type Ref struct {
	Job     string
	FiresAt time.Time
}

// Link makes the run Parent of a decision one that an earlier run waits for, if
// that is there and waits.
type Link struct {
	Child  Ref
	Parent int // place in Decision.Runs
}

// Wait is a run that waits for firings of its parents that come until then.
type Wait struct {
	Run   string
	Until time.Time
}

// DependencyReason is the reason of a run that waits for its parents.
const DependencyReason = "dependency"

// made are the runs that a decision has made of one job: by their firing, in
// UTC, and those of many firings, as places.
type made struct {
	one  map[time.Time]int
	many []int
}

// place finds the run that a parent's firing is in.
func (p *planning) place(parent int, at time.Time) (int, bool) {
	made := p.made[parent]
	if place, ok := made.one[at.UTC()]; ok {
		return place, true
	}
	for _, place := range made.many {
		if run := p.runs[place]; !at.Before(run.FiresAt) && !at.After(run.FiresUntil) {
			return place, true
		}
	}
	return 0, false
}

// afterInstants makes the runs of a job whose parents fire together: one for
// each instant, so that it is accounted for from the start.
func (p *planning) afterInstants(i int, since time.Time) []Run {
	var instants []time.Time
	for _, parent := range p.parentsOf(i) {
		made := p.made[parent]
		instants = slices.AppendSeq(instants, maps.Keys(made.one))
		for _, place := range made.many {
			for at := p.runs[place].FiresAt; !at.After(p.runs[place].FiresUntil); at = p.jobs[parent].Next(at) {
				instants = append(instants, at.UTC())
			}
		}
	}
	instants = slices.DeleteFunc(instants, func(at time.Time) bool { return !at.After(since) })
	slices.SortFunc(instants, time.Time.Compare)
	instants = slices.Compact(instants)
	var runs []Run
	for n := 0; len(instants) > 0; instants = instants[n:] {
		places := p.placesAt(i, instants[0])
		first := p.runs[places[0]]
		at := instants[0].In(first.FiresAt.Location())
		run := p.child(p.jobs[i], at, first.Job.Named(at), places, nil)
		for n = 1; first.Count > 1 && n < len(instants) && slices.Equal(p.placesAt(i, instants[n]), places); {
			n++
		}
		run.FiresUntil, run.Count = instants[n-1].In(at.Location()), n
		runs = append(runs, run)
	}
	return runs
}

// placesAt lists the runs of the parents that fire at an instant.
func (p *planning) placesAt(i int, at time.Time) []int {
	var places []int
	for _, parent := range p.parentsOf(i) {
		if place, ok := p.place(parent, at); ok {
			places = append(places, place)
		}
	}
	slices.Sort(places)
	return places
}

// afterDates makes the runs of a job whose parents fire at times of their own:
// one for each date, when the last of its firings is planned.
func (p *planning) afterDates(i int, since time.Time) []Run {
	j := p.jobs[i]
	var runs []Run
	for _, date := range p.datesOf(p.parentsOf(i)) {
		last := j.FiringsOn(date)
		if len(last) == 0 || !last[0].At.After(since) || len(p.placesAt(i, last[0].At)) == 0 {
			continue
		}
		places, earlier, _ := p.parentsOn(i, date)
		runs = append(runs, p.child(j, last[0].At, last[0].Named, places, earlier))
	}
	return runs
}

// datesOf lists the dates that the firings of jobs which are being planned
// name, in order.
func (p *planning) datesOf(jobs []int) []time.Time {
	var dates []time.Time
	add := func(run Run) {
		last := job.Firing{Named: run.Job.Named(run.FiresUntil)}.Date()
		for date := (job.Firing{Named: run.Named}).Date(); !date.After(last); date = date.AddDate(0, 0, 1) {
			dates = append(dates, date)
		}
	}
	for _, i := range jobs {
		for _, place := range p.made[i].one {
			add(p.runs[place])
		}
		for _, place := range p.made[i].many {
			add(p.runs[place])
		}
	}
	slices.SortFunc(dates, time.Time.Compare)
	return slices.Compact(dates)
}

func (p *planning) child(j Job, at, named time.Time, places []int, earlier []Ref) Run {
	run := Run{
		Job: j, Key: "a" + key(at, p.clock.Era)[1:], Cause: After,
		FiresAt: at, FiresUntil: at, Count: 1, Named: named, Parents: places, Earlier: earlier,
	}
	for _, place := range places { // what comes after a run that is caught up is caught up too
		if p.runs[place].Cause == CatchUp {
			run.Cause = CatchUp
		}
	}
	p.depend(&run)
	return run
}

// depend lets a run wait for its parents, or skips it when one of them will not
// run.
func (p *planning) depend(run *Run) {
	run.Verdict, run.Reason = Waits, DependencyReason
	for _, place := range run.Parents {
		switch parent := p.runs[place]; parent.Verdict {
		case Missed:
			run.Verdict, run.Reason = Skipped, fmt.Sprintf("%s: %s was missed", DependencyReason, parent.Job.Name)
			return
		case Skipped:
			run.Verdict, run.Reason = Skipped, fmt.Sprintf("%s: %s was skipped", DependencyReason, parent.Job.Name)
			return
		}
	}
}

// parentsOn finds the firings that the parents of a job have on a date: those
// that are being planned, those that were before, and until when more come.
func (p *planning) parentsOn(i int, date time.Time) (places []int, earlier []Ref, until time.Time) {
	for _, parent := range p.parentsOf(i) {
		for _, f := range p.jobs[parent].FiringsOn(date) {
			switch place, made := p.place(parent, f.At); {
			case made && !slices.Contains(places, place):
				places = append(places, place)
			case made: // one of a row of many
			case !f.At.After(p.now):
				earlier = append(earlier, Ref{p.jobs[parent].Key, f.At})
			case f.At.After(until):
				until = f.At
			}
		}
	}
	slices.Sort(places)
	return places, earlier, until
}

// waitFor lets the firings of a job with a schedule of its own wait for those
// of its parents: in the same instant where they fire together, else on the
// same date.
func (p *planning) waitFor(i int, runs []Run) {
	together := p.together(i)
	for at := range runs {
		run := &runs[at]
		if run.Verdict != Due {
			continue
		}
		if together {
			run.Parents = p.placesAt(i, run.FiresAt)
		} else {
			run.Parents, run.Earlier, run.WaitsUntil = p.parentsOn(i, job.Firing{Named: run.Named}.Date())
		}
		if len(run.Parents) > 0 || len(run.Earlier) > 0 || !run.WaitsUntil.IsZero() {
			p.depend(run)
		}
	}
}

// together reports whether a job with a schedule of its own fires when its
// parents do.
func (p *planning) together(i int) bool {
	own := p.jobs[i].Rhythms()[0]
	return !slices.ContainsFunc(p.parentsOf(i), func(parent int) bool {
		rhythms := p.jobs[parent].Rhythms()
		return len(rhythms) != 1 || !rhythms[0].Equal(own)
	})
}

// link ties firings of parents that come later on a date to the runs of a job
// with a schedule of its own that wait for them already.
func (p *planning) link(i int) {
	if p.together(i) {
		return
	}
	j := p.jobs[i]
	for _, parent := range p.parentsOf(i) {
		for _, date := range p.datesOf([]int{parent}) {
			before := slices.DeleteFunc(j.FiringsOn(date), func(f job.Firing) bool { return f.At.After(p.clock.Mark) })
			if len(before) == 0 {
				continue
			}
			for _, f := range p.jobs[parent].FiringsOn(date) {
				if place, made := p.place(parent, f.At); made {
					for _, own := range before {
						p.links = append(p.links, Link{Ref{j.Key, own.At}, place})
					}
				}
			}
		}
	}
}

// release lets go the runs for which no more parents come, and sees to it that
// the others are looked at in time. A date's firings are over within three
// days: what waits longer was said by a clock that was wrong.
func (d *Decision) release(in Input, now time.Time) {
	for _, w := range in.Waits {
		switch {
		case !w.Until.After(now), w.Until.Sub(now) > 72*time.Hour:
			d.Released = append(d.Released, w.Run)
		case w.Until.Before(d.Wake):
			d.Wake = w.Until
		}
	}
}

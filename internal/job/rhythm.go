package job

import (
	"slices"
	"time"

	"belfry/crontab"
)

// Rhythm is where firings come from: schedules in a zone.
type Rhythm struct {
	Schedules []crontab.Schedule
	Zone      *time.Location
}

// Equal reports whether two rhythms fire alike because they are written alike.
func (r Rhythm) Equal(other Rhythm) bool {
	return r.Zone.String() == other.Zone.String() && within(r.Schedules, other.Schedules) && within(other.Schedules, r.Schedules)
}

func within(a, b []crontab.Schedule) bool {
	return !slices.ContainsFunc(a, func(s crontab.Schedule) bool { return !slices.Contains(b, s) })
}

func (r Rhythm) next(t time.Time) time.Time {
	var first time.Time
	for i := range r.Schedules {
		if next := r.Schedules[i].Next(t.In(r.Zone)); !next.IsZero() && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first
}

func (r Rhythm) prev(t time.Time) time.Time {
	var last time.Time
	for i := range r.Schedules {
		if prev := r.Schedules[i].Prev(t.In(r.Zone)); prev.After(last) {
			last = prev
		}
	}
	return last
}

// fires reports whether the rhythm fires in the minute of t, and what it names
// for it: of several times, that the clocks skipped or not, the first.
func (r Rhythm) fires(t time.Time) (named time.Time, ok bool) {
	t = t.In(r.Zone)
	for i := range r.Schedules {
		if !r.Schedules[i].Match(t) {
			continue
		}
		if n := r.Schedules[i].Named(t); !ok || n.Before(named) {
			named, ok = n, true
		}
	}
	return named, ok
}

// Firing is an instant and the local date and time that the schedule named for
// it, as a reading in UTC: they differ from each other by more than the zone
// where the clocks skipped the time.
type Firing struct{ At, Named time.Time }

// Date is the day that was named.
func (f Firing) Date() time.Time { return f.Named.Truncate(24 * time.Hour) }

// on lists the firings that the rhythm names on day: not those whose instant
// falls on it, which may be another day's, moved by a gap.
func (r Rhythm) on(day time.Time) []Firing {
	var list []Firing
	// A firing that the clocks skip is moved by three hours at most, and so is
	// the end of a day that they repeat.
	end := StartOfDay(day.AddDate(0, 0, 1), r.Zone).Add(3 * time.Hour)
	for at := r.next(StartOfDay(day, r.Zone).Add(-time.Nanosecond)); !at.IsZero() && !at.After(end); at = r.next(at) {
		named, _ := r.fires(at)
		if f := (Firing{at, named}); f.Date().Equal(day) {
			list = append(list, f)
		}
	}
	return list
}

// StartOfDay is the first instant of the day in the zone, which is not midnight
// where the clocks skip it. A day that they skip whole begins with the next one.
func StartOfDay(day time.Time, zone *time.Location) time.Time {
	at := day.Add(-36 * time.Hour).In(zone) // a day before, anywhere
	for {
		_, offset := at.Zone()
		_, end := at.ZoneBounds() // until then the offset stays
		midnight := day.Add(-time.Duration(offset) * time.Second).In(zone)
		switch {
		case !end.IsZero() && !midnight.Before(end):
			at = end
		case midnight.Before(at):
			return at
		default:
			return midnight
		}
	}
}

// Rhythms are where the job's firings come from: its own schedules or, when it
// comes after others and has none, theirs. Of several it fires at the last
// instant of each date that they name.
func (j *Job) Rhythms() []Rhythm {
	if len(j.Schedules) > 0 || len(j.Inherited) == 0 {
		return []Rhythm{j.own()}
	}
	return j.Inherited
}

func (j *Job) own() Rhythm { return Rhythm{j.Schedules, j.Zone} }

// single gives the job's rhythm when it has only one.
func (j *Job) single() (Rhythm, bool) {
	switch {
	case len(j.Schedules) > 0 || len(j.Inherited) == 0:
		return j.own(), true
	case len(j.Inherited) == 1:
		return j.Inherited[0], true
	}
	return Rhythm{}, false
}

// Next is the first firing of the job after t, in its zone; zero when none
// comes.
func (j *Job) Next(t time.Time) time.Time {
	if r, ok := j.single(); ok {
		return r.next(t)
	}
	var first Firing
	for _, r := range j.Inherited {
		if at := r.next(t); !at.IsZero() && (first.At.IsZero() || at.Before(first.At)) {
			named, _ := r.fires(at)
			first = Firing{at, named}
		}
	}
	if first.At.IsZero() {
		return time.Time{}
	}
	// The last of its date may be preceded by that of another: zones lie up to 26
	// hours apart.
	var next time.Time
	for days := -2; days <= 2; days++ {
		for _, f := range j.FiringsOn(first.Date().AddDate(0, 0, days)) {
			if f.At.After(t) && (next.IsZero() || f.At.Before(next)) {
				next = f.At
			}
		}
	}
	return next
}

// Prev is the firing before t that an interval which ends at t begins with, in
// the zone of the schedule; zero when there was none. For a job after others of
// several rhythms it is that of the one which fires at t, if any does.
func (j *Job) Prev(t time.Time) time.Time {
	if r, ok := j.single(); ok {
		return r.prev(t)
	}
	if r, _, ok := j.at(t); ok {
		return r.prev(t)
	}
	var last time.Time
	for _, r := range j.Inherited {
		if prev := r.prev(t); prev.After(last) {
			last = prev
		}
	}
	return last
}

// startNamed is what the schedules name for the start of the interval that t ends.
func (j *Job) startNamed(t, start time.Time) time.Time {
	r, single := j.single()
	if !single {
		var ok bool
		if r, _, ok = j.at(t); !ok {
			return j.Named(start)
		}
	}
	named, _ := r.fires(start)
	return named
}

// at gives the rhythm that fires at t: of several the last one.
func (j *Job) at(t time.Time) (r Rhythm, named time.Time, ok bool) {
	for _, r := range slices.Backward(j.Rhythms()) {
		if named, ok := r.fires(t); ok {
			return r, named, true
		}
	}
	return Rhythm{}, time.Time{}, false
}

// ZoneAt is the zone in which the firing t is told: the job's or, when it comes
// after others of several zones, that of the one which fires last.
func (j *Job) ZoneAt(t time.Time) *time.Location {
	if r, single := j.single(); single {
		return r.Zone
	}
	if r, _, ok := j.at(t); ok {
		return r.Zone
	}
	return j.Zone
}

// Named is the local date and time that the schedules name for the firing t,
// as a reading in UTC: a firing that daylight saving moved keeps its day and
// hour. When no schedule fires at t it is t's own reading in the job's zone.
func (j *Job) Named(t time.Time) time.Time {
	if _, named, ok := j.at(t); ok {
		return named
	}
	t = t.In(j.ZoneAt(t))
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// FiringsOn lists the firings whose named date is day, a midnight in UTC.
func (j *Job) FiringsOn(day time.Time) []Firing {
	if r, ok := j.single(); ok {
		return r.on(day)
	}
	var last []Firing
	for _, r := range j.Inherited {
		if list := r.on(day); len(list) > 0 {
			if f := list[len(list)-1]; len(last) == 0 || !f.At.Before(last[0].At) {
				last = []Firing{f}
			}
		}
	}
	return last
}

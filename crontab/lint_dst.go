package crontab

import (
	"fmt"
	"time"
)

// zone returns the time zone that an entry is read in; nil when it is not known.
func (l *linter) zone(e *lintEntry) *time.Location {
	switch e.Zone {
	case "":
		return l.o.Zone
	case "UTC":
		return time.UTC
	}
	return l.load(e.Zone)
}

func (l *linter) load(name string) *time.Location {
	loc, known := l.zones[name]
	if !known && l.o.LoadZone != nil {
		if found, err := l.o.LoadZone(name); err == nil {
			loc = found
		}
		l.zones[name] = loc
	}
	return loc
}

// clockChanges calls do with the segments before and after each change in the coming year, until it returns true.
func (l *linter) clockChanges(e *lintEntry, do func(loc *time.Location, before, after segment) bool) {
	loc := l.zone(e)
	if loc == nil || l.o.Now.IsZero() || e.Schedule.never() {
		return
	}
	const year = 366 * 24 * 60 * 60
	now := l.o.Now.Unix()
	g := segmentAt(loc, now)
	for g.end != forever && g.end < now+year {
		n := g.next(loc)
		if n.offset != g.offset && do(loc, g, n) {
			return
		}
		g = n
	}
}

// otherwise reports whether the schedule names a minute on the day of w that is not one from first to last.
func (s *Schedule) otherwise(w, first, last int64) bool {
	day := floorDiv(w, dayMinutes) * dayMinutes
	_, before := s.after(day, first-1)
	_, after := s.after(last+1, day+dayMinutes-1)
	return before || after
}

// dstSkipped finds times that the clocks skip: where the schedule is fixed, they are made up for, and where it is a
// wildcard one that names nothing else that day, nothing runs.
func (l *linter) dstSkipped(e *lintEntry) {
	s := &e.Schedule
	l.clockChanges(e, func(loc *time.Location, before, after segment) bool {
		first, last := before.last()+1, after.first()-1
		w, named := s.after(first, last)
		if !named || last-first >= large {
			return false
		}
		what := ""
		switch {
		case !s.Wildcard():
			what = fmt.Sprintf("it runs at %s then", clock(after.first()))
		case last-first < small || s.otherwise(w, first, last):
			return false
		default:
			what = "it does not run at all that day, because its minute or hour begins with *"
		}
		l.report(e.Line, e.when.pos,
			fmt.Sprintf("%s does not exist on %s in %s, where the clocks go from %s to %s: %s", clock(w), date(w), zoneText(loc), clock(first), clock(after.first()), what),
			fmt.Sprintf("choose a time outside %s–%s, or write CRON_TZ=UTC above it", clock(first), clock(last)))
		return true
	})
}

// dstRepeated finds times that the clocks repeat: a fixed schedule fires the first time, a wildcard one both times,
// which is a surprise where it names nothing else that day.
func (l *linter) dstRepeated(e *lintEntry) {
	s := &e.Schedule
	l.clockChanges(e, func(loc *time.Location, before, after segment) bool {
		first, last := after.first(), before.last()
		w, named := s.after(first, last)
		if !named || last-first >= large {
			return false
		}
		what := ""
		switch {
		case !s.Wildcard():
			what = "it runs the first time only"
		case s.otherwise(w, first, last):
			return false
		default:
			what = "it runs both times, because its minute or hour begins with *"
		}
		l.report(e.Line, e.when.pos,
			fmt.Sprintf("%s comes twice on %s in %s, where the clocks go back from %s to %s: %s", clock(w), date(w), zoneText(loc), clock(last+1), clock(first), what),
			fmt.Sprintf("choose a time outside %s–%s, or write CRON_TZ=UTC above it", clock(first), clock(last)))
		return true
	})
}

func clock(w int64) string { return time.Unix(w*60, 0).UTC().Format("15:04") }
func date(w int64) string  { return time.Unix(w*60, 0).UTC().Format("2006-01-02") }

func zoneText(loc *time.Location) string {
	if loc.String() == "Local" {
		return "the machine's zone"
	}
	return loc.String()
}

package crontab

import (
	"iter"
	"time"
)

// Next returns the first firing strictly after t, in t's zone; the zero Time when none ever comes.
func (s Schedule) Next(t time.Time) time.Time {
	if s.never() {
		return time.Time{}
	}
	loc, sec := t.Location(), t.Unix()
	g := segmentAt(loc, sec)
	// A date may come again and again, and always when the clocks skip the hour: 2 o'clock on a Sunday the 30th of March,
	// in Berlin.
	limit := g.wall(sec) + searchYears*366*dayMinutes
	for {
		w := g.wall(sec) + 1
		if g.young(sec) {
			first, handled := g.first(), g.handled(loc)
			w = max(w, first)
			if _, ok := s.skipped(first, handled); ok && w == first {
				return at(loc, g.instant(w))
			}
			if !s.Wildcard() {
				w = max(w, handled+1)
			}
		}
		found, ok := s.after(w, forever)
		if ok && g.instant(found) < g.end {
			return at(loc, g.instant(found))
		}
		if g.end == forever {
			return time.Time{}
		}
		// Nothing in this segment. Go on to the next one; or, when the calendar has nothing for a long while, straight to
		// the neighbourhood of the next date it has. Two days cover every gap and repeat that there ever was.
		const near = 2 * dayMinutes
		last := g.last()
		if w > last+1-near {
			found, ok = s.after(last+1-near, forever)
		}
		if !ok || found > limit {
			return time.Time{}
		}
		if found > last+2*near {
			sec = g.instant(found - near)
			g = segmentAt(loc, sec)
			continue
		}
		sec = g.end - 1
		g = g.next(loc)
	}
}

// Prev returns the last firing strictly before t, in t's zone; the zero Time when there never was one.
func (s Schedule) Prev(t time.Time) time.Time {
	if s.never() {
		return time.Time{}
	}
	loc, sec := t.Location(), t.Unix()
	if t.Nanosecond() == 0 {
		sec--
	}
	g := segmentAt(loc, sec)
	for {
		w, first := min(g.wall(sec), g.last()), g.first()
		found, ok := s.before(w, first)
		if g.start != -forever && (!ok || found-first < large) {
			handled := g.handled(loc)
			if ok && !s.Wildcard() && found <= handled {
				ok = false
			}
			if !ok && w >= first {
				found = first
				_, ok = s.skipped(first, handled)
			}
		}
		if !ok && g.start == -forever {
			return time.Time{}
		}
		// The start of a segment may be wrong (see segmentAt); what was found, or not found, before the right one is void.
		probe := g.start
		if ok {
			probe = g.instant(found)
		}
		if offsetAt(loc, probe) != g.offset {
			g.start = boundsAt(loc, probe).end
			continue
		}
		if ok {
			return at(loc, g.instant(found))
		}
		const near = 2 * dayMinutes
		far, ok := s.before(first+near, -forever)
		if !ok {
			return time.Time{}
		}
		if far < first-2*near {
			sec = g.instant(far + near)
			g = segmentAt(loc, sec)
			continue
		}
		sec = g.start - 1
		g = g.previous(loc)
	}
}

// Between yields the firings in (a, b] in order, in a's zone.
func (s Schedule) Between(a, b time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		for t := s.Next(a); !t.IsZero() && !t.After(b); t = s.Next(t) {
			if !yield(t) {
				return
			}
		}
	}
}

// Match reports whether a firing falls in the minute of t. In a gap or a repeat that is more than a comparison of the
// fields: see [Schedule].
func (s Schedule) Match(t time.Time) bool {
	offset := offsetAt(t.Location(), t.Unix())
	minute := floorDiv(t.Unix()+offset, 60)*60 - offset
	next := s.Next(at(t.Location(), minute-1))
	return !next.IsZero() && next.Unix() < minute+60
}

// Named returns the local date and time that the schedule named for a firing, as a time in UTC whose clock reads that.
// It differs from what the clock on the wall showed only where the clocks skipped the named time: a firing at 03:00 for
// a schedule of 02:30 was named 02:30. When several times fell into the gap, it is the first.
func (s Schedule) Named(firing time.Time) time.Time {
	loc, sec := firing.Location(), firing.Unix()
	g := segmentAt(loc, sec)
	if first := g.first(); g.start != -forever && !s.never() && sec == g.instant(first) {
		if w, ok := s.skipped(first, g.handled(loc)); ok {
			return time.Unix(w*60, 0).UTC()
		}
	}
	return time.Unix(sec+g.offset, int64(firing.Nanosecond())).UTC()
}

// skipped returns the first wall minute that the schedule names and that the clocks skipped when they came to a segment
// whose first it is given, if the schedule makes up for it there.
func (s *Schedule) skipped(first, handled int64) (int64, bool) {
	if handled >= first-1 || s.Wildcard() && first-handled > small {
		return 0, false
	}
	return s.after(handled+1, first-1)
}

func at(loc *time.Location, sec int64) time.Time { return time.Unix(sec, 0).In(loc) }

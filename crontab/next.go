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
	for {
		w := max(floorDiv(sec+g.offset, 60)+1, g.first)
		if w-g.first < large && g.start != -forever {
			handled := g.handled(loc)
			if _, ok := s.skipped(&g, handled); ok && w == g.first {
				return at(loc, g.instant(w))
			}
			if !s.Wildcard() {
				w = max(w, handled+1)
			}
		}
		if w, ok := s.after(w, g.last); ok {
			return at(loc, g.instant(w))
		}
		if g.end == forever {
			return time.Time{}
		}
		// Nothing in this segment. Go on to the next one; or, when the calendar has nothing for a long while, straight to
		// the neighbourhood of the next date it has. Two days cover every gap and repeat that there ever was.
		const near = 2 * dayMinutes
		far, ok := s.after(g.last+1-near, forever)
		if !ok {
			return time.Time{}
		}
		if far > g.last+2*near {
			sec = g.instant(far - near)
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
		w := min(floorDiv(sec+g.offset, 60), g.last)
		found, ok := s.before(w, g.first)
		if g.start != -forever && (!ok || found-g.first < large) {
			handled := g.handled(loc)
			if ok && !s.Wildcard() && found <= handled {
				ok = false
			}
			if !ok && w >= g.first {
				found = g.first
				_, ok = s.skipped(&g, handled)
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
			g.measure()
			continue
		}
		if ok {
			return at(loc, g.instant(found))
		}
		const near = 2 * dayMinutes
		far, ok := s.before(g.first+near, -forever)
		if !ok {
			return time.Time{}
		}
		if far < g.first-2*near {
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
	if g.start != -forever && !s.never() && sec == g.instant(g.first) {
		if w, ok := s.skipped(&g, g.handled(loc)); ok {
			return time.Unix(w*60, 0).UTC()
		}
	}
	return time.Unix(sec+g.offset, int64(firing.Nanosecond())).UTC()
}

// skipped returns the first wall minute that the schedule names and that the clocks skipped when they came to g, if the
// schedule makes up for it at g.first.
func (s *Schedule) skipped(g *segment, handled int64) (int64, bool) {
	if handled >= g.first-1 || s.Wildcard() && g.first-handled > small {
		return 0, false
	}
	return s.after(handled+1, g.first-1)
}

func at(loc *time.Location, sec int64) time.Time { return time.Unix(sec, 0).In(loc) }

package crontab

import (
	"math"
	"time"
)

// segment is a stretch of time in which a zone's offset from UTC does not change. Within it, local time runs as evenly
// as UTC does, and a wall minute (minutes of local time since 1970-01-01 00:00 local) is one instant.
//
// It is small so that it lives in registers: Next does little more than look at one.
type segment struct {
	start, end int64 // Unix seconds, [start, end); ±forever where the zone has no bound
	offset     int64 // seconds east of UTC
}

const (
	forever    = math.MaxInt64 / 4
	dayMinutes = 24 * 60
	large      = 180 // minutes: cron takes a larger gap or repeat as it is
	small      = 5   // minutes: cron replays a smaller gap for every schedule, wildcard ones too
)

// segmentAt returns the segment that holds the instant sec.
//
// Time.ZoneBounds is nearly what it is made of. Past the last transition that a zone file lists, the bounds come from
// its rule for the future, and three things have to be put right or lived with: the segment may begin or end at the turn
// of the year, where nothing changes (harmless, see handled); on the last day of a leap year its end lies in the past;
// and its start may lie before the last listed transition, where another offset held (America/Ojinaga left Mountain
// Time on 2022-11-30; by the rule alone its winter had begun on the 6th).
//
// So the zone is asked about three hours earlier. Mostly that is the same segment, and where exactly it began is then
// too long ago to matter; otherwise the segment begins where the earlier one ends, or later.
//
// So the zone is asked about an instant three hours earlier. Mostly that is in the same segment, and where that began is
// then too long ago to matter; otherwise the way from there leads over the right start.
func segmentAt(loc *time.Location, sec int64) segment {
	if loc == time.UTC {
		return segment{start: -forever, end: forever}
	}
	g := boundsAt(loc, sec-large*60)
	for g.end <= sec {
		g = g.next(loc)
	}
	return g
}

func boundsAt(loc *time.Location, sec int64) segment {
	t := time.Unix(sec, 0).In(loc)
	_, offset := t.Zone()
	from, to := t.ZoneBounds()
	g := segment{start: -forever, end: forever, offset: int64(offset)}
	if !from.IsZero() {
		g.start = from.Unix()
	}
	if !to.IsZero() {
		g.end = to.Unix()
	}
	if g.end <= sec {
		g.end = (floorDiv(sec, 24*60*60) + 1) * 24 * 60 * 60
	}
	return g
}

func offsetAt(loc *time.Location, sec int64) int64 {
	_, offset := time.Unix(sec, 0).In(loc).Zone()
	return int64(offset)
}

// first and last are the first and the last wall minute that begin in g.
func (g segment) first() int64 { return -floorDiv(-(g.start + g.offset), 60) }
func (g segment) last() int64  { return -floorDiv(-(g.end+g.offset), 60) - 1 }

// wall is the wall minute in which the instant sec lies.
func (g segment) wall(sec int64) int64 { return floorDiv(sec+g.offset, 60) }

// instant is the Unix second at which the wall minute w begins in g.
func (g segment) instant(w int64) int64 { return w*60 - g.offset }

// young reports whether cron may be busy at sec with the change of clocks that g began with.
func (g segment) young(sec int64) bool { return sec-g.start < large*60 && g.start != -forever }

// next returns the segment after g; g.end must not be forever.
func (g segment) next(loc *time.Location) segment {
	n := boundsAt(loc, g.end)
	n.start = g.end
	return n
}

// previous returns the segment before g; g.start must not be forever ago.
func (g segment) previous(loc *time.Location) segment {
	p := boundsAt(loc, g.start-1)
	p.end = g.start
	return p
}

// handled returns the highest wall minute that was over before g began: what cron calls virtual time. In terms of it,
// g.first-1 is what there is when nothing jumps, less is a gap, whose minutes are handled+1 to g.first-1, and more is a
// repeat, of the minutes g.first to handled. After a large jump it is g.first-1, as if there had been none.
//
// The procedure of cron's loop starts with the first segment of the zone and carries this number along. Looking back
// gives the same: in a segment of three hours or more cron has caught up with itself by the end, whatever it began
// with, so the search stops at the first such segment. That is nearly always the one before.
func (g segment) handled(loc *time.Location) int64 {
	first := g.first()
	if g.start == -forever {
		return first - 1
	}
	p := g.previous(loc)
	before := p.last()
	if before-p.first()+1 < large {
		before = max(before, p.handled(loc))
	}
	if jump := first - before; jump > large || jump <= -large {
		return first - 1
	}
	return before
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

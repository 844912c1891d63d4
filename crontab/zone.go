package crontab

import (
	"math"
	"time"
)

// segment is a stretch of time in which a zone's offset from UTC does not change. Within it, local time runs as evenly
// as UTC does, and a wall minute (minutes of local time since 1970-01-01 00:00 local) is one instant.
type segment struct {
	start, end  int64 // Unix seconds, [start, end); ±forever where the zone has no bound
	offset      int64 // seconds east of UTC
	first, last int64 // the wall minutes whose instants lie in the segment
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
func segmentAt(loc *time.Location, sec int64) segment {
	if loc == time.UTC {
		g := segment{start: -forever, end: forever}
		g.measure()
		return g
	}
	g := boundsAt(loc, sec)
	const back = large * 60
	if sec-g.start > back && offsetAt(loc, sec-back) != g.offset {
		g.start = boundsAt(loc, sec-back).end
		g.measure()
	}
	return g
}

func boundsAt(loc *time.Location, sec int64) segment {
	t := time.Unix(sec, 0).In(loc)
	_, offset := t.Zone()
	g := segment{start: -forever, end: forever, offset: int64(offset)}
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		g.start = start.Unix()
	}
	if !end.IsZero() {
		g.end = end.Unix()
	}
	if g.end <= sec {
		g.end = (floorDiv(sec, 24*60*60) + 1) * 24 * 60 * 60
	}
	g.measure()
	return g
}

func offsetAt(loc *time.Location, sec int64) int64 {
	_, offset := time.Unix(sec, 0).In(loc).Zone()
	return int64(offset)
}

func (g *segment) measure() {
	g.first = -floorDiv(-(g.start + g.offset), 60)
	g.last = -floorDiv(-(g.end+g.offset), 60) - 1
}

// instant is the Unix second at which the wall minute w begins in g.
func (g *segment) instant(w int64) int64 { return w*60 - g.offset }

// next returns the segment after g; g.end must not be forever.
func (g *segment) next(loc *time.Location) segment {
	n := boundsAt(loc, g.end)
	n.start = g.end
	n.measure()
	return n
}

// previous returns the segment before g; g.start must not be forever ago.
func (g *segment) previous(loc *time.Location) segment {
	p := boundsAt(loc, g.start-1)
	p.end = g.start
	p.measure()
	return p
}

// handled returns the highest wall minute that was over before g began: what cron calls virtual time. In terms of it,
// g.first-1 is what there is when nothing jumps, less is a gap, whose minutes are handled+1 to g.first-1, and more is a
// repeat, of the minutes g.first to handled. After a large jump it is g.first-1, as if there had been none.
//
// The procedure of cron's loop starts with the first segment of the zone and carries this number along. Looking back
// gives the same: in a segment of three hours or more cron has caught up with itself by the end, whatever it began
// with, so the search stops at the first such segment. That is nearly always the one before.
func (g *segment) handled(loc *time.Location) int64 {
	if g.start == -forever {
		return g.first - 1
	}
	p := g.previous(loc)
	before := p.last
	if p.last-p.first+1 < large {
		before = max(before, p.handled(loc))
	}
	if jump := g.first - before; jump > large || jump <= -large {
		return g.first - 1
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

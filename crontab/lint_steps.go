package crontab

import (
	"fmt"
	"strings"
)

// stepPart is a part of a field with a step.
type stepPart struct {
	placed
	low, high, step int
	star            bool
}

// steps returns the parts of a field that have a step.
func (e *lintEntry) steps(i int) []stepPart {
	f := &fields[i]
	pos := e.fields[i].pos
	var parts []stepPart
	for text := range strings.SplitSeq(e.fields[i].text, ",") {
		part := stepPart{placed: placed{text, pos}, low: f.low, high: f.high}
		pos += len(text) + 1
		body, step, ok := strings.Cut(text, "/")
		if !ok {
			continue
		}
		part.step, _ = number(step)
		part.star = body == "*"
		if from, to, ok := strings.Cut(body, "-"); ok {
			part.low, _ = f.value(from)
			part.high, _ = f.value(to)
			if f == dowField && part.high == 0 {
				part.high = 7
			}
		}
		parts = append(parts, part)
	}
	return parts
}

// unevenStep finds a step that fills its cycle and does not divide it, where the schedule goes on into the next cycle.
func (l *linter) unevenStep(e *lintEntry) {
	s := &e.Schedule
	for i := range fields {
		f := &fields[i]
		parts := e.steps(i)
		if len(parts) != 1 || len(parts[0].text) != len(e.fields[i].text) {
			continue
		}
		p := parts[0]
		cycle := f.full().len()
		if p.step < 2 || p.low-f.low >= p.step || p.high+p.step <= f.high || p.high-p.low < p.step || !s.goesOn(i) {
			continue
		}
		if (i == domAt || i == dowAt) && !p.star && (p.low != f.low || p.high != f.high) {
			continue // 1-28/7 and 1-5/2 are lists of days
		}
		last := p.low + (p.high-p.low)/p.step*p.step
		gap := p.low + cycle - last
		if gap == p.step || i == dowAt && s.dow&(s.dow-1) == 0 { // dow */7 is Sunday
			continue
		}
		values := s.field(f)
		said := fmt.Sprintf("%q in the %s field fires ", p.text, f.name)
		fix := ""
		switch i {
		case minuteAt:
			said += fmt.Sprintf("at %s and then at %02d again: after %s, not %d", values.shortened("%02d"), p.low, plural(gap, "minute"), p.step)
			fix = fmt.Sprintf("write a step that divides 60, such as %q, or list the minutes", stepBelow(p.step, 60))
		case hourAt:
			said += fmt.Sprintf("at %s o'clock and then at %02d again: after %s, not %d", values.shortened("%02d"), p.low, plural(gap, "hour"), p.step)
			fix = fmt.Sprintf("write a step that divides 24, such as %q, or list the hours", stepBelow(p.step, 24))
		case domAt:
			said += fmt.Sprintf("on %s and then on %d again: after %s in a month of 31, not %d", values.shortened("%d"), p.low, plural(gap, "day"), p.step)
			fix = fmt.Sprintf(`list the days, or run it every day and begin the command with [ $(( $(date +\%%s) / 86400 \%% %d )) = 0 ] || exit 0; – which counts the days of UTC`, p.step)
		case monthAt:
			said += fmt.Sprintf("in %s and then in %s again: after %s, not %d", monthNamesOf(values), monthName(p.low), plural(gap, "month"), p.step)
			fix = fmt.Sprintf("write a step that divides 12, such as %q, or list the months", stepBelow(p.step, 12))
		case dowAt:
			said += fmt.Sprintf("on %s and then on %s again: after %s, not %d", dayNamesOf(values), dayName(values.min()), plural(gap%7, "day"), p.step)
			fix = "list the days, such as mon,wed,fri"
		}
		l.report(e.Line, p.pos, said, fix)
	}
}

func monthNamesOf(s set) string {
	var names []string
	for n := range s.each() {
		names = append(names, monthName(n))
	}
	return words(names)
}

func dayNamesOf(s set) string {
	var names []string
	for n := range s.each() {
		names = append(names, dayName(n))
	}
	return words(names)
}

// stepBelow writes the largest step up to n that divides the cycle.
func stepBelow(n, cycle int) string {
	n = min(n, cycle/2)
	for cycle%n != 0 {
		n--
	}
	return fmt.Sprintf("*/%d", n)
}

// goesOn reports whether the schedule comes to the end of the ith field's cycle and runs on into the next: minutes, in
// two hours that follow each other, and so on.
func (s *Schedule) goesOn(i int) bool {
	follow := func(v set, f *field) bool {
		cycle := f.full().len()
		for n := range v.each() {
			if v.has(f.low + (n-f.low+1)%cycle) {
				return true
			}
		}
		return false
	}
	anyDom, anyDow := set(s.dom) == domField.full(), set(s.dow) == dowField.full()
	switch i {
	case minuteAt:
		return follow(set(s.hour), hourField)
	case hourAt:
		return anyDow && follow(set(s.dom), domField) || anyDom && follow(set(s.dow), dowField)
	case domAt:
		return anyDow && follow(set(s.month), monthField)
	case dowAt:
		return anyDom
	}
	return true
}

// largeStep finds steps beyond the end of their range, of which the first value alone is left.
func (l *linter) largeStep(e *lintEntry) {
	for i := range fields {
		f := &fields[i]
		list := strings.Contains(e.fields[i].text, ",")
		for _, p := range e.steps(i) {
			if p.step <= p.high-p.low || p.low == p.high || list && p.star && (i == domAt || i == dowAt) { // see andDays
				continue
			}
			fix := fmt.Sprintf("write %q if that is meant", fmt.Sprint(p.low))
			if i == minuteAt && p.star && p.step%60 == 0 && 24%(p.step/60) == 0 {
				hours := "*"
				if p.step > 60 {
					hours = fmt.Sprintf("*/%d", p.step/60)
				}
				fix += fmt.Sprintf("; for every %d minutes write %q for minute and hour", p.step, "0 "+hours)
			} else if i == minuteAt && p.star && p.step == 90 {
				fix += "; for every 90 minutes write two lines, 0 0-23/3 and 30 1-23/3"
			}
			l.report(e.Line, p.pos,
				fmt.Sprintf("the step of %q is longer than its range (%d–%d): it is %d and nothing else, once in each %s", p.text, p.low, p.high, p.low, cycleOf(f)), fix)
		}
	}
}

func cycleOf(f *field) string {
	switch f {
	case minuteField:
		return "hour"
	case hourField:
		return "day"
	case domField:
		return "month"
	case monthField:
		return "year"
	}
	return "week"
}

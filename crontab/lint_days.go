package crontab

import (
	"fmt"
	"strings"
)

func (l *linter) reportField(e *lintEntry, field int, message, fix string) {
	at := e.fields[field].pos
	if e.fields[field].text == "" {
		at = e.when.pos
	}
	l.report(e.Line, at, message, fix)
}

const (
	minuteAt = iota
	hourAt
	domAt
	monthAt
	dowAt
)

// orDays finds two day fields of which either is enough.
func (l *linter) orDays(e *lintEntry) {
	s := &e.Schedule
	if e.fields[domAt].text == "" || s.flags&(domStar|dowStar) != 0 {
		return
	}
	if _, ok := s.after(0, forever); !ok {
		return
	}
	dom, dow := e.fields[domAt].text, e.fields[dowAt].text
	message := fmt.Sprintf("day of the month %q and day of the week %q are joined by or: it runs %s", dom, dow, s.Explain())
	fullDom, fullDow := set(s.dom) == domField.full(), set(s.dow) == dowField.full()
	switch {
	case fullDom && fullDow:
		return // they mean the same either way
	case fullDom:
		l.reportField(e, domAt, message, fmt.Sprintf(`to run on the days of the week alone, write * in place of %q`, dom))
	case fullDow:
		l.reportField(e, dowAt, message, fmt.Sprintf(`to run on the days of the month alone, write * in place of %q`, dow))
	default:
		l.reportField(e, domAt, message, fmt.Sprintf(
			"if both should hold, write * for the day of the week and begin the command with %s", weekdayTest(set(s.dow), e.Zone)))
	}
}

// weekdayTest is what a command begins with that is to run on some days of the week only, as a crontab spells it. It
// ends well on the other days: a test with && would be a failure there.
func weekdayTest(dow set, zone string) string {
	date := dateIn(zone)
	digits := ""
	for d := range (dow&^1 | dow&1<<7).each() {
		digits += fmt.Sprint(d)
	}
	if len(digits) == 1 {
		return fmt.Sprintf(`[ "$(%s +\%%u)" = %s ] || exit 0;`, date, digits)
	}
	return fmt.Sprintf(`%s +\%%u | grep -q "[%s]" || exit 0;`, date, digits)
}

// andDays finds a star with a step beside another day field, which turns or into and.
func (l *linter) andDays(e *lintEntry) {
	s := &e.Schedule
	if e.fields[domAt].text == "" || !s.bothDays() || s.flags&(domStar|dowStar) == 0 {
		return
	}
	star := domAt
	if s.flags&domStar == 0 {
		star = dowAt
	}
	text, other := e.fields[star].text, e.fields[domAt+dowAt-star].text
	// "*/100,1-7" is how those write it who want the and: the star is there for nothing else.
	if first, _, list := strings.Cut(text, ","); list {
		if n, ok := number(strings.TrimPrefix(first, "*/")); ok && n > fields[star].high-fields[star].low {
			return
		}
	}
	l.reportField(e, star,
		fmt.Sprintf("%q begins with *, so both day fields must hold: it runs %s", text, s.Explain()),
		fmt.Sprintf("if either should be enough, write the values out in place of %q; if only one of the fields is meant, write * in place of %q or %q", text, text, other))
}

// neverFires finds dates that no calendar has.
func (l *linter) neverFires(e *lintEntry) {
	if e.Schedule.never() {
		return
	}
	if _, ok := e.Schedule.after(0, forever); ok {
		return
	}
	l.reportField(e, domAt,
		fmt.Sprintf("it never runs: there is no such date (%s)", e.Schedule.whichDays()),
		"write a day that the month has, or other months")
}

// shortMonth finds days that some of the schedule's months do not have.
func (l *linter) shortMonth(e *lintEntry) {
	s := &e.Schedule
	first := set(s.dom).min()
	if s.never() || s.flags&(domStar|dowStar) == 0 || first < 29 || !s.short(first) {
		return
	}
	if _, ok := s.after(0, forever); !ok {
		return
	}
	var lacking []string
	february := false
	for m := range set(s.month).each() {
		switch {
		case monthLength(2023, m) >= first:
		case m == 2 && first == 29:
			february = true
		default:
			lacking = append(lacking, monthName(m))
		}
	}
	message := ""
	switch {
	case len(lacking) == 0 && set(s.month) == 1<<2:
		message = "29 February comes in leap years only: it does not run in the others"
	case len(lacking) == 0 && february:
		message = "February has no day 29, except in leap years: it does not run in that month"
	default:
		verb := "has"
		if len(lacking) > 1 {
			verb = "have"
		}
		message = fmt.Sprintf("%s %s no day %d: it does not run in %s", words(lacking), verb, first, pronoun(len(lacking)))
	}
	l.reportField(e, domAt, message,
		fmt.Sprintf(`for the last day of a month write 28-31 and begin the command with [ "$(%s -d tomorrow +\%%d)" = 01 ] || exit 0; – otherwise choose a day up to 28`, dateIn(e.Zone)))
}

func pronoun(months int) string {
	if months == 1 {
		return "that month"
	}
	return "those months"
}

func dateIn(zone string) string {
	if zone == "" {
		return "date"
	}
	return "TZ=" + zone + " date"
}

// everyMinute finds a * in the minutes that was meant to be a 0.
func (l *linter) everyMinute(e *lintEntry) {
	s := &e.Schedule
	if text := e.fields[minuteAt].text; text != "*" && text != "*/1" {
		return
	}
	hour, dom := e.fields[hourAt].text, e.fields[domAt].text
	picked := func(text string) bool { return !strings.ContainsAny(text, "*-~/") } // single values
	minute := e.fields[minuteAt].text
	switch {
	case picked(hour) && hour != "":
		l.reportField(e, minuteAt,
			fmt.Sprintf("%q in the minute field is each of the 60 minutes of the hour: it runs %d times a day, from %02d:00 on", minute, 60*set(s.hour).len(), set(s.hour).min()),
			fmt.Sprintf("to run once in the hour, write 0 for the minute: %q", "0 "+strings.TrimLeft(strings.TrimPrefix(s.text, minute), " \t")))
	case strings.HasPrefix(hour, "*/") && s.hour != uint32(hourField.full()):
		l.reportField(e, minuteAt,
			fmt.Sprintf("%q in the minute field is each of the 60 minutes of those hours: it runs %d times a day", minute, 60*set(s.hour).len()),
			fmt.Sprintf("to run once in the hour, write 0 for the minute: %q", "0 "+strings.TrimLeft(strings.TrimPrefix(s.text, minute), " \t")))
	case hour == "*" && picked(dom):
		l.reportField(e, minuteAt,
			fmt.Sprintf("%q for minute and hour is every minute of the day: it runs 1440 times on each of its days", minute),
			"to run once a day, write a minute and an hour")
	}
}

package crontab

import (
	"fmt"
	"strings"
)

// Explain says in a sentence when the schedule fires, in local time: "every day at 16:00". It begins in lower case and
// has no full stop.
//
// It says what the schedule does and not how it was written: 0-59/5 and */5 read alike. Long lists are shortened, never
// to something that is wrong.
func (s Schedule) Explain() string {
	if s.Reboot() {
		return "once each time the machine has started"
	}
	if s.never() {
		return "never"
	}
	if _, ok := s.after(0, forever); !ok {
		return fmt.Sprintf("never: there is no such date (%s)", s.whichDays())
	}
	text := ""
	minutes, hours := set(s.minute), set(s.hour)
	switch times := minutes.len() * hours.len(); {
	case times <= 6:
		var clock []string
		for h := range hours.each() {
			for m := range minutes.each() {
				clock = append(clock, fmt.Sprintf("%02d:%02d", h, m))
			}
		}
		text = s.whichDays() + " at " + words(clock)
		if s.bothDays() { // a long phrase: the time goes first
			text = "at " + words(clock) + " " + s.whichDays()
		}
	default:
		text = s.timeOfDay()
		day := s.whichDays()
		whole := minutes == minuteField.full() && hours == hourField.full()
		hourly := minutes.len() == 1 && hours == hourField.full()
		if day != "every day" || hours != hourField.full() {
			text += ", " + day
		}
		if !whole && !hourly {
			text += fmt.Sprintf(", %d times a day", times)
		}
	}
	if s.flags&drawn != 0 {
		text += " (drawn for ~)"
	}
	return text
}

// timeOfDay says at which times of a day a schedule fires that does so more often than a list could bear.
func (s *Schedule) timeOfDay() string {
	minutes, hours := set(s.minute), set(s.hour)
	all := hours == hourField.full()
	runs := hours.runs()
	oneRun := len(runs) == 1 && hours.len() > 3 && !all

	if minutes.len() == 1 {
		m := minutes.min()
		step, evenly := hours.step()
		switch {
		case all && m == 0:
			return "every hour on the hour"
		case all && m == 1:
			return "every hour at 1 minute past"
		case all:
			return fmt.Sprintf("every hour at %d minutes past", m)
		case oneRun:
			return fmt.Sprintf("every hour from %02d:%02d to %02d:%02d", hours.min(), m, hours.max(), m)
		case evenly:
			return fmt.Sprintf("every %d hours (%s%s)", step, hours.shortened(fmt.Sprintf("%%02d:%02d", m)), seam(hours, step, 24, "hour"))
		}
		if m == 0 {
			return "on the hour at " + hours.list("%02d")
		}
		return fmt.Sprintf("at %s past %s", plural(m, "minute"), hours.list("%02d"))
	}

	text := ""
	step, evenly := minutes.step()
	minuteRuns := minutes.runs()
	tiled := evenly && minutes.min() < step && minutes.max()+step > 59 // the step fills the hour, if not evenly
	switch {
	case minutes == minuteField.full():
		text = "every minute"
	case len(minuteRuns) == 1:
		text = fmt.Sprintf("every minute from :%02d to :%02d", minutes.min(), minutes.max())
	case tiled:
		text = fmt.Sprintf("every %d minutes (%s%s)", step, minutes.shortened("%02d"), seam(minutes, step, 60, "minute"))
	case evenly && minutes.len() > 3:
		text = fmt.Sprintf("every %d minutes from :%02d to :%02d", step, minutes.min(), minutes.max())
	default:
		text = "at the minutes " + minutes.list("%02d")
	}
	switch hourStep, evenly := hours.step(); {
	case all && (minutes == minuteField.full() || tiled):
		return text
	case all:
		return text + " of every hour"
	case len(runs) == 1 && minutes == minuteField.full():
		return fmt.Sprintf("every minute from %02d:00 to %02d:59", hours.min(), hours.max())
	case oneRun && evenlyTiled(minutes):
		return fmt.Sprintf("%s from %02d:%02d to %02d:%02d", text, hours.min(), minutes.min(), hours.max(), minutes.max())
	case evenly && hours.len() > 3 && !oneRun:
		return fmt.Sprintf("%s of every %s hour (%s%s)", text, ordinal(hourStep), hours.shortened("%02d"), seam(hours, hourStep, 24, "hour"))
	}
	return text + " past " + hours.list("%02d")
}

// evenlyTiled reports whether the minutes go on from one hour to the next without a seam.
func evenlyTiled(minutes set) bool {
	step, ok := minutes.step()
	return ok && 60%step == 0 && minutes.len() == 60/step
}

// seam says what is uneven where a step meets the end of its cycle: */7 is 4 minutes short at the hour.
func seam(s set, step, cycle int, unit string) string {
	gap := s.min() + cycle - s.max()
	if gap == step {
		return ""
	}
	return fmt.Sprintf("; unevenly: %s from %02d to %02d", plural(gap, unit), s.max(), s.min())
}

// bothDays reports whether both day fields leave days out, so that their rule matters.
func (s *Schedule) bothDays() bool {
	return set(s.dom) != domField.full() && set(s.dow) != dowField.full()
}

// whichDays says on which days, and which rule holds where both day fields are given.
func (s *Schedule) whichDays() string {
	dom, dow := set(s.dom), set(s.dow)
	months := set(s.month)
	anyDom, anyDow := dom == domField.full(), dow == dowField.full()
	both := s.flags&(domStar|dowStar) != 0
	inMonths := ""
	if months != monthField.full() {
		inMonths = " " + monthPhrase(months)
	}
	switch {
	case anyDom && anyDow:
		return "every day" + inMonths
	case !both && (anyDom || anyDow):
		return "every day" + inMonths + " (one day field names every day, and either is enough)"
	case anyDom:
		return weekPhrase(dow, "every ") + inMonths
	case anyDow:
		return s.monthDays() + s.lacking()
	case both:
		return s.monthDays() + s.lacking() + ", but only if that is " + weekPhrase(dow, "a ")
	}
	return s.monthDays() + s.lacking() + ", and also " + weekPhrase(dow, "every ") + inMonths + " (either is enough)"
}

// monthDays says which days of which months the day-of-the-month field names.
func (s *Schedule) monthDays() string {
	dom, months := set(s.dom), set(s.month)
	if dom == domField.full() {
		return "every day " + monthPhrase(months)
	}
	if dom.len() == 1 && months.len() <= 6 {
		var names []string
		for m := range months.each() {
			names = append(names, monthName(m))
		}
		return fmt.Sprintf("on %d %s", dom.min(), words(names))
	}
	of := "of every month"
	if months != monthField.full() {
		of = "of the month " + monthPhrase(months)
	}
	step, evenly := dom.step()
	switch runs := dom.runs(); {
	case evenly && step > 1 && dom.len() > 3:
		return fmt.Sprintf("every %s day %s (%s; then from the start again)", ordinal(step), of, dom.shortened("%d"))
	case len(runs) <= 6:
		var days []string
		for _, run := range runs {
			day := "the " + ordinal(run[0])
			if run[1] == run[0]+1 {
				days = append(days, day)
				day = "the " + ordinal(run[1])
			} else if run[1] > run[0] {
				day += " to the " + ordinal(run[1])
			}
			days = append(days, day)
		}
		return "on " + words(days) + " " + of
	default:
		return fmt.Sprintf("on %d days %s (%s)", dom.len(), of, dom.shortened("%d"))
	}
}

// lacking says that some of the months have none of the days; of those that never have, Explain says more.
func (s *Schedule) lacking() string {
	first, february := set(s.dom).min(), set(s.month) == 1<<2
	switch {
	case first < 29 || !s.short(first):
		return ""
	case first == 31 && s.month&(1<<1|1<<3|1<<5|1<<7|1<<8|1<<10|1<<12) == 0, first == 30 && february:
		return "" // none of them has it
	case february:
		return " (in leap years)"
	case first == 29:
		return " (in February in leap years only)"
	}
	return " (in months that have that day)"
}

// short reports whether one of the schedule's months has no such day.
func (s *Schedule) short(day int) bool {
	for m := range set(s.month).each() {
		if monthLength(2023, m) < day {
			return true
		}
	}
	return false
}

// weekPhrase says which weekdays; each stands in front of a single one.
func weekPhrase(dow set, each string) string {
	if dow == span(1, 5, 1) {
		return each + "weekday (Monday to Friday)"
	}
	week := dow &^ 1 // people's week begins on Monday and ends with Sunday
	if dow.has(0) {
		week |= 1 << 7
	}
	if runs := week.runs(); len(runs) == 1 && week.len() > 2 {
		return fmt.Sprintf("%sday from %s to %s", each, dayName(runs[0][0]), dayName(runs[0][1]))
	}
	var names []string
	for d := range week.each() {
		names = append(names, dayName(d))
	}
	return each + joined(names, conjunction(each))
}

func conjunction(each string) string {
	if each == "a " {
		return "or"
	}
	return "and"
}

func monthPhrase(months set) string {
	runs := months.runs()
	if len(runs) == 1 && months.len() > 2 {
		return fmt.Sprintf("from %s to %s", monthName(runs[0][0]), monthName(runs[0][1]))
	}
	var names []string
	for _, run := range runs {
		switch name := monthName(run[0]); run[1] - run[0] {
		case 0:
			names = append(names, name)
		case 1:
			names = append(names, name, monthName(run[1]))
		default:
			names = append(names, name+" to "+monthName(run[1]))
		}
	}
	return "in " + words(names)
}

func monthName(m int) string { return strings.ToUpper(longMonths[m-1][:1]) + longMonths[m-1][1:] }
func dayName(d int) string   { return strings.ToUpper(longDays[d%7][:1]) + longDays[d%7][1:] }

// runs returns the stretches of consecutive values.
func (s set) runs() [][2]int {
	var runs [][2]int
	for n := range s.each() {
		if i := len(runs) - 1; i >= 0 && runs[i][1] == n-1 {
			runs[i][1] = n
		} else {
			runs = append(runs, [2]int{n, n})
		}
	}
	return runs
}

// step returns the distance between the values, if it is the same everywhere.
func (s set) step() (int, bool) {
	if s.len() < 2 {
		return 0, false
	}
	step := (s & (s - 1)).min() - s.min()
	return step, s == span(s.min(), s.max(), step)
}

// list writes values with ranges for what is consecutive, and shortens what would still be long.
func (s set) list(format string) string {
	var items []string
	for _, run := range s.runs() {
		item := fmt.Sprintf(format, run[0])
		if run[1]-run[0] >= 3 {
			items = append(items, item+"–"+fmt.Sprintf(format, run[1]))
			continue
		}
		for n := run[0]; n <= run[1]; n++ {
			items = append(items, fmt.Sprintf(format, n))
		}
	}
	if len(items) > 8 {
		return fmt.Sprintf("%s … %s (%d in all)", strings.Join(items[:5], ", "), items[len(items)-1], s.len())
	}
	return words(items)
}

// shortened writes a regular list: "00, 05 … 55".
func (s set) shortened(format string) string {
	var items []string
	for n := range s.each() {
		items = append(items, fmt.Sprintf(format, n))
	}
	if len(items) > 4 {
		return items[0] + ", " + items[1] + " … " + items[len(items)-1]
	}
	return words(items)
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

func ordinal(n int) string {
	switch {
	case n%10 == 1 && n != 11:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2 && n != 12:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3 && n != 13:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

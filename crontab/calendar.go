package crontab

import "math/bits"

// The search in local time, where there are no zones: days of 1440 minutes, counted from 1970-01-01.

// Dates and weekdays repeat after 400 years; what does not come in as many years never comes. (29 February on a Sunday
// can take forty.)
const searchYears = 400

// never reports whether the schedule cannot fire because a field is empty: the zero Schedule and @reboot.
func (s *Schedule) never() bool { return s.minute == 0 || s.hour == 0 || s.month == 0 }

// daily reports whether every day is one of the schedule's.
func (s *Schedule) daily() bool {
	week, ok := s.week()
	return ok && week == everyDay
}

const everyDay = 1<<7 - 1

// week returns the weekdays of a schedule that names no dates, only weekdays or every day.
func (s *Schedule) week() (days uint8, ok bool) {
	if s.dom != 1<<32-2 || s.month != 1<<13-2 {
		return 0, false
	}
	if s.flags&(domStar|dowStar) == 0 { // either will do, and every date does
		return everyDay, true
	}
	return s.dow, true
}

// after returns the first wall minute from w to last that the schedule names.
func (s *Schedule) after(w, last int64) (int64, bool) {
	if w > last {
		return 0, false
	}
	day := floorDiv(w, dayMinutes)
	if week, ok := s.week(); ok {
		m, today := -1, weekday(day)
		if week>>today&1 != 0 {
			m = s.minuteFrom(int(w - day*dayMinutes))
		}
		if m < 0 {
			later := uint(week)<<7 | uint(week)
			day += 1 + int64(bits.TrailingZeros(later>>(today+1)))
			m = s.firstMinute()
		}
		w = day*dayMinutes + int64(m)
		return w, w <= last
	}
	year, month, dom := civil(day)
	first := day - int64(dom) + 1
	rest := s.days(year, month, first) >> uint(dom) << uint(dom)
	if set(rest).has(dom) {
		if m := s.minuteFrom(int(w - day*dayMinutes)); m >= 0 {
			w = day*dayMinutes + int64(m)
			return w, w <= last
		}
		rest &^= 1 << uint(dom)
	}
	for end := year + searchYears; ; {
		if rest != 0 {
			day = first + int64(bits.TrailingZeros32(rest)) - 1
			w = day*dayMinutes + int64(s.firstMinute())
			return w, w <= last
		}
		if later := s.month >> uint(month+1); later != 0 {
			month += 1 + bits.TrailingZeros16(later)
		} else {
			year, month = year+1, bits.TrailingZeros16(s.month)
		}
		first = dayNumber(year, month, 1)
		if year > end || first*dayMinutes > last {
			return 0, false
		}
		rest = s.days(year, month, first)
	}
}

// before returns the last wall minute from earliest to w that the schedule names.
func (s *Schedule) before(w, earliest int64) (int64, bool) {
	if w < earliest {
		return 0, false
	}
	day := floorDiv(w, dayMinutes)
	if week, ok := s.week(); ok {
		m, today := -1, weekday(day)
		if week>>today&1 != 0 {
			m = s.minuteTo(int(w - day*dayMinutes))
		}
		if m < 0 {
			earlier := (uint(week)<<7 | uint(week)) & (1<<(today+7) - 1)
			day -= int64(today) + 8 - int64(bits.Len(earlier))
			m = s.lastMinute()
		}
		w = day*dayMinutes + int64(m)
		return w, w >= earliest
	}
	year, month, dom := civil(day)
	first := day - int64(dom) + 1
	rest := s.days(year, month, first) & (1<<uint(dom+1) - 1)
	if set(rest).has(dom) {
		if m := s.minuteTo(int(w - day*dayMinutes)); m >= 0 {
			w = day*dayMinutes + int64(m)
			return w, w >= earliest
		}
		rest &^= 1 << uint(dom)
	}
	for end := year - searchYears; ; {
		if rest != 0 {
			day = first + int64(bits.Len32(rest)) - 2
			w = day*dayMinutes + int64(s.lastMinute())
			return w, w >= earliest
		}
		if earlier := s.month & (1<<uint(month) - 1); earlier != 0 {
			month = bits.Len16(earlier) - 1
		} else {
			year, month = year-1, bits.Len16(s.month)-1
		}
		first = dayNumber(year, month, 1)
		if year < end || (first+31)*dayMinutes < earliest {
			return 0, false
		}
		rest = s.days(year, month, first)
	}
}

// firstMinute and lastMinute are the schedule's first and last minute of a day.
func (s *Schedule) firstMinute() int { return set(s.hour).min()*60 + set(s.minute).min() }
func (s *Schedule) lastMinute() int  { return set(s.hour).max()*60 + set(s.minute).max() }

// minuteFrom returns the first minute of the day from m on that the schedule names, or -1.
func (s *Schedule) minuteFrom(m int) int {
	hour, minute := m/60, m%60
	if set(s.hour).has(hour) {
		if rest := s.minute >> uint(minute); rest != 0 {
			return m + bits.TrailingZeros64(rest)
		}
	}
	rest := s.hour >> uint(hour+1)
	if rest == 0 {
		return -1
	}
	return (hour+1+bits.TrailingZeros32(rest))*60 + bits.TrailingZeros64(s.minute)
}

// minuteTo returns the last minute of the day up to m that the schedule names, or -1.
func (s *Schedule) minuteTo(m int) int {
	hour, minute := m/60, m%60
	if set(s.hour).has(hour) {
		if rest := s.minute & (1<<uint(minute+1) - 1); rest != 0 {
			return hour*60 + bits.Len64(rest) - 1
		}
	}
	rest := s.hour & (1<<uint(hour) - 1)
	if rest == 0 {
		return -1
	}
	return (bits.Len32(rest)-1)*60 + bits.Len64(s.minute) - 1
}

// days returns the days of one month that the schedule names, bit n for the nth; first is the day number of the month's first. Here is the rule of the two day
// fields: a day that either names will do, unless one of them begins with *; then both must name it.
func (s *Schedule) days(year, month int, first int64) uint32 {
	if !set(s.month).has(month) {
		return 0
	}
	w := weekday(first)
	week := uint64(s.dow)>>w | uint64(s.dow)<<(7-w)&0x7f // bit 0: the weekday of the first
	byWeek := week * (1 | 1<<7 | 1<<14 | 1<<21 | 1<<28) << 1
	length := uint32(1)<<uint(monthLength(year, month)+1) - 2
	if s.flags&(domStar|dowStar) != 0 {
		return s.dom & uint32(byWeek) & length
	}
	return (s.dom | uint32(byWeek)) & length
}

// weekday counts from Sunday, 0; 1970-01-01 was a Thursday.
func weekday(day int64) uint { return uint(day + 4 - floorDiv(day+4, 7)*7) }

func monthLength(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// civil turns a day number into a date of the Gregorian calendar. It counts years from March, so that the leap day is
// the last of its year, and in eras of 400 years, which all have 146 097 days.
func civil(day int64) (year, month, dom int) {
	day += 719468 // 0000-03-01
	era := floorDiv(day, 146097)
	doe := day - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	year, month, dom = int(yoe+era*400), int(mp+3), int(doy-(153*mp+2)/5+1)
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, dom
}

// dayNumber is the inverse of civil.
func dayNumber(year, month, dom int) int64 {
	y, m := int64(year), int64(month)-3
	if m < 0 {
		y, m = y-1, m+12
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*m+2)/5 + int64(dom) - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

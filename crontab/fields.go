package crontab

import (
	"fmt"
	"iter"
	"math/bits"
	"strings"
)

// field is one of the five, and what it may hold.
type field struct {
	name      string // as a reader would call it
	one       string // the same with its article
	bad       string // cron's name for an error in it
	low, high int
	names     []string // three letters each, the first of them for low
	star      flags    // set when the field begins with *; the month has none, its star changes nothing
}

var fields = [5]field{
	{name: "minute", one: "a minute", bad: "bad minute", low: 0, high: 59, star: minuteStar},
	{name: "hour", one: "an hour", bad: "bad hour", low: 0, high: 23, star: hourStar},
	{name: "day of the month", one: "a day of the month", bad: "bad day-of-month", low: 1, high: 31, star: domStar},
	{name: "month", one: "a month", bad: "bad month", low: 1, high: 12, names: monthNames},
	{name: "day of the week", one: "a day of the week", bad: "bad day-of-week", low: 0, high: 7, names: dayNames, star: dowStar},
}

var (
	monthNames = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

	minuteField, hourField, domField, monthField, dowField = &fields[0], &fields[1], &fields[2], &fields[3], &fields[4]
)

// bounds says what a value of the field may be: "0–59", "1–12 or jan–dec".
func (f *field) bounds() string {
	b := fmt.Sprintf("%d–%d", f.low, f.high)
	if len(f.names) > 0 {
		b += fmt.Sprintf(" or %s–%s", f.names[0], f.names[len(f.names)-1])
	}
	return b
}

// nameIndex returns the value that a three-letter name stands for in this field.
func (f *field) nameIndex(name string) (int, bool) {
	for i, n := range f.names {
		if strings.EqualFold(n, name) {
			return f.low + i, true
		}
	}
	return 0, false
}

// set holds the values of one field: bit n for the value n.
type set uint64

func (s set) has(n int) bool { return s>>uint(n)&1 != 0 }
func (s set) len() int       { return bits.OnesCount64(uint64(s)) }
func (s set) min() int       { return bits.TrailingZeros64(uint64(s)) }
func (s set) max() int       { return bits.Len64(uint64(s)) - 1 }

// span returns the set of every step-th value from low to high.
func span(low, high, step int) set {
	if step == 1 {
		return 1<<uint(high+1) - 1<<uint(low)
	}
	var s set
	for n := low; n <= high; n += step {
		s |= 1 << uint(n)
	}
	return s
}

func (s set) each() iter.Seq[int] {
	return func(yield func(int) bool) {
		for rest := uint64(s); rest != 0; rest &= rest - 1 {
			if !yield(bits.TrailingZeros64(rest)) {
				return
			}
		}
	}
}

// full returns every value of the field; for the day of the week that is 0–6, since 7 is 0.
func (f *field) full() set {
	if f == dowField {
		return 1<<7 - 1
	}
	return 1<<uint(f.high+1) - 1<<uint(f.low)
}

// field returns the values that s has in f.
func (s *Schedule) field(f *field) set {
	switch f {
	case minuteField:
		return set(s.minute)
	case hourField:
		return set(s.hour)
	case domField:
		return set(s.dom)
	case monthField:
		return set(s.month)
	}
	return set(s.dow)
}

func (s *Schedule) setField(f *field, v set) {
	switch f {
	case minuteField:
		s.minute = uint64(v)
	case hourField:
		s.hour = uint32(v)
	case domField:
		s.dom = uint32(v)
	case monthField:
		s.month = uint16(v)
	case dowField:
		s.dow = uint8(v|v>>7) & 0x7f // 7 is Sunday, and so is 0
	}
}

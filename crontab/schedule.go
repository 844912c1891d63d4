package crontab

import (
	"fmt"
	"strings"
)

// Schedule says when something fires: the five fields of a crontab line, or an @nickname.
//
// A Schedule is a small value that is compared with ==: two schedules are equal when they were written alike and, where
// they contain ~, were drawn alike. The zero Schedule never fires.
//
// It knows no time zone. [Schedule.Next] and its sisters read the zone off the time that they are given, and follow
// cron where clocks change. A wildcard schedule, whose minute or hour field begins with *, follows elapsed time: it
// fires at every real instant whose local reading matches, in both halves of a repeated hour, and not for times that the
// clocks skip. Any other schedule is fixed and fires once for each local time it names: a time that the clocks skip
// fires at the first minute after the gap (several times of one gap together, once), a time that they repeat fires the
// first time only. Gaps and repeats of more than three hours are taken as they are.
type Schedule struct {
	minute uint64 // bit n: minute n
	hour   uint32 // bit n: hour n
	dom    uint32 // bit n: the nth of the month
	month  uint16 // bit n: month n
	dow    uint8  // bit n: weekday n, 0 is Sunday
	flags  flags
	text   string
}

type flags uint8

// A field's star is about its first character and nothing else: "*/2" and "*,1" have it, "1,*" and "0-59" do not.
const (
	minuteStar flags = 1 << iota
	hourStar
	domStar
	dowStar
	drawn  // a part with ~ was drawn
	reboot // @reboot
)

// Wildcard reports whether the minute or the hour field begins with *, which is what decides how the schedule behaves
// where clocks change. @hourly is a wildcard schedule, @daily is not.
func (s Schedule) Wildcard() bool { return s.flags&(minuteStar|hourStar) != 0 }

// Reboot reports whether the schedule is @reboot. Such a schedule never fires by time.
func (s Schedule) Reboot() bool { return s.flags&reboot != 0 }

// IsZero reports whether s is the zero Schedule.
func (s Schedule) IsZero() bool { return s == Schedule{} }

// String returns the schedule exactly as it was read, without the blanks around it.
func (s Schedule) String() string { return s.text }

// MarshalText writes the schedule as it was read, except that a field with ~ is written with the value drawn for it:
// the draw depends on the file that the schedule stood in, and what is stored must keep its meaning without it.
func (s Schedule) MarshalText() ([]byte, error) {
	if s.flags&drawn == 0 {
		return []byte(s.text), nil
	}
	texts := blankWords(s.text)
	for i, text := range texts {
		if !strings.Contains(text, "~") {
			continue
		}
		var values []string
		if strings.HasPrefix(text, "*") { // the star is a flag of its own, and must stay in front
			star, _, _ := strings.Cut(text, ",")
			values = append(values, star)
		}
		for v := range s.field(&fields[i]).each() {
			values = append(values, fmt.Sprint(v))
		}
		texts[i] = strings.Join(values, ",")
	}
	return []byte(strings.Join(texts, " ")), nil
}

// UnmarshalText reads what MarshalText wrote, and anything that [ParseSchedule] accepts. Empty text is the zero Schedule.
func (s *Schedule) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Schedule{}
		return nil
	}
	read, err := ParseSchedule(string(text))
	if err != nil {
		return err
	}
	*s = read
	return nil
}

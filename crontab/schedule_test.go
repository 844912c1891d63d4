package crontab

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestNextFindsRareDatesAndGivesUpOnImpossibleOnes(t *testing.T) {
	for _, c := range []struct{ expr, from, want string }{
		{"0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"0 0 29 2 */7", "2088-02-29T00:00:00Z", "2128-02-29T00:00:00Z"}, // both fields, a leap day on a Sunday: forty years
		{"59 23 31 12 *", "0001-01-01T00:00:00Z", "0001-12-31T23:59:00Z"},
		{"0 0 1 1 *", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"},
		{"0 0 30 2 *", "2024-01-01T00:00:00Z", ""},
		{"0 0 31 4,6,9,11 *", "2024-01-01T00:00:00Z", ""},
		{"@reboot", "2024-01-01T00:00:00Z", ""},
	} {
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"UTC", "America/New_York"} {
			loc := zone(t, name)
			local := time.Date(from.Year(), from.Month(), from.Day(), from.Hour(), from.Minute(), from.Second(), 0, loc)
			got := mustParse(t, c.expr).Next(local)
			text := ""
			if !got.IsZero() {
				text = got.Format("2006-01-02T15:04:05") + "Z"
			}
			if text != c.want {
				t.Errorf("%q after %v = %q, want %q", c.expr, local, text, c.want)
			}
		}
	}
	if got := (Schedule{}).Next(time.Unix(0, 0)); !got.IsZero() {
		t.Errorf("the zero schedule fires at %v", got)
	}
}

func TestNextGivesUpOnTimesThatTheClocksAlwaysSkip(t *testing.T) {
	for _, c := range []struct{ expr, zone string }{
		{"*/30 2 30 3 */7", "Europe/Berlin"}, // on a Sunday, the 30th is the last one
		{"* 2 8 3 */7", "America/New_York"},  // and the 8th the second
	} {
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, zone(t, c.zone))
		if got := mustParse(t, c.expr).Next(from); !got.IsZero() {
			t.Errorf("%q in %s fires at %v", c.expr, c.zone, got)
		}
	}
	// Fixed times are made up for.
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, zone(t, "Europe/Berlin"))
	if got, want := mustParse(t, "30 2 30 3 */7").Next(from).Format(time.RFC3339), "2031-03-30T03:00:00+02:00"; got != want {
		t.Errorf("next %v, want %v", got, want)
	}
}

func TestNextAndPrevAreStrict(t *testing.T) {
	s := MustParseSchedule("30 * * * *")
	at := time.Date(2024, 5, 1, 10, 30, 0, 0, time.UTC)
	for _, c := range []struct{ from, next, prev time.Time }{
		{at, at.Add(time.Hour), at.Add(-time.Hour)},
		{at.Add(-1), at, at.Add(-time.Hour)},
		{at.Add(1), at.Add(time.Hour), at},
	} {
		if got := s.Next(c.from); !got.Equal(c.next) {
			t.Errorf("Next(%v) = %v, want %v", c.from, got, c.next)
		}
		if got := s.Prev(c.from); !got.Equal(c.prev) {
			t.Errorf("Prev(%v) = %v, want %v", c.from, got, c.prev)
		}
	}
}

// Past the transitions that a zone file lists, Go's ZoneBounds answers from the rule for the future alone. This file
// lists two changes, the second between two of the rule's: what Ojinaga did in 2022.
func TestAChangeThatTheRuleForTheFutureDoesNotKnowIsSeen(t *testing.T) {
	loc, err := time.LoadLocationFromTZData("Test/Ojinaga", ojinaga())
	if err != nil {
		t.Fatal(err)
	}
	moved := time.Unix(1669788000, 0).In(loc) // 2022-11-30 06:00 UTC, 23:00 → 00:00
	if _, before := moved.Add(-time.Second).Zone(); before != -7*3600 {
		t.Fatalf("the zone file is not what this test wants: offset %d", before)
	}
	s := MustParseSchedule("30 23 29 11 *") // skipped
	if got := s.Next(moved.Add(-time.Hour)); !got.Equal(moved) {
		t.Errorf("%q fires at %v, want %v", s, got, moved)
	}
	if got := s.Prev(moved.Add(48 * time.Hour)); !got.Equal(moved) {
		t.Errorf("%q fired at %v, want %v", s, got, moved)
	}
	if got, want := s.Named(moved).Format("02 15:04"), "29 23:30"; got != want {
		t.Errorf("%q names %s, want %s", s, got, want)
	}
	hourly := MustParseSchedule("15 * * * *")
	if got, want := hourly.Prev(moved), moved.Add(-45*time.Minute); !got.Equal(want) {
		t.Errorf("Prev(%v) = %v, want %v", moved, got, want)
	}
	for at := moved.Add(30 * 24 * time.Hour); at.After(moved.Add(-60 * 24 * time.Hour)); at = hourly.Prev(at) {
		if back := hourly.Next(hourly.Prev(at)); !back.Equal(at) && at.Minute() == 15 {
			t.Fatalf("Next(Prev(%v)) = %v", at, back)
		}
	}
}

func ojinaga() []byte {
	return zoneFile([]int64{1667116800, 1669788000}, []int{-6 * 3600, -7 * 3600, -6 * 3600}, "CST6CDT,M3.2.0,M11.1.0")
}

// zoneFile writes a zone with offsets[0] before the first change, offsets[i+1] after the ith, and a rule for the future.
func zoneFile(changes []int64, offsets []int, rule string) []byte {
	b := []byte("TZif2" + strings.Repeat("\x00", 15))
	for _, n := range []int{0, 0, 0, 0, 1, 4} { // an empty first block, for readers of 32 bits
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = append(b, "\x00\x00\x00\x00\x00\x00UTC\x00"...)
	b = append(b, "TZif2"+strings.Repeat("\x00", 15)...)
	for _, n := range []int{0, 0, 0, len(changes), len(offsets), 4} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for _, at := range changes {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	for i := range changes {
		b = append(b, byte(i+1))
	}
	for _, offset := range offsets {
		b = binary.BigEndian.AppendUint32(b, uint32(int32(offset)))
		b = append(b, 0, 0)
	}
	return append(b, "LMT\x00\n"+rule+"\n"...)
}

func TestFarInTheFutureEveryYearHasItsTwoChanges(t *testing.T) {
	s := MustParseSchedule("0 12 * * *")
	for _, name := range []string{"America/New_York", "Australia/Sydney", "Asia/Seoul", "Europe/Dublin"} {
		loc := zone(t, name)
		day := time.Date(2095, 1, 1, 12, 0, 0, 0, loc)
		for range 6 * 365 {
			next := s.Next(day)
			if want := time.Date(day.Year(), day.Month(), day.Day()+1, 12, 0, 0, 0, loc); !next.Equal(want) {
				t.Fatalf("%s: after %v comes %v, want %v", name, day, next, want)
			}
			if prev := s.Prev(next); !prev.Equal(day) {
				t.Fatalf("%s: before %v comes %v, want %v", name, next, prev, day)
			}
			day = next
		}
	}
}

func TestAScheduleSurvivesPrintingAndStoring(t *testing.T) {
	for _, expr := range []string{"*/5 1,2,3 * * *", "0\t0 * JAN  Mon-fri", "@daily", "@reboot", "5-59/15 * 1,* * 7"} {
		s := mustParse(t, " "+expr+" ")
		if s.String() != expr {
			t.Errorf("ParseSchedule(%q).String() = %q", " "+expr+" ", s)
		}
		var back Schedule
		b, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(b, &back)
		}
		if err != nil || back != s {
			t.Errorf("%q through JSON %s: %v, %v", expr, b, back, err)
		}
	}
	f, err := Parse("ops", []byte("~ 2~4 * * mon x\n"), Options{Seed: "host"})
	if err != nil {
		t.Fatal(err)
	}
	drawn := f.Entries[0].Schedule
	text, err := drawn.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	back := mustParse(t, string(text))
	if back.minute != drawn.minute || back.hour != drawn.hour || strings.Contains(string(text), "~") {
		t.Errorf("%q is stored as %q, which is another schedule", drawn, text)
	}
}

func TestOtherSchedulersSyntaxIsRefusedByName(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{"0 0 L * *", "Quartz"},
		{"0 0 15W * *", "Quartz"},
		{"0 0 * * 6#3", `write "15-21" as the day of the month`},
		{"0 0 ? * MON", `write "*"`},
		{"H/15 * * * *", "Jenkins"},
		{"0 0 $ * *", "ISC cron"},
		{"0 0 * * 5L", "last such day"},
		{"*/10 * * * * *", `six fields: Quartz and Spring put the seconds first; cron has no seconds, write "* * * * *"`},
		{"0 0 12 * * ? 2030", "seven fields"},
		{"@every 1h", "robfig"},
		{"@every 90s", "robfig"},
		{"@every", "robfig"},
		{"TZ=Asia/Seoul 0 5 * * *", "robfig"},
		{"0 0 * * monday", `write "mon"`},
		{"0 0 * september *", `write "sep"`},
		{"5/15 * * * *", `write "5-59/15"`},
		{"~/5 * * * *", "OpenBSD"},
		{"@daily x", `"@daily" is a whole schedule`},
		{"", "the minute, hour, day of the month, month and day of the week are missing"},
	} {
		s, err := ParseSchedule(c.expr)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseSchedule(%q) = %v, %v; want an error that says %s", c.expr, s, err, c.want)
		}
	}
}

func TestNextAndParseScheduleDoNotAllocate(t *testing.T) {
	at := time.Date(2026, 3, 7, 10, 7, 30, 0, zone(t, "America/New_York"))
	for _, expr := range []string{"* * * * *", "*/5 1,2,3 * jan-mar mon-fri", "30 2 * * 0", "0 0 29 2 *", "0 0 30 2 *", "@daily"} {
		s := mustParse(t, expr)
		if n := testing.AllocsPerRun(100, func() { s.Next(at); s.Prev(at) }); n != 0 {
			t.Errorf("%q: Next and Prev allocate %v times", expr, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = ParseSchedule(expr) }); n != 0 {
			t.Errorf("ParseSchedule(%q) allocates %v times", expr, n)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	from := time.Date(2026, 3, 4, 10, 7, 30, 0, time.UTC)
	for _, name := range []string{"UTC", "America/New_York"} {
		for _, expr := range []string{"* * * * *", "*/5 1,2,3 * * *", "30 2 * * 1-5", "0 0 29 2 *"} {
			b.Run(name+"/"+strings.ReplaceAll(expr, " ", "_"), func(b *testing.B) {
				s, t := MustParseSchedule(expr), from.In(zone(b, name))
				b.ReportAllocs()
				for b.Loop() {
					s.Next(t)
				}
			})
		}
	}
}

func BenchmarkPrev(b *testing.B) {
	s := MustParseSchedule("30 2 * * 1-5")
	t := time.Date(2026, 3, 4, 10, 7, 30, 0, zone(b, "America/New_York"))
	b.ReportAllocs()
	for b.Loop() {
		s.Prev(t)
	}
}

func BenchmarkParseSchedule(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSchedule("*/5 1,2,3 * jan-mar mon-fri"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("ops", []byte(opsCrontab), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

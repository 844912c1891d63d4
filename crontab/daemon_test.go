package crontab

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A reference that shares nothing with the package: Vixie cron's main loop as the man page and the sources tell it
// (cron-semantics.md §6.1), waking at every minute of real time with the UTC offset read anew, as Debian's does, and a
// matcher that asks the expression's text about one minute. Slow and plain.

type daemonLine struct {
	wildcard                      bool
	and                           bool // both day fields must match
	minute, hour, dom, month, dow [60]bool
}

func newDaemonLine(expr string) daemonLine {
	f := strings.Fields(expr)
	l := daemonLine{
		wildcard: f[0][0] == '*' || f[1][0] == '*',
		and:      f[2][0] == '*' || f[4][0] == '*',
		minute:   values(f[0], 0, 59), hour: values(f[1], 0, 23), dom: values(f[2], 1, 31), month: values(f[3], 1, 12), dow: values(f[4], 0, 7),
	}
	l.dow[0] = l.dow[0] || l.dow[7]
	return l
}

// values tells of each value whether a field names it.
func values(field string, low, high int) (named [60]bool) {
	for _, part := range strings.Split(field, ",") {
		body, stepText, ok := strings.Cut(part, "/")
		step := 1
		if ok {
			step, _ = strconv.Atoi(stepText)
		}
		from, to := low, high
		if body != "*" {
			a, b, ranged := strings.Cut(body, "-")
			from, _ = strconv.Atoi(a)
			to = from
			if ranged {
				to, _ = strconv.Atoi(b)
			}
		}
		for value := from; value <= to; value += step {
			named[value] = true
		}
	}
	return named
}

func (l *daemonLine) matches(wall int64) bool {
	if !l.minute[wall%60] || !l.hour[wall/60%24] {
		return false
	}
	t := time.Unix(wall*60, 0).UTC()
	dom, dow := l.dom[t.Day()], l.dow[t.Weekday()]
	if l.and {
		return l.month[t.Month()] && dom && dow
	}
	return l.month[t.Month()] && (dom || dow)
}

// run simulates the daemon over (from, to] and returns the instants at which it starts the job, and for each the local
// minute that it was first started for.
func (l daemonLine) run(loc *time.Location, from, to time.Time) (instants []int64, names []int64) {
	clock := func(sec int64) int64 {
		_, offset := time.Unix(sec, 0).In(loc).Zone()
		return (sec + int64(offset)) / 60
	}
	start := func(sec, wall int64) {
		if l.matches(wall) && (len(instants) == 0 || instants[len(instants)-1] != sec) {
			instants, names = append(instants, sec), append(names, wall)
		}
	}
	virtual := clock(from.Unix())
	for sec := from.Unix() + 60; sec <= to.Unix(); sec += 60 {
		running := clock(sec)
		switch diff := running - virtual; {
		case diff == 1:
			virtual = running
			start(sec, running)
		case diff > 1 && diff <= 5:
			for virtual < running {
				virtual++
				start(sec, virtual)
			}
		case diff > 5 && diff <= 180:
			var caught []int64
			for virtual < running {
				virtual++
				if !l.wildcard {
					caught = append(caught, virtual)
				}
			}
			if l.wildcard {
				start(sec, running)
			}
			for _, wall := range caught {
				start(sec, wall)
			}
		case diff <= 0 && diff > -180:
			if l.wildcard {
				start(sec, running)
			}
		default:
			virtual = running
			start(sec, running)
		}
	}
	return instants, names
}

// changes lists the instants at which loc changes its offset between two years.
func changes(loc *time.Location, from, to int) []time.Time {
	var all []time.Time
	end := time.Date(to, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	sec := time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	offset := func(sec int64) int {
		_, offset := time.Unix(sec, 0).In(loc).Zone()
		return offset
	}
	for ; sec < end; sec += 6 * 3600 {
		if offset(sec) == offset(sec+6*3600) {
			continue
		}
		for minute := sec; minute < sec+6*3600; minute += 60 {
			if offset(minute) != offset(minute+60) {
				all = append(all, time.Unix(minute+60, 0).In(loc))
			}
		}
	}
	return all
}

// randomSchedule leans to what can go wrong: the hours in which clocks change, and stars in odd places.
func randomSchedule(r *rand.Rand) string {
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	n := func(low, high int) string { return strconv.Itoa(low + r.IntN(high-low+1)) }
	minute := pick("*", "0", "30", n(0, 59), n(0, 59), "*/"+n(1, 59), n(0, 29)+"-"+n(30, 59)+"/"+n(1, 20), "0,"+n(0, 59), "5,*", "*,5", "0-59", "59")
	hour := pick("*", "*/"+n(1, 12), "0", "1", "2", "3", n(0, 23), n(0, 4), "0-"+n(0, 23), "0-23", "0,"+n(0, 23), "1-3", "23", "2,*")
	dom := pick("*", "*", "*", "*", "*/2", n(1, 31), "1-31", "1,15", "1-7", n(1, 28)+"-31", "*/"+n(1, 9), "28-31")
	month := pick("*", "*", "*", "*", "*", "3,10,11", n(1, 12), "*/2", "1-"+n(1, 12))
	dow := pick("*", "*", "*", "*", "0", "7", "1-5", "*/2", "0-6", "6-7", "5,0", "*/7", n(0, 7))
	return strings.Join([]string{minute, hour, dom, month, dow}, " ")
}

// Zones with every kind of change of the last decades: an hour, half an hour, two hours, a quarter, a day, at midnight,
// in the morning, forwards twice, for good.
var changingZones = []string{
	"America/New_York", "Europe/London", "Europe/Dublin", "Australia/Lord_Howe", "America/Sao_Paulo", "America/Santiago",
	"Africa/Cairo", "Asia/Beirut", "America/Havana", "Antarctica/Troll", "Antarctica/Casey", "Africa/Casablanca", "Pacific/Apia",
	"America/Caracas", "Asia/Pyongyang", "Asia/Kathmandu", "Europe/Moscow", "Europe/Volgograd", "America/St_Johns", "Asia/Gaza",
	"America/Ojinaga", "America/Nuuk", "Pacific/Norfolk", "Pacific/Kwajalein", "America/Argentina/San_Luis", "Asia/Tehran",
	"Pacific/Fakaofo", "America/Scoresbysund", "Africa/Juba", "Asia/Almaty", "UTC", "Asia/Seoul", "Asia/Kolkata",
}

// How many schedules are compared with the daemon's loop, at the least; tools/test.sh
// asks for 100,000.
var comparisons = flag.Int("comparisons", 2500, "schedules compared with the daemon's loop")

func TestFiringsAreThoseOfTheDaemonsLoopAroundEveryChangeOfClocks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	count := 0
	for _, name := range changingZones {
		loc := zone(t, name)
		at := changes(loc, 1987, 2035)
		if len(at) == 0 {
			at = []time.Time{time.Date(2024, 2, 28, 12, 0, 0, 0, loc)}
		}
		schedules := 1 + *comparisons/len(at)/len(changingZones)
		for _, change := range at {
			for range schedules {
				compareWithDaemon(t, randomSchedule(r), loc, change, r)
				count++
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d comparisons", count)
}

func TestFiringsAreThoseOfTheDaemonsLoopInZonesThatNoParliamentWouldMake(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 600 {
		at := time.Date(2024, 2, 29, r.IntN(24), r.IntN(60), 0, 0, time.UTC).Unix()
		first := at
		var changes []int64
		offsets := []int{r.IntN(24)*3600 - 12*3600}
		for range 1 + r.IntN(5) {
			changes = append(changes, at)
			jump := []int{r.IntN(10) - 5, r.IntN(120) - 60, r.IntN(420) - 210, 60, -60, -180, 180, 181, -179, 1440, -1440}[r.IntN(11)]
			offsets = append(offsets, offsets[len(offsets)-1]+jump*60)
			at += int64([]int{1 + r.IntN(30), 1 + r.IntN(400), 60, 180}[r.IntN(4)]) * 60
		}
		loc, err := time.LoadLocationFromTZData(fmt.Sprintf("Test/Zone%d", i), zoneFile(changes, offsets, ""))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			compareWithDaemon(t, randomSchedule(r), loc, time.Unix(first, 0).In(loc), r)
		}
		if t.Failed() {
			t.Fatalf("zone %d changes at %v to %v", i, clocks(changes, loc), offsets)
		}
	}
}

// The daemon stands still long enough before the change that its virtual time is the real one when it comes.
func compareWithDaemon(t *testing.T, expr string, loc *time.Location, change time.Time, r *rand.Rand) {
	t.Helper()
	from := change.Add(-time.Duration(30*60+r.IntN(600)) * time.Minute)
	to := change.Add(time.Duration(4*60+r.IntN(30*60)) * time.Minute)
	want, names := newDaemonLine(expr).run(loc, from, to)
	s := mustParse(t, expr)
	var got []int64
	var firings []time.Time
	for firing := range s.Between(from, to) {
		got, firings = append(got, firing.Unix()), append(firings, firing)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q in %v, %v to %v\n got %v\nwant %v", expr, loc, from, to, clocks(got, loc), clocks(want, loc))
		return
	}
	for i, firing := range firings {
		if got, want := s.Named(firing), time.Unix(names[i]*60, 0).UTC(); !got.Equal(want) && len(names) > 0 && !s.Wildcard() {
			t.Errorf("%q in %v: Named(%v) = %v, want %v", expr, loc, firing, got, want)
		}
		if !s.Match(firing) || !s.Match(firing.Add(59*time.Second)) {
			t.Errorf("%q in %v: no Match(%v), and it fires there", expr, loc, firing)
		}
	}
	var back []int64
	for p := s.Prev(to.Add(time.Nanosecond)); p.After(from); p = s.Prev(p) {
		back = append(back, p.Unix())
	}
	slices.Reverse(back)
	if !slices.Equal(back, want) {
		t.Errorf("%q in %v, back from %v to %v\n got %v\nwant %v", expr, loc, to, from, clocks(back, loc), clocks(want, loc))
	}
	for range 20 {
		minute := from.Add(time.Duration(1+r.Int64N(int64(to.Sub(from)/time.Minute))) * time.Minute)
		if got, want := s.Match(minute), slices.Contains(want, minute.Unix()); got != want {
			t.Errorf("%q in %v: Match(%v) = %v, want %v", expr, loc, minute, got, want)
		}
	}
}

func clocks(instants []int64, loc *time.Location) []string {
	var all []string
	for _, sec := range instants {
		all = append(all, time.Unix(sec, 0).In(loc).Format(time.RFC3339))
	}
	if len(all) > 12 {
		all = append(all[:12], fmt.Sprintf("and %d more", len(all)-12))
	}
	return all
}

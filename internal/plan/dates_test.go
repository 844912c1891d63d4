package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"belfry/internal/job"
)

// A model of what a firing's variables are to be: it goes through real time
// minute by minute, looks at what the clock on the wall shows, and remembers
// what it has shown. It shares nothing with the search that it is held against
// but the zone data.

// wall is a zone over some days: what its clock shows in each minute of them, in
// minutes since 1970-01-01 00:00 of that clock.
type wall struct {
	zone  *time.Location
	from  int64 // real minute of the first
	shown []int64
}

func newWall(zone *time.Location, from, to time.Time) wall {
	w := wall{zone: zone, from: from.Unix() / 60}
	for m := w.from; m <= to.Unix()/60; m++ {
		_, offset := time.Unix(m*60, 0).In(zone).Zone()
		w.shown = append(w.shown, m+int64(offset/60))
	}
	return w
}

// line is the five fields of a schedule, asked about one minute of the wall.
type line struct {
	wildcard, both                bool // both day fields must name it
	minute, hour, dom, month, dow [60]bool
}

func newLine(expr string) line {
	if expr == "@daily" {
		expr = "0 0 * * *"
	}
	f := strings.Fields(expr)
	return line{
		wildcard: f[0][0] == '*' || f[1][0] == '*', both: f[2][0] == '*' || f[4][0] == '*',
		minute: holds(f[0]), hour: holds(f[1]), dom: holds(f[2]), month: holds(f[3]), dow: holds(f[4]),
	}
}

func holds(field string) (values [60]bool) {
	for part := range strings.SplitSeq(field, ",") {
		body, step, stepped := strings.Cut(part, "/")
		low, high, ranged := strings.Cut(body, "-")
		n, _ := strconv.Atoi(step)
		a, _ := strconv.Atoi(low)
		b, _ := strconv.Atoi(high)
		for value := range values {
			values[value] = values[value] || body == "*" && !stepped || body == "*" && value%n == 0 || ranged && a <= value && value <= b || body == strconv.Itoa(value)
		}
	}
	return values
}

func (l *line) names(minute int64) bool {
	if !l.minute[minute%60] || !l.hour[minute/60%24] {
		return false
	}
	t := time.Unix(minute*60, 0).UTC()
	dom, dow := l.dom[t.Day()], l.dow[t.Weekday()]
	return l.month[t.Month()] && (dom && dow || !l.both && (dom || dow))
}

// firings gives when schedules fire, and what the first of those that do names.
func (w wall) firings(lines []line) []job.Firing {
	named := map[int64]int64{} // real minute → wall minute
	fire := func(i int, name int64) {
		if before, known := named[w.from+int64(i)]; !known || name < before {
			named[w.from+int64(i)] = name
		}
	}
	for _, l := range lines {
		seen := w.shown[0] - 1 // the furthest that the clock has shown
		for i, now := range w.shown {
			if i > 0 && (w.shown[i-1]-now > 3*60 || now-w.shown[i-1] > 3*60) {
				seen = now - 1 // too far: the clock is taken as it is
			}
			if l.wildcard {
				if l.names(now) {
					fire(i, now)
				}
				continue
			}
			for minute := seen + 1; minute <= now; minute++ { // one, but after a gap
				if l.names(minute) {
					fire(i, minute)
					break
				}
			}
			seen = max(seen, now)
		}
	}
	var list []job.Firing
	for minute, name := range named {
		list = append(list, job.Firing{At: time.Unix(minute*60, 0).UTC(), Named: time.Unix(name*60, 0).UTC()})
	}
	slices.SortFunc(list, func(a, b job.Firing) int { return a.At.Compare(b.At) })
	return list
}

// moments writes what an attempt of f is told, after the firing before it.
func moments(before, f job.Firing) string {
	return fmt.Sprintf("%s %s %s %s [%s %s) %s",
		f.At.Format("2006-01-02T15:04:05Z"), f.Named.Format("2006-01-02"), f.Named.Format("15"), f.At.Format("20060102T150405Z"),
		before.At.Format("2006-01-02T15:04:05Z"), f.At.Format("2006-01-02T15:04:05Z"), before.Named.Format("2006-01-02"))
}

func momentsOf(j *job.Job, f job.Firing) string {
	values := map[string]any{}
	for _, name := range job.Moments {
		value, set := j.Moment(name, f)
		if values[name] = value; !set {
			values[name] = "unset"
		}
	}
	return fmt.Sprintf("%s %s %s %s [%s %s) %s", values["BELFRY_FIRES_AT"], values["BELFRY_DATE"], values["BELFRY_HOUR"], values["BELFRY_STAMP"],
		values["BELFRY_INTERVAL_START"], values["BELFRY_INTERVAL_END"], values["BELFRY_START_DATE"])
}

// days are those that the tables look at: three around each change of the clocks
// in a year, or an ordinary week.
func days(zone *time.Location, year int) [][2]time.Time {
	at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	week := [2]time.Time{at.AddDate(0, 0, 50), at.AddDate(0, 0, 57)}
	var list [][2]time.Time
	for end := at.AddDate(1, 0, 0); ; {
		_, change := at.In(zone).ZoneBounds()
		if change.IsZero() || !change.Before(end) {
			if list == nil {
				list = append(list, week)
			}
			return list
		}
		day := change.UTC().Truncate(24 * time.Hour)
		list, at = append(list, [2]time.Time{day.AddDate(0, 0, -2), day.AddDate(0, 0, 3)}), change
	}
}

func TestAFiringIsToldTheSameHoweverItsRunCameToBe(t *testing.T) {
	t.Parallel()
	schedules := [][]string{
		{"*/30 * * * *"},
		{"0 * * * *"},
		{"45 */2 * * *"},
		{"*/5 2 * * *"},
		{"@daily"},
		{"30 2 * * *"},
		{"59 23 * * *"},
		{"30 23 * * *"},
		{"15 0 * * *"},
		{"0,40 1-3 * * *"},
		{"45 1 * * 0"},
		{"0 1 1 * *"},
		{"0 12 * * 1-5"},
		{"30 2 13 * 5"},
		{"0 3 * * *", "30 2 * * *"},
		{"30 2 * * *", "0 3 * * *"},
		{"20 * * * *", "30 2 * * *"},
		{"0 1 * * *", "0 13 * * *"},
	}
	places := []struct {
		zone string
		year int
		why  string
	}{
		{"UTC", 2025, "no change"},
		{"Asia/Seoul", 2025, "none, in the east"},
		{"Europe/Berlin", 2025, "an hour, at two"},
		{"America/New_York", 2025, "an hour, in the west"},
		{"America/Havana", 2025, "an hour, at midnight"},
		{"Africa/Cairo", 2025, "midnight is skipped"},
		{"America/Scoresbysund", 2025, "the last hour of a day is skipped"},
		{"America/Sao_Paulo", 2018, "midnight is skipped, the evening comes twice"},
		{"Australia/Lord_Howe", 2025, "half an hour"},
		{"Pacific/Chatham", 2025, "at a quarter to three"},
		{"Antarctica/Troll", 2025, "two hours"},
		{"Africa/Casablanca", 2025, "winter time in Ramadan"},
		{"Pacific/Apia", 2011, "a day that never was"},
		{"Pacific/Kiritimati", 2025, "the first to have a date"},
		{"Etc/GMT+12", 2025, "the last"},
		{"Asia/Kathmandu", 2025, "a quarter of an hour from the others"},
	}
	compared := 0
	for _, place := range places {
		zone := zone(t, place.zone)
		for _, days := range days(zone, place.year) {
			wall := newWall(zone, days[0].AddDate(0, 0, -40), days[1].AddDate(0, 0, 3)) // so that each has one before it
			for _, exprs := range schedules {
				var lines []line
				for _, expr := range exprs {
					lines = append(lines, newLine(expr))
				}
				all := wall.firings(lines)
				own := newJob("own", zone, exprs...).Job
				child := with(child("child", "own"), func(j *job.Job) { j.Inherited, j.Zone = own.Rhythms(), zone }).Job
				context := fmt.Sprintf("%q in %s (%s)", exprs, place.zone, place.why)

				var named []string // the firings of all the days, as a backfill is to make them
				dates := map[string][]job.Firing{}
				for i, f := range all {
					date := f.Named.Format(time.DateOnly)
					if date < days[0].Format(time.DateOnly) || date > days[1].Format(time.DateOnly) {
						continue
					}
					named = append(named, f.At.Format(time.RFC3339)+f.Named.Format(" 01-02 15:04"))
					dates[date] = append(dates[date], f)
					for _, j := range []*job.Job{own, child} {
						if next := j.Next(f.At.Add(-time.Second)); !next.Equal(f.At) {
							t.Fatalf("%s: %s fires at %s, want %s", context, j.Name, next, f.At)
						}
						want := moments(all[i-1], f)
						if got := momentsOf(j, job.Firing{At: f.At, Named: j.Named(f.At)}); got != want {
							t.Errorf("%s: %s is told\n %s\nwant %s", context, j.Name, got, want)
						}
						// A person who names the instant, in whatever zone, has the same firing.
						at, named, err := ForRequest(j, Request{At: f.At.In(zone).Format(time.RFC3339)}, days[1])
						if got := momentsOf(j, job.Firing{At: at, Named: named}); err != nil || got != want {
							t.Errorf("%s: %s for %s is told\n %s, %v\nwant %s", context, j.Name, f.At, got, err, want)
						}
						compared++
					}
				}
				for date, list := range dates {
					for i, f := range list {
						request := Request{Date: date}
						if len(list) > 1 {
							request.At = f.Named.Format("15:04")
						}
						if i > 0 && list[i-1].Named.Equal(f.Named) || slices.IndexFunc(list, func(o job.Firing) bool { return o.Named.Equal(f.Named) }) != i {
							continue // the hour comes twice: its time means the first
						}
						for _, j := range []*job.Job{own, child} {
							at, named, err := ForRequest(j, request, days[1].AddDate(0, 0, 5))
							if err != nil || !at.Equal(f.At) || !named.Equal(f.Named) {
								t.Errorf("%s: %s for %+v is %s, named %s, %v; want %s, named %s", context, j.Name, request, at, named, err, f.At, f.Named)
							}
						}
					}
				}
				for _, j := range []*job.Job{own, child} {
					list, err := ForBackfill(j, days[0].Format(time.DateOnly), days[1].Format(time.DateOnly), days[1].AddDate(0, 0, 5))
					var got []string
					for _, f := range list {
						got = append(got, f.At.UTC().Format(time.RFC3339)+f.Named.Format(" 01-02 15:04"))
					}
					if (err == nil) != (len(named) > 0) || !slices.Equal(got, named) {
						t.Errorf("%s: a backfill of %s makes\n %q, %v\nwant %q", context, j.Name, got, err, named)
					}
				}
			}
		}
	}
	if compared < 10_000 {
		t.Errorf("only %d firings were compared", compared)
	}
}

func TestTheModelOfFiringsKnowsItsDays(t *testing.T) {
	t.Parallel()
	// The words of DESIGN.md §4.3 and §5, written out by hand.
	for _, c := range []struct{ why, zone, day, expr, want string }{
		{"a night", "Asia/Seoul", "2026-07-10", "0 1 * * *", "2026-07-09T16:00:00Z 2026-07-10 01 20260709T160000Z [2026-07-08T16:00:00Z 2026-07-09T16:00:00Z) 2026-07-09"},
		{"a skipped time is made up for and keeps its hour", "Europe/Berlin", "2026-03-29", "30 2 * * *", "2026-03-29T01:00:00Z 2026-03-29 02 20260329T010000Z [2026-03-28T01:30:00Z 2026-03-29T01:00:00Z) 2026-03-28"},
		{"several in the gap are one", "Europe/Berlin", "2026-03-29", "10,50 2 * * *", "2026-03-29T01:00:00Z 2026-03-29 02 20260329T010000Z [2026-03-28T01:50:00Z 2026-03-29T01:00:00Z) 2026-03-28"},
		{"a time that comes twice is kept once", "America/New_York", "2026-11-01", "30 1 * * *", "2026-11-01T05:30:00Z 2026-11-01 01 20261101T053000Z [2026-10-31T05:30:00Z 2026-11-01T05:30:00Z) 2026-10-31"},
		{"the day moved by half an hour", "Australia/Lord_Howe", "2025-10-05", "15 2 * * *", "2025-10-04T15:30:00Z 2025-10-05 02 20251004T153000Z [2025-10-03T15:45:00Z 2025-10-04T15:30:00Z) 2025-10-04"},
		{"the day before is missing", "Pacific/Apia", "2011-12-31", "0 1 * * *", "2011-12-30T11:00:00Z 2011-12-31 01 20111230T110000Z [2011-12-29T11:00:00Z 2011-12-30T11:00:00Z) 2011-12-29"},
	} {
		from := at(t, c.day+"T00:00:00Z")
		all := newWall(zone(t, c.zone), from.AddDate(0, 0, -9), from.AddDate(0, 0, 3)).firings([]line{newLine(c.expr)})
		i := slices.IndexFunc(all, func(f job.Firing) bool { return f.Date().Equal(from) })
		if got := moments(all[i-1], all[i]); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.why, got, c.want)
		}
		j := newJob("x", zone(t, c.zone), c.expr).Job
		if got := momentsOf(j, j.FiringsOn(from)[0]); got != c.want {
			t.Errorf("%s: the job is told\n %s\nwant %s", c.why, got, c.want)
		}
	}
	if boot := newJob("x", time.UTC, "@reboot").Job; !strings.HasSuffix(momentsOf(boot, job.Firing{}), "[unset unset) unset") {
		t.Errorf("@reboot has an interval: %s", momentsOf(boot, job.Firing{}))
	}
}

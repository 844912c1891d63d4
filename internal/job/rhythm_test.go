package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"belfry/crontab"
)

func inZone(t testing.TB, zoneName string, exprs ...string) Rhythm {
	t.Helper()
	r := Rhythm{Zone: zone(t, zoneName)}
	for _, expr := range exprs {
		r.Schedules = append(r.Schedules, crontab.MustParseSchedule(expr))
	}
	return r
}

func TestAJobAfterSeveralRhythmsFiresAtTheLastOfEachDate(t *testing.T) {
	t.Parallel()
	day := time.Date(2024, 5, 15, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		why     string
		rhythms []Rhythm
		want    string // the next three
		named   string // of the first
		prev    string // the begin of its interval
	}{
		{"one: each of its firings", []Rhythm{inZone(t, "UTC", "0 */12 * * *")}, "15 12:00, 16 00:00, 16 12:00", "15 12:00", "15 00:00"},
		{"two: the later", []Rhythm{inZone(t, "UTC", "0 10 * * *"), inZone(t, "UTC", "0 2 * * *")}, "15 10:00, 16 10:00, 17 10:00", "15 10:00", "14 10:00"},
		{"hourly and daily: the last of the hourly", []Rhythm{inZone(t, "UTC", "0 * * * *"), inZone(t, "UTC", "0 2 * * *")}, "15 23:00, 16 23:00, 17 23:00", "15 23:00", "15 22:00"},
		{"one has none on most dates", []Rhythm{inZone(t, "UTC", "0 10 16 * *"), inZone(t, "UTC", "0 2 * * *")}, "15 02:00, 16 10:00, 17 02:00", "15 02:00", "14 02:00"},
		{"the date is each one's own: 23:00 in Seoul is 14:00", []Rhythm{inZone(t, "Asia/Seoul", "0 23 * * *"), inZone(t, "UTC", "0 2 * * *")}, "15 14:00, 16 14:00, 17 14:00", "15 23:00", "14 14:00"},
		{"22:00 in New York is tomorrow elsewhere", []Rhythm{inZone(t, "Asia/Seoul", "0 1 * * *"), inZone(t, "America/New_York", "0 22 * * *")}, "15 02:00, 16 02:00, 17 02:00", "14 22:00", "14 02:00"},
		{"none", []Rhythm{inZone(t, "UTC", "@reboot"), inZone(t, "UTC", "0 0 30 2 *")}, "never, never, never", "", ""},
	} {
		j := &Job{Settings: &Settings{Zone: time.UTC, Inherited: c.rhythms}}
		var got []string
		at := day
		for range 3 {
			if at = j.Next(at); at.IsZero() {
				got = append(got, "never")
				continue
			}
			got = append(got, at.UTC().Format("02 15:04"))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", c.why, text, c.want)
		}
		if first := j.Next(day); !first.IsZero() {
			if got := j.Named(first).Format("02 15:04"); got != c.named {
				t.Errorf("%s: the first is named %s, want %s", c.why, got, c.named)
			}
			if got := j.Prev(first).UTC().Format("02 15:04"); got != c.prev {
				t.Errorf("%s: its interval begins at %s, want %s", c.why, got, c.prev)
			}
		}
	}
}

func TestTheZoneOfAFiringIsThatOfWhoFiresLast(t *testing.T) {
	t.Parallel()
	j := &Job{Settings: &Settings{Zone: time.UTC, Inherited: []Rhythm{inZone(t, "Asia/Seoul", "0 1 * * *"), inZone(t, "America/New_York", "0 22 * * *")}}}
	day := time.Date(2024, 5, 15, 0, 0, 0, 0, time.UTC)
	if got := j.ZoneAt(j.Next(day)).String(); got != "America/New_York" {
		t.Errorf("the zone is %s, want New York's: it fires last of the date", got)
	}
	if got := j.ZoneAt(day).String(); got != "UTC" {
		t.Errorf("at an instant without a firing the zone is %s, want the job's", got)
	}
}

// Each firing is on one date, whatever the clocks do: what lies in a range is
// what lies on its days.
func TestEveryFiringIsOnTheDateThatItNames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		z, err := LoadZone(rapid.SampledFrom([]string{"UTC", "Asia/Seoul", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia", "America/St_Johns"}).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		expr := rapid.SampledFrom([]string{"0 0 * * *", "30 2 * * *", "*/30 * * * *", "59 23 * * *", "15,45 0,23 * * *", "0 0-3 * * *"}).Draw(t, "schedule")
		r := Rhythm{[]crontab.Schedule{crontab.MustParseSchedule(expr)}, z}
		j := &Job{Schedules: r.Schedules, Settings: &Settings{Zone: z}}
		day := time.Date(rapid.IntRange(2009, 2018).Draw(t, "year"), 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 360).Draw(t, "day"))
		var onDays, inRange []string
		for i := range 9 {
			for _, f := range j.FiringsOn(day.AddDate(0, 0, i)) {
				onDays = append(onDays, fmt.Sprint(f.At.Unix(), f.Named))
			}
		}
		for at := j.Next(day.AddDate(0, 0, -3)); at.Before(day.AddDate(0, 0, 12)); at = j.Next(at) {
			if d := (Firing{at, j.Named(at)}).Date(); !d.Before(day) && d.Before(day.AddDate(0, 0, 9)) {
				inRange = append(inRange, fmt.Sprint(at.Unix(), j.Named(at)))
			}
		}
		slices.Sort(onDays)
		slices.Sort(inRange)
		if !slices.Equal(onDays, inRange) {
			t.Fatalf("%s in %s from %s: on the days %d firings, in the range %d", expr, z, day, len(onDays), len(inRange))
		}
	})
}

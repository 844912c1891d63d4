package job

import (
	"strings"
	"testing"
	"time"
)

func TestExpandTakesWhatIsSetAndNothingElse(t *testing.T) {
	t.Parallel()
	env := map[string]string{"A": "1", "A_B": "2", "EMPTY": "", "D": "$A"}
	for _, c := range []struct{ text, want, err string }{
		{text: "", want: ""},
		{text: "plain/text", want: "plain/text"},
		{text: "s3://b/dt=$A/", want: "s3://b/dt=1/"},
		{text: "$A$A_B${A}x", want: "121x"},
		{text: "[$EMPTY]", want: "[]"},
		{text: "$D", want: "$A"}, // once
		{text: "$$A $$$A", want: "$A $1"},
		{text: "5$ and $", want: "5$ and $"},
		{text: "$ A $- $종", want: "$ A $- $종"},
		{text: "$NO", err: "$NO is not set"},
		{text: "s3cret $B $NO ${B}", err: "$B, $NO is not set"},
		{text: "s3cret ${A", err: "a ${ is not closed"},
		{text: "s3cret ${}", err: "$ is not set"},
		{text: "s3cret ${A:-x}", err: "$A:-x is not set"},
		{text: "s3cret $1", err: "$1 is not set"},
	} {
		got, err := Expand(c.text, func(name string) (string, bool) { value, set := env[name]; return value, set })
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%q: %q, %v, want %q", c.text, got, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%q: %q, %v, want an error with %q and without the text", c.text, got, err, c.err)
		}
	}
}

func TestAnIntervalIsComputedFromTheSchedule(t *testing.T) {
	t.Parallel()
	nightly := inZone(t, "Asia/Seoul", "0 1 * * *")
	for _, c := range []struct {
		why, at, start, date string
		rhythm               Rhythm
	}{
		{"a night", "2024-05-15T16:00:00Z", "2024-05-14T16:00:00Z", "2024-05-15", nightly},
		{"over a weekend", "2024-05-13T00:00:00Z", "2024-05-10T00:00:00Z", "2024-05-10", inZone(t, "UTC", "0 0 * * 1-5")},
		{"by hand, between two firings", "2024-05-15T20:00:00Z", "2024-05-15T16:00:00Z", "2024-05-16", nightly},
		{"of several schedules the nearest", "2024-05-15T12:00:00Z", "2024-05-15T06:00:00Z", "2024-05-15", inZone(t, "UTC", "0 12 * * *", "0 6 * * *")},
		{"over the hour that is skipped", "2024-03-10T08:00:00Z", "2024-03-10T07:00:00Z", "2024-03-10", inZone(t, "America/New_York", "@hourly")},
		{"from a firing that the clocks moved into the next day", "2025-03-31T00:30:00Z", "2025-03-30T01:00:00Z", "2025-03-29", inZone(t, "America/Scoresbysund", "30 23 * * *")},
		{"without a schedule there is none", "2024-05-15T16:00:00Z", "", "", inZone(t, "Asia/Seoul")},
		{"nor for @reboot", "2024-05-15T16:00:00Z", "", "", inZone(t, "Asia/Seoul", "@reboot")},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		for kind, j := range map[string]*Job{
			"a job":               {Schedules: c.rhythm.Schedules, Settings: &Settings{Zone: c.rhythm.Zone}},
			"a job that is after": {Settings: &Settings{Zone: time.UTC, Inherited: []Rhythm{c.rhythm}}},
		} {
			f := Firing{at, j.Named(at)}
			start, _ := j.Moment("BELFRY_INTERVAL_START", f)
			date, _ := j.Moment("BELFRY_START_DATE", f)
			end, set := j.Moment("BELFRY_INTERVAL_END", f)
			if start != c.start || date != c.date || set != (c.start != "") || set && end != c.at {
				t.Errorf("%s, %s: [%s, %s) on %q, want it to begin at %q, on %q", kind, c.why, start, end, date, c.start, c.date)
			}
		}
	}
}

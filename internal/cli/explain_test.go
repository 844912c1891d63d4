package cli

import (
	"testing"
	"time"

	"belfry/crontab"
)

func TestWhatTheClocksDoToAFiringIsMarked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, expr, zone, at, want string }{
		{"a plain day", "30 2 * * *", "America/New_York", "2026-07-08T02:30:00-04:00", ""},
		{"an hour is skipped", "30 2 * * *", "America/New_York", "2026-03-08T03:00:00-04:00", "meant for 02:30, which the clocks skip"},
		{"an hour comes twice, the first time", "*/30 * * * *", "America/New_York", "2026-11-01T01:00:00-04:00", "the clocks read 01:00 twice; this is the one in EDT"},
		{"and the second", "*/30 * * * *", "America/New_York", "2026-11-01T01:30:00-05:00", "the clocks read 01:30 twice; this is the one in EST"},
		{"the hour before it", "*/30 * * * *", "America/New_York", "2026-11-01T00:30:00-04:00", ""},
		{"the hour after it", "*/30 * * * *", "America/New_York", "2026-11-01T02:00:00-05:00", ""},
		{"half an hour comes twice", "*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:45:00+10:30", "the clocks read 01:45 twice; this is the one in +1030"},
		{"and the time before it does not", "*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:15:00+11:00", ""},
		{"midnight is skipped", "0 0 * * *", "America/Santiago", "2026-09-06T01:00:00-03:00", "meant for 00:00, which the clocks skip"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := moved(crontab.MustParseSchedule(c.expr), at.In(zone)); got != c.want {
			t.Errorf("%s: %s at %s in %s is marked %q, want %q", c.why, c.expr, c.at, c.zone, got, c.want)
		}
	}
}

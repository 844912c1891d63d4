package plan

import (
	"errors"
	"testing"
	"time"
)

func TestARequestMeansAFiring(t *testing.T) {
	t.Parallel()
	seoul, ny := zone(t, "Asia/Seoul"), zone(t, "America/New_York")
	nightly := newJob("nightly", seoul, "0 1 * * *")
	twice := newJob("twice", seoul, "30 9,21 * * *")
	gap := newJob("gap", ny, "30 2 * * *")
	hand := newJob("hand", seoul)
	const now = "2024-05-15T20:00:00Z" // the 16th, 05:00, in Seoul; the 15th, 16:00, in New York
	for _, c := range []struct {
		why         string
		job         Job
		request     Request
		want, named string // or the error
	}{
		{"nothing: now", nightly, Request{}, now, "2024-05-16 05:00"},
		{"a date: its firing", nightly, Request{Date: "2024-05-10"}, "2024-05-09T16:00:00Z", "2024-05-10 01:00"},
		{"a time: of today, in the job's zone", twice, Request{At: "09:30"}, "2024-05-16T00:30:00Z", "2024-05-16 09:30"},
		{"a time without its zero", twice, Request{At: "9:30"}, "2024-05-16T00:30:00Z", "2024-05-16 09:30"},
		{"a date and a time", twice, Request{Date: "2024-05-10", At: "21:30"}, "2024-05-10T12:30:00Z", "2024-05-10 21:30"},
		{"an instant", nightly, Request{At: "2024-05-09T16:00:00Z"}, "2024-05-09T16:00:00Z", "2024-05-10 01:00"},
		{"an instant in another zone", nightly, Request{At: "2024-05-10T01:00:00+09:00"}, "2024-05-09T16:00:00Z", "2024-05-10 01:00"},
		{"an instant at which nothing fires is taken as it is", nightly, Request{At: "2024-05-10T03:04:05Z"}, "2024-05-10T03:04:05Z", "2024-05-10 12:04"},
		{"a date without a firing: its first instant", newJob("weekly", seoul, "0 1 * * 1"), Request{Date: "2024-05-10"}, "2024-05-09T15:00:00Z", "2024-05-10 00:00"},
		{"a job without a schedule", hand, Request{Date: "2024-05-10"}, "2024-05-09T15:00:00Z", "2024-05-10 00:00"},
		{"a date whose firing the clocks move", gap, Request{Date: "2024-03-10"}, "2024-03-10T07:00:00Z", "2024-03-10 02:30"},
		{"and by its time, as it is written", gap, Request{Date: "2024-03-10", At: "02:30"}, "2024-03-10T07:00:00Z", "2024-03-10 02:30"},
		{"a day that begins at one", newJob("x", zone(t, "America/Sao_Paulo")), Request{Date: "2018-11-04"}, "2018-11-04T03:00:00Z", "2018-11-04 00:00"},
		{"midnight is moved and stays its day's", newJob("x", zone(t, "America/Sao_Paulo"), "0 0 * * *"), Request{Date: "2018-11-04"}, "2018-11-04T03:00:00Z", "2018-11-04 00:00"},
		{"a day with two midnights", newJob("x", zone(t, "America/Havana")), Request{Date: "2023-11-05"}, "2023-11-05T04:00:00Z", "2023-11-05 00:00"},
		{"a day whose evening comes twice", newJob("x", zone(t, "America/Sao_Paulo")), Request{Date: "2018-02-18"}, "2018-02-18T03:00:00Z", "2018-02-18 00:00"},
		{"a day that never was", newJob("x", zone(t, "Pacific/Apia")), Request{Date: "2011-12-30"}, "2011-12-30T10:00:00Z", "2011-12-30 00:00"},
		{"the first day of the world's clocks", newJob("x", zone(t, "Pacific/Kiritimati"), "0 0 * * *"), Request{Date: "2024-05-10"}, "2024-05-09T10:00:00Z", "2024-05-10 00:00"},
		{"and the last", newJob("x", zone(t, "Etc/GMT+12"), "59 23 * * *"), Request{Date: "2024-05-10"}, "2024-05-11T11:59:00Z", "2024-05-10 23:59"},

		{"several firings", twice, Request{Date: "2024-05-10"}, "twice fires 2 times on 2024-05-10; say which with --at: 09:30, 21:30", ""},
		{"very many", newJob("often", seoul, "*/5 * * * *"), Request{Date: "2024-05-10"}, "often fires 288 times on 2024-05-10; say which with --at: 00:00, 00:05, 00:10, 00:15, 00:20, 00:25, 00:30, 00:35, 00:40, 00:45, 00:50, 00:55, …", ""},
		{"another time", twice, Request{Date: "2024-05-10", At: "10:00"}, `twice does not fire at "10:00" on 2024-05-10: 09:30, 21:30`, ""},
		{"a time on a day without any", newJob("weekly", seoul, "0 1 * * 1"), Request{Date: "2024-05-10", At: "01:00"}, `weekly does not fire at "01:00" on 2024-05-10: it does not fire on that day`, ""},
		{"no date", nightly, Request{Date: "yesterday"}, `"yesterday" is not a date; write it as 2024-05-16`, ""},
		{"no such date", nightly, Request{Date: "2024-02-30"}, `"2024-02-30" is not a date; write it as 2024-05-16`, ""},
		{"no time", nightly, Request{At: "noon"}, `"noon" is not a time; write it as 15:04, or with its date as 2024-05-16T05:00:00+09:00`, ""},
	} {
		firesAt, named, err := ForRequest(c.job.Job, c.request, at(t, now))
		if err != nil {
			var wrong RequestError
			if !errors.As(err, &wrong) || err.Error() != c.want {
				t.Errorf("%s: %+v\n got error %v\nwant %s", c.why, c.request, err, c.want)
			}
			continue
		}
		if got := firesAt.UTC().Format(time.RFC3339); got != c.want || named.Format("2006-01-02 15:04") != c.named {
			t.Errorf("%s: %+v\n got %s, named %s\nwant %s, named %s", c.why, c.request, got, named.Format("2006-01-02 15:04"), c.want, c.named)
		}
	}
}

func TestARequestForNowIsRoundedToMilliseconds(t *testing.T) {
	t.Parallel()
	firesAt, _, err := ForRequest(newJob("x", time.UTC).Job, Request{}, at(t, "2024-05-15T12:00:00.123456789Z"))
	if err != nil || !firesAt.Equal(at(t, "2024-05-15T12:00:00.123Z")) {
		t.Errorf("got %v, %v: the store keeps milliseconds", firesAt, err)
	}
}

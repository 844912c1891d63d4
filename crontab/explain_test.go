package crontab

import (
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestExplainSaysWhatAPersonWouldSay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, want string }{
		{"* * * * *", "every minute"},
		{"*/5 * * * *", "every 5 minutes (00, 05 … 55), 288 times a day"},
		{"*/7 * * * *", "every 7 minutes (00, 07 … 56; unevenly: 4 minutes from 56 to 00), 216 times a day"},
		{"*/5 1,2,3 * * *", "every 5 minutes (00, 05 … 55) past 01, 02 and 03, every day, 36 times a day"},
		{"0 16 * * *", "every day at 16:00"},
		{"30 2 * * *", "every day at 02:30"},
		{"0 * * * *", "every hour on the hour"},
		{"15 * * * *", "every hour at 15 minutes past"},
		{"* 2 * * *", "every minute from 02:00 to 02:59, every day, 60 times a day"},
		{"*/60 * * * *", "every hour on the hour"},
		{"0 */2 * * *", "every 2 hours (00:00, 02:00 … 22:00), every day, 12 times a day"},
		{"0 */5 * * *", "every day at 00:00, 05:00, 10:00, 15:00 and 20:00"},
		{"0,30 9-17 * * 1-5", "every 30 minutes (00 and 30) from 09:00 to 17:30, every weekday (Monday to Friday), 18 times a day"},
		{"0 9-17/2 * * mon-fri", "every weekday (Monday to Friday) at 09:00, 11:00, 13:00, 15:00 and 17:00"},
		{"0 0 1 * *", "on the 1st of every month at 00:00"},
		{"0 0 1,15 * *", "on the 1st and the 15th of every month at 00:00"},
		{"0 0 31 * *", "on the 31st of every month (in months that have that day) at 00:00"},
		{"0 0 1 1 *", "on 1 January at 00:00"},
		{"0 0 29 2 *", "on 29 February (in leap years) at 00:00"},
		{"0 0 30 2 *", "never: there is no such date (on 30 February)"},
		{"0 6 1-7 * 1", "at 06:00 on the 1st to the 7th of every month, and also every Monday (either is enough)"},
		{"0 9 */2 * 1", "at 09:00 every 2nd day of every month (1, 3 … 31; then from the start again), but only if that is a Monday"},
		{"0 0 13 * 5", "at 00:00 on the 13th of every month, and also every Friday (either is enough)"},
		{"13 4 * * sun", "every Sunday at 04:13"},
		{"0 0 * * 7", "every Sunday at 00:00"},
		{"0 0 * * 6,0", "every Saturday and Sunday at 00:00"},
		{"0 0 * 3-5 *", "every day from March to May at 00:00"},
		{"0 0 * jan,jul *", "every day in January and July at 00:00"},
		{"5 4 * 2 1", "every Monday in February at 04:05"},
		{"1-59/2 * * * *", "every 2 minutes (01, 03 … 59), 720 times a day"},
		{"0-10 3 * * *", "every minute from :00 to :10 past 03, every day, 11 times a day"},
		{"1,2,3,5,8,13,21,34,55 * * * *", "at the minutes 01, 02, 03, 05, 08 … 55 (9 in all) of every hour, 216 times a day"},
		{"0 0-23 * * *", "every hour on the hour"},
		{"0 1,3,5,7,9,11,13 * * *", "every 2 hours (01:00, 03:00 … 13:00; unevenly: 12 hours from 13 to 01), every day, 7 times a day"},
		{"*/15 8-19 * * 1-5", "every 15 minutes (00, 15, 30 and 45) from 08:00 to 19:45, every weekday (Monday to Friday), 48 times a day"},
		{"* * 1 * *", "every minute, on the 1st of every month"},
		{"* * * * 1", "every minute, every Monday"},
		{"10-20/5 0,12 1 */3 *", "on 1 January, April, July and October at 00:10, 00:15, 00:20, 12:10, 12:15 and 12:20"},
		{"0 12 1-31 * 1", "every day (one day field names every day, and either is enough) at 12:00"},
		{"0 12 * * 0-6", "every day at 12:00"},
		{"0 12 *,1 * 1", "every Monday at 12:00"},
		{"0 12 1,* * 1", "every day (one day field names every day, and either is enough) at 12:00"},
		{"0 0 1-7 * */7", "at 00:00 on the 1st to the 7th of every month, but only if that is a Sunday"},
		{"@hourly", "every hour on the hour"},
		{"@daily", "every day at 00:00"},
		{"@weekly", "every Sunday at 00:00"},
		{"@monthly", "on the 1st of every month at 00:00"},
		{"@yearly", "on 1 January at 00:00"},
		{"@reboot", "once each time the machine has started"},
		{"59 23 31 12 *", "on 31 December at 23:59"},
		{"0 3 * * 5-0", "every day from Friday to Sunday at 03:00"},
		{"0 22-23,0-4 * * *", "on the hour at 00–04, 22 and 23, every day, 7 times a day"},
		{"0 0 30 2 1", "at 00:00 on 30 February, and also every Monday in February (either is enough)"},
		{"0 0 31 4,6,9,11 *", "never: there is no such date (on 31 April, June, September and November)"},
		{"23 0-20/2 * * *", "every 2 hours (00:23, 02:23 … 20:23; unevenly: 4 hours from 20 to 00), every day, 11 times a day"},
		{"0 0,12 1 */2 *", "on 1 January, March, May, July, September and November at 00:00 and 12:00"},
		{"0 4 8-14 * *", "on the 8th to the 14th of every month at 04:00"},
		{"0 0 */31 * *", "on the 1st of every month at 00:00"},
		{"7 7 7 7 7", "at 07:07 on 7 July, and also every Sunday in July (either is enough)"},
		{"*/2 */2 */2 */2 */2", "every 2 minutes (00, 02 … 58) of every 2nd hour (00, 02 … 22), every 2nd day of the month in January, March, May, July, September and November (1, 3 … 31; then from the start again), but only if that is a Tuesday, Thursday, Saturday or Sunday, 360 times a day"},
	} {
		if got := mustParse(t, c.expr).Explain(); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.expr, got, c.want)
		}
	}
}

var timesADay = regexp.MustCompile(`, (\d+) times a day$`)

func TestExplainCountsAndNeverListsWithoutEnd(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	counted := 0
	for range 20_000 {
		expr := randomSchedule(r)
		s := mustParse(t, expr)
		text := s.Explain()
		if text == "" || len(text) > 400 || strings.Count(text, ",") > 30 {
			t.Errorf("%q is explained by %d characters: %s", expr, len(text), text)
		}
		first := s.Next(time.Date(2023, 12, 31, 23, 59, 0, 0, time.UTC))
		if strings.HasPrefix(text, "never") != first.IsZero() {
			t.Errorf("%q fires next at %v, and is explained by %q", expr, first, text)
		}
		match := timesADay.FindStringSubmatch(text)
		if match == nil || first.IsZero() {
			continue
		}
		counted++
		want, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		day := first.Truncate(24 * time.Hour)
		got := 0
		for range s.Between(day.Add(-time.Minute), day.Add(24*time.Hour-time.Minute)) {
			got++
		}
		if got != want {
			t.Errorf("%q fires %d times on %s, and is explained by %q", expr, got, day.Format(time.DateOnly), text)
		}
	}
	if counted < 1000 {
		t.Errorf("only %d explanations count: this test is blind", counted)
	}
}

package plan_test

import (
	"strings"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
)

func TestABackfillHasTheFiringsThatTheSchedulesNameOnItsDates(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		why, schedule, from, to string
		want                    string // the first and the last, and how many; or a part of the error
	}{
		{"a date is one night", "30 2 * * *", "2026-03-07", "2026-03-07", "2026-03-07T02:30 … 2026-03-07T02:30, 1"},
		{"both ends are in it, and what a gap moves", "30 2 * * *", "2026-03-07", "2026-03-09", "2026-03-07T02:30 … 2026-03-09T02:30, 3"},
		{"what is still to come is not", "0 18 * * *", "2026-03-18", "2026-03-22", "2026-03-18T18:00 … 2026-03-19T18:00, 2"},
		{"several a day", "0 */6 * * *", "2026-03-01", "2026-03-02", "2026-03-01T00:00 … 2026-03-02T18:00, 8"},
		{"days without a firing", "0 1 * * 1", "2026-03-01", "2026-03-10", "2026-03-02T01:00 … 2026-03-09T01:00, 2"},
		{"without a schedule each day has one", "", "2026-03-01", "2026-03-03", "2026-03-01T00:00 … 2026-03-03T00:00, 3"},
		{"none in the range", "0 1 1 1 *", "2026-03-01", "2026-03-03", "error: top has no firing"},
		{"the wrong way round", "0 1 * * *", "2026-03-03", "2026-03-01", "error: is before 2026-03-03"},
		{"no date", "0 1 * * *", "03/01", "2026-03-01", `error: "03/01" is not a date; write it as 2026-03-20`},
		{"too many", "* * * * *", "2026-01-01", "2026-03-01", "error: more than 2000 firings"},
		{"a slip of the year", "0 1 * * *", "0226-01-01", "2026-03-01", "error: more than 20 years"},
	} {
		j := &job.Job{ID: job.ID{Name: "top"}, Settings: &job.Settings{Zone: zone}}
		if c.schedule != "" {
			j.Schedules = []crontab.Schedule{crontab.MustParseSchedule(c.schedule)}
		}
		list, err := plan.ForBackfill(j, c.from, c.to, now)
		if part, fails := strings.CutPrefix(c.want, "error: "); fails || err != nil {
			if err == nil || !fails || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %d firings, %v; want %s", c.why, len(list), err, c.want)
			}
			continue
		}
		const layout = "2006-01-02T15:04"
		got := list[0].Named.Format(layout) + " … " + list[len(list)-1].Named.Format(layout) + ", " + string(rune('0'+len(list)))
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}

func TestADecisionSaysHowManyJobsFireNext(t *testing.T) {
	t.Parallel()
	var jobs []plan.Job
	for i, schedule := range []string{"1 0 * * *", "0 0 * * *", "1 0 * * *", "*/1 * * * *", "2 0 * * *", "1 1 * * *"} {
		jobs = append(jobs, plan.Job{Key: string(rune('a' + i)), Job: &job.Job{
			ID: job.ID{Name: string(rune('a' + i))}, Settings: &job.Settings{Zone: time.UTC},
			Schedules: []crontab.Schedule{crontab.MustParseSchedule(schedule)},
		}})
	}
	now := time.Date(2026, 3, 20, 0, 0, 1, 0, time.UTC)
	d := plan.Decide(plan.Input{Now: plan.Reading{Wall: now}, Clock: plan.Clock{Mark: now, High: now}, Jobs: plan.NewCalendar(jobs)})
	if want := now.Truncate(time.Minute).Add(time.Minute); !d.Wake.Equal(want) || d.Coming != 3 {
		t.Errorf("%d jobs fire at %s, want 3 at %s", d.Coming, d.Wake, want)
	}
}

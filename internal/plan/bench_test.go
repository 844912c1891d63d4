package plan

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
)

// manyJobs are as many as a host may have, one of them every minute.
func manyJobs(n int) []Job {
	settings := &job.Settings{Zone: time.UTC, Crontab: true, CatchUp: job.CatchUpNone}
	jobs := make([]Job, n)
	for i := range jobs {
		expr := fmt.Sprintf("%d %d * * *", i%60, 13+i/60%11)
		if i == 0 {
			expr = "* * * * *"
		}
		j := &job.Job{ID: job.ID{Project: "ops", Name: fmt.Sprint("j", i)}, Settings: settings, Schedules: []crontab.Schedule{crontab.MustParseSchedule(expr)}}
		jobs[i] = Job{Job: j, Key: fmt.Sprint("key-", i)}
	}
	return jobs
}

func BenchmarkAMinuteOfAHundredThousandJobs(b *testing.B) {
	calendar := NewCalendar(manyJobs(100_000))
	now := time.Date(2024, 5, 15, 0, 0, 0, 0, time.UTC)
	reading := Reading{Wall: now, Running: time.Hour, Elapsed: time.Hour}
	clock := Clock{Mark: now, High: now}
	decide := func() {
		last := reading
		reading.Wall, reading.Running, reading.Elapsed = last.Wall.Add(time.Minute), last.Running+time.Minute, last.Elapsed+time.Minute
		if reading.Wall.Hour() == 12 { // the hours until then are idle
			reading.Wall = reading.Wall.Add(12 * time.Hour)
			clock.Mark, clock.High = reading.Wall.Add(-time.Minute), reading.Wall.Add(-time.Minute)
			calendar.turn(clock.Mark)
		}
		d := Decide(Input{Now: reading, Last: &last, Clock: clock, Jobs: calendar})
		if len(d.Runs) != 1 {
			b.Fatalf("%d runs at %s, want the one of each minute", len(d.Runs), reading.Wall)
		}
		clock = d.Clock
	}
	decide() // the first looks up all of them
	for b.Loop() {
		decide()
	}
}

func BenchmarkACalendarOfAHundredThousandJobs(b *testing.B) {
	jobs := manyJobs(100_000)
	now := time.Date(2024, 5, 15, 0, 0, 0, 0, time.UTC)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var calendar *Calendar
	for b.Loop() {
		calendar = NewCalendar(jobs)
		calendar.turn(now)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(jobs)), "B/job")
	runtime.KeepAlive(calendar)
}

func BenchmarkAHundredThousandJobsDueAtOnce(b *testing.B) {
	settings := &job.Settings{Zone: time.UTC, Crontab: true}
	every := []crontab.Schedule{crontab.MustParseSchedule("0 1 * * *")}
	jobs := make([]Job, 100_000)
	for i := range jobs {
		jobs[i] = Job{Job: &job.Job{ID: job.ID{Project: "ops", Name: fmt.Sprint("j", i)}, Settings: settings, Schedules: every}, Key: fmt.Sprint("key-", i)}
	}
	now := time.Date(2024, 5, 15, 1, 0, 0, 0, time.UTC)
	last := Reading{Wall: now.Add(-time.Second), Running: time.Hour, Elapsed: time.Hour}
	reading := Reading{Wall: now, Running: last.Running + time.Second, Elapsed: last.Elapsed + time.Second}
	clock := Clock{Mark: last.Wall, High: last.Wall}
	for b.Loop() {
		b.StopTimer()
		calendar := NewCalendar(jobs)
		calendar.turn(clock.Mark)
		b.StartTimer()
		if d := Decide(Input{Now: reading, Last: &last, Clock: clock, Jobs: calendar}); len(d.Runs) != len(jobs) {
			b.Fatalf("%d runs", len(d.Runs))
		}
	}
}

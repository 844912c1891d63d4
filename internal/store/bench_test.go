package store

import (
	"fmt"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
)

// BenchmarkRecordAThousandFirings is the transaction between a minute in which
// a thousand jobs are due and their start.
func BenchmarkRecordAThousandFirings(b *testing.B) {
	s, err := Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	jobs := make([]*job.Job, 1000)
	for i := range jobs {
		jobs[i] = nightly(fmt.Sprint("j", i))
	}
	saved, err := s.SaveJobs(b.Context(), "lake", jobs, make([]string, len(jobs)), night)
	if err != nil {
		b.Fatal(err)
	}
	at := night
	for b.Loop() {
		at = at.Add(time.Minute)
		d := plan.Decision{Clock: plan.Clock{Mark: at, High: at}}
		for _, j := range saved {
			d.Runs = append(d.Runs, plan.Run{Job: j, Key: "t/" + at.Format(time.RFC3339) + "/0", Cause: plan.Scheduled, FiresAt: at, FiresUntil: at, Count: 1, Named: at})
		}
		if _, err := s.Record(b.Context(), d, at); err != nil {
			b.Fatal(err)
		}
	}
}

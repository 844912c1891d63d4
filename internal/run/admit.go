package run

import (
	"fmt"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
)

// admission is what is to become of the runs that wait.
type admission struct {
	start []Run
	skip  map[string]string // run → reason
	waits map[string]string // run → what it waits for, where that has changed
	wake  time.Time         // when the next retry is due; zero: none waits
}

// admit decides which of the waiting runs may start now. waiting is in the
// order in which they were queued, running are the runs with a living attempt.
// A run that waits for its retry counts as running for all others of its job.
// slots bounds the attempts of jobs that count (those of belfry.yaml).
func admit(waiting, running []Run, jobOf func(Run) *job.Job, slots int, now time.Time) admission {
	a := admission{skip: map[string]string{}, waits: map[string]string{}}
	busy := map[string][]Run{} // job → its runs that count for overlap
	used := 0
	occupy := func(r Run) {
		r.State = Running
		busy[r.Job] = append(busy[r.Job], r)
		if j := jobOf(r); j == nil || !j.Crontab {
			used++
		}
	}
	for _, r := range running {
		occupy(r)
	}
	for _, r := range waiting {
		if r.Attempt > 0 {
			busy[r.Job] = append(busy[r.Job], r)
		}
	}
	wait := func(r Run, reason string) {
		if r.Reason != reason {
			a.waits[r.ID] = reason
		}
	}
	for _, r := range waiting {
		if r.NotBefore.After(now) {
			if a.wake.IsZero() || r.NotBefore.Before(a.wake) {
				a.wake = r.NotBefore
			}
			continue
		}
		j := jobOf(r)
		if j == nil {
			a.skip[r.ID] = "the job was removed"
			continue
		}
		if other, overlaps := overlap(j, r, busy[r.Job]); overlaps {
			switch {
			case j.Overlap == job.OverlapSkip && r.Cause != plan.Manual && r.Attempt == 0:
				a.skip[r.ID] = fmt.Sprintf("overlap: run %s had not ended", other.ID)
			default:
				wait(r, fmt.Sprintf("turn: run %s has not ended", other.ID))
			}
			continue
		}
		if !j.Crontab && used >= slots {
			wait(r, fmt.Sprintf("slot: all %d are taken", slots))
			continue
		}
		a.start = append(a.start, r)
		occupy(r)
	}
	return a
}

// overlap finds a run that keeps r from starting. Two attempts for one firing
// never run at once, whatever the policy. Of two runs that are both between
// attempts (their job was allow before) neither waits for the other: both would
// wait for ever.
func overlap(j *job.Job, r Run, busy []Run) (Run, bool) {
	for _, other := range busy {
		if r.Attempt > 0 && other.State == Queued {
			continue
		}
		if other.ID != r.ID && (j.Overlap != job.OverlapAllow || other.FiresAt.Equal(r.FiresAt)) {
			return other, true
		}
	}
	return Run{}, false
}

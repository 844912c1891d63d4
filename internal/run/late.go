package run

import (
	"context"
	"fmt"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// tellLate tells of the runs that have not begun within start_within of their
// firing, or not ended by finish_by, once each, and says when the next one may be
// late. It changes no state.
func (r *Runner) tellLate(ctx context.Context, now time.Time) time.Time {
	if !r.o.Since.IsZero() { // nobody keeps the times
		return time.Time{}
	}
	// In a burst there is a pass every few milliseconds.
	if soon := r.lookedLate.Add(time.Second); now.Before(soon) && !now.Before(r.lookedLate) && !due(r.nextLate, now) {
		return earlier(r.nextLate, soon)
	}
	late, next, err := r.o.Store.Late(ctx, now)
	if err != nil {
		r.o.Log.Error("look for late runs", "error", err)
		return now.Add(time.Minute)
	}
	r.lookedLate, r.nextLate = now, next
	if len(late) == 0 {
		return next
	}
	var told []string
	var owed []outbox.Item
	for _, run := range late {
		j, err := r.definition(ctx, run)
		if err != nil {
			r.o.Log.Error("tell that a run is late", "run", run.ID, "error", err)
			continue
		}
		told = append(told, run.ID)
		reason := lateness(j, run, now)
		if reason == "" {
			continue // it began in time, and its end is not due
		}
		r.o.Log.Warn("a run is late", "job", run.Name, "run", run.ID, "reason", reason)
		if j.Notify.Wants(job.OnLate) {
			owed = append(owed, r.o.Notices(News{Event: job.OnLate, Job: j, Run: run, Attempt: run.Attempt, State: run.State, Reason: reason, At: now})...)
		}
	}
	if err := r.o.Store.Told(ctx, told, now, owed); err != nil {
		r.o.Log.Error("tell that runs are late", "runs", len(told), "error", err)
		return now.Add(time.Minute)
	}
	for _, id := range told {
		if run, running := r.live[id]; running && due(run.FinishBy, now) {
			run.FinishBy = time.Time{}
			r.live[id] = run
		}
	}
	r.o.Changed()
	return next
}

// lateness says in words which promise a run has not kept; empty: none.
func lateness(j *job.Job, run Run, now time.Time) string {
	switch {
	case due(run.FinishBy, now):
		return fmt.Sprintf("it has not ended %s after its firing (finish_by)", job.DurationText(j.FinishBy))
	case due(run.StartBy, now) && run.StartedAt.IsZero():
		return fmt.Sprintf("it has not begun %s after its firing (start_within)", job.DurationText(j.StartWithin))
	}
	return ""
}

func due(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }

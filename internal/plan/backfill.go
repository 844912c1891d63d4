package plan

import (
	"time"

	"belfry/internal/job"
)

// backfillMost is how many firings one backfill may have: those that wait are
// looked at each time that one ends.
const backfillMost = 2_000

// ForBackfill lists the firings that a job's schedules name from one date to
// another, both included, that are not after now. A job without any schedule has
// each day's first instant in its zone.
func ForBackfill(j *job.Job, from, to string, now time.Time) ([]job.Firing, error) {
	today := now.In(j.Zone).Format(time.DateOnly)
	first, err := time.Parse(time.DateOnly, from)
	if err != nil {
		return nil, requestError("%q is not a date; write it as %s", from, today)
	}
	last, err := time.Parse(time.DateOnly, to)
	if err != nil {
		return nil, requestError("%q is not a date; write it as %s", to, today)
	}
	if last.Before(first) {
		return nil, requestError("%s is before %s: the first date comes first", to, from)
	}
	if last.Sub(first) > 20*farthest {
		return nil, requestError("from %s to %s is more than 20 years; take a part of it", from, to)
	}
	var list []job.Firing
	for day := first; !day.After(last); day = day.AddDate(0, 0, 1) {
		firings := j.FiringsOn(day)
		if len(firings) == 0 && len(j.Schedules) == 0 && len(j.Inherited) == 0 {
			firings = []job.Firing{{At: job.StartOfDay(day, j.Zone), Named: day}}
		}
		for _, f := range firings {
			if !f.At.After(now) {
				list = append(list, f)
			}
		}
		if len(list) > backfillMost {
			return nil, requestError("from %s to %s are more than %d firings; take a part of it", from, to, backfillMost)
		}
	}
	if len(list) == 0 {
		return nil, requestError("%s has no firing from %s to %s that is not still to come", j.Name, from, to)
	}
	return list, nil
}

package plan

import (
	"fmt"
	"strings"
	"time"

	"belfry/internal/job"
)

// Request is what a person asked for: run the job now, or for Date, or for the
// firing At.
type Request struct {
	Date string // 2006-01-02 in the job's zone, or empty
	At   string // 15:04 in the job's zone on Date (today if empty), or an RFC 3339 time, or empty
}

// RequestError says why a request cannot be met as it stands.
type RequestError string

func (e RequestError) Error() string { return string(e) }

// ForRequest gives the firing that a request means, and the local date and time
// named for it, as a reading in UTC. A job with several firings on the date
// needs At; one without any gets the date's first instant in the job's zone.
func ForRequest(j *job.Job, r Request, now time.Time) (firesAt, named time.Time, err error) {
	if r.Date == "" && r.At == "" {
		now = now.Round(0).Truncate(time.Millisecond)
		return now, j.Named(now), nil
	}
	if at, err := time.Parse(time.RFC3339, r.At); err == nil && r.Date == "" {
		return at, j.Named(at), nil
	}
	date := now.In(j.Zone).Format(time.DateOnly)
	if r.Date != "" {
		date = r.Date
	}
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return time.Time{}, time.Time{}, requestError("%q is not a date; write it as %s", r.Date, now.In(j.Zone).Format(time.DateOnly))
	}
	firings := j.FiringsOn(day)
	if r.At != "" {
		at, err := time.Parse("15:04", r.At)
		if err != nil {
			return time.Time{}, time.Time{}, requestError("%q is not a time; write it as 15:04, or with its date as %s", r.At, now.In(j.Zone).Format(time.RFC3339))
		}
		for _, f := range firings {
			if f.Named.Format("15:04") == at.Format("15:04") {
				return f.At, f.Named, nil
			}
		}
		return time.Time{}, time.Time{}, requestError("%s does not fire at %q on %s%s", j.Name, r.At, date, listed(firings))
	}
	switch len(firings) {
	case 0:
		at := job.StartOfDay(day, j.Zone)
		return at, day, nil
	case 1:
		return firings[0].At, firings[0].Named, nil
	}
	return time.Time{}, time.Time{}, requestError("%s fires %d times on %s; say which with --at%s", j.Name, len(firings), date, listed(firings))
}

func listed(firings []job.Firing) string {
	if len(firings) == 0 {
		return ": it does not fire on that day"
	}
	var times []string
	for _, f := range firings {
		if len(times) == 12 {
			times = append(times, "…")
			break
		}
		times = append(times, f.Named.Format("15:04"))
	}
	return ": " + strings.Join(times, ", ")
}

func requestError(format string, args ...any) error {
	return RequestError(fmt.Sprintf(format, args...))
}

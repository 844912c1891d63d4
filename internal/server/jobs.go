package server

import (
	"net/http"
	"time"

	"belfry/api"
)

func (s *server) jobs(w http.ResponseWriter, r *http.Request) error {
	jobs, err := s.backend.Jobs(r.Context())
	if err != nil {
		return err
	}
	list := make([]api.Job, len(jobs))
	for i, j := range jobs {
		list[i] = jobOf(j, time.Now())
	}
	return answer(w, http.StatusOK, list)
}

func jobOf(j Job, now time.Time) api.Job {
	out := api.Job{
		Project: j.Project, Name: j.Name, Owner: j.Owner, Schedules: j.ScheduleTexts(), After: j.After,
		Timezone: j.Zone.String(), Command: j.Command.String(), Source: j.Source.String(), Paused: j.Paused,
	}
	if !j.Paused {
		out.Next = api.Time(j.Next(now))
	}
	if j.Last != nil {
		last := runOf(*j.Last, j.Zone.String())
		out.Last = &last
	}
	// A list is never null: programs read it.
	if out.Schedules == nil {
		out.Schedules = []string{}
	}
	if out.After == nil {
		out.After = []string{}
	}
	return out
}

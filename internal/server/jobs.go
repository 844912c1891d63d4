package server

import (
	"net/http"

	"belfry/api"
)

func (s *server) jobs(w http.ResponseWriter, r *http.Request) error {
	jobs, err := s.backend.Jobs(r.Context())
	if err != nil {
		return err
	}
	list := make([]api.Job, len(jobs))
	for i, j := range jobs {
		list[i] = jobOf(j)
	}
	return answer(w, http.StatusOK, list)
}

func (s *server) pauseJob(w http.ResponseWriter, r *http.Request) error {
	var request api.PauseRequest
	if err := read(r, &request); err != nil {
		return err
	}
	j, err := s.backend.Pause(r.Context(), request.Job, request.Paused)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, jobOf(j))
}

func jobOf(j Job) api.Job {
	out := api.Job{
		Project: j.Project, Name: j.Name, Owner: j.Owner, Schedules: j.ScheduleTexts(), Drawn: j.DrawnTexts(), After: j.After,
		Timezone: j.Zone.String(), Command: j.Command.String(), Source: j.Source.String(), Paused: j.Paused, Next: api.Time(j.Next),
	}
	if j.Python.Wanted() {
		out.Python = &api.Python{Requirements: j.Python.Requirements, Version: string(j.Python.Version), Environment: j.Environment}
	}
	if j.Last != nil {
		last := runOf(*j.Last, j.Zone.String())
		out.Last = &last
	}
	// A list is never null: programs read it.
	if out.Schedules == nil {
		out.Schedules = []string{}
	}
	if out.Drawn == nil {
		out.Drawn = []string{}
	}
	if out.After == nil {
		out.After = []string{}
	}
	return out
}

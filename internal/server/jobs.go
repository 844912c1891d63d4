package server

import (
	"net/http"
	"time"

	"belfry/api"
)

func (s *server) jobs(w http.ResponseWriter, r *http.Request) error {
	short := r.URL.Query().Get("short") == "true"
	return s.stream(w, func(each func(any) error) error {
		return s.backend.EachJob(r.Context(), short, func(j Job) error {
			if short {
				return each(shortOf(j))
			}
			return each(jobOf(j))
		})
	})
}

// shortJob has some of the fields of api.Job: those of a table.
type shortJob struct {
	Project   string     `json:"project"`
	Name      string     `json:"name"`
	Schedules []string   `json:"schedules"`
	After     []string   `json:"after"`
	Timezone  string     `json:"timezone"`
	Command   string     `json:"command"`
	Paused    bool       `json:"paused"`
	Next      *time.Time `json:"next"`
	Last      *shortRun  `json:"last"`
}

type shortRun struct {
	State   string    `json:"state"`
	FiresAt time.Time `json:"fires_at"`
}

func shortOf(j Job) shortJob {
	out := shortJob{
		Project: j.Project, Name: j.Name, Schedules: j.ScheduleTexts(), After: j.After,
		Timezone: j.Zone.String(), Command: j.Command.String(), Paused: j.Paused, Next: api.Time(j.Next),
	}
	if j.Last != nil {
		out.Last = &shortRun{string(j.Last.State), j.Last.FiresAt.UTC()}
	}
	out.Schedules, out.After = listOf(out.Schedules), listOf(out.After)
	return out
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
	out.Schedules, out.Drawn, out.After = listOf(out.Schedules), listOf(out.Drawn), listOf(out.After)
	return out
}

// listOf is never null: programs read it.
func listOf(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

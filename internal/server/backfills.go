package server

import (
	"net/http"

	"belfry/api"
)

func (s *server) startBackfill(w http.ResponseWriter, r *http.Request) error {
	var request api.BackfillRequest
	if err := read(r, &request); err != nil {
		return err
	}
	id, runs, err := s.backend.Backfill(r.Context(), request)
	if err != nil {
		return err
	}
	out := api.Backfill{ID: id, States: map[string]int{}, Runs: []api.Run{}}
	for _, run := range runs {
		out.States[string(run.State)]++
		out.Runs = append(out.Runs, runOf(run, s.backend.Zone(r.Context(), run)))
	}
	return answer(w, http.StatusCreated, out)
}

func (s *server) backfill(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	return await(w, r, s.backend.Changed, api.Backfill.Version, func() (api.Backfill, error) {
		states, err := s.backend.BackfillStates(r.Context(), id)
		if err != nil {
			return api.Backfill{}, err
		}
		if len(states) == 0 {
			return api.Backfill{}, &api.Error{Code: api.NotFound, Message: "there is no backfill " + id}
		}
		out := api.Backfill{ID: id, States: map[string]int{}}
		for state, n := range states {
			out.States[string(state)] = n
		}
		out.Publishing, err = s.publishingOf(r.Context(), id)
		return out, err
	})
}

func (s *server) stopBackfill(w http.ResponseWriter, r *http.Request) error {
	var request api.StopBackfillRequest
	if err := read(r, &request); err != nil {
		return err
	}
	if err := s.backend.StopBackfill(r.Context(), r.PathValue("id"), request.Running); err != nil {
		return err
	}
	return s.backfill(w, r)
}

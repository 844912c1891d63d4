package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"belfry/api"
	"belfry/internal/run"
)

// PublishedFilter says which sets are wanted.
type PublishedFilter struct {
	Job   string // name, or project/name
	Date  string
	All   bool // also those that were replaced
	Limit int
}

func (s *server) published(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	f := PublishedFilter{Job: query.Get("job"), Date: query.Get("date"), All: query.Get("all") == "true"}
	var err error
	if f.Limit, err = limitOf(r); err != nil {
		return err
	}
	return s.stream(w, func(each func(any) error) error {
		return s.backend.EachPublished(r.Context(), f, func(p run.Published) error {
			return each(api.Published{
				Run: p.Run, Project: p.Project, Job: p.Name, Date: p.Date, To: p.To, Files: p.Files, Bytes: p.Bytes, Manifest: p.Manifest,
				At: p.At.UTC(), ReplacedBy: p.ReplacedBy, Timezone: s.backend.Zone(r.Context(), run.Run{Job: p.Job}),
			})
		})
	})
}

// inspect answers with a line for each news of how far it is.
func (s *server) inspect(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	encoder, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	begun := false
	say := func(line api.Inspecting) error {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
		return flush()
	}
	request := api.InspectRequest{Run: query.Get("run"), To: query.Get("to"), Verify: query.Get("verify") == "true"}
	found, err := s.backend.Inspect(r.Context(), request, func(p api.Progress) {
		_ = say(api.Inspecting{Progress: &p}) // one who is gone has ended the request
	})
	var problem *api.Error
	switch {
	case err == nil:
		return say(api.Inspecting{Inspection: &found})
	case begun && errors.As(err, &problem):
		return say(api.Inspecting{Error: problem})
	case begun && r.Context().Err() == nil:
		return say(api.Inspecting{Error: &api.Error{Code: api.Internal, Message: err.Error()}})
	}
	return err
}

// publishing is how far a run's publish has come; nil: it is not under way.
func (s *server) publishing(r run.Run) *api.Progress {
	if r.State != run.Publishing {
		return nil
	}
	if p, ok := s.backend.Publishing()[r.ID]; ok {
		return &p
	}
	return nil
}

// publishingOf sums up how far the publishes of a backfill's runs have come.
func (s *server) publishingOf(ctx context.Context, backfill string) (*api.Progress, error) {
	var sum *api.Progress
	for id, p := range s.backend.Publishing() {
		r, err := s.backend.RunByRef(ctx, id)
		var problem *api.Error
		if errors.As(err, &problem) && problem.Code == api.NotFound {
			continue // it is no longer in the account
		}
		if err != nil {
			return nil, err
		}
		if r.Backfill != backfill || r.State != run.Publishing {
			continue
		}
		if sum != nil {
			p = sum.Add(p)
		}
		sum = &p
	}
	return sum, nil
}

// Package server answers requests over HTTP: a table of routes, and what stands
// behind each, one file a noun. It decides nothing; the daemon gives it a
// Backend and a listener.
package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"belfry/api"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/run"
)

// Backend is what the routes need. Errors for people are *api.Error.
type Backend interface {
	Health(ctx context.Context) api.Health
	Jobs(ctx context.Context) ([]Job, error)
	// Zone gives the name of the time zone that a run's job is in.
	Zone(ctx context.Context, r run.Run) string
	Runs(ctx context.Context, f RunFilter) ([]run.Run, error)
	// RunByRef finds a run by the beginning of its id, JOB, or JOB@TIME.
	RunByRef(ctx context.Context, ref string) (run.Run, error)
	Attempts(ctx context.Context, run string) ([]run.Attempt, error)
	ItemsOf(ctx context.Context, run string) ([]outbox.Item, error)
	Request(ctx context.Context, r api.RunRequest) ([]run.Run, error)
	Stop(ctx context.Context, run string, kill bool) error
	LogPath(run string, attempt int) string
	// Changed is closed at the next change of anything.
	Changed() <-chan struct{}
}

// Job is a job with its next firing and its newest run.
type Job struct {
	plan.Job
	Next time.Time // zero: none, or it is paused
	Last *run.Run
}

// RunFilter says which runs are wanted.
type RunFilter struct {
	Job   string // name, or project/name
	State run.State
	Limit int
}

// server holds what the handlers share.
type server struct {
	backend Backend
	log     *slog.Logger
}

// New gives the handler of all routes. Who may connect is decided by the
// socket: it is its owner's alone.
func New(backend Backend, log *slog.Logger) http.Handler {
	s := &server{backend: backend, log: log}
	mux := http.NewServeMux()
	for _, route := range []struct {
		pattern string
		handle  func(w http.ResponseWriter, r *http.Request) error
	}{
		{"GET " + api.Path + "/health", s.health},
		{"GET " + api.Path + "/jobs", s.jobs},
		{"GET " + api.Path + "/runs", s.runs},
		{"POST " + api.Path + "/runs", s.startRun},
		{"GET " + api.Path + "/runs/{ref}", s.run},
		{"POST " + api.Path + "/runs/{ref}/stop", s.stopRun},
		{"GET " + api.Path + "/runs/{ref}/log", s.runLog},
		{"/", s.unknown},
	} {
		mux.HandleFunc(route.pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.handle(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	return mux
}

func (s *server) health(w http.ResponseWriter, r *http.Request) error {
	return answer(w, http.StatusOK, s.backend.Health(r.Context()))
}

func (s *server) unknown(_ http.ResponseWriter, r *http.Request) error {
	return &api.Error{Code: api.NotFound, Message: "there is no route " + r.Method + " " + r.URL.Path}
}

func answer(w http.ResponseWriter, status int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(body)
}

// read takes a JSON body. Unknown fields are ignored: a newer client may ask.
func read(r *http.Request, body any) error {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(body); err != nil {
		return &api.Error{Code: api.Invalid, Message: "the request is not the JSON it should be: " + err.Error()}
	}
	return nil
}

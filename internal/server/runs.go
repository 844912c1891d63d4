package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"belfry/api"
	"belfry/internal/outbox"
	"belfry/internal/run"
)

func (s *server) runs(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	f := RunFilter{Job: query.Get("job"), State: run.State(query.Get("state")), Backfill: query.Get("backfill")}
	var err error
	if f.Limit, err = limitOf(r); err != nil {
		return err
	}
	commands := query.Get("commands") != ""
	meant := map[string][2]string{} // hash of a definition → owner and command
	return s.stream(w, func(each func(any) error) error {
		return s.backend.EachRun(r.Context(), f, func(found run.Run) error {
			out := runOf(found, s.backend.Zone(r.Context(), found))
			if commands {
				m, known := meant[found.Definition]
				if !known {
					if m[0], m[1], err = s.backend.Meant(r.Context(), found); err != nil {
						return err
					}
					meant[found.Definition] = m
				}
				out.Owner, out.Command = m[0], m[1]
			}
			return each(out)
		})
	})
}

// limitOf reads how many a request wants at most; 0: any number.
func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not a number that bounds a list"}
	}
	return n, nil
}

// stream answers with a list as it comes: it may be longer than what memory
// should hold.
func (s *server) stream(w http.ResponseWriter, list func(each func(any) error) error) error {
	head := "["
	err := list(func(v any) error {
		if head == "[" {
			w.Header().Set("Content-Type", "application/json")
		}
		if _, err := io.WriteString(w, head); err != nil {
			return err
		}
		head = ","
		return json.NewEncoder(w).Encode(v)
	})
	switch {
	case err != nil && head == ",":
		s.log.Error("answer with a list", "error", err)
		panic(http.ErrAbortHandler) // half a list was sent: the client must see that it is cut off
	case err != nil:
		return err
	case head == "[":
		return answer(w, http.StatusOK, []any{})
	}
	_, err = io.WriteString(w, "]\n")
	return err
}

// patience is how long a request may wait for a change.
const patience = 30 * time.Second

func (s *server) run(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("ref")
	return await(w, r, s.backend.Changed, api.Version, func() (api.Run, error) {
		found, err := s.backend.RunByRef(r.Context(), ref)
		ref = found.ID // which is found at once the next time
		if err != nil {
			return api.Run{}, err
		}
		return s.whole(r.Context(), found)
	})
}

// await answers with what get gives, as soon as its version is another than the
// one that the request has seen, or patience is over.
func await[T any](w http.ResponseWriter, r *http.Request, changes func() <-chan struct{}, version func(T) string, get func() (T, error)) error {
	unless := r.URL.Query().Get("unless")
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for waiting := unless != ""; ; {
		changed := changes()
		out, err := get()
		if err != nil {
			return err
		}
		if !waiting || version(out) != unless {
			return answer(w, http.StatusOK, out)
		}
		select {
		case <-changed:
		case <-timeout.C:
			waiting = false
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// whole is a run with all that belongs to it.
func (s *server) whole(ctx context.Context, r run.Run) (api.Run, error) {
	out := runOf(r, s.backend.Zone(ctx, r))
	out.Waits, out.Publishing = r.Parents, s.publishing(r)
	var err error
	if out.Owner, out.Command, err = s.backend.Meant(ctx, r); err != nil {
		return api.Run{}, err
	}
	attempts, err := s.backend.Attempts(ctx, r.ID)
	if err != nil {
		return api.Run{}, err
	}
	for _, a := range attempts {
		path := ""
		if a.EndedAt.IsZero() {
			path = s.backend.LogPath(r.ID, a.Number)
		}
		out.Attempts = append(out.Attempts, api.Attempt{
			Number: a.Number, Node: a.Node, StartedAt: a.StartedAt, EndedAt: api.Time(a.EndedAt), ExitCode: a.ExitCode, Signal: a.Signal,
			Reason: a.Reason, CPUSeconds: (a.UserCPU + a.SystemCPU).Seconds(), MaxRSS: a.MaxRSS, MaxRSSExact: a.MaxRSSExact, Log: path,
		})
	}
	acts, err := s.backend.ActsOn(ctx, r)
	if err != nil {
		return api.Run{}, err
	}
	out.Audit = s.actsOf(ctx, acts)
	items, err := s.backend.ItemsOf(ctx, r.ID)
	if err != nil {
		return api.Run{}, err
	}
	for _, item := range items {
		notice := api.Notice{Kind: string(item.Kind), State: string(item.State), Tries: item.Tries, Error: item.Error}
		if item.State == outbox.Pending {
			notice.Next = api.Time(item.NextAt)
		}
		out.Notices = append(out.Notices, notice)
	}
	return out, nil
}

func runOf(r run.Run, zone string) api.Run {
	out := api.Run{
		ID: r.ID, Project: r.Project, Job: r.Name, Cause: string(r.Cause), State: string(r.State), Reason: r.Reason, Count: r.Count,
		FiresAt: r.FiresAt.UTC(), Date: r.Date(), Attempt: r.Attempt, ExitCode: r.ExitCode, Signal: r.Signal,
		QueuedAt: r.QueuedAt.UTC(), StartedAt: api.Time(r.StartedAt), EndedAt: api.Time(r.EndedAt), NotBefore: api.Time(r.NotBefore),
		Node: r.Node, Timezone: zone, Backfill: r.Backfill, Published: []api.Target{},
	}
	if r.Count > 1 {
		out.FiresUntil = api.Time(r.FiresUntil)
	}
	var result struct{ Targets []api.Target }
	if json.Unmarshal(r.Published, &result) == nil && result.Targets != nil {
		out.Published = result.Targets
	}
	return out
}

func (s *server) startRun(w http.ResponseWriter, r *http.Request) error {
	var request api.RunRequest
	if err := read(r, &request); err != nil {
		return err
	}
	runs, err := s.backend.Request(r.Context(), request)
	if err != nil {
		return err
	}
	list := make([]api.Run, len(runs))
	for i, run := range runs {
		list[i] = runOf(run, s.backend.Zone(r.Context(), run))
	}
	return answer(w, http.StatusCreated, list)
}

func (s *server) stopRun(w http.ResponseWriter, r *http.Request) error {
	var request api.StopRequest
	if err := read(r, &request); err != nil {
		return err
	}
	found, err := s.backend.RunByRef(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	if err := s.backend.Stop(r.Context(), found.ID, request.Kill); err != nil {
		return err
	}
	return s.steered(w, r, found.ID)
}

func (s *server) retryRun(w http.ResponseWriter, r *http.Request) error {
	var request api.RetryRequest
	if r.ContentLength != 0 {
		if err := read(r, &request); err != nil {
			return err
		}
	}
	found, err := s.backend.RunByRef(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	if err := s.backend.Retry(r.Context(), found.ID, request.Publish); err != nil {
		return err
	}
	return s.steered(w, r, found.ID)
}

// steered answers with a run as it is after somebody steered it.
func (s *server) steered(w http.ResponseWriter, r *http.Request, id string) error {
	found, err := s.backend.RunByRef(r.Context(), id)
	if err != nil {
		return err
	}
	out, err := s.whole(r.Context(), found)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, out)
}

package server

import (
	"context"
	"net/http"

	"belfry/api"
	"belfry/internal/run"
)

func (s *server) audit(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	acts, err := s.backend.Acts(r.Context(), r.URL.Query().Get("job"), limit)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, s.actsOf(r.Context(), acts))
}

func (s *server) actsOf(ctx context.Context, acts []run.Act) []api.Act {
	list := make([]api.Act, len(acts))
	for i, a := range acts {
		list[i] = api.Act{
			At: a.At.UTC(), UID: a.UID, Person: a.Name, Action: string(a.Action), Project: a.Project, Job: a.JobName,
			Run: a.Run, Backfill: a.Backfill, Detail: a.Detail, Timezone: s.backend.Zone(ctx, run.Run{Job: a.Job}),
		}
	}
	return list
}

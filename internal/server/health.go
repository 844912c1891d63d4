package server

import (
	"fmt"
	"net/http"
	"time"

	"belfry/api"
)

// health tells whoever may know all of it in any case; anyone gets it with a
// status for machines, and without what is nobody's business.
//
// Job files with a mistake are no reason for 503: the daemon goes on with the
// jobs as they were, and whoever restarts it for that ends them.
func (s *server) health(w http.ResponseWriter, r *http.Request) error {
	h := s.backend.Health(r.Context())
	if s.access >= Owner {
		return answer(w, http.StatusOK, h)
	}
	public := api.Health{Version: h.Version, Since: h.Since, Plans: h.Plans, Parts: h.Parts, Jobs: h.Jobs}
	if s.access == User {
		public.PID = h.PID
	}
	if h.Error != "" { // its words may name a folder
		public.Error = "it is not well: belfry doctor says more, on its machine"
		for _, part := range h.Parts {
			if part.Late {
				public.Error = fmt.Sprintf("the %s has not come round since %s", part.Name, part.Alive.UTC().Format(time.RFC3339))
			}
		}
	}
	if h.Problem != "" {
		public.Problem = "the newest job files are not in use: there is a mistake in them"
	}
	status := http.StatusOK
	if h.Error != "" && s.access == Anyone {
		status = http.StatusServiceUnavailable
	}
	return answer(w, status, public)
}

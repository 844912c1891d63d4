package server

import (
	"cmp"
	"errors"
	"net/http"

	"belfry/api"
)

// statuses says how each code is told in HTTP.
var statuses = map[api.Code]int{
	api.Invalid:     http.StatusBadRequest,
	api.BadFile:     http.StatusUnprocessableEntity,
	api.NotFound:    http.StatusNotFound,
	api.Forbidden:   http.StatusForbidden,
	api.Refused:     http.StatusConflict,
	api.Unavailable: http.StatusServiceUnavailable,
	api.Internal:    http.StatusInternalServerError,
}

// fail answers an error: the person's sentence, or, for a fault of ours, one
// that points to the log.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		// Nobody listens any more, or the daemon ends: then the client must see
		// that it had no answer, and not an empty one.
		panic(http.ErrAbortHandler)
	}
	var problem *api.Error
	if !errors.As(err, &problem) {
		s.log.Error("answer a request", "method", r.Method, "path", r.URL.Path, "error", err)
		problem = &api.Error{Code: api.Internal, Message: err.Error(), Hint: "the daemon's log has more"}
	}
	if err := answer(w, cmp.Or(statuses[problem.Code], http.StatusInternalServerError), problem); err != nil {
		s.log.Debug("answer a request", "path", r.URL.Path, "error", err)
	}
}

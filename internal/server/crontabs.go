package server

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"

	"belfry/api"
	"belfry/internal/system"
)

// longestRequest is what a request to install a crontab may have. JSON makes four
// bytes of three, and the crontab itself is refused from 16 MiB on.
const longestRequest = 24 << 20

// crontabs gives the spool, to which whoever has made the request is known. What
// they may is for it to say.
func (s *server) crontabs() (system.Spool, error) {
	if s.spool == nil {
		return nil, &api.Error{Code: api.NotFound, Message: "this daemon is not the system's, and has no crontabs of users"}
	}
	return s.spool, nil
}

func (s *server) crontab(w http.ResponseWriter, r *http.Request) error {
	tabs, err := s.crontabs()
	if err != nil {
		return err
	}
	tab, err := tabs.Look(r.PathValue("user"))
	if err != nil {
		return crontabError(err)
	}
	return answer(w, http.StatusOK, api.Crontab{There: tab.There, Text: tab.Text})
}

func (s *server) installCrontab(w http.ResponseWriter, r *http.Request) error {
	if s.turn != nil {
		done, err := s.turn()
		if err != nil {
			return err
		}
		defer done()
	}
	var request api.CrontabRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestRequest)).Decode(&request); err != nil {
		return &api.Error{Code: api.Invalid, Message: "the request is not the JSON it should be: " + err.Error()}
	}
	tabs, err := s.crontabs()
	if err != nil {
		return err
	}
	if err := tabs.Install(r.PathValue("user"), request.From, request.Text); err != nil {
		return crontabError(err)
	}
	return answer(w, http.StatusOK, struct{}{})
}

func (s *server) removeCrontab(w http.ResponseWriter, r *http.Request) error {
	tabs, err := s.crontabs()
	if err != nil {
		return err
	}
	if err := tabs.Remove(r.PathValue("user")); err != nil {
		return crontabError(err)
	}
	return answer(w, http.StatusOK, struct{}{})
}

// crontabError is what the crontab command tells from other errors, by its code.
func crontabError(err error) error {
	var (
		unknown  *system.UnknownUserError
		mistakes *system.Mistakes
		refusal  *system.Refusal
	)
	switch {
	case errors.Is(err, system.ErrNotAllowed), errors.Is(err, system.ErrNotPrivileged):
		return &api.Error{Code: api.Forbidden, Message: err.Error()}
	case errors.As(err, &unknown), errors.Is(err, fs.ErrNotExist):
		return &api.Error{Code: api.NotFound, Message: err.Error()}
	case errors.As(err, &mistakes):
		return &api.Error{Code: api.BadFile, Message: err.Error()}
	case errors.As(err, &refusal):
		return &api.Error{Code: api.Refused, Message: err.Error(), Hint: refusal.Next}
	}
	return err
}

package server

import (
	"net/http"

	"belfry/api"
)

func (s *server) backup(w http.ResponseWriter, r *http.Request) error {
	var request api.BackupRequest
	if err := read(r, &request); err != nil {
		return err
	}
	if err := s.backend.Backup(r.Context(), request.Path); err != nil {
		return err
	}
	return answer(w, http.StatusCreated, request)
}

func (s *server) check(w http.ResponseWriter, r *http.Request) error {
	found, err := s.backend.Check(r.Context())
	if err != nil {
		return err
	}
	if found == nil {
		found = []string{} // never null: programs read it
	}
	return answer(w, http.StatusOK, found)
}

func (s *server) vacuum(w http.ResponseWriter, r *http.Request) error {
	if err := s.backend.Vacuum(r.Context()); err != nil {
		return err
	}
	return answer(w, http.StatusOK, struct{}{})
}

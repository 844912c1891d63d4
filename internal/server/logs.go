package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"belfry/api"
)

// poll is how often a log that is followed is looked at.
const poll = 100 * time.Millisecond

// runLog streams the output of one attempt, and with follow goes on until the
// attempt has ended and all of it was sent.
func (s *server) runLog(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	found, err := s.backend.RunByRef(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	attempt, offset := found.Attempt, int64(0)
	if text := query.Get("attempt"); text != "" {
		if attempt, err = strconv.Atoi(text); err != nil || attempt < 1 || attempt > found.Attempt {
			return &api.Error{Code: api.NotFound, Message: fmt.Sprintf("run %s has no attempt %q; it has had %d", found.ID, text, found.Attempt)}
		}
	}
	if text := query.Get("offset"); text != "" {
		if offset, err = strconv.ParseInt(text, 10, 64); err != nil || offset < 0 {
			return &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not an offset"}
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Belfry-Attempt", strconv.Itoa(attempt))
	if attempt == 0 {
		return nil // it has not been started: there is no output
	}
	path := s.backend.LogPath(found.ID, attempt)
	if err := http.NewResponseController(w).Flush(); err != nil { // the client has its answer now, whenever the first line comes
		return err
	}
	if err := s.follow(w, r, path, found.ID, attempt, offset); err != nil {
		if r.Context().Err() == nil {
			s.log.Error("send a log", "run", found.ID, "attempt", attempt, "error", err)
		}
		panic(http.ErrAbortHandler) // half an answer was sent: the client must see that it is cut off
	}
	return nil
}

func (s *server) follow(w http.ResponseWriter, r *http.Request, path, id string, attempt int, offset int64) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		// Asked before reading: what was written before the end is not missed.
		ended, err := s.ended(r, id, attempt)
		if err != nil {
			return err
		}
		from := offset
		offset, err = copyFrom(w, path, from)
		if err != nil {
			return err
		}
		if offset != from {
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		if ended || r.URL.Query().Get("follow") != "true" {
			return nil
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return r.Context().Err() // the daemon ends, and not the log
		}
	}
}

func (s *server) ended(r *http.Request, id string, attempt int) (bool, error) {
	attempts, err := s.backend.Attempts(r.Context(), id)
	if err != nil {
		return false, err
	}
	for _, a := range attempts {
		if a.Number == attempt {
			return !a.EndedAt.IsZero(), nil
		}
	}
	return true, nil
}

// copyFrom sends what a log holds behind offset, and says up to where it has. A
// log that is not there yet, or not any more, is empty; one that is shorter than
// it was has been truncated by its job, and is sent from its beginning.
func copyFrom(w io.Writer, path string, offset int64) (end int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return offset, nil
	}
	if err != nil {
		return offset, fmt.Errorf("read the log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return offset, fmt.Errorf("read the log: %w", err)
	}
	if size < offset {
		offset = 0
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return offset, fmt.Errorf("read the log: %w", err)
	}
	n, err := io.Copy(w, file)
	return offset + n, err
}

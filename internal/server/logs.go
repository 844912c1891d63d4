package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"belfry/api"
	"belfry/internal/logs"
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
	attempt := found.Attempt
	if text := query.Get("attempt"); text != "" {
		if attempt, err = strconv.Atoi(text); err != nil || attempt < 1 || attempt > found.Attempt {
			return &api.Error{Code: api.NotFound, Message: fmt.Sprintf("run %s has no attempt %q; it has had %d", found.ID, text, found.Attempt)}
		}
	}
	begin, err := beginning(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Belfry-Attempt", strconv.Itoa(attempt))
	if attempt == 0 {
		return nil // it has not been started: there is no output
	}
	reader, err := s.backend.Log(r.Context(), found.ID, attempt)
	if err != nil {
		return err
	}
	offset, err := begin(r.Context(), reader)
	if err != nil {
		return err
	}
	reader.From(offset)
	log := &logWriter{w: w, control: http.NewResponseController(w), parts: query.Get("parts") == "true"}
	if log.parts {
		w.Header().Set("Content-Type", "application/x-belfry-log")
	}
	if err := log.write(logs.Part{Next: offset}); err != nil { // the client has its answer now, whenever the first line comes
		return err
	}
	if err := s.sendLog(r, log, reader, found.ID, attempt); err != nil {
		if r.Context().Err() == nil {
			s.log.Error("send a log", "run", found.ID, "attempt", attempt, "error", err)
		}
		panic(http.ErrAbortHandler) // half an answer was sent: the client must see that it is cut off
	}
	return nil
}

// beginning reads where a log is to begin.
func beginning(r *http.Request) (func(ctx context.Context, reader *logs.Reader) (int64, error), error) {
	query := r.URL.Query()
	if text := query.Get("since"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not an RFC 3339 time"}
		}
		return func(ctx context.Context, reader *logs.Reader) (int64, error) { return reader.Since(ctx, since) }, nil
	}
	if text := query.Get("tail"); text != "" {
		lines, err := strconv.Atoi(text)
		if err != nil || lines < 1 {
			return nil, &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not a number of lines"}
		}
		return func(ctx context.Context, reader *logs.Reader) (int64, error) { return reader.Tail(ctx, lines) }, nil
	}
	var offset int64
	if text := query.Get("offset"); text != "" {
		var err error
		if offset, err = strconv.ParseInt(text, 10, 64); err != nil || offset < 0 {
			return nil, &api.Error{Code: api.Invalid, Message: strconv.Quote(text) + " is not an offset"}
		}
	}
	return func(context.Context, *logs.Reader) (int64, error) { return offset, nil }, nil
}

// sendLog sends what there is and, when the log is followed, what comes.
func (s *server) sendLog(r *http.Request, log *logWriter, reader *logs.Reader, id string, attempt int) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	changed := s.backend.Changed()
	// Asked before reading: what was written before the end is not missed.
	ended, err := s.ended(r, id, attempt)
	for err == nil {
		var part logs.Part
		if part, err = reader.Next(r.Context(), ended); err == nil {
			err = log.write(part)
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		err = nil
		if ended || r.URL.Query().Get("follow") != "true" {
			return nil
		}
		select {
		case <-ticker.C:
		case <-changed:
			changed = s.backend.Changed()
			ended, err = s.ended(r, id, attempt)
		case <-r.Context().Done():
			return r.Context().Err() // the daemon ends, and not the log
		}
	}
	return err
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

// logWriter sends a log as it is, or in parts as api.Log reads them, at once.
type logWriter struct {
	w       io.Writer
	control *http.ResponseController
	parts   bool
}

func (l *logWriter) write(part logs.Part) error {
	if l.parts {
		if _, err := fmt.Fprintf(l.w, "%d %d\n", part.Next, len(part.Text)); err != nil {
			return err
		}
	}
	if _, err := l.w.Write(part.Text); err != nil {
		return err
	}
	return l.control.Flush()
}

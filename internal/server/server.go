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
	"belfry/internal/logs"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/run"
	"belfry/internal/system"
)

// Backend is what the routes need. Errors for people are *api.Error.
type Backend interface {
	Health(ctx context.Context) api.Health
	// EachJob gives each the jobs until it gives an error, and with short, of their
	// newest runs, no more than the state and the firing.
	EachJob(ctx context.Context, short bool, each func(Job) error) error
	// Zone gives the name of the time zone that a run's job is in.
	Zone(ctx context.Context, r run.Run) string
	// Meant gives the user and the command that a run is of, whatever its job is now.
	Meant(ctx context.Context, r run.Run) (owner, command string, err error)
	// EachRun gives each the runs that match, what was queued last first, until it
	// gives an error.
	EachRun(ctx context.Context, f RunFilter, each func(run.Run) error) error
	// RunByRef finds a run by the beginning of its id, JOB, or JOB@TIME.
	RunByRef(ctx context.Context, ref string) (run.Run, error)
	Attempts(ctx context.Context, run string) ([]run.Attempt, error)
	ItemsOf(ctx context.Context, run string) ([]outbox.Item, error)
	Request(ctx context.Context, r api.RunRequest) ([]run.Run, error)
	Stop(ctx context.Context, run string, kill bool) error
	// Retry has a run tried once more or, with publish, only its output published.
	Retry(ctx context.Context, run string, publish bool) error
	Pause(ctx context.Context, job string, paused bool) (Job, error)
	// Backfill gives the backfill's id and its runs.
	Backfill(ctx context.Context, r api.BackfillRequest) (string, []run.Run, error)
	BackfillStates(ctx context.Context, backfill string) (map[run.State]int, error)
	StopBackfill(ctx context.Context, backfill string, running bool) error
	// Publishing gives how far the publishes that are under way have come, by run.
	Publishing() map[string]api.Progress
	// EachPublished gives each what was published, the newest first, until it
	// gives an error.
	EachPublished(ctx context.Context, f PublishedFilter, each func(run.Published) error) error
	// Inspect has a look at what stands at a target, and tells how far that is.
	Inspect(ctx context.Context, r api.InspectRequest, progress func(api.Progress)) (api.Inspection, error)
	// Acts lists what people did, to a job or, with an empty name, at all, the
	// newest first; ActsOn what concerns a run.
	Acts(ctx context.Context, job string, limit int) ([]run.Act, error)
	ActsOn(ctx context.Context, r run.Run) ([]run.Act, error)
	// LogPath is where an attempt prints to while it runs.
	LogPath(run string, attempt int) string
	// Log gives a Reader of what an attempt printed.
	Log(ctx context.Context, run string, attempt int) (*logs.Reader, error)
	// Backup copies the store into a folder, Check says what is wrong in it, and
	// Vacuum makes it as small as it can be.
	Backup(ctx context.Context, path string) error
	Check(ctx context.Context) ([]string, error)
	Vacuum(ctx context.Context) error
	// Changed is closed at the next change of anything.
	Changed() <-chan struct{}
}

// Job is a job with its next firing and its newest run.
type Job struct {
	plan.Job
	Next        time.Time // zero: none, or it is paused
	Last        *run.Run
	Environment string // folder of the virtual environment that it began in last; empty: none
}

// RunFilter says which runs are wanted.
type RunFilter struct {
	Job      string // name, or project/name
	State    run.State
	Backfill string // id
	Limit    int
}

// Access says who may call a route.
type Access int

// The levels of access, each of which may also call what the ones before may.
const (
	Anyone Access = iota // who reaches the address that the daemon was told to listen on
	User                 // a user of the machine, whose Backend has that user's jobs alone
	Owner                // who may open the socket in the data folder
)

// Options are what the routes stand on.
type Options struct {
	Backend Backend
	// Access is what those who connect may call; the rest is not there for them.
	Access Access
	// Barred says why those who connect may not call the rest, where there is more
	// to say; nil: it is not there for them.
	Barred *api.Error
	// Spool has the crontabs of the machine's users, as far as they are for those
	// who connect; nil: the daemon is not the system's.
	Spool system.Spool
	// Turn is taken while a crontab is read and installed, which takes much memory,
	// and given back with done; an error when it is not theirs now. nil: it always is.
	Turn func() (done func(), err error)
	// Ending is closed when the daemon ends: requests that wait for news, or
	// follow a log, are broken off then, and the others are answered.
	Ending <-chan struct{}
	Log    *slog.Logger
}

// server holds what the handlers share.
type server struct {
	backend Backend
	access  Access
	barred  *api.Error
	spool   system.Spool
	turn    func() (done func(), err error)
	log     *slog.Logger
}

// route is one thing that can be asked for.
type route struct {
	pattern string
	access  Access
	waits   bool // it may take as long as a job
	handle  func(w http.ResponseWriter, r *http.Request) error
}

func (s *server) routes() []route {
	return []route{
		{"GET " + api.Path + "/health", Anyone, false, s.health},
		{"GET " + api.Path + "/jobs", User, false, s.jobs},
		{"GET " + api.Path + "/runs", User, false, s.runs},
		{"POST " + api.Path + "/runs", User, false, s.startRun},
		{"GET " + api.Path + "/runs/{ref}", User, true, s.run},
		{"POST " + api.Path + "/runs/{ref}/stop", User, false, s.stopRun},
		{"POST " + api.Path + "/runs/{ref}/retry", User, false, s.retryRun},
		{"GET " + api.Path + "/runs/{ref}/log", User, true, s.runLog},
		{"GET " + api.Path + "/published", User, false, s.published},
		{"GET " + api.Path + "/published/inspect", User, true, s.inspect},
		{"GET " + api.Path + "/audit", Owner, false, s.audit},
		{"POST " + api.Path + "/db/backup", Owner, false, s.backup},
		{"GET " + api.Path + "/db/check", Owner, false, s.check},
		{"POST " + api.Path + "/db/vacuum", Owner, false, s.vacuum},
		{"POST " + api.Path + "/jobs/pause", User, false, s.pauseJob},
		{"POST " + api.Path + "/backfills", User, false, s.startBackfill},
		{"GET " + api.Path + "/backfills/{id}", User, true, s.backfill},
		{"POST " + api.Path + "/backfills/{id}/stop", User, false, s.stopBackfill},
		{"GET " + api.Path + "/crontabs/{user}", User, false, s.crontab},
		{"PUT " + api.Path + "/crontabs/{user}", User, false, s.installCrontab},
		{"DELETE " + api.Path + "/crontabs/{user}", User, false, s.removeCrontab},
		{"/", Anyone, false, s.unknown},
	}
}

// New gives the handler of the routes that o.Access may call.
func New(o Options) http.Handler {
	s := &server{backend: o.Backend, access: o.Access, barred: o.Barred, spool: o.Spool, turn: o.Turn, log: o.Log}
	mux := http.NewServeMux()
	for _, route := range s.routes() {
		if o.Access < route.access {
			if o.Access < User { // not even that it is there is anyone's business
				continue
			}
			route.handle = notYours
		}
		mux.HandleFunc(route.pattern, func(w http.ResponseWriter, r *http.Request) {
			if route.waits {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				go func() {
					select {
					case <-o.Ending:
						cancel()
					case <-ctx.Done():
					}
				}()
				r = r.WithContext(ctx)
			}
			if err := route.handle(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	return mux
}

func (s *server) unknown(_ http.ResponseWriter, r *http.Request) error {
	if s.barred != nil {
		return s.barred
	}
	return &api.Error{Code: api.NotFound, Message: "there is no route " + r.Method + " " + r.URL.Path}
}

// notYours answers a user of the machine what is about all of it.
func notYours(http.ResponseWriter, *http.Request) error {
	return &api.Error{Code: api.Forbidden, Message: "this is about the whole machine, and only root may ask for it", Hint: "sudo, and the same again"}
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

package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/publish"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
)

// Look answers a command that only reads, while nobody owns the data folder:
// the same API, from the files as they are. Nothing is written.
func Look(ctx context.Context, o Options) (client *api.Client, stop func(), err error) {
	s, err := store.OpenReadOnly(o.Data)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = store.OpenEmpty(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	jobs, err := seen(ctx, o, s)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	byKey := newJobList(jobs).find
	h := &history{data: o.Data, store: s, jobs: func() []plan.Job { return jobs }, byKey: byKey, now: func() time.Time { return o.Clock().Wall }}
	// It starts nothing: it only knows how an attempt's environment is made.
	runner := run.NewRunner(run.Options{Dir: runsDir(o.Data), Store: s, Job: byKey, Host: o.Host})
	h.secrets = runner.Secrets
	h.publisher = newPublisher(publish.Options{Command: append(o.Self, "publish"), Env: publishAs(runner), Log: o.Log.With("component", "publish")})
	listener := newPipeListener()
	srv := &http.Server{Handler: server.New(server.Options{Backend: &onlooker{h, o}, Access: server.Owner, Log: o.Log}), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener) // ends with ErrServerClosed
	}()
	client = api.New(listener.dial)
	return client, func() {
		client.Close()
		_ = srv.Close() // nothing is under way any more
		<-done
		_ = s.Close() // it was only read
	}, nil
}

// seen gives the jobs of the sources as a daemon would find them, and the
// stored ones of projects that have none here.
func seen(ctx context.Context, o Options, s *store.Store) ([]plan.Job, error) {
	loaded, _, _, err := read(o)
	if err != nil {
		return nil, err
	}
	stored, err := s.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	places := make(map[string]int, len(stored))
	for i, j := range stored {
		places[j.Key] = i
	}
	var jobs []plan.Job
	for _, source := range loaded {
		known, err := s.KnownJobs(ctx, source.project)
		if err != nil {
			return nil, err
		}
		for i, key := range job.Match(source.jobs, known) {
			j := plan.Job{Job: source.jobs[i], Key: key}
			if at, known := places[key]; known {
				j.Since, j.Paused = stored[at].Since, stored[at].Paused
			}
			jobs = append(jobs, j)
		}
	}
	for _, j := range stored {
		if !j.Removed && !slices.ContainsFunc(loaded, func(l source) bool { return l.project == j.Project }) {
			jobs = append(jobs, j.Job)
		}
	}
	return jobs, nil
}

// onlooker is the backend of a process that owns nothing.
type onlooker struct {
	*history
	o Options
}

func (l *onlooker) Health(ctx context.Context) api.Health {
	h := api.Health{Version: l.o.Version, Data: l.o.Data, Jobs: len(l.jobs())}
	h.Owed, h.OwedError = owed(ctx, l.store)
	return h
}

func (l *onlooker) Request(context.Context, api.RunRequest) ([]run.Run, error) {
	return nil, errNobody
}

func (l *onlooker) Stop(context.Context, string, bool) error { return errNobody }

func (l *onlooker) Retry(context.Context, string, bool) error { return errNobody }

func (l *onlooker) Pause(context.Context, string, bool) (server.Job, error) {
	return server.Job{}, errNobody
}

func (l *onlooker) Backfill(context.Context, api.BackfillRequest) (string, []run.Run, error) {
	return "", nil, errNobody
}

func (l *onlooker) StopBackfill(context.Context, string, bool) error { return errNobody }

var errNobody = &api.Error{Code: api.Unavailable, Message: "no daemon is running here", Hint: "belfry serve starts one"}

// Changed asks again now and then: another process may write.
func (l *onlooker) Changed() <-chan struct{} {
	ch := make(chan struct{})
	time.AfterFunc(time.Second, func() { close(ch) })
	return ch
}

// pipeListener connects a client and a server in one process.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{make(chan net.Conn), make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "belfry", Net: "unix"} }

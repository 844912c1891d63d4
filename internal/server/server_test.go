package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"belfry/api"
	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/logs"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
)

var night = time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC)

// house is a Backend with one job and its runs.
type house struct {
	dir    string
	unwell string
	store  *store.Store

	mu       sync.Mutex
	runs     []run.Run                // guarded by mu
	attempts map[string][]run.Attempt // guarded by mu
	asked    []string                 // guarded by mu
	fail     error                    // guarded by mu
	changed  chan struct{}            // guarded by mu
	waiting  chan struct{}            // gets a value for each look at changed
}

func (h *house) Backup(_ context.Context, path string) error {
	h.note("backup %s", path)
	return h.failure()
}

func (h *house) Check(context.Context) ([]string, error) { return nil, h.failure() }

func (h *house) Vacuum(context.Context) error {
	h.note("vacuum")
	return h.failure()
}

func (h *house) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fail
}

func (h *house) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, fmt.Sprintf(format, args...))
}

func (h *house) Health(context.Context) api.Health {
	return api.Health{Version: "1", PID: 7, Since: night, Plans: true, Data: h.dir, Error: h.unwell}
}

func (h *house) EachJob(_ context.Context, _ bool, each func(server.Job) error) error {
	jobs, err := h.jobs()
	for _, j := range jobs {
		if err == nil {
			err = each(j)
		}
	}
	return err
}

func (h *house) jobs() ([]server.Job, error) {
	zone, err := time.LoadLocation("Asia/Seoul")
	if err != nil {
		return nil, err
	}
	j := &job.Job{
		ID: job.ID{Project: "cron.d/ops", Name: "top"}, Settings: &job.Settings{Owner: "alice", Zone: zone}, Command: job.Command{Text: "true"}, Source: job.Source{File: "ops", Line: 3},
		Schedules: []crontab.Schedule{crontab.MustParseSchedule("0 1 * * *")},
	}
	paused := &job.Job{ID: job.ID{Project: "cron.d/ops", Name: "paused"}, Settings: &job.Settings{Zone: time.UTC, After: []string{"top"}, Inherited: j.Rhythms()}}
	h.mu.Lock()
	defer h.mu.Unlock()
	out := server.Job{Job: plan.Job{Job: j, Key: "K1"}, Next: time.Date(2026, 7, 8, 16, 0, 0, 0, time.UTC)}
	if len(h.runs) > 0 {
		out.Last = &h.runs[0]
	}
	return []server.Job{out, {Job: plan.Job{Job: paused, Key: "K2", Paused: true}}}, h.fail
}

func (h *house) Meant(context.Context, run.Run) (owner, command string, err error) {
	return "alice", "true", nil
}

func (h *house) Zone(context.Context, run.Run) string { return "Asia/Seoul" }

func (h *house) EachRun(_ context.Context, f server.RunFilter, each func(run.Run) error) error {
	h.note("runs %+v", f)
	h.mu.Lock()
	runs, fail := slices.Clone(h.runs), h.fail
	h.mu.Unlock()
	for _, r := range runs {
		if err := each(r); err != nil {
			return err
		}
	}
	return fail
}

func (h *house) RunByRef(_ context.Context, ref string) (run.Run, error) {
	h.note("ref %s", ref)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.runs {
		if strings.HasPrefix(r.ID, ref) || ref == "cron.d/ops/top" || ref == "top@2026-07-10T01:00:00+09:00" {
			return r, h.fail
		}
	}
	return run.Run{}, &api.Error{Code: api.NotFound, Message: fmt.Sprintf("there is no run or job %q", ref), Hint: "look"}
}

func (h *house) Attempts(_ context.Context, id string) ([]run.Attempt, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.attempts[id]), nil
}

func (h *house) ItemsOf(context.Context, string) ([]outbox.Item, error) {
	return []outbox.Item{{Kind: outbox.Notice, State: outbox.Pending, Tries: 2, Error: "no route", NextAt: night}, {Kind: outbox.Publish, State: outbox.Sent, Tries: 1, NextAt: night}}, nil
}

func (h *house) Request(_ context.Context, r api.RunRequest) ([]run.Run, error) {
	h.note("request %+v", r)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs, h.fail
}

func (h *house) Stop(_ context.Context, id string, kill bool) error {
	h.note("stop %s %v", id, kill)
	return h.failure()
}

func (h *house) Retry(_ context.Context, id string, publish bool) error {
	h.note("retry %s %v", id, publish)
	return h.failure()
}

func (h *house) Pause(_ context.Context, name string, paused bool) (server.Job, error) {
	h.note("pause %s %v", name, paused)
	jobs, err := h.jobs()
	return jobs[0], errors.Join(err, h.failure())
}

func (h *house) Backfill(_ context.Context, r api.BackfillRequest) (string, []run.Run, error) {
	h.note("backfill %+v", r)
	h.mu.Lock()
	defer h.mu.Unlock()
	return "B1", slices.Clone(h.runs), h.fail
}

func (h *house) BackfillStates(_ context.Context, id string) (map[run.State]int, error) {
	h.note("states %s", id)
	if id != "B1" {
		return nil, h.failure()
	}
	return map[run.State]int{run.Succeeded: 2, run.Queued: 1}, h.failure()
}

func (h *house) StopBackfill(_ context.Context, id string, running bool) error {
	h.note("stop backfill %s %v", id, running)
	return h.failure()
}

func (h *house) Publishing() map[string]api.Progress {
	return map[string]api.Progress{
		id:        {Target: "/x", Files: 1, FilesTotal: 2, Bytes: 3, BytesTotal: 4},
		"removed": {Target: "/y", Files: 1, FilesTotal: 2, Bytes: 3, BytesTotal: 4},
	}
}

func (h *house) EachPublished(_ context.Context, f server.PublishedFilter, each func(run.Published) error) error {
	h.note("published %+v", f)
	return errors.Join(each(run.Published{Run: id, Job: "K1", Project: "cron.d/ops", Name: "top", Date: "2026-07-10", At: night, To: "/x", Files: 2, Bytes: 3, Manifest: "m", ReplacedBy: "R2"}), h.failure())
}

func (h *house) Inspect(_ context.Context, r api.InspectRequest, progress func(api.Progress)) (api.Inspection, error) {
	h.note("inspect %+v", r)
	progress(api.Progress{Target: r.To, Files: 1})
	return api.Inspection{Run: r.Run, Files: []api.File{{Path: "a", Size: 3, SHA256: "s"}}, Problems: []string{}}, h.failure()
}

func (h *house) Acts(_ context.Context, job string, limit int) ([]run.Act, error) {
	h.note("acts %s %d", job, limit)
	return []run.Act{{Person: run.Person{UID: 7, Name: "bob"}, At: night, Action: run.ActPause, Job: "K1", Project: "cron.d/ops", JobName: "top"}}, h.failure()
}

func (h *house) ActsOn(_ context.Context, r run.Run) ([]run.Act, error) {
	return []run.Act{{Person: run.Person{UID: 7, Name: "bob"}, At: night, Action: run.ActStop, Job: "K1", Run: r.ID}}, nil
}

func (h *house) LogPath(id string, attempt int) string {
	return filepath.Join(h.attemptDir(id, attempt), logs.FileName)
}

func (h *house) attemptDir(id string, attempt int) string {
	return filepath.Join(h.dir, fmt.Sprintf("%s-%d", id, attempt))
}

func (h *house) Log(_ context.Context, id string, attempt int) (*logs.Reader, error) {
	return logs.NewReader(h.store, logs.Attempt{Run: id, Number: attempt, Dir: h.attemptDir(id, attempt), Secrets: []string{"hunter22"}}), nil
}

func (h *house) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case h.waiting <- struct{}{}:
	default:
	}
	return h.changed
}

// change changes the first run, and tells.
func (h *house) change(f func(r *run.Run)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.runs[0])
	close(h.changed)
	h.changed = make(chan struct{})
}

const id = "01K00000000000000000000001"

// serve gives a house and a Client that talks to it over a unix socket.
func serve(t *testing.T) (*house, *api.Client, *httptest.Server) {
	t.Helper()
	return serveIn(t, t.TempDir())
}

func serveIn(t *testing.T, dir string) (*house, *api.Client, *httptest.Server) {
	t.Helper()
	code := 0
	empty, err := store.OpenEmpty(t.Context())
	check(t, err)
	h := &house{dir: dir, store: empty, changed: make(chan struct{}), waiting: make(chan struct{}, 1), attempts: map[string][]run.Attempt{id: {
		{Run: id, Number: 1, Node: "n", StartedAt: night, EndedAt: night.Add(time.Second), ExitCode: &code, UserCPU: time.Second, SystemCPU: 500 * time.Millisecond, MaxRSS: 9, MaxRSSExact: true},
		{Run: id, Number: 2, Node: "n", StartedAt: night.Add(time.Minute)},
	}}, runs: []run.Run{{
		ID: id, Job: "K1", Project: "cron.d/ops", Name: "top", Cause: plan.Scheduled, State: run.Running, FiresAt: night, FiresUntil: night, Count: 1,
		Named: night.Add(9 * time.Hour), Attempt: 2, QueuedAt: night, StartedAt: night, Node: "n", Parents: []string{"P"}, Published: json.RawMessage(`{"targets":[{"to":"/x","files":2,"bytes":3,"manifest":"m"}]}`),
	}}}
	// Bound through a descriptor, as the daemon does: the path may be long.
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), api.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: listener, Config: &http.Server{Handler: server.New(server.Options{Backend: h, Access: server.Owner, Log: slog.New(slog.DiscardHandler)}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}}
	srv.Start()
	client := api.Unix(dir)
	t.Cleanup(func() {
		client.Close()
		srv.CloseClientConnections()
		srv.Close()
		check(t, empty.Close())
	})
	return h, client, srv
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheClientReadsWhatTheRoutesSay(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	ctx := t.Context()

	health, err := client.Health(ctx)
	check(t, err)
	if want := h.Health(ctx); !reflect.DeepEqual(health, want) {
		t.Errorf("health is %+v, want %+v", health, want)
	}

	jobs, err := client.Jobs(ctx, api.JobFilter{})
	check(t, err)
	if len(jobs) != 2 || jobs[0].Name != "top" || jobs[0].Timezone != "Asia/Seoul" || jobs[0].Source != "ops:3" || jobs[0].Next == nil || jobs[0].Last == nil || jobs[0].Last.ID != id {
		t.Errorf("jobs are %+v", jobs)
	}
	short, err := client.Jobs(ctx, api.JobFilter{Short: true})
	check(t, err)
	if len(short) != 2 || short[0].Name != "top" || short[0].Owner != "" || !short[0].Next.Equal(*jobs[0].Next) || short[0].Last.State != jobs[0].Last.State ||
		!short[0].Last.FiresAt.Equal(jobs[0].Last.FiresAt) || short[0].Last.ID != "" || short[1].Last != nil || short[1].Schedules == nil {
		t.Errorf("jobs in short are %+v", short)
	}
	if jobs[1].Next != nil || jobs[1].Last != nil || jobs[1].Schedules == nil || !slices.Equal(jobs[1].After, []string{"top"}) || jobs[0].After == nil {
		t.Errorf("a paused job is %+v", jobs[1])
	}

	runs, err := client.Runs(ctx, api.RunFilter{Job: "a&b", State: "running", Backfill: "B1", Limit: 3})
	check(t, err)
	if len(runs) != 1 || runs[0].Date != "2026-07-10" || runs[0].Timezone != "Asia/Seoul" || len(runs[0].Published) != 1 || runs[0].Published[0].Files != 2 || runs[0].FiresUntil != nil || runs[0].EndedAt != nil {
		t.Errorf("runs are %+v", runs)
	}
	if !slices.Contains(h.asked, "runs {Job:a&b State:running Backfill:B1 Limit:3}") {
		t.Errorf("asked were %v", h.asked)
	}

	for _, ref := range []string{"01K", id, "cron.d/ops/top", "top@2026-07-10T01:00:00+09:00"} {
		r, err := client.Run(ctx, ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if len(r.Attempts) != 2 || r.Attempts[0].CPUSeconds != 1.5 || r.Attempts[0].MaxRSS != 9 || !r.Attempts[0].MaxRSSExact || r.Attempts[1].EndedAt != nil || r.Attempts[1].Log != h.LogPath(id, 2) || !slices.Equal(r.Waits, []string{"P"}) ||
			len(r.Notices) != 2 || r.Notices[0].Next == nil || r.Notices[1].Next != nil || r.Finished() {
			t.Errorf("%s: %+v", ref, r)
		}
	}

	started, err := client.Start(ctx, api.RunRequest{Job: "top", Date: "2026-07-10", WithAfter: true})
	check(t, err)
	if len(started) != 1 || started[0].ID != id {
		t.Errorf("started are %+v", started)
	}
	stopped, err := client.Stop(ctx, "01K", api.StopRequest{Kill: true})
	check(t, err)
	if stopped.ID != id || !slices.Contains(h.asked, "stop "+id+" true") || !slices.Contains(h.asked, "request {Job:top Date:2026-07-10 At: WithAfter:true DryRun:false}") {
		t.Errorf("stopped is %+v, asked were %v", stopped, h.asked)
	}
	again, err := client.Retry(ctx, "01K", api.RetryRequest{Publish: true})
	check(t, err)
	paused, err := client.Pause(ctx, api.PauseRequest{Job: "top", Paused: true})
	check(t, err)
	if again.ID != id || paused.Name != "top" || !slices.Contains(h.asked, "retry "+id+" true") || !slices.Contains(h.asked, "pause top true") {
		t.Errorf("tried again is %+v, paused %+v, asked were %v", again, paused, h.asked)
	}

	begun, err := client.StartBackfill(ctx, api.BackfillRequest{Job: "top", From: "2026-07-01", To: "2026-07-03", Parallel: 2, Only: "failed"})
	check(t, err)
	if begun.ID != "B1" || len(begun.Runs) != 1 || begun.Finished() || begun.Count() != 1 {
		t.Errorf("the backfill begins as %+v", begun)
	}
	seen, err := client.AwaitBackfill(ctx, begun)
	check(t, err)
	if seen.Count("succeeded") != 2 || seen.Count() != 3 || seen.Version() != "queued=1 succeeded=2" {
		t.Errorf("the backfill goes on as %+v", seen)
	}
	if _, err := client.StopBackfill(ctx, "B1", api.StopBackfillRequest{Running: true}); err != nil || !slices.Contains(h.asked, "stop backfill B1 true") {
		t.Errorf("stopping gives %v, asked were %v", err, h.asked)
	}
	var answer *api.Error
	if _, err := client.AwaitBackfill(ctx, api.Backfill{ID: "B2"}); !errors.As(err, &answer) || answer.Code != api.NotFound {
		t.Errorf("one that is not there gives %v", err)
	}
}

func TestCodesAreToldAsStatusAndComeBackAsErrors(t *testing.T) {
	t.Parallel()
	h, client, srv := serve(t)
	for _, c := range []struct {
		err    error
		status int
		code   api.Code
	}{
		{&api.Error{Code: api.Invalid, Message: "bad", Hint: "do"}, 400, api.Invalid},
		{&api.Error{Code: api.NotFound, Message: "gone"}, 404, api.NotFound},
		{fmt.Errorf("wrapped: %w", &api.Error{Code: api.Refused, Message: "busy"}), 409, api.Refused},
		{&api.Error{Code: api.Unavailable, Message: "nobody"}, 503, api.Unavailable},
		{&api.Error{Code: "of the future", Message: "new"}, 500, "of the future"},
		{errors.New("the disk is full"), 500, api.Internal},
	} {
		h.mu.Lock()
		h.fail = c.err
		h.mu.Unlock()
		_, err := client.Jobs(t.Context(), api.JobFilter{})
		var got *api.Error
		if !errors.As(err, &got) || got.Code != c.code || !strings.HasSuffix(c.err.Error(), got.Message) {
			t.Errorf("%v came as %v", c.err, err)
		}
		if status, _ := raw(t, srv, "GET", "/api/v1/jobs", ""); status != c.status {
			t.Errorf("%v is status %d, want %d", c.err, status, c.status)
		}
	}
}

// raw makes a request without the Client.
func raw(t *testing.T, srv *httptest.Server, method, path, body string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	srv.Config.Handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return recorder.Code, recorder.Body.String()
}

func TestWhatWasPublishedIsListedAndLookedAt(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	var sets []api.Published
	each := func(p api.Published) error { sets = append(sets, p); return nil }
	check(t, client.EachPublished(t.Context(), api.PublishedFilter{Job: "a&b", Date: "2026-07-10", All: true, Limit: 3}, each))
	want := api.Published{Run: id, Project: "cron.d/ops", Job: "top", Date: "2026-07-10", To: "/x", Files: 2, Bytes: 3, Manifest: "m", At: night, ReplacedBy: "R2", Timezone: "Asia/Seoul"}
	if len(sets) != 1 || sets[0] != want || !slices.Contains(h.asked, "published {Job:a&b Date:2026-07-10 All:true Limit:3}") {
		t.Errorf("published are %+v, want %+v; asked were %v", sets, want, h.asked)
	}

	var told []api.Progress
	progress := func(p api.Progress) { told = append(told, p) }
	found, err := client.Inspect(t.Context(), api.InspectRequest{Run: id, To: "/x y", Verify: true}, progress)
	check(t, err)
	if found.Run != id || len(found.Files) != 1 || found.Files[0].Path != "a" || !found.Whole() || len(told) != 1 || told[0].Target != "/x y" || !slices.Contains(h.asked, fmt.Sprintf("inspect {Run:%s To:/x y Verify:true}", id)) {
		t.Errorf("found is %+v, told %+v, asked were %v", found, told, h.asked)
	}
	h.mu.Lock()
	h.fail = &api.Error{Code: api.NotFound, Message: "nothing is there"}
	h.mu.Unlock()
	var problem *api.Error
	if _, err := client.Inspect(t.Context(), api.InspectRequest{Run: id, To: "/x"}, progress); !errors.As(err, &problem) || problem.Code != api.NotFound {
		t.Errorf("an error after progress is %v", err)
	}
	if err := client.EachPublished(t.Context(), api.PublishedFilter{}, each); err == nil {
		t.Error("half a list is taken for a whole one")
	}
}

func TestWhatPeopleDidIsTold(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	acts, err := client.Audit(t.Context(), "a&b", 3)
	check(t, err)
	want := api.Act{At: night, UID: 7, Person: "bob", Action: "pause", Project: "cron.d/ops", Job: "top", Timezone: "Asia/Seoul"}
	if len(acts) != 1 || acts[0] != want || !slices.Contains(h.asked, "acts a&b 3") {
		t.Errorf("it is %+v, want %+v; asked were %v", acts, want, h.asked)
	}
	if r, err := client.Run(t.Context(), id); err != nil || len(r.Audit) != 1 || r.Audit[0].Action != "stop" || r.Audit[0].Run != id {
		t.Errorf("of the run it is %+v, %v", r.Audit, err)
	}
}

func TestHowFarAPublishIsIsToldWhileItIsUnderWay(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	if r, err := client.Run(t.Context(), id); err != nil || r.Publishing != nil {
		t.Errorf("a running run publishes %+v, %v", r.Publishing, err)
	}
	h.change(func(r *run.Run) { r.State, r.Backfill = run.Publishing, "B1" })
	want := api.Progress{Target: "/x", Files: 1, FilesTotal: 2, Bytes: 3, BytesTotal: 4}
	if r, err := client.Run(t.Context(), id); err != nil || r.Publishing == nil || *r.Publishing != want {
		t.Errorf("it publishes %+v, %v", r.Publishing, err)
	}
	if b, err := client.Backfill(t.Context(), "B1"); err != nil || b.Publishing == nil || *b.Publishing != want {
		t.Errorf("its backfill publishes %+v, %v", b.Publishing, err)
	}
}

func TestBadInputIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	_, _, srv := serve(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/v1/runs?limit=x", "", 400, `\"x\" is not a number that bounds a list`},
		{"GET", "/api/v1/runs?limit=-1", "", 400, "is not a number"},
		{"GET", "/api/v1/runs?limit=0", "", 200, id},
		{"GET", "/api/v1/runs/NONE", "", 404, "there is no run or job"},
		{"GET", "/api/v1/runs/NONE/log", "", 404, "there is no run or job"},
		{"POST", "/api/v1/runs/NONE/stop", "{}", 404, "there is no run or job"},
		{"POST", "/api/v1/runs", "", 400, "not the JSON"},
		{"POST", "/api/v1/runs", "[]", 400, "not the JSON"},
		{"POST", "/api/v1/runs", `{"job":"top","of_the_future":1}`, 201, id},
		{"POST", "/api/v1/runs", `{"job":"` + strings.Repeat("x", 1<<20) + `"}`, 400, "not the JSON"},
		{"POST", "/api/v1/runs/" + id + "/stop", "kill", 400, "not the JSON"},
		{"GET", "/api/v1/runs/" + id + "/log?attempt=0", "", 404, "has no attempt"},
		{"GET", "/api/v1/runs/" + id + "/log?attempt=3", "", 404, "it has had 2"},
		{"GET", "/api/v1/runs/" + id + "/log?attempt=x", "", 404, "has no attempt"},
		{"GET", "/api/v1/runs/" + id + "/log?offset=-1", "", 400, "is not an offset"},
		{"GET", "/api/v1/runs/" + id + "/log?offset=x", "", 400, "is not an offset"},
		{"GET", "/api/v1/runs/" + id + "/log?since=yesterday", "", 400, "is not an RFC 3339 time"},
		{"GET", "/api/v1/runs/" + id + "/log?tail=0", "", 400, "is not a number of lines"},
		{"DELETE", "/api/v1/runs", "", 404, "there is no route DELETE /api/v1/runs"},
		{"GET", "/", "", 404, "there is no route"},
	} {
		status, body := raw(t, srv, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %d %s, want %d and %q", c.method, c.path, status, body, c.status, c.says)
		}
	}
}

func TestAwaitAnswersWhenTheRunIsNoLongerAsItWasSeen(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	seen, err := client.Run(t.Context(), id)
	check(t, err)
	stale := seen
	stale.State = "queued"
	if got, err := client.Await(t.Context(), stale); err != nil || got.State != "running" {
		t.Errorf("what was seen is old: %v, %v", got.State, err)
	}
	for len(h.waiting) > 0 {
		<-h.waiting
	}
	got := make(chan api.Run, 1)
	go func() {
		r, err := client.Await(t.Context(), seen)
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	<-h.waiting
	h.change(func(*run.Run) {}) // of another run: it goes on waiting
	<-h.waiting
	select {
	case r := <-got:
		t.Errorf("it was answered with %+v, which was seen", r)
	default:
	}
	h.change(func(r *run.Run) { r.State, r.Reason = run.Failed, "exit status 1" })
	if r := <-got; r.State != "failed" || r.Reason != "exit status 1" {
		t.Errorf("got %+v", r)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o700))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(t, err)
	_, err = file.WriteString(text)
	check(t, errors.Join(err, file.Close()))
}

func readLog(t *testing.T, client *api.Client, r api.LogRequest) string {
	t.Helper()
	log, err := client.Log(t.Context(), id, r)
	check(t, err)
	text, err := io.ReadAll(log)
	check(t, errors.Join(err, log.Close()))
	return string(text)
}

func TestALogIsGivenByAttemptAndOffset(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	if got := readLog(t, client, api.LogRequest{}); got != "" {
		t.Errorf("a log that is not there is %q", got)
	}
	write(t, h.LogPath(id, 1), "one\n")
	write(t, h.LogPath(id, 2), "two\npw hunter22\n")
	for _, c := range []struct {
		r    api.LogRequest
		want string
	}{
		{api.LogRequest{}, "two\npw ********\n"},
		{api.LogRequest{Attempt: 1}, "one\n"},
		{api.LogRequest{Attempt: 1, Offset: 2}, "e\n"},
		{api.LogRequest{Attempt: 1, Offset: 4}, ""},
		{api.LogRequest{Attempt: 1, Follow: true}, "one\n"}, // it has ended
		{api.LogRequest{Tail: 1}, "pw ********\n"},
		{api.LogRequest{Since: night}, "two\npw ********\n"},
	} {
		if got := readLog(t, client, c.r); got != c.want {
			t.Errorf("%+v: %q, want %q", c.r, got, c.want)
		}
	}
	h.change(func(r *run.Run) { r.Attempt = 0 })
	if got := readLog(t, client, api.LogRequest{Follow: true}); got != "" {
		t.Errorf("a run without an attempt has the log %q", got)
	}
}

func TestALogGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	h, client, srv := serve(t)
	write(t, h.LogPath(id, 1), strings.Repeat("0123456789", 30_000))
	log, err := client.Log(t.Context(), id, api.LogRequest{Attempt: 1, Tail: 1})
	check(t, err)
	first := make([]byte, 200_000)
	_, err = io.ReadFull(log, first)
	check(t, errors.Join(err, log.Close()))
	// Within a part too: nothing is left out, and nothing comes twice.
	at := log.Offset()
	if at != int64(len(first)) || !log.Begun() {
		t.Fatalf("after %d bytes it would go on at %d", len(first), at)
	}
	if rest := readLog(t, client, api.LogRequest{Attempt: 1, Offset: at}); string(first)+rest != strings.Repeat("0123456789", 30_000) {
		t.Errorf("from %d on there are %d bytes", at, len(rest))
	}
	if _, body := raw(t, srv, "GET", "/api/v1/runs/"+id+"/log?attempt=1&offset=299995", ""); body != "56789" {
		t.Errorf("without parts it is %q", body)
	}
}

func TestALogIsFollowedUntilItsAttemptHasEnded(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	log, err := client.Log(t.Context(), id, api.LogRequest{Follow: true, Offset: 4})
	check(t, err)
	defer log.Close() //nolint:errcheck // read to its end
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(log, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	write(t, h.LogPath(id, 2), "old\nnew\n")
	expect("new\n")
	write(t, h.LogPath(id, 2), "newer\n")
	expect("newer\n")
	check(t, os.Truncate(h.LogPath(id, 2), 0)) // as > /dev/stdout does
	write(t, h.LogPath(id, 2), "anew\n")
	expect("[belfry: the job truncated its output here]\nanew\n")
	h.mu.Lock()
	write(t, h.LogPath(id, 2), "last\n")
	h.attempts[id][1].EndedAt = night
	h.mu.Unlock()
	h.change(func(*run.Run) {})
	if rest, err := io.ReadAll(log); err != nil || string(rest) != "last\n" {
		t.Errorf("the end is %q, %v", rest, err)
	}
}

func TestARequestThatTheDaemonsEndCutsOffIsNotTakenForAnAnswer(t *testing.T) {
	t.Parallel()
	h, client, srv := serve(t)
	base, end := context.WithCancel(t.Context())
	// A second server on the same backend, whose life is base.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ending := &http.Server{Handler: srv.Config.Handler, BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: srv.Config.ErrorLog}
	done := make(chan error, 1)
	go func() { done <- ending.Serve(listener) }()
	defer func() {
		check(t, ending.Close())
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
	}()
	other := api.New(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	})
	defer other.Close()
	log, err := other.Log(t.Context(), id, api.LogRequest{Follow: true})
	check(t, err)
	defer log.Close() //nolint:errcheck // it was cut off
	seen, err := client.Run(t.Context(), id)
	check(t, err)
	for len(h.waiting) > 0 {
		<-h.waiting
	}
	awaited := make(chan error, 1)
	go func() {
		_, err := other.Await(t.Context(), seen)
		awaited <- err
	}()
	<-h.waiting
	end()
	if _, err := io.ReadAll(log); err == nil {
		t.Error("the log ended as if its attempt had")
	}
	var answer *api.Error
	if err := <-awaited; err == nil || errors.As(err, &answer) {
		t.Errorf("the run that was awaited gave %v, want an error of the connection", err)
	}
}

func TestASocketMayLieDeeperThanAnAddressIsLong(t *testing.T) {
	t.Parallel()
	for _, length := range []int{107 - 6, 108, 200} { // of the folder, with /sock and something to spare
		dir := t.TempDir()
		for len(dir)+1 < length {
			dir = filepath.Join(dir, strings.Repeat("d", min(50, length-len(dir)-1)))
		}
		check(t, os.MkdirAll(dir, 0o700))
		_, client, _ := serveIn(t, dir)
		if _, err := client.Health(t.Context()); err != nil {
			t.Errorf("a socket at %d bytes: %v", len(dir)+5, err)
		}
	}
}

func TestWithoutADaemonTheClientsErrorIsNotAnAnswer(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), "/no/such/folder", "/no/such/" + url.PathEscape(strings.Repeat("/x", 60))} {
		client := api.Unix(dir)
		_, err := client.Health(t.Context())
		var answer *api.Error
		if err == nil || errors.As(err, &answer) {
			t.Errorf("%s: %v", dir, err)
		}
		client.Close()
	}
}

func TestAnyoneLearnsOnlyWhetherTheDaemonIsWell(t *testing.T) {
	t.Parallel()
	h := &house{dir: t.TempDir(), changed: make(chan struct{})}
	ask := func(method, path string) (int, string) {
		t.Helper()
		w := httptest.NewRecorder()
		server.New(server.Options{Backend: h, Access: server.Anyone, Log: slog.New(slog.DiscardHandler)}).ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		why          string
		unwell       string
		method, path string
		status       int
		want, hidden string
	}{
		{"it is well", "", http.MethodGet, "/health", http.StatusOK, `"plans":true`, h.dir},
		{"it is not", "the account in " + h.dir + " cannot be written", http.MethodGet, "/health", http.StatusServiceUnavailable, "it is not well", h.dir},
		{"jobs are their owner's", "", http.MethodGet, "/jobs", http.StatusNotFound, "there is no route GET", "alice"},
		{"so is running them", "", http.MethodPost, "/runs", http.StatusNotFound, "there is no route POST", "alice"},
		{"and stopping them", "", http.MethodPost, "/runs/" + id + "/stop", http.StatusNotFound, "there is no route POST", "alice"},
		{"and what they print", "", http.MethodGet, "/runs/" + id + "/log", http.StatusNotFound, "there is no route GET", "alice"},
	} {
		h.unwell = c.unwell
		status, body := ask(c.method, api.Path+c.path)
		if status != c.status || !strings.Contains(body, c.want) || strings.Contains(body, c.hidden) {
			t.Errorf("%s: %s %s gives %d %s; want %d with %q and without %q", c.why, c.method, c.path, status, body, c.status, c.want, c.hidden)
		}
	}
}

func TestAUserIsToldWhoMayAskAboutTheWholeMachine(t *testing.T) {
	t.Parallel()
	h := &house{dir: t.TempDir(), changed: make(chan struct{})}
	for _, c := range []struct{ method, path string }{{http.MethodGet, "/audit"}, {http.MethodPost, "/db/backup"}, {http.MethodGet, "/db/check"}, {http.MethodPost, "/db/vacuum"}} {
		w := httptest.NewRecorder()
		server.New(server.Options{Backend: h, Access: server.User, Log: slog.New(slog.DiscardHandler)}).ServeHTTP(w, httptest.NewRequest(c.method, api.Path+c.path, nil))
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "only root may ask for it") {
			t.Errorf("%s %s gives %d %s; want %d, and who may", c.method, c.path, w.Code, w.Body, http.StatusForbidden)
		}
	}
	if len(h.asked) != 0 {
		t.Errorf("the daemon was asked %q", h.asked)
	}
}

func TestRequestsThatWaitAreBrokenOffWhenTheDaemonEnds(t *testing.T) {
	t.Parallel()
	h, _, _ := serve(t)
	ending := make(chan struct{})
	srv := httptest.NewServer(server.New(server.Options{Backend: h, Access: server.Owner, Ending: ending, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(srv.Close)
	client := api.New(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
	t.Cleanup(client.Close)
	seen, err := client.Run(t.Context(), id)
	check(t, err)
	select { // what the look above left
	case <-h.waiting:
	default:
	}
	done := make(chan error, 1)
	go func() {
		_, err := client.Await(t.Context(), seen)
		done <- err
	}()
	<-h.waiting
	close(ending)
	var answered *api.Error
	if err := <-done; err == nil || errors.As(err, &answered) {
		t.Errorf("a request that waited gets %v; want no answer", err)
	}
	if _, err := client.Health(t.Context()); err != nil {
		t.Errorf("one that does not wait gets %v", err)
	}
}

func TestTheStoreIsLookedAfterThroughItsOwner(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	check(t, client.Backup(t.Context(), "/backup/copy.db"))
	check(t, client.Vacuum(t.Context()))
	if found, err := client.Check(t.Context()); err != nil || found == nil || len(found) != 0 {
		t.Errorf("a store that is whole gives %v, %v", found, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := []string{"backup /backup/copy.db", "vacuum"}; !slices.Equal(h.asked, want) {
		t.Errorf("asked was %q, want %q", h.asked, want)
	}
}

func TestAListThatIsCutOffIsNoAnswer(t *testing.T) {
	t.Parallel()
	h, client, _ := serve(t)
	h.mu.Lock()
	h.fail = errors.New("the disk is gone")
	h.mu.Unlock()
	var answered *api.Error
	runs, err := client.Runs(t.Context(), api.RunFilter{})
	if err == nil || errors.As(err, &answered) {
		t.Errorf("it gives %d runs, %v; want an error that is no answer", len(runs), err)
	}
	h.mu.Lock()
	h.runs, h.fail = nil, nil
	h.mu.Unlock()
	if runs, err := client.Runs(t.Context(), api.RunFilter{}); err != nil || runs == nil || len(runs) > 0 {
		t.Errorf("an empty list is %v, %v", runs, err)
	}
}

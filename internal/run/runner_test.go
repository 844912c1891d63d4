package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/store"
)

// processes stands for the keepers: it notes what it is asked, and tells what
// the test wants.
type processes struct {
	events chan proc.Event
	lost   chan string

	mu        sync.Mutex
	started   []proc.Spec                         // guarded by mu
	signals   []string                            // guarded by mu
	forgotten []string                            // guarded by mu
	killed    []string                            // guarded by mu
	status    map[string]proc.Status              // guarded by mu; run → what Inspect answers
	exits     map[string]*proc.Exit               // guarded by mu
	fail      error                               // guarded by mu; of Start
	unknown   bool                                // guarded by mu; no keeper has anything
	stopped   bool                                // guarded by mu; it holds nothing
	onKill    func(p *processes, id string) error // guarded by mu
}

func (p *processes) Start(_ context.Context, specs []proc.Spec) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.started = append(p.started, specs...)
	for _, spec := range specs {
		p.status[spec.Run] = proc.Running
	}
	return nil
}

func (p *processes) Hold(ctx context.Context, specs []proc.Spec) func(ctx context.Context) error {
	p.mu.Lock()
	stopped := p.stopped
	p.mu.Unlock()
	if stopped {
		<-ctx.Done()
	}
	return func(ctx context.Context) error { return p.Start(ctx, specs) }
}

func (p *processes) Signal(id string, attempt int, kind proc.StopKind) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unknown {
		return fmt.Errorf("signal: %w", proc.ErrUnknownAttempt)
	}
	p.signals = append(p.signals, fmt.Sprintf("%s/%d %s", id, attempt, kind))
	return nil
}

func (p *processes) Events() <-chan proc.Event { return p.events }

func (p *processes) KeeperLost() <-chan string { return p.lost }

func (p *processes) Forget(id string, attempt int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgotten = append(p.forgotten, fmt.Sprintf("%s/%d", id, attempt))
	return nil
}

func (p *processes) Inspect(_, id string, _ int) (proc.Status, *proc.Exit, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.status[id]
	if !ok {
		status = proc.NeverStarted
	}
	return status, p.exits[id], nil
}

func (p *processes) killSurvivors(_, id string, _ int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = append(p.killed, id)
	if p.onKill != nil {
		return p.onKill(p, id)
	}
	p.status[id] = proc.Lost
	return nil
}

// is makes Inspect answer that an attempt is in a status.
func (p *processes) is(id string, status proc.Status, exit *proc.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status[id], p.exits[id] = status, exit
}

func (p *processes) set(change func(p *processes)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *processes) count(list func() int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return list()
}

// flaky is a store whose calls can be made to fail.
type flaky struct {
	*store.Store
	mu   sync.Mutex
	fail map[string]int // guarded by mu; method → how many more calls fail
}

var errDisk = errors.New("the disk is full")

func (f *flaky) failing(method string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method]--
	return f.fail[method] >= 0
}

func (f *flaky) Move(ctx context.Context, moves ...run.Move) ([]bool, error) {
	if f.failing("Move") {
		return nil, errDisk
	}
	return f.Store.Move(ctx, moves...)
}

func (f *flaky) Act(ctx context.Context, a run.Act) error {
	if f.failing("Act") {
		return errDisk
	}
	return f.Store.Act(ctx, a)
}

func (f *flaky) Definition(ctx context.Context, hash string) ([]byte, error) {
	if f.failing("Definition") {
		return nil, errDisk
	}
	return f.Store.Definition(ctx, hash)
}

// alice asks for what people ask for.
var alice = run.Person{UID: 1000, Name: "alice"}

// scene is a Runner in the real store, in a bubble of time.
type scene struct {
	t      *testing.T
	dir    string
	store  *flaky
	procs  *processes
	jobs   map[string]plan.Job // by key
	keys   map[string]string   // by name
	boot   string
	key    string // of secrets
	since  time.Time
	limits run.Limits

	mu    sync.Mutex
	news  []string // guarded by mu
	heard []string // guarded by mu; by the log follower

	dropped []string // items, by the Runner's goroutine
	ordered []string // what was to be published, by the Runner's goroutine

	runner *run.Runner
	stop   func()
}

// play runs f in a scene with the jobs, after a Runner has started.
func play(t *testing.T, f func(s *scene), jobs ...*job.Job) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept, err := store.Open(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := kept.Close(); err != nil {
				t.Error(err)
			}
		}()
		s := &scene{
			t: t, dir: t.TempDir(), store: &flaky{Store: kept, fail: map[string]int{}}, boot: "boot", limits: run.Limits{Slots: 10},
			procs: &processes{events: make(chan proc.Event), lost: make(chan string), status: map[string]proc.Status{}, exits: map[string]*proc.Exit{}},
			jobs:  map[string]plan.Job{}, keys: map[string]string{},
		}
		saved, err := kept.SaveJobs(t.Context(), "lake", jobs, make([]string, len(jobs)), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range saved {
			s.jobs[p.Key], s.keys[p.Name] = p, p.Key
		}
		s.begin()
		defer func() { s.stop() }()
		f(s)
	})
}

// begin starts a Runner, as a daemon does that comes back.
func (s *scene) begin() {
	s.t.Helper()
	s.runner = run.NewRunner(run.Options{
		Node: "node", Boot: s.boot, Dir: s.dir, Limits: func() run.Limits { return s.limits }, Host: run.Host{User: "alice", Home: "/home/alice", Key: s.key}, Since: s.since,
		Store: s.store, Procs: s.procs, KillSurvivors: s.procs.killSurvivors,
		Job: func(key string) (plan.Job, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			j, ok := s.jobs[key]
			return j, ok
		},
		Publish: func(j *job.Job, r run.Run, _ time.Time, output string, targets []job.Target) outbox.Item {
			s.ordered = append(s.ordered, strings.Join(strings.Fields(fmt.Sprint(targets[0].To, " ", targets[0].Mode, " ", targets[0].KMSKey, " ", targets[0].Metadata["made"], " ", j.IfEmpty)), " "))
			return outbox.Item{Run: r.ID, Kind: outbox.Publish, Payload: json.RawMessage(fmt.Sprintf("%q", output)), Targets: []string{targets[0].To}}
		},
		Published: func(result json.RawMessage) (sets []run.Published, reason string) {
			if err := json.Unmarshal(result, &sets); err != nil {
				s.t.Error(err)
			}
			return sets, ""
		},
		DropPublish: func(item string) { s.dropped = append(s.dropped, item) },
		Notices: func(n run.News) []outbox.Item {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.news = append(s.news, fmt.Sprintf("%s %s", n.Event, n.State))
			return []outbox.Item{{Run: n.Run.ID, Kind: outbox.Notice, Payload: json.RawMessage(`{}`)}}
		},
		Began: func(r run.Run, _ *job.Job, secrets []string, err error) {
			s.hear(fmt.Sprintf("began %s/%d %q %v", r.Name, r.Attempt, secrets, err != nil))
		},
		Ended:   func(r run.Run, _ run.Attempt) { s.hear(fmt.Sprintf("ended %d", r.Attempt)) },
		Changed: func() {}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.runner.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("the Runner ended with %v", err)
		}
		s.stop = func() {}
	}
	synctest.Wait()
}

// restart is what a new daemon does.
func (s *scene) restart() {
	s.t.Helper()
	s.stop()
	s.begin()
}

// queue records a run of a job and lets the Runner have it.
func (s *scene) queue(name string, firesAt time.Time) string {
	s.t.Helper()
	id := run.NewID(time.Now())
	r := run.Run{ID: id, Job: s.keys[name], Key: "m/" + id, Cause: plan.Scheduled, State: run.Queued, FiresAt: firesAt, FiresUntil: firesAt, Count: 1, Named: firesAt, QueuedAt: time.Now()}
	if err := s.store.AddRuns(s.t.Context(), []run.Run{r}, []job.Definition{s.jobs[r.Job].Definition()}, nil); err != nil {
		s.t.Fatal(err)
	}
	s.runner.Kick()
	synctest.Wait()
	return id
}

func (s *scene) read(id string) run.Run {
	s.t.Helper()
	r, err := s.store.Run(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *scene) want(id string, state run.State, reason string) run.Run {
	s.t.Helper()
	synctest.Wait()
	r := s.read(id)
	if r.State != state || !strings.Contains(r.Reason, reason) || reason == "" && r.Reason != "" {
		s.t.Errorf("the run is %s (%q), want %s (%q)", r.State, r.Reason, state, reason)
	}
	return r
}

func (s *scene) exits(id string, exit proc.Exit) {
	s.t.Helper()
	r := s.read(id)
	s.procs.is(id, proc.Exited, &exit)
	s.procs.events <- proc.Event{Run: id, Attempt: r.Attempt, Token: r.Token, Exit: &exit}
	synctest.Wait()
}

func (s *scene) later(d time.Duration) {
	time.Sleep(d) // in the bubble
	synctest.Wait()
}

func (s *scene) starts(n int) {
	s.t.Helper()
	synctest.Wait()
	if got := s.procs.count(func() int { return len(s.procs.started) }); got != n {
		s.t.Errorf("%d attempts were started, want %d", got, n)
	}
}

func (s *scene) kills(n int) {
	s.t.Helper()
	if got := s.procs.count(func() int { return len(s.procs.killed) }); got != n {
		s.t.Errorf("survivors were killed %d times, want %d", got, n)
	}
}

// void checks that no keeper starts a run's first attempt, and gives the outcome
// that its records have.
func (s *scene) void(id string) *proc.Exit {
	s.t.Helper()
	dir := s.runner.Dir(id, 1)
	if err := proc.Void(dir, id, 1, proc.Exit{}); !errors.Is(err, fs.ErrExist) {
		s.t.Errorf("a keeper that has it in its queue may start it: %v", err)
	}
	var exit proc.Exit
	data, err := os.ReadFile(filepath.Join(dir, "exit"))
	if err == nil {
		err = json.Unmarshal(data, &exit)
	}
	if err != nil {
		s.t.Errorf("it has no outcome: %v", err)
	}
	return &exit
}

func (s *scene) forgets(want ...string) {
	s.t.Helper()
	s.procs.mu.Lock()
	defer s.procs.mu.Unlock()
	if !slices.Equal(s.procs.forgotten, want) {
		s.t.Errorf("the keeper was told to forget %v, want %v", s.procs.forgotten, want)
	}
}

func (s *scene) tells(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.news, want) {
		s.t.Errorf("told were %q, want %q", s.news, want)
	}
}

func (s *scene) items(id string) []outbox.Item {
	s.t.Helper()
	items, err := s.store.ItemsOf(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return items
}

func simple(name string) *job.Job {
	return &job.Job{ID: job.ID{Project: "lake", Name: name}, Command: job.Command{Text: "true", Shell: "/bin/sh"}, Settings: &job.Settings{
		Owner: "alice", Zone: time.UTC, Dir: "/srv", Overlap: job.OverlapSkip,
	}}
}

func with(j *job.Job, change func(j *job.Job)) *job.Job {
	change(j)
	return j
}

func retrying(name string) *job.Job {
	return with(simple(name), func(j *job.Job) {
		j.Retry = job.Retry{Attempts: 2, Backoff: time.Minute}
		j.Notify.On = []job.Event{job.OnFailure, job.OnRecovery}
	})
}

func publisher(name string) *job.Job {
	return with(simple(name), func(j *job.Job) {
		j.Publish = []job.Target{{To: "/lake/$BELFRY_DATE"}}
		j.Notify.On = []job.Event{job.OnFailure, job.OnSuccess}
	})
}

func TestARunIsClaimedStartedAndEnded(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		r := s.want(id, run.Running, "")
		if r.Attempt != 1 || r.Token != 1 || r.Node != "node" {
			s.t.Errorf("it runs as %+v", r)
		}
		s.starts(1)
		var spec proc.Spec
		s.procs.set(func(p *processes) { spec = p.started[0] })
		dir := filepath.Join(s.dir, id, "1")
		if spec.Run != id || spec.Attempt != 1 || spec.Token != 1 || spec.Dir != dir || spec.Cwd != "/srv" || !spec.StdinNull || strings.Join(spec.Args, " ") != "/bin/sh -c true" {
			s.t.Errorf("it was started as %+v", spec)
		}
		if info, err := os.Stat(filepath.Join(dir, "output")); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			s.t.Errorf("its output folder: %v, %v", info, err)
		}
		s.later(time.Minute)
		s.exits(id, proc.Exit{EndedAt: time.Now(), UserCPU: time.Second, MaxRSS: 5, MaxRSSExact: true})
		r = s.want(id, run.Succeeded, "")
		if r.ExitCode == nil || *r.ExitCode != 0 || !r.EndedAt.Equal(time.Now()) {
			s.t.Errorf("it ended as %+v", r)
		}
		s.forgets(id + "/1")
		if a, err := s.store.Attempt(s.t.Context(), id, 1); err != nil || a.UserCPU != time.Second || a.MaxRSS != 5 || !a.MaxRSSExact {
			s.t.Errorf("its attempt is %+v, %v", a, err)
		}
	}, simple("a"))
}

func TestAnAttemptAsksForWhatItsJobDoes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*job.Job)
		want   proc.Spec
	}{
		"nothing":       {func(*job.Job) {}, proc.Spec{LogLimit: job.DefaultLogLimit}},
		"the whole log": {func(j *job.Job) { j.LogLimit = -1 }, proc.Spec{}},
		"everything": {func(j *job.Job) {
			j.Umask, j.Nice, j.LogLimit = "027", 5, 1<<20
			j.Limits = []job.Limit{{Resource: "open_files", Value: 64}, {Resource: "memory", Value: job.Unlimited}}
		}, proc.Spec{
			Umask: "027", Nice: 5, LogLimit: 1 << 20,
			Limits: []proc.Limit{{Resource: "open_files", Value: 64}, {Resource: "memory", Value: proc.Unlimited}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.queue("a", time.Now())
				s.starts(1)
				var spec proc.Spec
				s.procs.set(func(p *processes) { spec = p.started[0] })
				got := proc.Spec{Umask: spec.Umask, Nice: spec.Nice, Limits: spec.Limits, LogLimit: spec.LogLimit}
				if !reflect.DeepEqual(got, c.want) {
					s.t.Errorf("it asks for %+v, want %+v", got, c.want)
				}
			}, with(simple("a"), c.change))
		})
	}
}

func TestAFailedRunIsTriedAgainWhenItsTimeHasComeAndIsToldOnce(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{Code: 3})
		r := s.want(id, run.Queued, "retry: attempt 1 of 2 ended: exit status 3")
		if wait := time.Until(r.NotBefore); wait < 30*time.Second || wait > time.Minute {
			s.t.Errorf("it waits for %s, want half a minute to one", wait)
		}
		s.tells()
		s.later(29 * time.Second)
		s.starts(1)
		s.later(31 * time.Second)
		s.starts(2)
		s.exits(id, proc.Exit{Code: 4})
		s.want(id, run.Failed, "exit status 4")
		s.tells("failure failed")
		s.forgets(id+"/1", id+"/2")
		s.exits(id, proc.Exit{Code: 4}) // told again: forgotten again, and nothing else
		s.forgets(id+"/1", id+"/2", id+"/2")
		s.tells("failure failed")

		next := s.queue("a", time.Now())
		s.exits(next, proc.Exit{})
		s.want(next, run.Succeeded, "")
		s.tells("failure failed", "recovery succeeded")
		third := s.queue("a", time.Now())
		s.exits(third, proc.Exit{})
		s.tells("failure failed", "recovery succeeded")
		if n := len(s.items(id)) + len(s.items(next)) + len(s.items(third)); n != 2 {
			s.t.Errorf("%d notices are owed, want 2", n)
		}
	}, retrying("a"))
}

func TestOutputIsToldForEachAttemptThatPrinted(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{Code: 1})
		s.tells()
		s.later(time.Minute)
		if err := os.WriteFile(filepath.Join(s.dir, id, "2", "log"), []byte("hello\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.exits(id, proc.Exit{Code: 1})
		s.tells("output failed") // one message for one transition
	}, with(retrying("a"), func(j *job.Job) { j.Notify.On = []job.Event{job.OnOutput, job.OnFailure} }))
}

func (s *scene) hear(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, what)
}

// hears checks what the log follower was told since the last time.
func (s *scene) hears(want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.heard, want) {
		s.t.Errorf("the follower was told %q, want %q", s.heard, want)
	}
	s.heard = nil
}

func TestEachAttemptIsFollowedFromItsBeginningToItsEnd(t *testing.T) {
	env := filepath.Join(t.TempDir(), ".env")
	secret := func(text string) {
		if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret("KEY=hunter22\n")
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.hears(`began a/1 ["hunter22"] false`)
		s.exits(id, proc.Exit{Code: 1})
		s.hears("ended 1")
		s.later(time.Minute)
		s.hears(`began a/2 ["hunter22"] false`)
		s.procs.is(id, proc.Running, nil)
		s.restart()
		s.hears(`began a/2 ["hunter22"] false`)
		s.later(2 * time.Minute) // it is looked at again and again
		s.hears()
		if err := os.Remove(env); err != nil {
			s.t.Fatal(err)
		}
		s.restart()
		s.hears(`began a/2 [] true`)
		secret("KEY=hunter23\n")
		if values, err := s.runner.Secrets(s.t.Context(), id); err != nil || !slices.Equal(values, []string{"hunter23"}) {
			s.t.Errorf("when the file is back they are %q, %v", values, err)
		}
		s.exits(id, proc.Exit{})
		s.hears("ended 2")
	}, with(retrying("a"), func(j *job.Job) { j.EnvFile = env }))
}

func TestTheSecretsOfAJobThatLostThemAreNotTakenForNone(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		if values, err := s.runner.Secrets(s.t.Context(), id); err != nil || !slices.Equal(values, []string{"hunter22"}) {
			s.t.Errorf("they are %q, %v", values, err)
		}
		s.mu.Lock()
		delete(s.jobs, s.keys["a"])
		s.mu.Unlock()
		if values, err := s.runner.Secrets(s.t.Context(), id); err == nil || !strings.Contains(err.Error(), "API_TOKEN of a is not defined any more") {
			s.t.Errorf("without the job they are %q, %v", values, err)
		}
		s.exits(id, proc.Exit{})
	}, with(simple("a"), func(j *job.Job) {
		j.Env = []crontab.Var{{Name: "REGION", Value: "seoul"}, {Name: "API_TOKEN", Value: "hunter22"}}
	}))
}

func TestAnEventOfAnOldTokenChangesNothing(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{Code: 1})
		s.later(time.Minute)
		s.starts(2)
		s.procs.events <- proc.Event{Run: id, Attempt: 1, Token: 1, Exit: &proc.Exit{}}
		s.want(id, run.Running, "")
		s.procs.events <- proc.Event{Run: id, Attempt: 2, Token: 1, Exit: &proc.Exit{}}
		s.want(id, run.Running, "")
		s.procs.events <- proc.Event{Run: id, Attempt: 2, Token: 2, Started: &proc.Started{PID: 1}}
		s.want(id, run.Running, "")
	}, retrying("a"))
}

func TestARunThatTheStoreDoesNotKnowIsForgotten(t *testing.T) {
	play(t, func(s *scene) {
		s.procs.events <- proc.Event{Run: "OFNOBODY", Attempt: 1, Token: 1, Exit: &proc.Exit{}}
		synctest.Wait()
		s.forgets("OFNOBODY/1")
		s.procs.events <- proc.Event{Run: "OFNOBODY", Attempt: 1, Token: 1, Doubt: true}
		s.later(time.Minute)
		s.starts(0)
	}, simple("a"))
}

func TestADaemonThatComesBackReadsTheRecords(t *testing.T) {
	for _, c := range []struct {
		why    string
		status proc.Status
		exit   *proc.Exit
		boot   string
		state  run.State
		reason string
		starts int
	}{
		{why: "claimed and never started", status: proc.NeverStarted, state: run.Running, starts: 2},
		{why: "claimed, and then the machine went down", status: proc.NeverStarted, boot: "next", state: run.Lost, reason: "the machine was restarted", starts: 1},
		{why: "it runs", status: proc.Running, state: run.Running, starts: 1},
		{why: "it ended well while nobody was there", status: proc.Exited, exit: &proc.Exit{}, state: run.Succeeded, starts: 1},
		{why: "it failed while nobody was there", status: proc.Exited, exit: &proc.Exit{Code: 7}, state: run.Failed, reason: "exit status 7", starts: 1},
		{why: "its keeper is dead and it lives", status: proc.Survivor, state: run.Running, starts: 1},
		{why: "nothing is left", status: proc.Lost, state: run.Lost, reason: "no exit status was left", starts: 1},
	} {
		t.Run(c.why, func(t *testing.T) {
			play(t, func(s *scene) {
				id := s.queue("a", time.Now())
				s.starts(1)
				s.procs.is(id, c.status, c.exit)
				if c.boot != "" {
					s.boot = c.boot
				}
				s.restart()
				r := s.want(id, c.state, c.reason)
				s.starts(c.starts)
				if r.Attempt != 1 || r.Token != 1 {
					s.t.Errorf("it is attempt %d under token %d, want the first", r.Attempt, r.Token)
				}
				if !c.state.Finished() { // whatever it was, its end is still seen
					s.exits(id, proc.Exit{})
					s.want(id, run.Succeeded, "")
				}
				s.forgets(id + "/1")
			}, simple("a"))
		})
	}
}

func TestASurvivorIsWaitedForAndThenLostAndRunAgainWhereThatIsAllowed(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.procs.is(id, proc.Survivor, nil)
		s.procs.lost <- "keeper"
		s.later(10 * time.Second)
		s.want(id, run.Running, "")
		s.procs.is(id, proc.Lost, nil)
		s.later(time.Second)
		s.want(id, run.Queued, "retry: attempt 1 of 2 ended: its process and its keeper are gone")
		s.later(time.Minute)
		s.starts(2)
	}, retrying("a"))
}

func TestAKeeperThatIsLostPutsItsAttemptsInDoubt(t *testing.T) {
	play(t, func(s *scene) {
		a, b := s.queue("a", time.Now()), s.queue("b", time.Now())
		s.procs.is(a, proc.Lost, nil)
		s.procs.lost <- "keeper"
		s.want(a, run.Lost, "gone")
		s.want(b, run.Running, "")
	}, simple("a"), simple("b"))
}

func TestADoubtOfTheKeeperIsSettledByTheRecords(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.procs.is(id, proc.Lost, nil)
		s.procs.events <- proc.Event{Run: id, Attempt: 1, Token: 1, Doubt: true}
		s.want(id, run.Lost, "gone")
	}, simple("a"))
}

func TestAnEndThatNobodyToldIsFoundWithinAMinute(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.procs.is(id, proc.Exited, &proc.Exit{})
		s.later(time.Minute)
		s.want(id, run.Succeeded, "")
	}, simple("a"))
}

func TestASurvivorIsKilledWhenItsTimeIsOver(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.procs.is(id, proc.Survivor, nil)
		s.restart()
		s.later(20*time.Second - time.Millisecond)
		s.want(id, run.Running, "")
		s.kills(0)
		s.later(3 * time.Second)
		s.want(id, run.Failed, "timeout: it ran longer than 20s")
		s.kills(1)
	}, with(simple("a"), func(j *job.Job) { j.Timeout = 20 * time.Second }))
}

func TestASurvivorThatCouldNotBeKilledIsKilledAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.procs.set(func(p *processes) {
			p.onKill = func(p *processes, id string) error {
				if len(p.killed) < 3 {
					return errors.New("it is in the kernel's hands")
				}
				p.status[id] = proc.Lost
				return nil
			}
		})
		id := s.queue("a", time.Now())
		s.procs.is(id, proc.Survivor, nil)
		s.restart()
		s.later(25 * time.Second)
		s.want(id, run.Failed, "timeout")
		s.kills(3)
	}, with(simple("a"), func(j *job.Job) { j.Timeout = 20 * time.Second }))
}

func TestAKeeperThatCannotBeStartedIsAskedAgain(t *testing.T) {
	play(t, func(s *scene) {
		s.procs.set(func(p *processes) { p.fail = errors.New("no keeper") })
		id := s.queue("a", time.Now())
		s.want(id, run.Running, "")
		s.later(5 * time.Second)
		s.starts(0)
		s.procs.set(func(p *processes) { p.fail = nil })
		s.later(time.Second)
		s.starts(1)
	}, simple("a"))
}

func TestTroubleWithTheStoreLosesNoEnd(t *testing.T) {
	for _, c := range []struct {
		method string
		exit   *proc.Exit
		want   run.State
	}{
		{"Move", &proc.Exit{}, run.Succeeded},
		{"Move", nil, run.Lost},
		{"Definition", &proc.Exit{}, run.Succeeded},
		{"Definition", nil, run.Lost},
	} {
		t.Run(fmt.Sprintf("%s of a run that is %s", c.method, c.want), func(t *testing.T) {
			play(t, func(s *scene) {
				id := s.queue("a", time.Now())
				if c.method == "Definition" { // it is read when the job was edited meanwhile
					s.mu.Lock()
					edited := s.jobs[s.keys["a"]]
					edited.Job = with(simple("a"), func(j *job.Job) { j.Command.Text = "edited" })
					s.jobs[edited.Key] = edited
					s.mu.Unlock()
				}
				s.store.mu.Lock()
				s.store.fail[c.method] = 3
				s.store.mu.Unlock()
				if c.exit != nil {
					s.exits(id, *c.exit)
				} else {
					s.procs.is(id, proc.Lost, nil)
					s.procs.lost <- "keeper"
				}
				s.want(id, run.Running, "")
				s.forgets()
				s.later(4 * time.Second)
				if r := s.read(id); r.State != c.want {
					s.t.Errorf("it is %s, want %s", r.State, c.want)
				}
				s.forgets(id + "/1")
			}, simple("a"))
		})
	}
}

func TestWhatCannotBeStartedFailsWithAReasonAndIsTriedAgain(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		r := s.want(id, run.Queued, "retry: attempt 1 of 2 ended: env_file")
		if r.ExitCode != nil {
			s.t.Errorf("it has exit status %d without having been started", *r.ExitCode)
		}
		s.later(time.Until(r.NotBefore) + time.Millisecond) // not a minute later
		s.want(id, run.Failed, "env_file")
		s.starts(0)
		s.tells("failure failed")
	}, with(retrying("a"), func(j *job.Job) { j.EnvFile = "/no/such/.env"; j.Retry.Backoff = 2 * time.Second }))
}

func TestWhatAKeeperMayHaveIsVoidBeforeItFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		begun bool // by the keeper, when it went on
		want  run.State
	}{
		{"in its queue", false, run.Failed},
		{"begun meanwhile", true, run.Running},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), ".env")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			play(t, func(s *scene) {
				s.procs.set(func(p *processes) { p.fail = errors.New("the keeper does not answer") })
				id := s.queue("a", time.Now())
				s.want(id, run.Running, "")
				if err := os.Remove(file); err != nil {
					s.t.Fatal(err)
				}
				if c.begun {
					if err := os.WriteFile(filepath.Join(s.runner.Dir(id, 1), "start"), nil, 0o600); err != nil {
						s.t.Fatal(err)
					}
				}
				s.later(2 * time.Second)
				if r := s.read(id); r.State != c.want {
					s.t.Errorf("it is %s (%s), want %s", r.State, r.Reason, c.want)
				}
				if !c.begun && !strings.Contains(s.void(id).Error, "env_file") {
					s.t.Errorf("its record says %+v", s.void(id))
				}
			}, with(simple("a"), func(j *job.Job) { j.EnvFile = file }))
		})
	}
}

func TestWhyAProgramCouldNotBeStartedShowsNoSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("PATH_TOKEN=hunter22\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	play(t, func(s *scene) {
		why := proc.Exit{Code: -1, Error: "start song: no such program in PATH (/opt/hunter22/bin)", EndedAt: time.Now()}
		id := s.queue("a", time.Now())
		s.exits(id, why)
		s.want(id, run.Failed, "start song: no such program in PATH (/opt/***/bin)")

		s.restart()
		id = s.queue("a", time.Now().Add(time.Minute))
		s.stop()
		if err := os.Remove(file); err != nil { // and they are not known
			t.Fatal(err)
		}
		s.procs.is(id, proc.Exited, &why)
		s.begin()
		s.want(id, run.Failed, "its command was not begun; why is not told, for its secrets cannot be read now to be hidden in that: env_file: open "+file)
	}, with(simple("a"), func(j *job.Job) {
		j.EnvFile, j.Env = file, []crontab.Var{{Name: "PATH", Value: "/opt/$PATH_TOKEN/bin"}}
	}))
}

func TestARunOfARemovedJobIsSkipped(t *testing.T) {
	play(t, func(s *scene) {
		s.procs.set(func(p *processes) { p.fail = errors.New("no keeper") })
		claimed := s.queue("b", time.Now())
		s.want(claimed, run.Running, "")
		s.queue("a", time.Now())
		waits := s.queue("a", time.Now().Add(time.Hour))
		s.want(waits, run.Queued, "turn")
		s.mu.Lock()
		clear(s.jobs)
		s.mu.Unlock()
		s.runner.Kick()
		s.want(waits, run.Skipped, "the job was removed")
		s.later(time.Second)
		s.want(claimed, run.Failed, "the job was removed before it could be started")
	}, with(simple("a"), func(j *job.Job) { j.Overlap = job.OverlapQueue }), simple("b"))
}

func TestARunWhoseJobIsRemovedBeforeItsRetryHasFailedAndIsNotSkipped(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{Code: 3, EndedAt: time.Now()})
		s.mu.Lock()
		clear(s.jobs)
		s.mu.Unlock()
		s.later(time.Minute)
		s.want(id, run.Cancelled, "the job was removed before its retry: attempt 1 of 2 ended: exit status 3")
	}, retrying("a"))
}

func TestTheEndOfARunLetsTheNextStartAtOnce(t *testing.T) {
	play(t, func(s *scene) {
		first, second := s.queue("a", time.Now()), s.queue("a", time.Now().Add(time.Hour))
		s.want(second, run.Queued, "turn: run "+first)
		s.exits(first, proc.Exit{})
		s.want(second, run.Running, "")
	}, with(simple("a"), func(j *job.Job) { j.Overlap = job.OverlapQueue }))
}

func TestAnOwnerThatDoesNotPlanStartsOnlyWhatItWasAskedFor(t *testing.T) {
	play(t, func(s *scene) {
		s.stop()
		old := s.queue("a", time.Now())
		s.later(time.Second)
		s.since = time.Now()
		s.begin()
		s.want(old, run.Queued, "")
		asked := s.queue("b", time.Now())
		s.want(asked, run.Running, "")
		s.want(old, run.Queued, "")
	}, simple("a"), simple("b"))
}

func TestARunIsPublishedBeforeItHasSucceeded(t *testing.T) {
	for _, c := range []struct {
		why    string
		err    error
		state  run.State
		reason string
		news   string
	}{
		{"sent", nil, run.Succeeded, "", "success succeeded"},
		{"refused", errors.New("no such bucket"), run.Failed, "no such bucket", "failure failed"},
	} {
		t.Run(c.why, func(t *testing.T) {
			play(t, func(s *scene) {
				id := s.queue("a", time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC))
				s.exits(id, proc.Exit{})
				s.want(id, run.Publishing, "")
				s.tells()
				items := s.items(id)
				if len(items) != 1 || string(items[0].Payload) != fmt.Sprintf("%q", filepath.Join(s.dir, id, "1", "output")) {
					s.t.Fatalf("it owes %+v", items)
				}
				if targets, err := s.store.Targets(s.t.Context(), id, 1); err != nil || targets[0].To != "/lake/2026-07-09" {
					s.t.Errorf("its targets are %v, %v", targets, err)
				}
				env, _, _, err := s.runner.Environ(s.t.Context(), id)
				if err != nil || !slices.Contains(env, "BELFRY_ATTEMPT=1") || !slices.Contains(env, "BELFRY_OUTPUT="+filepath.Join(s.dir, id, "1", "output")) {
					s.t.Errorf("its publisher's environment is %v, %v", env, err)
				}
				if next := s.queue("a", time.Now()); s.read(next).State != run.Running {
					s.t.Errorf("a run that is published keeps the next from starting")
				}
				item := items[0]
				item.State, item.Result = outbox.Sent, json.RawMessage(`[]`)
				if c.err != nil {
					item.State, item.Error, item.Result = outbox.Refused, c.err.Error(), nil
				}
				for range 2 { // the second is told of what stands already
					if err := s.runner.Published(s.t.Context(), item, c.err); err != nil {
						s.t.Fatal(err)
					}
				}
				s.want(id, c.state, c.reason)
				for _, got := range s.items(id) {
					if got.Kind == outbox.Publish && got.State != item.State {
						s.t.Errorf("the item is %s, want %s", got.State, item.State)
					}
				}
				if n := len(s.items(id)); n != 2 {
					s.t.Errorf("%d items are owed, want the publish and one notice", n)
				}
				if len(s.news) == 0 || s.news[0] != c.news {
					s.t.Errorf("told were %q, want %q", s.news, c.news)
				}
			}, publisher("a"))
		})
	}
}

func TestAPublishThatCannotBeWrittenDownIsAnError(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{})
		item := s.items(id)[0]
		item.State, item.Result = outbox.Sent, json.RawMessage(`[]`)
		s.store.mu.Lock()
		s.store.fail["Move"] = 1
		s.store.mu.Unlock()
		if err := s.runner.Published(s.t.Context(), item, nil); !errors.Is(err, errDisk) {
			s.t.Errorf("got %v", err)
		}
		s.want(id, run.Publishing, "")
	}, publisher("a"))
}

func TestAnOutputWhoseTargetsWereNeverKnownIsNotTakenForPublished(t *testing.T) {
	play(t, func(s *scene) {
		s.stop()
		id := s.queue("a", time.Now())
		definition := s.jobs[s.keys["a"]].Definition()
		// Its env_file was wrong when it was claimed, and mended since.
		if _, err := s.store.Claim(s.t.Context(), []run.Claim{{Run: id, Attempt: 1, Token: 1, Boot: s.boot, Definition: definition, At: time.Now()}}); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		s.starts(1)
		s.exits(id, proc.Exit{})
		s.want(id, run.Failed, "targets were not known")
	}, publisher("a"))
}

func TestStopEndsARunInEveryState(t *testing.T) {
	stop := func(s *scene, id string, kill bool) error {
		s.t.Helper()
		err := s.runner.Stop(s.t.Context(), id, kill, alice)
		synctest.Wait()
		return err
	}
	t.Run("queued", func(t *testing.T) {
		play(t, func(s *scene) {
			s.queue("a", time.Now())
			id := s.queue("a", time.Now().Add(time.Hour))
			if err := stop(s, id, false); err != nil {
				s.t.Error(err)
			}
			s.want(id, run.Cancelled, "stopped by a person")
		}, with(simple("a"), func(j *job.Job) { j.Overlap = job.OverlapQueue }))
	})
	t.Run("between attempts", func(t *testing.T) {
		play(t, func(s *scene) {
			id := s.queue("a", time.Now())
			s.exits(id, proc.Exit{Code: 1})
			if err := stop(s, id, false); err != nil {
				s.t.Error(err)
			}
			s.later(time.Hour)
			s.want(id, run.Cancelled, "stopped by a person")
			s.starts(1)
		}, retrying("a"))
	})
	t.Run("running", func(t *testing.T) {
		play(t, func(s *scene) {
			id := s.queue("a", time.Now())
			for _, kill := range []bool{false, true} {
				if err := stop(s, id, kill); err != nil {
					s.t.Error(err)
				}
			}
			if want := []string{id + "/1 stop", id + "/1 kill"}; !slices.Equal(s.procs.signals, want) {
				s.t.Errorf("the keeper was told %v, want %v", s.procs.signals, want)
			}
			s.want(id, run.Running, "")
			s.exits(id, proc.Exit{Code: -1, Signal: "SIGTERM", Stopped: true})
			r := s.want(id, run.Cancelled, "stopped by a person") // and not tried again
			if r.Signal != "SIGTERM" || r.ExitCode != nil {
				s.t.Errorf("it ended with %q and %v", r.Signal, r.ExitCode)
			}
		}, retrying("a"))
	})
	t.Run("running, its keeper dead", func(t *testing.T) {
		play(t, func(s *scene) {
			id := s.queue("a", time.Now())
			s.procs.is(id, proc.Survivor, nil)
			s.procs.set(func(p *processes) { p.unknown = true })
			for range 2 {
				if err := stop(s, id, false); err != nil && s.read(id).State == run.Running {
					s.t.Error(err)
				}
			}
			s.later(time.Second)
			s.want(id, run.Cancelled, "stopped by a person")
			s.kills(1)
		}, retrying("a"))
	})
	t.Run("running, and never handed to a keeper", func(t *testing.T) {
		play(t, func(s *scene) {
			s.procs.set(func(p *processes) { p.fail, p.unknown = errors.New("no keeper"), true })
			id := s.queue("a", time.Now())
			if err := stop(s, id, false); err != nil {
				s.t.Error(err)
			}
			s.want(id, run.Cancelled, "stopped by a person")
			s.void(id)
		}, retrying("a"))
	})
	t.Run("running, never handed to a keeper, and the disk full", func(t *testing.T) {
		play(t, func(s *scene) {
			s.procs.set(func(p *processes) { p.fail, p.unknown = errors.New("no keeper"), true })
			id := s.queue("a", time.Now())
			s.store.mu.Lock()
			s.store.fail["Move"] = 1
			s.store.mu.Unlock()
			if err := stop(s, id, false); err != nil {
				s.t.Error(err)
			}
			s.procs.is(id, proc.Exited, s.void(id))
			s.later(2 * time.Second)
			s.want(id, run.Cancelled, "stopped by a person")
		}, retrying("a"))
	})
	t.Run("running, and just ended", func(t *testing.T) {
		play(t, func(s *scene) {
			id := s.queue("a", time.Now())
			s.procs.set(func(p *processes) { p.unknown = true })
			s.procs.is(id, proc.Exited, &proc.Exit{})
			if err := stop(s, id, false); !errors.Is(err, proc.ErrUnknownAttempt) {
				s.t.Errorf("got %v, want ErrUnknownAttempt", err)
			}
			s.want(id, run.Succeeded, "")
		}, simple("a"))
	})
	t.Run("publishing and ended", func(t *testing.T) {
		play(t, func(s *scene) {
			id := s.queue("a", time.Now())
			s.exits(id, proc.Exit{})
			item := s.items(id)[0]
			if err := stop(s, id, false); err != nil {
				s.t.Errorf("publishing: got %v", err)
			}
			if !slices.Equal(s.dropped, []string{item.ID}) {
				s.t.Errorf("dropped %v, want %s", s.dropped, item.ID)
			}
			s.want(id, run.Cancelled, "stopped by a person while it was publishing")
			if got := s.items(id)[0]; got.State != outbox.Refused {
				s.t.Errorf("what it owed is %s, want refused", got.State)
			}
			// It had just been sent after all: the person's word stands.
			item.State, item.Result = outbox.Sent, json.RawMessage(`[]`)
			if err := s.runner.Published(s.t.Context(), item, nil); err != nil {
				s.t.Fatal(err)
			}
			s.want(id, run.Cancelled, "stopped by a person while it was publishing")
			var refused run.StopError
			if err := stop(s, id, false); !errors.As(err, &refused) || !strings.Contains(err.Error(), "has ended: cancelled") {
				s.t.Errorf("ended: got %v", err)
			}
		}, publisher("a"))
	})
	t.Run("unknown", func(t *testing.T) {
		play(t, func(s *scene) {
			if err := stop(s, "OFNOBODY", false); !errors.Is(err, run.ErrNotFound) {
				s.t.Errorf("got %v, want ErrNotFound", err)
			}
		})
	})
}

func TestCallsEndWithTheirContextWhenNoRunnerIsThere(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.stop()
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		if err := s.runner.Stop(ctx, id, false, alice); !errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("got %v", err)
		}
	}, simple("a"))
}

func replacing(name string) *job.Job {
	return with(simple(name), func(j *job.Job) { j.Overlap = job.OverlapReplace })
}

func (s *scene) signalled(want ...string) {
	s.t.Helper()
	s.procs.mu.Lock()
	defer s.procs.mu.Unlock()
	if !slices.Equal(s.procs.signals, want) {
		s.t.Errorf("the keeper was asked for %q, want %q", s.procs.signals, want)
	}
}

func TestAFiringReplacesTheOneBeforeIt(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		s.later(time.Minute)
		second := s.queue("a", time.Now())
		s.want(first, run.Running, "replaced by run "+second)
		s.want(second, run.Queued, "turn: run "+first+" has not ended")
		s.signalled(first + "/1 stop")
		s.later(time.Minute) // it takes its time, and is not told twice
		s.signalled(first + "/1 stop")
		s.exits(first, proc.Exit{Code: -1, Signal: "SIGTERM", Stopped: true})
		s.want(first, run.Cancelled, "replaced by run "+second)
		s.want(second, run.Running, "")
		s.starts(2)
	}, replacing("a"))
}

func TestTheNextDaemonKnowsWhatWasReplaced(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		second := s.queue("a", time.Now().Add(time.Minute))
		s.want(first, run.Running, "replaced by run "+second)
		s.stop()
		s.procs.is(first, proc.Exited, &proc.Exit{Code: -1, Signal: "SIGTERM", Stopped: true})
		s.begin()
		s.want(first, run.Cancelled, "replaced by run "+second)
		s.want(second, run.Running, "")
	}, replacing("a"))
}

func TestAJobThatIsPausedStartsNothingByItself(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{Code: 3})
		s.mu.Lock()
		paused := s.jobs[s.keys["a"]]
		paused.Paused = true
		s.jobs[paused.Key] = paused
		s.mu.Unlock()
		s.later(2 * time.Minute)
		s.want(id, run.Queued, "paused: the retry comes when the job is resumed")
		other := s.queue("a", time.Now())
		s.want(other, run.Skipped, "paused")
		s.starts(1)
		s.mu.Lock()
		paused.Paused = false
		s.jobs[paused.Key] = paused
		s.mu.Unlock()
		s.runner.Kick()
		s.want(id, run.Running, "")
	}, retrying("a"))
}

// promised records a run that is to begin and to end by a time.
func (s *scene) promised(name string, start, finish time.Duration) string {
	s.t.Helper()
	now := time.Now()
	id := run.NewID(now)
	r := run.Run{ID: id, Job: s.keys[name], Key: "t/" + id, Cause: plan.Scheduled, State: run.Queued, FiresAt: now, FiresUntil: now, Count: 1, Named: now, QueuedAt: now}
	if start > 0 {
		r.StartBy = now.Add(start)
	}
	if finish > 0 {
		r.FinishBy = now.Add(finish)
	}
	if err := s.store.AddRuns(s.t.Context(), []run.Run{r}, []job.Definition{s.jobs[r.Job].Definition()}, nil); err != nil {
		s.t.Fatal(err)
	}
	s.runner.Kick()
	synctest.Wait()
	return id
}

func punctual(name string) *job.Job {
	return with(simple(name), func(j *job.Job) {
		j.Overlap, j.StartWithin, j.FinishBy = job.OverlapQueue, 10*time.Minute, time.Hour
		j.Notify.On = []job.Event{job.OnLate}
	})
}

func TestARunThatDoesNotBeginOrEndInTimeIsToldOnceEach(t *testing.T) {
	play(t, func(s *scene) {
		first := s.promised("a", 10*time.Minute, time.Hour)
		s.later(time.Minute)
		second := s.promised("a", 10*time.Minute, time.Hour)
		s.later(9*time.Minute + 59*time.Second)
		s.tells()
		s.later(time.Second)
		s.tells("late queued")
		s.later(48 * time.Minute)
		s.tells("late queued")
		s.later(time.Minute)
		s.tells("late queued", "late running")
		s.later(time.Minute)
		s.tells("late queued", "late running", "late queued")
		s.exits(first, proc.Exit{})
		s.want(first, run.Succeeded, "")
		s.exits(second, proc.Exit{})
		s.later(24 * time.Hour)
		s.tells("late queued", "late running", "late queued")
	}, punctual("a"))
}

func TestARunThatEndedLateWhileNobodyWasThereIsTold(t *testing.T) {
	play(t, func(s *scene) {
		id := s.promised("a", 0, time.Hour)
		s.want(id, run.Running, "")
		s.stop()
		s.later(2 * time.Hour)
		s.procs.is(id, proc.Exited, &proc.Exit{})
		s.begin()
		s.want(id, run.Succeeded, "")
		s.tells("late succeeded")
	}, punctual("a"))
}

func TestTheEndsOfABurstShareATransaction(t *testing.T) {
	play(t, func(s *scene) {
		var ids []string
		for i := range 5 {
			ids = append(ids, s.queue("a", time.Now().Add(time.Duration(i)*time.Minute)))
		}
		s.starts(5)
		s.store.mu.Lock()
		s.store.fail["Move"] = 1 // all or none
		s.store.mu.Unlock()
		for _, id := range ids {
			s.procs.is(id, proc.Exited, &proc.Exit{})
		}
		s.procs.lost <- "keeper"
		for _, id := range ids {
			s.want(id, run.Running, "")
		}
		s.later(2 * time.Second)
		for _, id := range ids {
			s.want(id, run.Succeeded, "")
		}
	}, with(simple("a"), func(j *job.Job) { j.Overlap = job.OverlapAllow }))
}

func TestManyRunsAreStartedInBatches(t *testing.T) {
	play(t, func(s *scene) {
		j := s.jobs[s.keys["a"]]
		var runs []run.Run
		var definitions []job.Definition
		for i := range 500 {
			at := time.Now().Add(time.Duration(i) * time.Second)
			id := run.NewID(at)
			runs = append(runs, run.Run{ID: id, Job: j.Key, Key: id, Cause: plan.Scheduled, State: run.Queued, FiresAt: at, FiresUntil: at, Count: 1, Named: at, QueuedAt: time.Now()})
			definitions = append(definitions, j.Definition())
		}
		if err := s.store.AddRuns(s.t.Context(), runs, definitions, nil); err != nil {
			s.t.Fatal(err)
		}
		s.runner.Kick()
		s.starts(500)
		for _, r := range runs {
			s.want(r.ID, run.Running, "")
		}
	}, with(simple("a"), func(j *job.Job) { j.Overlap = job.OverlapAllow; j.Crontab = true }))
}

func TestTheNextDaemonTellsAReplacedRunAgain(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		s.stop()
		second := s.queue("a", time.Now().Add(time.Minute))
		// Why it is to end was written, and then the daemon was killed.
		if err := s.store.Note(s.t.Context(), map[string]string{first: "replaced by run " + second}); err != nil {
			s.t.Fatal(err)
		}
		s.procs.is(first, proc.Running, nil)
		s.begin()
		s.signalled(first + "/1 stop")
		s.later(time.Hour)
		s.signalled(first + "/1 stop")
	}, replacing("a"))
}

func TestARunThatIsLateWhenItIsRecordedIsToldBeforeItBegins(t *testing.T) {
	play(t, func(s *scene) {
		s.promised("a", time.Hour, 0)
		s.tells()
		s.later(100 * time.Millisecond)
		s.promised("b", time.Nanosecond, 0) // by the time that it is recorded, to the millisecond
		s.tells("late queued")
	}, punctual("a"), punctual("b"))
}

func TestOthersAskForEnvironmentsWhileTheRunnerWorks(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				for range 50 {
					s.mu.Lock()
					j := s.jobs[s.keys["a"]]
					j.Job = simple("a") // as after a reload
					s.jobs[j.Key] = j
					s.mu.Unlock()
					if _, _, _, err := s.runner.Environ(s.t.Context(), id); err != nil {
						s.t.Error(err)
					}
				}
			})
		}
		asking.Wait()
	}, simple("a"))
}

func TestWhatWaitsIsGivenUpAndNothingElse(t *testing.T) {
	play(t, func(s *scene) {
		var ids []string
		for i := range 5 {
			ids = append(ids, s.queue("a", time.Now().Add(time.Duration(i)*time.Minute)))
		}
		s.want(ids[0], run.Running, "")
		err := s.runner.GiveUp(s.t.Context(), run.Act{Person: alice, At: time.Now(), Action: run.ActStopBackfill, Backfill: "B1"}, func(ctx context.Context) ([]run.Run, error) {
			return s.store.Runs(ctx, store.RunFilter{State: run.Queued})
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.want(ids[0], run.Running, "")
		for _, id := range ids[1:] {
			s.want(id, run.Cancelled, "stopped by a person")
		}
		s.signalled()
	}, with(simple("a"), func(j *job.Job) { j.Overlap = job.OverlapQueue }))
}

package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/proc"
)

// ErrConflict is what a Store answers when a run is no longer in the state, or
// no longer under the token, that a change was decided on. The change is void.
var ErrConflict = errors.New("the run has changed meanwhile")

// ErrNotFound is what a Store answers for a run that it does not have.
var ErrNotFound = errors.New("not found")

// Store is what a Runner needs of the store. Each method that changes
// something is one durable transaction.
type Store interface {
	// Waiting lists the queued runs that wait for nothing but a turn, a slot or
	// a retry's time, in the order they were queued.
	Waiting(ctx context.Context) ([]Run, error)
	// Running lists the runs with a claimed attempt.
	Running(ctx context.Context) ([]Run, error)
	Run(ctx context.Context, id string) (Run, error)
	Attempt(ctx context.Context, run string, number int) (Attempt, error)
	// Targets gives what Claim noted for the attempt.
	Targets(ctx context.Context, run string, number int) ([]job.Target, error)
	// Definition gives the job as the run found it.
	Definition(ctx context.Context, hash string) ([]byte, error)
	// FailedBefore reports whether the newest finished run of the job before
	// this one had failed or was lost.
	FailedBefore(ctx context.Context, r Run) (bool, error)
	// Claim makes queued runs running; the ones that are not queued any more
	// are left out of what it returns.
	Claim(ctx context.Context, claims []Claim) ([]Run, error)
	// Move takes a run from one state to the next, with all that follows:
	// what is owed is in the outbox, and the runs that wait for it are settled.
	Move(ctx context.Context, m Move) error
	// PublishOf gives what a publishing run owes to its targets.
	PublishOf(ctx context.Context, run string) (outbox.Item, error)
	// Wait notes what a queued run waits for.
	Wait(ctx context.Context, reasons map[string]string) error
}

// Processes is what a Runner needs of the keeper.
type Processes interface {
	Start(ctx context.Context, specs []proc.Spec) error
	Signal(run string, attempt int, kind proc.StopKind) error
	Events() <-chan proc.Event
	Forget(run string, attempt int) error
	KeeperLost() <-chan string
	Inspect(dir, run string, attempt int) (proc.Status, *proc.Exit, error)
}

// Claim takes a queued run for one attempt.
type Claim struct {
	Run        string
	Attempt    int
	Token      int64
	Node, Boot string
	Definition job.Definition
	Targets    []job.Target
	At         time.Time
}

// Move is one transition of a run.
type Move struct {
	Run       string
	From, To  State
	Token     int64 // of the claim that is ended, when From is Running or Publishing
	Reason    string
	NotBefore time.Time // of a retry
	At        time.Time
	Ended     *Attempt      // the attempt that ends with it
	Owed      []outbox.Item // to be delivered
	Settled   *outbox.Item  // the publish that ends with it
}

// News is what there is to tell about a run.
type News struct {
	Event   job.Event
	Job     *job.Job
	Run     Run
	Attempt int
	State   State
	Reason  string
	Log     string // path of the attempt's output
	At      time.Time
}

// Options are a Runner's surroundings.
type Options struct {
	Node  string
	Boot  string
	Dir   string // below which each attempt gets its directory
	Slots int    // attempts at once, of jobs that count
	Host  Host
	// Since keeps runs that were queued before it waiting: an owner that does
	// not plan starts only what it was asked for. Zero: all may start.
	Since time.Time

	Store Store
	Procs Processes
	// KillSurvivors ends what lives of an attempt whose keeper is dead, and
	// returns when nothing is left; nil means proc.KillSurvivors.
	KillSurvivors func(dir, run string, attempt int) error
	// Job gives a job as it is defined now.
	Job func(key string) (*job.Job, bool)
	// Publish and Notices make the outbox items that a run owes.
	Publish func(j *job.Job, r Run, output string, targets []job.Target) outbox.Item
	Notices func(n News) []outbox.Item
	// DropPublish breaks off what is being sent of an outbox item.
	DropPublish func(item string)
	// Changed is called after each durable change.
	Changed func()
	Now     func() time.Time
	Log     *slog.Logger
}

// Runner walks runs through their lives. One goroutine does all of it.
type Runner struct {
	o     Options
	kick  chan struct{}
	calls chan func(ctx context.Context)
	// doubtful holds the running attempts whose state must be read from their
	// records: after a restart, and when a keeper died.
	doubtful map[string]bool
	// killed says of attempts without a keeper that were killed what their end
	// means: nobody else can tell.
	killed  map[string]Move
	killing map[string]bool // runs that work is at
	work    sync.WaitGroup  // kills survivors
}

// NewRunner makes a Runner; Run sets it going.
func NewRunner(o Options) *Runner {
	if o.KillSurvivors == nil {
		o.KillSurvivors = proc.KillSurvivors
	}
	return &Runner{
		o:        o,
		kick:     make(chan struct{}, 1),
		calls:    make(chan func(context.Context)),
		doubtful: map[string]bool{},
		killed:   map[string]Move{},
		killing:  map[string]bool{},
	}
}

// Kick makes the Runner look at the waiting runs. It never blocks.
func (r *Runner) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

const (
	// again is how soon a doubtful attempt is looked at again.
	again = time.Second
	// look is how often every running attempt is looked at: a keeper that did
	// not answer when the daemon started sends no events.
	look = time.Minute
)

// Run works until ctx ends. Processes go on; the next Runner adopts them.
func (r *Runner) Run(ctx context.Context) error {
	defer r.work.Wait()
	if err := r.adopt(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-r.o.Procs.Events():
			r.event(ctx, event)
		case <-r.o.Procs.KeeperLost():
			if err := r.adopt(ctx); err != nil { // the ticker tries again
				r.o.Log.Error("look for attempts of a dead keeper", "error", err)
			}
		case <-ticker.C:
			if err := r.adopt(ctx); err != nil {
				r.o.Log.Error("look at the running attempts", "error", err)
			}
		case call := <-r.calls:
			call(ctx)
		case <-r.kick:
		case <-timer.C:
		}
		r.settle(ctx)
		timer.Reset(r.pass(ctx))
	}
}

// adopt puts every running attempt in doubt: its records decide.
func (r *Runner) adopt(ctx context.Context) error {
	running, err := r.o.Store.Running(ctx)
	if err != nil {
		return fmt.Errorf("look for running attempts: %w", err)
	}
	for _, run := range running {
		r.doubtful[run.ID] = true
	}
	return nil
}

// settle reads the records of doubtful attempts (DESIGN.md §5).
func (r *Runner) settle(ctx context.Context) {
	for id := range r.doubtful {
		run, err := r.o.Store.Run(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			r.o.Log.Error("read a run", "run", id, "error", err)
			continue
		}
		if err != nil || run.State != Running {
			delete(r.doubtful, id)
			delete(r.killed, id)
			continue
		}
		status, exit, err := r.o.Procs.Inspect(r.Dir(id, run.Attempt), id, run.Attempt)
		if err != nil {
			r.o.Log.Error("inspect an attempt", "run", id, "attempt", run.Attempt, "error", err)
			continue
		}
		switch status {
		case proc.Running:
			delete(r.doubtful, id)
		case proc.Survivor: // its keeper is dead: look again until nothing of it lives
			r.enforceTimeout(ctx, run)
		case proc.Exited:
			delete(r.doubtful, id)
			r.ended(ctx, run, *exit)
		case proc.NeverStarted:
			attempt, err := r.o.Store.Attempt(ctx, id, run.Attempt)
			if err != nil {
				r.o.Log.Error("read an attempt", "run", id, "error", err)
				continue
			}
			if attempt.Boot != r.o.Boot {
				// Its record may have been lost with the power.
				delete(r.doubtful, id)
				r.lost(ctx, run, "the machine was restarted while it ran")
				continue
			}
			r.start(ctx, []Run{run})
		case proc.Lost:
			delete(r.doubtful, id)
			r.lost(ctx, run, "its process and its keeper are gone, and no exit status was left")
		}
	}
}

// enforceTimeout kills a survivor that has taken too long, as its keeper would
// have. Only the wall clock tells how long it was.
func (r *Runner) enforceTimeout(ctx context.Context, run Run) {
	if m, killed := r.killed[run.ID]; killed {
		r.kill(ctx, run, m) // again, if the first time did not help
		return
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		r.o.Log.Error("look at a survivor", "run", run.ID, "error", err)
		return
	}
	attempt, err := r.o.Store.Attempt(ctx, run.ID, run.Attempt)
	if err != nil {
		r.o.Log.Error("read an attempt", "run", run.ID, "error", err)
		return
	}
	if j.Timeout > 0 && r.o.Now().Sub(attempt.StartedAt) >= j.Timeout {
		r.kill(ctx, run, Move{To: Failed, Reason: timedOut(j)})
	}
}

// kill ends a survivor. m is what its end will mean, which is told by no
// record: should this daemon end first, the run will be lost.
func (r *Runner) kill(ctx context.Context, run Run, m Move) {
	r.killed[run.ID], r.doubtful[run.ID] = m, true
	if r.killing[run.ID] {
		return
	}
	r.killing[run.ID] = true
	r.o.Log.Info("kill what outlived its keeper", "run", run.ID, "attempt", run.Attempt, "reason", m.Reason)
	r.work.Go(func() {
		err := r.o.KillSurvivors(r.Dir(run.ID, run.Attempt), run.ID, run.Attempt)
		if err != nil {
			r.o.Log.Error("kill survivors", "run", run.ID, "attempt", run.Attempt, "error", err)
		}
		_ = r.do(ctx, func(context.Context) error { // fails only when the Runner ends
			delete(r.killing, run.ID)
			return nil
		})
	})
}

// pass starts what may start and says how long nothing will be due.
func (r *Runner) pass(ctx context.Context) time.Duration {
	waiting, err := r.o.Store.Waiting(ctx)
	if err != nil {
		r.o.Log.Error("read the waiting runs", "error", err)
		return again
	}
	running, err := r.o.Store.Running(ctx)
	if err != nil {
		r.o.Log.Error("read the running runs", "error", err)
		return again
	}
	ours := waiting[:0]
	for _, run := range waiting {
		if run.Attempt > 0 || !run.QueuedAt.Before(r.o.Since) {
			ours = append(ours, run)
		}
	}
	now := r.o.Now()
	a := admit(ours, running, r.job, r.o.Slots, now)
	for _, run := range ours {
		if reason, skip := a.skip[run.ID]; skip {
			r.move(ctx, run, Move{Run: run.ID, From: Queued, To: Skipped, Reason: reason, At: now})
		}
	}
	if len(a.waits) > 0 {
		if err := r.o.Store.Wait(ctx, a.waits); err != nil {
			r.o.Log.Error("note what runs wait for", "error", err)
		}
	}
	r.claim(ctx, a.start, now)
	switch {
	case len(r.doubtful) > 0:
		return again
	case !a.wake.IsZero():
		return min(a.wake.Sub(now), time.Minute)
	}
	return time.Minute
}

func (r *Runner) job(run Run) *job.Job {
	j, ok := r.o.Job(run.Job)
	if !ok {
		return nil
	}
	return j
}

// definition is the job as the run began with it. The values of the
// environment are today's: they are stored nowhere.
func (r *Runner) definition(ctx context.Context, run Run) (*job.Job, error) {
	if j := r.job(run); j != nil && j.Definition().Hash == run.Definition {
		return j, nil
	}
	text, err := r.o.Store.Definition(ctx, run.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of run %s: %w", run.ID, err)
	}
	stored, err := job.ParseDefinition(text)
	if err != nil {
		return nil, err
	}
	if j := r.job(run); j != nil {
		stored.Env = j.Env
	}
	return stored, nil
}

// Dir is the directory of an attempt: records, log and output.
func (r *Runner) Dir(run string, attempt int) string {
	return filepath.Join(r.o.Dir, run, strconv.Itoa(attempt))
}

// output is where an attempt leaves what is to be published.
func (r *Runner) output(run string, attempt int) string {
	return filepath.Join(r.Dir(run, attempt), "output")
}

// claim makes the runs ours, durably, and then starts them.
func (r *Runner) claim(ctx context.Context, runs []Run, now time.Time) {
	if len(runs) == 0 {
		return
	}
	var claims []Claim
	for _, run := range runs {
		j := r.job(run)
		if j == nil {
			continue // removed since it was admitted
		}
		c := Claim{
			Run: run.ID, Attempt: run.Attempt + 1, Token: run.Token + 1, Node: r.o.Node, Boot: r.o.Boot,
			Definition: j.Definition(), At: now,
		}
		if env, err := environ(j, run, c.Attempt, r.output(run.ID, c.Attempt), r.o.Host); err == nil {
			c.Targets, _ = targets(j, env) // an error ends the attempt in start
		}
		claims = append(claims, c)
	}
	claimed, err := r.o.Store.Claim(ctx, claims)
	if err != nil {
		r.o.Log.Error("claim runs", "runs", len(claims), "error", err)
		return
	}
	r.o.Changed()
	r.start(ctx, claimed)
}

// start hands claimed runs to the keeper, which takes each attempt only once.
func (r *Runner) start(ctx context.Context, runs []Run) {
	var specs []proc.Spec
	names := map[string]string{} // run → job, for the log
	for _, run := range runs {
		names[run.ID] = run.Name
		spec, err := r.spec(ctx, run)
		if err != nil {
			delete(r.doubtful, run.ID)
			now := r.o.Now()
			r.ended(ctx, run, proc.Exit{Code: -1, Error: err.Error(), StartedAt: now, EndedAt: now})
			continue
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return
	}
	err := r.o.Procs.Start(ctx, specs)
	for _, spec := range specs {
		if err != nil {
			r.doubtful[spec.Run] = true
		} else {
			delete(r.doubtful, spec.Run)
			r.o.Log.Info("started", "job", names[spec.Run], "run", spec.Run, "attempt", spec.Attempt)
		}
	}
	if err != nil {
		r.o.Log.Error("hand runs to the keeper", "runs", len(specs), "error", err)
	}
}

func (r *Runner) spec(ctx context.Context, run Run) (proc.Spec, error) {
	if r.job(run) == nil {
		return proc.Spec{}, errors.New("the job was removed before it could be started")
	}
	j, err := r.definition(ctx, run) // as it was claimed, maybe by the daemon before this one
	if err != nil {
		return proc.Spec{}, err
	}
	dir, output := r.Dir(run.ID, run.Attempt), r.output(run.ID, run.Attempt)
	env, err := environ(j, run, run.Attempt, output, r.o.Host)
	if err != nil {
		return proc.Spec{}, err
	}
	if _, err := targets(j, env); err != nil {
		return proc.Spec{}, err
	}
	if err := os.MkdirAll(output, 0o700); err != nil {
		return proc.Spec{}, fmt.Errorf("make the attempt's directory: %w", err)
	}
	cwd := j.Dir
	if cwd == "" {
		cwd, _ = env.Lookup("HOME")
	}
	return proc.Spec{
		Run: run.ID, Attempt: run.Attempt, Token: run.Token, Dir: dir,
		Args: j.Command.Argv(), Env: env.Strings(), Cwd: cwd,
		Stdin: j.Stdin, StdinNull: !j.Crontab,
		Timeout: j.Timeout, KillAfter: j.KillAfter,
	}, nil
}

func (r *Runner) event(ctx context.Context, event proc.Event) {
	if event.Doubt { // another keeper has or had it: its records decide
		r.doubtful[event.Run] = true
		return
	}
	if event.Exit == nil {
		return
	}
	run, err := r.o.Store.Run(ctx, event.Run)
	switch {
	case errors.Is(err, ErrNotFound): // the store is new, or an older one was put back
		r.o.Log.Warn("a run has ended that is not in the store", "run", event.Run, "attempt", event.Attempt)
		r.forget(event.Run, event.Attempt)
		return
	case err != nil:
		r.o.Log.Error("read a run that ended", "run", event.Run, "error", err)
		r.doubtful[event.Run] = true // the event does not come again; its record stays
		return
	}
	if run.State != Running || run.Attempt != event.Attempt || run.Token != event.Token {
		r.forget(event.Run, event.Attempt) // told before: its end is durable
		return
	}
	delete(r.doubtful, run.ID)
	r.ended(ctx, run, *event.Exit)
}

func (r *Runner) forget(run string, attempt int) {
	if err := r.o.Procs.Forget(run, attempt); err != nil {
		r.o.Log.Debug("forget an attempt", "run", run, "attempt", attempt, "error", err)
	}
}

// ended takes a run to what its attempt's exit means.
func (r *Runner) ended(ctx context.Context, run Run, exit proc.Exit) {
	j, err := r.definition(ctx, run)
	if err != nil {
		r.o.Log.Error("end a run", "run", run.ID, "error", err)
		r.doubtful[run.ID] = true
		return
	}
	to, reason := outcome(j, exit)
	ended := Attempt{
		Run: run.ID, Number: run.Attempt, EndedAt: exit.EndedAt, Signal: exit.Signal, Reason: reason,
		UserCPU: exit.UserCPU, SystemCPU: exit.SystemCPU, MaxRSS: exit.MaxRSS,
	}
	if exit.Error == "" && exit.Signal == "" {
		ended.ExitCode = &exit.Code
	}
	if to == Publishing {
		list, err := r.o.Store.Targets(ctx, run.ID, run.Attempt)
		if err != nil {
			r.o.Log.Error("read the targets of a run", "run", run.ID, "error", err)
			r.doubtful[run.ID] = true
			return
		}
		if len(list) == len(j.Publish) {
			owed := []outbox.Item{r.o.Publish(j, run, r.output(run.ID, run.Attempt), list)}
			r.end(ctx, j, run, Move{To: Publishing, Ended: &ended, Owed: owed})
			return
		}
		// Its env_file, say, was mended between its claim and its start.
		to, reason = Failed, "publish: its targets were not known when it was claimed"
		ended.Reason = reason
	}
	r.end(ctx, j, run, Move{To: to, Reason: reason, Ended: &ended})
}

func (r *Runner) lost(ctx context.Context, run Run, reason string) {
	j, err := r.definition(ctx, run)
	if err != nil {
		r.o.Log.Error("end a lost run", "run", run.ID, "error", err)
		r.doubtful[run.ID] = true
		return
	}
	m := Move{To: Lost, Reason: reason}
	if meant, killed := r.killed[run.ID]; killed {
		m = meant
	}
	m.Ended = &Attempt{Run: run.ID, Number: run.Attempt, EndedAt: r.o.Now(), Reason: m.Reason}
	r.end(ctx, j, run, m)
}

// end makes a running run's next state durable, with a retry where the job
// allows one and the news where somebody wants it, and lets the keeper forget.
func (r *Runner) end(ctx context.Context, j *job.Job, run Run, m Move) {
	now := r.o.Now()
	m.Run, m.From, m.Token, m.At = run.ID, Running, run.Token, now
	if (m.To == Failed || m.To == Lost) && run.Attempt < j.Retry.Attempts {
		m.Reason = fmt.Sprintf("retry: attempt %d of %d ended: %s", run.Attempt, j.Retry.Attempts, m.Reason)
		m.To, m.NotBefore = Queued, now.Add(backoff(j.Retry, run.Attempt, rand.Float64()))
	}
	m.Owed = append(m.Owed, r.news(ctx, j, run, m)...)
	if !r.move(ctx, run, m) {
		r.doubtful[run.ID] = true // the record is still there: try again, and not at once
		return
	}
	delete(r.killed, run.ID)
	r.forget(run.ID, run.Attempt)
	r.Kick() // a place is free, or a retry has its time: the pass that called us does not know
}

// outcome says what the exit of an attempt means for its run, before retries.
func outcome(j *job.Job, exit proc.Exit) (State, string) {
	switch {
	case exit.Error != "":
		return Failed, exit.Error
	case exit.Stopped:
		return Cancelled, stopped
	case exit.TimedOut:
		return Failed, timedOut(j)
	case exit.Signal != "":
		return Failed, "killed by " + exit.Signal
	case exit.Code != 0:
		return Failed, fmt.Sprintf("exit status %d", exit.Code)
	case len(j.Publish) > 0:
		return Publishing, ""
	}
	return Succeeded, ""
}

const stopped = "stopped by a person"

func timedOut(j *job.Job) string { return fmt.Sprintf("timeout: it ran longer than %s", j.Timeout) }

// backoff is the wait before the next attempt, after the n-th: between half of
// and all of Backoff·2ⁿ⁻¹, so that many jobs do not come back at once.
func backoff(retry job.Retry, n int, chance float64) time.Duration {
	wait := min(retry.Backoff, 24*time.Hour)
	for range n - 1 {
		if wait *= 2; retry.MaxBackoff > 0 && wait > retry.MaxBackoff || wait > 24*time.Hour {
			break
		}
	}
	if retry.MaxBackoff > 0 {
		wait = min(wait, retry.MaxBackoff)
	}
	wait = min(wait, 24*time.Hour)
	return wait/2 + time.Duration(chance*float64(wait/2))
}

// news gives the messages that a transition owes to people.
func (r *Runner) news(ctx context.Context, j *job.Job, run Run, m Move) []outbox.Item {
	n := News{
		Job: j, Run: run, Attempt: run.Attempt, State: m.To, Reason: m.Reason, At: m.At,
		Log: filepath.Join(r.Dir(run.ID, run.Attempt), "log"),
	}
	var items []outbox.Item
	tell := func(event job.Event) {
		if len(items) == 0 && j.Notify.Wants(event) { // one message for one transition
			n.Event = event
			items = r.o.Notices(n)
		}
	}
	if m.From == Running && m.To != Lost { // the attempt's process has ended, whatever becomes of its run
		if info, err := os.Stat(n.Log); err == nil && info.Size() > 0 {
			tell(job.OnOutput)
		}
	}
	switch m.To {
	case Failed, Lost:
		tell(job.OnFailure)
	case Succeeded:
		tell(job.OnSuccess)
		if len(items) > 0 || !j.Notify.Wants(job.OnRecovery) {
			break
		}
		if failed, err := r.o.Store.FailedBefore(ctx, run); err != nil {
			r.o.Log.Error("read the run before", "run", run.ID, "error", err)
		} else if failed {
			tell(job.OnRecovery)
		}
	}
	return items
}

func (r *Runner) move(ctx context.Context, run Run, m Move) bool {
	err := r.o.Store.Move(ctx, m)
	if errors.Is(err, ErrConflict) {
		r.o.Log.Debug("a run had changed", "run", m.Run, "to", m.To)
		return true // somebody else's decision stands
	}
	if err != nil {
		r.o.Log.Error("write a run's state", "run", m.Run, "to", m.To, "error", err)
		return false
	}
	if m.To != Queued {
		r.o.Log.Info("a run went on", "job", run.Name, "run", m.Run, "state", m.To, "reason", m.Reason)
	}
	r.o.Changed()
	return true
}

// do runs f on the Runner's goroutine and waits for it.
func (r *Runner) do(ctx context.Context, f func(ctx context.Context) error) error {
	done := make(chan error, 1)
	select {
	case r.calls <- func(ctx context.Context) { done <- f(ctx) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done
}

// Published takes a publishing run to its end: item was sent, or refused for
// good with err. What it says is durable when it returns nil.
func (r *Runner) Published(ctx context.Context, item outbox.Item, sendErr error) error {
	return r.do(ctx, func(ctx context.Context) error {
		run, err := r.o.Store.Run(ctx, item.Run)
		if err != nil {
			return err
		}
		j, err := r.definition(ctx, run)
		if err != nil {
			return err
		}
		m := Move{Run: run.ID, From: Publishing, To: Succeeded, Token: run.Token, At: r.o.Now(), Settled: &item}
		if sendErr != nil {
			m.To, m.Reason = Failed, sendErr.Error()
		}
		m.Owed = r.news(ctx, j, run, m)
		if err := r.o.Store.Move(ctx, m); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		r.o.Log.Info("a run went on", "job", run.Name, "run", m.Run, "state", m.To, "reason", m.Reason)
		r.o.Changed()
		r.Kick()
		return nil
	})
}

// dropPublish gives up the publish of a run. What it has put at its target so
// far stays there without a _SUCCESS, until the next publish.
func (r *Runner) dropPublish(ctx context.Context, run Run) error {
	item, err := r.o.Store.PublishOf(ctx, run.ID)
	if err != nil {
		return err
	}
	r.o.DropPublish(item.ID)
	item.State, item.Error = outbox.Refused, stopped
	m := Move{Run: run.ID, From: Publishing, To: Cancelled, Token: run.Token, Reason: stopped + " while it was publishing", At: r.o.Now(), Settled: &item}
	if err := r.o.Store.Move(ctx, m); err != nil {
		return err
	}
	r.o.Changed()
	return nil
}

// StopError says why a run cannot be stopped.
type StopError string

func (e StopError) Error() string { return string(e) }

// Stop ends a run: a queued one is cancelled, a running one gets TERM and,
// after kill_after or at once when kill is set, KILL.
func (r *Runner) Stop(ctx context.Context, id string, kill bool) error {
	return r.do(ctx, func(ctx context.Context) error {
		run, err := r.o.Store.Run(ctx, id)
		if err != nil {
			return err
		}
		switch run.State {
		case Queued:
			m := Move{Run: id, From: Queued, To: Cancelled, Reason: stopped, At: r.o.Now()}
			if err := r.o.Store.Move(ctx, m); err != nil {
				return err
			}
			r.o.Changed()
			return nil
		case Running:
			kind := proc.Stop
			if kill {
				kind = proc.Kill
			}
			err := r.o.Procs.Signal(id, run.Attempt, kind)
			if errors.Is(err, proc.ErrUnknownAttempt) {
				return r.stopWithoutKeeper(ctx, run, err)
			}
			return err
		case Publishing:
			return r.dropPublish(ctx, run)
		}
		return StopError(fmt.Sprintf("run %s has ended: %s", id, run.State))
	})
}

// stopWithoutKeeper ends a running run that no keeper has: what outlived its
// keeper is killed, and what could not be handed to one never will be.
func (r *Runner) stopWithoutKeeper(ctx context.Context, run Run, unknown error) error {
	r.doubtful[run.ID] = true
	status, _, err := r.o.Procs.Inspect(r.Dir(run.ID, run.Attempt), run.ID, run.Attempt)
	if err != nil {
		return err
	}
	switch status {
	case proc.Survivor:
		r.kill(ctx, run, Move{To: Cancelled, Reason: stopped})
		return nil
	case proc.NeverStarted:
		j, err := r.definition(ctx, run)
		if err != nil {
			return err
		}
		r.end(ctx, j, run, Move{
			To: Cancelled, Reason: stopped,
			Ended: &Attempt{Run: run.ID, Number: run.Attempt, EndedAt: r.o.Now(), Reason: stopped},
		})
		return nil
	}
	return unknown // it has just ended
}

// Environ gives the whole environment of a run's newest attempt: its publisher
// works in it.
func (r *Runner) Environ(ctx context.Context, id string) ([]string, error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return nil, err
	}
	env, err := environ(j, run, run.Attempt, r.output(id, run.Attempt), r.o.Host)
	if err != nil {
		return nil, err
	}
	return env.Strings(), nil
}

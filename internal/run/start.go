package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"weak"

	"belfry/internal/crash"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/secrets"
)

// pass starts what may start and says how long nothing will be due.
func (r *Runner) pass(ctx context.Context) time.Duration {
	now := r.o.Now()
	wake := r.tellLate(ctx, now)
	if !r.held.Load() {
		retry, err := r.admit(ctx, now)
		if err != nil {
			r.o.Log.Error("start what waits", "error", err)
			return again
		}
		wake = earlier(wake, retry)
	}
	switch {
	case len(r.doubtful) > 0:
		return again
	case !wake.IsZero():
		return min(max(wake.Sub(now), 0), time.Minute)
	}
	return time.Minute
}

// earlier gives the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// admit carries out what is to become of the runs that wait, and says when the
// next retry is due.
func (r *Runner) admit(ctx context.Context, now time.Time) (time.Time, error) {
	waiting, err := r.o.Store.Waiting(ctx)
	if err != nil {
		return time.Time{}, err
	}
	ours := r.ours(waiting)
	if len(ours) == 0 {
		return time.Time{}, nil
	}
	a := admit(ours, r.running(), r.jobOrWhatItWas(ctx), r.o.Limits(), now)
	if slices.ContainsFunc(a.start, func(run Run) bool { return due(run.StartBy, now) }) {
		r.lookedLate = time.Time{} // once they have begun nobody can tell
		r.tellLate(ctx, now)
	}
	if len(a.end) > 0 {
		if err := r.drop(ctx, ours, a.end); err != nil {
			return a.wake, err
		}
	}
	for _, run := range a.stop {
		r.replace(ctx, run)
	}
	if err := r.claim(ctx, a.start, now); err != nil {
		return a.wake, err
	}
	if len(a.waits) > 0 { // what they wait for is told when nothing waits for that
		if err := r.o.Store.Note(ctx, a.waits); err != nil {
			return a.wake, err
		}
		r.o.Changed()
	}
	return a.wake, nil
}

// ours leaves the waiting runs that we may start.
func (r *Runner) ours(waiting []Run) []Run {
	return slices.DeleteFunc(waiting, func(run Run) bool { return run.Attempt == 0 && run.QueuedAt.Before(r.o.Since) })
}

// running lists the runs with a living attempt.
func (r *Runner) running() []Run {
	return slices.SortedFunc(maps.Values(r.live), func(a, b Run) int { return strings.Compare(a.ID, b.ID) })
}

// drop ends runs that will not be started.
func (r *Runner) drop(ctx context.Context, waiting []Run, moves []Move) error {
	byID := map[string]Run{}
	for _, run := range waiting {
		byID[run.ID] = run
	}
	_, err := r.o.Store.Move(ctx, moves...)
	if err != nil {
		return err
	}
	for _, m := range moves {
		r.o.Log.Info("a run went on", "job", byID[m.Run].Name, "run", m.Run, "state", m.To, "reason", m.Reason)
	}
	r.o.Changed()
	r.Kick() // a run that waited for one of these may start
	return nil
}

// replace ends a running run for another. Why is written down first: its end
// may be seen by the next daemon.
func (r *Runner) replace(ctx context.Context, run Run) {
	if r.told[run.ID] == run.Attempt {
		return // it takes its time
	}
	if r.live[run.ID].Reason != run.Reason {
		if err := r.o.Store.Note(ctx, map[string]string{run.ID: run.Reason}); err != nil {
			r.o.Log.Error("replace a run", "run", run.ID, "error", err)
			return
		}
		r.live[run.ID] = run
	}
	crash.Point(crash.Replaced)
	r.o.Log.Info("replace a run", "job", run.Name, "run", run.ID, "reason", run.Reason)
	if err := r.stop(ctx, run, proc.Stop, run.Reason); err != nil {
		r.o.Log.Error("replace a run", "run", run.ID, "error", err)
		r.doubtful[run.ID] = true // and it is told again
		return
	}
	r.told[run.ID] = run.Attempt
}

func (r *Runner) job(run Run) (plan.Job, bool) { return r.o.Job(run.Job) }

// jobOrWhatItWas gives the job of a run and whether it is still there. One that is
// not takes what it took when the run began: whoever removes the lines of a crontab
// takes no slots from the jobs of a belfry.yaml.
func (r *Runner) jobOrWhatItWas(ctx context.Context) func(Run) (plan.Job, bool) {
	return func(run Run) (plan.Job, bool) {
		j, known := r.job(run)
		if known || run.Definition == "" {
			return j, known
		}
		was, remembered := r.removed[run.Definition]
		if !remembered {
			var err error
			if was, err = r.definition(ctx, run); err != nil {
				r.o.Log.Error("look at a run whose job was removed", "run", run.ID, "error", err)
				return j, false
			}
			if len(r.removed) >= 2000 {
				clear(r.removed)
			}
			r.removed[run.Definition] = was
		}
		return plan.Job{Job: was}, false
	}
}

// definitionOf remembers the definitions of jobs that ran lately.
func (r *Runner) definitionOf(j *job.Job) job.Definition {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := weak.Make(j) // one that is loaded no more would keep all that was read with it
	d, known := r.defined[at]
	if !known {
		if len(r.defined) >= 2000 {
			clear(r.defined)
		}
		d = j.Definition()
		r.defined[at] = d
	}
	return d
}

// definition is the job as the run began with it. The values of the
// environment are today's: they are stored nowhere.
func (r *Runner) definition(ctx context.Context, run Run) (*job.Job, error) {
	now, known := r.job(run)
	if known && r.definitionOf(now.Job).Hash == run.Definition {
		return now.Job, nil
	}
	text, err := r.o.Store.Definition(ctx, run.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of run %s: %w", run.ID, err)
	}
	stored, err := job.ParseDefinition(text)
	if err != nil {
		return nil, err
	}
	if known {
		stored.Env = now.Env
	}
	return stored, nil
}

// Dir is the directory of an attempt: records, log and output.
func (r *Runner) Dir(run string, attempt int) string {
	return AttemptDir(r.o.Dir, run, attempt)
}

// AttemptDir is the directory of an attempt below the one of all runs.
func AttemptDir(dir, run string, attempt int) string {
	return filepath.Join(dir, run, strconv.Itoa(attempt))
}

const outputName = "output"

// output is where an attempt leaves what is to be published.
func (r *Runner) output(run string, attempt int) string {
	return filepath.Join(r.Dir(run, attempt), outputName)
}

// batches are how many runs are claimed and started together: few at first, so
// that the first process is there at once, then so many that the keeper starts
// them while the next are claimed.
var batches = []int{16, 64, 200}

// claim makes the runs ours, durably, and then starts them.
func (r *Runner) claim(ctx context.Context, runs []Run, now time.Time) error {
	for i := 0; len(runs) > 0; i++ {
		n := min(batches[min(i, len(batches)-1)], len(runs))
		if err := r.claimBatch(ctx, runs[:n], now); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

func (r *Runner) claimBatch(ctx context.Context, runs []Run, now time.Time) error {
	claims := r.claims(runs, now)
	crash.Point(crash.Admitted)
	claimed, err := r.o.Store.Claim(ctx, claims)
	if err != nil {
		return fmt.Errorf("claim %d runs: %w", len(claims), err)
	}
	crash.Point(crash.Claimed)
	r.start(ctx, r.claimed(claims, claimed))
	r.o.Changed()
	return nil
}

// claims takes each of the runs for its next attempt.
func (r *Runner) claims(runs []Run, now time.Time) []Claim {
	claims := make([]Claim, 0, len(runs))
	for _, run := range runs {
		j, known := r.job(run)
		if !known {
			continue // removed since it was admitted
		}
		c := Claim{
			run: run, Run: run.ID, Attempt: run.Attempt + 1, Token: run.Token + 1, Node: r.o.Node, Boot: r.o.Boot,
			Definition: r.definitionOf(j.Job), At: now,
		}
		if len(j.Publish) > 0 {
			// An error ends the attempt in start.
			if host, err := r.o.Host.Of(j.Owner); err == nil {
				if env, err := environ(j.Job, run, c.Attempt, r.output(run.ID, c.Attempt), host); err == nil {
					c.Targets, _ = targets(j.Job, env)
				}
			}
		}
		claims = append(claims, c)
	}
	return claims
}

// claimed gives the runs of the claims that were granted: they are ours.
func (r *Runner) claimed(claims []Claim, granted []bool) []Run {
	var ours []Run
	for i, c := range claims {
		if granted[i] {
			run := c.claimed()
			r.live[run.ID] = run
			ours = append(ours, run)
		}
	}
	return ours
}

// beginning is an attempt that is to be started, or the reason why it cannot be.
type beginning struct {
	run     Run
	job     *job.Job
	spec    proc.Spec
	secrets []string // of its environment
	err     error
}

// start hands claimed runs to the keeper, which takes each attempt only once.
func (r *Runner) start(ctx context.Context, runs []Run) {
	list := make([]beginning, len(runs))
	for i, run := range runs {
		list[i] = r.ready(ctx, run)
	}
	specs := specsOf(list)
	r.begin(ctx, list, func(ctx context.Context) error { return r.o.Procs.Start(ctx, specs) })
}

// specsOf gives what the keeper gets of those that can be started.
func specsOf(list []beginning) (specs []proc.Spec) {
	for _, b := range list {
		if b.err == nil {
			specs = append(specs, b.spec)
		}
	}
	return specs
}

// begin has attempts started.
func (r *Runner) begin(ctx context.Context, list []beginning, start func(ctx context.Context) error) {
	if len(list) == 0 {
		return
	}
	crash.Point(crash.Prepared)
	err := start(ctx)
	crash.Point(crash.Started)
	var failed []ending
	for _, b := range list {
		switch {
		case b.err != nil:
			delete(r.doubtful, b.run.ID)
			failed = append(failed, r.refused(ctx, b.run, b.err)...)
			continue
		case err != nil:
			r.doubtful[b.run.ID] = true
		default:
			delete(r.doubtful, b.run.ID)
			r.o.Log.Info("started", "job", b.run.Name, "run", b.run.ID, "attempt", b.run.Attempt)
		}
		r.began(b.run, b.job, b.secrets, nil)
	}
	r.end(ctx, failed)
	if err != nil {
		r.o.Log.Error("hand runs to the keeper", "runs", len(list)-len(failed), "error", err)
	}
}

// ready makes what a claimed run needs to be started, its directories among it.
func (r *Runner) ready(ctx context.Context, run Run) beginning {
	b := beginning{run: run}
	b.err = r.specify(ctx, &b)
	return b
}

func (r *Runner) specify(ctx context.Context, b *beginning) error {
	run := b.run
	if _, known := r.job(run); !known {
		return errors.New("the job was removed before it could be started")
	}
	j, err := r.definition(ctx, run) // as it was claimed, maybe by the daemon before this one
	if err != nil {
		return err
	}
	dir, output := r.Dir(run.ID, run.Attempt), r.output(run.ID, run.Attempt)
	host, err := r.o.Host.Of(j.Owner)
	if err != nil {
		return err
	}
	env, err := environ(j, run, run.Attempt, output, host)
	if err != nil {
		return err
	}
	if _, err := targets(j, env); err != nil {
		return err
	}
	if err := r.makeDirs(run, host.Credential, len(j.Publish) > 0); err != nil {
		return fmt.Errorf("make the attempt's directory: %w", err)
	}
	cwd := j.Dir
	if cwd == "" {
		cwd, _ = env.Lookup("HOME")
	}
	cwdElse := ""
	if j.Crontab {
		cwdElse = host.Homeless
	}
	args := j.Command.Argv()
	if j.Python.Wanted() {
		args = r.o.Python(j, dir)
	}
	var limits []proc.Limit
	for _, l := range j.Limits {
		limits = append(limits, proc.Limit(l))
	}
	b.job, b.secrets = j, hidden(j, env, r.o.Host)
	b.spec = proc.Spec{
		Run: run.ID, Attempt: run.Attempt, Token: run.Token, Dir: dir,
		Args: args, Env: env.Strings(), Cwd: cwd, CwdElse: cwdElse, Credential: host.Credential,
		Stdin: []byte(j.Stdin), StdinNull: !j.Crontab && j.Stdin == "",
		Timeout: j.Timeout, KillAfter: j.KillAfter,
		LogLimit: max(cmp.Or(j.LogLimit, job.DefaultLogLimit), 0),
		Umask:    j.Umask, Nice: j.Nice, Limits: limits,
	}
	return nil
}

// PublishLock is the name, beside an attempt's output, of the file that is locked
// by whoever publishes it.
const PublishLock = "publish.lock"

// makeDirs makes the attempt's directory and the one for its output. For another
// user than the daemon's, the output and the lock of its publisher become that
// user's. The directory does not: so its owner can put nothing in the place of its
// records and its log, which we open.
func (r *Runner) makeDirs(run Run, owner *proc.Credential, publishes bool) error {
	dir := r.Dir(run.ID, run.Attempt)
	if run.Attempt > 1 || !r.spares.take(filepath.Dir(dir)) {
		if err := r.makeEmptyDirs(run); err != nil {
			return err
		}
	}
	if owner == nil {
		return nil
	}
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o711); err != nil { // the way to the output
			return err
		}
	}
	theirs := []string{r.output(run.ID, run.Attempt)}
	if publishes {
		lock := filepath.Join(dir, PublishLock)
		if err := os.WriteFile(lock, nil, 0o600); err != nil {
			return err
		}
		theirs = append(theirs, lock)
	}
	for _, path := range theirs {
		if err := os.Lchown(path, int(owner.UID), int(owner.GID)); err != nil {
			return err
		}
	}
	return nil
}

// makeEmptyDirs makes the directories; os.MkdirAll would look at each folder above
// first.
func (r *Runner) makeEmptyDirs(run Run) error {
	dir := r.Dir(run.ID, run.Attempt)
	for _, path := range []string{filepath.Dir(dir), dir, r.output(run.ID, run.Attempt)} {
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(path, 0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// JobOf gives the job of a run, as the run began with it.
func (r *Runner) JobOf(ctx context.Context, id string) (*job.Job, error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.definition(ctx, run)
}

// inEnvironOf is a job as its run began with it, whose variables come from where
// the job has them now: credentials are changed, and what was refused is mended
// by that. Another owner's are not for it.
func inEnvironOf(began, now *job.Job) *job.Job {
	settings := *began.Settings
	if now.Owner == began.Owner {
		settings.Env, settings.EnvFile, settings.Secrets, settings.SecretsFile = now.Env, now.EnvFile, now.Secrets, now.SecretsFile
	}
	mended := *began
	mended.Settings = &settings
	return &mended
}

// Environ gives the whole environment of a run's newest attempt, with what the
// job's env, env_file and secrets say today, whom it ran as, nil for the daemon's
// own user, and a function that stars its secrets in a text: its publisher works
// in it, as that one, and what it says goes through that.
func (r *Runner) Environ(ctx context.Context, id string) (env []string, as *proc.Credential, hush func(string) string, err error) {
	run, err := r.o.Store.Run(ctx, id)
	if err != nil {
		return nil, nil, nil, err
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return nil, nil, nil, err
	}
	if now, known := r.job(run); known {
		j = inEnvironOf(j, now.Job)
	}
	host, err := r.o.Host.Of(j.Owner)
	if err != nil {
		return nil, nil, nil, err
	}
	vars, err := environ(j, run, run.Attempt, r.output(id, run.Attempt), host)
	if err != nil {
		return nil, nil, nil, err
	}
	return vars.Strings(), host.Credential, secrets.Veil(guarded(j, vars, host)), nil
}

package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"belfry/internal/crash"
	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/proc"
	"belfry/internal/python"
)

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

// ending is the end of a running attempt, decided and not yet written down.
type ending struct {
	run  Run
	move Move
}

// ends takes the runs whose attempts have ended to what comes next. It reports
// whether there was any of which something is to be told or looked at.
func (r *Runner) ends(ctx context.Context, events []proc.Event) bool {
	var list []ending
	some := false
	seen := map[string]bool{} // an end may be told twice
	for _, event := range events {
		if run, known := r.live[event.Run]; known && event.Started != nil && run.Attempt == event.Attempt && r.o.Started != nil {
			r.o.Started(run, *event.Started)
		}
		switch {
		case event.Doubt: // another keeper has or had it: its records decide
			r.doubtful[event.Run] = true
			some = true
			continue
		case event.Exit == nil || seen[event.Run]:
			continue
		}
		some = true
		run, known := r.live[event.Run]
		if !known {
			var err error
			run, err = r.o.Store.Run(ctx, event.Run)
			switch {
			case errors.Is(err, ErrNotFound): // the store is new, or an older one was put back
				r.o.Log.Warn("a run has ended that is not in the store", "run", event.Run, "attempt", event.Attempt)
				r.forget(event.Run, event.Attempt)
				continue
			case err != nil:
				r.o.Log.Error("read a run that ended", "run", event.Run, "error", err)
				continue // its record stays, and is found when all are looked at
			}
		}
		if run.State != Running || run.Attempt != event.Attempt || run.Token != event.Token {
			r.forget(event.Run, event.Attempt) // told before: its end is durable
			continue
		}
		seen[event.Run] = true
		list = append(list, r.ended(ctx, run, *event.Exit)...)
	}
	r.end(ctx, list)
	return some
}

func (r *Runner) forget(run string, attempt int) {
	if err := r.o.Procs.Forget(run, attempt); err != nil {
		r.o.Log.Debug("forget an attempt", "run", run, "attempt", attempt, "error", err)
	}
}

// ended decides what comes of a run whose attempt has ended; nothing when that
// cannot be known now, and the run is in doubt.
func (r *Runner) ended(ctx context.Context, run Run, exit proc.Exit) []ending {
	j, err := r.definition(ctx, run)
	if err != nil {
		return r.doubt(run, "end a run", err)
	}
	if j.Python.Wanted() && exit.Code == python.ExitRefused {
		exit.Error = cmp.Or(exit.Error, python.Refusal(r.Dir(run.ID, run.Attempt)))
	}
	if !exit.LeaseLost { // it may speak of the environment: where a program was looked for
		exit.Error = r.hush(j, run, exit.Error)
	}
	return r.decide(ctx, j, run, exit)
}

// refused decides what comes of a run whose attempt was not handed to the keeper.
// why names variables and never what they hold.
func (r *Runner) refused(ctx context.Context, run Run, why error) []ending {
	now := r.o.Now()
	exit := proc.Exit{Code: -1, Error: why.Error(), StartedAt: now, EndedAt: now}
	if r.doubtful[run.ID] { // it was handed to one before, maybe by the daemon before this one
		switch err := r.void(run, exit); {
		case errors.Is(err, fs.ErrExist):
			return nil // and was begun: its records decide
		case err != nil:
			return r.doubt(run, "end a run", err)
		}
		delete(r.doubtful, run.ID)
	}
	j, err := r.definition(ctx, run)
	if err != nil {
		return r.doubt(run, "end a run", err)
	}
	return r.decide(ctx, j, run, exit)
}

// decide is ended, for an exit whose error may be written down.
func (r *Runner) decide(ctx context.Context, j *job.Job, run Run, exit proc.Exit) []ending {
	to, reason := outcome(j, run, exit)
	m := Move{To: to, Reason: reason, Ended: &Attempt{
		Run: run.ID, Number: run.Attempt, EndedAt: exit.EndedAt, Signal: exit.Signal, Reason: reason,
		UserCPU: exit.UserCPU, SystemCPU: exit.SystemCPU, MaxRSS: exit.MaxRSS, MaxRSSExact: exit.MaxRSSExact,
	}}
	if exit.Error == "" && exit.Signal == "" {
		m.Ended.ExitCode = &exit.Code
	}
	if to == Publishing {
		list, err := r.o.Store.Targets(ctx, run.ID, run.Attempt)
		if err != nil {
			return r.doubt(run, "read the targets of a run", err)
		}
		if len(list) == len(j.Publish) {
			m.Owed = []outbox.Item{r.o.Publish(j, run, exit.StartedAt, r.output(run.ID, run.Attempt), list)}
		} else { // its env_file, say, was mended between its claim and its start
			m.To, m.Reason = Failed, "publish: its targets were not known when it was claimed"
			m.Ended.Reason = m.Reason
		}
	}
	return []ending{r.next(ctx, j, run, m)}
}

func (r *Runner) doubt(run Run, doing string, err error) []ending {
	r.o.Log.Error("decide what comes of a run", "doing", doing, "run", run.ID, "error", err)
	r.doubtful[run.ID] = true
	return nil
}

// lost decides what comes of a run of which nothing is left.
func (r *Runner) lost(ctx context.Context, run Run, reason string) []ending {
	j, err := r.definition(ctx, run)
	if err != nil {
		return r.doubt(run, "end a lost run", err)
	}
	m := Move{To: Lost, Reason: reason}
	if meant, killed := r.killed[run.ID]; killed {
		m = meant
	}
	m.Ended = &Attempt{Run: run.ID, Number: run.Attempt, EndedAt: r.o.Now(), Reason: m.Reason}
	return []ending{r.next(ctx, j, run, m)}
}

// next completes the move of a running run to its next state, with a retry where
// the job allows one and the news where somebody wants it.
func (r *Runner) next(ctx context.Context, j *job.Job, run Run, m Move) ending {
	now := r.o.Now()
	m.Run, m.From, m.Token, m.At = run.ID, Running, run.Token, now
	if (m.To == Failed || m.To == Lost) && retries(j.Retry, run.Attempt, m.Ended.ExitCode) {
		m.Reason = fmt.Sprintf(retryReason+"attempt %d of %d ended: %s", run.Attempt, j.Retry.Attempts, m.Reason)
		m.To, m.NotBefore = Queued, now.Add(backoff(j.Retry, run.Attempt, rand.Float64()))
	}
	m.Owed = append(m.Owed, r.news(ctx, j, run, m)...)
	return ending{run, m}
}

// retries reports whether the n-th attempt is followed by another. code is nil
// when it has none: it was killed, took too long, or could not be started.
func retries(retry job.Retry, n int, code *int) bool {
	if n >= retry.Attempts {
		return false
	}
	return len(retry.OnExit) == 0 || code != nil && slices.Contains(retry.OnExit, *code)
}

// end makes the next states of running runs durable, all or none, and lets the
// keeper forget.
func (r *Runner) end(ctx context.Context, list []ending) {
	if len(list) == 0 {
		return
	}
	moves := make([]Move, len(list))
	for i, e := range list {
		moves[i] = e.move
	}
	crash.Point(crash.Ended)
	void, err := r.o.Store.Move(ctx, moves...)
	if err != nil {
		r.o.Log.Error("write how runs ended", "runs", len(list), "error", err)
		for _, e := range list {
			r.doubtful[e.run.ID] = true // the record is still there: try again, and not at once
		}
		return
	}
	crash.Point(crash.Settled)
	for i, e := range list {
		switch {
		case void[i]: // somebody else's decision stands
			r.o.Log.Debug("a run had changed", "run", e.run.ID, "to", e.move.To)
		case e.move.To != Queued:
			r.o.Log.Info("a run went on", "job", e.run.Name, "run", e.run.ID, "state", e.move.To, "reason", e.move.Reason)
		}
		delete(r.live, e.run.ID)
		delete(r.doubtful, e.run.ID)
		delete(r.killed, e.run.ID)
		delete(r.told, e.run.ID)
		r.forget(e.run.ID, e.run.Attempt)
		r.finished(e.run, *e.move.Ended)
	}
	crash.Point(crash.Forgotten)
	r.o.Changed()
	r.Kick() // places are free, or a retry has its time: the pass that called us does not know
}

// outcome says what the exit of an attempt means for its run, before retries.
func outcome(j *job.Job, run Run, exit proc.Exit) (State, string) {
	switch {
	case exit.LeaseLost: // another node may have it since
		return Lost, cmp.Or(exit.Error, "its lease ran out, and its keeper ended it")
	case exit.Stopped && (run.Reason == withDaemon || strings.HasPrefix(run.Reason, replacedReason)):
		return asked(run.Reason), run.Reason
	case exit.Stopped: // also before it was started, which is an error as well
		return Cancelled, stopped
	case exit.Error != "":
		return Failed, exit.Error
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

const longestBackoff = 24 * time.Hour

// backoff is the wait before the next attempt, after the n-th: between half of
// and all of Backoff·2ⁿ⁻¹, so that many jobs do not come back at once.
func backoff(retry job.Retry, n int, chance float64) time.Duration {
	wait := min(retry.Backoff, longestBackoff)
	for range n - 1 {
		if wait *= 2; retry.MaxBackoff > 0 && wait > retry.MaxBackoff || wait > longestBackoff {
			break
		}
	}
	if retry.MaxBackoff > 0 {
		wait = min(wait, retry.MaxBackoff)
	}
	wait = min(wait, longestBackoff)
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
	if m.To.Finished() && due(run.FinishBy, m.At) { // nobody was there to tell it in time
		tell(job.OnLate)
	}
	return items
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
		} else {
			m.Published, m.Reason = r.o.Published(item.Result)
		}
		m.Owed = r.news(ctx, j, run, m)
		void, err := r.o.Store.Move(ctx, m)
		if err != nil || void[0] { // somebody gave it up meanwhile
			return err
		}
		r.o.Log.Info("a run went on", "job", run.Name, "run", m.Run, "state", m.To, "reason", m.Reason)
		r.o.Changed()
		r.Kick()
		return nil
	})
}

package run

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
)

// Limits bound how many attempts run at once.
type Limits struct {
	Slots int            // of the jobs of a belfry.yaml
	Pools map[string]int // places of each owner in each named pool; a pool that is not there has none
}

// admission is what is to become of the runs that wait.
type admission struct {
	start []Run
	end   []Move            // of runs that will not be started
	stop  []Run             // running ones that another takes the place of, Reason says which
	waits map[string]string // run → what it waits for, where that has changed
	wake  time.Time         // when the next retry is due; zero: none waits
}

// retryReason is the beginning of the reason of a run that waits for its retry.
const retryReason = "retry: "

// replacedReason is the beginning of the reason of a run that is to end for
// another, by which its end is told from one that a person wanted.
const replacedReason = "replaced by run "

// admit decides which of the waiting runs may start now. waiting is in the
// order in which they were queued, running are the runs with a living attempt.
// A run that waits for its retry counts as running for all others of its job. Of a
// job that was removed jobOf may still give what it was.
func admit(waiting, running []Run, jobOf func(Run) (plan.Job, bool), limits Limits, now time.Time) admission {
	a := admission{waits: map[string]string{}}
	owners := map[string]string{} // of the runs that start
	p := places{limits: limits, busy: map[string][]Run{}, pools: map[pool]int{}, newest: map[string]Run{}}
	for _, r := range running {
		j, _ := jobOf(r)
		p.occupy(r, j)
	}
	for _, r := range waiting {
		j, known := jobOf(r)
		if known && j.Overlap == job.OverlapReplace && !j.Paused && replaces(j, r) {
			p.newest[r.Job] = r
		}
	}
	for _, r := range waiting {
		if r.Attempt > 0 && !p.replaced(r) {
			p.busy[r.Job] = append(p.busy[r.Job], r)
		}
	}
	// A firing is never kept waiting by the runs of a backfill that came before it.
	waiting = slices.Clone(waiting)
	slices.SortStableFunc(waiting, func(x, y Run) int { return min(x.Parallel, 1) - min(y.Parallel, 1) })
	for _, r := range waiting {
		if p.replaced(r) {
			a.drop(r, Cancelled, replacedReason+p.newest[r.Job].ID, now)
			continue
		}
		// A wait that is longer than any can be was written by a clock that was wrong.
		if wait := r.NotBefore.Sub(now); wait > 0 && wait <= longestBackoff {
			if a.wake.IsZero() || r.NotBefore.Before(a.wake) {
				a.wake = r.NotBefore
			}
			continue
		}
		j, known := jobOf(r)
		if !known && r.Attempt > 0 && strings.HasPrefix(r.Reason, retryReason) { // it has failed, and was not passed over
			a.drop(r, Cancelled, "the job was removed before its "+r.Reason, now)
			continue
		}
		if !known {
			a.drop(r, Skipped, "the job was removed", now)
			continue
		}
		v := p.judge(j, r)
		for _, other := range v.replaces {
			other.Reason = replacedReason + r.ID
			a.stop = append(a.stop, other)
		}
		switch {
		case v.skip != "":
			a.drop(r, Skipped, v.skip, now)
		case v.wait != "":
			if r.Reason != v.wait {
				a.waits[r.ID] = v.wait
			}
		default:
			a.start = append(a.start, r)
			owners[r.ID] = j.Owner
			p.occupy(r, j)
		}
	}
	a.start = inTurns(a.start, owners)
	return a
}

// inTurns has the first run of each owner before the second of any: whoever has
// ten thousand jobs at one minute keeps nobody else's waiting. Those of one owner
// stay in their order.
func inTurns(runs []Run, owners map[string]string) []Run {
	turn, before := map[string]int{}, map[string]int{} // run → how many of its owner's are before it
	for _, r := range runs {
		turn[r.ID] = before[owners[r.ID]]
		before[owners[r.ID]]++
	}
	slices.SortStableFunc(runs, func(x, y Run) int { return turn[x.ID] - turn[y.ID] })
	return runs
}

func (a *admission) drop(r Run, to State, reason string, now time.Time) {
	a.end = append(a.end, Move{Run: r.ID, From: Queued, To: to, Reason: reason, At: now})
}

// places are what running attempts take.
type places struct {
	limits Limits
	busy   map[string][]Run // job → its runs that count for overlap
	slots  int              // taken
	pools  map[pool]int     // taken in each
	newest map[string]Run   // job that replaces → its newest run that waits to begin
}

// pool is one of an owner's. Of the machine's users each has pools of their own: a
// job that never ends takes a place from nobody else, and who waits learns of
// nobody else's.
type pool struct{ owner, name string }

func (p *places) occupy(r Run, j plan.Job) {
	r.State = Running
	p.busy[r.Job] = append(p.busy[r.Job], r)
	if j.Job == nil {
		p.slots++
		return
	}
	if !j.Crontab {
		p.slots++
	}
	for _, name := range j.Pools {
		p.pools[pool{j.Owner, name}]++
	}
}

// replaced reports whether r has begun and waits for its retry while another
// run waits to take its place.
func (p *places) replaced(r Run) bool {
	return r.Attempt > 0 && r.Parallel == 0 && p.newest[r.Job].ID != ""
}

// verdict is what is to become of one run that waits: with neither reason, it
// may start.
type verdict struct {
	skip, wait string
	replaces   []Run // running ones that are to end for it
}

func (p *places) judge(j plan.Job, r Run) verdict {
	if j.Paused && r.AskedAt.IsZero() {
		if r.Attempt > 0 {
			return verdict{wait: "paused: the retry comes when the job is resumed"}
		}
		return verdict{skip: plan.PausedReason}
	}
	if v := p.overlap(j, r); v.skip != "" || v.wait != "" {
		return v
	}
	if !j.Crontab && p.slots >= p.limits.Slots {
		return verdict{wait: fmt.Sprintf("slot: all %d are taken", p.limits.Slots)}
	}
	for _, name := range j.Pools {
		if n := p.limits.Pools[name]; p.pools[pool{j.Owner, name}] >= n {
			return verdict{wait: fmt.Sprintf("pool: all %d of %s are taken", n, name)}
		}
	}
	return verdict{}
}

// patient reports whether r waits for its turn whatever the policy: a person
// asked for it, it has begun already, or all that was missed is wanted: by its
// job, or by the one that it comes after.
func patient(j plan.Job, r Run) bool {
	return !r.AskedAt.IsZero() || r.Attempt > 0 || caughtUp(j, r)
}

// caughtUp reports whether r is one of all that was missed.
func caughtUp(j plan.Job, r Run) bool {
	return r.Cause == plan.CatchUp && (j.CatchUp == job.CatchUpAll || len(j.After) > 0)
}

// replaces reports whether r takes the place of others where the policy is
// replace: each new firing does, and each run that a person begins.
func replaces(j plan.Job, r Run) bool {
	return !patient(j, r) || r.Cause == plan.Manual && r.Attempt == 0
}

// overlap decides by the other runs of the job (DESIGN.md §5). Two attempts for
// one firing never run at once, whatever the policy. Of two runs that are both
// between attempts (their job was allow before) neither waits for the other: both
// would wait for ever.
func (p *places) overlap(j plan.Job, r Run) verdict {
	others := slices.DeleteFunc(slices.Clone(p.busy[r.Job]), func(other Run) bool {
		return other.ID == r.ID || r.Attempt > 0 && other.State == Queued
	})
	if n := p.newest[r.Job]; n.ID != "" && n.ID != r.ID && replaces(j, r) {
		return verdict{skip: "superseded by run " + n.ID}
	}
	if len(others) == 0 {
		return verdict{}
	}
	turn := verdict{wait: fmt.Sprintf("turn: run %s has not ended", others[0].ID)}
	at := slices.IndexFunc(others, func(other Run) bool { return other.FiresAt.Equal(r.FiresAt) })
	if at >= 0 {
		turn.wait = fmt.Sprintf("turn: run %s has not ended", others[at].ID)
	}
	if r.Parallel > 0 && at < 0 { // without a name: it would be written anew for each of many, each time that one ends
		turn.wait = "turn: one run at a time, and another has not ended"
		if r.Parallel > 1 {
			turn.wait = fmt.Sprintf("turn: %d runs at a time, and others have not ended", r.Parallel)
		}
	}
	if r.Parallel > 0 && j.Overlap == job.OverlapAllow { // only its own backfill bounds it
		mine := slices.DeleteFunc(slices.Clone(others), func(other Run) bool { return other.Backfill != r.Backfill })
		if at >= 0 || len(mine) >= r.Parallel {
			return turn
		}
		return verdict{}
	}
	if at < 0 && j.Overlap == job.OverlapAllow {
		return verdict{}
	}
	// A backfill may run so many beside each other, and a firing takes one of
	// these places.
	parallel := r.Parallel
	ordinary := -1 // the first of others that is of no backfill
	for i, other := range others {
		parallel = max(parallel, other.Parallel)
		if ordinary < 0 && other.Parallel == 0 {
			ordinary = i
		}
	}
	if at < 0 && len(others) < parallel && (r.Parallel > 0 || ordinary < 0) {
		return verdict{}
	}
	if r.Parallel > 0 || ordinary < 0 {
		return turn
	}
	switch {
	case j.Overlap == job.OverlapReplace && replaces(j, r):
		for _, other := range others {
			if other.Parallel == 0 {
				turn.replaces = append(turn.replaces, other)
			}
		}
	case j.Overlap == job.OverlapSkip && !patient(j, r) && !caughtUp(j, others[ordinary]):
		return verdict{skip: fmt.Sprintf("overlap: run %s had not ended", others[ordinary].ID)}
	}
	return turn
}

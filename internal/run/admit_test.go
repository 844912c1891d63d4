package run

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/plan"
)

var night = time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC)

func TestAdmitDecidesWhatMayStart(t *testing.T) {
	t.Parallel()
	at := func(hours int) time.Time { return night.Add(time.Duration(hours) * time.Hour) }
	// A run's job is the first letter of its id.
	waits := func(id string, firesAt int) Run {
		return Run{ID: id, Job: id[:1], State: Queued, Cause: plan.Scheduled, FiresAt: at(firesAt)}
	}
	runs := func(id string, firesAt int) Run {
		r := waits(id, firesAt)
		r.State, r.Attempt = Running, 1
		return r
	}
	retry := func(id string, firesAt int, in time.Duration) Run {
		r := waits(id, firesAt)
		r.Attempt, r.NotBefore = 1, night.Add(in)
		return r
	}
	asked := func(r Run) Run { r.AskedAt = night; return r }
	manual := func(r Run) Run { r.Cause = plan.Manual; return asked(r) }
	caughtUp := func(r Run) Run { r.Cause = plan.CatchUp; return r }
	backfill := func(r Run, parallel int) Run {
		r.Cause, r.Backfill, r.Parallel = plan.Backfill, "B", parallel
		return asked(r)
	}
	noted := func(r Run, reason string) Run { r.Reason = reason; return r }
	const skip, queue, replace, allow = job.OverlapSkip, job.OverlapQueue, job.OverlapReplace, job.OverlapAllow

	for _, c := range []struct {
		why              string
		overlap          job.Overlap
		waiting, running []Run
		slots            int // 0: 10
		crontab, paused  bool
		catchUp          job.CatchUp
		after            []string
		start            string
		skip, waits      string // id=reason, "; " between
		cancel, stop     string // the same
		wake             time.Duration
	}{
		{why: "nothing waits", overlap: skip},
		{why: "it is free", overlap: skip, waiting: []Run{waits("a1", 0)}, start: "a1"},
		{why: "skip: the one before runs", overlap: skip, waiting: []Run{waits("a2", 1)}, running: []Run{runs("a1", 0)}, skip: "a2=overlap: run a1 had not ended"},
		{why: "queue: it waits for the one before", overlap: queue, waiting: []Run{waits("a2", 1)}, running: []Run{runs("a1", 0)}, waits: "a2=turn: run a1 has not ended"},
		{why: "allow: beside the one before", overlap: allow, waiting: []Run{waits("a2", 1)}, running: []Run{runs("a1", 0)}, start: "a2"},
		{why: "another job is no matter", overlap: skip, waiting: []Run{waits("b1", 0)}, running: []Run{runs("a1", 0)}, start: "b1"},
		{why: "skip: of two that wait the first starts", overlap: skip, waiting: []Run{waits("a1", 0), waits("a2", 1)}, start: "a1", skip: "a2=overlap: run a1 had not ended"},
		{why: "queue: of two that wait the first starts", overlap: queue, waiting: []Run{waits("a1", 0), waits("a2", 1)}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "allow: both, in order", overlap: allow, waiting: []Run{waits("a2", 1), waits("a1", 0)}, start: "a2 a1"},
		{why: "allow: never two attempts of one firing", overlap: allow, waiting: []Run{waits("a2", 0)}, running: []Run{runs("a1", 0)}, waits: "a2=turn: run a1 has not ended"},
		{why: "allow: nor two that wait", overlap: allow, waiting: []Run{waits("a1", 0), waits("a2", 0)}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "by hand it waits instead of being skipped", overlap: skip, waiting: []Run{manual(waits("a2", 1))}, running: []Run{runs("a1", 0)}, waits: "a2=turn: run a1 has not ended"},
		{why: "a reason that stands is not written again", overlap: queue, waiting: []Run{noted(waits("a2", 1), "turn: run a1 has not ended")}, running: []Run{runs("a1", 0)}},

		{why: "a retry is not due", overlap: skip, waiting: []Run{retry("a1", 0, time.Minute)}, wake: time.Minute},
		{why: "a retry that waits longer than any can was written by a wrong clock", overlap: skip, waiting: []Run{retry("a1", 0, 4*365*24*time.Hour)}, start: "a1"},
		{why: "a retry is due", overlap: skip, waiting: []Run{retry("a1", 0, 0)}, start: "a1"},
		{why: "the first of the retries wakes", overlap: allow, waiting: []Run{retry("a1", 0, time.Hour), retry("b1", 0, time.Second), retry("c1", 0, time.Minute)}, wake: time.Second},
		{why: "skip: one that waits for its retry counts as running", overlap: skip, waiting: []Run{retry("a1", 0, time.Minute), waits("a2", 1)}, skip: "a2=overlap: run a1 had not ended", wake: time.Minute},
		{why: "queue: so too", overlap: queue, waiting: []Run{waits("a2", 1), retry("a1", 0, time.Minute)}, waits: "a2=turn: run a1 has not ended", wake: time.Minute},
		{why: "allow: so for the same firing", overlap: allow, waiting: []Run{retry("a1", 0, time.Minute), manual(waits("a2", 0))}, waits: "a2=turn: run a1 has not ended", wake: time.Minute},
		{why: "allow: beside a retry of another firing", overlap: allow, waiting: []Run{retry("a1", 0, time.Minute), waits("a2", 1)}, start: "a2", wake: time.Minute},
		{why: "a retry is never skipped, it waits", overlap: skip, waiting: []Run{retry("a1", 0, 0)}, running: []Run{runs("a2", 1)}, waits: "a1=turn: run a2 has not ended"},
		{why: "two retries of a job that was allow before do not wait for each other", overlap: skip, waiting: []Run{retry("a1", 0, 0), retry("a2", 1, 0)}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "nor does one that is due for one that is not", overlap: queue, waiting: []Run{retry("a1", 0, time.Minute), retry("a2", 1, 0)}, start: "a2", wake: time.Minute},

		{why: "no slot is free", overlap: allow, slots: 1, waiting: []Run{waits("b1", 0)}, running: []Run{runs("a1", 0)}, waits: "b1=slot: all 1 are taken"},
		{why: "slots are given in order", overlap: allow, slots: 2, waiting: []Run{waits("c1", 0), waits("b1", 0), waits("d1", 0)}, running: []Run{runs("a1", 0)}, start: "c1", waits: "b1=slot: all 2 are taken; d1=slot: all 2 are taken"},
		{why: "one that waits for its retry takes no slot", overlap: allow, slots: 1, waiting: []Run{retry("a1", 0, time.Minute), waits("b1", 0)}, start: "b1", wake: time.Minute},
		{why: "a crontab's job needs none", overlap: allow, slots: 1, crontab: true, waiting: []Run{waits("b1", 0)}, running: []Run{runs("a1", 0)}, start: "b1"},
		{why: "a crontab's job that is gone takes none", overlap: allow, slots: 1, waiting: []Run{waits("b1", 0)}, running: []Run{runs("y1", 0)}, start: "b1"},
		{why: "a job that is gone still takes its slot", overlap: allow, slots: 1, waiting: []Run{waits("b1", 0)}, running: []Run{runs("x1", 0)}, waits: "b1=slot: all 1 are taken"},
		{why: "a pool's only place is taken", overlap: allow, waiting: []Run{waits("g2", 1)}, running: []Run{runs("g1", 0)}, waits: "g2=pool: all 1 of gpu are taken"},
		{why: "of two that want it the first gets it", overlap: allow, waiting: []Run{waits("h1", 0), waits("g1", 0)}, start: "h1", waits: "g1=pool: all 1 of gpu are taken"},
		{why: "others pass by those that wait for a pool", overlap: allow, waiting: []Run{waits("g2", 0), waits("a1", 0)}, running: []Run{runs("h1", 0)}, start: "a1", waits: "g2=pool: all 1 of gpu are taken"},
		{why: "a crontab's job needs its pools too", overlap: allow, crontab: true, waiting: []Run{waits("g2", 1)}, running: []Run{runs("g1", 0)}, waits: "g2=pool: all 1 of gpu are taken"},
		{why: "another user's pool is another", overlap: allow, crontab: true, waiting: []Run{waits("k1", 1), waits("g2", 1)}, running: []Run{runs("g1", 0)}, start: "k1", waits: "g2=pool: all 1 of gpu are taken"},
		{why: "each user's first goes before the second of any", overlap: allow, crontab: true, waiting: []Run{waits("a1", 0), waits("a2", 1), waits("b1", 1), waits("z1", 2), waits("z2", 3)}, start: "a1 z1 a2 z2 b1"},

		{why: "paused: a firing is skipped", overlap: skip, paused: true, waiting: []Run{waits("a1", 0)}, skip: "a1=paused"},
		{why: "paused: a retry waits", overlap: skip, paused: true, waiting: []Run{retry("a1", 0, 0)}, waits: "a1=paused: the retry comes when the job is resumed"},
		{why: "paused: a person may", overlap: skip, paused: true, waiting: []Run{manual(waits("a1", 0))}, start: "a1"},

		{why: "replace: the one before is to end", overlap: replace, waiting: []Run{waits("a2", 1)}, running: []Run{runs("a1", 0)}, waits: "a2=turn: run a1 has not ended", stop: "a1=replaced by run a2"},
		{why: "replace: the Runner knows whether it was told", overlap: replace, waiting: []Run{noted(waits("a2", 1), "turn: run a1 has not ended")}, running: []Run{noted(runs("a1", 0), "replaced by run a2")}, stop: "a1=replaced by run a2"},
		{why: "replace: also for the same firing", overlap: replace, waiting: []Run{manual(waits("a2", 0))}, running: []Run{runs("a1", 0)}, waits: "a2=turn: run a1 has not ended", stop: "a1=replaced by run a2"},
		{why: "replace: the newest of those that wait is run", overlap: replace, waiting: []Run{waits("a1", 0), waits("a2", 1), waits("a3", 2)}, start: "a3", skip: "a1=superseded by run a3; a2=superseded by run a3"},
		{why: "replace: a retry that waits is given up", overlap: replace, waiting: []Run{retry("a1", 0, time.Minute), waits("a2", 1)}, start: "a2", cancel: "a1=replaced by run a2"},
		{why: "replace: so is one that is due", overlap: replace, waiting: []Run{retry("a1", 0, 0), waits("a2", 1)}, start: "a2", cancel: "a1=replaced by run a2"},
		{why: "replace: what was missed and is wanted whole waits its turn", overlap: replace, catchUp: job.CatchUpAll, waiting: []Run{caughtUp(waits("a1", 0)), caughtUp(waits("a2", 1))}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "replace: while the job is paused nothing is replaced", overlap: replace, paused: true, waiting: []Run{retry("a1", 0, time.Minute), waits("a2", 1)}, skip: "a2=paused", wake: time.Minute},

		{why: "skip: what was missed and is wanted whole waits its turn", overlap: skip, catchUp: job.CatchUpAll, waiting: []Run{caughtUp(waits("a1", 0)), caughtUp(waits("a2", 1))}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "skip: nor does a firing fall to those", overlap: skip, catchUp: job.CatchUpAll, waiting: []Run{caughtUp(waits("a1", 0)), waits("a2", 1)}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "skip: what comes after a run that is caught up waits its turn too", overlap: skip, after: []string{"b"}, waiting: []Run{caughtUp(waits("a1", 0)), caughtUp(waits("a2", 1))}, start: "a1", waits: "a2=turn: run a1 has not ended"},
		{why: "skip: what a person asked to be tried again waits its turn", overlap: skip, waiting: []Run{asked(waits("a1", 0))}, running: []Run{runs("a2", 1)}, waits: "a1=turn: run a2 has not ended"},

		{why: "backfill: one at a time", overlap: skip, waiting: []Run{backfill(waits("a1", 0), 1), backfill(waits("a2", 1), 1)}, start: "a1", waits: "a2=turn: one run at a time, and another has not ended"},
		{why: "backfill: so many at a time", overlap: skip, waiting: []Run{backfill(waits("a1", 0), 2), backfill(waits("a2", 1), 2), backfill(waits("a3", 2), 2)}, start: "a1 a2", waits: "a3=turn: 2 runs at a time, and others have not ended"},
		{why: "backfill: so for a job that allows overlaps", overlap: allow, waiting: []Run{backfill(waits("a2", 1), 1)}, running: []Run{backfill(runs("a1", 0), 1)}, waits: "a2=turn: one run at a time, and another has not ended"},
		{why: "backfill: which is not bounded by other runs", overlap: allow, waiting: []Run{backfill(waits("a2", 1), 1)}, running: []Run{runs("a1", 0)}, start: "a2"},
		{why: "backfill: it waits for a firing that runs", overlap: skip, waiting: []Run{backfill(waits("a2", 1), 1)}, running: []Run{runs("a1", 0)}, waits: "a2=turn: one run at a time, and another has not ended"},
		{why: "backfill: a firing that runs takes one place", overlap: skip, waiting: []Run{backfill(waits("a2", 1), 2), backfill(waits("a3", 2), 2)}, running: []Run{runs("a1", 0)}, start: "a2", waits: "a3=turn: 2 runs at a time, and others have not ended"},
		{why: "backfill: a firing is not skipped for it", overlap: skip, waiting: []Run{waits("a9", 9)}, running: []Run{backfill(runs("a1", 0), 1)}, waits: "a9=turn: run a1 has not ended"},
		{why: "backfill: and goes first when a place is free", overlap: skip, waiting: []Run{backfill(waits("a2", 1), 2), waits("a9", 9)}, running: []Run{backfill(runs("a1", 0), 2)}, start: "a9", waits: "a2=turn: 2 runs at a time, and others have not ended"},
		{why: "backfill: it is not replaced", overlap: replace, waiting: []Run{waits("a9", 9)}, running: []Run{backfill(runs("a1", 0), 1)}, waits: "a9=turn: run a1 has not ended"},
		{why: "backfill: never two attempts of one firing", overlap: skip, waiting: []Run{backfill(waits("a2", 0), 4)}, running: []Run{runs("a1", 0)}, waits: "a2=turn: run a1 has not ended"},

		{why: "the job is gone", overlap: skip, waiting: []Run{waits("x1", 0)}, skip: "x1=the job was removed"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			jobOf := func(r Run) (plan.Job, bool) {
				switch r.Job {
				case "x":
					return plan.Job{}, false
				case "y":
					return plan.Job{Job: &job.Job{Settings: &job.Settings{Crontab: true}}}, false
				}
				j := &job.Job{Settings: &job.Settings{Overlap: c.overlap, Crontab: c.crontab, CatchUp: c.catchUp, After: c.after}}
				switch r.Job {
				case "g":
					j.Pools = []string{"gpu"}
				case "h":
					j.Pools = []string{"gpu", "net"}
				case "k":
					j.Owner, j.Pools = "another", []string{"gpu"}
				case "z":
					j.Owner = "another"
				}
				return plan.Job{Job: j, Paused: c.paused}, true
			}
			if c.slots == 0 {
				c.slots = 10
			}
			got := admit(c.waiting, c.running, jobOf, Limits{Slots: c.slots, Pools: map[string]int{"gpu": 1, "net": 2}}, night)
			var start []string
			for _, r := range got.start {
				start = append(start, r.ID)
			}
			texts := func(m map[string]string) string {
				var list []string
				for _, id := range slices.Sorted(maps.Keys(m)) {
					list = append(list, id+"="+m[id])
				}
				return strings.Join(list, "; ")
			}
			var wake time.Duration
			if !got.wake.IsZero() {
				wake = got.wake.Sub(night)
			}
			text := func(start, skip, waits, cancel, stop string, wake time.Duration) string {
				return fmt.Sprintf("start [%s] skip [%s] waits [%s] cancel [%s] stop [%s] wake %s", start, skip, waits, cancel, stop, wake)
			}
			ends := map[State]map[string]string{Skipped: {}, Cancelled: {}}
			for _, m := range got.end {
				ends[m.To][m.Run] = m.Reason
			}
			stop := map[string]string{}
			for _, r := range got.stop {
				stop[r.ID] = r.Reason
			}
			have := text(strings.Join(start, " "), texts(ends[Skipped]), texts(got.waits), texts(ends[Cancelled]), texts(stop), wake)
			if want := text(c.start, c.skip, c.waits, c.cancel, c.stop, c.wake); have != want {
				t.Errorf("waiting %v, running %v\ngot  %s\nwant %s", c.waiting, c.running, have, want)
			}
			for _, r := range got.start {
				if r.State != Queued {
					t.Errorf("%s is handed on as %s", r.ID, r.State)
				}
			}
		})
	}
}

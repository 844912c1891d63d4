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
	manual := func(r Run) Run { r.Cause = plan.Manual; return r }
	noted := func(r Run, reason string) Run { r.Reason = reason; return r }
	const skip, queue, allow = job.OverlapSkip, job.OverlapQueue, job.OverlapAllow

	for _, c := range []struct {
		why              string
		overlap          job.Overlap
		waiting, running []Run
		slots            int // 0: 10
		crontab          bool
		start            string
		skip, waits      string // id=reason, "; " between
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
		{why: "a job that is gone still takes its slot", overlap: allow, slots: 1, waiting: []Run{waits("b1", 0)}, running: []Run{runs("x1", 0)}, waits: "b1=slot: all 1 are taken"},
		{why: "the job is gone", overlap: skip, waiting: []Run{waits("x1", 0)}, skip: "x1=the job was removed"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			jobOf := func(r Run) *job.Job {
				if r.Job == "x" {
					return nil
				}
				return &job.Job{Settings: &job.Settings{Overlap: c.overlap, Crontab: c.crontab}}
			}
			if c.slots == 0 {
				c.slots = 10
			}
			got := admit(c.waiting, c.running, jobOf, c.slots, night)
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
			text := func(start, skip, waits string, wake time.Duration) string {
				return fmt.Sprintf("start [%s] skip [%s] waits [%s] wake %s", start, skip, waits, wake)
			}
			have := text(strings.Join(start, " "), texts(got.skip), texts(got.waits), wake)
			if want := text(c.start, c.skip, c.waits, c.wake); have != want {
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

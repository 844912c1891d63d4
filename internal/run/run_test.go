package run

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheTableOfTransitionsIsThatOfTheDesign(t *testing.T) {
	t.Parallel()
	// DESIGN.md §5, "States of a run".
	table := map[State]string{
		Queued: "running skipped missed cancelled", Running: "publishing succeeded failed cancelled lost queued",
		Publishing: "succeeded failed cancelled", Succeeded: "", Failed: "queued publishing", Lost: "queued", Cancelled: "queued",
		Skipped: "queued", Missed: "queued",
	}
	reachable := map[State]bool{Queued: true, Skipped: true, Missed: true} // as a run is recorded
	for _, from := range States() {
		for _, to := range States() {
			want := slices.Contains(strings.Fields(table[from]), string(to))
			if from.CanBecome(to) != want {
				t.Errorf("%s → %s: %v, want %v", from, to, !want, want)
			}
			if want {
				reachable[to] = true
			}
		}
	}
	for _, s := range States() {
		if !reachable[s] {
			t.Errorf("nothing becomes %s", s)
		}
	}
	if len(States()) != len(next) || len(next) != len(table) {
		t.Errorf("%d states are listed, %d have transitions", len(States()), len(next))
	}
	if State("asleep").CanBecome(Queued) || Queued.CanBecome("asleep") {
		t.Error("a state that does not exist has transitions")
	}
}

func TestFinishedStatesAreThoseThatNothingComesOfByItself(t *testing.T) {
	t.Parallel()
	for _, s := range States() {
		if want := s != Queued && s != Running && s != Publishing; s.Finished() != want {
			t.Errorf("%s is finished: %v", s, s.Finished())
		}
	}
}

func TestNewIDIsUniqueAndSortsByTime(t *testing.T) {
	t.Parallel()
	base := time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	var last string
	for i := range 100_000 {
		id := NewID(base.Add(time.Duration(i/10) * time.Millisecond)) // ten in a millisecond
		if len(id) != 26 || strings.Trim(id, crockford) != "" {
			t.Fatalf("%q is not 26 digits of Crockford's base 32", id)
		}
		if seen[id] {
			t.Fatalf("%s came twice", id)
		}
		seen[id] = true
		if i%10 == 0 {
			if id <= last {
				t.Fatalf("%s follows %s, which is older", id, last)
			}
			last = id
		} else if id > last {
			last = id
		}
	}
}

func TestNewIDHoldsItsTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   time.Time
		want string // its first ten digits: the milliseconds in base 32
	}{
		{time.UnixMilli(0), "0000000000"},
		{time.UnixMilli(1), "0000000001"},
		{time.UnixMilli(32), "0000000010"},
		{time.UnixMilli(1<<48 - 1), "7ZZZZZZZZZ"},
	} {
		if id := NewID(c.at); id[:10] != c.want {
			t.Errorf("%s begins an id of %s, want %s", id[:10], c.at, c.want)
		}
	}
}

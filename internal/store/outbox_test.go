package store

import (
	"encoding/json"
	"testing"
	"time"

	"belfry/internal/outbox"
	"belfry/internal/run"
)

// publishing takes a run to where it owes a publish to the target of all.
func publishing(t *testing.T, s *Store, id string, targets ...string) outbox.Item {
	t.Helper()
	if targets == nil {
		targets = []string{"/lake"}
	}
	r := claim(t, s, id, night)
	check(t, move(t.Context(), s, run.Move{
		Run: id, From: run.Running, To: run.Publishing, Token: r.Token, At: night,
		Owed: []outbox.Item{{Run: id, Kind: outbox.Publish, Targets: targets, Payload: json.RawMessage(`{"n":1}`)}},
	}))
	items := must(s.ItemsOf(t.Context(), id))(t)
	if len(items) != 1 {
		t.Fatalf("run %s owes %d items", id, len(items))
	}
	return items[0]
}

func TestAnItemIsReadAsItWasOwed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	item := publishing(t, s, id, "/x", "/x", "/y")
	if item.Run != id || item.Kind != outbox.Publish || string(item.Payload) != `{"n":1}` || item.Progress != nil || item.Result != nil ||
		item.State != outbox.Pending || item.Tries != 0 || !item.Created.Equal(night) || !item.NextAt.Equal(night) {
		t.Errorf("it is %+v", item)
	}
	if n := must(s.Untried(t.Context()))(t); n != 1 {
		t.Errorf("%d are untried, want 1", n)
	}
}

func TestItemsOfOneTargetAreSentOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why string
		end func(s *Store, item outbox.Item) error
	}{
		{"put back", func(s *Store, item outbox.Item) error {
			return s.Again(t.Context(), item, "no route", night.Add(time.Hour))
		}},
		{"settled", func(s *Store, item outbox.Item) error {
			item.State = outbox.Sent
			return s.Settle(t.Context(), item)
		}},
		{"resumed by the next owner", func(s *Store, _ outbox.Item) error { return s.Resume(t.Context()) }},
	} {
		s := openStore(t)
		ids := family(t, s, nightly("a"), nightly("b"), nightly("c"))
		a, b, c2 := publishing(t, s, ids["a"], "/x", "/y"), publishing(t, s, ids["b"], "/y", "/z"), publishing(t, s, ids["c"], "/w")
		begin := func(item outbox.Item) bool { return must(s.Begin(t.Context(), item.ID))(t) }
		if !begin(a) || begin(a) || begin(b) || !begin(c2) {
			t.Errorf("%s: a and c should have begun, once, and b wait", c.why)
		}
		if n := must(s.Untried(t.Context()))(t); n != 3 {
			t.Errorf("%s: %d are untried or being tried, want 3", c.why, n)
		}
		check(t, c.end(s, a))
		if !begin(b) {
			t.Errorf("%s: b is still kept from its target", c.why)
		}
	}
}

func TestWhatIsPutBackKeepsItsProgressAndTriesAndWaitsItsTurn(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ids := family(t, s, nightly("a"), nightly("b"))
	a := publishing(t, s, ids["a"], "/x")
	publishing(t, s, ids["b"], "/y")
	must(s.Begin(t.Context(), a.ID))(t)
	if pending := must(s.Pending(t.Context()))(t); len(pending) != 1 {
		t.Errorf("%d are pending while one is being sent, want 1", len(pending))
	}
	check(t, s.SaveProgress(t.Context(), a.ID, json.RawMessage(`{"etag":"x"}`)))
	check(t, s.Again(t.Context(), a, "no route", night.Add(time.Hour)))
	pending := must(s.Pending(t.Context()))(t)
	if len(pending) != 2 || pending[1].ID != a.ID {
		t.Fatalf("pending are %+v, want a last", pending)
	}
	if got := pending[1]; got.Tries != 1 || got.Error != "no route" || string(got.Progress) != `{"etag":"x"}` || !got.NextAt.Equal(night.Add(time.Hour)) {
		t.Errorf("it is %+v", got)
	}
	if n := must(s.Untried(t.Context()))(t); n != 1 {
		t.Errorf("%d are untried, want 1", n)
	}
}

func TestWhatIsSettledIsNotSentAgain(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	a := publishing(t, s, family(t, s, nightly("a"))["a"])
	must(s.Begin(t.Context(), a.ID))(t)
	a.State, a.Error = outbox.Refused, "no such bucket"
	check(t, s.Settle(t.Context(), a))
	check(t, s.Again(t.Context(), a, "late", night))
	check(t, s.Resume(t.Context()))
	if must(s.Begin(t.Context(), a.ID))(t) || len(must(s.Pending(t.Context()))(t)) > 0 {
		t.Error("it is sent again")
	}
	if got := must(s.ItemsOf(t.Context(), a.Run))(t)[0]; got.State != outbox.Refused || got.Error != "no such bucket" {
		t.Errorf("it is %+v", got)
	}
}

func TestARunThatIsNotPublishedYetSaysWhyAndWhenItIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	id := family(t, s, nightly("a"))["a"]
	a := publishing(t, s, id)
	must(s.Begin(t.Context(), a.ID))(t)
	check(t, s.Again(t.Context(), a, "no route", night.Add(time.Hour)))
	if r := read(t, s, id); r.State != run.Publishing || r.Reason != "no route" || !r.NotBefore.Equal(night.Add(time.Hour)) {
		t.Errorf("it waits as %s (%q) until %s", r.State, r.Reason, r.NotBefore)
	}
	must(s.Begin(t.Context(), a.ID))(t)
	if r := read(t, s, id); r.Reason != "no route" || !r.NotBefore.IsZero() {
		t.Errorf("it is tried again as %q, until %s", r.Reason, r.NotBefore)
	}
	a.State, a.Result = outbox.Sent, json.RawMessage(`{}`)
	check(t, move(t.Context(), s, run.Move{Run: id, From: run.Publishing, To: run.Succeeded, Token: 1, At: night, Settled: &a}))
	check(t, s.Again(t.Context(), a, "late", night.Add(time.Hour))) // of a Worker that heard of it too late
	if r := read(t, s, id); r.Reason != "" || !r.NotBefore.IsZero() {
		t.Errorf("in the end it says %q and %s", r.Reason, r.NotBefore)
	}
}

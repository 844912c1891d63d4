package outbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is a store in memory.
type shelf struct {
	mu    sync.Mutex
	items map[string]*Item // guarded by mu
	taken map[string]bool  // guarded by mu; targets
	fail  map[string]int   // guarded by mu; method → how many more calls fail
	held  string           // the method that goes on when its context has ended
}

// enter is what each method does first.
func (s *shelf) enter(ctx context.Context, method string) error {
	if s.held == method {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail[method]--; s.fail[method] >= 0 {
		return errDisk
	}
	return nil
}

var errDisk = errors.New("the disk is full")

func (s *shelf) add(items ...Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		item.State, item.Created = Pending, time.Now()
		if item.NextAt.IsZero() {
			item.NextAt = item.Created
		}
		if item.Kind == "" {
			item.Kind = Notice
		}
		s.items[item.ID] = &item
	}
}

func (s *shelf) get(id string) Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.items[id]
}

func (s *shelf) Pending(ctx context.Context) ([]Item, error) {
	if err := s.enter(ctx, "Pending"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Item
	for _, item := range s.items {
		if item.State == Pending {
			list = append(list, *item)
		}
	}
	slices.SortFunc(list, func(a, b Item) int {
		if c := a.NextAt.Compare(b.NextAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

func (s *shelf) Begin(ctx context.Context, id string) (bool, error) {
	if err := s.enter(ctx, "Begin"); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	item := s.items[id]
	if slices.ContainsFunc(item.Targets, func(t string) bool { return s.taken[t] }) {
		return false, nil
	}
	item.State = Sending
	item.Tries++
	s.take(item, true)
	return true, nil
}

func (s *shelf) take(item *Item, taken bool) {
	for _, t := range item.Targets {
		s.taken[t] = taken
	}
}

func (s *shelf) SaveProgress(ctx context.Context, id string, progress json.RawMessage) error {
	if err := s.enter(ctx, "SaveProgress"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[id].Progress = progress
	return nil
}

func (s *shelf) Again(ctx context.Context, it Item, reason string, next time.Time) error {
	if err := s.enter(ctx, "Again"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	item := s.items[it.ID]
	item.State, item.Error, item.NextAt, item.Created = Pending, reason, next, it.Created
	s.take(item, false)
	return nil
}

func (s *shelf) settle(ctx context.Context, item Item, _ error) error {
	if err := s.enter(ctx, "Settled"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[item.ID] = &item
	s.take(&item, false)
	return nil
}

// sender does what send says, and notes when it was asked.
type sender struct {
	send func(ctx context.Context, item Item, save func(json.RawMessage) error) (json.RawMessage, error)

	mu    sync.Mutex
	at    []time.Time     // guarded by mu; of each call
	now   map[string]bool // guarded by mu; items that are being sent
	most  int             // guarded by mu; at once
	clash []string        // guarded by mu; targets that were two items' at once
}

func (s *sender) Send(ctx context.Context, item Item, save func(json.RawMessage) error) (json.RawMessage, error) {
	s.mu.Lock()
	s.at = append(s.at, time.Now())
	for _, t := range item.Targets {
		if s.now[t] {
			s.clash = append(s.clash, t)
		}
		s.now[t] = true
	}
	s.now[item.ID] = true
	n := 0
	for key, busy := range s.now {
		if busy && !strings.HasPrefix(key, "/") {
			n++
		}
	}
	s.most = max(s.most, n)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now[item.ID] = false
		for _, t := range item.Targets {
			s.now[t] = false
		}
	}()
	return s.send(ctx, item, save)
}

// atOnce is how many have been sent at once at the most.
func (s *sender) atOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func (s *sender) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

// deliver runs f beside a Worker, in a bubble of time.
func deliver(t *testing.T, o Options, send func(ctx context.Context, item Item, save func(json.RawMessage) error) (json.RawMessage, error), f func(t *testing.T, w *Worker, s *shelf, to *sender, stop func())) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{items: map[string]*Item{}, taken: map[string]bool{}, fail: map[string]int{}}
		to := &sender{send: send, now: map[string]bool{}}
		o.Store, o.Senders, o.Settled = s, map[Kind]Sender{Notice: to}, s.settle
		if o.Now == nil {
			o.Now = time.Now
		}
		o.Changed, o.Log = func() {}, cmp.Or(o.Log, slog.New(slog.DiscardHandler))
		w := NewWorker(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		defer stop()
		synctest.Wait()
		f(t, w, s, to, stop)
	})
}

func works(context.Context, Item, func(json.RawMessage) error) (json.RawMessage, error) {
	return json.RawMessage(`{"ok":1}`), nil
}

func fails(context.Context, Item, func(json.RawMessage) error) (json.RawMessage, error) {
	return nil, errors.New("no route")
}

func later(d time.Duration) {
	time.Sleep(d) // in the bubble
	synctest.Wait()
}

func TestWhatIsOwedIsSentAndSettledWithItsResult(t *testing.T) {
	deliver(t, Options{}, works, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		s.add(Item{ID: "a"})
		w.Kick()
		synctest.Wait()
		if got := s.get("a"); got.State != Sent || string(got.Result) != `{"ok":1}` || got.Error != "" || got.Tries != 1 {
			t.Errorf("it is %+v", got)
		}
		later(time.Hour)
		if to.calls() != 1 {
			t.Errorf("it was sent %d times", to.calls())
		}
	})
}

func TestAnItemIsFoundWithoutAKickAndNotBeforeItsTime(t *testing.T) {
	deliver(t, Options{}, works, func(t *testing.T, _ *Worker, s *shelf, to *sender, _ func()) {
		begin := time.Now()
		s.add(Item{ID: "now"}, Item{ID: "later", NextAt: begin.Add(4 * time.Minute)}, Item{ID: "wrong", NextAt: begin.AddDate(4, 0, 0)})
		later(time.Minute)
		if s.get("now").State != Sent || s.get("later").State != Pending {
			t.Errorf("after a minute: %s and %s", s.get("now").State, s.get("later").State)
		}
		later(3 * time.Minute)
		if s.get("later").State != Sent || !to.at[1].Equal(begin.Add(4*time.Minute)) {
			t.Errorf("the second was sent at %s", to.at[1].Sub(begin))
		}
		later(time.Minute)
		if s.get("wrong").State != Sent {
			t.Error("one that a wrong clock put off for years was not sent")
		}
	})
}

func TestAFailureIsTriedAgainAfterGrowingWaitsUntilPatienceEnds(t *testing.T) {
	deliver(t, Options{Patience: func(Kind) time.Duration { return time.Hour }}, fails, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		s.add(Item{ID: "a"})
		w.Kick()
		synctest.Wait()
		if got := s.get("a"); got.State != Pending || got.Error != "no route" {
			t.Errorf("after its first try it is %+v", got)
		}
		later(2 * time.Hour)
		if got := s.get("a"); got.State != Refused || !regexp.MustCompile(`^given up after \d+ tries in 1h\d+m\d+s: no route$`).MatchString(got.Error) {
			t.Errorf("in the end it is %+v", got)
		}
		for i := 1; i < len(to.at); i++ {
			full := min(time.Second<<(i-1), 5*time.Minute)
			if got := to.at[i].Sub(to.at[i-1]); got < full/2 || got > full {
				t.Errorf("the wait after try %d was %s, want %s to %s", i, got, full/2, full)
			}
		}
		if total := to.at[len(to.at)-1].Sub(to.at[0]); total < time.Hour || total > time.Hour+5*time.Minute {
			t.Errorf("it was tried for %s, want an hour", total)
		}
	})
}

func TestPatienceIsNotUsedUpWhileTheMachineSleeps(t *testing.T) {
	var slept atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
	deliver(t, Options{Patience: func(Kind) time.Duration { return time.Hour }, Now: now}, fails, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		s.add(Item{ID: "a"})
		w.Kick()
		for range 3 {
			later(10 * time.Minute)
			slept.Add(int64(30 * time.Hour))
			later(time.Minute) // it is tried at once, which fails too
			if got := s.get("a"); got.State != Pending {
				t.Fatalf("after a night it is %+v", got)
			}
		}
		later(time.Hour)
		if got := s.get("a"); got.State != Refused {
			t.Errorf("in the end it is %+v", got)
		}
		if total := to.at[len(to.at)-1].Sub(to.at[0]); total < time.Hour-3*5*time.Minute || total > time.Hour+5*time.Minute {
			t.Errorf("it was tried for %s, want an hour, less what a night cut short", total)
		}
	})
}

func TestWaitNeverOverflows(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 9, 10, 20, 1000, 1 << 40} {
		for _, chance := range []float64{0, 0.999} {
			full := 5 * time.Minute
			if n < 10 {
				full = min(full, time.Second<<(n-1))
			}
			if got := wait(n, chance); got > full || got < full/2 {
				t.Errorf("after %d by chance %v: %s, want %s at most", n, chance, got, full)
			}
		}
	}
}

func TestAFinalErrorIsRefusedAtOnce(t *testing.T) {
	send := func(context.Context, Item, func(json.RawMessage) error) (json.RawMessage, error) {
		return nil, fmt.Errorf("publish: %w", Final(errDisk))
	}
	deliver(t, Options{}, send, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		s.add(Item{ID: "a"}, Item{ID: "b", Kind: "telegram"})
		w.Kick()
		later(time.Hour)
		if got := s.get("a"); got.State != Refused || got.Error != "publish: the disk is full" || to.calls() != 1 {
			t.Errorf("it is %+v after %d tries", got, to.calls())
		}
		if got := s.get("b"); got.State != Refused || !strings.Contains(got.Error, "cannot send a telegram") {
			t.Errorf("what nobody can send is %+v", got)
		}
	})
}

func TestFinalKeepsWhatItWraps(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("outer: %w", Final(errDisk))
	if !IsFinal(err) || !errors.Is(err, errDisk) || IsFinal(errDisk) || IsFinal(nil) {
		t.Errorf("final: %v, is the cause: %v", IsFinal(err), errors.Is(err, errDisk))
	}
}

func TestItemsOfOneTargetAreNeverSentAtOnceAndNoneIsForgotten(t *testing.T) {
	send := func(context.Context, Item, func(json.RawMessage) error) (json.RawMessage, error) {
		time.Sleep(10 * time.Second)
		return nil, nil
	}
	deliver(t, Options{}, send, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		s.add(Item{ID: "a", Targets: []string{"/x"}}, Item{ID: "b", Targets: []string{"/x", "/y"}}, Item{ID: "c", Targets: []string{"/y"}}, Item{ID: "d"})
		w.Kick()
		later(time.Second)
		if n := to.calls(); n != 3 {
			t.Errorf("%d are being sent, want a, c and d", n)
		}
		later(20 * time.Second) // b begins as soon as a and c have ended
		for _, id := range []string{"a", "b", "c", "d"} {
			if s.get(id).State != Sent {
				t.Errorf("%s is %s", id, s.get(id).State)
			}
		}
		if len(to.clash) > 0 {
			t.Errorf("two items were sent at once to %v", to.clash)
		}
	})
}

func TestNoMoreThanParallelAreSentAtOnce(t *testing.T) {
	send := func(context.Context, Item, func(json.RawMessage) error) (json.RawMessage, error) {
		time.Sleep(time.Second)
		return nil, nil
	}
	deliver(t, Options{Parallel: 3}, send, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		for i := range 10 {
			s.add(Item{ID: fmt.Sprint(i)})
		}
		w.Kick()
		later(4*time.Second + time.Millisecond)
		if to.calls() != 10 || to.atOnce() != 3 {
			t.Errorf("%d were sent, %d at once; want 10, 3 at once", to.calls(), to.atOnce())
		}
	})
}

func TestNobodyTakesTheWayOfOthers(t *testing.T) {
	send := func(ctx context.Context, item Item, _ func(json.RawMessage) error) (json.RawMessage, error) {
		if strings.HasPrefix(item.ID, "a") { // its reader holds the mailbox for ever
			<-ctx.Done()
			return nil, ctx.Err()
		}
		time.Sleep(time.Second)
		return nil, nil
	}
	whose := func(item Item) string { return strings.TrimRight(item.ID, "0123456789") }
	deliver(t, Options{Whose: whose}, send, func(t *testing.T, w *Worker, s *shelf, to *sender, _ func()) {
		for i := range 20 {
			s.add(Item{ID: fmt.Sprint("a", i)}, Item{ID: fmt.Sprint("b", i)}, Item{ID: fmt.Sprint(i)})
		}
		w.Kick()
		later(time.Second / 2)
		if to.atOnce() != 8 {
			t.Errorf("%d were sent at once; want 2 of a, 2 of b, and as many of nobody's as there is place for", to.atOnce())
		}
		later(20 * time.Second)
		for i := range 20 {
			for _, id := range []string{fmt.Sprint("b", i), fmt.Sprint(i)} {
				if s.get(id).State != Sent {
					t.Errorf("%s is %s", id, s.get(id).State)
				}
			}
		}
	})
}

func TestWhenItsContextEndsTheWorkerWaitsAndLeavesTheItemAsItIs(t *testing.T) {
	left := make(chan struct{}, 1)
	send := func(ctx context.Context, _ Item, _ func(json.RawMessage) error) (json.RawMessage, error) {
		<-ctx.Done()
		left <- struct{}{}
		return nil, ctx.Err()
	}
	deliver(t, Options{}, send, func(t *testing.T, w *Worker, s *shelf, _ *sender, stop func()) {
		s.add(Item{ID: "a"})
		w.Kick()
		synctest.Wait()
		stop()
		select {
		case <-left:
		default:
			t.Error("Run returned before Send did")
		}
		if got := s.get("a"); got.State != Sending || got.Error != "" {
			t.Errorf("it is %+v", got)
		}
	})
}

func TestWhatWasSentIsSettledThoughItsContextHasEnded(t *testing.T) {
	send := func(ctx context.Context, _ Item, save func(json.RawMessage) error) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, save(json.RawMessage(`"all"`))
	}
	deliver(t, Options{}, send, func(t *testing.T, w *Worker, s *shelf, _ *sender, stop func()) {
		s.add(Item{ID: "a", Targets: []string{"/x"}})
		w.Kick()
		synctest.Wait()
		stop()
		if got := s.get("a"); got.State != Sent || s.taken["/x"] {
			t.Errorf("it is %+v, and its target is taken: %v", got, s.taken["/x"])
		}
	})
}

func TestThatItsContextEndsIsNoErrorOfTheWorker(t *testing.T) {
	for _, method := range []string{"Pending", "Begin"} {
		t.Run(method, func(t *testing.T) {
			var log bytes.Buffer
			deliver(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, works, func(t *testing.T, w *Worker, s *shelf, _ *sender, stop func()) {
				s.held = method
				s.add(Item{ID: "a"})
				w.Kick()
				synctest.Wait()
				stop()
				if log.Len() > 0 {
					t.Errorf("it says\n%s", log.String())
				}
			})
		})
	}
}

func TestAWorkerThatCannotSettleDoesNotWaitForeverAtItsEnd(t *testing.T) {
	deliver(t, Options{}, works, func(t *testing.T, w *Worker, s *shelf, _ *sender, stop func()) {
		s.held = "Settled"
		s.add(Item{ID: "a"})
		w.Kick()
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestProgressIsThereAtTheNextTry(t *testing.T) {
	send := func(_ context.Context, item Item, save func(json.RawMessage) error) (json.RawMessage, error) {
		if item.Progress == nil {
			if err := save(json.RawMessage(`"half"`)); err != nil {
				return nil, err
			}
			return nil, errors.New("cut off")
		}
		return item.Progress, nil
	}
	deliver(t, Options{}, send, func(t *testing.T, w *Worker, s *shelf, _ *sender, _ func()) {
		s.add(Item{ID: "a"})
		w.Kick()
		later(time.Second)
		if got := s.get("a"); got.State != Sent || string(got.Result) != `"half"` || got.Tries != 2 {
			t.Errorf("it is %+v", got)
		}
	})
}

func TestTroubleWithTheStoreLeavesNoItemBehind(t *testing.T) {
	for _, c := range []struct {
		why  string
		fail map[string]int
		send func(context.Context, Item, func(json.RawMessage) error) (json.RawMessage, error)
		want State
	}{
		{"what is owed cannot be read", map[string]int{"Pending": 3}, works, Sent},
		{"it cannot be begun", map[string]int{"Begin": 3}, works, Sent},
		{"it cannot be settled", map[string]int{"Settled": 1}, works, Sent},
		{"it can neither be settled nor put back", map[string]int{"Settled": 1, "Again": 3}, works, Sent},
		{"it cannot be put back", map[string]int{"Again": 3}, fails, Pending},
	} {
		t.Run(c.why, func(t *testing.T) {
			deliver(t, Options{}, c.send, func(t *testing.T, w *Worker, s *shelf, _ *sender, _ func()) {
				s.mu.Lock()
				s.fail = c.fail
				s.mu.Unlock()
				s.add(Item{ID: "a", Targets: []string{"/x"}})
				w.Kick()
				later(5 * time.Second)
				if got := s.get("a"); got.State != c.want {
					t.Errorf("it is %s, want %s", got.State, c.want)
				}
			})
		})
	}
}

//go:build linux

package proc

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhatIsHeldStartsWhenItIsToldTo(t *testing.T) {
	h := newHost(t)
	d := h.open()
	a, b, never := h.spec("echo a"), h.spec("echo b"), h.spec("echo never")
	d.Hold(t.Context(), []Spec{never}) // and something else instead
	start := d.Hold(t.Context(), []Spec{a, b})
	d.wantStatus(a, NeverStarted)
	if err := start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Spec{a, b} {
		if exit := d.exit(s); exit.Code != 0 || exit.Error != "" {
			t.Errorf("exit %+v", exit)
		}
	}
	d.start(a) // is idempotent, whichever way it was started
	d.wantStatus(a, Exited)
	d.wantStatus(never, NeverStarted)
	if err := d.Hold(t.Context(), nil)(t.Context()); err != nil {
		t.Errorf("nothing is started with %v", err)
	}
}

func TestWhatWasHeldByADeadKeeperIsStartedByTheNext(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec("echo a")
	start := d.Hold(t.Context(), []Spec{s})
	h.killKeeper(d.Client)
	if err := start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := d.exit(s); exit.Code != 0 || h.log(s) != "a\n" {
		t.Errorf("exit %+v, log %q", exit, h.log(s))
	}
}

func TestWhatADaemonHadHeldIsGoneWithIt(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec("echo never")
	d.Hold(t.Context(), []Spec{s})
	keepers := h.keepers()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	h.waitKeeper(keepers[0]) // what is held keeps none alive
	h.open().wantStatus(s, NeverStarted)
}

func TestAttemptsThatAStoppedKeeperDoesNotHoldAreStartedByAnother(t *testing.T) {
	for name, stdin := range map[string]int{"few": 0, "more than its socket takes": 512 << 10} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			d, id := h.keeper()
			pid := h.keeperPID(id)
			h.halt(pid)
			defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
			s := h.spec(`true`)
			s.Stdin = make([]byte, stdin)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			begun := time.Now()
			if err := d.Hold(ctx, []Spec{s})(t.Context()); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(begun); waited > callTimeout/2 {
				t.Errorf("they were started after %s", waited)
			}
			d.exit(s)
		})
	}
}

func TestAKeeperThatNoTimeWasLeftForIsNotTakenForStopped(t *testing.T) {
	h := newHost(t)
	d, id := h.keeper()
	long, s := h.spec("sleep 1000"), h.spec("true")
	d.start(long)
	d.started(long) // from here on the keeper says nothing by itself
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := d.Hold(ctx, []Spec{s})(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.exit(s)
	if got := h.keepers(); len(got) != 1 || got[0] != id {
		t.Errorf("there are the keepers %q, want %q alone", got, id)
	}
	if err := d.Signal(long.Run, long.Attempt, Kill); err != nil {
		t.Fatal(err)
	}
	d.exit(long)
}

func TestAKeeperWithoutAttemptsWhosePlaceAnotherHasTakenEnds(t *testing.T) {
	h := newHost(t)
	d, id := h.keeper()
	pid := h.keeperPID(id)
	h.halt(pid)
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	s := h.spec(`true`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := d.Hold(ctx, []Spec{s})(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.exit(s)
	_ = unix.Kill(pid, unix.SIGCONT)
	h.waitKeeper(id)
}

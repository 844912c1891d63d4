package site

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// asks has somebody ask for a site; end closes their connection.
func asks(t *testing.T, s *Site, by string, wait time.Duration) (signs io.Writer, turns *json.Decoder, end func(), over chan error) {
	t.Helper()
	in, signs := io.Pipe()
	told, out := io.Pipe()
	over = make(chan error, 1)
	go func() {
		over <- s.Hold(context.Background(), in, out)
		_ = out.Close()
	}()
	me, err := json.Marshal(Asking{Deploying: Deploying{ID: "of " + by, By: by, Does: "deploys"}, Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signs.Write(append(me, '\n')); err != nil {
		t.Fatal(err)
	}
	end = func() { _ = signs.(*io.PipeWriter).Close() }
	t.Cleanup(end)
	return signs, json.NewDecoder(told), end, over
}

// A laptop that is gone, of which sshd learns hours later, keeps no other deploy from
// its steps.
func TestFilesThatStopComingAreNotWaitedFor(t *testing.T) { // alone: a process that another test starts shares our locks for a moment
	synctest.Test(t, func(t *testing.T) {
		s := &Site{Root: t.TempDir()}
		in, out := io.Pipe()
		defer out.Close() //nolint:errcheck // it never fails
		over := make(chan error, 1)
		go func() { over <- s.Receive(context.Background(), in) }()
		packed := gzip.NewWriter(out)
		head, err := json.Marshal(Sent{SHA256: strings.Repeat("0", 64), Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := packed.Write(append(head, '\n')); err != nil {
			t.Fatal(err)
		}
		for range 10 { // however long it takes
			time.Sleep(Silence * 9 / 10)
			if _, err := packed.Write([]byte("piece")); err != nil {
				t.Fatal(err)
			}
			if err := packed.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		silent := time.Now()
		if err := s.locked(t.Context(), func() error { return nil }); err != nil {
			t.Errorf("a step of another deploy: %v", err)
		}
		if took := time.Since(silent); took > Silence+time.Second {
			t.Errorf("a step of another deploy waits for %s", took)
		}
		if err := <-over; !errors.Is(err, errSilent) {
			t.Errorf("what came was taken with %v", err)
		}
	})
}

func TestASiteIsHeldAsLongAsItsHolderGivesSigns(t *testing.T) { // alone too
	synctest.Test(t, func(t *testing.T) {
		s := &Site{Root: t.TempDir()}
		signs, turns, _, over := asks(t, s, "alice", 0)
		var turn Turn
		if err := turns.Decode(&turn); err != nil || !turn.Held {
			t.Fatalf("the first is told %+v, %v", turn, err)
		}
		otherSigns, others, endOther, _ := asks(t, s, "bob", time.Hour)
		if err := others.Decode(&turn); err != nil || turn.Other.By != "alice" || turn.Other.Since.IsZero() {
			t.Fatalf("the second is told %+v, %v", turn, err)
		}
		_, late, _, lateOver := asks(t, s, "carol", time.Second)
		var told []Turn
		for {
			var turn Turn
			if late.Decode(&turn) != nil {
				break
			}
			told = append(told, turn)
		}
		if err := <-lateOver; err != nil || len(told) != 2 || !told[1].Late || told[1].Other.By != "alice" {
			t.Errorf("the third, who waits for a second, is told %+v, %v", told, err)
		}
		for range 10 {
			time.Sleep(Silence / 6)
			for _, w := range []io.Writer{signs, otherSigns} {
				if _, err := w.Write([]byte{'.'}); err != nil {
					t.Fatal(err)
				}
			}
		}
		select {
		case err := <-over:
			t.Fatalf("the site was let go although there were signs: %v", err)
		default:
		}
		var work sync.WaitGroup
		work.Go(func() {
			for _, err := otherSigns.Write([]byte{'.'}); err == nil; _, err = otherSigns.Write([]byte{'.'}) {
				time.Sleep(Silence / 6)
			}
		})
		silent := time.Now()
		if err := <-over; err != nil || time.Since(silent) != Silence {
			t.Errorf("after the last sign it is let go within %s, %v", time.Since(silent), err)
		}
		turn = Turn{}
		if err := others.Decode(&turn); err != nil || !turn.Held {
			t.Errorf("then the second is told %+v, %v", turn, err)
		}
		step := func(of string) error {
			return (&Site{Root: s.Root, Deploy: of}).locked(t.Context(), func() error { return nil })
		}
		if err := step("of alice"); err == nil || !strings.Contains(err.Error(), "its turn went to bob, who deploys (since ") {
			t.Errorf("a step of the first then: %v", err)
		}
		if err := errors.Join(step("of bob"), step("")); err != nil {
			t.Errorf("a step of the second: %v", err)
		}
		endOther()
		work.Wait()
	})
}

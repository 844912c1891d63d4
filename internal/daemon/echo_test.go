package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"belfry/internal/logs"
	"belfry/internal/run"
	"belfry/internal/store"
)

func TestWhatCannotBeReadIsTriedAgainNowAndThenUntilItIsGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		err  error
		most int // looks in a minute
		left int // speakers behind it
	}{
		{"the account cannot be read", errors.New("the disk is gone"), 70, 1},
		{"the run is kept no longer", fmt.Errorf("read run R: %w", store.ErrNotFound), 1, 0},
	} {
		t.Run(c.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := 0
				e := newEcho(func([]Line) {}, func(context.Context, string, int) (*logs.Reader, error) {
					looks++
					return nil, c.err
				}, func(string, int) bool { return false }, time.Now())
				e.begin(run.Run{ID: "R", Attempt: 1})
				e.end("R", 1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_ = e.run(ctx) // it gives no error
				looks--        // the last, when the daemon ends
				if c.left == 0 {
					looks++
				}
				if looks < 1 || looks > c.most || len(e.speakers) != c.left {
					t.Errorf("it was looked at %d times in a minute, and %d are left; want %d at most, and %d", looks, len(e.speakers), c.most, c.left)
				}
			})
		})
	}
}

func TestWhatAJobPrintsComesLineByLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", longestLine)
	for _, c := range []struct {
		why   string
		parts []string
		want  []string
	}{
		{"several lines in a part", []string{"a\nb\n\n"}, []string{"a", "b", ""}},
		{"a line in several parts", []string{"a", "b", "c\n"}, []string{"abc"}},
		{"one that has no end yet", []string{"a\nb"}, []string{"a"}},
		{"one as long as can be", []string{long, "\n"}, []string{long}},
		{"one that is longer comes in pieces", []string{long + "y" + long + "\n"}, []string{long, "y" + long[1:], "x"}},
	} {
		var got []string
		e := newEcho(func(lines []Line) {
			for _, line := range lines {
				if line.Job != "j" || line.Attempt != 2 {
					t.Errorf("%s: a line is of %s, attempt %d", c.why, line.Job, line.Attempt)
				}
				got = append(got, string(line.Text))
			}
		}, nil, nil, time.Time{})
		s := &speaker{line: Line{Job: "j", Attempt: 2}}
		for _, part := range c.parts {
			e.lines(s, []byte(part))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %.50q, want %.50q", c.why, got, c.want)
		}
	}
}

package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"
)

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

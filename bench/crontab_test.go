package main

import (
	"strings"
	"testing"
)

// The table is only worth something if all answer the same question. They may differ where clocks change, which is
// where the peers are not cron; on a year's starts that is seldom.
func TestLibrariesGiveTheSameTimes(t *testing.T) {
	for _, expr := range expressions {
		ours := libraries[0].next(expr)
		for _, l := range libraries[1:] {
			next, differ := l.next(expr), 0
			for _, start := range starts() {
				if want, got := ours(start), next(start); !got.Equal(want) {
					if differ++; differ == 1 {
						t.Logf("%q after %v: %s says %v, belfry %v", expr, start, l.name, got, want)
					}
				}
			}
			if differ > len(starts())/50 {
				t.Errorf("%q: %s differs from belfry on %d of %d starts", expr, l.name, differ, len(starts()))
			}
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, expr := range expressions {
		for _, l := range libraries {
			b.Run(strings.ReplaceAll(expr, " ", "_")+"/"+l.name, benchmarkNext(l, expr))
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, expr := range expressions {
		for _, l := range libraries {
			b.Run(strings.ReplaceAll(expr, " ", "_")+"/"+l.name, benchmarkParse(l, expr))
		}
	}
}

func BenchmarkPrev(b *testing.B) {
	for _, expr := range expressions {
		b.Run(strings.ReplaceAll(expr, " ", "_"), benchmarkPrev(expr))
	}
}

func BenchmarkBetween(b *testing.B) { benchmarkBetween(b) }

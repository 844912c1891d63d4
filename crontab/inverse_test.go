package crontab

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBetweenIsRepeatedNextAndPrevIsItsInverse(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for _, name := range changingZones {
		loc := zone(t, name)
		at := changes(loc, 2005, 2030)
		if len(at) == 0 {
			at = []time.Time{time.Date(2024, 2, 28, 12, 0, 0, 0, loc)}
		}
		for range 60 {
			s := mustParse(t, randomSchedule(r))
			from := at[r.IntN(len(at))].Add(-time.Duration(r.IntN(48*60)) * time.Minute)
			to := from.Add(72 * time.Hour)
			var repeated []time.Time
			for next := s.Next(from); !next.IsZero() && !next.After(to); next = s.Next(next) {
				repeated = append(repeated, next)
			}
			if between := slices.Collect(s.Between(from, to)); !slices.EqualFunc(between, repeated, time.Time.Equal) {
				t.Errorf("%v in %v from %v: Between gives %v, Next %v", s, loc, from, between, repeated)
			}
			for i := 1; i < len(repeated); i++ {
				if prev := s.Prev(repeated[i]); !prev.Equal(repeated[i-1]) {
					t.Errorf("%v in %v: Prev(%v) = %v, want %v", s, loc, repeated[i], prev, repeated[i-1])
				}
			}
		}
	}
}

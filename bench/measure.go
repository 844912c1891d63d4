package main

import (
	"errors"
	"testing"
	"time"

	"belfry/crontab"
)

var errNotValid = errors.New("not valid")

func benchmarkNext(l library, expr string) func(*testing.B) {
	return func(b *testing.B) {
		next, times := l.next(expr), starts()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			if next(times[i%len(times)]).IsZero() {
				b.Fatal("it never fires")
			}
		}
	}
}

func benchmarkParse(l library, expr string) func(*testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := l.parse(expr); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchmarkPrev(expr string) func(*testing.B) {
	return func(b *testing.B) {
		s, times := crontab.MustParseSchedule(expr), starts()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			if s.Prev(times[i%len(times)]).IsZero() {
				b.Fatal("it never fired")
			}
		}
	}
}

func benchmarkBetween(b *testing.B) {
	s, loc := crontab.MustParseSchedule("*/5 * * * *"), must(time.LoadLocation(zone))
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
	end := begin.AddDate(1, 0, 0)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		count := 0
		for range s.Between(begin, end) {
			count++
		}
		if count != 365*24*12 {
			b.Fatalf("%d firings", count)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

package main

import (
	"errors"
	"testing"
	"time"
)

var errNotValid = errors.New("not valid")

// What is measured is kept here, lest the compiler find that nobody wants it.
var (
	sinkTime  time.Time
	sinkError error
)

func benchmarkNext(l library, expr string) func(*testing.B) {
	return func(b *testing.B) {
		next, times := l.next(expr), starts()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			sinkTime = next(times[i%len(times)])
		}
	}
}

func benchmarkParse(l library, expr string) func(*testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			sinkError = l.parse(expr)
		}
		if sinkError != nil {
			b.Fatal(sinkError)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Command bench measures belfry/crontab beside other cron libraries for Go and prints the tables of README.md.
//
// All are measured in the same run, in turns of a few milliseconds, so that what else the machine does falls on all of
// them alike; each number is the median of its turns.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func main() {
	testing.Init()
	turns := flag.Int("turns", 15, "how often each library has its turn")
	length := flag.String("turn", "20ms", "how long a turn takes")
	flag.Parse()
	if err := flag.Set("test.benchtime", *length); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	table("Next", benchmarkNext, *turns)
	fmt.Println()
	table("Parse", benchmarkParse, *turns)
}

func table(what string, benchmark func(library, string) func(*testing.B), turns int) {
	fmt.Print("| " + what + ", ns |")
	for _, l := range libraries {
		fmt.Print(" " + l.name + " |")
	}
	fmt.Print(" fastest peer ÷ belfry | belfry allocs |\n|---|" + strings.Repeat("--:|", len(libraries)+2) + "\n")
	product, least := 1.0, math.Inf(1)
	for _, expr := range expressions {
		medians, allocs := measure(expr, benchmark, turns)
		ratio := slices.Min(medians[1:]) / medians[0]
		product, least = product*ratio, min(least, ratio)
		fmt.Printf("| `%s` |", expr)
		for _, ns := range medians {
			fmt.Printf(" %s |", nanoseconds(ns))
		}
		fmt.Printf(" %.1f | %d |\n", ratio, allocs)
	}
	fmt.Printf("\nAgainst the fastest peer, %s is %.1f times faster at the least and %.1f times in the geometric mean.\n",
		what, least, math.Pow(product, 1/float64(len(expressions))))
}

// measure returns the median time of each library, and the allocations of ours.
func measure(expr string, benchmark func(library, string) func(*testing.B), turns int) (medians []float64, allocs int64) {
	times := make([][]float64, len(libraries))
	for range turns {
		for i, l := range libraries {
			r := testing.Benchmark(benchmark(l, expr))
			times[i] = append(times[i], float64(r.T.Nanoseconds())/float64(r.N))
			if i == 0 {
				allocs = r.AllocsPerOp()
			}
		}
	}
	for _, t := range times {
		slices.Sort(t)
		medians = append(medians, t[len(t)/2])
	}
	return medians, allocs
}

func nanoseconds(ns float64) string {
	if ns < 100 {
		return fmt.Sprintf("%.1f", ns)
	}
	return fmt.Sprintf("%.0f", ns)
}

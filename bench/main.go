// Command bench measures belfry/crontab beside other cron libraries for Go and prints the tables of README.md.
//
// All are measured in the same run, in turns of a few milliseconds, so that what else the machine does falls on all of
// them alike; each number is that of the fastest turn, which was disturbed least. On a busy machine medians would flatter
// us: who allocates waits longer for the other processor.
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
	fmt.Println()
	alone(*turns)
}

func table(what string, benchmark func(library, string) func(*testing.B), turns int) {
	fmt.Print("| " + what + ", ns |")
	for _, l := range libraries {
		fmt.Print(" " + l.name + " |")
	}
	fmt.Print(" fastest peer ÷ belfry | belfry allocs |\n|---|" + strings.Repeat("--:|", len(libraries)+2) + "\n")
	product, least := 1.0, math.Inf(1)
	for _, expr := range expressions {
		var benchmarks []func(*testing.B)
		for _, l := range libraries {
			benchmarks = append(benchmarks, benchmark(l, expr))
		}
		times, allocs := measure(turns, benchmarks...)
		ratio := slices.Min(times[1:]) / times[0]
		product, least = product*ratio, min(least, ratio)
		fmt.Printf("| `%s` |", expr)
		for _, ns := range times {
			fmt.Printf(" %s |", nanoseconds(ns))
		}
		fmt.Printf(" %.1f | %d |\n", ratio, allocs)
	}
	fmt.Printf("\nAgainst the fastest peer, %s is %.1f times faster at the least and %.1f times in the geometric mean.\n",
		what, least, math.Pow(product, 1/float64(len(expressions))))
}

// alone prints what only belfry is measured in.
func alone(turns int) {
	fmt.Print("| belfry alone | |\n|---|--:|\n")
	for _, expr := range expressions {
		ns, _ := measure(turns, benchmarkPrev(expr))
		fmt.Printf("| Prev of `%s` | %s ns |\n", expr, nanoseconds(ns[0]))
	}
	ns, allocs := measure(turns, benchmarkBetween)
	fmt.Printf("| Between over a year of `*/5 * * * *`, 105 120 firings | %.1f ms, %d allocations |\n", ns[0]/1e6, allocs)
	for _, c := range []struct{ what, line string }{
		{"expressions", "%s\n"},
		{"objects", `{"expr": "%s", "tz": "Asia/Seoul", "from": "2026-07-09T02:30:00Z", "n": 1}` + "\n"},
	} {
		fmt.Printf("| `belfry next --json -n 1 -`, lines of %s | %.0f a second |\n", c.what, must(linesPerSecond(c.line, turns)))
	}
}

// measure returns the least time of each benchmark, and the allocations of the first.
func measure(turns int, benchmarks ...func(*testing.B)) (times []float64, allocs int64) {
	times = make([]float64, len(benchmarks))
	for turn := range turns {
		for i, benchmark := range benchmarks {
			r := testing.Benchmark(benchmark)
			ns := float64(r.T.Nanoseconds()) / float64(r.N)
			if turn == 0 || ns < times[i] {
				times[i] = ns
			}
			if i == 0 {
				allocs = r.AllocsPerOp()
			}
		}
	}
	return times, allocs
}

func nanoseconds(ns float64) string {
	if ns < 100 {
		return fmt.Sprintf("%.1f", ns)
	}
	return fmt.Sprintf("%.0f", ns)
}

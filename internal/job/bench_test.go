package job

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
)

// hundredThousand is a crontab of as many lines as a host may have.
func hundredThousand() string {
	var b strings.Builder
	b.WriteString("SHELL=/bin/bash\nPATH=/usr/local/bin:/usr/bin:/bin\nMAILTO=ops@example.com\n")
	for i := range 100_000 {
		fmt.Fprintf(&b, "%d %d * * * /srv/batch/report.sh --customer %d\n", i%60, i/60%24, i)
	}
	return b.String()
}

func parseCrontab(b testing.TB, text string) []*Job {
	file, err := crontab.Parse("ops", []byte(text), crontab.Options{Seed: "host"})
	if err != nil {
		b.Fatal(err)
	}
	jobs, errs := FromCrontab(file, Crontab{Project: "ops", Owner: "ops", File: "/etc/ops", Zone: time.UTC})
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	return jobs
}

func liveBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkJobsOfAHundredThousandLines tells what reading a large crontab takes,
// and what its jobs hold on to.
func BenchmarkJobsOfAHundredThousandLines(b *testing.B) {
	text := hundredThousand()
	var jobs []*Job
	before := liveBytes()
	for b.Loop() {
		jobs = parseCrontab(b, text)
		Match(jobs, nil)
	}
	b.ReportMetric(float64(liveBytes()-before)/float64(len(jobs)), "B/job")
	runtime.KeepAlive(jobs)
}

func knownOf(jobs []*Job) []Known {
	known := make([]Known, len(jobs))
	for i, j := range jobs {
		known[i] = Known{Key: fmt.Sprint(i), Name: j.Name, Command: j.Command.String(), Timing: j.Timing()}
	}
	return known
}

func BenchmarkFromCrontab(b *testing.B) {
	file, err := crontab.Parse("ops", []byte(hundredThousand()), crontab.Options{Seed: "host"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, errs := FromCrontab(file, Crontab{Project: "ops", Owner: "ops", File: "/etc/ops", Zone: time.UTC}); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	jobs := parseCrontab(b, hundredThousand())
	Match(jobs, nil)
	known := knownOf(jobs)
	edited, another := slices.Clone(known), slices.Clone(known)
	for i := range known {
		edited[i].Command += " --quiet"
		another[i].Command, another[i].Timing = "report.sh old", "another"
	}
	for name, known := range map[string][]Known{"new": nil, "unchanged": known, "moved by one": known[1:], "arguments edited": edited, "all edited": another} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				for _, j := range jobs {
					j.Name = ""
				}
				b.StartTimer()
				Match(jobs, known)
			}
		})
	}
}

func BenchmarkDefinition(b *testing.B) {
	jobs := parseCrontab(b, "PATH=/usr/local/bin:/usr/bin:/bin\n0 1 * * * /srv/batch/report.sh --customer 17\n")
	Match(jobs, nil)
	for b.Loop() {
		jobs[0].Definition()
	}
}

func BenchmarkParseDefinition(b *testing.B) {
	jobs := parseCrontab(b, "PATH=/usr/local/bin:/usr/bin:/bin\n0 1 * * * /srv/batch/report.sh --customer 17\n")
	Match(jobs, nil)
	text := jobs[0].Definition().JSON
	for b.Loop() {
		if _, err := ParseDefinition(text); err != nil {
			b.Fatal(err)
		}
	}
}

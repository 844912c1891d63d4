package crontab_test

import (
	"fmt"
	"time"

	"belfry/crontab"
)

func ExampleSchedule_Next() {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic(err)
	}
	s := crontab.MustParseSchedule("30 2 * * *")
	for t := range s.Between(time.Date(2024, 3, 9, 0, 0, 0, 0, newYork), time.Date(2024, 3, 12, 0, 0, 0, 0, newYork)) {
		fmt.Println(t.Format(time.RFC3339), "named", s.Named(t).Format("15:04"))
	}
	// Output:
	// 2024-03-09T02:30:00-05:00 named 02:30
	// 2024-03-10T03:00:00-04:00 named 02:30
	// 2024-03-11T02:30:00-04:00 named 02:30
}

func ExampleSchedule_Explain() {
	fmt.Println(crontab.MustParseSchedule("*/5 1,2,3 * * *").Explain())
	fmt.Println(crontab.MustParseSchedule("0 16 * * *").Explain())
	fmt.Println(crontab.MustParseSchedule("0 6 1-7 * mon").Explain())
	// Output:
	// every 5 minutes (00, 05 … 55) past 01, 02 and 03, every day, 36 times a day
	// every day at 16:00
	// at 06:00 on the 1st to the 7th of every month, and also every Monday (either is enough)
}

func ExampleParse() {
	src := "MAILTO=ops\n0 25 * * * never\n#belfry: name=dump timeout=1h\n5 4 * * * pg_dump shop > shop-$(date +\\%F).sql\n"
	file, err := crontab.Parse("ops", []byte(src), crontab.Options{})
	fmt.Println(err)
	for _, e := range file.Entries {
		fmt.Println(e.Line, e.Schedule, e.Command, e.Env, e.Options[0].Value)
	}
	// Output:
	// ops:2:3: "25" is not an hour (0–23)
	// 4 5 4 * * * pg_dump shop > shop-$(date +%F).sql [{MAILTO ops}] dump
}

func ExampleParseSchedule() {
	s, err := crontab.ParseSchedule("0 9-17/2 * * mon-fri")
	fmt.Println(s, err)

	_, err = crontab.ParseSchedule("0 25 * * *")
	fmt.Println(err)
	_, err = crontab.ParseSchedule("0 0 L * *")
	fmt.Println(err)
	// Output:
	// 0 9-17/2 * * mon-fri <nil>
	// column 3: "25" is not an hour (0–23)
	// column 5: "L" for the last day of the month is Quartz's; write "28-31" and begin the command with [ "$(date -d tomorrow +\%d)" = 01 ] || exit 0;
}

// Where the next run is wanted now and then, and not every instant of a range.
func ExampleSchedule_Prev() {
	s := crontab.MustParseSchedule("0 16 * * *")
	now := time.Date(2026, 7, 9, 12, 0, 0, 0, time.UTC)
	fmt.Println("ran at  ", s.Prev(now).Format(time.RFC3339))
	fmt.Println("runs at ", s.Next(now).Format(time.RFC3339))
	fmt.Println("never is", crontab.MustParseSchedule("0 0 30 2 *").Next(now).IsZero())
	// Output:
	// ran at   2026-07-08T16:00:00Z
	// runs at  2026-07-09T16:00:00Z
	// never is true
}

// A wildcard schedule follows elapsed time, a fixed one the clock on the wall:
// in the night in which 01:30 comes twice the first fires in both halves.
func ExampleSchedule_Wildcard() {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic(err)
	}
	evening, morning := time.Date(2024, 11, 2, 22, 0, 0, 0, newYork), time.Date(2024, 11, 3, 3, 0, 0, 0, newYork)
	for _, expr := range []string{"30 * * * *", "30 1 * * *"} {
		s := crontab.MustParseSchedule(expr)
		fmt.Printf("%s wildcard: %v\n", expr, s.Wildcard())
		for t := range s.Between(evening, morning) {
			fmt.Println(" ", t.Format("15:04 MST"))
		}
	}
	// Output:
	// 30 * * * * wildcard: true
	//   22:30 EDT
	//   23:30 EDT
	//   00:30 EDT
	//   01:30 EDT
	//   01:30 EST
	//   02:30 EST
	// 30 1 * * * wildcard: false
	//   01:30 EDT
}

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

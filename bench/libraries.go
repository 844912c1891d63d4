package main

import (
	"math/rand/v2"
	"time"

	"belfry/crontab"

	"github.com/adhocore/gronx"
	netresearch "github.com/netresearch/go-cron"
	robfig "github.com/robfig/cron/v3"
)

var expressions = []string{
	"* * * * *",
	"*/5 1,2,3 * * *",
	"0 16 * * *",
	"0 0 1 1 *",
	"0 0 29 2 *",
	"15 3 * * 1-5",
	"0 0 13 * 5",
	"30 2 * * 0",
	"0 9-17/2 * * 1-5",
	"59 23 31 12 *",
}

const zone = "America/New_York"

// library is one of those that are compared, used as its documentation says.
type library struct {
	name string
	// next reads an expression once and returns what gives the first firing after a time, in that time's zone. gronx
	// has no schedules: its documented call takes the expression, and so reads it each time.
	next func(expr string) func(time.Time) time.Time
	// parse reads an expression, or judges it where a library has nothing to read it into.
	parse func(expr string) error
}

// Ours comes first; the others are its peers.
var libraries = []library{
	{
		name: "belfry",
		next: func(expr string) func(time.Time) time.Time { return crontab.MustParseSchedule(expr).Next },
		parse: func(expr string) error {
			_, err := crontab.ParseSchedule(expr)
			return err
		},
	},
	{
		name: "robfig",
		next: func(expr string) func(time.Time) time.Time { return must(robfig.ParseStandard(expr)).Next },
		parse: func(expr string) error {
			_, err := robfig.ParseStandard(expr)
			return err
		},
	},
	{
		name: "netresearch",
		next: func(expr string) func(time.Time) time.Time { return must(netresearchParser.Parse(expr)).Next },
		parse: func(expr string) error {
			_, err := netresearchParser.Parse(expr)
			return err
		},
	},
	{
		name: "gronx",
		next: func(expr string) func(time.Time) time.Time {
			return func(t time.Time) time.Time { return must(gronx.NextTickAfter(expr, t, false)) }
		},
		parse: func(expr string) error {
			if !gronx.IsValid(expr) {
				return errNotValid
			}
			return nil
		},
	},
}

// netresearchParser is its standard parser with the option that its documentation names for cron's rule of the two day
// fields; without it, 0 0 13 * 5 is another schedule than it is to the rest.
var netresearchParser = netresearch.MustNewParser(netresearch.Minute | netresearch.Hour | netresearch.Dom | netresearch.Month |
	netresearch.Dow | netresearch.Descriptor | netresearch.DowOrDom)

// starts are times all over a year, to the second, in an order that neither a cache nor a branch predictor can learn by
// heart from the expressions.
func starts() []time.Time {
	loc := must(time.LoadLocation(zone))
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
	r := rand.New(rand.NewPCG(2026, 1))
	list := make([]time.Time, 1<<10)
	for i := range list {
		list[i] = begin.Add(time.Duration(r.IntN(365*24*60*60)) * time.Second)
	}
	return list
}

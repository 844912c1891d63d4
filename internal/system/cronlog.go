package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Started is a line of cron's log that says that it started a command.
type Started struct {
	At      time.Time
	User    string
	Command string // as the log has it: control characters as ^M, other bytes than ASCII as \351
}

// startedLine is such a line, in the forms in which logs keep it: with the time
// in the traditional form, which knows no year, or in that of RFC 3339; with a
// priority in front, as it comes through the socket; with the host's name or not.
// Debian's cron calls itself CRON, cronie CROND.
var startedLine = regexp.MustCompile(`^(?:\S+ )?(?:CRON|CROND|cron|crond)\[\d+\]: \(([^()]*)\) CMD \((.*)\)$`)

// logLine is any line of a log.
var logLine = regexp.MustCompile(`^(?:<\d+>)?([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)) (.*)$`)

// ReadCronLog gives what cron has started, by its log, and when that begins. zone
// is the machine's, and now a time by which it had all happened: both are needed
// for times without zone and year. Lines that say something else are passed over.
func ReadCronLog(log io.Reader, zone *time.Location, now time.Time) (list []Started, begins time.Time, err error) {
	lines := bufio.NewReaderSize(log, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		if m := logLine.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			at, ok := logTime(m[1], zone, now)
			if begins.IsZero() {
				begins = at
			}
			if cmd := startedLine.FindStringSubmatch(m[2]); cmd != nil && ok {
				list = append(list, Started{at, cmd[1], cmd[2]})
			}
		}
		if errors.Is(err, io.EOF) {
			return list, begins, nil
		}
		if err != nil {
			return nil, begins, err
		}
	}
}

func logTime(text string, zone *time.Location, now time.Time) (at time.Time, ok bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	// The year is the last in which it was before now; the 29th of February is in
	// few of them.
	for year := now.In(zone).Year() + 1; year > now.Year()-8; year-- {
		at, err := time.ParseInLocation("2006 "+time.Stamp, fmt.Sprintf("%d %s", year, text), zone)
		if err == nil && !at.After(now.Add(time.Hour)) {
			return at, true
		}
	}
	return time.Time{}, false
}

package crontab

import (
	"fmt"
	"strings"
)

// zoneName is the machine's zone for an example, where it is known by a name.
func (l *linter) zoneName() string {
	if l.o.Zone == nil || l.o.Zone.String() == "Local" {
		return ""
	}
	return l.o.Zone.String()
}

// noZone finds a file that nowhere says which clock its times are on. The system's own files keep the machine's, and a
// file for other crons has no way to say it.
func (l *linter) noZone() {
	if l.o.System || l.o.Portable {
		return
	}
	for _, v := range l.vars {
		if v.Name == "CRON_TZ" {
			return // see lateZone
		}
	}
	for _, e := range l.entries {
		s := &e.Schedule
		if _, fires := s.after(0, forever); s.never() || !fires || set(s.hour) == hourField.full() && s.daily() {
			continue
		}
		of, example := "", "Asia/Seoul"
		if name := l.zoneName(); name != "" {
			of, example = " ("+name+")", name
		}
		what := "these hours are"
		switch minutes, hours := set(s.minute), set(s.hour); {
		case hours == hourField.full():
			what = "these days begin and end"
		case minutes.len() == 1 && hours.len() == 1:
			what = fmt.Sprintf("%02d:%02d is", hours.min(), minutes.min())
		}
		l.report(e.Line, e.when.pos,
			fmt.Sprintf("no CRON_TZ says in which time zone %s: it is the machine's%s, whatever that is set to", what, of),
			fmt.Sprintf("write the zone that is meant above the first entry, as CRON_TZ=%s", example))
		return
	}
}

// lateZone finds a first CRON_TZ that some entries stand above.
func (l *linter) lateZone() {
	for _, v := range l.vars {
		if v.Name != "CRON_TZ" {
			continue
		}
		var above []string
		for _, e := range l.entries {
			if e.Line < v.line && !e.Schedule.never() {
				above = append(above, fmt.Sprint(e.Line))
			}
		}
		if len(above) == 0 {
			return
		}
		what := "the entry in line " + above[0] + " stays"
		if len(above) > 1 {
			what = fmt.Sprintf("the %d entries above, in lines %s to %s, stay", len(above), above[0], above[len(above)-1])
		}
		l.report(v.line, v.name.pos,
			fmt.Sprintf("CRON_TZ holds for all the entries below it and none above: %s in the machine's zone", what),
			"put it above the first entry, or state a zone for the entries above too")
		return
	}
}

// tzOnly finds TZ in a file without CRON_TZ.
func (l *linter) tzOnly() {
	for _, v := range l.vars {
		if v.Name == "CRON_TZ" {
			return
		}
	}
	for _, v := range l.vars {
		if v.Name != "TZ" {
			continue
		}
		if strings.ContainsAny(v.Value, " \t") {
			l.report(v.line, v.name.pos,
				fmt.Sprintf("the whole line is an assignment to TZ, of the value %s: nothing on it runs", quote(v.Value)),
				fmt.Sprintf("put CRON_TZ=%s on a line of its own above the entry", strings.Fields(v.Value)[0]))
			continue
		}
		l.report(v.line, v.name.pos,
			"TZ is what the commands see; the schedules below stay in the machine's zone",
			fmt.Sprintf("to move the schedules, write CRON_TZ=%s; keep TZ if the commands should see it", v.Value))
	}
}

func (l *linter) unknownZone() {
	if l.o.LoadZone == nil {
		return
	}
	for _, v := range l.vars {
		if v.Name != "CRON_TZ" || v.Value == "" || v.Value == "UTC" || strings.ContainsAny(v.Value, " \t") || l.load(v.Value) != nil {
			continue
		}
		l.report(v.line, v.value.pos,
			fmt.Sprintf("%s is not a time zone that this machine knows: cron would take UTC without a word", quote(v.Value)),
			"write a name like Asia/Seoul, Europe/Berlin or UTC")
	}
}

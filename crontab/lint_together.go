package crontab

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// meet returns the first local minute from the year on in which both schedules fire.
func meet(a, b *Schedule, year int) (int64, bool) {
	minutes, hours, months := a.minute&b.minute, a.hour&b.hour, a.month&b.month
	if minutes == 0 || hours == 0 || months == 0 {
		return 0, false
	}
	const years = 40 // a 29 February on every weekday
	for y := year; y < year+years; y++ {
		for m := range set(months).each() {
			first := dayNumber(y, m, 1)
			if days := a.days(y, m, first) & b.days(y, m, first); days != 0 {
				return (first+int64(set(days).min())-1)*dayMinutes + int64(set(hours).min()*60+set(minutes).min()), true
			}
		}
	}
	return 0, false
}

// year is the year from which on dates are looked for.
func (l *linter) year() int {
	if l.o.Now.IsZero() {
		return 2024
	}
	return l.o.Now.UTC().Year()
}

// written is a file that an entry writes.
type written struct {
	entry   *lintEntry
	at      int
	key     string // equal for the same file
	path    string // as it stands there
	replace bool
}

// writes returns the files that the entry writes, as far as their names are known before it runs.
func (e *lintEntry) writes() []written {
	if !e.shell.ok {
		return nil
	}
	var files []written
	folder := ""
	add := func(w shellWord, replace bool) {
		path := w.text
		if path == "" || strings.HasPrefix(path, "/dev/") || strings.ContainsAny(path, "*?[") {
			return
		}
		if rest := strings.ReplaceAll(path, "$(date", ""); strings.ContainsAny(rest, "$`") || strings.Contains(path, "%s") || strings.Contains(path, "%N") {
			return
		}
		key := path
		if !strings.HasPrefix(path, "/") {
			home, _ := e.env("HOME")
			key = strings.Join([]string{e.User, home, folder, path}, "\x00")
		}
		files = append(files, written{e, w.at, key, path, replace})
	}
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		if c.name() == "cd" && len(c.words) > 1 {
			folder += "\x00" + c.words[1].text
		}
		for _, r := range c.redirects {
			switch r.op {
			case ">", ">|", "&>":
				add(r.target, true)
			case ">>", "&>>":
				add(r.target, false)
			}
		}
		if base(c.name()) == "tee" {
			replace := true
			for _, w := range c.words[1:] {
				if strings.HasPrefix(w.raw, "-") {
					replace = replace && !strings.Contains(w.raw, "a")
					continue
				}
				add(w, replace)
			}
		}
	}
	return files
}

// sameFile finds two entries that write one file in one minute.
func (l *linter) sameFile() {
	const most = 50 // writers of one file that are compared with each other
	writers := map[string][]written{}
	for _, e := range l.entries {
		for _, w := range e.writes() {
			for _, other := range writers[w.key] {
				if other.entry == e || other.entry.Zone != e.Zone {
					continue
				}
				minute, ok := meet(&other.entry.Schedule, &e.Schedule, l.year())
				if !ok {
					continue
				}
				what := "their lines end up between each other"
				if w.replace || other.replace {
					what = "one of them overwrites what the other wrote"
				}
				l.report(e.Line, e.in(w.at),
					fmt.Sprintf("line %d writes %s too, and both run at %s (on %s, for one): %s", other.entry.Line, quote(w.path), clock(minute), date(minute), what),
					"give each a file of its own, or run them at different times")
				break
			}
			if len(writers[w.key]) < most {
				writers[w.key] = append(writers[w.key], w)
			}
		}
	}
}

func (l *linter) duplicateEntry() {
	type content struct{ zone, schedule, user, command, stdin string }
	lines := map[content]int{}
	for _, e := range l.entries {
		c := content{e.Zone, strings.Join(blankWords(e.Schedule.text), " "), e.User, strings.TrimSpace(e.Command), e.Stdin}
		if line, again := lines[c]; again {
			l.report(e.Line, e.start, fmt.Sprintf("line %d is the same entry: it runs twice each time", line), "remove one of the two")
			continue
		}
		lines[c] = e.Line
	}
}

// crowd is how many entries of one file may begin in one minute.
const crowd = 4

// crowdedMinute finds the minute that most of the entries which run once a day begin in.
func (l *linter) crowdedMinute() {
	type minute struct {
		zone string
		at   int
	}
	groups := map[minute][]*lintEntry{}
	var order []minute
	for _, e := range l.entries {
		minutes, hours := set(e.Schedule.minute), set(e.Schedule.hour)
		if minutes.len() != 1 || hours.len() != 1 {
			continue
		}
		m := minute{e.Zone, hours.min()*60 + minutes.min()}
		if groups[m] == nil {
			order = append(order, m)
		}
		groups[m] = append(groups[m], e)
	}
	for _, m := range order {
		if len(groups[m]) <= crowd {
			continue
		}
		most, day := 0, int64(0)
		for month := 1; month <= 12; month++ {
			first := dayNumber(l.year(), month, 1)
			var count [32]int
			for _, e := range groups[m] {
				for d := range set(e.Schedule.days(l.year(), month, first)).each() {
					count[d]++
				}
			}
			for d, n := range count {
				if n > most {
					most, day = n, first+int64(d)-1
				}
			}
		}
		if most <= crowd {
			continue
		}
		e, others := groups[m][crowd], ""
		if m.at == 0 {
			others = ", when those of many other machines begin too"
		}
		l.report(e.Line, e.when.pos,
			fmt.Sprintf("%d of the entries begin in the same minute, %s, on one day (%s, for one)%s", most, clock(int64(m.at)), date(day*dayMinutes), others),
			"spread them over the hour: pick odd minutes, or write ~ for the minute")
	}
}

// overlap finds entries whose next run is due before the last can be expected to have ended.
func (l *linter) overlap() {
	if l.o.Duration == nil {
		return
	}
	for _, e := range l.entries {
		if slices.ContainsFunc(e.Options, func(o Option) bool { return o.Key == "overlap" }) || e.locked() {
			continue
		}
		took := l.o.Duration(*e.Entry)
		if took <= 0 || took < time.Minute {
			continue
		}
		period, ok := e.Schedule.period(l.year(), took)
		if !ok {
			continue
		}
		l.report(e.Line, e.when.pos,
			fmt.Sprintf("a run is expected to take %s, and the next one begins %s after it: they will run side by side", spoken(took), spoken(period)),
			"run it less often, or put #belfry: overlap=skip above it (under cron, begin the command with flock -n /some/lock)")
	}
}

// locked reports whether the command sees to it that it runs once at a time.
func (e *lintEntry) locked() bool {
	for i := range e.shell.commands {
		for _, w := range e.shell.commands[i].words {
			switch base(w.text) {
			case "flock", "setlock", "run-one", "lockfile", "dotlockfile", "chpst", "solo", "lckdo", "with-lock-ex":
				return true
			}
		}
	}
	return false
}

// period returns the shortest time between two firings, if one is shorter than the limit.
func (s *Schedule) period(year int, limit time.Duration) (time.Duration, bool) {
	least := time.Duration(0)
	last := time.Time{}
	n := 0
	for t := range s.Between(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Add(-1), time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC)) {
		if gap := t.Sub(last); !last.IsZero() && gap < limit && (least == 0 || gap < least) {
			least = gap
		}
		if last, n = t, n+1; n > 2000 || least == time.Minute {
			break
		}
	}
	return least, least > 0
}

// spoken writes a duration as a person would: 1h30m, 45s.
func spoken(d time.Duration) string {
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

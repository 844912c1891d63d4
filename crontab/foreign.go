package crontab

import (
	"fmt"
	"strconv"
	"strings"
)

// What other schedulers write and cron does not read. None of it is accepted; all of it is recognised, so that the
// error can name where it comes from and say what to write instead.

// foreign returns what to say about one part of a field that is not cron's; empty when it is nobody's.
func foreign(f *field, part string) string {
	up := strings.ToUpper(part)
	body, step, stepped := strings.Cut(part, "/")
	switch {
	case strings.Contains(part, "?"):
		return fmt.Sprintf("%q is Quartz's \"no value\"; write \"*\"", part)
	case up == "H" || strings.HasPrefix(up, "H/") || strings.HasPrefix(up, "H("):
		if stepped {
			return fmt.Sprintf("%q is Jenkins's; write \"*/%s\", or begin elsewhere in the range: \"%d-%d/%s\"", part, step, f.low+3, f.high, step)
		}
		if low, high, ok := strings.Cut(strings.Trim(up, "H()"), "-"); ok {
			return fmt.Sprintf("%q is Jenkins's; write %q", part, low+"~"+high)
		}
		return fmt.Sprintf("%q is Jenkins's; write \"~\"", part)
	case f == domField && (up == "L" || part == "$"):
		whose := "Quartz's"
		if part == "$" {
			whose = "ISC cron's"
		}
		return fmt.Sprintf("%q for the last day of the month is %s; write \"28-31\" and begin the command with [ \"$(date -d tomorrow +\\%%d)\" = 01 ] || exit 0;", part, whose)
	case f == domField && strings.HasPrefix(up, "L-"):
		return fmt.Sprintf("%q for a day counted from the end of the month is Quartz's; write the days it can be, as \"25-31\", and test the date in the command", part)
	case f == domField && strings.HasSuffix(up, "W"):
		return fmt.Sprintf("%q for the nearest working day is Quartz's; write the days it can be and test the date in the command", part)
	case f == dowField && strings.HasSuffix(up, "L") && len(up) > 1:
		if day, ok := f.value(part[:len(part)-1]); ok {
			return fmt.Sprintf("%q for the last such day of the month is Quartz's; write \"%d\" and begin the command with [ \"$(date -d +7days +\\%%m)\" != \"$(date +\\%%m)\" ] || exit 0;", part, day)
		}
	case f == dowField && strings.Contains(part, "#"):
		name, nth, _ := strings.Cut(part, "#")
		day, ok := f.value(name)
		n, err := strconv.Atoi(nth)
		if ok && err == nil && n >= 1 && n <= 5 && day <= 7 {
			days := fmt.Sprintf("%d-%d", n*7-6, min(n*7, 31))
			return fmt.Sprintf("%q for one such day of the month is Quartz's; write %q as the day of the month, \"*\" as the day of the week, and begin the command with [ \"$(date +\\%%u)\" = %d ] || exit 0;",
				part, days, (day+6)%7+1)
		}
		return fmt.Sprintf("%q is Quartz's; cron has no nth day of a month", part)
	case stepped && strings.Contains(body, "~"):
		return fmt.Sprintf("%q is OpenBSD's; after ~ there is no step", part)
	case strings.HasPrefix(part, "*~"):
		return fmt.Sprintf("%q: a random value is written without *, as %q", part, part[1:])
	case stepped:
		n, ok := number(step)
		if low, named := f.value(body); ok && named && n > 0 && low >= f.low && low <= f.high {
			end := strconv.Itoa(f.high)
			if isLetter(body[0]) {
				end = f.names[len(f.names)-1]
			}
			return fmt.Sprintf("%q is Quartz's and FreeBSD's: a step needs a range; write \"%s-%s/%s\"", part, body, end, step)
		}
	}
	return foreignName(f, part)
}

// foreignName answers for words: the long names of other crons, and names in the wrong field.
func foreignName(f *field, part string) string {
	long := func(f *field) string {
		for i, name := range f.names {
			full := longMonths[i]
			if f == dowField {
				full = longDays[i]
			}
			if len(part) > 3 && len(part) <= len(full) && strings.EqualFold(full[:len(part)], part) || strings.EqualFold(part, full+"s") {
				return name
			}
		}
		return ""
	}
	if name := long(f); name != "" {
		return fmt.Sprintf("%q is not %s: names have three letters; write %q", part, f.one, name)
	}
	for _, other := range []*field{monthField, dowField} {
		if other == f {
			continue
		}
		_, ok := other.nameIndex(part)
		if ok || long(other) != "" {
			return fmt.Sprintf("%q is %s and stands where the %s belongs (%s)", part, other.one, f.name, f.bounds())
		}
	}
	return ""
}

// foreignShape looks at a bare expression as a whole: a zone in front of it, or more fields than five.
func (r *lineReader) foreignShape() *Error {
	words := blankWords(r.rest())
	if len(words) == 0 || words[0][0] == '@' {
		return nil
	}
	if strings.HasPrefix(words[0], "TZ=") || strings.HasPrefix(words[0], "CRON_TZ=") {
		return r.errorAt(r.pos, words[0], "%q in front of a schedule is robfig/cron's; in a crontab, CRON_TZ=… is a line of its own above the entry", words[0])
	}
	switch len(words) {
	case 6:
		return r.errorAt(r.pos, strings.TrimRight(r.rest(), " \t"),
			"six fields: Quartz and Spring put the seconds first; cron has no seconds, write %q", strings.Join(words[1:], " "))
	case 7:
		return r.errorAt(r.pos, strings.TrimRight(r.rest(), " \t"),
			"seven fields: Quartz puts the seconds first and a year last; cron has neither, write %q", strings.Join(words[1:6], " "))
	}
	return nil
}

// foreignNickname says what to write instead of an @name that is not cron's. at is where it stands.
func (r *lineReader) foreignNickname(name string, at int) string {
	if _, ok := nicknames[strings.ToLower(name)]; ok {
		return fmt.Sprintf("%q is not a nickname: they are lower case; write %q", name, strings.ToLower(name))
	}
	switch name {
	case "@every":
		arg := ""
		if words := blankWords(r.line[at:]); len(words) > 1 {
			arg = words[1]
		}
		if arg != "" {
			n, ok := number(arg[:len(arg)-1])
			switch unit := arg[len(arg)-1]; {
			case ok && n > 0 && unit == 'm' && 60%n == 0 && n < 60:
				return fmt.Sprintf("\"@every %s\" is robfig/cron's; write \"*/%d * * * *\"", arg, n)
			case ok && n > 0 && unit == 'h' && 24%n == 0 && n < 24:
				return fmt.Sprintf("\"@every %s\" is robfig/cron's; write \"0 */%d * * *\"", arg, n)
			}
		}
		return "\"@every\" is robfig/cron's; write five fields, as \"*/5 * * * *\" for every five minutes"
	case "@minutely", "@every_minute":
		return fmt.Sprintf("%q is not cron's; write \"* * * * *\"", name)
	case "@every_second":
		return fmt.Sprintf("%q is FreeBSD's; cron counts minutes", name)
	case "@boot", "@startup":
		return fmt.Sprintf("%q is not cron's; write \"@reboot\"", name)
	case "@weekdays":
		return fmt.Sprintf("%q is not cron's; write \"0 0 * * 1-5\"", name)
	}
	return fmt.Sprintf("%q is not a nickname: there are @reboot, @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly", name)
}

var (
	longMonths = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
	longDays   = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
)

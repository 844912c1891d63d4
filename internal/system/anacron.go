package system

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"belfry/crontab"
)

// Anacrontab is what /etc/anacrontab says: which commands are to run once in so
// many days, at some time of a day on which the machine is on.
type Anacrontab struct {
	Path    string
	Entries []AnacronEntry
	Errors  crontab.Errors
}

// AnacronEntry is a line of an anacrontab that runs something.
type AnacronEntry struct {
	Line    int
	Period  string // as it is written: days, or @daily, @weekly, @monthly, @yearly
	Delay   int    // minutes after anacron has begun
	Name    string // the job's, by which anacron knows when it last ran
	Command string
	Env     []crontab.Var // the assignments above it
}

var (
	anacronVariable = regexp.MustCompile(`^([^ \t=]+)[ \t]*=[ \t]*(.*?)[ \t]*$`)
	anacronLine     = regexp.MustCompile(`^([^ \t]+)[ \t]+([^ \t]+)[ \t]+([^ \t]+)[ \t]+(.*)$`)
)

// Anacrontab reads the machine's anacrontab; nil when there is none.
func (p Places) Anacrontab() (*Anacrontab, error) {
	path := filepath.Join(p.Root, "etc/anacrontab")
	text, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseAnacrontab(path, string(text)), nil
}

func parseAnacrontab(path, text string) *Anacrontab {
	a := &Anacrontab{Path: path}
	var env []crontab.Var
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		number, line := i+1, lines[i]
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) { // it goes on in the next
			i++
			line = strings.TrimSuffix(line, `\`) + lines[i]
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		wrong := func(text, message string) {
			a.Errors = append(a.Errors, &crontab.Error{File: path, Line: number, Column: 1, Text: text, Message: message})
		}
		if v := anacronVariable.FindStringSubmatch(line); v != nil {
			env = append(env[:len(env):len(env)], crontab.Var{Name: v[1], Value: v[2]})
			continue
		}
		fields := anacronLine.FindStringSubmatch(line)
		if fields == nil {
			wrong(line, fmt.Sprintf("%q is not a line of an anacrontab: days, minutes, a name, a command", line))
			continue
		}
		delay, err := strconv.Atoi(fields[2])
		if err != nil || delay < 0 {
			wrong(fields[2], fmt.Sprintf("%q is not a delay in minutes", fields[2]))
			continue
		}
		e := AnacronEntry{Line: number, Period: fields[1], Delay: delay, Name: fields[3], Command: fields[4], Env: env}
		if _, _, err := e.Schedule(); err != nil {
			wrong(fields[1], err.Error())
			continue
		}
		a.Entries = append(a.Entries, e)
	}
	return a
}

// Schedule gives the schedule that comes closest to the entry, for a job that
// catches up with what it missed: at the first minute of the hours that anacron
// may begin in, and the entry's delay after. exact says that it means the same
// but for the day, which anacron counts from the last time.
func (e AnacronEntry) Schedule() (schedule string, exact bool, err error) {
	begin := 0
	for _, v := range e.Env {
		if v.Name == "START_HOURS_RANGE" {
			from, _, _ := strings.Cut(v.Value, "-")
			if begin, err = strconv.Atoi(from); err != nil || begin < 0 || begin > 23 {
				return "", false, fmt.Errorf("START_HOURS_RANGE %q is not two hours, as in 3-22", v.Value)
			}
		}
	}
	at := begin*60 + e.Delay
	if at >= 24*60 {
		return "", false, fmt.Errorf("a delay of %d minutes after %d:00 is past the end of the day", e.Delay, begin)
	}
	clock := fmt.Sprintf("%d %d ", at%60, at/60)
	switch e.Period {
	case "@daily", "1":
		return clock + "* * *", true, nil
	case "@weekly", "7":
		return clock + "* * 0", true, nil
	case "@monthly", "30", "31":
		return clock + "1 * *", true, nil
	case "@yearly", "@annually", "365", "366":
		return clock + "1 1 *", true, nil
	}
	days, err := strconv.Atoi(e.Period)
	if err != nil || days < 1 {
		return "", false, fmt.Errorf("%q is not a period: days, @daily, @weekly, @monthly or @yearly", e.Period)
	}
	if days > 31 {
		return clock + "1 * *", false, nil
	}
	return clock + fmt.Sprintf("*/%d * *", days), false, nil
}

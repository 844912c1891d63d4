package job

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"belfry/crontab"
)

// Crontab says whose a crontab is and how it is read.
type Crontab struct {
	Project string
	Owner   string         // of its jobs; a system crontab names the user in each line
	File    string         // absolute path, for messages
	Zone    *time.Location // of the daemon, where no CRON_TZ is given
}

// FromCrontab makes jobs of a crontab's entries. Their names are what Match
// begins with: explicit where the entry has name=, else empty. Entries whose
// options or zone are wrong are left out and told in the errors.
func FromCrontab(file *crontab.File, c Crontab) ([]*Job, crontab.Errors) {
	var jobs []*Job
	var errs crontab.Errors
	lines := map[string]int{} // explicit name → where it was given
	for _, entry := range file.Entries {
		j := &Job{
			ID:        ID{Project: c.Project},
			Owner:     c.Owner,
			Source:    Source{File: c.File, Line: entry.Line},
			Crontab:   true,
			Schedules: []crontab.Schedule{entry.Schedule},
			Zone:      c.Zone,
			Command:   Command{Text: entry.Command, Shell: "/bin/sh"},
			Stdin:     []byte(entry.Stdin),
			Env:       entry.Env,
			CatchUp:   CatchUpNone,
			Overlap:   OverlapAllow,
			Notify:    Notify{On: []Event{OnOutput}},
		}
		if entry.User != "" {
			j.Owner = entry.User
		}
		if entry.MailOnFailure {
			j.Notify.On = []Event{OnFailure}
		}
		for _, v := range entry.Env {
			switch v.Name {
			case "SHELL":
				j.Command.Shell = v.Value
			case "HOME":
				j.Dir = v.Value
			}
		}
		if problem := crontabZone(j, entry.Zone, file.Name); problem != nil {
			errs = append(errs, problem)
			continue
		}
		problems := crontabOptions(j, entry, file.Name, lines)
		if len(problems) > 0 {
			errs = append(errs, problems...)
			continue
		}
		if j.Name != "" {
			lines[j.Name] = j.Source.Line
		}
		jobs = append(jobs, j)
	}
	return jobs, errs
}

func crontabZone(j *Job, name, file string) *crontab.Error {
	if name == "" {
		return nil
	}
	zone, err := LoadZone(name)
	if err != nil {
		return &crontab.Error{
			File: file, Line: j.Source.Line, Column: 1, Text: name,
			Message: fmt.Sprintf("CRON_TZ %q above this line is not a time zone; write a name like Asia/Seoul or UTC", name),
		}
	}
	j.Zone = zone
	return nil
}

// LoadZone finds a time zone by its name. "Local" and the empty name, which Go
// would take, are no zones a person can mean.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%q is not a time zone; write a name like Asia/Seoul or UTC", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone that this machine knows; write a name like Asia/Seoul or UTC", name)
	}
	return zone, nil
}

// crontabOptions applies the #belfry: options above an entry.
func crontabOptions(j *Job, entry crontab.Entry, file string, names map[string]int) (errs crontab.Errors) {
	for _, option := range entry.Options {
		err := crontabOption(j, option.Key, option.Value)
		if line, taken := names[option.Value]; err == nil && option.Key == "name" && taken {
			err = fmt.Errorf("%q is the name of line %d already", option.Value, line)
		}
		if err != nil {
			errs = append(errs, &crontab.Error{
				File: file, Line: option.Line, Column: option.Column,
				Text: option.Key + "=" + option.Value, Message: err.Error(),
			})
		}
	}
	return errs
}

func crontabOption(j *Job, key, value string) (err error) {
	switch key {
	case "name":
		if err = CheckName(value); err == nil {
			j.Name = value
		}
	case "timeout":
		j.Timeout, err = ParseDuration(value)
	case "kill_after":
		j.KillAfter, err = ParseDuration(value)
	case "retry":
		j.Retry = DefaultRetry
		j.Retry.Attempts, err = ParseAttempts(value)
	case "catch_up":
		j.CatchUp, err = OneOf(value, CatchUps)
	case "overlap":
		j.Overlap, err = OneOf(value, Overlaps)
	case "publish":
		if value == "" {
			return fmt.Errorf("publish needs a target: a folder or s3://bucket/prefix/")
		}
		j.Publish, j.IfEmpty = []Target{{To: value}}, IfEmptyError
		if !j.Notify.Wants(OnFailure) {
			j.Notify.On = append(j.Notify.On, OnFailure) // of the publish: cron's rule knows output only
		}
	default:
		return fmt.Errorf("%q is not an option; there are name, timeout, kill_after, retry, catch_up, overlap and publish", key)
	}
	return err
}

// DefaultRetry holds the waits of a job that says how often it may be tried and
// no more.
var DefaultRetry = Retry{Backoff: time.Minute, MaxBackoff: time.Hour}

// CatchUps and Overlaps are the policies in the order they are told to people.
var (
	CatchUps = []CatchUp{CatchUpNone, CatchUpLatest}
	Overlaps = []Overlap{OverlapSkip, OverlapQueue, OverlapAllow}
)

// OneOf finds value among choices; its error lists them.
func OneOf[T ~string](value string, choices []T) (T, error) {
	var names []string
	for _, choice := range choices {
		if string(choice) == value {
			return choice, nil
		}
		names = append(names, string(choice))
	}
	return "", fmt.Errorf("%q is not one of %s", value, strings.Join(names, ", "))
}

// duration is what ParseDuration reads: at least one number with its unit, the
// largest unit first.
var duration = regexp.MustCompile(`^(?:(\d+(?:\.\d+)?)d)?((?:\d+(?:\.\d+)?h)?(?:\d+(?:\.\d+)?m)?(?:\d+(?:\.\d+)?s)?)$`)

// ParseDuration reads 90s, 30m, 1h30m or 2d: whole or decimal numbers with the
// units d, h, m and s, and 0. It is a hundred years at most.
func ParseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	wrong := fmt.Errorf("%q is not a duration; write it as 90s, 30m, 1h30m or 2d", text)
	parts := duration.FindStringSubmatch(text)
	if text == "" || parts == nil {
		return 0, wrong
	}
	var d time.Duration
	if parts[1] != "" {
		days, err := strconv.ParseFloat(parts[1], 64)
		if err != nil || days > 36500 {
			return 0, wrong
		}
		d = time.Duration(days * 24 * float64(time.Hour))
	}
	if parts[2] != "" {
		rest, err := time.ParseDuration(parts[2])
		if err != nil || rest > 36500*24*time.Hour {
			return 0, wrong
		}
		d += rest
	}
	return d, nil
}

// ParseAttempts reads how often a run may be tried: 1 to 100.
func ParseAttempts(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%q is not a number of attempts (1–100)", text)
	}
	return n, nil
}

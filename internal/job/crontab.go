package job

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"belfry/crontab"
)

// Crontab says whose a crontab is and how it is read.
type Crontab struct {
	Project string
	Owner   string         // of its jobs; a system crontab names the user in each line
	File    string         // absolute path, for messages
	Zone    *time.Location // of the daemon, where no CRON_TZ is given
	Pools   map[string]int // of the daemon
	Now     time.Time      // from when on its firings are to have targets of their own
}

// FromCrontab makes jobs of a crontab's entries. Their names are what Match
// begins with: explicit where the entry has name=, else empty. Entries whose
// options or zone are wrong are left out and told in the errors.
func FromCrontab(file *crontab.File, c Crontab) ([]*Job, crontab.Errors) {
	jobs := make([]*Job, 0, len(file.Entries))
	var errs crontab.Errors
	lines := map[string]int{} // explicit name → where it was given
	targets := map[*Job]crontab.Option{}
	settings := map[common]*Settings{}
	// One piece of memory for all: they are read, and forgotten, together.
	made := make([]Job, len(file.Entries))
	schedules := make([]crontab.Schedule, len(file.Entries))
	for i := range file.Entries {
		entry := &file.Entries[i]
		shared, err := c.settings(entry, settings)
		if err != nil {
			err.File = file.Name
			errs = append(errs, err)
			continue
		}
		schedules[i] = entry.Schedule
		made[i] = Job{
			ID:        ID{Project: c.Project},
			Settings:  shared,
			Source:    Source{File: c.File, Line: entry.Line},
			Schedules: schedules[i : i+1 : i+1],
			Command:   Command{Text: entry.Command, Shell: "/bin/sh"},
			Stdin:     entry.Stdin,
		}
		j := &made[i]
		for _, v := range entry.Env {
			if v.Name == "SHELL" {
				j.Command.Shell = v.Value
			}
		}
		problems := crontabOptions(j, entry, c.Pools, file.Name, lines)
		if len(problems) > 0 {
			errs = append(errs, problems...)
			continue
		}
		if j.Name != "" {
			lines[j.Name] = j.Source.Line
		}
		for _, option := range entry.Options {
			if option.Key == "publish" {
				targets[j] = option
			}
		}
		jobs = append(jobs, j)
	}
	for _, shared := range FindShared(jobs, c.Now) {
		jobs = slices.DeleteFunc(jobs, func(j *Job) bool { return j == shared.Job })
		option := targets[shared.Job]
		errs = append(errs, &crontab.Error{File: file.Name, Line: option.Line, Column: option.Column, Text: option.Key + "=" + option.Value, Message: shared.Message})
	}
	return jobs, errs
}

// common is what the settings of an entry follow from, where no options are
// given to it.
type common struct {
	env           *crontab.Var // the first: entries below the same assignments share them
	zone, user    string
	mailOnFailure bool
	noLog         bool
}

// settings gives the settings that an entry has before its options, those of
// an entry before it where they are the same.
func (c Crontab) settings(entry *crontab.Entry, known map[common]*Settings) (*Settings, *crontab.Error) {
	key := common{zone: entry.Zone, user: entry.User, mailOnFailure: entry.MailOnFailure, noLog: entry.NoLog}
	if len(entry.Env) > 0 {
		key.env = &entry.Env[0]
	}
	if s, ok := known[key]; ok {
		return s, nil
	}
	s := &Settings{
		Owner:   cmp.Or(entry.User, c.Owner),
		Crontab: true,
		NoLog:   entry.NoLog,
		Zone:    c.Zone,
		Env:     entry.Env,
		CatchUp: CatchUpNone,
		Overlap: OverlapAllow,
		Notify:  Notify{On: []Event{OnOutput}},
	}
	if entry.MailOnFailure {
		s.Notify.On = []Event{OnFailure}
	}
	for _, v := range entry.Env {
		if v.Name == "HOME" {
			s.Dir = v.Value
		}
	}
	if entry.Zone != "" {
		var err error
		if s.Zone, err = LoadZone(entry.Zone); err != nil {
			return nil, &crontab.Error{
				Line: entry.Line, Column: 1, Text: entry.Zone,
				Message: fmt.Sprintf("CRON_TZ %q above this line is not a time zone; write a name like Asia/Seoul or UTC", entry.Zone),
			}
		}
	}
	known[key] = s
	return s, nil
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
	zones.Store(name, zone)
	return zone, nil
}

// zones are those that were loaded, as they were last: reading one takes long
// and holds kilobytes, and the definitions of many jobs name the same.
var zones sync.Map

// KnownZone is LoadZone for a zone that was most likely loaded before.
func KnownZone(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	return LoadZone(name)
}

// crontabOptions applies the #belfry: options above an entry.
func crontabOptions(j *Job, entry *crontab.Entry, pools map[string]int, file string, names map[string]int) (errs crontab.Errors) {
	if len(entry.Options) == 0 {
		return nil
	}
	own := *j.Settings
	own.Notify.On = slices.Clone(own.Notify.On)
	j.Settings = &own
	for _, option := range entry.Options {
		err := crontabOption(j, pools, option.Key, option.Value)
		if line, taken := names[option.Value]; err == nil && option.Key == "name" && taken {
			err = fmt.Errorf("%q is the name of line %d already", option.Value, line)
		}
		if err == nil && option.Key == "publish_mode" && !slices.ContainsFunc(entry.Options, func(o crontab.Option) bool { return o.Key == "publish" }) {
			err = fmt.Errorf("publish_mode says nothing without a target; write publish=TARGET beside it")
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

// options are the keys of a #belfry: line, as they are told to people.
var options = []string{
	"name", "timeout", "kill_after", "retry", "catch_up", "catch_up_window", "overlap", "pools",
	"start_within", "finish_by", "umask", "nice", "log_limit", "publish", "publish_mode",
}

// onlyProjects are keys of a belfry.yaml that say nothing in a crontab: what they
// name lies beside that file, or among its jobs.
var onlyProjects = []string{"after", "env_file", "limits", "python", "secrets"}

func crontabOption(j *Job, pools map[string]int, key, value string) (err error) {
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
	case "catch_up_window":
		j.CatchUpWindow, err = ParseSpan(value)
	case "overlap":
		j.Overlap, err = OneOf(value, Overlaps)
	case "pools":
		j.Pools = strings.Split(value, ",")
		for i := range j.Pools {
			if err == nil {
				err = CheckPool(j.Pools, i, pools)
			}
		}
	case "start_within":
		j.StartWithin, err = ParseSpan(value)
		j.tellLate()
	case "finish_by":
		j.FinishBy, err = ParseSpan(value)
		j.tellLate()
	case "umask":
		j.Umask, err = ParseUmask(value)
	case "nice":
		j.Nice, err = ParseNice(value)
	case "log_limit":
		j.LogLimit, err = ParseLogLimit(value)
	case "publish":
		if err := CheckTarget(value); err != nil {
			return err
		}
		j.target().To, j.IfEmpty = value, IfEmptyError
		if !j.Notify.Wants(OnFailure) {
			j.Notify.On = append(j.Notify.On, OnFailure) // of the publish: cron's rule knows output only
		}
	case "publish_mode":
		j.target().Mode, err = OneOf(value, Modes)
	default:
		if slices.Contains(onlyProjects, key) {
			return fmt.Errorf("%s is for jobs of a belfry.yaml; “belfry import” writes one of this crontab", key)
		}
		return fmt.Errorf("%q is not an option%s", key, Suggestion(key, options))
	}
	return err
}

// target is the one that an entry can have.
func (s *Settings) target() *Target {
	if s.Publish == nil {
		s.Publish = []Target{{}}
	}
	return &s.Publish[0]
}

// tellLate makes a time that is not kept news: an entry has no other way to ask
// for it.
func (s *Settings) tellLate() {
	if !s.Notify.Wants(OnLate) {
		s.Notify.On = append(s.Notify.On, OnLate)
	}
}

// DefaultRetry holds the waits of a job that says how often it may be tried and
// no more.
var DefaultRetry = Retry{Backoff: time.Minute, MaxBackoff: time.Hour}

// The choices in the order they are told to people.
var (
	Encryptions = []Encryption{EncryptAES256, EncryptKMS, EncryptDSSE}
	Modes       = []Mode{ModeReplace, ModeAppend, ModeFail}
	CatchUps    = []CatchUp{CatchUpNone, CatchUpLatest, CatchUpAll}
	Overlaps    = []Overlap{OverlapSkip, OverlapQueue, OverlapReplace, OverlapAllow}
	Events      = []Event{OnFailure, OnRecovery, OnSuccess, OnLate, OnOutput}
	IfEmpties   = []IfEmpty{IfEmptyError, IfEmptyOK}
)

// Package job answers: what is to be run, when, as whom, and by which rules?
// A Job comes from an entry of a crontab or of a belfry.yaml and is the same
// type either way. The package does no I/O: files are read by project and
// system, times are decided by plan.
package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"belfry/crontab"
)

// ID is a job's identity over edits: its project and its name.
type ID struct {
	Project string
	Name    string
}

// String gives project/name. A name never holds a slash; a project may.
func (id ID) String() string { return id.Project + "/" + id.Name }

// ParseID reads what String wrote. The project is empty when s has no slash.
func ParseID(s string) ID {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return ID{Project: s[:i], Name: s[i+1:]}
	}
	return ID{Name: s}
}

// Job is a command with a schedule and policies.
type Job struct {
	ID
	*Settings // never nil
	Source    Source
	Schedules []crontab.Schedule
	Command   Command
	Stdin     string // through a pipe; a job of a belfry.yaml without it reads /dev/null
}

// Settings are all of a job but what it runs and when. Jobs share them where
// they are equal, so that a crontab of a hundred thousand lines has but a few:
// who changes them changes them for all, or copies them before.
type Settings struct {
	Owner string // the unix user it runs as
	// Crontab says that it came from a crontab: the environment, the folder,
	// standard input and the mail are then cron's.
	Crontab bool

	// NoLog says that the machine's log is not told of its runs, as cronie's leading
	// - wants it.
	NoLog bool

	// Inherited holds the rhythms of its parents, each once, for a job that comes
	// after others and has no schedule of its own.
	Inherited []Rhythm
	Zone      *time.Location // never nil
	Dir       string         // working folder, absolute; empty: the owner's home
	Env       []crontab.Var  // as written, in order; values may hold $NAME in belfry.yaml jobs
	EnvFile   string         // absolute; read when an attempt starts
	Python    Python         // the virtual environment that the command runs in

	Secrets     []string // variables that it gets from SecretsFile
	SecretsFile string   // absolute; encrypted, and read when an attempt starts

	Timeout       time.Duration // 0: none
	KillAfter     time.Duration
	CatchUp       CatchUp
	CatchUpWindow time.Duration // how old a firing may be to be caught up; 0: DefaultCatchUpWindow
	StartWithin   time.Duration // of the firing; a later start is news. 0: whenever
	FinishBy      time.Duration // after the firing; a later end is news. 0: whenever
	Overlap       Overlap
	Retry         Retry
	Pools         []string // it takes one place in each while it runs
	After         []string // names of jobs of the same project
	Publish       []Target
	IfEmpty       IfEmpty
	Notify        Notify

	Umask    string // octal, as it was written; empty: the keeper's
	Nice     int
	Limits   []Limit // in the order of Resources
	LogLimit int64   // bytes; 0: DefaultLogLimit, -1: none
}

// Source is where a job is written. Line counts from 1.
type Source struct {
	File string
	Line int
}

func (s Source) String() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// Command is what is executed: Args as they are, or else Text by Shell -c.
type Command struct {
	Text  string   `json:"text,omitempty"`
	Shell string   `json:"shell,omitempty"`
	Args  []string `json:"args,omitempty"`
}

// String gives the command as a person would write it.
func (c Command) String() string {
	if c.Args == nil {
		return c.Text
	}
	words := make([]string, len(c.Args))
	for i, arg := range c.Args {
		words[i] = arg
		if arg == "" || strings.ContainsAny(arg, " \t\r\n'\"\\$`*?;&|<>()[]{}~#!") {
			words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// Argv is what is given to execve.
func (c Command) Argv() []string {
	if c.Args != nil {
		return c.Args
	}
	return []string{c.Shell, "-c", c.Text}
}

// CatchUp says what becomes of firings that nothing could run in time.
type CatchUp string

// The catch-up policies.
const (
	CatchUpNone   CatchUp = "none"
	CatchUpLatest CatchUp = "latest"
	CatchUpAll    CatchUp = "all"
)

// DefaultCatchUpWindow is how old a firing may be to be caught up by a job that
// does not say.
const DefaultCatchUpWindow = 24 * time.Hour

// Overlap says what becomes of a firing while an earlier attempt still runs.
type Overlap string

// The overlap policies.
const (
	OverlapSkip    Overlap = "skip"
	OverlapQueue   Overlap = "queue"
	OverlapReplace Overlap = "replace"
	OverlapAllow   Overlap = "allow"
)

// IfEmpty says what an empty output means to a job that publishes.
type IfEmpty string

// What an empty output may mean.
const (
	IfEmptyError IfEmpty = "error"
	IfEmptyOK    IfEmpty = "ok"
)

// Retry says how often a failed run is tried again. Attempts counts the first
// one; 0 means 1. The n-th wait is Backoff·2ⁿ⁻¹ with jitter, at most MaxBackoff.
// OnExit are the exit codes after which it is tried again; none: any failure.
type Retry struct {
	Attempts   int           `json:"attempts,omitempty"`
	Backoff    time.Duration `json:"backoff,omitempty"`
	MaxBackoff time.Duration `json:"max_backoff,omitempty"`
	OnExit     []int         `json:"on_exit,omitempty"`
}

// Target is a place that a job's output is published to. From is a folder of
// the output, empty for all of it. To is a directory (relative to the job's
// folder) or s3://bucket/prefix/; it may hold $NAME.
type Target struct {
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	Mode Mode   `json:"mode,omitempty"`

	// Parallel is how many files, or parts of large ones, are on their way at
	// once; 0: DefaultParallel.
	Parallel int `json:"parallel,omitempty"`

	// What follows is for S3 alone.

	PartSize     int64             `json:"part_size,omitempty"`     // bytes; 0: DefaultPartSize
	StorageClass string            `json:"storage_class,omitempty"` // "STANDARD_IA"; empty: the bucket's
	SSE          Encryption        `json:"sse,omitempty"`           // empty: the bucket's
	KMSKey       string            `json:"kms_key,omitempty"`       // id or ARN
	Metadata     map[string]string `json:"metadata,omitempty"`      // of each file; values may hold $NAME
	PathStyle    *bool             `json:"path_style,omitempty"`    // the bucket in the path; nil: with AWS_ENDPOINT_URL_S3
}

// Encryption is how S3 encrypts what it keeps.
type Encryption string

// The encryptions of S3.
const (
	EncryptAES256 Encryption = "AES256"
	EncryptKMS    Encryption = "aws:kms"
	EncryptDSSE   Encryption = "aws:kms:dsse"
)

// How files go to S3 when the job does not say.
const (
	DefaultParallel = 8
	MaxParallel     = 64
	DefaultPartSize = 8 << 20
)

// Mode says what becomes of a set that stands at a target already. Empty means
// that the job did not say: as ModeReplace, but then no two of its firings may
// share a target.
type Mode string

// The modes.
const (
	ModeReplace Mode = "replace"        // the new set takes its place
	ModeAppend  Mode = "append"         // the new files are added to it
	ModeFail    Mode = "fail_if_exists" // it stays, and the publish fails
)

// Event is news about a run that people may want to be told.
type Event string

// The events.
const (
	OnOutput   Event = "output"   // cron's rule: it printed something
	OnFailure  Event = "failure"  // it failed, or was lost
	OnRecovery Event = "recovery" // it succeeded after a run that had failed
	OnSuccess  Event = "success"
	OnLate     Event = "late" // start_within or finish_by was not kept
)

// Notify says who is told of what. To holds mailto: addresses.
type Notify struct {
	To []string `json:"to,omitempty"`
	On []Event  `json:"on,omitempty"`
}

// Wants reports whether event is to be told.
func (n Notify) Wants(event Event) bool {
	for _, on := range n.On {
		if on == event {
			return true
		}
	}
	return false
}

// Reboot reports whether one of the schedules is @reboot.
func (j *Job) Reboot() bool {
	for _, s := range j.Schedules {
		if s.Reboot() {
			return true
		}
	}
	return false
}

// Definition is what the account of a run keeps of the job it ran: everything
// but the values of the environment, which may be secret.
type Definition struct {
	Hash string // SHA-256 of JSON, in hexadecimal
	JSON []byte
}

type definition struct {
	Project       string   `json:"project"`
	Name          string   `json:"name"`
	Owner         string   `json:"owner"`
	Crontab       bool     `json:"crontab,omitempty"`
	Schedules     []string `json:"schedules,omitempty"`
	Inherited     []string `json:"inherited,omitempty"` // the one rhythm of its parents, in Timezone
	Rhythms       []rhythm `json:"rhythms,omitempty"`   // several, or in another zone
	Timezone      string   `json:"timezone"`
	Command       Command  `json:"command"`
	Stdin         string   `json:"stdin,omitempty"`
	Dir           string   `json:"dir,omitempty"`
	Env           []string `json:"env,omitempty"`
	EnvFile       string   `json:"env_file,omitempty"`
	Secrets       []string `json:"secrets,omitempty"`
	SecretsFile   string   `json:"secrets_file,omitempty"`
	Python        Python   `json:"python,omitzero"`
	Timeout       duration `json:"timeout,omitempty"`
	KillAfter     duration `json:"kill_after,omitempty"`
	CatchUp       CatchUp  `json:"catch_up"`
	CatchUpWindow duration `json:"catch_up_window,omitempty"`
	StartWithin   duration `json:"start_within,omitempty"`
	FinishBy      duration `json:"finish_by,omitempty"`
	Overlap       Overlap  `json:"overlap"`
	Retry         Retry    `json:"retry,omitzero"`
	Pools         []string `json:"pools,omitempty"`
	After         []string `json:"after,omitempty"`
	Publish       []Target `json:"publish,omitempty"`
	IfEmpty       IfEmpty  `json:"if_empty,omitempty"`
	Notify        Notify   `json:"notify,omitzero"`
	Umask         string   `json:"umask,omitempty"`
	Nice          int      `json:"nice,omitempty"`
	Limits        []Limit  `json:"limits,omitempty"`
	LogLimit      int64    `json:"log_limit,omitempty"`
}

type rhythm struct {
	Schedules []string `json:"schedules"`
	Timezone  string   `json:"timezone"`
}

// duration is written as people write it.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	read, err := time.ParseDuration(string(text))
	*d = duration(read)
	return err
}

// Definition gives the job's definition. Equal jobs give equal hashes; where
// the job is written is no part of it.
func (j *Job) Definition() Definition {
	d := definition{
		Project: j.Project, Name: j.Name, Owner: j.Owner, Crontab: j.Crontab,
		Schedules: drawn(j.Schedules), Timezone: j.Zone.String(),
		Command: j.Command, Stdin: j.Stdin, Dir: j.Dir, EnvFile: j.EnvFile, Secrets: j.Secrets, SecretsFile: j.SecretsFile, Python: j.Python,
		Timeout: duration(j.Timeout), KillAfter: duration(j.KillAfter),
		CatchUp: j.CatchUp, CatchUpWindow: duration(j.CatchUpWindow), StartWithin: duration(j.StartWithin), FinishBy: duration(j.FinishBy),
		Overlap: j.Overlap, Retry: j.Retry, Pools: j.Pools, After: j.After,
		Publish: j.Publish, IfEmpty: j.IfEmpty, Notify: j.Notify,
		Umask: j.Umask, Nice: j.Nice, Limits: j.Limits, LogLimit: j.LogLimit,
	}
	if len(j.Inherited) == 1 && j.Inherited[0].Zone.String() == d.Timezone {
		d.Inherited = drawn(j.Inherited[0].Schedules)
	} else {
		for _, r := range j.Inherited {
			d.Rhythms = append(d.Rhythms, rhythm{drawn(r.Schedules), r.Zone.String()})
		}
	}
	for _, v := range j.Env {
		d.Env = append(d.Env, v.Name)
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings and numbers only
	}
	sum := sha256.Sum256(text)
	return Definition{Hash: hex.EncodeToString(sum[:]), JSON: text}
}

// ScheduleTexts gives the schedules as they were written.
func (j *Job) ScheduleTexts() []string {
	var texts []string
	for _, s := range j.Schedules {
		texts = append(texts, s.String())
	}
	return texts
}

// DrawnTexts gives the schedules as they fire: with the values that were drawn
// for ~.
func (j *Job) DrawnTexts() []string { return drawn(j.Schedules) }

// drawn gives schedules with the values that were drawn for ~, which depend on
// the whole line: an edit of its command draws anew.
func drawn(schedules []crontab.Schedule) []string { return appendDrawn(nil, schedules) }

func appendDrawn(texts []string, schedules []crontab.Schedule) []string {
	for i := range schedules {
		s := &schedules[i]
		if !strings.Contains(s.String(), "~") {
			texts = append(texts, s.String())
			continue
		}
		text, err := s.MarshalText()
		if err != nil {
			panic(err) // it has nothing to fail at
		}
		texts = append(texts, string(text))
	}
	return texts
}

// Timing is a text that changes when and only when the job's firings do: an
// edit of it never fires the past.
func (j *Job) Timing() string {
	texts := make([]string, 0, 3) // of a crontab's entry
	return strings.Join(append(appendDrawn(texts, j.Schedules), j.Zone.String(), strings.Join(j.After, ",")), "\n")
}

// ParseDefinition makes a job of a stored definition: all of it but where it
// is written, the values of its environment, and the ~ of its schedules, in
// place of which stand the values that were drawn.
func ParseDefinition(text []byte) (*Job, error) {
	var d definition
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("read the definition of a job: %w", err)
	}
	j := &Job{ID: ID{Project: d.Project, Name: d.Name}, Command: d.Command, Stdin: d.Stdin, Settings: &Settings{
		Owner: d.Owner, Crontab: d.Crontab, Dir: d.Dir, EnvFile: d.EnvFile, Secrets: d.Secrets, SecretsFile: d.SecretsFile, Python: d.Python,
		Timeout: time.Duration(d.Timeout), KillAfter: time.Duration(d.KillAfter),
		CatchUp: d.CatchUp, CatchUpWindow: time.Duration(d.CatchUpWindow), StartWithin: time.Duration(d.StartWithin), FinishBy: time.Duration(d.FinishBy),
		Overlap: d.Overlap, Retry: d.Retry, Pools: d.Pools, After: d.After,
		Publish: d.Publish, IfEmpty: d.IfEmpty, Notify: d.Notify,
		Umask: d.Umask, Nice: d.Nice, Limits: d.Limits, LogLimit: d.LogLimit,
	}}
	own, err := parseRhythm(rhythm{d.Schedules, d.Timezone})
	if err != nil {
		return nil, fmt.Errorf("read the definition of %s: %w", j.ID, err)
	}
	j.Schedules, j.Zone = own.Schedules, own.Zone
	if len(d.Inherited) > 0 {
		d.Rhythms = append(d.Rhythms, rhythm{d.Inherited, d.Timezone})
	}
	for _, r := range d.Rhythms {
		inherited, err := parseRhythm(r)
		if err != nil {
			return nil, fmt.Errorf("read the definition of %s: %w", j.ID, err)
		}
		j.Inherited = append(j.Inherited, inherited)
	}
	return j, nil
}

// EnvNames gives the names of the environment in a definition.
func EnvNames(text []byte) ([]string, error) {
	var d definition
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("read the definition of a job: %w", err)
	}
	return d.Env, nil
}

func parseRhythm(r rhythm) (Rhythm, error) {
	zone, err := KnownZone(r.Timezone)
	if err != nil {
		// The machine's zone data has changed. What was is still to be read.
		zone = time.FixedZone(r.Timezone, 0)
	}
	schedules, err := parseSchedules(r.Schedules)
	return Rhythm{schedules, zone}, err
}

func parseSchedules(texts []string) ([]crontab.Schedule, error) {
	var list []crontab.Schedule
	for _, text := range texts {
		s, err := crontab.ParseSchedule(text)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

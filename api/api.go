// Package api answers: how does a program talk to a belfry daemon? It holds the
// HTTP API as Go types and a Client for it, over the unix socket in a data
// folder. Fields are only ever added. Times are in UTC.
package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Path is what every route begins with.
const Path = "/api/v1"

// SocketName is the name of the daemon's socket in its data folder.
const SocketName = "sock"

// Run is the account of one firing, or of Count firings in a row, or of one
// request by hand.
type Run struct {
	ID         string     `json:"id"`
	Project    string     `json:"project"`
	Job        string     `json:"job"`
	Cause      string     `json:"cause"`
	State      string     `json:"state"`
	Reason     string     `json:"reason"`
	Count      int        `json:"count"`
	FiresAt    time.Time  `json:"fires_at"`
	FiresUntil *time.Time `json:"fires_until,omitempty"` // the last firing, when Count > 1
	Date       string     `json:"date"`                  // 2006-01-02, the day that was meant, in the job's zone
	Attempt    int        `json:"attempt"`               // how many there have been
	ExitCode   *int       `json:"exit_code"`
	Signal     string     `json:"signal"`
	QueuedAt   time.Time  `json:"queued_at"`
	StartedAt  *time.Time `json:"started_at"` // of the first attempt, or publish, since a person asked for it last
	EndedAt    *time.Time `json:"ended_at"`
	NotBefore  *time.Time `json:"not_before,omitempty"` // when a retry, or the next try to publish, is due
	Node       string     `json:"node"`
	Published  []Target   `json:"published"`
	Publishing *Progress  `json:"publishing,omitempty"` // how far that is, while it is under way
	Timezone   string     `json:"timezone"`             // the job's, in which people read its times
	Owner      string     `json:"owner,omitempty"`      // the user that it is of; lists have it, and Command, with RunFilter.Commands
	Command    string     `json:"command,omitempty"`    // what was to be run, whatever the job's is now
	Backfill   string     `json:"backfill,omitempty"`   // id of the backfill it belongs to
	Attempts   []Attempt  `json:"attempts,omitempty"`
	Waits      []string   `json:"waits_for,omitempty"` // ids of the runs it comes after
	Notices    []Notice   `json:"notices,omitempty"`
	Audit      []Act      `json:"audit,omitempty"` // what people did to it, the newest first
}

// Finished reports whether nothing more comes of the run by itself.
func (r Run) Finished() bool {
	return r.State != "queued" && r.State != "running" && r.State != "publishing"
}

// Attempt is one execution of a run's command.
type Attempt struct {
	Number      int        `json:"number"`
	Node        string     `json:"node"`
	StartedAt   time.Time  `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at"`
	ExitCode    *int       `json:"exit_code"`
	Signal      string     `json:"signal"`
	Reason      string     `json:"reason"`
	CPUSeconds  float64    `json:"cpu_seconds"`
	MaxRSS      int64      `json:"max_rss"` // bytes that one of its processes had at once; at most, unless MaxRSSExact
	MaxRSSExact bool       `json:"max_rss_exact"`
	Log         string     `json:"log"` // path of its output on the node, until it has ended
}

// Act is a change that a person made.
type Act struct {
	At       time.Time `json:"at"`
	UID      int       `json:"uid"`    // -1: it is not known
	Person   string    `json:"person"` // the user's name
	Action   string    `json:"action"` // run, stop, stop --kill, retry, retry --publish, pause, resume, backfill, stop backfill, crontab, crontab -r
	Project  string    `json:"project,omitempty"`
	Job      string    `json:"job,omitempty"`
	Run      string    `json:"run,omitempty"`
	Backfill string    `json:"backfill,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Timezone string    `json:"timezone"` // the job's
}

// Target is one place that a run's output was published to.
type Target struct {
	To       string `json:"to"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"`
	Manifest string `json:"manifest"` // SHA-256 of _manifest.json
}

// Progress is how far a publish has come, or the reading back of one. It counts
// what has arrived, or was read. The totals of several targets are those of the
// targets that have begun.
type Progress struct {
	Target     string `json:"target"` // the one that is worked on
	Files      int    `json:"files"`
	FilesTotal int    `json:"files_total"`
	Bytes      int64  `json:"bytes"`
	BytesTotal int64  `json:"bytes_total"`
}

// Add gives the progress of two, at the target of the other.
func (p Progress) Add(other Progress) Progress {
	return Progress{other.Target, p.Files + other.Files, p.FilesTotal + other.FilesTotal, p.Bytes + other.Bytes, p.BytesTotal + other.BytesTotal}
}

// Published is the set of files that a run put to a target.
type Published struct {
	Run        string      `json:"run"`
	Project    string      `json:"project"`
	Job        string      `json:"job"`
	Date       string      `json:"date"` // 2006-01-02, the run's
	To         string      `json:"to"`
	Files      int         `json:"files"`
	Bytes      int64       `json:"bytes"`
	Manifest   string      `json:"manifest"`              // SHA-256 of _manifest.json
	At         time.Time   `json:"at"`                    // when all of it was there
	ReplacedBy string      `json:"replaced_by,omitempty"` // the run whose set took its place
	Timezone   string      `json:"timezone"`              // the job's
	Inspection *Inspection `json:"inspection,omitempty"`  // where somebody has looked
}

// Inspection is what stands at a target now.
type Inspection struct {
	Run      string `json:"run"`      // whose set it is, as its manifest says; empty: there is none
	Complete bool   `json:"complete"` // _SUCCESS is there
	Files    []File `json:"files"`    // of the manifest
	Verified bool   `json:"verified"` // every file was read back
	// Foreign are the paths of files at the target that the set there, a complete one,
	// does not list, the first hundred of them, and ForeignFiles is their number. They
	// are no problem of what was published, but who reads every file reads them. nil:
	// they were not looked for, or may not be listed.
	Foreign      []string `json:"foreign"`
	ForeignFiles int      `json:"foreign_files"`
	Problems     []string `json:"problems"` // where it is not as it should be, a sentence each
}

// Whole reports whether nothing is wrong, as far as it was looked at.
func (i Inspection) Whole() bool { return len(i.Problems) == 0 }

// File is one file of a manifest.
type File struct {
	Path   string `json:"path"` // relative to the target
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// InspectRequest asks what stands at a target that a run has published to.
type InspectRequest struct {
	Run    string
	To     string
	Verify bool // read every file back, and compare it with the manifest
}

// Inspecting is a line of the answer to an InspectRequest. The last one has the
// Inspection, or the error.
type Inspecting struct {
	Progress   *Progress   `json:"progress,omitempty"`
	Inspection *Inspection `json:"inspection,omitempty"`
	Error      *Error      `json:"error,omitempty"`
}

// Notice is a message, or a publish, that a run owes or owed.
type Notice struct {
	Kind  string     `json:"kind"`
	State string     `json:"state"`
	Tries int        `json:"tries"`
	Error string     `json:"error,omitempty"`
	Next  *time.Time `json:"next,omitempty"`
}

// Job is a command with a schedule and policies.
type Job struct {
	Project   string     `json:"project"`
	Name      string     `json:"name"`
	Owner     string     `json:"owner"`
	Schedules []string   `json:"schedules"` // as they are written
	Drawn     []string   `json:"drawn"`     // as they fire: with what was drawn for ~
	After     []string   `json:"after"`
	Timezone  string     `json:"timezone"`
	Command   string     `json:"command"`
	Python    *Python    `json:"python,omitempty"` // the virtual environment that it runs in
	Source    string     `json:"source"`           // file:line
	Paused    bool       `json:"paused"`
	Next      *time.Time `json:"next"`
	Last      *Run       `json:"last"`
}

// Python says in which virtual environment a job runs.
type Python struct {
	Requirements string `json:"requirements,omitempty"` // path of the file
	Version      string `json:"version,omitempty"`      // what is asked of the interpreter's
	Environment  string `json:"environment,omitempty"`  // folder of the one that it began in last
}

// RunRequest asks for a run of a job now, for a date, or for one of its firings.
type RunRequest struct {
	Job       string `json:"job"`            // its name, or project/name
	Date      string `json:"date,omitempty"` // 2006-01-02 in the job's zone
	At        string `json:"at,omitempty"`   // 15:04 in the job's zone, or RFC 3339
	WithAfter bool   `json:"with_after,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"` // only tell what would be recorded
}

// StopRequest asks for the end of a run.
type StopRequest struct {
	Kill bool `json:"kill"` // at once, without TERM before
}

// RetryRequest asks for one more attempt of a run that has ended.
type RetryRequest struct {
	Publish bool `json:"publish,omitempty"` // only for its output to be published again
}

// BackupRequest asks for a copy of the account and of what jobs printed.
type BackupRequest struct {
	Path string `json:"path"` // absolute, of a folder that is not there yet
}

// PauseRequest asks that a job fire no more, or again from now on.
type PauseRequest struct {
	Job    string `json:"job"`
	Paused bool   `json:"paused"`
}

// BackfillRequest asks for a run of each firing of a job from one date to
// another, both included, in the job's zone.
type BackfillRequest struct {
	Job       string `json:"job"`
	From      string `json:"from"` // 2006-01-02
	To        string `json:"to"`
	Parallel  int    `json:"parallel,omitempty"` // so many at once; 0 means 1
	Only      string `json:"only,omitempty"`     // missing, failed; empty: all
	WithAfter bool   `json:"with_after,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"` // only tell what would be recorded
}

// Backfill is how far a backfill has come.
type Backfill struct {
	ID     string         `json:"id"`
	States map[string]int `json:"states"` // state → how many of its runs
	// Publishing sums up how far those of its runs are that are being published.
	Publishing *Progress `json:"publishing,omitempty"`
	Runs       []Run     `json:"runs,omitempty"`
}

// Count gives how many of its runs are in one of the states, or all of them.
func (b Backfill) Count(states ...string) int {
	total := 0
	for state, n := range b.States {
		if len(states) == 0 || slices.Contains(states, state) {
			total += n
		}
	}
	return total
}

// Finished reports whether nothing more comes of it by itself.
func (b Backfill) Finished() bool { return b.Count("queued", "running", "publishing") == 0 }

// Version is a text that changes with its states.
func (b Backfill) Version() string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(b.States)) {
		parts = append(parts, fmt.Sprintf("%s=%d", state, b.States[state]))
	}
	return strings.Join(parts, " ")
}

// StopBackfillRequest asks that the rest of a backfill be given up.
type StopBackfillRequest struct {
	Running bool `json:"running"` // and that the runs which have begun be ended
}

// Health is what a daemon says of itself.
type Health struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Plans   bool      `json:"plans"`            // false: it only finishes what a command asked for
	Shadow  bool      `json:"shadow,omitempty"` // it accounts for firings and starts nothing: another cron runs the jobs
	Data    string    `json:"data"`
	Release string    `json:"release,omitempty"` // that it runs, where the project was deployed
	// Releases are those that running attempts began with.
	Releases []string `json:"releases,omitempty"`
	// ReleasesError is why there may be others, which must not be taken away either.
	ReleasesError string   `json:"releases_error,omitempty"`
	Problem       string   `json:"problem,omitempty"` // what keeps it from using the newest definition of its jobs
	Error         string   `json:"error,omitempty"`   // why it is not well, in a sentence; empty: it is
	Hint          string   `json:"hint,omitempty"`    // what can be done about Error
	Parts         []Part   `json:"parts,omitempty"`
	Keepers       []Keeper `json:"keepers,omitempty"`
	Jobs          int      `json:"jobs"`
	Next          *Firing  `json:"next,omitempty"`
	Listen        string   `json:"listen,omitempty"` // where it answers anyone
	Spool         string   `json:"spool,omitempty"`  // the folder of mailboxes that it puts mail into
	// Owed counts the publishes and messages that could not be sent yet, and are
	// tried again.
	Owed      int    `json:"owed,omitempty"`
	OwedError string `json:"owed_error,omitempty"` // of the first of them
}

// Part is one of the loops of a daemon. Each goes round at least once a minute.
type Part struct {
	Name  string    `json:"name"`
	Alive time.Time `json:"alive"` // when it last went round
	Late  bool      `json:"late,omitempty"`
}

// Keeper is a process that is the parent of jobs.
type Keeper struct {
	ID    string `json:"id"`
	PID   int    `json:"pid,omitempty"`
	RSS   int64  `json:"rss,omitempty"` // bytes
	Error string `json:"error,omitempty"`
}

// Firing is a time at which a job is to run.
type Firing struct {
	Project  string    `json:"project"`
	Job      string    `json:"job"`
	At       time.Time `json:"at"`
	Timezone string    `json:"timezone"`
}

// Code says what kind of error an Error is.
type Code string

// The codes.
const (
	Invalid     Code = "invalid"     // the request cannot be met as it stands
	BadFile     Code = "bad_file"    // a file that jobs come from has a mistake
	NotFound    Code = "not_found"   // what it names is not there
	Forbidden   Code = "forbidden"   // who asks may not
	Refused     Code = "refused"     // not now: the state of things forbids it
	Unavailable Code = "unavailable" // nobody is there who could do it
	Internal    Code = "internal"    // a fault of belfry or of the machine
)

// Error is what a daemon answers when it cannot do what was asked: a sentence
// for people and what they can do next.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Message }

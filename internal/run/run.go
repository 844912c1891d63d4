// Package run answers: what state is a run in, and what comes next? It holds
// the states and the table of their transitions, decides about overlap, slots
// and retries, and walks each run through its life: claimed, started, ended,
// published. What it decides is in the store before it takes effect.
package run

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"

	"belfry/internal/plan"
)

// State is where a run stands.
type State string

// The states of DESIGN.md §5.
const (
	Queued     State = "queued"
	Running    State = "running"
	Publishing State = "publishing"
	Succeeded  State = "succeeded"
	Failed     State = "failed"
	Lost       State = "lost"
	Cancelled  State = "cancelled"
	Skipped    State = "skipped"
	Missed     State = "missed"
)

// next holds the transitions there are. Everything else is a mistake of ours
// and refused by the store.
var next = map[State][]State{
	Queued:     {Running, Skipped, Missed, Cancelled},
	Running:    {Publishing, Succeeded, Failed, Cancelled, Lost, Queued},
	Publishing: {Succeeded, Failed, Cancelled},
	Succeeded:  {},
	Failed:     {Queued, Publishing},
	Lost:       {Queued},
	Cancelled:  {Queued},
	Skipped:    {Queued},
	Missed:     {Queued},
}

// States lists the states in the order of a run's life.
func States() []State {
	return []State{Queued, Running, Publishing, Succeeded, Failed, Lost, Cancelled, Skipped, Missed}
}

// CanBecome reports whether a run in state s may go over to state to.
func (s State) CanBecome(to State) bool {
	for _, state := range next[s] {
		if state == to {
			return true
		}
	}
	return false
}

// Finished reports whether nothing more comes of a run in this state by itself.
func (s State) Finished() bool {
	return s != Queued && s != Running && s != Publishing
}

// Run is the account of one firing, or of one request by hand.
type Run struct {
	ID         string
	Job        string // the store's id of the job
	Project    string
	Name       string // of the job
	Key        string // unique within the job
	Cause      plan.Cause
	State      State
	Reason     string
	Definition string // hash of the job's definition
	FiresAt    time.Time
	FiresUntil time.Time // the last of Count firings
	Count      int
	Named      time.Time // the local date and time that was meant, as a reading in UTC
	NotBefore  time.Time // a retry's time, while Queued; the next try's, while Publishing
	Attempt    int       // how many there have been
	Token      int64     // of the newest claim; only grows
	Node       string
	QueuedAt   time.Time
	AskedAt    time.Time // when a person asked for it, or for another attempt; zero: nobody did
	StartBy    time.Time // its start after that is news; zero: it is not watched, or was told
	FinishBy   time.Time // so for its end
	Backfill   string    // id of the backfill it belongs to
	Parallel   int       // of the backfill: so many of its runs may run beside each other
	StartedAt  time.Time // of the first attempt, or publish, since a person asked last; zero: not yet
	EndedAt    time.Time
	ExitCode   *int   // of the newest attempt
	Signal     string // that ended it
	Published  json.RawMessage
	Parents    []string  // the runs it waits for
	WaitsUntil time.Time // more of them are to come until then
}

// Date is the run's logical date.
func (r Run) Date() string { return r.Named.Format(time.DateOnly) }

// Attempt is one execution of a run's command.
type Attempt struct {
	Run       string
	Number    int
	Token     int64
	Node      string
	Boot      string
	StartedAt time.Time
	EndedAt   time.Time // zero: it has not ended
	ExitCode  *int
	Signal    string
	Reason    string
	UserCPU   time.Duration
	SystemCPU time.Duration
	MaxRSS    int64 // bytes; at most, unless MaxRSSExact

	MaxRSSExact bool
}

// Published is the set of files that a run put to one of its targets. A Runner
// knows the fields from To on; the others come with the run.
type Published struct {
	Run        string
	Number     int    // its place among the targets of the run, from 0
	Job        string // the store's id of the job
	Project    string
	Name       string // of the job
	Date       string // 2006-01-02, the run's logical date
	At         time.Time
	ReplacedBy string // the run that has put another set there; empty: it is what stands there

	To       string // as it was written
	Place    string // the target's one name, however it is written
	Files    int
	Bytes    int64
	Manifest string // SHA-256 of its manifest, in hex
}

// crockford is base 32 without the letters that look like digits.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// IsID reports whether a text has the form of what NewID gives.
func IsID(text string) bool {
	return len(text) == 26 && strings.Trim(text, crockford) == ""
}

// NewID gives an id of 26 characters that sorts by time: 48 bits of Unix
// milliseconds and 80 bits of chance.
func NewID(now time.Time) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	if _, err := rand.Read(raw[6:]); err != nil {
		panic(err) // crypto/rand never fails on the systems Go runs on
	}
	// 26 digits of 5 bits hold 130 bits: the first digit has two to spare.
	var id [26]byte
	hi, lo := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for i := len(id) - 1; i >= 0; i-- {
		id[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(id[:])
}

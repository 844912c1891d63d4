// Package proc answers one question: how are a job's processes started,
// watched, signalled and found again?
//
// The keeper (RunKeeper) is a small process that is the parent of all jobs
// and outlives the daemon; the daemon talks to it through a Client. What must
// survive both is in the attempt's directory: the record `start`, the file
// `log` and the record `exit`. protocol.go has the language of the two,
// records.go the records.
//
// The runner of attempts imports it, and the command that is the keeper's
// body. Nobody else should: what a person wants to know of a run is in the
// store. It imports nothing else of ours and knows no database, no schedule
// and no network.
package proc

import (
	"errors"
	"time"
)

// Spec says how to execute one attempt.
type Spec struct {
	Run     string // run id
	Attempt int    // 1…
	Token   int64  // of the claim
	Dir     string // the attempt's directory (absolute, exists): the records `start`, `exit` and the file `log` live here

	Args []string // program and arguments; Args[0] is looked up in Env's PATH when it has no slash
	Env  []string // the whole environment, KEY=VALUE, later values win; never written to any file. The keeper sets BELFRY_RUN and BELFRY_ATTEMPT in it: it finds strays by them
	Cwd  string   // default: /
	// CwdElse is where it starts when it cannot enter Cwd; empty: then it does not
	// start.
	CwdElse string

	// Credential is whom it runs as; nil: the keeper's own user. Only root can
	// start it as another. Of its directory only `log` becomes that user's: what
	// decides about an attempt is never theirs to write.
	Credential *Credential

	Stdin     []byte // given through a pipe; empty is an immediate end of file
	StdinNull bool   // /dev/null instead of the pipe

	Timeout   time.Duration // 0: none
	KillAfter time.Duration // from TERM to KILL; 0 means 10 s

	LogLimit int64 // bytes of `log` that are kept, half of them its first and half its last; 0: all

	// Lease is how long the claim lasts from now on unless Renew makes it last
	// longer, by CLOCK_BOOTTIME. When it runs out the keeper kills the attempt.
	// 0: for ever.
	Lease time.Duration

	Umask  string  // octal; "" keeps the keeper's 022
	Nice   int     // -20 … 19
	Limits []Limit // those that are not named are as the daemon was started with
}

// Credential is a user of the machine, as a process has it.
type Credential struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"` // supplementary; none are had but these
}

// Exit is an attempt's outcome, the content of the exit record.
type Exit struct {
	Code      int    `json:"code"`                // exit status, -1 when killed by a signal or never started
	Signal    string `json:"signal,omitempty"`    // "SIGKILL" …, empty otherwise
	TimedOut  bool   `json:"timed_out,omitzero"`  // the timeout ended it
	Stopped   bool   `json:"stopped,omitzero"`    // a call of Signal ended it
	LeaseLost bool   `json:"lease_lost,omitzero"` // the end of its lease ended it
	Error     string `json:"error,omitempty"`     // why it could not be started, in words for people; empty otherwise

	StartedAt time.Time     `json:"started_at"` // wall
	EndedAt   time.Time     `json:"ended_at"`   // wall
	Wall      time.Duration `json:"wall_ns"`    // by CLOCK_MONOTONIC
	UserCPU   time.Duration `json:"user_cpu_ns"`
	SystemCPU time.Duration `json:"system_cpu_ns"`
	// MaxRSS is in bytes: the most that one process of the attempt had at once. It
	// was no more than that, and just that only with MaxRSSExact: Linux counts what a
	// process shared with its parent before exec, which is all that the keeper has.
	MaxRSS      int64 `json:"max_rss"`
	MaxRSSExact bool  `json:"max_rss_exact,omitzero"`
}

// Event is news of an attempt; exactly one of Started, Exit and Doubt is set.
// The same event may come more than once.
type Event struct {
	Run     string   `json:"run"`
	Attempt int      `json:"attempt"`
	Token   int64    `json:"token"`
	Started *Started `json:"started,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`

	// Doubt says that the keeper refused a start because the attempt's
	// `start` record is another keeper's and there is no exit record: ask
	// Inspect.
	Doubt bool `json:"doubt,omitzero"`
}

// Started says that an attempt has a process.
type Started struct {
	PID int       `json:"pid"`
	At  time.Time `json:"at"` // wall
}

// StopKind is how an attempt is to be ended.
type StopKind string

// The ways to end an attempt.
const (
	Stop StopKind = "stop" // TERM to the group now, KILL to the whole tree KillAfter later
	Kill StopKind = "kill" // KILL to the whole tree at once
)

// Status is what the records and the processes say of an attempt whose event
// never came.
type Status string

// The statuses of an attempt.
const (
	NeverStarted Status = "never-started" // no `start` record, and no keeper has it in its queue
	Running      Status = "running"       // under a living keeper
	Survivor     Status = "survivor"      // its keeper is dead, a process of it lives
	Exited       Status = "exited"        // there is an exit record
	Lost         Status = "lost"          // no process is left and the outcome cannot be known
)

// ErrUnknownAttempt is returned by Client.Signal when no keeper has the
// attempt.
var ErrUnknownAttempt = errors.New("no keeper has this attempt")

// key identifies an attempt.
type key struct {
	run     string
	attempt int
}

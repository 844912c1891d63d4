package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ProtocolVersion is the newest version of the language of daemon and keeper
// that this build speaks, and OldestProtocol the oldest. docs/keeper.md has
// the language.
//
// They talk over a unix stream socket, DATA/keeper/ID/sock, in frames: a JSON
// object and a newline, at most 64 MiB. Only whole frames are acted upon.
// Unknown fields are ignored, so a version is needed only where a message
// comes to mean something else, or where one end must know that the other
// understands it. 2 brought renew, and what an attempt asks for of its
// process and its log; 3 whom it runs as, which a keeper that does not know of
// it would ignore.
const (
	ProtocolVersion = 3
	OldestProtocol  = 1
)

const (
	maxFrame      = 64 << 20
	helloTimeout  = 10 * time.Second
	openTimeout   = 2 * time.Second // of a daemon that starts, with all keepers
	callTimeout   = 30 * time.Second
	stopTimeout   = 2 * time.Second // of a call to a keeper that the kernel says is stopped
	forgetTimeout = time.Second     // until a keeper has read what it was told before
	leaveTimeout  = time.Second     // as forgetTimeout, of one that is let go
)

// The types of frames.
const (
	typeHello  = "hello"
	typeStart  = "start"
	typeHold   = "hold"
	typeGo     = "go"
	typeSignal = "signal"
	typeRenew  = "renew"
	typeList   = "list"
	typeForget = "forget"
	typeOK     = "ok"
	typeError  = "error"
	typeEvents = "events"
)

// The codes of error frames, for programs; the text is for people.
const (
	codeVersion     = "version"
	codeUnsupported = "unsupported"
	codeUnknown     = "unknown-attempt"
	codeToken       = "token"
	codeInvalid     = "invalid"
	codeEnding      = "ending"
)

// message is any frame.
type message struct {
	Type string `json:"type"`
	Seq  int64  `json:"seq,omitempty"`

	Protocol int    `json:"protocol,omitempty"`
	Oldest   int    `json:"oldest,omitempty"` // with a protocol: the oldest one that is understood; none means the same
	Keeper   string `json:"keeper,omitempty"`
	Build    string `json:"build,omitempty"`
	PID      int    `json:"pid,omitempty"`

	Specs []wireSpec `json:"specs,omitempty"`
	Hold  int64      `json:"hold,omitempty"` // the seq of a hold

	Run     string   `json:"run,omitempty"`
	Attempt int      `json:"attempt,omitempty"`
	Token   int64    `json:"token,omitempty"`
	Kind    StopKind `json:"kind,omitempty"`

	LeaseEnd time.Duration `json:"lease_end_ns,omitempty"`

	Subscribe bool          `json:"subscribe,omitempty"`
	Attempts  []wireAttempt `json:"attempts,omitempty"`

	Events []Event `json:"events,omitempty"`

	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// wireAttempt is one attempt of a list.
type wireAttempt struct {
	Run     string   `json:"run"`
	Attempt int      `json:"attempt"`
	Token   int64    `json:"token"`
	State   state    `json:"state"`
	Started *Started `json:"started,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
	Doubt   bool     `json:"doubt,omitempty"`
}

// events gives what the attempt's events said so far.
func (w wireAttempt) events() []Event {
	event := Event{Run: w.Run, Attempt: w.Attempt, Token: w.Token}
	var events []Event
	if w.Started != nil {
		e := event
		e.Started = w.Started
		events = append(events, e)
	}
	if w.Exit != nil {
		e := event
		e.Exit = w.Exit
		events = append(events, e)
	}
	if w.Doubt {
		e := event
		e.Doubt = true
		events = append(events, e)
	}
	return events
}

// wireSpec is a Spec whose texts keep their bytes: JSON strings are Unicode,
// while arguments, environments and paths are any bytes but NUL.
type wireSpec struct {
	Run       string        `json:"run"`
	Attempt   int           `json:"attempt"`
	Token     int64         `json:"token"`
	Dir       text          `json:"dir"`
	Args      []text        `json:"args"`
	Env       []text        `json:"env"`
	Cwd       text          `json:"cwd"`
	CwdElse   text          `json:"cwd_else,omitempty"`
	As        *Credential   `json:"as,omitempty"`
	Stdin     []byte        `json:"stdin,omitempty"`
	StdinNull bool          `json:"stdin_null,omitempty"`
	Timeout   time.Duration `json:"timeout_ns,omitempty"`
	KillAfter time.Duration `json:"kill_after_ns,omitempty"`
	LeaseEnd  time.Duration `json:"lease_end_ns,omitempty"` // a reading of CLOCK_BOOTTIME
	LogLimit  int64         `json:"log_limit,omitempty"`
	Umask     string        `json:"umask,omitempty"`
	Nice      int           `json:"nice,omitempty"`
	Limits    []Limit       `json:"limits,omitempty"`
}

func toWire(s Spec) wireSpec {
	return wireSpec{
		Run: s.Run, Attempt: s.Attempt, Token: s.Token, Dir: text(s.Dir),
		Args: convert[text](s.Args), Env: convert[text](s.Env), Cwd: text(s.Cwd), CwdElse: text(s.CwdElse), As: s.Credential,
		Stdin: s.Stdin, StdinNull: s.StdinNull, Timeout: s.Timeout, KillAfter: s.KillAfter,
		LeaseEnd: leaseEnd(s.Lease), LogLimit: s.LogLimit, Umask: s.Umask, Nice: s.Nice, Limits: s.Limits,
	}
}

func (w wireSpec) spec() Spec {
	return Spec{
		Run: w.Run, Attempt: w.Attempt, Token: w.Token, Dir: string(w.Dir),
		Args: convert[string](w.Args), Env: convert[string](w.Env), Cwd: string(w.Cwd), CwdElse: string(w.CwdElse), Credential: w.As,
		Stdin: w.Stdin, StdinNull: w.StdinNull, Timeout: w.Timeout, KillAfter: w.KillAfter,
		LogLimit: w.LogLimit, Umask: w.Umask, Nice: w.Nice, Limits: w.Limits,
	}
}

func convert[To, From ~string](from []From) []To {
	to := make([]To, len(from))
	for i, s := range from {
		to[i] = To(s)
	}
	return to
}

// text is a JSON string, or {"base64": …} when it is not UTF-8.
type text string

type base64Text struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t text) MarshalJSON() ([]byte, error) {
	if plainJSON(string(t)) {
		return slices.Concat([]byte{'"'}, []byte(t), []byte{'"'}), nil
	}
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

// plainJSON reports whether s stands in JSON as it is. Nearly all that a burst of
// starts sends does, and is spared a codec of its own for each string.
func plainJSON(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(data []byte) error {
	if n := len(data); n >= 2 && data[0] == '"' && plainJSON(string(data[1:n-1])) {
		*t = text(data[1 : n-1])
		return nil
	}
	if strings.HasPrefix(string(data), "{") {
		var raw base64Text
		if err := json.Unmarshal(data, &raw); err != nil {
			return err
		}
		*t = text(raw.Base64)
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*t = text(s)
	return nil
}

var errFrameTooLong = errors.New("frame too long")

// encode gives the frame of a message.
func encode(m message) ([]byte, error) {
	frame, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type, err)
	}
	return append(frame, '\n'), nil
}

// readFrame gives the next whole frame, without its newline. What a peer that
// died left half-written is an error, never a frame.
func readFrame(r *bufio.Reader, limit int) ([]byte, error) {
	var frame []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(frame)+len(part) > limit+1 {
			return nil, errFrameTooLong
		}
		frame = append(frame, part...)
		switch {
		case err == nil:
			return frame[:len(frame)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// agree gives the newest protocol that both ends speak, 0 when there is none.
func agree(newest, oldest int) int {
	if oldest == 0 {
		oldest = newest
	}
	best := min(newest, ProtocolVersion)
	if best < max(oldest, OldestProtocol) {
		return 0
	}
	return best
}

// build identifies this binary: a daemon gives new attempts only to a keeper
// of its own build, so an upgrade leaves the old keeper to its last job.
var build = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	id := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" {
			id += " " + s.Value
		}
	}
	return id
})

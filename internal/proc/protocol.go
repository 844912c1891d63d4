package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ProtocolVersion is the version of the language below.
//
// Daemon and keeper talk over a unix stream socket, DATA/keeper/ID/sock, in
// frames: a JSON object and a newline, at most 64 MiB. Only whole frames are
// acted upon; a longer one ends the connection. Every frame has a `type`. A
// request may have a `seq`, which its answer repeats; a request without one
// is not answered unless it is wrong. Unknown fields are ignored; an unknown
// type, or a line that is not JSON, is answered with an error frame, and the
// connection goes on.
//
// The daemon asks:
//
//	hello   protocol, build             → hello: protocol, keeper, build, pid
//	start   specs                       → ok: taken, not yet spawned
//	signal  run, attempt, kind          → ok
//	renew   run, attempt, token         → error, code "unsupported" in this version
//	list    subscribe, run, attempt     → list: attempts
//	forget  run, attempt                → ok
//
// hello comes first; a keeper refuses another protocol with an error frame,
// code "version", that has its own `protocol`, and waits for a better hello.
// list without a run lists every attempt that the keeper has not forgotten,
// each with its state (waiting, running, exited) and its events so far; with
// `subscribe` this connection becomes the one that gets the events, from exactly
// this list on. An attempt that is waiting can be sent again without harm:
// start is idempotent by (run, attempt). forget drops an attempt that has
// exited.
//
// The keeper sends by itself:
//
//	events  events                      an array of Event
//
// Events come at least once: what has not been forgotten is in the next list.
const ProtocolVersion = 1

const (
	maxFrame     = 64 << 20
	helloTimeout = 10 * time.Second
	callTimeout  = 30 * time.Second
)

// The types of frames.
const (
	typeHello  = "hello"
	typeStart  = "start"
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
	codeInvalid     = "invalid"
	codeEnding      = "ending"
)

// message is any frame.
type message struct {
	Type string `json:"type"`
	Seq  int64  `json:"seq,omitempty"`

	Protocol int    `json:"protocol,omitempty"`
	Keeper   string `json:"keeper,omitempty"`
	Build    string `json:"build,omitempty"`
	PID      int    `json:"pid,omitempty"`

	Specs []wireSpec `json:"specs,omitempty"`

	Run     string   `json:"run,omitempty"`
	Attempt int      `json:"attempt,omitempty"`
	Token   int64    `json:"token,omitempty"`
	Kind    StopKind `json:"kind,omitempty"`

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
	Stdin     []byte        `json:"stdin,omitempty"`
	StdinNull bool          `json:"stdin_null,omitempty"`
	Timeout   time.Duration `json:"timeout_ns,omitempty"`
	KillAfter time.Duration `json:"kill_after_ns,omitempty"`
	LogLimit  int64         `json:"log_limit,omitempty"`
	Umask     string        `json:"umask,omitempty"`
	Nice      int           `json:"nice,omitempty"`
	Limits    []Limit       `json:"limits,omitempty"`
}

func toWire(s Spec) wireSpec {
	return wireSpec{
		Run: s.Run, Attempt: s.Attempt, Token: s.Token, Dir: text(s.Dir),
		Args: convert[text](s.Args), Env: convert[text](s.Env), Cwd: text(s.Cwd),
		Stdin: s.Stdin, StdinNull: s.StdinNull, Timeout: s.Timeout, KillAfter: s.KillAfter,
		LogLimit: s.LogLimit, Umask: s.Umask, Nice: s.Nice, Limits: s.Limits,
	}
}

func (w wireSpec) spec() Spec {
	return Spec{
		Run: w.Run, Attempt: w.Attempt, Token: w.Token, Dir: string(w.Dir),
		Args: convert[string](w.Args), Env: convert[string](w.Env), Cwd: string(w.Cwd),
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
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(data []byte) error {
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

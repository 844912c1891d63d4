// Package outbox answers: what does Belfry owe to the outside, and has it been
// delivered? A result to publish and a mail to send are both items that are
// written in the same transaction as the state they follow from, and are tried
// until they are sent or refused for good. Senders live in publish and notify;
// nobody else sends anything.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Kind says which Sender an item is for.
type Kind string

// The kinds of items.
const (
	Publish Kind = "publish" // a run's output to its targets
	Notice  Kind = "notice"  // a message to people
)

// State is how far an item has come.
type State string

// The states of an item. Sent and Refused are final.
const (
	Pending State = "pending" // to be tried at NextAt
	Sending State = "sending" // being tried now, or when the daemon died
	Sent    State = "sent"
	Refused State = "refused" // final: the error will not go away by itself
)

// Item is one thing owed.
type Item struct {
	ID   string
	Run  string // the run it is owed for
	Kind Kind
	// Targets are the places that the item is for. While it is being sent no
	// other item that names one of them is.
	Targets []string
	Payload json.RawMessage
	// Progress is what the sender wants to know on its next try: what stood at
	// the target before it began, say. Null at first.
	Progress json.RawMessage
	State    State
	Tries    int
	Error    string          // what the last try said
	Result   json.RawMessage // what the sender gave back when it was sent
	// Created is when it was owed, moved on by the time in which it could have been
	// tried and was not.
	Created time.Time
	NextAt  time.Time // when to try again, while Pending
}

// Sender delivers items of one kind.
//
// Send may be called again for an item that was delivered already, because the
// daemon died before it could write that down: it must make the same thing true
// twice without harm. It blocks until the item is delivered or not, and gives up
// when ctx ends. save keeps progress durably, for the next try. The result is
// kept with the item. An error made by Final is not tried again; any other is
// tried until the outbox's patience ends. Send is called from many goroutines,
// never at once for two items that share a target.
type Sender interface {
	Send(ctx context.Context, item Item, save func(progress json.RawMessage) error) (result json.RawMessage, err error)
}

// Final marks err as one that trying again will not mend.
func Final(err error) error { return &finalError{err} }

// IsFinal reports whether err, or an error it wraps, was made by Final.
func IsFinal(err error) bool {
	var f *finalError
	return errors.As(err, &f)
}

type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

package run

import (
	"context"
	"errors"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// ErrConflict is what a Store answers when a run is no longer in the state, or
// no longer under the token, that a change was decided on. The change is void.
var ErrConflict = errors.New("the run has changed meanwhile")

// ErrNotFound is what a Store answers for a run that it does not have.
var ErrNotFound = errors.New("not found")

// Store is what a Runner needs of the store. Each method that changes
// something is one durable transaction.
type Store interface {
	// Waiting lists the queued runs that wait for nothing but a turn, a slot or
	// a retry's time, in the order they were queued.
	Waiting(ctx context.Context) ([]Run, error)
	// Running lists the runs with a claimed attempt.
	Running(ctx context.Context) ([]Run, error)
	Run(ctx context.Context, id string) (Run, error)
	Attempt(ctx context.Context, run string, number int) (Attempt, error)
	// Targets gives what Claim noted for the attempt.
	Targets(ctx context.Context, run string, number int) ([]job.Target, error)
	// Definition gives the job as the run found it.
	Definition(ctx context.Context, hash string) ([]byte, error)
	// FailedBefore reports whether the newest finished run of the job before
	// this one had failed or was lost, or this one itself had, before a person had
	// it tried again.
	FailedBefore(ctx context.Context, r Run) (bool, error)
	// Claim makes queued runs running, and says which: those that still were
	// queued.
	Claim(ctx context.Context, claims []Claim) (claimed []bool, err error)
	// Move takes runs from one state to the next, with all that follows: what is
	// owed is in the outbox, and the runs that wait for them are settled. It says
	// which moves are void because of ErrConflict; with an error nothing was
	// written.
	Move(ctx context.Context, moves ...Move) (void []bool, err error)
	// Act notes what a person is about to do.
	Act(ctx context.Context, a Act) error
	// PublishOf gives what a publishing run owes to its targets.
	PublishOf(ctx context.Context, run string) (outbox.Item, error)
	// Note writes why runs are in their state, without changing it.
	Note(ctx context.Context, reasons map[string]string) error
	// Late lists the runs whose StartBy or FinishBy is not kept at now, and says
	// when the next one may be.
	Late(ctx context.Context, now time.Time) (late []Run, next time.Time, err error)
	// Told notes what is owed for runs that are late, whose StartBy and FinishBy
	// up to now are no longer watched.
	Told(ctx context.Context, runs []string, now time.Time, owed []outbox.Item) error
}

// Claim takes a queued run for one attempt.
type Claim struct {
	run        Run // as it waited
	Run        string
	Attempt    int
	Token      int64
	Node, Boot string
	Definition job.Definition
	Targets    []job.Target
	At         time.Time
}

// claimed is the run as Claim leaves it.
func (c Claim) claimed() Run {
	r := c.run
	r.State, r.Reason, r.Definition, r.Attempt, r.Token, r.Node = Running, "", c.Definition.Hash, c.Attempt, c.Token, c.Node
	r.NotBefore, r.StartBy, r.EndedAt, r.ExitCode, r.Signal = time.Time{}, time.Time{}, time.Time{}, nil, ""
	if r.StartedAt.IsZero() {
		r.StartedAt = c.At
	}
	return r
}

// Move is one transition of a run.
type Move struct {
	Run       string
	From, To  State
	Token     int64 // of the claim that is ended, when From is Running or Publishing
	Reason    string
	NotBefore time.Time // of a retry
	AskedAt   time.Time // when a person asked for another attempt, of one that had ended
	At        time.Time
	Ended     *Attempt      // the attempt that ends with it
	Owed      []outbox.Item // to be delivered
	Settled   *outbox.Item  // the publish that ends with it
	Published []Published   // what that has put where, when it was sent
	Act       *Act          // of the person who asked for it; nil: nobody did
}

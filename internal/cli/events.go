package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"belfry/api"
)

// The answers of a command that stays with runs.
const (
	inWords  = ""
	asArray  = "array"  // of the runs as they ended
	asEvents = "events" // as they come, an object a line
)

// answerFlag is --json, which may stand alone.
type answerFlag string

func (a *answerFlag) String() string { return string(*a) }

func (a *answerFlag) Set(text string) error {
	switch text {
	case asArray, "true":
		*a = asArray
	case asEvents:
		*a = asEvents
	case "false":
		*a = inWords
	default:
		return fmt.Errorf("there are --json and --json=events")
	}
	return nil
}

func (a *answerFlag) Type() string { return "events" }

// of adds the flag to a command.
func (a *answerFlag) of(cmd *cobra.Command) {
	cmd.Flags().Var(a, "json", "an array of the runs as they ended or, with --json=events, what happens as it happens,\nan object a line (docs/running.md); what they print goes to standard error")
	cmd.Flags().Lookup("json").NoOptDefVal = asArray
}

// event is one line of --json=events.
type event struct {
	Event    string         `json:"event"`
	At       time.Time      `json:"at"`
	Run      *api.Run       `json:"run,omitempty"`      // of "run": as it is from now on
	ID       string         `json:"id,omitempty"`       // of "publishing" and "backfill"
	Progress *api.Progress  `json:"progress,omitempty"` // of "publishing" and, when some of its runs publish, "backfill"
	States   map[string]int `json:"states,omitempty"`   // of "backfill": state → how many of its runs
}

// events writes what happens, each thing once.
type events struct {
	out io.Writer // nil: nobody wants them

	mu   sync.Mutex
	last map[string]string // guarded by mu; what was told of a run or a backfill last
}

func newEvents(out io.Writer) *events { return &events{out: out, last: map[string]string{}} }

func (e *events) tell(id, version string, what event) {
	if e.out == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last[id] == version {
		return
	}
	e.last[id] = version
	what.At = time.Now().UTC()
	encoder := json.NewEncoder(e.out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(what) // whoever reads may leave, and the run goes on
}

func (e *events) run(r api.Run) {
	e.tell(r.ID, api.Version(r), event{Event: "run", Run: &r})
}

func (e *events) publishing(r api.Run) {
	if r.Publishing != nil {
		e.tell(r.ID+" publishing", fmt.Sprint(*r.Publishing), event{Event: "publishing", ID: r.ID, Progress: r.Publishing})
	}
}

func (e *events) backfill(b api.Backfill) {
	version := b.Version()
	if b.Publishing != nil {
		version += fmt.Sprint(*b.Publishing)
	}
	e.tell(b.ID, version, event{Event: "backfill", ID: b.ID, States: b.States, Progress: b.Publishing})
}

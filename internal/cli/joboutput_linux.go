package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"belfry/internal/daemon"
)

// jobOutputs are the forms in which serve prints what jobs do, as they are told
// to people.
var jobOutputs = []string{"plain", "raw", "json", "none"}

// outputLine is a line of a job as JSON. Fields are only ever added.
type outputLine struct {
	Time    time.Time `json:"time"` // when it was read
	Project string    `json:"project"`
	Job     string    `json:"job"`
	Run     string    `json:"run"`
	Attempt int       `json:"attempt"`
	Line    string    `json:"line"`
}

// jobOutput gives what prints the lines of jobs in one of the forms; nil for
// none. Lines of several jobs come between each other, and whole.
func jobOutput(form string, w io.Writer, now func() time.Time) func(lines []daemon.Line) {
	var write func(b *bytes.Buffer, line daemon.Line)
	switch form {
	case "plain":
		write = func(b *bytes.Buffer, line daemon.Line) {
			b.WriteString(line.Job)
			b.WriteString(": ")
			b.Write(line.Text)
		}
	case "raw":
		write = func(b *bytes.Buffer, line daemon.Line) { b.Write(line.Text) }
	case "json":
		write = func(b *bytes.Buffer, line daemon.Line) {
			text, err := json.Marshal(outputLine{now().UTC().Truncate(time.Millisecond), line.Project, line.Job, line.Run, line.Attempt, string(line.Text)})
			if err != nil {
				panic(err) // strings and numbers only
			}
			b.Write(text)
		}
	default:
		return nil
	}
	return func(lines []daemon.Line) {
		var b bytes.Buffer
		for _, line := range lines {
			write(&b, line)
			b.WriteByte('\n')
		}
		_, _ = w.Write(b.Bytes()) // who closed our output does not want it; the account has it
	}
}

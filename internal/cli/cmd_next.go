package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belfry/crontab"
	"belfry/internal/job"
)

// nextQuestion is one question to next; what it leaves out is what the flags say.
type nextQuestion struct {
	Expr string `json:"expr"`
	TZ   string `json:"tz"`
	From string `json:"from"`
	N    *int   `json:"n"`
}

func (c *command) nextCommand() *cobra.Command {
	var t times
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "next EXPR…",
		Short: "Print the next times of schedules, a line each",
		Long: `Print the next times of each schedule, a line each: as RFC 3339 in its time zone, the
zone, the same in UTC, and what daylight saving has to do with it.
With --json an object a line: expr, tz and next, or error. "-" reads from standard
input, one question a line: an expression, or an object with expr and, where it differs
from the flags, tz, from and n. What cannot be answered does not keep --json from
answering the rest.`,
		Example: `  belfry next -n 3 --tz Asia/Seoul '0 1 * * *'
  belfry next --json - < expressions
  echo '{"expr": "0 1 * * *", "tz": "Asia/Seoul", "from": "2026-07-09", "n": 3}' | belfry next --json -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			zone, err := t.zone()
			if err != nil {
				return err
			}
			n := &nextPrinter{times: t, asJSON: asJSON, out: bufio.NewWriter(c.out), err: c.err, zones: map[string]nextZone{}}
			if err := n.meet(t.tz, zone); err != nil {
				return usage("--from %v", err)
			}
			for _, arg := range args {
				if arg == "-" {
					err = n.lines(c.in)
				} else {
					err = n.print(nextQuestion{Expr: arg})
				}
				if err != nil {
					return flushed(n.out, err)
				}
			}
			return n.out.Flush()
		},
	}
	t.flags(cmd, 5)
	cmd.Flags().BoolVar(&asJSON, "json", false, "an object a line")
	return cmd
}

// nextPrinter answers one question after the other.
type nextPrinter struct {
	times  times // what the flags say
	asJSON bool
	out    *bufio.Writer
	err    io.Writer
	zones  map[string]nextZone // those met so far, by what they were called
	buffer []byte              // for one answer
}

// nextZone is a zone and the time that --from is in it; the zero Time is now, which passes.
type nextZone struct {
	*time.Location
	from time.Time
}

// lines answers what stands in each line, and lets nobody wait who has asked and listens.
func (n *nextPrinter) lines(in io.Reader) error {
	lines := bufio.NewReaderSize(in, 1<<16)
	for number := 1; ; number++ {
		if lines.Buffered() == 0 {
			if err := n.out.Flush(); err != nil {
				return err
			}
		}
		line, readErr := lines.ReadSlice('\n')
		if readErr != nil && readErr != io.EOF {
			return fmt.Errorf("read standard input: line %d: %w", number, readErr)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := n.line(line); err != nil {
				return err
			}
		}
		if readErr == io.EOF {
			return nil
		}
	}
}

func (n *nextPrinter) line(line []byte) error {
	if line[0] != '{' {
		return n.print(nextQuestion{Expr: string(line)})
	}
	q, err := readQuestion(line)
	if err != nil {
		return n.refuse(string(line), "", err)
	}
	return n.print(q)
}

// readQuestion reads an object strictly: a key that is misspelt would be answered as if it were not there.
func readQuestion(line []byte) (q nextQuestion, err error) {
	object := json.NewDecoder(bytes.NewReader(line))
	object.DisallowUnknownFields()
	if err := object.Decode(&q); err != nil {
		return q, fmt.Errorf("not a question: %w", err)
	}
	if _, err := object.Token(); err != io.EOF {
		return q, errors.New("not a question: something follows the object")
	}
	if q.Expr == "" {
		return q, errors.New("not a question: expr is missing")
	}
	return q, nil
}

func (n *nextPrinter) print(q nextQuestion) error {
	zone, err := n.zone(cmp.Or(q.TZ, n.times.tz))
	if err != nil {
		return n.refuse(q.Expr, q.TZ, err)
	}
	t, from := n.times, zone.from
	if q.From != "" || from.IsZero() {
		t.from = q.From
		if from, err = t.begin(zone.Location); err != nil {
			return n.refuse(q.Expr, zone.String(), err)
		}
	}
	if q.N != nil {
		t.n = *q.N
		if t.n < 0 || t.n > mostTimes {
			return n.refuse(q.Expr, zone.String(), fmt.Errorf("n is %d; a number of times is 0–%d", t.n, mostTimes))
		}
	}
	s, err := crontab.ParseSchedule(q.Expr)
	if err != nil {
		return n.refuse(q.Expr, zone.String(), err)
	}
	list := firings(s, from, t.n)
	if n.asJSON {
		return n.answer(q.Expr, zone.String(), list)
	}
	if len(list) == 0 && t.n > 0 {
		fmt.Fprintf(n.err, "belfry: %s fires at no time\n", q.Expr)
	}
	for _, at := range list {
		fmt.Fprintln(n.out, timeLine(s, at))
	}
	return nil
}

// timeLine is a firing for a person and for awk: the time in its zone, the zone,
// the time in UTC, and what daylight saving has to do with it.
func timeLine(s crontab.Schedule, at time.Time) string {
	line := at.Format(time.RFC3339) + "  " + at.Location().String()
	if at.Location() != time.UTC {
		line += "  " + at.UTC().Format(time.RFC3339)
	}
	if note := moved(s, at); note != "" {
		line += "  " + note
	}
	return line
}

// zone finds a zone by its name, or by the empty one that the machine's goes by.
func (n *nextPrinter) zone(name string) (nextZone, error) {
	if zone, ok := n.zones[name]; ok {
		return zone, nil
	}
	loc, err := job.LoadZone(name)
	if err == nil {
		err = n.meet(name, loc)
	}
	return n.zones[name], err
}

// meet keeps a zone for the questions to come.
func (n *nextPrinter) meet(name string, loc *time.Location) (err error) {
	zone := nextZone{Location: loc}
	if n.times.from != "" {
		zone.from, err = n.times.begin(loc)
	}
	n.zones[name] = zone
	return err
}

// answer writes an object by hand: reflection would take longer than the question.
func (n *nextPrinter) answer(expr, zone string, list []time.Time) error {
	b := append(n.begin(expr, zone), `,"next":[`...)
	for i, at := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = at.AppendFormat(b, time.RFC3339)
		b = append(b, '"')
	}
	return n.end(append(b, ']'))
}

// refuse says why a question has no answer: in its place, or by giving up where the answers are bare.
func (n *nextPrinter) refuse(expr, zone string, err error) error {
	if !n.asJSON {
		return expressionError(expr, err)
	}
	return n.end(appendText(append(n.begin(expr, zone), `,"error":`...), err.Error()))
}

func (n *nextPrinter) begin(expr, zone string) []byte {
	b := append(n.buffer[:0], `{"expr":`...)
	b = append(appendText(b, expr), `,"tz":`...)
	return appendText(b, zone)
}

func (n *nextPrinter) end(b []byte) error {
	n.buffer = append(b, '}', '\n')
	_, err := n.out.Write(n.buffer)
	return err
}

// appendText appends a string of JSON.
func appendText(b []byte, text string) []byte {
	b = append(b, '"')
	for _, c := range []byte(strings.ToValidUTF8(text, "\uFFFD")) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// flushed writes what there is before err is told.
func flushed(out *bufio.Writer, err error) error {
	if flushErr := out.Flush(); flushErr != nil {
		return flushErr
	}
	return err
}

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"belfry/api"
	"belfry/internal/job"
)

// terminal reports whether a person sees the file as it is written.
func terminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd()))
}

// paint colours a text on a terminal whose user has not said NO_COLOR.
func paint(f *os.File, colour, text string) string {
	if colour == "" || !terminal(f) || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
	faint  = "2"
)

var stateColours = map[string]string{
	"succeeded": green, "failed": red, "lost": red, "missed": yellow, "skipped": yellow, "cancelled": yellow,
}

// printJSON writes a value as a program wants it: indented, and text as it is.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// streamJSON writes an array as printJSON does, without holding it.
func streamJSON[T any](w io.Writer, list func(each func(T) error) error) error {
	buffered := bufio.NewWriter(w)
	head := "[\n  "
	err := list(func(v T) error {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("  ", "  ")
		if err := encoder.Encode(v); err != nil {
			return err
		}
		if _, err := buffered.WriteString(head); err != nil {
			return err
		}
		head = ",\n  "
		_, err := buffered.Write(bytes.TrimRight(text.Bytes(), "\n"))
		return err
	})
	if err != nil {
		return errors.Join(err, buffered.Flush())
	}
	end := "\n]\n"
	if head == "[\n  " {
		end = "[]\n"
	}
	if _, err := buffered.WriteString(end); err != nil {
		return err
	}
	return buffered.Flush()
}

// table prints rows in columns, with the head faint on a terminal.
type table struct {
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) error {
	lines := bufio.NewWriter(w) // a tabwriter writes each cell by itself
	tabs := tabwriter.NewWriter(lines, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = harmlessly(strings.ReplaceAll(cell, "\t", " ")) // a tab begins the next column
		}
		if _, err := fmt.Fprintln(tabs, strings.TrimRight(strings.Join(cells, "\t"), "\t ")); err != nil {
			return err
		}
	}
	if err := tabs.Flush(); err != nil {
		return err
	}
	return lines.Flush()
}

// namer gives what the job of each of list is called by in a table: with its
// project where there are jobs of several, as etc/crontab/cron.daily.
func namer[T any](list []T, id func(T) (project, job string)) func(T) string {
	projects := map[string]bool{}
	for _, one := range list {
		if project, job := id(one); job != "" {
			projects[project] = true
		}
	}
	return func(one T) string {
		project, job := id(one)
		if job == "" || len(projects) < 2 {
			return job
		}
		return project + "/" + job
	}
}

// moment shows, in a zone, when something happened: always to the second, unlike
// when, which is for the times of schedules.
func moment(t *time.Time, zone string) string {
	if t == nil {
		return "-"
	}
	return t.In(zoneOr(zone)).Format(toTheSecond)
}

const toTheSecond = "2006-01-02 15:04:05 MST"

// when shows an instant in a zone, and names the zone.
func when(t *time.Time, zone string) string {
	if t == nil {
		return "-"
	}
	return shown(t.In(zoneOr(zone)))
}

// clockTime is the time of day of an instant in a zone, to the second.
func clockTime(t *time.Time, zone string) string {
	if t == nil {
		return "-"
	}
	return t.In(zoneOr(zone)).Format("15:04:05 MST")
}

func zoneOr(name string) *time.Location {
	if zone, err := job.KnownZone(name); err == nil {
		return zone
	}
	return time.UTC
}

func shown(t time.Time) string {
	layout := "2006-01-02 15:04 MST"
	if t.Second() != 0 {
		layout = toTheSecond
	}
	return t.Format(layout)
}

// took says how long a run took, from its first attempt's start.
func took(r api.Run) string {
	if r.StartedAt == nil {
		return "-"
	}
	if r.EndedAt == nil {
		return "-"
	}
	return duration(r.EndedAt.Sub(*r.StartedAt))
}

func duration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// count says how many there are of something.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// cut shortens a text to n characters.
func cut(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

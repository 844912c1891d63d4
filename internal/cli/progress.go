package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
)

// line is one line of a terminal that is written over again and again. On
// anything else nothing is written.
type line struct {
	f     *os.File
	shown bool
}

// show writes the line anew, cut to the width of the terminal: what is longer
// could not be written over.
func (l *line) show(text string) {
	if !terminal(l.f) {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(l.f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 1 {
		text = fit(text, int(size.Col)-1)
	}
	l.shown = true
	fmt.Fprintf(l.f, "\r\x1b[K%s", text)
}

// fit cuts a text to so many columns. Letters of East Asia take two.
func fit(text string, columns int) string {
	for i, r := range text {
		if columns--; r >= 0x2e80 || r >= 0x1100 && r < 0x1160 {
			columns--
		}
		if columns < 0 {
			return text[:i]
		}
	}
	return text
}

// clear takes the line away.
func (l *line) clear() {
	if l.shown {
		fmt.Fprint(l.f, "\r\x1b[K")
		l.shown = false
	}
}

// end leaves the line as it is; what is written next stands below it.
func (l *line) end() {
	if l.shown {
		fmt.Fprintln(l.f)
		l.shown = false
	}
}

// meter says in words how far some progress has come, how fast it is, and how
// long it will take: by what it has come to since it began, and again from the
// start when it falls back, as a new try does.
type meter struct {
	from  api.Progress
	since time.Time
	last  api.Progress
}

func (m *meter) text(p api.Progress, now time.Time) string {
	if m.since.IsZero() || p.Bytes < m.last.Bytes || p.Files < m.last.Files {
		m.from, m.since = p, now
	}
	m.last = p
	parts := []string{fmt.Sprintf("%d of %s", p.Files, count(p.FilesTotal, "file")), fmt.Sprintf("%s of %s", size(p.Bytes), size(p.BytesTotal))}
	if elapsed, moved := now.Sub(m.since), p.Bytes-m.from.Bytes; elapsed >= time.Second && moved > 0 {
		perSecond := float64(moved) / elapsed.Seconds()
		parts = append(parts, size(int64(perSecond))+"/s")
		if left := p.BytesTotal - p.Bytes; left > 0 {
			parts = append(parts, about(time.Duration(float64(left)/perSecond*float64(time.Second))))
		}
	}
	return strings.Join(parts, ", ")
}

// about says how long something is still going to take.
func about(left time.Duration) string {
	return "about " + duration(max(left.Round(time.Second), time.Second)) + " left"
}

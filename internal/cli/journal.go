package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
)

// isJournal reports whether what is written to w goes into systemd's journal: it
// says of which stream that is so.
func isJournal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// ranked gives lines as they are to be written to w: with their priority, where
// they go into the journal.
func ranked(w io.Writer, level slog.Level, text string) string {
	if !isJournal(w) {
		return text
	}
	return priority(level) + strings.ReplaceAll(text, "\n", "\n"+priority(level))
}

// journal is a log whose lines begin with their priority, <4> for a warning, which
// the journal takes off and keeps them with.
type journal struct {
	slog.Handler // writes to lines
	lines        *journalLines
}

type journalLines struct {
	w     io.Writer
	mu    sync.Mutex
	level slog.Level // guarded by mu; of the line that is written
}

func newJournal(w io.Writer, level slog.Level) *slog.Logger {
	lines := &journalLines{w: w}
	return slog.New(journal{slog.NewTextHandler(lines, &slog.HandlerOptions{Level: level}), lines})
}

func (j journal) Handle(ctx context.Context, r slog.Record) error {
	j.lines.mu.Lock()
	defer j.lines.mu.Unlock()
	j.lines.level = r.Level
	return j.Handler.Handle(ctx, r)
}

func (j journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journal{j.Handler.WithAttrs(attrs), j.lines}
}

func (j journal) WithGroup(name string) slog.Handler {
	return journal{j.Handler.WithGroup(name), j.lines}
}

// Write is given a line at a time.
func (l *journalLines) Write(line []byte) (int, error) {
	if _, err := l.w.Write(append([]byte(priority(l.level)), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority is what a line of the journal begins with, as syslog counts.
func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	case level >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

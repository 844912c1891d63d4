package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"belfry/internal/system"
)

// cronLogs are where syslog puts cron's lines.
var cronLogs = []string{"/var/log/syslog", "/var/log/cron.log", "/var/log/cron"}

// startedByCron is what a log says that cron has started.
type startedByCron struct {
	list   []system.Started
	begins time.Time // of the log; zero: it says nothing
	log    string    // its name
}

// cronLog reads what cron has started since from: by the log that is named, else
// by the machine's.
func (c *command) cronLog(ctx context.Context, file string, zone *time.Location, from time.Time) (startedByCron, error) {
	switch {
	case file == "-":
		return readCronLog("standard input", c.in, zone)
	case file != "":
		return readCronLogs(file, []string{file}, zone)
	}
	for _, path := range cronLogs {
		if files := sinceRotated(path, from); len(files) > 0 {
			return readCronLogs(path, files, zone)
		}
	}
	return askJournal(ctx, zone, from)
}

func readCronLog(name string, log io.Reader, zone *time.Location) (s startedByCron, err error) {
	s.log = name
	if s.list, s.begins, err = system.ReadCronLog(log, zone, time.Now()); err != nil {
		err = fmt.Errorf("read cron's log %s: %w", name, err)
	}
	return s, err
}

// readCronLogs reads a log that lies in several files, the oldest first.
func readCronLogs(name string, files []string, zone *time.Location) (startedByCron, error) {
	var parts []io.Reader
	for _, path := range files {
		file, part, err := openLog(path)
		if err != nil {
			next, code := "check the path", exitNotFound
			if errors.Is(err, fs.ErrPermission) {
				next, code = "ask as root", exitFailed
			}
			return startedByCron{}, &problem{err: fmt.Errorf("read cron's log %s: %w", path, reason(err)), next: next, code: code}
		}
		defer file.Close() //nolint:errcheck // it is only read
		parts = append(parts, part)
	}
	return readCronLog(name, io.MultiReader(parts...), zone)
}

// openLog opens a log, compressed or not.
func openLog(path string) (*os.File, io.Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	text := bufio.NewReader(file)
	if magic, _ := text.Peek(2); string(magic) != "\x1f\x8b" { // what cannot be read is told by whoever reads on
		return file, text, nil
	}
	unpacked, err := gzip.NewReader(text)
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, unpacked, nil
}

// rotatedAway is how logrotate names what it has put aside: by number or, with
// dateext, by date.
var rotatedAway = regexp.MustCompile(`^[.-]\d+(\.\w+)?$`)

// sinceRotated lists a log and what was rotated away of it, the oldest first, as
// far back as has lines since from and can be read: logrotate can be told to
// compress with more than gzip.
func sinceRotated(path string, from time.Time) (files []string) {
	type part struct {
		path  string
		ended time.Time
	}
	var parts []part
	found, _ := filepath.Glob(path + "*") // itself, and others; the pattern is right
	for _, name := range found {
		if name != path && !rotatedAway.MatchString(name[len(path):]) {
			continue
		}
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && !info.ModTime().Before(from) {
			parts = append(parts, part{name, info.ModTime()})
		}
	}
	// Compression keeps the time.
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(b.ended.Compare(a.ended), cmp.Compare(len(a.path), len(b.path))) })
	for _, p := range parts {
		if m := rotatedAway.FindStringSubmatch(p.path[len(path):]); m != nil && m[1] != "" && m[1] != ".gz" {
			break
		}
		files = append(files, p.path)
	}
	slices.Reverse(files)
	return files
}

// askJournal asks systemd's, which on many machines is the only log that there is.
func askJournal(ctx context.Context, zone *time.Location, from time.Time) (s startedByCron, err error) {
	ask := func(args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, "journalctl", append([]string{"--no-pager", "--quiet", "--output=short-iso"}, args...)...).Output()
	}
	second := fmt.Sprintf("@%d", from.Unix())
	text, err := ask("--since="+second, "--identifier=CRON", "--identifier=CROND", "--identifier=crond")
	if err != nil {
		return s, &problem{err: fmt.Errorf("there is no log of cron's: neither %s, nor does journalctl answer", strings.Join(cronLogs, ", ")), next: "name it with --log FILE", code: exitNotFound}
	}
	if s, err = readCronLog("the journal", bytes.NewReader(text), zone); err != nil {
		return s, err
	}
	if len(s.list) == 0 && os.Geteuid() != 0 {
		return s, &problem{err: fmt.Errorf("the journal shows nothing of cron's: %w", fs.ErrPermission), next: "ask as root", code: exitFailed}
	}
	// It need not begin with a line of cron's.
	if before, err := ask("--until="+second, "--lines=1"); err == nil && len(before) > 0 {
		s.begins = from
	}
	return s, nil
}

package system

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What Debian's cron tells the log of its jobs, with -L.
const (
	LogStarts    = 1 << iota // CMD
	LogEnds                  // END
	LogFailures              // how a command failed; and the subject of its mail says that it did
	LogProcesses             // pids of commands
)

// LogLevel gives what of its jobs the machine's cron is to tell the log, by the -L
// in the options that Debian's has in /etc/default/cron. It is 1 without, as that
// one's is.
func (p Places) LogLevel() int {
	const otherwise = LogStarts
	if p.Dialect != Debian {
		return otherwise
	}
	text, err := os.ReadFile(filepath.Join(p.Root, "etc/default/cron"))
	if err != nil { // most often there is none, and no level is worth a cron that does not start
		return otherwise
	}
	level := otherwise
	for line := range strings.Lines(string(text)) {
		v, _ := pamVariable(line) // what else a shell could say in it, systemd's units do not understand
		value, options := strings.CutPrefix(v, "EXTRA_OPTS=")
		if !options {
			continue
		}
		level = otherwise
		words := strings.Fields(value)
		for i, word := range words {
			_, given, found := strings.Cut(word, "L")
			if !found || word[0] != '-' {
				continue
			}
			if given == "" && i+1 < len(words) {
				given = words[i+1]
			}
			if n, err := strconv.Atoi(given); err == nil {
				level = n
			}
		}
	}
	return level
}

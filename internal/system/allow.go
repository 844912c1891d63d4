package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// allowed reports whether cron.allow and cron.deny let caller have target's
// crontab worked on. They restrict the crontab command alone: crontabs that are
// there go on running. Debian asks for the target, also when root calls; cronie
// for the caller. In both a cron.allow makes cron.deny count for nothing.
//
// A name is a whole line. Unlike Debian's ours need not end in a newline: there
// the last line of a file without one names nobody, so that whoever was denied by
// it is allowed.
func (p Places) allowed(caller, target User) (bool, error) {
	who := caller
	if p.Dialect == Debian {
		who = target
	}
	if who.UID == 0 {
		return true, nil
	}
	listed, there, err := inFile(p.Allow, who.Name)
	if there || err != nil {
		return listed, err
	}
	listed, there, err = inFile(p.Deny, who.Name)
	if there || err != nil {
		return !listed && err == nil, err
	}
	return p.Dialect == Debian, nil
}

// inFile looks for a line of a file, and says whether there is such a file.
func inFile(path, name string) (listed, there bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, true, fmt.Errorf("read who may use crontab: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSuffix(line, "\n") == name {
			return true, true, nil
		}
	}
	return false, true, nil
}

package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// process is what /proc/PID/stat says of one.
type process struct {
	pid, parent, group, session int
	started                     uint64 // clock ticks since boot
	state                       byte
	threads                     int
}

// alive reports whether p can still run. A zombie cannot, unless it is only
// the first thread that has ended.
func (p process) alive() bool {
	return p.state != 'Z' && p.state != 'X' || p.threads > 1
}

// descendants gives the processes for which root holds and all below them.
func descendants(all []process, root func(process) bool) []process {
	children := make(map[int][]process, len(all))
	var found []process
	seen := make(map[int]bool, len(all))
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
		if root(p) {
			found = append(found, p)
			seen[p.pid] = true
		}
	}
	for i := 0; i < len(found); i++ {
		for _, child := range children[found[i].pid] {
			if !seen[child.pid] {
				found = append(found, child)
				seen[child.pid] = true
			}
		}
	}
	return found
}

// living leaves only those that are alive.
func living(all []process) []process {
	return slices.DeleteFunc(all, func(p process) bool { return !p.alive() })
}

// isOf reports whether the environment that pid was executed with is that of
// the attempt. What cannot be read is not.
func isOf(pid int, k key) bool {
	run := []byte("BELFRY_RUN=" + k.run)
	attempt := []byte("BELFRY_ATTEMPT=" + strconv.Itoa(k.attempt))
	var hasRun, hasAttempt bool
	for entry := range bytes.SplitSeq(environ(pid), []byte{0}) {
		hasRun = hasRun || bytes.Equal(entry, run)
		hasAttempt = hasAttempt || bytes.Equal(entry, attempt)
	}
	return hasRun && hasAttempt
}

// survivors gives the living processes of an attempt whose keeper is dead:
// those of its cgroup, of its session, those with its environment, and all
// below them.
func survivors(record startRecord) ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	session := record.Process.Session
	for _, p := range all {
		// The kernel gives a number away again only when no process has it as
		// its pid, group or session. So a stranger with the number of our
		// session means that ours is empty.
		if p.pid == record.Process.PID && p.started > record.Process.Started {
			session = 0
		}
	}
	k := key{record.Run, record.Attempt}
	inCgroup := members(record.cgroup())
	self := os.Getpid()
	return living(descendants(all, func(p process) bool {
		if p.started < record.Since || p.pid == self {
			return false
		}
		return inCgroup[p.pid] || session != 0 && p.session == session || isOf(p.pid, k)
	})), nil
}

// KillSurvivors sends KILL to every process of an attempt whose keeper is
// dead, and returns when none is left.
func KillSurvivors(dir, run string, attempt int) error {
	record, err := readStart(dir, run, attempt)
	if err != nil {
		return fmt.Errorf("kill survivors of attempt %d of run %s: %w", attempt, run, err)
	}
	const patience = 5 * time.Second
	begin := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left, err := survivors(record)
		if err != nil {
			return fmt.Errorf("kill survivors of attempt %d of run %s: %w", attempt, run, err)
		}
		if len(left) == 0 {
			return nil
		}
		killCgroup(record.cgroup())
		var errs []error
		for _, p := range left {
			if err := p.kill(); err != nil {
				errs = append(errs, fmt.Errorf("pid %d: %w", p.pid, err))
			}
		}
		if time.Since(begin) > patience {
			return fmt.Errorf("kill survivors of attempt %d of run %s: %d left: %w",
				attempt, run, len(left), errors.Join(errs...))
		}
		time.Sleep(pause) // they were told; the kernel says to nobody but a parent when they are gone
	}
}

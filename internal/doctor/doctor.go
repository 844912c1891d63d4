//go:build linux

// Package doctor answers: what is wrong with this set-up? It looks at a data
// folder, its daemon, the job files and the machine, and changes nothing but a
// file that it writes and removes to see whether it can. Only the command of
// that name imports it.
package doctor

import (
	"context"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/system"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	Fine    Level = "ok"
	Warning Level = "warning" // it works, and may surprise
	Wrong   Level = "wrong"   // jobs do not run, or their account is in danger
)

// Finding is what one check found, and what to do about it.
type Finding struct {
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

// Setup is what there is to be looked at.
type Setup struct {
	Data     string
	Version  string            // of this program
	Zone     *time.Location    // of the machine
	Spool    string            // folder of mailboxes
	User     string            // whom jobs run as
	Key      string            // path of the key of their secrets
	Health   api.Health        // the daemon's; PID 0: there is none
	Silent   string            // that it is there and does not answer, in a sentence
	Jobs     []*job.Job        // as the files have them now
	LeftOut  []string          // lines of crontabs that are wrong
	Refused  []*system.Refusal // crontabs of the machine that are not used
	Broken   error             // why the files cannot be used
	Crontabs []string          // absolute paths of the crontabs that belfry runs
	Lint     func(crontab string) (findings int, err error)
	Missed   func(ctx context.Context) ([]api.Run, error)

	// CheckStore says what is wrong in the store, and CanPunch why the file
	// system of a folder cannot give back the middle of a file; nil: not known.
	CheckStore func(ctx context.Context) ([]string, error)
	CanPunch   func(dir string) error

	// Python says which interpreter makes a virtual environment for a job that
	// asks for these versions, or why none can be made.
	Python func(versions job.Versions) (found string, err error)

	Now     time.Time
	Machine Machine
}

// Machine is where the machine keeps what is looked at; tests have another.
type Machine struct {
	Shell    string   // /bin/sh
	Proc     string   // /proc
	ZoneInfo []string // where zone data may be
	Crontabs string   // folder of the users' crontabs
	System   []string // crontabs and folders of them that cron runs as root
	Space    func(dir string) (Space, error)
	InSync   func() (bool, error) // whether the clock is kept by others
}

// Space is what a file system has.
type Space struct{ Bytes, FreeBytes, Inodes, FreeInodes uint64 }

// checks are all checks, in the order in which they are told. Each gives one
// finding; a nil one means that there was nothing to look at.
var checks = []struct {
	name  string
	check func(ctx context.Context, s *Setup) *Finding
}{
	{"daemon", daemonRuns},
	{"version", sameVersion},
	{"jobs", jobFiles},
	{"env files", envFiles},
	{"python", pythons},
	{"secrets", secretFiles},
	{"time zone", timeZone},
	{"clock", clockInSync},
	{"data folder", dataFolder},
	{"disk", diskSpace},
	{"log limit", holes},
	{"account", storeCheck},
	{"keeper", keepers},
	{"shell", shell},
	{"mail", mailSpool},
	{"owed", owed},
	{"missed", missedFirings},
	{"cron", otherCron},
}

// Examine carries out all checks.
func Examine(ctx context.Context, s *Setup) []Finding {
	var list []Finding
	for _, r := range s.Refused {
		list = append(list, Finding{Check: "crontab", Level: Wrong, Message: "it is not used: " + r.Error(), Next: r.Next})
	}
	for _, c := range checks {
		if f := c.check(ctx, s); f != nil {
			f.Check = c.name
			list = append(list, *f)
		}
	}
	return list
}

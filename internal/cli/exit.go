package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"syscall"

	"belfry/api"
	"belfry/crontab"
	"belfry/internal/project"
	"belfry/internal/remote"
)

// The exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitBadFile     = 65
	exitNotFound    = 66
	exitUnavailable = 69
	exitRunFailed   = 70
	exitCannotWrite = 73
	exitRefused     = 75
)

const exitCodes = `Exit codes: 0 done; 1 it could not be done; 2 the command line is wrong; 65 what you
wrote is wrong (belfry.yaml, a crontab, an expression); 66 a file, job or run is not
there; 69 no daemon or host answers, or its disk is full; 73 a folder cannot be written;
75 not now: something is in use or still running.`

const runExitCodes = `Exit codes: the job's own; 128 and the signal's number when one ended it; 70 when the
run failed though its command did not: it could not be started, there was nothing to
publish, the target refused it. 69 when the daemon went away and none came back within
30 seconds: the run goes on. Otherwise those of "belfry --help".`

// problem is an error with what to do next and the exit code it means.
type problem struct {
	err  error
	next string
	code int
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

func (p *problem) hint(format string, args ...any) *problem {
	p.next = fmt.Sprintf(format, args...)
	return p
}

// usage is an error in the command line.
func usage(format string, args ...any) *problem {
	return &problem{err: fmt.Errorf(format, args...), code: exitUsage}
}

// exitCode ends the program with a code, after everything has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// codes says how each code of the API exits.
var codes = map[api.Code]int{
	api.Invalid:     exitUsage,
	api.BadFile:     exitBadFile,
	api.NotFound:    exitNotFound,
	api.Forbidden:   exitFailed,
	api.Refused:     exitRefused,
	api.Unavailable: exitUnavailable,
	api.Internal:    exitFailed,
}

// ofFile matches the errors of a file, one or a line each: they begin with their
// place, where editors look for it.
var ofFile = regexp.MustCompile(`^[^\n:]+:\d+:\d+: `)

// exit tells the person what went wrong and gives the exit code.
func (c *command) exit(err error) int {
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	p := explainError(err)
	text := harmlessly(strings.TrimSpace(p.Error()))
	if !ofFile.MatchString(text) {
		text = "belfry: " + text
	}
	if p.next != "" {
		text += "\n  " + harmlessly(c.there.pasted(p.next))
	}
	fmt.Fprintln(c.err, ranked(c.err, slog.LevelError, text))
	return p.code
}

// interrupted is how a command ends that a signal ends.
func interrupted(by os.Signal) *problem {
	p := &problem{err: errors.New("interrupted"), code: exitFailed}
	if number, ok := by.(syscall.Signal); ok {
		p.code = 128 + int(number)
	}
	return p
}

// explainError gives every error its exit code and a next step.
func explainError(err error) *problem {
	var (
		p       *problem
		answer  *api.Error
		badExpr *crontab.Error
		path    *fs.PathError
		where   *project.AddressError
		connect *remote.ConnectError
		hostKey *remote.HostKeyError
		key     *remote.KeyError
		cut     *remote.CutError
		binary  *remote.BinaryError
		busy    *remote.BusyError
	)
	if p := explainHere(err); p != nil {
		return p
	}
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &answer):
		return &problem{err: answer, next: answer.Hint, code: codes[answer.Code]}
	case errors.As(err, &where):
		return &problem{err: where, code: exitUsage}
	case errors.As(err, &hostKey):
		return &problem{err: hostKey, next: hostKey.Hint, code: exitUnavailable}
	case errors.As(err, &key):
		return &problem{err: key, next: key.Hint, code: exitNotFound}
	case errors.As(err, &connect):
		return &problem{err: connect, next: connect.Hint, code: exitUnavailable}
	case errors.As(err, &binary):
		return &problem{err: binary, next: binary.Hint, code: exitNotFound}
	case errors.As(err, &busy):
		return &problem{err: busy, next: "the same command again waits for it anew; --wait says for how long", code: exitRefused}
	case errors.As(err, &cut):
		return &problem{err: cut, next: "the same command again goes on where this one was", code: exitUnavailable}
	case errors.Is(err, remote.ErrNotDeployed):
		return &problem{err: err, next: "belfry deploy puts the project of this folder there; what a removed one, or a deploy that was cut short, left in ~/belfry on the host, belfry deploy remove --all takes away", code: exitUnavailable}
	case errors.Is(err, remote.ErrNoDaemon):
		return &problem{err: err, next: "belfry deploy puts the project of this folder there; belfry deploy status says what is there", code: exitUnavailable}
	case strings.Contains(err.Error(), "file is not a database"), strings.Contains(err.Error(), "database disk image is malformed"):
		return &problem{err: fmt.Errorf("the store is damaged: %w", err), next: "put back a copy of belfry.db, or move it away: belfry then begins a new account", code: exitFailed}
	case errors.Is(err, project.ErrNoProject):
		return &problem{err: err, next: "go to your project's folder, or make a first belfry.yaml here with belfry init", code: exitNotFound}
	case errors.As(err, &badExpr):
		return &problem{err: badExpr, code: exitBadFile}
	case errors.Is(err, context.Canceled):
		return interrupted(os.Interrupt)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EROFS), errors.As(err, &path) && errors.Is(err, os.ErrPermission):
		return &problem{err: err, next: "make room or make it writable, or choose another folder with --data", code: exitCannotWrite}
	case strings.HasPrefix(err.Error(), "unknown command"):
		first, rest, _ := strings.Cut(err.Error(), "\n")
		return usage("%s", first).hint("%s", strings.Join(strings.Fields(rest+" belfry --help lists the commands"), " "))
	case strings.Contains(err.Error(), "arg(s)"), strings.HasPrefix(err.Error(), "required flag(s)"):
		return usage("%v", err).hint("add --help to the command to see how it is used")
	}
	return &problem{err: err, code: exitFailed}
}

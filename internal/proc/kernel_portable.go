//go:build !linux || portable

package proc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What belfry does without what only Linux has (kernel_linux.go): on macOS, and
// on Linux where it is tested by go test -tags portable.

var errOnlyLinux = errors.New("only Linux can")

// becomeSubreaper cannot be done: those who lose their parent go to process 1, and
// are found as those of a dead keeper are. But the keeper begins to listen for
// its own children here.
func becomeSubreaper() error {
	deaths() // before there is a child
	return nil
}

const orphansAreOurs = false

// unblockSignals does nothing: jobs have the signal mask that belfry was started
// with.
func unblockSignals() error { return nil }

// deaths hears of children that are dead.
var deaths = sync.OnceValue(func() <-chan os.Signal {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, unix.SIGCHLD)
	return heard
})

// awaitDead blocks until a child may be dead.
func awaitDead() error {
	<-deaths()
	return nil
}

// renameNew is for who can also make the file anew.
func renameNew(string, string) error { return errOnlyLinux }

// scratch gives a file without a name.
func scratch() (*os.File, error) {
	file, err := os.CreateTemp("", "belfry-order-") // 0600
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// punchHole is not dared where nobody has tried it: what it gets wrong is gone.
func punchHole(int, int64, int64) error { return unix.ENOTSUP }

func ownCgroup() (string, error) { return "", errOnlyLinux }

func isCgroup(string) bool { return false }

func startIn(*syscall.SysProcAttr, int) {}

// simply leaves all to the prelude.
func simply(Spec) (args, env []string, pwd bool) { return nil, nil, false }

// direct leaves all commands to the shell.
func direct(Spec, []string) (args, env []string, ok bool) { return nil, nil, false }

// tree gives the living processes of an attempt, wherever they went.
func (k *keeper) tree(a *attempt) ([]process, error) {
	record, err := readStart(a.dir, a.run, a.attempt)
	if err != nil {
		return nil, err
	}
	return survivors(record)
}

// kill sends KILL to the process that was seen: not to one that got its pid
// before we look again.
func (p process) kill() error {
	now, err := readProcess(p.pid)
	if err != nil || now.started != p.started {
		return nil //nolint:nilerr // it has ended
	}
	if err := unix.Kill(p.pid, unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// behindArguments gives the environment of what macOS tells of a process: the number
// of its arguments, the path of its program, NULs up to the next word, and then
// its arguments and variables, each with a NUL behind it.
func behindArguments(text []byte) []byte {
	if len(text) < 4 {
		return nil
	}
	count := int(int32(binary.NativeEndian.Uint32(text)))
	_, text, _ = bytes.Cut(text[4:], []byte{0})
	text = bytes.TrimLeft(text, "\x00")
	for range count {
		_, text, _ = bytes.Cut(text, []byte{0})
	}
	return text
}

// bootAlarm rings at a reading of the boot clock. It looks at that every second:
// a timer sleeps with the machine.
type bootAlarm struct {
	at   chan time.Duration
	done chan struct{}
}

func newBootAlarm() (bootAlarm, error) {
	return bootAlarm{make(chan time.Duration, 1), make(chan struct{})}, nil
}

// set makes it ring at a reading, or never for 0.
func (b bootAlarm) set(at time.Duration) error {
	select {
	case <-b.at: // one that was not heard yet
	default:
	}
	b.at <- at // its caller is alone
	return nil
}

// wait blocks until it rings; the error is os.ErrClosed after close.
func (b bootAlarm) wait() error {
	var at time.Duration
	for {
		var tick <-chan time.Time
		if at > 0 {
			left := at - bootTime()
			if left <= 0 {
				return nil
			}
			tick = time.After(min(left, time.Second))
		}
		select {
		case at = <-b.at:
		case <-tick:
		case <-b.done:
			return os.ErrClosed
		}
	}
}

func (b bootAlarm) close() error {
	close(b.done)
	return nil
}

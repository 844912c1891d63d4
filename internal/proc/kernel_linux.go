//go:build !portable

package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What only Linux has. What other systems do instead is in kernel_portable.go,
// which go test -tags portable runs here.

// becomeSubreaper makes those who lose their parent below this process its
// children.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	return nil
}

const orphansAreOurs = true

// unblockSignals lets all signals through to this thread.
func unblockSignals() error {
	return unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil)
}

// awaitDead blocks until a child is dead, and leaves it there: that it is taken
// away happens under the keeper's locks. The error is ECHILD where there is none.
func awaitDead() error {
	return unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
}

// renameNew gives a file a name that no other has.
func renameNew(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

// scratch gives a file without a name.
func scratch() (*os.File, error) {
	fd, err := unix.MemfdCreate("order", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "order"), nil
}

func punchHole(fd int, from, length int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, length)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ownCgroup gives the folder of the cgroup v2 that this process is in.
func ownCgroup() (string, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	var own string
	for line := range strings.Lines(string(self)) {
		if path, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			own = path
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !strings.HasPrefix(after, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		if rel, err := filepath.Rel(fields[3], own); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(unescapeMount(fields[4]), rel), nil
		}
	}
	return "", errors.New("no cgroup v2 of ours is mounted")
}

// unescapeMount reads a path of mountinfo, where a blank is \040.
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

func isCgroup(path string) bool {
	var info unix.Statfs_t
	return unix.Statfs(path, &info) == nil && info.Type == unix.CGROUP2_SUPER_MAGIC
}

// startIn has a process start in the cgroup that a descriptor is of; -1: in ours.
func startIn(attr *syscall.SysProcAttr, cgroup int) {
	attr.UseCgroupFD, attr.CgroupFD = cgroup >= 0, max(cgroup, 0)
}

// tree gives the living processes of an attempt: of its cgroup, of its
// session, with its environment, and all below them. But for those of its
// cgroup all are below the keeper, so a number that was given to a stranger
// meanwhile misleads nobody.
func (k *keeper) tree(a *attempt) ([]process, error) {
	inCgroup := members(a.cgroup)
	all, err := processes()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	others := make(map[int]bool, len(k.byPID))
	for pid, other := range k.byPID {
		others[pid] = other != a
	}
	k.mu.Unlock()
	own := descendants(all, func(p process) bool { return p.parent == k.pid || inCgroup[p.pid] })
	return living(descendants(own, func(p process) bool {
		return inCgroup[p.pid] || p.session == a.pid || !others[p.session] && isOf(p.pid, a.key)
	})), nil
}

// kill sends KILL to exactly the process that was seen: not to one that got
// its pid since.
func (p process) kill() error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case err != nil:
		fd = -1 // a kernel before 5.3
	default:
		defer func() { _ = unix.Close(fd) }()
	}
	now, err := readProcess(p.pid)
	if err != nil || now.started != p.started {
		return nil
	}
	if fd >= 0 {
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	} else {
		err = unix.Kill(p.pid, unix.SIGKILL)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// bootAlarm rings at a reading of CLOCK_BOOTTIME, at once after a suspend that
// went past it. A timer of Go's would sleep with the machine.
type bootAlarm struct{ file *os.File }

func newBootAlarm() (bootAlarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return bootAlarm{}, os.NewSyscallError("timerfd_create", err)
	}
	return bootAlarm{os.NewFile(uintptr(fd), "alarm")}, nil
}

// set makes it ring at a reading, or never for 0.
func (b bootAlarm) set(at time.Duration) error {
	conn, err := b.file.SyscallConn()
	if err != nil {
		return err
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	return errors.Join(conn.Control(func(fd uintptr) {
		err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	}), err)
}

// wait blocks until it rings; the error is os.ErrClosed after close.
func (b bootAlarm) wait() error {
	var count [8]byte
	_, err := b.file.Read(count[:])
	return err
}

func (b bootAlarm) close() error { return b.file.Close() }

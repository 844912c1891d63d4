package proc

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Each attempt starts in a cgroup (version 2) of its own where the keeper may
// make one: a process can leave its session and clear its environment, but it
// stays there, and so do its children. The kernel ends all of them with one
// write. No controller is enabled: cgroups only say who belongs to whom, so
// they may stand below one that has processes, the keeper's own.
//
//	…/belfry-KEEPER/RUN.ATTEMPT
//
// A keeper holds a lock on its folder there, as on the one in the data folder,
// and removes those that nobody holds: what dead keepers have left, and
// keepers that ended before their jobs' background processes. Where none can be
// made, and in a burst, everything works as well as sessions and environments
// allow.
const cgroupPrefix = "belfry-"

// cgroups is where a keeper makes them; nil where it cannot.
type cgroups struct {
	path string
	fd   int
	off  bool // guarded by keeper.forkMu: children cannot be started in one after all
}

func newCgroups(keeper string) (*cgroups, error) {
	own, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	sweepCgroups(own)
	path := filepath.Join(own, cgroupPrefix+keeper)
	for {
		if err := os.Mkdir(path, 0o755); err != nil {
			return nil, err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
				if _, err = os.Stat(path); err == nil {
					return &cgroups{path: path, fd: fd}, nil
				}
			}
			_ = unix.Close(fd)
		}
		// Somebody may have swept it before it was locked.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
	}
}

// sweepCgroups removes those of keepers that are dead, as far as no process
// lives in them.
func sweepCgroups(own string) {
	paths, _ := filepath.Glob(filepath.Join(own, cgroupPrefix+"*")) // the pattern is good
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeCgroup(path) // another keeper will try again
		}
		_ = unix.Close(fd)
	}
}

// close removes all that can be removed. What lives on is swept by another
// keeper.
func (c *cgroups) close() {
	if c != nil {
		_ = removeCgroup(c.path)
		_ = unix.Close(c.fd)
	}
}

// name gives the path of an attempt's cgroup, "" where it will have none.
func (c *cgroups) name(k key) string {
	name := k.run + "." + strconv.Itoa(k.attempt)
	if c == nil || c.off || strings.Contains(name, "/") || strings.HasPrefix(name, ".") || len(name) > 200 {
		return ""
	}
	return c.path + "/" + name
}

// open makes an attempt's cgroup and gives a descriptor of it.
func (c *cgroups) open(path string) (int, error) {
	name := filepath.Base(path)
	if err := unix.Mkdirat(c.fd, name, 0o755); err != nil {
		return -1, &fs.PathError{Op: "make", Path: path, Err: err}
	}
	fd, err := unix.Openat(c.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// cannotClone reports whether it is for good that children cannot be started in
// a cgroup: the kernel does not know how (before 5.7; it finds the arguments
// too big), or does not let us. Else the next one may.
func cannotClone(err error) bool {
	for _, errno := range []syscall.Errno{unix.EINVAL, unix.E2BIG, unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.ENOSYS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// remove removes an attempt's cgroup. The error is EBUSY while it has
// processes.
func (c *cgroups) remove(path string) error {
	err := unix.Unlinkat(c.fd, filepath.Base(path), unix.AT_REMOVEDIR)
	if errors.Is(err, unix.EBUSY) { // its own, or in one that the job has made below
		return removeCgroup(path)
	}
	return err
}

// removeCgroup removes a cgroup and those below it, as far as they have no
// processes.
func removeCgroup(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if entry.IsDir() {
			errs = append(errs, removeCgroup(filepath.Join(path, entry.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// populated reports whether a cgroup has a living process, or one below it.
func populated(path string) bool {
	events, err := os.ReadFile(path + "/cgroup.events")
	return err == nil && strings.Contains(string(events), "populated 1")
}

// members gives the pids in a cgroup and in those below it, none when path is
// "" or there is no such cgroup.
func members(path string) map[int]bool {
	pids := make(map[int]bool)
	if path == "" {
		return pids
	}
	_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error { // what has gone has no members
		if err != nil || !entry.IsDir() {
			return nil
		}
		file, err := os.Open(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil // it was removed
		}
		defer func() { _ = file.Close() }()
		for scanner := bufio.NewScanner(file); scanner.Scan(); {
			if pid, err := strconv.Atoi(scanner.Text()); err == nil {
				pids[pid] = true
			}
		}
		return nil
	})
	return pids
}

// killCgroup sends KILL to all in a cgroup at once. Kernels before 5.14 cannot.
func killCgroup(path string) {
	if path == "" {
		return
	}
	if file, err := os.OpenFile(path+"/cgroup.kill", os.O_WRONLY, 0); err == nil {
		_, _ = file.WriteString("1") // whoever is left is seen, and killed one by one
		_ = file.Close()
	}
}

// cgroup gives that of the attempt, if the record names one that a keeper can
// have made: a job may be able to write its own record.
func (s startRecord) cgroup() string {
	switch {
	case s.Cgroup == "" || !filepath.IsAbs(s.Cgroup) || filepath.Clean(s.Cgroup) != s.Cgroup:
	case filepath.Base(s.Cgroup) != s.Run+"."+strconv.Itoa(s.Attempt):
	case filepath.Base(filepath.Dir(s.Cgroup)) != cgroupPrefix+s.Keeper:
	case !isCgroup(s.Cgroup):
	default:
		return s.Cgroup
	}
	return ""
}

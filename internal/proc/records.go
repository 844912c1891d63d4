package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The records of an attempt, in its directory.
//
// `start` comes to be at spawn time, before the fork, by whichever keeper was
// asked: it is created with O_EXCL, or the blank that Prepare has made takes its
// name where there is none yet; who does that is the one who may fork. Its first line
// says who; the second is added after the fork and says which process. A
// keeper that dies in between leaves the first line alone: then the process,
// if there is one, is found by its environment, and if none is found, nobody
// can know whether there was one.
//
// `exit` is renamed into place, so it is whole or absent.
//
// Nothing is synced on the way to a start: within one boot only the death of
// processes matters, and from another boot a `start` without `exit` means the
// same as a lost one whatever it says.
const (
	startName = "start"
	blankName = ".start"
	exitName  = "exit"
	logName   = "log"
)

// startRecord is the first line of `start`.
type startRecord struct {
	Run     string    `json:"run"`
	Attempt int       `json:"attempt"`
	Token   int64     `json:"token"`
	Keeper  string    `json:"keeper"`
	Boot    string    `json:"boot"`
	At      time.Time `json:"at"`
	Since   uint64    `json:"since"` // a process that started before it (clock ticks since boot, as in /proc/PID/stat) is not the attempt's

	Cgroup string `json:"cgroup,omitempty"` // where it is of its own

	Process processRecord `json:"-"` // zero when the second line is missing
}

// processRecord is the second line of `start`.
type processRecord struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // it had started by then, as in /proc/PID/stat; one with this pid that started later is a stranger
	Session int    `json:"session"`
}

// exitRecord is the content of `exit`.
type exitRecord struct {
	Run     string `json:"run"`
	Attempt int    `json:"attempt"`
	Token   int64  `json:"token"`
	Keeper  string `json:"keeper"`
	Exit
}

// record is an open `start`: a bare descriptor, because an os.File has the
// kernel asked whether a plain file can be polled.
type record int

// Prepare makes the files of an attempt that is to be started in dir, so that the
// start itself makes none: on a disk that takes longer than the rest of it.
func Prepare(dir string) error {
	for _, name := range []string{logName, blankName} {
		fd, err := unix.Open(dir+"/"+name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return &fs.PathError{Op: "open", Path: dir + "/" + name, Err: err}
		}
		_ = unix.Close(fd)
	}
	return nil
}

// createStart makes the `start` record and returns it open for the second
// line. The error is fs.ErrExist when the attempt was started before.
func createStart(dir string, start startRecord) (record, error) {
	path := dir + "/" + startName
	flags := unix.O_WRONLY | unix.O_APPEND | unix.O_CLOEXEC
	err := renameNew(dir+"/"+blankName, path)
	if err != nil { // nobody has prepared it, it is there, or the file system cannot do that
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	fd, err := unix.Open(path, flags, 0o600)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	r := record(fd)
	if err := r.add(start); err != nil {
		// No fork follows, so the record must not say that one may have.
		r.close()
		return 0, errors.Join(&fs.PathError{Op: "write", Path: path, Err: err}, os.Remove(path))
	}
	return r, nil
}

// Void sees to it that no keeper starts an attempt that has no records: one that
// was stopped may have it in its queue still. From then on exit is its outcome. The
// error is fs.ErrExist when a keeper has begun to start it.
func Void(dir, run string, attempt int, exit Exit) error {
	record, err := createStart(dir, startRecord{Run: run, Attempt: attempt})
	if errors.Is(err, fs.ErrNotExist) { // without its directory nobody can start it
		return nil
	}
	if err != nil {
		return err
	}
	defer record.close()
	if err := writeExit(dir, exitRecord{Run: run, Attempt: attempt, Exit: exit}, false); err != nil {
		return errors.Join(err, os.Remove(dir+"/"+startName)) // it would be lost, and need not be
	}
	return nil
}

// add appends a JSON line in one write.
func (r record) add(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	n, err := unix.Write(int(r), line)
	if err == nil && n < len(line) {
		err = unix.ENOSPC // there was room for a part of it
	}
	return err
}

func (r record) close() { _ = unix.Close(int(r)) }

// readStart reads the `start` record. The error is fs.ErrNotExist when there
// is none; a record whose keeper died before it had written the first line
// gives a record without a keeper.
func readStart(dir, run string, attempt int) (startRecord, error) {
	data, err := os.ReadFile(filepath.Join(dir, startName))
	if err != nil {
		return startRecord{}, err
	}
	first, second, _ := bytes.Cut(data, []byte("\n"))
	var record startRecord
	if json.Unmarshal(first, &record) != nil {
		return startRecord{Run: run, Attempt: attempt}, nil //nolint:nilerr // cut off by a crash: that it was begun is all there is
	}
	if record.Run != run || record.Attempt != attempt {
		return startRecord{}, fmt.Errorf("%s is of attempt %d of run %s, not %d of %s",
			filepath.Join(dir, startName), record.Attempt, record.Run, attempt, run)
	}
	var process processRecord
	if json.Unmarshal(second, &process) == nil {
		record.Process = process
	}
	return record, nil
}

// writeExit puts the exit record into place. sync makes it last through a
// power cut; without, it lasts through the death of any process.
func writeExit(dir string, record exitRecord, sync bool) (err error) {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	temp := dir + "/." + exitName + "." + record.Keeper
	fd, err := unix.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: temp, Err: err}
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	data = append(data, '\n')
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = unix.ENOSPC // there was room for a part of it
	}
	if err == nil && sync {
		err = unix.Fsync(fd)
	}
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return &fs.PathError{Op: "write", Path: temp, Err: err}
	}
	if err := os.Rename(temp, dir+"/"+exitName); err != nil || !sync {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes the names in dir last through a power cut.
func syncFolder(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	// Some file systems sync no folders, and say so; there the name lasts as it can.
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}

// readExit reads the exit record; nil when there is none, or none that can be
// read: after a power cut a file can be there without its content.
func readExit(dir, run string, attempt int) (*Exit, error) {
	data, err := os.ReadFile(filepath.Join(dir, exitName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var record exitRecord
	if json.Unmarshal(data, &record) != nil {
		return nil, nil //nolint:nilerr // cut off by a crash: there is no outcome
	}
	if record.Run != run || record.Attempt != attempt {
		return nil, fmt.Errorf("%s is of attempt %d of run %s, not %d of %s",
			filepath.Join(dir, exitName), record.Attempt, record.Run, attempt, run)
	}
	return &record.Exit, nil
}

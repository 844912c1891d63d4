package store

import (
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// UnavailableError says that the machine did not let the store be read or
// written: the disk is full, say. Nothing of what was to be written is; the
// store works again by itself when the cause has gone.
type UnavailableError struct {
	Reason string // a sentence's beginning: "the disk that holds … is full"
	Err    error
}

func (e *UnavailableError) Error() string { return e.Reason }
func (e *UnavailableError) Unwrap() error { return e.Err }

// CorruptError says that a file is no database of Belfry's, or is damaged.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the database %s is damaged (%v): belfry db check says how far; stop belfry, put the file aside and restore a backup", e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// explain makes of SQLite's errors those that callers act on.
func explain(path string, err error) error {
	var raw *sqlite.Error
	if !errors.As(err, &raw) {
		return err
	}
	switch raw.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return &UnavailableError{fmt.Sprintf("the disk that holds %s is full", path), err}
	case sqlite3.SQLITE_READONLY:
		return readOnlyError(path, err)
	case sqlite3.SQLITE_CANTOPEN:
		return &UnavailableError{fmt.Sprintf("%s, or a file beside it, cannot be opened", path), err}
	case sqlite3.SQLITE_IOERR:
		if full(path) { // of the file beside it that readers share SQLite says only this
			return &UnavailableError{fmt.Sprintf("the disk that holds %s is full", path), err}
		}
		return &UnavailableError{fmt.Sprintf("the disk that holds %s gives an error (%v)", path, err), err}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return &UnavailableError{fmt.Sprintf("another program keeps %s locked", path), err}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &CorruptError{path, err}
	}
	return err
}

func readOnlyError(path string, err error) error {
	return &UnavailableError{fmt.Sprintf("%s cannot be written: the file, its folder or its file system is read-only", path), err}
}

// full reports whether there is not even room for a page.
func full(path string) bool {
	var s syscall.Statfs_t
	return syscall.Statfs(path, &s) == nil && s.Bavail*uint64(s.Bsize) < 32<<10
}

// BackfillError says that a firing is being made already, by a backfill that has
// not ended.
type BackfillError struct {
	Backfill string
	Date     string
}

func (e *BackfillError) Error() string {
	return fmt.Sprintf("backfill %s has not ended, and makes %s too", e.Backfill, e.Date)
}

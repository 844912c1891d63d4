package python

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unusedFor is how long an environment is kept that no job names any more.
const unusedFor = 7 * 24 * time.Hour

// Collect removes the environments below a data folder that no job began in
// last, of those that loaded knows, that nobody has used for a week and nobody
// uses now. It gives their number.
func Collect(ctx context.Context, data string, now time.Time, loaded func(job string) bool) (removed int, err error) {
	dir := filepath.Join(data, DirName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	named, err := links(filepath.Join(dir, jobsName), loaded)
	if err != nil {
		return 0, err
	}
	tried := map[string]bool{jobsName: true}
	for _, entry := range entries {
		hash := strings.TrimSuffix(entry.Name(), lockExt)
		if tried[hash] || named[hash] {
			continue
		}
		tried[hash] = true
		gone, err := collect(filepath.Join(dir, hash), now)
		if gone {
			removed++
		}
		if err != nil || ctx.Err() != nil {
			return removed, err
		}
	}
	return removed, forget(filepath.Join(dir, jobsName))
}

// links gives the environments that the loaded jobs began in last.
func links(dir string, loaded func(job string) bool) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	named := map[string]bool{}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil && loaded(entry.Name()) {
			named[filepath.Base(target)] = true
		}
	}
	return named, nil
}

// forget removes the links to environments that are gone.
func forget(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		link := filepath.Join(dir, entry.Name())
		if _, statErr := os.Stat(link); errors.Is(statErr, fs.ErrNotExist) {
			err = errors.Join(err, os.Remove(link))
		}
	}
	return err
}

// collect removes an environment that has not been used for long, unless
// somebody makes or uses it. Its mark goes first: what is left of one that is
// not removed to its end is no environment.
func collect(dir string, now time.Time) (bool, error) {
	mark := filepath.Join(dir, markName)
	for _, path := range []string{mark, dir, dir + lockExt} { // the first that is there says when
		info, err := os.Stat(path)
		if err == nil && now.Sub(info.ModTime()) < unusedFor {
			return false, nil
		}
		if err == nil {
			break
		}
	}
	held, err := lock(dir, nil)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = held.Close() }()
	file, err := os.Open(mark)
	if err == nil {
		defer func() { _ = file.Close() }()
		if err = flock(file, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		var info os.FileInfo
		if err == nil {
			info, err = file.Stat()
		}
		if err == nil && now.Sub(info.ModTime()) < unusedFor { // somebody was faster
			return false, nil
		}
		if err == nil {
			err = os.Remove(mark)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return false, err
	}
	return true, os.Remove(held.Name())
}

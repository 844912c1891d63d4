package logs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// place is where in a log's file its stream goes on. A job may truncate its
// output, or put another file in its place: then the stream goes on at the
// beginning of the file, whose first byte has the offset base from then on.
type place struct {
	path string
	base int64

	// What the file was when it was looked at last, by which a truncation is seen.
	inode    uint64
	modified time.Time
	// guard is the text right before offset guarded, as it was read: what stands
	// there now when the file was not truncated.
	guard   []byte
	guarded int64
}

const guardSize = 64

// keep remembers the text that ends at an offset.
func (p *place) keep(text []byte, end int64) {
	p.guard = append(p.guard[:0], text[max(0, len(text)-guardSize):]...)
	p.guarded = end
}

// look opens the file if there may be something new behind the offset end. It
// gives nil when there is not. truncated says that the file no longer holds
// what ends there; base is end then.
func (p *place) look(end int64) (file *file, truncated bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(p.path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("look at the log: %w", &fs.PathError{Op: "stat", Path: p.path, Err: err})
	}
	if st.Ino == p.inode && st.Size == end-p.base && time.Unix(st.Mtim.Unix()).Equal(p.modified) {
		return nil, false, nil
	}
	file, err = openLog(p.path)
	if err != nil || file == nil {
		return nil, false, err
	}
	replaced := p.inode != 0 && p.inode != file.inode
	p.inode, p.modified = file.inode, file.modified
	if end > 0 && (replaced || file.size < end-p.base || !file.holds(p.guard, p.guarded-p.base)) {
		p.base, p.guard, truncated = end, nil, true
	}
	if file.size <= end-p.base {
		return nil, truncated, file.Close()
	}
	return file, truncated, nil
}

// same reports whether a file is the one that was read, with what was read. If
// not, the next look opens it, whatever its size and time say.
func (p *place) same(file *file) bool {
	end := p.guarded - p.base
	if file.inode == p.inode && file.size >= end && file.holds(p.guard, end) {
		return true
	}
	p.modified = time.Time{}
	return false
}

// file is an open log.
type file struct {
	*os.File
	size     int64
	inode    uint64
	modified time.Time
}

// refusal says why a file is not one that we read.
type refusal string

func (r refusal) Error() string { return string(r) }

// openLog opens a log; nil when it is not there. It must be a regular file with no
// other name, and either lie where only we can have put it (the machine's cron
// gives the file to the job's user, and not the directory) or be of the
// directory's owner. Then the daemon, root or not, reads nothing that the job
// could not.
func openLog(path string) (*file, error) { return openLogAs(path, os.O_RDONLY) }

func openLogAs(path string, access int) (*file, error) {
	f, err := os.OpenFile(path, access|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, unix.ELOOP) {
		err = refusal(path + " is a link")
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	opened := &file{File: f}
	var st, dir unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil {
		err = unix.Lstat(filepath.Dir(path), &dir)
	}
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = refusal("it is not a regular file")
	case st.Nlink > 1:
		err = refusal("it has another name (a hard link)")
	case st.Uid != dir.Uid && (dir.Uid != uint32(os.Geteuid()) || dir.Mode&0o022 != 0):
		err = refusal("it is not a file of the job's user")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log %s: %w", path, err), f.Close())
	}
	opened.size, opened.inode, opened.modified = st.Size, st.Ino, time.Unix(st.Mtim.Unix())
	return opened, nil
}

// holds reports whether a text stands before an offset of the file, or may have
// stood there: '*' is any byte, and where a hole is now anything may have been.
func (f *file) holds(text []byte, end int64) bool {
	from := end - int64(len(text))
	if len(text) == 0 || from < 0 {
		return true
	}
	var buf [guardSize]byte
	there := buf[:len(text)]
	if _, err := f.ReadAt(there, from); err != nil {
		return true // it will be said when the rest is read
	}
	for i, b := range text {
		if b != '*' && b != there[i] {
			return f.hole(from) < end
		}
	}
	return true
}

// more reports whether the file holds data at or behind an offset.
func (f *file) more(from int64) bool { return from < f.size && f.data(from) < f.size }

// read gives the text from offset from on, at most n bytes of it, in buf, which
// has room for n and twice the mask's context. It gives less where a hole
// begins, at the end, and where a secret may have begun; with final, the file
// is read to its end. The text begins at an offset behind from when a hole is
// there, and is empty when nothing is left.
//
// A hole is never taken for text: that a job printed zeros and that its keeper
// punched a hole look the same to read, so where the holes are is asked again
// after reading. Of a secret that a hole has cut, what is left is hidden too.
func (f *file) read(buf []byte, from, n int64, mask *Masker, final bool) (text []byte, at int64, err error) {
	at = f.data(from)
	if at >= f.size {
		return nil, from, nil
	}
	context := int64(mask.Context())
	begin := max(at-context, 0)
	want := min(at+n+context, f.size) - begin
	k, err := f.ReadAt(buf[:want], begin)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, at, fmt.Errorf("read the log: %w", err)
	}
	end := begin + int64(k)
	var before, behind bool // there is a hole
	if hole := f.hole(at); hole < end {
		end, before, final = hole, true, true
	} else if end < f.size {
		final = false
	}
	if end <= at {
		return nil, from, nil // punched, or truncated, just now
	}
	if context > 0 {
		if hole := f.hole(begin); hole < at {
			read := begin
			begin, behind = f.data(hole), true
			if begin > at {
				return nil, from, nil // punched just now
			}
			buf = buf[begin-read:]
		}
	}
	sure := begin + int64(mask.maskCut(buf[:end-begin], final, behind, before))
	if sure = min(sure, at+n); sure <= at {
		return nil, from, nil
	}
	return buf[at-begin : sure-begin], at, nil
}

// roomFor is how long the buffer for reads of n bytes must be.
func roomFor(n int, mask *Masker) int { return n + 2*mask.Context() }

// block is what holes are made of: smaller parts of it would become zeros that
// look like text.
const block = 64 << 10

// punch gives the disk of a part of a log back and leaves its offsets as they are.
// It reports whether it has: not when the file is no longer the one that was
// read, as what is there now has not been stored. One that is gone has no disk.
func (p *place) punch(from, to int64) (punched bool, err error) {
	file, err := openLogAs(p.path, os.O_RDWR)
	if err != nil || file == nil {
		return err == nil, err
	}
	if p.same(file) {
		err = punchHole(int(file.Fd()), from, to-from)
		punched = err == nil
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return false, fmt.Errorf("give disk of %s back: %w", p.path, err)
	}
	return punched, nil
}

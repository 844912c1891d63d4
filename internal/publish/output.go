package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"belfry/internal/outbox"
)

// file is one file of a part of the output.
type file struct {
	path  string // relative to the part, with slashes: its path at the target
	rel   string // relative to the output
	size  int64
	mode  os.FileMode
	mtime unix.Timespec

	// What putting it at the target has found out.

	sum      [sha256.Size]byte
	parts    int               // in how many parts it was sent; 0: at once
	partsSum [sha256.Size]byte // of the sums of those
	etag     string            // as the service gave it; "" for none
}

// output is a run's $BELFRY_OUTPUT. Everything in it was written by a job, so
// nothing is opened by a path that could lead out of it.
type output struct {
	path string
	root *os.File
}

// openOutput opens the folder at path.
func openOutput(path string) (*output, error) {
	root, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, outbox.Final(fmt.Errorf("the run's output %s is gone, so it cannot be published any more: run the job again", path))
	}
	if err != nil {
		return nil, outbox.Final(fmt.Errorf("open the run's output: %w", err))
	}
	return &output{path, root}, nil
}

func (o *output) Close() error { return o.root.Close() }

// open opens rel beneath the output without following any link.
func (o *output) open(rel string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := openBeneath(int(o.root.Fd()), rel, flags)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or forbidden by a container
		fd, err = walkBeneath(int(o.root.Fd()), rel, flags)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path.Join(o.path, rel), Err: err}
	}
	return os.NewFile(uintptr(fd), path.Join(o.path, rel)), nil
}

// walkBeneath is openBeneath with what every Linux has: one openat a component.
func walkBeneath(root int, rel string, flags int) (int, error) {
	if rel != "." && !fs.ValidPath(rel) {
		return -1, unix.EXDEV
	}
	dir, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	parts := strings.Split(rel, "/")
	for i, part := range parts {
		f := flags
		if i < len(parts)-1 {
			f = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		next, err := unix.Openat(dir, part, f, 0)
		_ = unix.Close(dir)
		if err != nil {
			return -1, err
		}
		dir = next
	}
	return dir, nil
}

// errNoFolder says that a part's folder is not there.
var errNoFolder = errors.New("there is no such folder")

// files lists the files of the part from, sorted by path. All that cannot be
// published is named in one final error.
func (o *output) files(from string) ([]file, error) {
	base := path.Clean("./" + from)
	if !fs.ValidPath(base) {
		return nil, outbox.Final(fmt.Errorf("from: %q is not a folder of the output", from))
	}
	var files []file
	var strange []string
	err := o.walk(base, &files, &strange)
	switch {
	case base != "." && errors.Is(err, os.ErrNotExist):
		return nil, errNoFolder
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, outbox.Final(fmt.Errorf("from: %q of the output is not a folder", from))
	case errors.Is(err, os.ErrPermission):
		return nil, outbox.Final(err)
	case err != nil:
		return nil, err
	}
	for i := range files {
		f := &files[i]
		f.path = f.rel
		if base != "." {
			f.path = strings.TrimPrefix(f.rel, base+"/")
		}
		if reserved(f.path) {
			strange = append(strange, fmt.Sprintf("%q has a name that Belfry puts there itself", f.rel))
		}
	}
	if len(strange) > 0 {
		slices.Sort(strange)
		more := ""
		if n := len(strange) - 10; n > 0 {
			strange, more = strange[:10], fmt.Sprintf(" and %d more", n)
		}
		return nil, outbox.Final(fmt.Errorf("the output cannot be published: %s%s; leave only regular files with one name each in $BELFRY_OUTPUT",
			strings.Join(strange, ", "), more))
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

func (o *output) walk(dir string, files *[]file, strange *[]string) error {
	d, err := o.open(dir, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		rel := path.Join(dir, name)
		var st unix.Stat_t
		if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "look at", Path: path.Join(o.path, rel), Err: err}
		}
		if what := strangeness(name, &st); what != "" {
			*strange = append(*strange, fmt.Sprintf("%q %s", rel, what))
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := o.walk(rel, files, strange); err != nil {
				return err
			}
			continue
		}
		*files = append(*files, file{rel: rel, size: st.Size, mode: os.FileMode(st.Mode & 0o777), mtime: st.Mtim})
	}
	return nil
}

// strangeness says why something in the output cannot be published; "" when it can.
func strangeness(name string, st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink != 1 {
			return "is a hard link (it has another name)"
		}
	case unix.S_IFDIR:
	case unix.S_IFLNK:
		return "is a symbolic link"
	case unix.S_IFIFO:
		return "is a FIFO"
	case unix.S_IFSOCK:
		return "is a socket"
	default:
		return "is a device"
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, isControl) {
		return "has a name that is not plain UTF-8"
	}
	return ""
}

// errChanged says that a file is not what it was when the publish began.
var errChanged = errors.New("it changed while it was being published: does a process of the job still write to it?")

// reopen opens a file that was listed, if it is still the same.
func (o *output) reopen(f *file) (*os.File, error) {
	r, err := o.open(f.rel, 0)
	if err != nil {
		return nil, err
	}
	if err := f.unchanged(r); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// unchanged says errChanged when r, which is f opened, is not what was listed.
func (f *file) unchanged(r *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Size != f.size || st.Mtim != f.mtime {
		return fmt.Errorf("%s: %w", f.rel, errChanged)
	}
	return nil
}

// sumOf reads a file for its sum.
func (o *output) sumOf(ctx context.Context, f *file) error {
	r, err := o.reopen(f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	h := sha256.New()
	if err := copyFile(ctx, h, r, f.size); err != nil {
		return fmt.Errorf("%s: %w", f.rel, err)
	}
	f.sum = sum(h)
	return nil
}

// copyFile copies n bytes, and says errChanged when there are fewer. It stops
// when ctx ends.
func copyFile(ctx context.Context, w io.Writer, r io.Reader, n int64) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, &reader{ctx, io.LimitReader(r, n), &n}, make([]byte, min(n, 256<<10)+1))
	if err == nil && n != 0 {
		return errChanged
	}
	return err
}

// reader counts left down and ends with its context.
type reader struct {
	ctx  context.Context
	r    io.Reader
	left *int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	*r.left -= int64(n)
	return n, err
}

func sum(h hash.Hash) (s [sha256.Size]byte) {
	h.Sum(s[:0])
	return s
}

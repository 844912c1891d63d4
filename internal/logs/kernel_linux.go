//go:build !portable

package logs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// What only Linux has; kernel_portable.go does without.

// written reports whether somebody has the file open for writing. The kernel
// grants a read lease only when nobody has. Not all file systems have leases:
// known says that the answer is one.
func (f *file) written() (written, known bool) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err != nil {
		return errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EAGAIN)
	}
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	return false, true
}

// data gives the first offset from from on at which the file holds data, and
// its size when there is none.
func (f *file) data(from int64) int64 {
	at, err := unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return f.size
	case err != nil:
		return from // a file system that knows nothing of holes
	}
	return min(at, f.size)
}

// hole gives the first offset from from on where a hole begins.
func (f *file) hole(from int64) int64 {
	at, err := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
	if err != nil {
		return f.size
	}
	return min(at, f.size)
}

func punchHole(fd int, from, length int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, length)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

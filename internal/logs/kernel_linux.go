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

func punchHole(fd int, from, length int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, length)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

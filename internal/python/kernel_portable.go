//go:build !linux || portable

package python

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What belfry does without what only Linux has (kernel_linux.go): on macOS, and
// on Linux where it is tested by go test -tags portable.

// diesWithUs cannot be had: pip goes on until it is stopped with the attempt, or
// by itself, and holds the environment's lock meanwhile.
var diesWithUs *syscall.SysProcAttr

// syncFileSystem puts all that was written on the disk.
func syncFileSystem(*os.File) error {
	unix.Sync()
	return nil
}

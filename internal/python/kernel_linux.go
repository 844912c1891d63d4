//go:build !portable

package python

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What only Linux has; kernel_portable.go does without.

// diesWithUs has a child killed when the thread that started it ends.
var diesWithUs = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

// syncFileSystem puts all that was written to the file system of dir on the disk.
func syncFileSystem(dir *os.File) error { return unix.Syncfs(int(dir.Fd())) }

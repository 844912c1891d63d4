//go:build !linux || portable

package notify

import "golang.org/x/sys/unix"

// setLock takes a lock of the process, as other programs do. Goroutines exclude
// each other by the file beside the mailbox, where there may be one.
const setLock = unix.F_SETLK

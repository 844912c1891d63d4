//go:build !portable

package notify

import "golang.org/x/sys/unix"

// setLock takes a lock of the open file, not of the process: goroutines exclude
// each other too, and closing some other descriptor of the mailbox does not lose
// it. To a program with a traditional fcntl lock it is the same lock.
const setLock = unix.F_OFD_SETLK

//go:build !portable

package notify

// waitsFor is what keeps a second goroutine from a mailbox.
const waitsFor = "wait for the fcntl lock of"

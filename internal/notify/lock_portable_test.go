//go:build !linux || portable

package notify

// waitsFor is what keeps a second goroutine from a mailbox.
const waitsFor = "alice.lock"

package daemon

import (
	"sync"

	"golang.org/x/sys/unix"
)

// What is asked of macOS, and of Linux in other words: machine_linux.go.

const (
	runningClock = unix.CLOCK_UPTIME_RAW // it sleeps with the machine
	elapsedClock = unix.CLOCK_MONOTONIC  // it does not
)

// boot names this boot. It outlives this process.
var boot = sync.OnceValue(func() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return "unknown"
	}
	return id
})

func kernelBoot() string { return boot() }

// peerUID is the user of the process at the other end of a socket.
func peerUID(fd int) (uint32, error) {
	const local = 0 // SOL_LOCAL
	peer, err := unix.GetsockoptXucred(fd, local, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return peer.Uid, nil
}

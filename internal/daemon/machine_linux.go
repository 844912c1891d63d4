package daemon

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// What is asked of Linux, and of macOS in other words: machine_darwin.go.

const (
	runningClock = unix.CLOCK_MONOTONIC
	elapsedClock = unix.CLOCK_BOOTTIME
)

// kernelBoot is the id of the kernel's boot: what was written within it lasts.
var kernelBoot = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
})

// boot names this boot: the kernel's and the start time of process 1, so that the
// restart of a container counts as one. It outlives this process.
var boot = sync.OnceValue(func() string {
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return kernelBoot()
	}
	// Field 22, counted behind the name, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return kernelBoot()
	}
	return fmt.Sprintf("%s-%s", kernelBoot(), fields[19])
})

// peerUID is the user of the process at the other end of a socket.
func peerUID(fd int) (uint32, error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return peer.Uid, nil
}

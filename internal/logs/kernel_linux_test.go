//go:build !portable

package logs_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// needsLinux is for tests of logs that are given holes, or closed as soon as
// nobody has them open.
func needsLinux(testing.TB) {}

// punch does to a log what its keeper does: from and to are of whole blocks.
func punch(file *os.File, from, to int64) error {
	return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
}

//go:build !linux || portable

package logs_test

import (
	"errors"
	"os"
	"testing"

	"belfry/internal/machine"
)

func needsLinux(t testing.TB) {
	machine.Lacks(t, "Linux's way to tell who has a file open, and to make holes in it")
}

func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }

//go:build !linux || portable

package logs_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"belfry/internal/logs"
	"belfry/internal/machine"
)

func needsLinux(t testing.TB) {
	machine.Lacks(t, "Linux's way to tell who has a file open, and to make holes in it")
}

func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }

func TestWhatTheDiskCallsAHoleIsText(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	const hole = 1 << 20
	file, err := os.Create(p.log())
	p.check(err)
	_, err = file.WriteAt([]byte("end\n"), hole)
	p.check(errors.Join(err, file.Close()))
	if got, want := p.read(0), strings.Repeat("\x00", hole)+"end\n"; got != want {
		t.Errorf("%d bytes are read, want %d", len(got), len(want))
	}
}

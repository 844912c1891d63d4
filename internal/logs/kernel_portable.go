//go:build !linux || portable

package logs

import "golang.org/x/sys/unix"

// What belfry does without what only Linux has (kernel_linux.go): on macOS, and
// on Linux where it is tested by go test -tags portable.

// written is not known here.
func (f *file) written() (written, known bool) { return false, false }

// punchHole is not dared where nobody has tried it: what it gets wrong is gone.
func punchHole(int, int64, int64) error { return unix.ENOTSUP }

// data and hole know no holes, then: we make none, and what APFS calls one may be
// text that was just written. So all of a file is data.
func (f *file) data(from int64) int64 { return from }

func (f *file) hole(int64) int64 { return f.size }

// watch is none: logs are looked at.
type watch struct{}

func newWatch(func()) *watch { return nil }

func (*watch) add(string) (number int32, ok bool) { return 0, false }

func (*watch) drop(int32) {}

func (*watch) take() []int32 { return nil }

func (*watch) close() {}

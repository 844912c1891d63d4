//go:build !linux || portable

package proc

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestAnEnvironmentStandsBehindTheArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		args uint32
		text string
		want string
	}{
		{"one program", 2, "/bin/sh\x00\x00\x00\x00sh\x00-c\x00A=1\x00B=2\x00\x00ptr_munge=\x00", "A=1\x00B=2\x00\x00ptr_munge=\x00"},
		{"an argument that is empty, and one like a variable", 3, "/bin/echo\x00echo\x00\x00BELFRY_RUN=x\x00A=1\x00", "A=1\x00"},
		{"one of macOS' own, whose environment is not shown", 2, "/bin/sleep\x00\x00sleep\x001\x00", ""},
		{"it is cut off", 5, "/bin/sh\x00sh", ""},
		{"it says nonsense", 1 << 31, "/bin/sh\x00sh\x00", "sh\x00"},
	} {
		got := behindArguments(append(binary.NativeEndian.AppendUint32(nil, c.args), c.text...))
		if !bytes.Equal(got, []byte(c.want)) {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
	if got := behindArguments([]byte("xy")); got != nil {
		t.Errorf("of two bytes: %q", got)
	}
}

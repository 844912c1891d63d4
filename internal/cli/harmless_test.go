package cli

import (
	"bytes"
	"testing"
	"time"
)

func TestATerminalIsNotMovedByAJobsOutput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, text, want string }{
		{"plain", "a\tb\nc", "a\tb\nc"},
		{"characters", "종 😀\n", "종 😀\n"},
		{"colours", "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m\n", "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m\n"},
		{"clear", "\x1b[2J\x1b[H.", "^[[2J^[[H."},
		{"title", "\x1b]0;owned\x07.", "^[]0;owned^G."},
		{"bells, backspaces, NUL, DEL", "\a\b\x00\x7f", "^G^H^@^?"},
		{"C1 controls", "\u009b2J", "\ufffd2J"},
		{"not UTF-8", "\x9b2J\xff.", "\ufffd2J\ufffd."},
		{"a progress bar", "10%\r20%\rdone\n", "10%\n20%\ndone\n"},
		{"lines of another system", "a\r\nb\r\n", "a\nb\n"},
	} {
		var whole, pieces bytes.Buffer
		if _, err := (&harmless{w: &whole}).Write([]byte(c.text)); err != nil || whole.String() != c.want {
			t.Errorf("%s: %q becomes %q, %v, want %q", c.why, c.text, whole.String(), err, c.want)
		}
		h := &harmless{w: &pieces}
		for i := range len(c.text) {
			if n, err := h.Write([]byte{c.text[i]}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if pieces.String() != c.want {
			t.Errorf("%s: in pieces %q becomes %q, want %q", c.why, c.text, pieces.String(), c.want)
		}
	}
}

func TestSinceIsADurationOrATime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 10, 9, 30, 0, 0, time.FixedZone("KST", 9*3600))
	for text, want := range map[string]string{
		"10m":                       "2026-07-10T09:20:00+09:00",
		"09:00":                     "2026-07-10T09:00:00+09:00",
		"23:00":                     "2026-07-09T23:00:00+09:00",
		"2026-07-01":                "2026-07-01T00:00:00+09:00",
		"2026-07-01T02:30":          "2026-07-01T02:30:00+09:00",
		"2026-07-01T02:30:00-01:00": "2026-07-01T02:30:00-01:00",
	} {
		if got, err := parseSince(text, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"soon", "-5m", "25:00"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%s: %v, want an error", text, got)
		}
	}
}

package notify

import (
	"slices"
	"strings"
	"testing"
)

func TestSafeAddressIsCronies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s    string
		want bool
		why  string
	}{
		{"alice", true, "a user"},
		{"alice@example.com", true, "an address"},
		{"a+b_c-d@x.org,bob", true, "cronie's marks, and a list"},
		{"9lives", true, "a digit may be first"},
		{"host!user%x:y", true, "old ways to write addresses"},
		{"a,,b", true, "cron looks at letters only"},
		{"", false, "nothing"},
		{"-oQ/tmp", false, "an option"},
		{"_x", false, "a mark is first"},
		{"/etc/passwd", false, "a file"},
		{"|sh", false, "a pipe"},
		{"a/b", false, "Debian's, not cronie's"},
		{"a@x, b@y", false, "a space"},
		{"<a@x>", false, "brackets"},
		{"a\nBcc: b", false, "a line"},
		{"앨리스", false, "not ASCII"},
	} {
		if got := SafeAddress(tt.s, false); got != tt.want {
			t.Errorf("SafeAddress(%q) = %v, want %v: %s", tt.s, got, tt.want, tt.why)
		}
	}
}

func TestParseMailToSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value string
		want  []string
		err   string // part of it
	}{
		{"", nil, ""},
		{"alice", []string{"alice"}, ""},
		{"alice,bob@example.com", []string{"alice", "bob@example.com"}, ""},
		{"alice,,bob,", []string{"alice", "bob"}, ""},
		{"a@x, b@y", nil, "without spaces"},
		{"Ann <a@x>", nil, "space"},
		{"<a@x>", nil, "bare address"},
		{"a,-oQ", nil, `"-oQ" begins with '-'`},
		{"a/b", nil, `has '/'`},
		{"앨리스", nil, "not printable ASCII"},
		{"a\nb", nil, "not printable ASCII"},
		{"a\xffb", nil, "not printable ASCII"},
		{",", nil, "no address in it"},
	} {
		got, err := ParseMailTo(tt.value, false)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("ParseMailTo(%q) = %q, %v; want %q, error with %q", tt.value, got, err, tt.want, tt.err)
		}
	}
}

func FuzzParseMailTo(f *testing.F) {
	for _, s := range []string{"", "alice", "a@x,b@y", "a@x, b@y", "-x", "\xff", "a,-b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		to, err := ParseMailTo(value, false)
		for _, a := range to {
			if err != nil || !SafeAddress(a, false) || strings.Contains(a, ",") {
				t.Errorf("ParseMailTo(%q) = %q, %v", value, to, err)
			}
		}
		if value != "" && len(to) == 0 && err == nil {
			t.Errorf("ParseMailTo(%q) asks for no mail without an error", value)
		}
	})
}

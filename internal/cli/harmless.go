package cli

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// harmless writes a job's output to a terminal: what would make the terminal do
// something is shown instead, but for the ends of lines, tabs and colours. It
// goes on in the middle of a character or of a colour when the next piece comes.
type harmless struct {
	w    io.Writer
	rest []byte // the beginning of something, of the last piece
	cr   bool   // the last piece ended with a \r
}

var (
	colour = regexp.MustCompile(`^\x1b\[[0-9;:]*m`)
	begun  = regexp.MustCompile(`^\x1b(\[[0-9;:]{0,40})?$`)
)

// harmlessly makes a text harmless that another machine, another program or another
// user has a part in.
func harmlessly(text string) string {
	var b strings.Builder
	_, _ = (&harmless{w: &b}).Write([]byte(text)) // a Builder takes all
	return b.String()
}

func (h *harmless) Write(p []byte) (int, error) {
	text := append(h.rest, p...)
	h.rest = nil
	var out bytes.Buffer
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if h.cr && r != '\n' { // a progress bar: one line for each of its states
			out.WriteByte('\n')
		}
		h.cr = false
		switch {
		case r == '\r':
			h.cr = true
		case r == utf8.RuneError && n == 1 && !utf8.FullRune(text), r == '\x1b' && begun.Match(text):
			h.rest, text = bytes.Clone(text), nil
			continue
		case r == '\x1b' && colour.Match(text):
			n = len(colour.Find(text))
			out.Write(text[:n])
		case r == utf8.RuneError && n == 1, r >= 0x80 && r < 0xa0:
			out.WriteRune(utf8.RuneError)
		case r == 0x7f || r < ' ' && r != '\n' && r != '\t':
			fmt.Fprintf(&out, "^%c", r^0x40)
		default:
			out.Write(text[:n])
		}
		text = text[n:]
	}
	if _, err := h.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

package remote

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

// packets counts the writes, each of which ssh sends by itself.
type packets struct {
	bytes.Buffer
	n int
}

func (p *packets) Write(b []byte) (int, error) {
	p.n++
	return p.Buffer.Write(b)
}

func TestWhatIsPackedGoesInFewPackets(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for n := uint32(1); text.Len() < 4<<20; n = n*1664525 + 1013904223 {
		text.WriteString("bells "[n>>30:])
		text.WriteByte(byte(n >> 16))
	}
	var p packets
	if err := packed(&p, func(w io.Writer) error { _, err := io.WriteString(w, text.String()); return err }); err != nil {
		t.Fatal(err)
	}
	if most := p.Len()/(32<<10) + 1; p.n > most {
		t.Errorf("%d bytes went in %d packets, want at most %d", p.Len(), p.n, most)
	}
	z, err := gzip.NewReader(&p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(z); err != nil || string(back) != text.String() {
		t.Errorf("%d bytes come back, want %d: %v", len(back), text.Len(), err)
	}
}

package logs

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// chunkSize is how much text a chunk holds at most. The last chunk of a log is
	// written anew with each addition until it is full: so a job that prints a
	// line a second does not make a row a second, and what is written again costs
	// less than a millisecond.
	chunkSize = 128 << 10
	// maxMarks is how many bytes of marks a chunk takes: some 300 additions, so
	// that --since is exact and what is written again stays small.
	maxMarks = 1 << 10
)

// encoder compresses. One goroutine uses it; it takes about a megabyte.
func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(chunkSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are wrong
	}
	return e
}

// decoder is used by all readers: each call of DecodeAll takes what it needs from a pool.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(8<<20))
	if err != nil {
		panic(err) // the options are wrong
	}
	return d
})

// text appends the chunk's text to buf.
func (c Chunk) text(buf []byte) ([]byte, error) {
	was := len(buf)
	buf, err := decoder().DecodeAll(c.Data, buf)
	if err == nil && int64(len(buf)-was) != c.Length {
		err = fmt.Errorf("it has %d bytes", len(buf)-was)
	}
	if err != nil {
		return nil, fmt.Errorf("read the chunk of %d bytes at %d: %w", c.Length, c.Start, err)
	}
	return buf, nil
}

// mark says when the bytes from an offset within a chunk on were read.
type mark struct {
	offset int64
	at     time.Time
}

// Marks are written as pairs of numbers, each the difference to the one before:
// offset, and Unix milliseconds.
func appendMark(marks []byte, last, next mark) []byte {
	marks = binary.AppendUvarint(marks, uint64(next.offset-last.offset))
	was := last.at.UnixMilli()
	if last.at.IsZero() {
		was = 0
	}
	return binary.AppendVarint(marks, next.at.UnixMilli()-was)
}

// last is the newest mark.
func (c Chunk) last() mark {
	if list := c.marks(); len(list) > 0 {
		return list[len(list)-1]
	}
	return mark{}
}

func (c Chunk) marks() (list []mark) {
	var offset, ms int64
	for rest := c.Marks; len(rest) > 0; {
		o, n := binary.Uvarint(rest)
		m, k := binary.Varint(rest[max(n, 0):])
		if n <= 0 || k <= 0 {
			break // of a later version: what was understood is right
		}
		rest, offset, ms = rest[n+k:], offset+int64(o), ms+m
		list = append(list, mark{offset, time.UnixMilli(ms)})
	}
	return list
}

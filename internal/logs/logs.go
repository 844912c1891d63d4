// Package logs answers: what did an attempt print, and where is it now?
//
// A job prints straight into a file, `log` in the attempt's directory, and needs
// nobody to read it. The Follower moves what is there into compressed chunks in
// the store while the job runs and gives the disk back; a Reader puts chunks and
// the rest of the file together again, from any place, live or later.
//
// Everything is named by its offset in the job's stream: how many bytes the job
// had printed before it. The bytes are those that it printed, but for secrets,
// which are hidden by as many stars. What is not kept (the middle of a log that
// is longer than its limit, and what a job threw away by truncating its output)
// leaves a gap in the offsets, and a Reader writes a line in its place.
//
// The daemon wires it to store and runs, the server reads with it. Nobody else
// should import it. It imports nothing of ours.
package logs

import (
	"context"
	"math"
	"path/filepath"
	"time"
)

// FileName is the name of the log in an attempt's directory.
const FileName = "log"

// Attempt is an attempt whose output is to be followed.
type Attempt struct {
	Run    string
	Number int
	Dir    string // its directory, where the file is; empty: only what is stored is read
	// Limit is how many bytes are kept, half of them from the beginning and half
	// from the end; all of them when it is not above 0.
	Limit   int64
	Secrets []string // values that are hidden
	// Ask gives the values later; nil when Secrets has them. Until then nothing is
	// read: what the job prints stays in its file, which is the job user's alone.
	Ask func(ctx context.Context) ([]string, error)
}

func (a Attempt) file() string {
	if a.Dir == "" {
		return ""
	}
	return filepath.Join(a.Dir, FileName)
}

// half is how much is kept of each end.
func half(limit int64) int64 {
	if limit <= 0 {
		return math.MaxInt64
	}
	return limit / 2
}

// Log is what the store knows of an attempt's output besides the chunks. There
// is one as soon as there is a chunk, or there could be if its secrets were known.
type Log struct {
	Run    string
	Number int
	Limit  int64
	Closed bool // all is stored, and the file is gone
}

// Chunk is a part of an attempt's output.
type Chunk struct {
	Start  int64 // offset of its first byte
	Length int64 // of the text
	// Base is the offset that the first byte of the file had when the chunk was
	// read: 0, and more after the job has truncated its output.
	Base  int64
	At    time.Time // when the newest of it was read
	Marks []byte    // when each part was read, see marks
	Data  []byte    // the text, compressed
}

// End is the offset behind the chunk.
func (c Chunk) End() int64 { return c.Start + c.Length }

// Change is what is new of one log.
type Change struct {
	Log    Log
	Chunks []Chunk // new, or in the place of the chunk with the same start
	// Chunks that lie wholly between these offsets are dropped.
	DropFrom, DropTo int64
}

// Store keeps the chunks. Its methods may be called from any goroutine; the
// Follower alone writes.
type Store interface {
	// OpenLogs lists the logs that are not closed.
	OpenLogs(ctx context.Context) ([]Log, error)
	// Log gives what is known of a log; false when nothing is.
	Log(ctx context.Context, run string, attempt int) (Log, bool, error)
	// ChunkBehind gives the first chunk that ends behind an offset.
	ChunkBehind(ctx context.Context, run string, attempt int, offset int64) (Chunk, bool, error)
	// ChunkBefore gives the last chunk that begins before an offset.
	ChunkBefore(ctx context.Context, run string, attempt int, offset int64) (Chunk, bool, error)
	// ChunkSince gives the first chunk of which a part was read at t or later.
	ChunkSince(ctx context.Context, run string, attempt int, t time.Time) (Chunk, bool, error)
	// SaveLogs makes all the changes in one transaction. A crash of the process
	// does not undo it; one of the machine may, until SyncLogs.
	SaveLogs(ctx context.Context, changes []Change) error
	// SyncLogs makes what has been saved survive a crash of the machine. An error
	// says that it is not known to.
	SyncLogs(ctx context.Context) error
}

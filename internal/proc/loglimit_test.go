//go:build linux && !portable

package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
)

const (
	testLogLimit = 1 << 20
	testBlock    = 4096 // of the file systems that tests run on
)

// kept checks that a log has its length and content but for a hole in the
// middle, and takes no more room than its limit and the blocks at its edges.
func (h *host) kept(s Spec, want []byte) {
	h.Helper()
	path := filepath.Join(s.Dir, logName)
	file, err := os.Open(path)
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var info unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &info); err != nil {
		h.Fatal(err)
	}
	if info.Size != int64(len(want)) {
		h.Fatalf("the log has %d bytes, want %d", info.Size, len(want))
	}
	if room := info.Blocks * 512; room > s.LogLimit+3*testBlock {
		h.Errorf("the log takes %d bytes, its limit is %d", room, s.LogLimit)
	}
	hole, err := unix.Seek(int(file.Fd()), 0, unix.SEEK_HOLE)
	if err != nil {
		h.Fatal(err)
	}
	data, err := unix.Seek(int(file.Fd()), hole, unix.SEEK_DATA)
	if err != nil {
		h.Fatal(err)
	}
	if half := s.LogLimit / 2; hole < half || info.Size-data < half {
		h.Errorf("%d bytes of the beginning and %d of the end are left, want half of %d each", hole, info.Size-data, s.LogLimit)
	}
	for _, part := range [][2]int64{{0, hole}, {data, info.Size}} {
		got := make([]byte, part[1]-part[0])
		if _, err := file.ReadAt(got, part[0]); err != nil {
			h.Fatal(err)
		}
		if string(got) != string(want[part[0]:part[1]]) {
			h.Errorf("bytes %d to %d of the log are not what was written", part[0], part[1])
		}
	}
}

// numbers gives what `seq -w 1 n` prints.
func numbers(n int) []byte {
	width := len(fmt.Sprint(n))
	var out []byte
	for i := range n {
		out = fmt.Appendf(out, "%0*d\n", width, i+1)
	}
	return out
}

func TestLogOfAJobThatHasEndedIsWithinItsLimit(t *testing.T) {
	h := newHost(t)
	d := h.open()
	short, long, odd, cut := h.spec(`seq -w 1 1000`), h.spec(`seq -w 1 1000000`), h.spec(`seq -w 1 1000000`), h.spec(`seq -w 1 1000000; : > /dev/stdout; seq -w 1 1000000`)
	for _, s := range []*Spec{&short, &long, &odd, &cut} {
		s.LogLimit = testLogLimit
		if s == &odd {
			s.LogLimit = 20_000 // no number of blocks
		}
		d.start(*s)
	}
	d.exit(short)
	if got := h.log(short); got != string(numbers(1000)) {
		t.Errorf("the short log is %.100q…", got)
	}
	for _, s := range []Spec{long, odd, cut} {
		d.exit(s)
		h.kept(s, numbers(1000000))
	}
}

func TestSmallLogLimitKeepsEveryByteOfBothHalves(t *testing.T) {
	h := newHost(t)
	d := h.open()
	for _, limit := range []int64{1, 2 * testBlock, 5000, 3*testBlock + 2, 20_001} {
		s := h.spec(`seq -w 1 100000`)
		s.LogLimit = limit
		d.start(s)
		d.exit(s)
		h.kept(s, numbers(100_000))
	}
}

// whenSmall blocks until a log that a living process has written takes no more
// room than its limit: taking some away is a modification.
func (h *host) whenSmall(s Spec, size int64) {
	h.Helper()
	path := filepath.Join(s.Dir, logName)
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = unix.Close(watch) }()
	if _, err := unix.InotifyAddWatch(watch, path, unix.IN_MODIFY); err != nil {
		h.Fatal(err)
	}
	for {
		var info unix.Stat_t
		if err := unix.Lstat(path, &info); err != nil {
			h.Fatal(err)
		}
		if info.Size == size && info.Blocks*512 <= s.LogLimit+3*testBlock {
			return
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}, 30000)
		if err != nil && !errors.Is(err, unix.EINTR) || n == 0 {
			h.Fatalf("the log has %d bytes in %d blocks (%v), and nobody makes it smaller", info.Size, info.Blocks, err)
		}
		var events [4096]byte
		if _, err := unix.Read(watch, events[:]); err != nil && !errors.Is(err, unix.EINTR) {
			h.Fatal(err)
		}
	}
}

func TestLogIsKeptSmallWhileItsJobRunsAndNoDaemonDoes(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(`read x < go; seq -w 1 1000000; read x < go; seq -w 1 1000000; read x < go`)
	s.LogLimit = testLogLimit
	fifo := h.fifo(s, "go")
	d.start(s)
	d.started(s)
	_ = d.Close()
	want := numbers(1000000)
	h.let(fifo)
	h.whenSmall(s, int64(len(want)))
	h.kept(s, want)
	want = append(want, want...)
	h.let(fifo)
	h.whenSmall(s, int64(len(want)))
	h.kept(s, want)
	h.let(fifo)
}

func TestLogIsKeptSmallWhileABackgroundProcessWritesIt(t *testing.T) {
	h := newHost(t)
	d := h.open()
	for _, how := range []string{"", "setsid "} {
		s := h.spec(how + `sh -c 'read x < go; seq -w 1 1000000; read x < go' &`)
		s.LogLimit = testLogLimit
		fifo := h.fifo(s, "go")
		d.start(s)
		d.exit(s)
		if err := d.Forget(s.Run, s.Attempt); err != nil {
			t.Fatal(err)
		}
		want := numbers(1000000)
		h.let(fifo)
		h.whenSmall(s, int64(len(want)))
		h.kept(s, want)
		h.let(fifo)
	}
}

func TestLogThatCannotBeKeptSmallIsSaidOnce(t *testing.T) {
	machine.NeedsRoot(t)
	if err := CanPunch(t.TempDir()); err != nil {
		t.Errorf("CanPunch: %v", err)
	}
	h := newHost(t)
	h.mount("ramfs", "") // it has no holes
	if err := CanPunch(h.data); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("CanPunch on a ramfs: %v, want %v", err, unix.EOPNOTSUPP)
	}
	d := h.open()
	for i := range 2 {
		s := h.spec(`seq -w 1 1000000`)
		s.LogLimit = testLogLimit
		s.Dir = filepath.Join(h.data, fmt.Sprint(i))
		if err := os.Mkdir(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d.start(s)
		d.exit(s)
		if got, want := h.log(s), string(numbers(1000000)); got != want {
			t.Errorf("the log has %d bytes, want all of %d", len(got), len(want))
		}
	}
	said, err := os.ReadFile(filepath.Join(h.data, "keeper", keeperLog))
	if n := strings.Count(string(said), "logs are not kept within their limits here"); err != nil || n != 1 {
		t.Errorf("it was said %d times, %v; want once", n, err)
	}
}

//go:build !portable

package logs

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watch hears from the kernel when quiet logs are written again, so that a
// thousand of them cost nothing. Each is heard of once: one that is printed to
// is looked at like any other, and would make an event for each line. Where
// there is no watch, or no room for one more, logs are looked at instead.
type watch struct {
	file *os.File // nil: there is none
	done chan struct{}

	mu    sync.Mutex
	heard []int32 // guarded by mu; numbers of logs
}

// newWatch begins to listen, and calls wake when something was heard.
func newWatch(wake func()) *watch {
	w := &watch{done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		close(w.done)
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	go w.listen(wake)
	return w
}

func (w *watch) listen(wake func()) {
	defer close(w.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return // it was closed
		}
		w.mu.Lock()
		for events := buf[:n]; len(events) >= unix.SizeofInotifyEvent; {
			w.heard = append(w.heard, int32(binary.NativeEndian.Uint32(events)))
			events = events[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(events[12:]):]
		}
		w.mu.Unlock()
		wake()
	}
}

// add has a log watched until something happens to it, and gives its number.
func (w *watch) add(path string) (number int32, ok bool) {
	if w.file == nil {
		return 0, false
	}
	number, ok = -1, false
	w.control(func(fd int) {
		n, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF|unix.IN_ONESHOT|unix.IN_DONT_FOLLOW)
		number, ok = int32(n), err == nil
	})
	return number, ok
}

// drop has a log watched no longer.
func (w *watch) drop(number int32) {
	w.control(func(fd int) { _, _ = unix.InotifyRmWatch(fd, uint32(number)) }) // it may have been heard of
}

func (w *watch) control(f func(fd int)) {
	raw, err := w.file.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // fails when it is closed
	}
}

// take gives the numbers of the logs that were heard of since the last time.
func (w *watch) take() []int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := w.heard
	w.heard = nil
	return heard
}

func (w *watch) close() {
	if w.file != nil {
		_ = w.file.Close() // it was only read
	}
	<-w.done
}

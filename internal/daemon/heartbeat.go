package daemon

import (
	"slices"
	"sync"
	"time"

	"belfry/api"
	"belfry/internal/plan"
)

// tooLong is how long a loop may take to come round. It sleeps a minute at the
// most; what it does in between takes seconds on a machine that is well.
const tooLong = 2 * time.Minute

// heartbeat is a table of the daemon's loops and when each last went round.
type heartbeat struct {
	clock func() plan.Reading

	mu    sync.Mutex
	parts []beat // guarded by mu; in the order in which they began
}

type beat struct {
	name string
	at   plan.Reading
}

// of gives what a loop calls each time round. It counts as alive from now on.
func (h *heartbeat) of(name string) (alive func()) {
	alive = func() {
		now := h.clock()
		h.mu.Lock()
		defer h.mu.Unlock()
		at := slices.IndexFunc(h.parts, func(b beat) bool { return b.name == name })
		if at < 0 {
			at = len(h.parts)
			h.parts = append(h.parts, beat{name: name})
		}
		h.parts[at].at = now
	}
	alive()
	return alive
}

// ended takes a loop out of the table that has ended on purpose.
func (h *heartbeat) ended(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts = slices.DeleteFunc(h.parts, func(b beat) bool { return b.name == name })
}

// read lists the loops. Age is measured on the clock that stands still while
// the machine sleeps: nobody is late for having slept.
func (h *heartbeat) read() []api.Part {
	now := h.clock().Running
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]api.Part, len(h.parts))
	for i, b := range h.parts {
		list[i] = api.Part{Name: b.name, Alive: b.at.Wall.UTC(), Late: now-b.at.Running > tooLong}
	}
	return list
}

// well reports whether every loop goes round.
func (h *heartbeat) well() bool {
	return !slices.ContainsFunc(h.read(), func(p api.Part) bool { return p.Late })
}

package publish

import (
	"sync"
	"time"
)

// meterEvery is how long a meter keeps silent between two readings.
const meterEvery = 250 * time.Millisecond

// meter counts what has been done, and says so now and then. What it has counted
// last is said too, also when nothing comes after it.
type meter struct {
	say func(Progress)

	mu     sync.Mutex
	p      Progress  // guarded by mu
	said   time.Time // guarded by mu
	unsaid bool      // guarded by mu; a reading that will be said when it is time
}

// begin starts to count anew.
func (m *meter) begin(target string, files int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unsaid { // nobody would hear how the one before ended
		m.say(m.p)
	}
	m.p = Progress{Target: target, FilesTotal: files, BytesTotal: bytes}
	m.tell()
}

func (m *meter) add(files int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Files += files
	m.p.Bytes += bytes
	m.tell()
}

// tell says the reading when it is time. The caller holds mu.
func (m *meter) tell() {
	if m.unsaid {
		return
	}
	wait := meterEvery - time.Since(m.said)
	if wait <= 0 {
		m.said = time.Now()
		m.say(m.p)
		return
	}
	m.unsaid = true
	time.AfterFunc(wait, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unsaid, m.said = false, time.Now()
		m.say(m.p)
	})
}

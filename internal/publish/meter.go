package publish

import (
	"sync"
	"time"
)

// meterEvery is how long a meter keeps silent between two readings.
const meterEvery = 250 * time.Millisecond

// meter counts what has been done, and says so now and then.
type meter struct {
	say func(Progress)

	mu   sync.Mutex
	p    Progress  // guarded by mu
	said time.Time // guarded by mu
}

// begin starts to count anew.
func (m *meter) begin(target string, files int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
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

// tell says the reading if it is time. The caller holds mu.
func (m *meter) tell() {
	if now := time.Now(); now.Sub(m.said) >= meterEvery {
		m.said = now
		m.say(m.p)
	}
}

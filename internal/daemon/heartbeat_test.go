package daemon

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/plan"
)

func TestALoopThatDoesNotComeRoundIsLate(t *testing.T) {
	t.Parallel()
	clock := &setClock{plan.Reading{Wall: time.Date(2026, 7, 8, 12, 0, 0, 0, time.UTC)}}
	beats := heartbeat{clock: clock.read}
	first, second := beats.of("planner"), beats.of("runner")
	first()
	second()
	for _, c := range []struct {
		why             string
		running, asleep time.Duration
		late            string
	}{
		{"both went round a minute ago", time.Minute, 0, ""},
		{"the machine slept for a day", time.Minute, 24 * time.Hour, ""},
		{"only the planner went round since", tooLong, 0, "runner"},
	} {
		clock.reading.Running += c.running
		clock.reading.Wall = clock.reading.Wall.Add(c.running + c.asleep)
		if c.late != "" {
			first()
		}
		var late []string
		for _, part := range beats.read() {
			if part.Late {
				late = append(late, part.Name)
			}
		}
		if got := strings.Join(late, " "); got != c.late || beats.well() != (c.late == "") {
			t.Errorf("%s: late are %q, want %q", c.why, got, c.late)
		}
	}
	beats.ended("runner")
	if !beats.well() {
		t.Error("a loop that ended on purpose is late")
	}
}

func TestSystemdHearsWhatTheDaemonDoes(t *testing.T) {
	t.Parallel()
	o := options(t, t.TempDir())
	o.Supervisor = filepath.Join(t.TempDir(), "notify")
	o.Watchdog = 30 * time.Millisecond
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: o.Supervisor, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // the test has what it wants
	until := func(want ...string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				t.Fatalf("systemd never heard %q: %v", want, err)
			}
			all := true
			for _, text := range want {
				all = all && strings.Contains(string(buf[:n]), text)
			}
			if all {
				return
			}
		}
	}
	client, stop := serve(t, o)
	until("READY=1", "STATUS=1 jobs, next is nightly at ")
	until("WATCHDOG=1")
	health, err := client.Health(t.Context())
	if err != nil || health.Error != "" || len(health.Parts) < 4 || health.Next == nil || health.Next.Job != "nightly" {
		t.Errorf("health is %+v, %v", health, err)
	}
	stop()
	until("STOPPING=1")
}

func TestAWatchdogIsSilentWhileALoopHangs(t *testing.T) {
	t.Parallel()
	clock := &setClock{}
	beats := heartbeat{clock: clock.read}
	beats.of("planner")()
	clock.reading.Running += tooLong + time.Second
	if beats.well() {
		t.Errorf("a planner that hangs for %s is well", tooLong+time.Second)
	}
}

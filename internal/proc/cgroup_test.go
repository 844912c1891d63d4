//go:build linux

package proc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
)

// needCgroups skips a test where no cgroup can be made.
func (h *host) needCgroups() {
	h.Helper()
	c, err := newCgroups("test-" + h.prefix)
	if err != nil {
		machine.Lacks(h, "a cgroup v2 below which others can be made: %v", err)
	}
	c.close()
}

// hermit leaves its session, its parent and its environment, and says where it is.
const hermit = `setsid env -i /bin/sh -c '/bin/sh -c "echo \$\$ > away; exec sleep 1000" &' &`

func TestProcessThatLeftEverythingElseIsFoundByItsCgroup(t *testing.T) {
	h := newHost(t)
	h.needCgroups()
	d := h.open()

	killed := h.spec(hermit + ` while :; do sleep 1000; done`)
	away := h.fifo(killed, "away")
	d.start(killed)
	pid := h.number(h.hear(away))
	record, err := readStart(killed.Dir, killed.Run, 1)
	if err != nil || record.cgroup() == "" {
		t.Fatalf("start record %+v, %v; want a cgroup", record, err)
	}
	if !members(record.Cgroup)[pid] {
		t.Errorf("%s has %v, want %d in it", record.Cgroup, members(record.Cgroup), pid)
	}
	if err := d.Signal(killed.Run, 1, Kill); err != nil {
		t.Fatal(err)
	}
	d.exit(killed)
	if unix.Kill(pid, 0) == nil {
		t.Errorf("process %d outlives its attempt", pid)
	}
	if _, err := os.Stat(record.Cgroup); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty cgroup is left: %v", err)
	}

	survivor := h.spec(hermit + ` read x < go`)
	away, fifo := h.fifo(survivor, "away"), h.fifo(survivor, "go")
	d.start(survivor)
	pid = h.number(h.hear(away))
	main := d.started(survivor).PID
	record, err = readStart(survivor.Dir, survivor.Run, 1)
	if err != nil {
		t.Fatal(err)
	}
	h.killKeeper(d.Client)
	h.let(fifo)
	h.waitGone(main)
	d.wantStatus(survivor, Survivor)
	if err := KillSurvivors(survivor.Dir, survivor.Run, 1); err != nil {
		t.Fatal(err)
	}
	h.waitGone(pid)
	d.wantStatus(survivor, Lost)
	other := h.spec(`exit 0`) // a keeper that starts removes what dead ones have left
	d.start(other)
	d.exit(other)
	if _, err := os.Stat(filepath.Dir(record.Cgroup)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead keeper's cgroup is left: %v", err)
	}
}

func TestCgroupOfABackgroundProcessGoesWithIt(t *testing.T) {
	h := newHost(t)
	h.needCgroups()
	d := h.open()
	s := h.spec(`read x < go &`)
	fifo := h.fifo(s, "go")
	d.start(s)
	d.exit(s)
	record, err := readStart(s.Dir, s.Run, 1)
	if err != nil || !populated(record.cgroup()) {
		t.Fatalf("start record %+v, %v; want a cgroup with a process", record, err)
	}
	ids := h.keepers()
	_ = d.Close()
	h.let(fifo)
	h.waitKeeper(ids[0])
	if _, err := os.Stat(record.Cgroup); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty cgroup is left: %v", err)
	}
}

func TestEverythingWorksWithoutCgroups(t *testing.T) {
	h := newHost(t)
	h.command[1] = bareKeeper
	d := h.open()
	s := h.spec(`trap "" TERM; (setsid sh -c 'trap "" TERM; echo > ready; while :; do sleep 1000; done' &); while :; do sleep 1000; done`)
	s.KillAfter = 50 * time.Millisecond
	ready := h.fifo(s, "ready")
	d.start(s)
	h.hear(ready)
	if err := d.Signal(s.Run, 1, Stop); err != nil {
		t.Fatal(err)
	}
	if exit := d.exit(s); exit.Signal != "SIGKILL" {
		t.Errorf("exit %+v, want SIGKILL", exit)
	}
	if left := h.alive(s.Run + "\x00"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if record, err := readStart(s.Dir, s.Run, 1); err != nil || record.Cgroup != "" {
		t.Errorf("start record %+v, %v; want no cgroup", record, err)
	}
}

func TestCgroupThatARecordNamesMustBeTheAttempts(t *testing.T) {
	own, err := ownCgroup()
	if err != nil {
		machine.Lacks(t, "a cgroup v2: %v", err)
	}
	for _, path := range []string{own, "/", "relative", own + "/belfry-k/other.1", "/tmp/belfry-k/r.1", own + "/../belfry-k/r.1"} {
		record := startRecord{Run: "r", Attempt: 1, Keeper: "k", Cgroup: path}
		if got := record.cgroup(); got != "" {
			t.Errorf("%s was taken for the attempt's", got)
		}
	}
	if !strings.HasPrefix(own, "/") {
		t.Errorf("own cgroup %q", own)
	}
}

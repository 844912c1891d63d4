package cli

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The limits that the binary is promised to keep.
const (
	largestBinary = 40 << 20
	largestIdle   = 40 << 20 // resident memory of a daemon that has nothing to do
)

func TestTheBinaryIsStaticSmallAndModest(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n")
	binary := filepath.Join(t.TempDir(), "belfry")
	build(t, binary)
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > largestBinary {
		t.Errorf("the binary has %d bytes, more than %d", info.Size(), largestBinary)
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP || program.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a %v header", program.Type)
		}
	}
	serve := p.startBinary(binary, "serve")
	serve.until(": ready,")
	if resident := memory(t, serve.cmd.Process.Pid); resident > largestIdle {
		t.Errorf("an idle daemon has %d bytes in memory, more than %d", resident, largestIdle)
	}
	if code := serve.end(syscall.SIGTERM); code != 0 {
		t.Errorf("serve exits with %d", code)
	}
}

// build makes the binary as it is released, in this environment.
func build(t *testing.T, binary string, env ...string) {
	t.Helper()
	build := exec.Command("go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/belfry")
	build.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

// memory is a process's resident memory in bytes.
func memory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kilobytes int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	return kilobytes << 10
}

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/machine"
)

func TestTheExampleServiceIsOneThatSystemdTakes(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		machine.Lacks(t, "systemd-analyze")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/belfry.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.Replace(string(text), "/usr/local/bin/belfry", self, 1)
	if out, err := exec.Command(analyze, "--version").Output(); err == nil && strings.HasPrefix(string(out), "systemd 252") {
		unit = strings.Replace(unit, "Type=notify-reload", "Type=notify", 1) // as the page says
	}
	file := filepath.Join(t.TempDir(), "belfry.service")
	if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", file).CombinedOutput(); err != nil || strings.Contains(string(out), "belfry.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

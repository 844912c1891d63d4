//go:build linux

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/remote/sshtest"
)

func TestWhatAProxyCommandStartedEndsWithTheCommand(t *testing.T) {
	t.Parallel()
	a := newAway(t, sshtest.Options{}, "belfry.yaml", music)
	home, dir := t.TempDir(), t.TempDir()
	a.env = append(a.env, "HOME="+home)
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := "sleep 1000 & echo $! >" + dir + "/beside; exec 3<>/dev/tcp/" + a.host.Host + "/" + a.host.Port + "; cat <&3 & exec cat >&3"
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte("Host music\n  User "+a.host.User+"\n  ProxyCommand bash -c '"+script+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said, _ := a.deploy("status", "music"); !strings.Contains(said, "not deployed there") {
		t.Fatalf("the host is not reached:\n%s", said)
	}
	beside, err := os.ReadFile(filepath.Join(dir, "beside"))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(beside)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break // ended, and perhaps nobody asked how
		}
		if time.Now().After(end) {
			t.Fatalf("it goes on: %s", stat)
		}
	}
}

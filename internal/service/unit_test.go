package service

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"belfry/internal/machine"
)

func TestTheExampleOfTheDocsIsAUnitOfOurs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/belfry.service")
	if err != nil {
		t.Fatal(err)
	}
	_, unit, _ := strings.Cut(string(text), "[Unit]\n")
	ours := Unit{Description: "Belfry, the jobs of /srv/music", User: "music", Command: []string{"/usr/local/bin/belfry", "serve"}}.String()
	ours = strings.Replace(ours, "User=music\n", "User=music\nWorkingDirectory=/srv/music\n", 1) // ours go there by themselves
	if diff := cmp.Diff(ours, "[Unit]\n"+unit); diff != "" {
		t.Errorf("docs/belfry.service is another unit (-ours, +docs):\n%s", diff)
	}
}

func TestSystemdTakesTheUnitAndReadsItsWordsAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		machine.Lacks(t, "systemd-analyze")
	}
	out, err := exec.Command(analyze, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version, err := strconv.Atoi(string(bytes.Fields(out)[1]))
	if err != nil {
		t.Fatalf("systemd-analyze --version: %s", out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]Unit{
		"system":  {Description: "cron", Command: []string{self, "serve", "--system"}, Conflicts: []string{"cron.service"}},
		"project": {Description: "50% of a day", User: "root", Command: []string{self, "serve", "--data", `a "b" $HOME 100%; \c`}, Environment: []string{"A=b c"}},
		"user":    {Description: "mine", Command: []string{self, "serve"}, PerUser: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u.Version = version
			file := filepath.Join(t.TempDir(), "belfry.service")
			if err := os.WriteFile(file, []byte(u.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			args := []string{"verify", file}
			if u.PerUser {
				args = append([]string{"--user"}, args...)
			}
			cmd := exec.Command(analyze, args...)
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "belfry.service:") {
				t.Errorf("systemd-analyze verify: %v\n%s\nof\n%s", err, out, u)
			}
		})
	}
}

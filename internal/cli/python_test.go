//go:build linux

package cli

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/machine"
	"belfry/internal/python/pythontest"
)

// newPython makes a place whose installs ask an index of the test's.
func newPython(t *testing.T, files ...string) (*place, *pythontest.Index) {
	t.Helper()
	if exec.Command("python3", "-c", "import ensurepip").Run() != nil {
		machine.Lacks(t, "python3-venv")
	}
	index := pythontest.New(t)
	p := newPlace(t, files...)
	p.env = append(p.env, "PIP_INDEX_URL="+index.URL)
	return p, index
}

const tinyWheel = "tiny-1.0-py3-none-any.whl"

func TestAJobRunsInTheEnvironmentOfItsRequirements(t *testing.T) {
	t.Parallel()
	p, _ := newPython(t, "requirements.txt", "tiny==1.0\n", "belfry.yaml", `
jobs:
  show: {command: 'python3 -c "import tiny; print(tiny.VERSION)"; tiny', python: requirements.txt}
`)
	out, stderr, code := p.belfry("run", "show")
	if code != 0 || !strings.Contains(out, "belfry: making the Python environment") || !strings.Contains(out, "Successfully installed tiny-1.0\n") || !strings.HasSuffix(out, "\n1.0\ntiny 1.0\n") {
		t.Fatalf("run exits with %d and prints\n%s%s", code, out, stderr)
	}
	if out, _, _ := p.belfry("run", "show"); out != "1.0\ntiny 1.0\n" {
		t.Errorf("the second run prints\n%s", out)
	}
	before := environmentOf(t, p)

	p.write("requirements.txt", "tiny==${PACKAGE_TOKEN}\n")
	p.write("belfry.yaml", `
jobs:
  show: {command: 'tiny', python: requirements.txt, env_file: secret.env}
`)
	p.write("secret.env", "PACKAGE_TOKEN=9.9.314159\n")
	if err := os.Chmod(p.path("secret.env"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code = p.belfry("run", "show")
	const words = "its Python environment could not be made: pip install -r requirements.txt: exit status 1: ERROR: No matching distribution found for tiny==***"
	if code != exitRunFailed || !strings.Contains(stderr, "show failed") || !strings.Contains(stderr, words) {
		t.Errorf("a failed install exits with %d:\n%s%s", code, out, stderr)
	}
	if out, _, _ := p.belfry("show", "show"); !strings.Contains(out, "failed: "+words) || strings.Contains(out, "314159") {
		t.Errorf("show says\n%s", out)
	}
	if out, _, _ := p.belfry("logs", "show"); !strings.Contains(out, "ERROR: No matching distribution found for tiny==*") || strings.Contains(out, "314159") {
		t.Errorf("logs says\n%s", out)
	}
	if now := environmentOf(t, p); now != before {
		t.Errorf("the environment is %s now, want %s as before", now, before)
	}

	p.write("requirements.txt", "tiny==1.0\n")
	if out, _, code := p.belfry("run", "show"); code != 0 || out != "tiny 1.0\n" {
		t.Errorf("as before, it exits with %d and prints\n%s", code, out)
	}
}

func environmentOf(t *testing.T, p *place) string {
	t.Helper()
	out, _, _ := p.belfry("jobs", "--json")
	var jobs []api.Job
	if err := json.Unmarshal([]byte(out), &jobs); err != nil || jobs[0].Python == nil || jobs[0].Python.Requirements != p.path("requirements.txt") {
		t.Fatalf("jobs --json says (%v)\n%s", err, out)
	}
	return jobs[0].Python.Environment
}

// installing has a job begin its install, which the index keeps waiting, and
// gives its run.
func installing(t *testing.T, p *place, index *pythontest.Index) string {
	t.Helper()
	index.Hold(tinyWheel)
	runs, err := p.client().Start(context.Background(), api.RunRequest{Job: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "pip fetches the package", func() bool { return index.Asked(tinyWheel) > 0 })
	return runs[0].ID
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited a minute until %s", what)
		}
	}
}

// processes lists those of the place's runs.
func (p *place) processes() (list []string) {
	p.t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range environs {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "BELFRY_OUTPUT="+p.path(dataName)) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}

const slowPython = "jobs:\n  slow: {command: tiny, python: requirements.txt, kill_after: 5s"

func TestAnInstallIsStoppedLikeTheJob(t *testing.T) {
	t.Parallel()
	p, index := newPython(t, "requirements.txt", "tiny==1.0\n", "belfry.yaml", slowPython+"}\n")
	p.serve()
	id := installing(t, p, index)
	if left := p.processes(); len(left) < 2 {
		t.Errorf("while it installs its processes are %q, want belfry and pip", left)
	}
	if _, err := p.client().Stop(context.Background(), id, api.StopRequest{}); err != nil {
		t.Fatal(err)
	}
	if r := p.finished(id); r.State != "cancelled" {
		t.Errorf("it ended as %s: %s", r.State, r.Reason)
	}
	if left := p.processes(); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	index.Release()
	if out, stderr, code := p.belfry("run", "slow"); code != 0 || !strings.HasSuffix(out, "\ntiny 1.0\n") {
		t.Errorf("the next run exits with %d:\n%s%s", code, out, stderr)
	}
}

func TestATimeoutHoldsForTheInstall(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "requirements.txt", "tiny==1.0\n", "belfry.yaml", slowPython+", timeout: 1s}\n")
	p.write("bin/uv", "#!/bin/sh\necho installing\ntail -f /dev/null\n") // a stand-in that does not come to its end
	if err := os.Chmod(p.path("bin/uv"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "PATH="+p.path("bin")+":"+os.Getenv("PATH"), "PIP_CONFIG_FILE="+os.DevNull)
	if out, stderr, code := p.belfry("run", "slow"); code != 128+int(syscall.SIGTERM) || !strings.HasSuffix(out, "\ninstalling\n") || !strings.Contains(stderr, "slow failed in 1") || !strings.Contains(stderr, "timeout: it ran longer than 1s") {
		t.Errorf("run exits with %d:\n%s%s", code, out, stderr)
	}
	if left := p.processes(); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

func TestAnInstallOutlivesADaemonThatIsKilled(t *testing.T) {
	t.Parallel()
	p, index := newPython(t, "requirements.txt", "tiny==1.0\n", "belfry.yaml", slowPython+"}\n")
	first := p.serve()
	id := installing(t, p, index)
	first.kill()
	p.serve()
	index.Release()
	if r := p.finished(id); r.State != "succeeded" || r.Attempt != 1 {
		t.Errorf("it ended as %s: %s, attempt %d", r.State, r.Reason, r.Attempt)
	}
	if out, _, _ := p.belfry("logs", id); strings.Count(out, "belfry: making") != 1 || !strings.HasSuffix(out, "\ntiny 1.0\n") {
		t.Errorf("its log is\n%s", out)
	}
}

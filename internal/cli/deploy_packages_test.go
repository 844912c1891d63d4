//go:build linux

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/machine"
	"belfry/internal/remote/sshtest"
)

// standIn is a package manager that notes what it is told and then has python3 in
// the PATH of the host; it does so for root alone, as sudo makes it.
const standIn = `#!/bin/sh
echo "$(basename "$0") $*" >>"$(dirname "$0")/told"
[ "$AS_ROOT" = yes ] || { echo "This command has to be run with superuser privileges" >&2; exit 1; }
ln -s PYTHON "$(dirname "$0")/python3"
`

// redHat is a host whose package manager is no apt, and that has no python3.
func redHat(t *testing.T, manager string, sudo bool) (a *away, told string) {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import ensurepip").Run() != nil {
		machine.Lacks(t, "python3-venv")
	}
	bin, home := t.TempDir(), t.TempDir()
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			name := entry.Name()
			if strings.HasPrefix(name, "python") || name == "apt-get" || name == "dnf" || name == "yum" || name == "sudo" || name == "crontab" {
				continue
			}
			_ = os.Symlink(filepath.Join(dir, name), filepath.Join(bin, name)) // another folder may have had it
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(manager, strings.ReplaceAll(standIn, "PYTHON", python))
	if sudo {
		write("sudo", "#!/bin/sh\n[ \"$1\" = -n ] && shift\nAS_ROOT=yes exec \"$@\"\n")
	}
	for _, dir := range []string{bin, home} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	a = newAway(t, sshtest.Options{Home: home, Config: []string{"SetEnv HOME=" + home + " PATH=" + bin}},
		"belfry.yaml", "project: music\njobs:\n  a: {command: python3 a.py, python: requirements.txt}\n", "requirements.txt", "", "a.py", "import sys\nprint(sys.prefix != sys.base_prefix)\n")
	return a.seeded(), filepath.Join(bin, "told")
}

func TestPythonIsInstalledWhereTheManagerIsDnfOrYum(t *testing.T) {
	t.Parallel()
	for _, manager := range []string{"dnf", "yum"} { // Amazon Linux 2023 and RHEL have both; Amazon Linux 2 has yum alone
		t.Run(manager, func(t *testing.T) {
			t.Parallel()
			a, told := redHat(t, manager, true)
			out, said := a.deploys("--run", "a")
			if text, err := os.ReadFile(told); err != nil || string(text) != manager+" install python3 python3-pip -y -q\n" {
				t.Errorf("%s is told %q, %v", manager, text, err)
			}
			if !strings.Contains(said, "✓ 1  install python3 with venv with "+manager+", for a") || !strings.Contains(said, "make the Python environments of a") {
				t.Errorf("the plan does not say so:\n%s", said)
			}
			if !strings.HasSuffix(out, "True\n") {
				t.Errorf("the job does not run in an environment:\n%s%s", out, said)
			}
		})
	}
	t.Run("without sudo", func(t *testing.T) {
		t.Parallel()
		a, _ := redHat(t, "dnf", false)
		_, said, code := a.deploy(a.host.Address())
		if code != exitRefused || !strings.Contains(said, "have root do\n    dnf install python3 python3-pip") {
			t.Errorf("exit code %d\n%s", code, said)
		}
		if left, err := os.ReadDir(a.site()); err != nil || len(left) != 1 {
			t.Errorf("there is %v, %v", left, err)
		}
	})
}

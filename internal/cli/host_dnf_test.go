//go:build host

package cli

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/machine"
)

// newDnf boots a host with systemd whose packages come by dnf, and that has no Python
// but dnf's.
func newDnf(t *testing.T) *namespaced {
	t.Helper()
	machine.NeedsRoot(t)                                 // debootstrap does
	root := made(t, "bookworm-dnf-1", func(dir string) { // another number when what follows changes
		t.Log("debootstrap makes a Debian host with dnf, once; it takes some minutes")
		debootstrap(t, dir, "--include=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo,cron,iproute2,dnf,rpm,createrepo-c,python3-venv")
		if out, err := exec.Command("sh", "testdata/host/dnf.sh", dir).CombinedOutput(); err != nil {
			t.Fatalf("make packages for dnf: %v\n%s", err, out)
		}
	})
	return boots(t, root, systemd)
}

func TestDnfInstallsPythonOnAHostWithSystemd(t *testing.T) {
	t.Parallel()
	d := newDnf(t)
	d.is("command -v python3 apt-get", "")
	binary := filepath.Join(t.TempDir(), "belfry")
	build(t, binary)
	project := []string{"belfry.yaml", "project: music\njobs:\n  a: {command: python3 a.py, python: {version: '>=3.9'}}\n", "a.py", "import sys\nprint(sys.prefix != sys.base_prefix)\n"}

	plain := d.account("plain", project...)
	if _, said, code := plain.deploy(plain.host.Address(), "--binary", binary); code != exitRefused || !strings.Contains(said, "have root do\n    dnf install python3 python3-pip\n") {
		t.Errorf("without sudo: exit code %d\n%s", code, said)
	}

	admin := d.account("admin", project...)
	d.do("echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin")
	out, said := admin.deploys("--binary", binary, "--dry-run")
	if !strings.Contains(out, "1  install python3 with venv with dnf, for a\n") {
		t.Errorf("a dry run says\n%s%s", out, said)
	}
	d.is("command -v python3", "")

	d.do("mv /srv/repo /srv/away; dnf clean all")
	if _, said, code := admin.deploy(admin.host.Address(), "--binary", binary); code != exitFailed || !strings.Contains(said, "install python3 with venv: ") || !strings.Contains(said, "Failed to download metadata for repo 'host'") {
		t.Errorf("without packages: exit code %d\n%s", code, said)
	}
	d.do("mv /srv/away /srv/repo; echo excludepkgs=python3-pip >> /etc/yum.repos.d/host.repo")
	if _, said, code := admin.deploy(admin.host.Address(), "--binary", binary); code != exitFailed || !strings.Contains(said, "Unable to find a match: python3-pip") {
		t.Errorf("without one of the packages: exit code %d\n%s", code, said)
	}
	d.do("sed -i /exclude/d /etc/yum.repos.d/host.repo")

	// Another dnf is at work, as after the machine's first start.
	d.do("mkfifo /run/slow")
	updating := d.command("dnf install -y -q slow")
	if err := updating.Start(); err != nil {
		t.Fatal(err)
	}
	processes := func(command, count string) {
		t.Helper()
		d.until(count+" of "+command, time.Minute, func() (bool, string) {
			said := d.said("pgrep -c -f '" + command + "'")
			return said == count, said
		})
	}
	processes("rpm-tm[p]", "1") // what the package slow does when it is installed
	deploy := admin.start("deploy", "-i", admin.host.Key, "--accept-new", admin.host.Address(), "--binary", binary, "--run", "a")
	processes("^/usr/libexec/platform-python /usr/bin/dnf install python[3]", "1")
	d.is("rpm -qa python3", "")
	d.do("echo go > /run/slow")
	if err := updating.Wait(); err != nil {
		t.Errorf("the other dnf: %v", err)
	}
	if code := deploy.wait(); code != 0 {
		t.Errorf("the deploy that waited for another dnf exits with %d", code)
	}
	if out, said, _ := admin.there("logs", "a"); out != "True\n" {
		t.Errorf("the job does not run in an environment:\n%s%s", out, said)
	}
	if _, said := admin.deploys("--binary", binary); !strings.Contains(said, "nothing to do") {
		t.Errorf("a second deploy does\n%s", said)
	}
	if out, said, code := admin.deploy("remove", admin.host.Address(), "--all"); code != 0 {
		t.Errorf("remove: %d\n%s%s", code, out, said)
	}

	// yum is the same program there.
	d.do("dnf remove -y -q python3 python3-pip && mv /usr/bin/dnf /root")
	_, said = admin.deploys("--binary", binary, "--run", "a")
	if !strings.Contains(said, "✓ 1  install python3 with venv with yum, for a") {
		t.Errorf("with yum it says\n%s", said)
	}
}

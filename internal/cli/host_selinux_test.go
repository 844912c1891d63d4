//go:build host

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/machine"
)

// newEnforcing boots a host where SELinux is enforced, and keeps systemd from homes as
// Red Hat's policy does. Services are initrc_t there, which Red Hat calls
// unconfined_service_t; both may do everything.
func newEnforcing(t *testing.T) *emulated {
	t.Helper()
	machine.NeedsRoot(t) // debootstrap does
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		machine.Lacks(t, "qemu-system-x86_64: apt-get install --no-install-recommends qemu-system-x86")
	}
	dir := made(t, "bookworm-selinux-1", func(dir string) { // another number when what follows changes
		t.Log("debootstrap makes a Debian host with SELinux, once; it takes some minutes")
		root := t.TempDir()
		debootstrap(t, root, "--include=systemd,systemd-sysv,libpam-systemd,dbus,udev,kmod,openssh-server,sudo,cron,iproute2,python3,auditd,"+
			"selinux-basics,selinux-policy-default,policycoreutils,policycoreutils-python-utils,linux-image-cloud-amd64")
		if out, err := exec.Command("sh", "testdata/host/selinux.sh", dir, root).CombinedOutput(); err != nil {
			t.Fatalf("make a disk: %v\n%s", err, out)
		}
	})
	accelerator := "tcg"
	if flags, err := os.ReadFile("/proc/cpuinfo"); err == nil && (strings.Contains(string(flags), " vmx ") || strings.Contains(string(flags), " svm ")) {
		accelerator = "kvm" // which there is without them, too, but for kernels that know of it
	}
	return emulate(t, dir, filepath.Join(dir, "key"), "qemu-system-x86_64", "-accel", accelerator, "-accel", "tcg", "-cpu", "max",
		"-append", "root=/dev/nvme0n1 rw console=ttyS0 quiet security=selinux enforcing=1 audit=1")
}

// denied are the refusals of SELinux that have to do with services, people, what is
// theirs, or us.
func (h *emulated) denied() string {
	h.t.Helper()
	return h.said("grep -h 'avc:  denied' /var/log/audit/* | grep -E 'belfry|:user_home_t|scontext=[^ ]*:(initrc_t|unconfined_t):|:mail_spool_t|cron_spool_t'")
}

func TestWhereSELinuxIsEnforcedADeployChangesNothingOfItAndWorks(t *testing.T) {
	t.Parallel()
	h := newEnforcing(t)
	h.is("getenforce; systemctl is-system-running --wait", "Enforcing\nrunning")
	binary := filepath.Join(t.TempDir(), "belfry")
	build(t, binary)
	admin := h.account("admin", "belfry.yaml", `project: music
jobs:
  a: {command: 'id -Z; date > $BELFRY_OUTPUT/x', publish: lake/dt=$BELFRY_DATE/}
  b: {command: 'python3 b.py', notify: {to: 'mailto:admin'}}
  long: {command: echo begun; read go < gate; echo ended, retry: {attempts: 1}}
`, "b.py", "print(42)\nraise SystemExit(1)\n")
	h.do("echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin; install -m 600 -o admin -g mail /dev/null /var/mail/admin; restorecon /var/mail/admin")
	deploys := func(a *away, args ...string) (out, said string) {
		t.Helper()
		return a.deploys(append([]string{"--binary", binary, "--patience", "3m"}, args...)...)
	}
	ours := "semanage export | grep -v '^[a-z]* -D$'; semodule -l"
	policy := h.said(ours)

	// What it denies is an error that says where to look.
	h.do("chcon -t user_home_t /usr/bin/env")
	_, said, code := admin.deploy(admin.host.Address(), "--binary", binary, "--patience", "10s")
	if code != exitFailed || !strings.Contains(said, "Failed at step EXEC spawning /usr/bin/env: Permission denied") || !strings.Contains(said, "sudo ausearch -m avc -ts recent") {
		t.Errorf("where systemd may not execute env: exit code %d\n%s", code, said)
	}
	h.do("restorecon /usr/bin/env")
	before := h.denied()

	out, said := deploys(admin, "--run", "a")
	t.Log(out, said)
	for _, want := range []string{"SELinux is enforcing", "kept running by systemd, as admin"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if !strings.HasSuffix(out, "system_u:system_r:initrc_t:s0\n") {
		t.Errorf("a job runs elsewhere than a service does: %s", out)
	}
	h.is("ls /home/admin/belfry/music/shared/lake/*/x | wc -l", "1")
	if out, said, code := admin.there("run", "b"); code != exitFailed || out != "42\n" {
		t.Errorf("run b: exit code %d\n%s%s", code, out, said)
	}
	h.until("the mail is there", time.Minute, func() (bool, string) {
		mail := h.said("cat /var/mail/admin")
		return strings.Contains(mail, "exit status 1"), mail
	})

	// Who may not use sudo has a systemd of their own, which SELinux lets do what they may.
	plain := h.account("plain", "belfry.yaml", "project: music\njobs:\n  a: {command: id -Z}\n")
	h.do("loginctl enable-linger plain")
	out, said = deploys(plain, "--run", "a")
	if !strings.Contains(said, "kept running by the systemd of plain") || strings.Contains(said, "SELinux") || !strings.Contains(out, "unconfined_u:unconfined_r:unconfined_t:") {
		t.Errorf("as a unit of plain's own:\n%s%s", out, said)
	}

	healthy := func(a *away, other int) (pid int) {
		t.Helper()
		h.until("another daemon is well", 3*time.Minute, func() (bool, string) {
			health := a.status().Health
			if health != nil {
				pid = health.PID
			}
			return health != nil && pid != other && health.Plans && health.Error == "", fmt.Sprintf("%+v", health)
		})
		return pid
	}
	h.do("runuser -u admin -- mkfifo -m 600 /home/admin/belfry/music/current/gate")
	long := admin.start("-H", admin.host.Address(), "-i", h.key, "run", "long")
	long.until("long  run")
	const unit = "belfry-admin-music"
	first := healthy(admin, 0)
	h.do("systemctl restart " + unit)
	healthy(admin, first)
	h.do("echo go > /home/admin/belfry/music/current/gate")
	if code := long.wait(); code != 0 {
		t.Errorf("the run that was followed over all of it exits with %d", code)
	}
	h.reboot()
	for _, a := range []*away{admin, plain} {
		healthy(a, 0)
		if _, said := deploys(a); !strings.Contains(said, "nothing to do") {
			t.Errorf("a second deploy as %s does\n%s", a.host.User, said)
		}
	}
	if said := h.denied(); said != before {
		t.Errorf("SELinux has denied\n%s", said)
	}

	// Without what the unit does, systemd would be refused, as it is on Red Hat's hosts.
	h.do("cp /bin/true /home/admin/belfry/; ln -s music /home/admin/belfry/link")
	h.is("systemd-run -q --wait /home/admin/belfry/true; echo $?; systemd-run -q --wait -p WorkingDirectory=/home/admin/belfry/link true; echo $?", "203\n200")
	h.do("rm /home/admin/belfry/true /home/admin/belfry/link; systemctl reset-failed")

	for _, a := range []*away{admin, plain} {
		if out, said, code := a.deploy("remove", a.host.Address(), "--all"); code != 0 {
			t.Errorf("remove as %s: %d\n%s%s", a.host.User, code, out, said)
		}
	}
	h.is("systemctl list-unit-files --no-legend 'belfry*'; pgrep -l belfry; ls /home/*/belfry", "/home/admin/belfry:\n\n/home/plain/belfry:")
	if now := h.said(ours); now != policy {
		t.Errorf("the policy is\n%s\nand was\n%s", now, policy)
	}
}

func TestBelfryIsTheCronOfAHostWhereSELinuxIsEnforced(t *testing.T) {
	t.Parallel()
	h := newEnforcing(t)
	h.program()
	h.account("bell")
	h.do("/tmp/belfry install --system")
	h.is("systemctl is-active belfry cron", "active\ninactive")
	h.is("ls -Z /usr/local/bin/belfry | cut -d: -f3; ps -o label= -p "+h.mainPID(), "bin_t\nsystem_u:system_r:initrc_t:s0")
	h.do("echo '* * * * * id -Z > minute' | runuser -u bell -- crontab -")
	if got, want := h.next("/home/bell/minute", "belfry"), "system_u:system_r:initrc_t:s0"; got != want {
		t.Errorf("the job runs as %q, want %q", got, want)
	}
	h.do("systemctl restart belfry")
	h.next("/home/bell/minute", "the belfry after it")
	if said := h.denied(); said != "" {
		t.Errorf("SELinux has denied\n%s", said)
	}

	h.do("/usr/local/bin/belfry uninstall --system")
	h.is("systemctl is-active cron belfry", "active\ninactive")
	h.is("ls -Z /usr/bin/crontab | cut -d: -f3", "crontab_exec_t")
	// Debian's cron wants a label that its folder does not give; Red Hat's gives what crond wants.
}

//go:build host

package cli

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/internal/machine"
	"belfry/internal/remote/sshtest"
)

// emulated is Debian on a machine that qemu emulates, with Debian's kernel for clouds,
// an NVMe disk, and a network that ends here. It has Python, and no belfry.
type emulated struct {
	*debian
	console bytes.Buffer // which is written until done
	done    <-chan struct{}
}

// newArm64 boots a host. Its disk is as it was made, whatever others wrote.
func newArm64(t *testing.T) *emulated {
	t.Helper()
	machine.NeedsRoot(t) // debootstrap does
	if _, err := exec.LookPath("qemu-system-aarch64"); err != nil {
		machine.Lacks(t, "qemu-system-aarch64: apt-get install --no-install-recommends qemu-system-arm")
	}
	dir := made(t, "bookworm-arm64-1", func(dir string) { // another number when what follows changes
		t.Log("debootstrap makes a Debian host for arm64, once; it takes some minutes")
		const packages = "--include=systemd,systemd-sysv,libpam-systemd,dbus,udev,kmod,openssh-server,sudo,cron,iproute2,python3"
		root, arm64 := t.TempDir(), t.TempDir()
		debootstrap(t, root, packages)
		debootstrap(t, arm64, packages+",linux-image-cloud-arm64", "--arch=arm64", "--download-only")
		out, err := exec.Command("sh", "testdata/host/disk.sh", dir, root, filepath.Join(arm64, "var/cache/apt/archives")).CombinedOutput()
		if err != nil {
			t.Fatalf("make a disk: %v\n%s", err, out)
		}
	})
	key := newKey(t)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return emulate(t, dir, key, "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72",
		"-append", fmt.Sprintf("root=/dev/nvme0n1 rw console=ttyAMA0 quiet systemd.set_credential=%q", "ssh.authorized_keys.root:"+strings.TrimSpace(string(public))))
}

// emulate boots the kernel and the disk in dir, and waits until the host answers to
// root, whom key lets in.
func emulate(t *testing.T, dir, key, qemu string, args ...string) *emulated {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, port, _ := net.SplitHostPort(free.Addr().String())
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	d := &debian{t: t, address: address, port: port, key: key, users: 1000}
	d.command = func(script string) *exec.Cmd {
		return exec.Command("ssh", "-F", "none", "-i", d.key, "-p", d.port, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "root@"+d.address, script)
	}
	h := &emulated{debian: d}
	cmd := exec.Command(qemu, append(args, "-smp", "2", "-m", "1024", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", "vmlinuz",
		"-snapshot", "-drive", "file=disk,format=raw,if=none,id=disk", "-device", "nvme,drive=disk,serial=1",
		"-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:%s:%s-:22", address, port), "-device", "virtio-net-pci,netdev=net,romfile=")...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &h.console, &h.console
	if h.done, err = sshtest.Power(cmd); err != nil {
		t.Fatalf("qemu: %v", err)
	}
	t.Cleanup(func() {
		h.explain()
		_ = cmd.Process.Kill() // it may have ended
		<-h.done
	})
	h.answers("")
	return h
}

// answers waits until it has booted, other than that boot, and gives which boot it is.
func (h *emulated) answers(before string) (boot string) {
	h.t.Helper()
	h.until("the host answers", 5*time.Minute, func() (bool, string) {
		select {
		case <-h.done:
			h.t.Fatalf("the host does not boot:\n%s", h.console.String())
		default:
		}
		boot = h.said("cat /proc/sys/kernel/random/boot_id")
		return len(boot) == 36 && boot != before, boot
	})
	return boot
}

// reboot has the host shut itself down, and boot.
func (h *emulated) reboot() {
	h.t.Helper()
	before := h.answers("")
	h.said("systemctl reboot") // it may be gone before it answers
	h.answers(before)
}

// From a laptop of another architecture, which has the source.
func TestAnArm64HostGetsItsOwnBelfryAndKeepsWhatIsDeployed(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH == "arm64" {
		machine.Lacks(t, "another architecture than arm64")
	}
	h := newArm64(t)
	h.is("systemctl is-system-running --wait", "running")
	h.is("uname -m; command -v belfry", "aarch64")

	admin := h.account("admin")
	h.do("echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin")
	copyExample(t, admin.dir)
	admin.write("belfry.yaml", admin.read("belfry.yaml")+`
  long: {command: echo begun; read go < gate; echo ended, retry: {attempts: 1}}
  stray: {command: setsid sleep 4711 & echo begun; read go < gate, retry: {attempts: 1}}
`)
	admin.binary = filepath.Join(inSource(t), "belfry")
	build(t, admin.binary)
	cache, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output() // of the user's home, not of the test's
	if err != nil {
		t.Fatal(err)
	}
	built, modules, _ := strings.Cut(strings.TrimSpace(string(cache)), "\n")
	admin.env = append(admin.env, "GOCACHE="+built, "GOMODCACHE="+modules)

	want := "is for another machine (EM_X86_64) than the host, which is linux/arm64"
	if _, said, code := admin.deploy(admin.host.Address(), "--binary", admin.binary); code != exitNotFound || !strings.Contains(said, want) {
		t.Errorf("with the laptop's own belfry: exit code %d\n%s", code, said)
	}
	h.is("ls /home/admin", "")

	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out, said := admin.deploys("--run", "top-tracks")
	t.Log(out, said)
	for _, want := range []string{"send belfry for linux/arm64", "built from " + source, "kept running by systemd, as admin", "✓ 3"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	const unit = "belfry-admin-ttandaudio"
	h.is("systemctl is-active "+unit, "active")
	h.is("ls -d /home/admin/belfry/ttandaudio/shared/lake/*/*/_SUCCESS | wc -l", "2")
	nothing := func(args ...string) {
		t.Helper()
		if _, said := admin.deploys(args...); !strings.Contains(said, "nothing to do") {
			t.Errorf("a second deploy does\n%s", said)
		}
	}
	nothing()

	// A job outlives the daemon, however that ends, and the belfry that it was begun with.
	runs := func(job, state string) {
		t.Helper()
		h.until(job+" is "+state, 3*time.Minute, func() (bool, string) {
			run := admin.runs(job)[0]
			return run.State == state, fmt.Sprintf("%+v", run)
		})
	}
	follow := func(job string) *process {
		t.Helper()
		p := admin.start("-H", admin.host.Address(), "-i", h.key, "run", job)
		p.until(job + "  run")
		runs(job, "running")
		return p
	}
	healthy := func(other int) (pid int) {
		t.Helper()
		h.until("another daemon is well", 3*time.Minute, func() (bool, string) {
			health := admin.status().Health
			if health == nil {
				return false, "none answers"
			}
			pid = health.PID
			return pid != other && health.Plans && health.Error == "", fmt.Sprintf("%+v", health)
		})
		return pid
	}
	h.do("runuser -u admin -- mkfifo -m 600 /home/admin/belfry/ttandaudio/current/gate")
	long := follow("long")
	pid := healthy(0)
	h.do("systemctl kill --kill-whom=main --signal=KILL " + unit)
	pid = healthy(pid)
	h.do("systemctl restart " + unit) // which waits until it is ready
	pid = healthy(pid)
	given := filepath.Join(t.TempDir(), "belfry")
	build(t, given, "GOARCH=arm64", "GOFLAGS=-tags=given") // which is another than the one before
	_, said = admin.deploys("--binary", given)
	if !strings.Contains(said, "send belfry for linux/arm64") || strings.Contains(said, "built from") {
		t.Errorf("with a belfry that is given it says\n%s", said)
	}
	healthy(pid)
	nothing("--binary", given)
	runs("long", "running")
	h.do("echo go > /home/admin/belfry/ttandaudio/current/gate")
	if code := long.wait(); code != 0 {
		t.Errorf("the run that was followed over all of it exits with %d", code)
	}
	if out, said, _ := admin.there("logs", "long"); out != "begun\nended\n" {
		t.Errorf("its output is %q %s", out, said)
	}

	// Who is stopped is stopped with all that it started.
	stray := follow("stray")
	const strays = "pgrep -c -x -f 'sleep 4711'"
	h.until("it has started what strays", time.Minute, func() (bool, string) {
		said := h.said(strays)
		return said == "1", said
	})
	if out, said, code := admin.there("stop", admin.runs("stray")[0].ID); code != 0 {
		t.Errorf("stop: exit code %d\n%s%s", code, out, said)
	}
	if code := stray.wait(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("the run that was stopped exits with %d", code)
	}
	runs("stray", "cancelled")
	h.is(strays, "0")

	follow("long")
	h.reboot()
	healthy(0)
	nothing("--binary", given)
	runs("long", "failed")

	if out, said, code := admin.deploy("remove", admin.host.Address(), "--all"); code != 0 {
		t.Errorf("remove: %d\n%s%s", code, out, said)
	}
	h.is("systemctl list-unit-files --no-legend 'belfry*'; pgrep -l belfry; ls /home/admin/belfry", "")
	h.is("systemctl is-system-running", "running")
}

// inSource is a folder in belfry's source, as the one is in which make build puts it.
func inSource(t *testing.T) string {
	t.Helper()
	const bin = "../../bin"
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(bin, "laptop-") //nolint:usetesting // a belfry elsewhere finds no source
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if dir, err = filepath.Abs(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

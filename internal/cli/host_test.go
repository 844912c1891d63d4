package cli

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belfry/internal/machine"
	"belfry/internal/python/pythontest"
	"belfry/internal/remote/sshtest"
)

var hosts = flag.Bool("host", false, "make a Debian host, if there is none in the cache, and deploy to it")

const (
	mirror  = "http://deb.debian.org/debian"
	systemd = "/lib/systemd/systemd"
)

// debian is a host: Debian as debootstrap makes it, with processes, a network, and
// a systemd of its own. It has neither Python nor belfry.
type debian struct {
	t       *testing.T
	root    string // as debootstrap made it, shared by all hosts and written by none
	keeps   string // what this one wrote
	init    string // what is process 1
	cgroup  string
	link    string // our end of the cable
	address string
	gateway string
	users   int64 // the first number of its users, which no account of this machine has
	key     string
	pid     int // of process 1, as we see it
	done    chan struct{}
}

var debians atomic.Int64

// newDebian boots a host.
func newDebian(t *testing.T, init string) *debian {
	t.Helper()
	machine.NeedsRoot(t)
	n := (int64(os.Getpid())*4 + debians.Add(1)) % (1 << 15) // a network of four addresses for each
	network := fmt.Sprintf("198.%d.%d.", 18+n>>14, n>>6&255)
	d := &debian{
		t: t, root: debianRoot(t), keeps: t.TempDir(), init: init, link: fmt.Sprintf("belfry%d", n),
		gateway: fmt.Sprint(network, n&63*4+1), address: fmt.Sprint(network, n&63*4+2), users: 200_000 + 8*n,
	}
	d.key = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d.key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[2] == "cgroup2" {
			d.cgroup, err = os.MkdirTemp(fields[1], "belfry-host-") //nolint:usetesting // a cgroup, not a folder
		}
	}
	if d.cgroup == "" || os.Chmod(d.cgroup, 0o755) != nil { // its users go through it
		machine.Lacks(t, "a cgroup for a host: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "the host's cgroups are empty", func() bool { return removeCgroups(d.cgroup) == nil })
	})
	d.boot()
	t.Cleanup(func() {
		if t.Failed() && init == systemd {
			t.Logf("the host's journal ends with\n%s", d.said("journalctl --no-pager -n 60; systemctl --no-pager --failed"))
		}
		d.halt()
	})
	return d
}

// debianRoot gives the root directory, which is made once for the user.
func debianRoot(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		machine.Lacks(t, "a folder for caches: %v", err)
	}
	root := filepath.Join(cache, "belfry-test", "bookworm-1") // another number when what follows changes
	if answer, err := http.Head(mirror + "/dists/bookworm/InRelease"); err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		machine.Lacks(t, "a way to Debian's packages: %v", err)
	}
	if _, err := os.Stat(root); err == nil {
		return root
	}
	if !*hosts {
		machine.Lacks(t, "a Debian host: make host makes one")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		machine.Lacks(t, "debootstrap")
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(root), "unfinished-") //nolint:usetesting // it gets its name beside
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(unfinished) //nolint:errcheck // it has its name, or is rubbish
	t.Log("debootstrap makes a Debian host, once; it takes some minutes")
	out, err := exec.Command("debootstrap", "--variant=minbase",
		"--include=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo,cron,iproute2", "bookworm", unfinished, mirror).CombinedOutput()
	if err != nil {
		t.Fatalf("debootstrap: %v\n%s", err, out)
	}
	if err := errors.Join(os.Chmod(unfinished, 0o755), os.Rename(unfinished, root)); err != nil {
		t.Fatal(err)
	}
	return root
}

func removeCgroups(dir string) error {
	var list []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			list = append(list, path)
		}
		return err
	})
	for _, path := range slices.Backward(list) {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// boot starts the host and waits until it can be reached.
func (d *debian) boot() {
	d.t.Helper()
	cmd := exec.Command("sh", "testdata/host/boot.sh", d.root, d.keeps, d.cgroup, d.init)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, Setsid: true,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the death signal comes with the death of the thread
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		machine.Lacks(d.t, "namespaces for a host (CAP_SYS_ADMIN): %v", err)
	}
	d.pid, d.done = cmd.Process.Pid, done
	script := `ip link add "$1" type veth peer name eth0 netns "$2" && ip addr add "$3/30" dev "$1" && ip link set "$1" up`
	if out, err := exec.Command("sh", "-c", script, "sh", d.link, fmt.Sprint(d.pid), d.gateway).CombinedOutput(); err != nil {
		d.halt()
		machine.Lacks(d.t, "a network for a host: %s", out)
	}
	if _, err := fmt.Fprintln(stdin, d.address+"/30", d.gateway); err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, "the host answers", func() bool {
		select {
		case <-done:
			d.t.Fatalf("the host does not boot:\n%s", said.String())
		default:
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(d.address, "22"), time.Second)
		return err == nil && conn.Close() == nil
	})
}

// halt cuts the host's power.
func (d *debian) halt() {
	_ = syscall.Kill(d.pid, syscall.SIGKILL) // it may be off
	<-d.done
	_ = exec.Command("ip", "link", "del", d.link).Run() // the kernel is about to
}

func (d *debian) command(script string) *exec.Cmd {
	return exec.Command("nsenter", "--target", fmt.Sprint(d.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", script)
}

// do has root execute a shell script on the host, beside ssh.
func (d *debian) do(script string) {
	d.t.Helper()
	if out, err := d.command(script).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// said is what such a script prints, whatever its exit code.
func (d *debian) said(script string) string {
	out, err := d.command(script).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

// is expects what a script prints.
func (d *debian) is(script, want string) {
	d.t.Helper()
	if got := d.said(script); got != want {
		d.t.Errorf("%s prints %q, want %q", script, got, want)
	}
}

// account makes an account on the host, which is reached from a place with these
// files.
func (d *debian) account(name string, files ...string) *away {
	d.t.Helper()
	public, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		d.t.Fatal(err)
	}
	d.do(fmt.Sprintf("useradd -m -s /bin/bash -u %[3]d %[1]s && cd /home/%[1]s && mkdir .ssh && echo '%[2]s' > .ssh/authorized_keys && chown -R %[1]s: .ssh", name, public, d.users))
	d.users++
	a := &away{place: newPlace(d.t, files...), host: &sshtest.Server{Host: d.address, Port: "22", User: name, Home: "/home/" + name, Key: d.key}}
	a.env = append(a.env, "HOME="+d.t.TempDir(), "SSH_AUTH_SOCK=")
	if err := os.Remove(a.path("mail")); err != nil {
		d.t.Fatal(err)
	}
	return a
}

// packages lets the host's apt reach Debian, and nothing else of the host.
func (d *debian) packages() {
	d.t.Helper()
	listener, err := net.Listen("tcp", d.gateway+":0")
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}})
	proxy.Listener = listener
	proxy.Start()
	d.t.Cleanup(proxy.Close)
	d.do(fmt.Sprintf("echo 'Acquire::http::Proxy \"%s\";' > /etc/apt/apt.conf.d/90proxy", proxy.URL))
}

// A machine as it is rented: Debian with systemd, sshd, cron, and an account that
// may use sudo; and nothing that belfry needs.
func TestSystemdKeepsWhatIsDeployed(t *testing.T) {
	t.Parallel()
	d := newDebian(t, systemd)
	d.packages()
	d.is("systemctl is-system-running --wait", "running")
	d.is("command -v python3 belfry", "")

	binary := filepath.Join(t.TempDir(), "belfry")
	build(t, binary)
	admin := d.account("admin")
	d.do("echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin")
	if err := os.CopyFS(admin.dir, os.DirFS("../../examples/ttandaudio")); err != nil {
		t.Fatal(err)
	}
	wheel, content := pythontest.Wheel(t, "tiny", "1.0")
	admin.write("wheels/"+wheel, string(content))
	admin.write("requirements.txt", "--no-index\n--find-links ./wheels\ntiny==1.0\n")
	admin.write("belfry.yaml", admin.read("belfry.yaml")+`
  tower: {command: tiny, python: requirements.txt}
  long: {command: echo begun; read go < gate; echo ended}
`)
	out, said := admin.deploys("--binary", binary, "--run", "top-tracks")
	t.Log(out, said)
	for _, want := range []string{"1  install python3 with venv with apt-get, for ", "make the Python environments of tower", "kept running by systemd, as admin", "✓ 5"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	const unit = "belfry-admin-ttandaudio"
	d.is("systemctl is-active "+unit, "active")
	d.is("systemctl is-enabled "+unit, "enabled")
	d.is("ls -d /home/admin/belfry/ttandaudio/shared/lake/top-tracks/*/_SUCCESS | wc -l", "1")
	if out, said, code := admin.there("run", "tower"); code != 0 || out != "tiny 1.0\n" {
		t.Errorf("the first run with packages: %d %q %s", code, out, said)
	}

	// A job outlives the daemon, however that ends.
	d.do("runuser -u admin -- mkfifo -m 600 /home/admin/belfry/ttandaudio/current/gate")
	follow := admin.start("-H", admin.host.Address(), "-i", d.key, "run", "long")
	follow.until("long  run")
	eventually(t, "the job runs", func() bool { return admin.runs("long")[0].State == "running" })
	first := admin.status().Health.PID
	d.do("systemctl kill --kill-whom=main --signal=KILL " + unit)
	eventually(t, "systemd has started another daemon", func() bool {
		st := admin.status()
		return st.Health != nil && st.Health.PID != first && st.Health.Plans && st.Health.Error == ""
	})
	second := admin.status().Health.PID
	d.do("systemctl restart " + unit) // which waits until it is ready
	if st := admin.status(); st.Health == nil || st.Health.PID == second {
		t.Errorf("after a restart the status is %+v", st)
	}
	if state := admin.runs("long")[0].State; state != "running" {
		t.Errorf("after the daemon was killed and restarted the job is %s", state)
	}
	d.do("echo go > /home/admin/belfry/ttandaudio/current/gate")
	if code := follow.wait(); code != 0 {
		t.Errorf("the run that was followed over all of it exits with %d", code)
	}
	if out, said, _ := admin.there("logs", "long"); out != "begun\nended\n" {
		t.Errorf("its output is %q %s", out, said)
	}

	// Who has no sudo has a systemd of their own, where polkit lets it linger.
	plain := d.account("plain", "belfry.yaml", music, "tracks.sh", "echo x > $BELFRY_OUTPUT/songs.txt\n")
	d.do("mkdir -p /home/plain/belfry/music && cp -r /home/admin/belfry/ttandaudio/bin /home/plain/belfry/music && chown -R plain: /home/plain/belfry") // not to wait for it again
	_, said = plain.deploys("--binary", binary, "--run", "tracks")
	t.Log(said)
	for _, want := range []string{"kept running by a process in the background, started at boot by cron", "loginctl enable-linger plain"} {
		if !strings.Contains(said, want) {
			t.Errorf("where nobody may have a systemd that outlives the session it does not say %q", want)
		}
	}
	lingers := func(how string) {
		t.Helper()
		if _, said := plain.deploys("--binary", binary); !strings.Contains(said, "kept running by the systemd of plain, also while nobody is logged in") {
			t.Errorf("%s, it does not become a unit of plain's own:\n%s", how, said)
		}
		d.is("loginctl show-user plain -p Linger; crontab -u plain -l", "Linger=yes")
	}
	d.do("loginctl enable-linger plain")
	lingers("when root has let plain linger")

	d.halt()
	d.boot()
	for _, a := range []*away{admin, plain} {
		eventually(t, "the daemon of "+a.host.User+" runs after the boot", func() bool {
			st := a.status()
			return st.Health != nil && st.Health.Plans && st.Health.Error == ""
		})
		if _, said := a.deploys("--binary", binary); !strings.Contains(said, "nothing to do") {
			t.Errorf("a second deploy as %s does\n%s", a.host.User, said)
		}
	}

	if out, said, code := plain.deploy("remove", plain.host.Address()); code != 0 {
		t.Errorf("remove: %d\n%s%s", code, out, said)
	}
	d.do("loginctl disable-linger plain; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends polkitd")
	lingers("when polkit lets plain say so")

	for _, a := range []*away{admin, plain} {
		if out, said, code := a.deploy("remove", a.host.Address(), "--all"); code != 0 {
			t.Errorf("remove as %s: %d\n%s%s", a.host.User, code, out, said)
		}
	}
	d.is("systemctl list-unit-files --no-legend 'belfry*'; pgrep -l belfry", "")
	d.is("systemctl is-system-running", "running")
}

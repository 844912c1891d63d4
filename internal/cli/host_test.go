//go:build host

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belfry/internal/machine"
	"belfry/internal/python/pythontest"
	"belfry/internal/remote/sshtest"
)

const mirror = "http://deb.debian.org/debian"

// What process 1 of a host is.
var (
	systemd  = []string{"/lib/systemd/systemd"}
	onlyCron = []string{"sh", "-c", "mkdir /run/sshd; cron; exec /usr/sbin/sshd -D"}
)

// debian is a host that a test may do to what it likes, wherever it is.
type debian struct {
	t       *testing.T
	address string
	port    string                        // of its sshd
	key     string                        // lets everybody in whom account makes
	users   int64                         // the first number of its users, which no account of this machine has
	command func(script string) *exec.Cmd // has root execute it there, beside belfry's ssh
}

// namespaced is Debian as debootstrap makes it in namespaces of this machine's kernel:
// with processes, a network, and a systemd of its own. It has neither Python nor belfry.
type namespaced struct {
	*debian
	root   string // as debootstrap made it, shared by all hosts and written by none
	keeps  string // what this one wrote
	init   []string
	cgroup string
	cable  sshtest.Cable
	pid    int // of process 1, as we see it
	done   <-chan struct{}
}

var debians atomic.Int64

// newDebian boots a host that is as debootstrap makes it.
func newDebian(t *testing.T, init []string) *namespaced {
	t.Helper()
	machine.NeedsRoot(t)
	return boots(t, debianRoot(t), init)
}

// boots boots a root directory.
func boots(t *testing.T, root string, init []string) *namespaced {
	t.Helper()
	n := (int64(os.Getpid())*4 + debians.Add(1)) % (1 << 15)
	d := &namespaced{
		debian: &debian{t: t, port: "22", key: newKey(t), users: 200_000 + 8*n},
		root:   root, keeps: t.TempDir(), init: init,
	}
	d.command = d.enter
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
		d.explain()
		d.halt()
	})
	return d
}

// explain shows what the host knows of a test that failed.
func (d *debian) explain() {
	if d.t.Failed() {
		d.t.Logf("the host's journal ends with\n%s", d.said("journalctl --no-pager -n 60; systemctl --no-pager --failed"))
	}
}

// newKey makes the key by which a host is reached.
func newKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return key
}

// debianRoot gives the root directory.
func debianRoot(t *testing.T) string {
	t.Helper()
	return made(t, "bookworm-1", func(dir string) { // another number when what follows changes
		t.Log("debootstrap makes a Debian host, once; it takes some minutes")
		debootstrap(t, dir, "--include=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo,cron,iproute2")
	})
}

// debootstrap puts Debian into a folder.
func debootstrap(t *testing.T, dir string, options ...string) {
	t.Helper()
	cmd := exec.Command("debootstrap", append(append([]string{"--variant=minbase"}, options...), "bookworm", dir, mirror)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v\n%s", err, out)
	}
}

// making is held while what hosts are booted from is made: hosts of the same kind wait for it.
var making sync.Mutex

// made gives a folder of the user's cache with what a host is booted from. It is made
// once, whole or not at all.
func made(t *testing.T, name string, fill func(dir string)) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		machine.Lacks(t, "a folder for caches: %v", err)
	}
	making.Lock()
	defer making.Unlock()
	root := filepath.Join(cache, "belfry-test", name)
	if answer, err := http.Head(mirror + "/dists/bookworm/InRelease"); err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		machine.Lacks(t, "a way to Debian's packages: %v", err)
	}
	if _, err := os.Stat(root); err == nil {
		return root
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
	fill(unfinished)
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
func (d *namespaced) boot() {
	d.t.Helper()
	cmd := exec.Command("sh", append([]string{"testdata/host/boot.sh", d.root, d.keeps, d.cgroup}, d.init...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if d.done, err = sshtest.Power(cmd); err != nil {
		machine.Lacks(d.t, "namespaces for a host (CAP_SYS_ADMIN): %v", err)
	}
	d.pid = cmd.Process.Pid
	d.cable.Plug(d.t, os.Getpid(), d.pid)
	d.address = d.cable.Far
	if _, err := fmt.Fprintln(stdin, "plugged"); err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, "the host answers", func() bool {
		select {
		case <-d.done:
			d.t.Fatalf("the host does not boot:\n%s", said.String())
		default:
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(d.address, d.port), time.Second)
		return err == nil && conn.Close() == nil
	})
}

// halt cuts the host's power.
func (d *namespaced) halt() {
	select {
	case <-d.done: // it is off
	default:
		_ = syscall.Kill(d.pid, syscall.SIGKILL)
		<-d.done
	}
	d.cable.Unplug()
}

// reboot shuts the host down as a person does, and boots it.
func (d *namespaced) reboot() {
	d.t.Helper()
	d.said("systemctl reboot") // whoever says it may be gone before it answers
	select {
	case <-d.done:
	case <-d.t.Context().Done():
	case <-time.After(2 * time.Minute):
		d.t.Fatal("the host does not shut down")
	}
	d.halt()
	d.boot()
}

func (d *namespaced) enter(script string) *exec.Cmd {
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

// until asks once a second, since each question is a process or more, whether
// something holds, and says what else is the case when it does not in time.
func (d *debian) until(what string, patience time.Duration, holds func() (yes bool, said string)) {
	d.t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		yes, said := holds()
		if yes {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			d.t.Fatalf("waited %v until %s:\n%s", patience, what, said)
		}
	}
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
	d.do(fmt.Sprintf("useradd -m -s /bin/bash -u %[3]d %[1]s && cd /home/%[1]s && mkdir .ssh && echo '%[2]s' > .ssh/authorized_keys && chown -R %[1]s: .ssh && if command -v restorecon; then restorecon -R .ssh; fi", name, public, d.users))
	d.users++
	a := &away{place: newPlace(d.t, files...), host: &sshtest.Server{Host: d.address, Port: d.port, User: name, Home: "/home/" + name, Key: d.key}}
	a.env = append(a.env, "HOME="+d.t.TempDir(), "SSH_AUTH_SOCK=")
	if err := os.Remove(a.path("mail")); err != nil {
		d.t.Fatal(err)
	}
	return a
}

// packages lets the host's apt reach Debian, and nothing else of the host.
func (d *namespaced) packages() {
	d.t.Helper()
	listener, err := net.Listen("tcp", d.cable.Near+":0")
	if err != nil {
		d.t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}})
	proxy.Listener = listener
	proxy.Start()
	d.t.Cleanup(proxy.Close)
	d.do(fmt.Sprintf("echo 'Acquire::http::Proxy \"%s\";' > /etc/apt/apt.conf.d/90proxy", proxy.URL))
}

// updating makes the host one that is about to update itself: who installs something
// there must wait. It gives when that is over, which is once somebody waits.
func (d *namespaced) updating() <-chan struct{} {
	d.t.Helper()
	d.do("mkdir -p /var/lib/apt/lists/partial && touch /var/lib/apt/lists/lock /var/lib/dpkg/lock-frontend")
	lock := func(path string) io.Closer {
		file, err := os.OpenFile(filepath.Join("/proc", fmt.Sprint(d.pid), "root", path), os.O_RDWR, 0)
		if err == nil {
			err = syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
		}
		if err != nil {
			d.t.Fatal(err)
		}
		return file
	}
	lists, packages := lock("/var/lib/apt/lists/lock"), lock("/var/lib/dpkg/lock-frontend")
	over := make(chan struct{})
	go func() {
		defer close(over)
		for _, step := range []struct {
			waits string // the command that does
			lock  io.Closer
		}{{"sleep 5", lists}, {"apt-get install", packages}} {
			for !strings.Contains(d.said("ps -e -o args"), "\n"+step.waits) {
				if d.t.Context().Err() != nil {
					return
				}
			}
			_ = step.lock.Close() // which lets it go
		}
	}()
	return over
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
	copyExample(t, admin.dir)
	wheel, content := pythontest.Wheel(t, "tiny", "1.0")
	admin.write("wheels/"+wheel, string(content))
	admin.write("requirements.txt", "--no-index\n--find-links ./wheels\ntiny==1.0\n")
	admin.write("belfry.yaml", admin.read("belfry.yaml")+`
  tower: {command: tiny, python: requirements.txt}
  long: {command: echo begun; read go < gate; echo ended, retry: {attempts: 1}}
`)
	updated := d.updating()
	out, said := admin.deploys("--binary", binary, "--run", "top-tracks")
	select {
	case <-updated:
	default:
		t.Error("it did not wait until the host had updated itself")
	}
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
		t.Fatalf("after the daemon was killed and restarted the job is %s", state)
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

	admin.start("-H", admin.host.Address(), "-i", d.key, "run", "long").until("long  run")
	eventually(t, "the job runs", func() bool { return admin.runs("long")[0].State == "running" })
	d.reboot()
	for _, a := range []*away{admin, plain} {
		eventually(t, "the daemon of "+a.host.User+" runs after the boot", func() bool {
			st := a.status()
			return st.Health != nil && st.Health.Plans && st.Health.Error == ""
		})
		if _, said := a.deploys("--binary", binary); !strings.Contains(said, "nothing to do") {
			t.Errorf("a second deploy as %s does\n%s", a.host.User, said)
		}
	}

	eventually(t, "the job is known to have ended with the machine", func() bool { return admin.runs("long")[0].Finished() })
	if run := admin.runs("long")[0]; run.State != "failed" || run.Reason != "killed by SIGTERM" {
		t.Errorf("a reboot ends a job so: %s, %s", run.State, run.Reason)
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

// program puts belfry on the host, where others than root can write.
func (d *debian) program() {
	d.t.Helper()
	binary := filepath.Join(d.t.TempDir(), "belfry")
	build(d.t, binary)
	program, err := os.Open(binary)
	if err != nil {
		d.t.Fatal(err)
	}
	defer program.Close() //nolint:errcheck // it was only read
	put := d.command("cat > /tmp/belfry && chmod 755 /tmp/*")
	put.Stdin = program
	if out, err := put.CombinedOutput(); err != nil {
		d.t.Fatalf("put belfry on the host: %v\n%s", err, out)
	}
}

// next is the line that a job, which must be one of the next minute, writes into a
// pipe.
func (d *debian) next(pipe, by string) (line string) {
	d.t.Helper()
	line = d.said(fmt.Sprintf("rm -f %[1]s; mkfifo -m 666 %[1]s && timeout 90 head -n 1 %[1]s", pipe))
	if line == "" {
		d.t.Errorf("%s does not run what writes into %s", by, pipe)
	}
	return line
}

// mainPID is the number, on the host, of the belfry that is its cron.
func (d *debian) mainPID() string { return d.said("systemctl show --property=MainPID --value belfry") }

func TestBelfryIsTheCronOfAHostWithSystemdAndLetsItHaveItBack(t *testing.T) {
	t.Parallel()
	d := newDebian(t, systemd)
	d.packages()
	d.program()
	d.account("bell")
	d.do(`crontab -u bell - <<'END'
* * * * * echo $$ > minute; exec sleep 600
@reboot echo $$ > booted; echo once >> boots; exec sleep 600
END`)
	next := func(by string) (pid string) { return d.next("/home/bell/minute", by) }

	d.do("/tmp/belfry install --system")
	d.is("systemctl is-active belfry cron", "active\ninactive")
	d.is("systemctl is-enabled belfry cron", "enabled\nmasked")
	d.is("readlink /usr/bin/crontab", "/usr/local/bin/belfry")
	if said := d.said("/tmp/belfry install --system"); strings.Count(said, "done already: ") != 8 || strings.Count(said, "\n") != 7 {
		t.Errorf("a second time install says\n%s", said)
	}
	d.is("systemctl start cron 2>&1", "Failed to start cron.service: Unit cron.service is masked.")
	job := "kill -0 " + next("belfry") + " && echo runs"
	d.is("runuser -u bell -- crontab -l | grep -c @reboot", "1")

	// Another daemon, and the job goes on.
	kill := "systemctl kill --kill-whom=main --signal=KILL belfry"
	for _, how := range []string{"systemctl restart belfry", kill, kill, kill, kill, kill, kill} { // more than systemd has patience for, unless it is told
		before := d.mainPID()
		d.do(how)
		eventually(t, "another daemon is there after "+how, func() bool {
			now := d.mainPID()
			return now != "0" && now != before && d.said("systemctl is-active belfry") == "active"
		})
	}
	d.is(job, "runs")
	before := d.mainPID()
	d.do("systemctl reload belfry")
	if now := d.mainPID(); now != before {
		t.Errorf("a reload makes process %s of %s", now, before)
	}

	// An upgrade of cron neither starts it nor takes the crontab command back.
	d.do("export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --reinstall cron")
	d.is("systemctl is-active belfry cron", "active\ninactive")
	d.is("readlink /usr/bin/crontab", "/usr/local/bin/belfry")

	d.halt()
	d.boot()
	d.is("systemctl is-system-running --wait", "running")
	d.is("systemctl is-active belfry cron", "active\ninactive")
	eventually(t, "belfry runs what is for a boot", func() bool { return d.said("cat /home/bell/boots") == "once" })

	job = "kill -0 $(cat /home/bell/booted) && echo runs"
	d.do("/usr/local/bin/belfry uninstall --system")
	d.is(job, "runs")
	d.is("systemctl is-active cron belfry", "active\ninactive")
	d.is("systemctl is-enabled cron", "enabled")
	d.is("ls /usr/local/bin/belfry /etc/systemd/system/belfry.service /etc/systemd/system/cron.service /usr/bin/crontab.belfry-kept 2>/dev/null", "")
	d.is("test -L /usr/bin/crontab || dpkg --verify cron; dpkg-divert --list '*crontab*'", "")
	d.is("runuser -u bell -- crontab -l | grep -c @reboot", "1")
	next("cron")
	d.is("cat /home/bell/boots", "once")
	d.is("systemctl --failed --no-legend --plain", "")
}

// Without systemd, sudo and Python: what root must do is said, and cron starts the
// daemon with the machine.
func TestAHostWithoutSystemdKeepsItInTheBackground(t *testing.T) {
	t.Parallel()
	d := newDebian(t, onlyCron)
	d.packages()
	binary := filepath.Join(t.TempDir(), "belfry")
	build(t, binary)
	a := d.account("plain", "belfry.yaml", "project: music\njobs:\n  song: {command: 'python3 -c \"print(4711)\"'}\n")
	const want = "python3 is needed by song and cannot be installed by plain: have root do\n    apt-get install --no-install-recommends python3 python3-venv\n"
	if out, said, code := a.deploy(a.host.Address(), "--binary", binary); code != exitRefused || !strings.Contains(said, want) {
		t.Errorf("without Python: exit code %d\n%s%s", code, out, said)
	}
	d.is("ls -A /home/plain", d.said("ls -A /etc/skel; echo .ssh"))
	d.do("apt-get update -qq && apt-get install --no-install-recommends -y -qq python3 python3-venv")
	_, said := a.deploys("--binary", binary)
	if !strings.Contains(said, "kept running by a process in the background, started at boot by cron") {
		t.Errorf("it says\n%s", said)
	}
	first := a.status().Health.PID
	d.do(fmt.Sprintf("kill -9 %d", first))
	runs := func() bool { st := a.status(); return st.Health != nil && st.Health.PID != first && st.Health.Plans }
	eventually(t, "another daemon is there after it was killed", runs)
	first = a.status().Health.PID
	d.halt()
	d.boot()
	eventually(t, "cron has started it with the machine", runs)
	if out, said, code := a.there("run", "song"); code != 0 || out != "4711\n" {
		t.Errorf("run: exit code %d\n%s%s", code, out, said)
	}
	if out, said, code := a.deploy("remove", a.host.Address(), "--all"); code != 0 {
		t.Errorf("remove: %d\n%s%s", code, out, said)
	}
	d.is("ls -A /home/plain/belfry; crontab -u plain -l; pgrep -l belfry", "")
}

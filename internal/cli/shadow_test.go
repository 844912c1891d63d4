//go:build linux

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/machine"
)

// besideCron gives a machine crontabs of ours and a log, starts its cron if CRON
// names one, makes the mark of one that has been there if MARK names it, and
// becomes what follows.
const besideCron = `set -e
log=$1 user=$2 system=$3; shift 3
mount -t tmpfs none /run
mount -t tmpfs -o mode=755 none /etc/cron.d
mount -t tmpfs -o mode=755 none /var/spool/cron
if [ -e /etc/crontab ]; then : >/run/crontab; mount --bind /run/crontab /etc/crontab; fi
mkdir /run/dev
mount -t tmpfs none /run/dev
for node in null zero full random urandom; do : >/run/dev/$node; mount --bind /dev/$node /run/dev/$node; done
: >/run/dev/log
mount --bind "$log" /run/dev/log
mount --move /run/dev /dev
mkdir -m 1730 /var/spool/cron/crontabs
install -m 600 "$user" /var/spool/cron/crontabs/root
install -m 644 "$system" /etc/cron.d/sample
if [ -n "$MARK" ]; then : >"$MARK"; fi
if [ -n "$CRON" ]; then "$CRON" -f </dev/null >/dev/null 2>&1 & fi
exec "$@"`

// machineLog is a socket in the place of /dev/log.
type machineLog struct {
	conn *net.UnixConn
	done chan struct{}

	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

// listenLog puts it at path, and hands all that comes on to others.
func listenLog(t *testing.T, path string, to ...*net.UnixConn) *machineLog {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	l := &machineLog{conn: conn, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			for _, other := range to {
				if _, err := other.Write(buf[:n]); err != nil {
					t.Errorf("hand a line of the log on: %v", err)
				}
			}
			l.mu.Lock()
			fmt.Fprintf(&l.text, "%s\n", strings.TrimRight(string(buf[:n]), "\x00\n"))
			l.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-l.done
	})
	return l
}

func (l *machineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestAShadowBesideDebiansCronPlansWhatThatStarts(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	if _, err := os.Stat("/usr/sbin/cron"); err != nil {
		t.Fatal("Debian's package cron is missing: tools/test.sh installs it")
	}
	at := soon().UTC()
	p := newPlace(t,
		"user", fmt.Sprintf("* * * * * cat >%s%%input\n%d %d * * * : 밤\té \\%% $((1 + 2))\n* * * * * :\n* * * * * :\n0 %d * * * : never\n", newFile(t), at.Minute(), at.Hour(), (at.Hour()+2)%24),
		"system", "MAILTO=\"\"\n* * * * * root : as root\n* * * * * nobody : as nobody\n@reboot root : at the start\n")
	journal, journald := p.startJournal()
	log := listenLog(t, p.path("log"), journal)
	serve := p.serveMachine("CRON=/usr/sbin/cron", "--shadow")
	serve.until(": it is a shadow")

	client := api.Unix(p.path("data"))
	t.Cleanup(client.Close)
	deadline := time.NewTimer(100 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	minute := regexp.MustCompile(regexp.QuoteMeta(at.Format("Jan _2 15:04")) + `:\d\d CRON\[\d+\]: \(\w+\) CMD`)
	for len(minute.FindAllString(log.String(), -1)) < 6 {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("cron has not started all in its minute:\n%s", log)
		}
	}
	if _, err := client.Start(context.Background(), api.RunRequest{Job: "root/cat"}); err == nil || !strings.Contains(err.Error(), "--shadow") {
		t.Errorf("a run by hand: %v; want that a shadow starts nothing", err)
	}
	runs, err := client.Runs(context.Background(), api.RunFilter{})
	if err != nil || len(runs) < 6 {
		t.Fatalf("the account has %+v, %v", runs, err)
	}
	for _, r := range runs {
		if r.State != "skipped" || r.Reason != "shadow" || r.Attempt != 0 {
			t.Errorf("%s is %s (%s) after %d attempts; want skipped (shadow)", r.Job, r.State, r.Reason, r.Attempt)
		}
	}

	since, until := "--since="+at.Format(time.RFC3339), "--until="+at.Add(59*time.Second).Format(time.RFC3339)
	p.write("cron.log", log.String())
	out, said, code := p.belfry("shadow", "diff", "--data", p.path("data"), "--log", p.path("cron.log"), since, until)
	if code != 0 || !strings.HasPrefix(out, "6 firings are the same from ") {
		t.Errorf("diff exits with %d and says\n%s%s\nof\n%s", code, out, said, log)
	}

	// On a machine whose only log is systemd's journal.
	cmd := exec.Command("nsenter", "--target", fmt.Sprint(journald), "--mount", "--", p.path("belfry"), "shadow", "diff", "--data", p.path("data"), since, until)
	cmd.Dir, cmd.Env = p.dir, p.env
	text, err := cmd.CombinedOutput()
	if out := string(text); err != nil || !strings.HasPrefix(out, "6 firings are the same from ") || !strings.Contains(out, ", by the journal\n") {
		t.Errorf("of the journal diff says %v\n%s", err, out)
	}

	// What is edited since then changes nothing of it; nor does it that the log is compressed.
	tab := fmt.Sprintf("/proc/%d/root/var/spool/cron/crontabs/root", serve.cmd.Process.Pid)
	if err := os.WriteFile(tab, []byte("0 1 * * * another\n* * * * * true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if jobs, err := client.Jobs(context.Background(), api.JobFilter{}); err != nil || !slices.ContainsFunc(jobs, func(j api.Job) bool { return j.Command == "another" }) {
		t.Fatalf("after the edit the jobs are %+v, %v", jobs, err)
	}
	if text, err := exec.Command("gzip", "--keep", p.path("cron.log")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out, said, code = p.belfry("shadow", "diff", "--data", p.path("data"), "--log", p.path("cron.log.gz"), since, until)
	if code != 0 || !strings.HasPrefix(out, "6 firings are the same from ") {
		t.Errorf("after an edit diff exits with %d and says\n%s%s\nof\n%s", code, out, said, log)
	}

	// One that cron did not start, one that it started twice, and one of others.
	var lines []string
	for line := range strings.Lines(log.String()) {
		switch {
		case strings.Contains(line, "(nobody) CMD (: as nobody)"):
			line = strings.Replace(line, "nobody)", "daemon)", 1)
		case strings.Contains(line, "(root) CMD (: as root)"):
			line += line
		}
		lines = append(lines, line)
	}
	p.write("cron.log", strings.Join(lines, ""))
	out, said, code = p.belfry("shadow", "diff", "--data", p.path("data"), "--log", p.path("cron.log"), since, until, "--json")
	var d difference
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != exitDiffers {
		t.Fatalf("diff --json exits with %d, %v:\n%s%s", code, err, out, said)
	}
	if d.Same != 5 || len(d.Cron) != 2 || d.Cron[0].User+d.Cron[1].User != "daemonroot" && d.Cron[0].User+d.Cron[1].User != "rootdaemon" ||
		len(d.Belfry) != 1 || d.Belfry[0].User != "nobody" || d.Belfry[0].Command != ": as nobody" || !d.Belfry[0].FiresAt.Equal(at) {
		t.Errorf("diff says\n%s", out)
	}
	if out, said, code := p.belfry("shadow", "diff", "--data", p.path("data"), "--log", p.path("cron.log"), "--until=2026-01-01"); code != exitNotFound || out != "" || !strings.Contains(said, "there is nothing to compare") {
		t.Errorf("of a time before the shadow diff exits with %d and says\n%s%s", code, out, said)
	}
	if out, _, _ := p.belfry("shadow", "diff", "--data", p.path("data"), "--log", p.path("cron.log"), since, until); !strings.Contains(out, "cron started, and belfry did not plan:\n") ||
		!strings.Contains(out, "belfry planned, and cron did not start:\n  "+at.Format("2006-01-02 15:04:05 MST")+"  nobody  cron.d/sample/") {
		t.Errorf("in words it says\n%s", out)
	}
}

// besideJournal gives systemd's journal a machine of its own.
const besideJournal = `set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p /run/log/journal
exec /lib/systemd/systemd-journald`

// startJournal starts a journal, and gives what it hears on and its pid.
func (p *place) startJournal() (*net.UnixConn, int) {
	p.t.Helper()
	if _, err := os.Stat("/lib/systemd/systemd-journald"); err != nil {
		p.t.Fatal("Debian's package systemd is missing: tools/test.sh installs it")
	}
	cmd := exec.Command("sh", "-c", besideJournal)
	p.startCommand(cmd)
	socket := fmt.Sprintf("/proc/%d/root/run/systemd/journal/dev-log", cmd.Process.Pid)
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err == nil {
			p.t.Cleanup(func() { _ = conn.Close() })
			return conn, cmd.Process.Pid
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the journal does not listen: %v", err)
		}
		runtime.Gosched()
	}
}

func TestALogIsReadAsFarBackAsItCanBe(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 7, 9, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ why, files, want string }{ // files: name, days after from that it was last written
		{"by number", "syslog 5, syslog.1 4, syslog.2.gz 2, syslog.3.gz -1", "syslog.2.gz syslog.1 syslog"},
		{"by date", "syslog 5, syslog-20260712 3, syslog-20260710.gz 1, syslog-20260708 -1", "syslog-20260710.gz syslog-20260712 syslog"},
		{"what cannot be read ends it", "syslog 5, syslog.1 4, syslog.2.xz 3, syslog.3.gz 2", "syslog.1 syslog"},
		{"other files are none of it", "syslog 5, syslog.conf 4, syslog-ng 4, syslog2 4", "syslog"},
		{"one that nobody writes any more says nothing", "syslog -3, syslog.1 -9", ""},
		{"there is none", "", ""},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file := range strings.SplitSeq(c.files, ", ") {
				name, days, _ := strings.Cut(file, " ")
				after, _ := strconv.Atoi(days)
				if name == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, from.AddDate(0, 0, after)); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, path := range sinceRotated(filepath.Join(dir, "syslog"), from) {
				got = append(got, filepath.Base(path))
			}
			if have := strings.Join(got, " "); have != c.want {
				t.Errorf("of %s since %s are read %q; want %q", c.files, from, have, c.want)
			}
		})
	}
}

func TestASwitchOfCronsIsNoStartOfTheMachine(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	for _, c := range []struct {
		mark string
		runs int
	}{{"/run/crond.reboot", 0}, {"", 1}} {
		p := newPlace(t, "user", "@reboot :\n", "system", "")
		listenLog(t, p.path("log"))
		serve := p.serveMachine("MARK=" + c.mark)
		serve.until(": ready, 1 job")
		client := api.Unix(p.path("data"))
		t.Cleanup(client.Close)
		runs, err := client.Runs(context.Background(), api.RunFilter{})
		if err != nil || len(runs) != c.runs {
			t.Errorf("with the mark %q: %d runs, %v; want %d", c.mark, len(runs), err, c.runs)
		}
		if info, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/crond.reboot", serve.cmd.Process.Pid)); err != nil {
			t.Errorf("with the mark %q: cron would find %v, %v", c.mark, info, err)
		}
		serve.end(syscall.SIGTERM)
	}
}

func TestImportDrawsWhatTheDaemonDraws(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	p := newPlace(t, "user", "~ ~ * * * users\n", "system", "~ ~ * * * root systems\n", "log", "")
	out := p.besideCron("", `belfry import; mkdir "$1"; belfry jobs --system --data "$1"`, p.path("data"))
	for _, command := range []string{"users", "systems"} {
		drawn := regexp.MustCompile(`once and for all: (\d+ \d+) `).FindAllStringSubmatch(out, -1)
		next := regexp.MustCompile(`(?m) (\d\d):(\d\d) UTC .*` + command + `$`).FindStringSubmatch(out)
		if len(drawn) != 2 || next == nil || !slices.ContainsFunc(drawn, func(d []string) bool {
			minute, hour, _ := strings.Cut(d[1], " ")
			return fmt.Sprintf("%02s:%02s", hour, minute) == next[1]+":"+next[2]
		}) {
			t.Errorf("%s fires at %q; import has drawn %q:\n%s", command, next, drawn, out)
		}
	}
}

func TestTheMachinesCronIsFoundFromAFolderThatIsClosedToTheUser(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	p := newPlace(t, "user", "", "system", "", "log", "")
	out := p.besideCron("", `mkdir -m 755 /run/belfry; : >/run/belfry/sock; chmod 666 /run/belfry/sock; mkdir -m 700 /run/closed; cd /run/closed
		cp "$(readlink -f "$(command -v belfry)")" /run/belfry/belfry
		user() { setpriv --reuid 65534 --regid 65534 --clear-groups /run/belfry/belfry "$@" || echo "exit $?"; }
		user jobs; user crontab -l
		rm /run/belfry/sock; mount -t tmpfs -o mode=755 none /var/lib; user runs
		mkdir -m 711 /var/lib/belfry; : >/var/lib/belfry/installed.json; user runs`)
	cron := "belfry: the machine's cron is not running, and without it only root can look at its account or run its jobs\n  belfry serve --system starts it, as root\n" + fmt.Sprintf("exit %d\n", exitUnavailable)
	want := cron +
		"crontab: you cannot write the crontabs yourself, and the machine's belfry, which does it for you, does not answer on /run/belfry/sock: connection refused; root starts it with systemctl start belfry, or with belfry serve --system\nexit 1\n" +
		"belfry: look for belfry.yaml in this folder: stat .: permission denied\n  go to your project's folder: this one is closed to you\n" + fmt.Sprintf("exit %d\n", exitNotFound) +
		cron
	if out != want {
		t.Errorf("in a folder of root's a user is told\n%s\nwant\n%s", out, want)
	}
}

// besideCron gives a machine of its own to a script, and what that says.
func (p *place) besideCron(setting, script string, args ...string) string {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	bin := p.t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "belfry")); err != nil { // by that name it is belfry
		p.t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"-c", besideCron, "sh", p.path("log"), p.path("user"), p.path("system"), "sh", "-c", script, "sh"}, args...)...)
	cmd.Dir, cmd.Env = p.dir, append(p.env, setting, "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// serveMachine starts a daemon that is the cron of a machine of its own.
func (p *place) serveMachine(setting string, flags ...string) *process {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(self, p.path("belfry")); err != nil { // by that name it is belfry
		p.t.Fatal(err)
	}
	args := append([]string{"-c", besideCron, "sh", p.path("log"), p.path("user"), p.path("system"), p.path("belfry"), "serve", "--system", "--data", p.path("data")}, flags...)
	cmd := exec.Command("sh", args...)
	cmd.Env = append(p.env, setting)
	return p.startCommand(cmd)
}

// newFile is a path for a job's output, outside of what the machine's cron may
// not see.
func newFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "out")
}

// startCommand starts a command with mounts and processes of its own, which dies
// with the test.
func (p *place) startCommand(cmd *exec.Cmd) *process {
	p.t.Helper()
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	p.t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // cron is in its group
		}
	})
	return p.run(cmd)
}

//go:build linux

package crontest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
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

	"belfry/internal/machine"
	"belfry/internal/system"
)

// The same machine is set up twice, each time with mounts and processes of its own, and Debian's cron is its cron once,
// Belfry once. Both run the same crontabs at the same full minute. Every job reports what it finds, and the two must
// find the same.

// file is one of the machine's files.
type file struct {
	path, text string
	owner      string // root when empty
	mode       os.FileMode
	link       string // it is a link to that
	hard       string // it is another name of that
}

const noMode os.FileMode = 1 // stands for none at all

const (
	spool = "/var/spool/cron/crontabs/"
	crond = "/etc/cron.d/"
)

// report is what the jobs execute: it writes down what it finds under the name that is its first argument. A name that is
// begun and not there was cut off.
const report = `#!/bin/sh
out=/srv/report/$1
: >"$out.began"
{
	echo "folder $(pwd -P)"
	echo "ids $(id -u) $(id -g) groups $(id -G)"
	echo "umask $(umask)"
	echo "arguments"; for word in "$@"; do printf '  %s\n' "$word"; done
	echo "input"; od -An -c
	echo "terminal $(cut -d' ' -f7 /proc/$$/stat)"
	echo "limits"; grep -vE '^Limit|^Max open files' /proc/self/limits # which pam_limits sets
	echo "signals"; while read -r line; do case $line in Sig[BI]*) echo "$line";; esac; done </proc/$$/status
	echo "environment"; tr '\0' '\n' </proc/$$/environ | sort
} >"$out.part" 2>&1
ls -l /proc/$$/fd >"$out.descriptors"
mv "$out.part" "$out"
`

// shell is a SHELL: it reports how it was called.
const shell = `#!/bin/sh
exec /srv/bin/report "shell" "$0" "$@"
`

// everyMinute are the crontabs.
var everyMinute = []file{
	{path: "/etc/crontab", text: `SHELL=/bin/sh
PATH=/srv/bin:/usr/bin:/bin
# a comment
* * * * * root report etc-root
* * * * *	alice	report etc-alice
* * * * * bob report etc-bob%in%put\%%
`},
	{path: crond + "ops", text: `* * * * * alice /srv/bin/report crond-alice
@reboot alice /srv/bin/report crond-reboot
MAILTO=bob
 NAME = value with blanks 
"A B"='quoted # name'
* * * * * alice /srv/bin/report crond-mailto
`},
	{path: crond + "UPPER_and-under0", text: "* * * * * root /srv/bin/report crond-upper\n"},
	{path: crond + "mode-0755", text: "* * * * * root /srv/bin/report crond-0755\n", mode: 0o755},
	{path: crond + "mode-0000", text: "* * * * * root /srv/bin/report crond-0000\n", mode: noMode},
	{path: crond + "linked", link: "/srv/linked"},
	{path: "/srv/linked", text: "* * * * * root /srv/bin/report crond-linked\n"},

	{path: spool + "alice", owner: "alice", mode: 0o600, text: `* * * * * /srv/bin/report alice-plain
FOO=bar
EMPTY=""
UTF8=밤 é
LOGNAME=root
USER=root
QUOTED="  two  words"
PATH=/srv/bin:/usr/bin:/bin
* * * * * report alice-environment
* * * * * report alice-input%one%two\%three%
* * * * * report alice-words 'a\\n' "\%" 밤 é \x
* * * * * report alice-fails; exit 3
* * * * * report alice-killed; kill -9 $$
* * * * * report alice-background & sleep 0
* * * * * cat /etc/shadow && report alice-reads-shadow
MAILTO=""
HOME=/tmp
* * * * * report alice-home
MAILTO=alice@example.com,bob
HOME=/nowhere
* * * * * report alice-nowhere
HOME=/home/alice
CRON_TZ=Asia/Seoul
* * * * * report alice-zone
LANG=C.UTF-8
LC_ALL=ko_KR.UTF-8
* * * * * report alice-locale
SHELL=/srv/bin/shell
* * * * * to the "shell"
`},
	{path: spool + "bob", owner: "bob", mode: 0o600, text: "* * * * * /srv/bin/report bob-plain\n"},
	{path: spool + "root", mode: 0o600, text: "* * * * * /srv/bin/report root-plain\n"},
	{path: spool + "carol", mode: 0o600, text: "* * * * * /srv/bin/report carol-roots-file\n"}, // root may write it

	// What neither reads.
	{path: crond + "with.dot", text: refused},
	{path: crond + "backup~", text: refused},
	{path: crond + ".hidden", text: refused},
	{path: crond + "new.dpkg-dist", text: refused},
	{path: crond + "group-writable", text: refused, mode: 0o664},
	{path: crond + "writable", text: refused, mode: 0o666},
	{path: crond + "alices", text: refused, owner: "alice"},
	{path: crond + "two-names", text: refused},
	{path: "/etc/cron.d/.another-name", hard: crond + "two-names"},
	{path: crond + "alices-link", link: "/srv/linked", owner: "alice"},
	{path: crond + "linked-to-alices", link: "/srv/alices"},
	{path: "/srv/alices", text: refused, owner: "alice"},
	{path: crond + "dangling", link: "/srv/not-there"},
	{path: spool + "dora", owner: "dora", mode: 0o644, text: refusedUser},
	{path: spool + "emil", owner: "alice", mode: 0o600, text: refusedUser},
	{path: spool + "fred", link: "/srv/freds"},
	{path: "/srv/freds", owner: "fred", mode: 0o600, text: refusedUser},
	{path: spool + "gina", owner: "gina", mode: 0o600, text: refusedUser},
	{path: "/var/spool/cron/ginas", hard: spool + "gina"},
	{path: spool + "hugo", owner: "hugo", mode: 0o4600, text: refusedUser},
	{path: spool + "ivan", owner: "ivan", mode: 0o600, text: strings.Repeat("A=1\n", 10_100) + refusedUser},
	{path: spool + "nobody-there", mode: 0o600, text: refusedUser},

	// What one reads and the other does not: see differences.
	{path: crond + "unknown-user", text: "* * * * * stranger /srv/bin/report by-a-stranger\n* * * * * root /srv/bin/report beside-a-stranger\n"},
	{path: crond + "bad-line", text: "* 25 * * * root /srv/bin/report refused\n* * * * * root /srv/bin/report beside-a-bad-line\n"},
	{path: crond + "no-newline", text: "* * * * * root /srv/bin/report before-no-newline\n* * * * * root /srv/bin/report refused"},
}

const (
	refused     = "* * * * * root /srv/bin/report refused\n"
	refusedUser = "* * * * * /srv/bin/report refused\n"
)

// both are the reports that there are to be on both sides.
var both = strings.Fields(`etc-root etc-alice etc-bob crond-alice crond-reboot crond-mailto crond-upper crond-0755 crond-0000 crond-linked
	alice-plain alice-environment alice-input alice-words alice-fails alice-killed alice-background alice-home alice-nowhere alice-zone alice-locale shell
	bob-plain root-plain carol-roots-file`)

// differences are reports that only Belfry has, and why. docs/system.md has the same.
var differences = map[string]string{
	"beside-a-stranger": "a line whose user is unknown keeps no other line from running",
	"beside-a-bad-line": "a line that is wrong keeps no other line from running",
	"before-no-newline": "a last line without a newline keeps no other line from running",
}

// users are on the machine beside its own: name → id and supplementary groups.
var users = []struct {
	name   string
	id     int
	groups []int
	home   string
}{
	{"alice", 4001, nil, "/home/alice"},
	{"bob", 4002, []int{4101, 4102}, "/nonexistent"},
	{"carol", 4003, nil, "/home/carol"},
	{"dora", 4004, nil, "/"},
	{"emil", 4005, nil, "/"},
	{"fred", 4006, nil, "/"},
	{"gina", 4007, nil, "/"},
	{"hugo", 4008, nil, "/"},
	{"ivan", 4009, nil, "/"},
}

// environment is what PAM gives sessions.
const environment = `# for all
GLOBAL=yes
export QUOTED_GLOBAL="a b"
PATH=/from/environment
EDITOR='vi'
not a variable
`

// side is one of the two machines.
type side struct {
	t    *testing.T
	dir  string // which is /srv there
	stop func()
	out  output
}

// output is what a side says, which is read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// newSide sets a machine up, with some files in its /srv, and has a shell there go on with start.
func newSide(t *testing.T, srv map[string]string, crontabs []file, start string, args ...string) *side {
	t.Helper()
	s := &side{t: t, dir: t.TempDir()}
	for name, text := range srv {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := machineScript(t, s.dir, crontabs) + start
	ctx := t.Context()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", s.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	// An environment of which nothing may be seen again.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ROOTS_SECRET=leaked", "LANG=de_DE.UTF-8", "MAILTO=leaked", "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the death signal comes with the death of the thread
		started <- cmd.Start()
		_ = cmd.Wait() // it is killed
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // and with process 1 all others
		<-ended
	})
	t.Cleanup(s.stop)
	return s
}

// machineScript puts the machine's files into place, as a shell does it whose mounts are its own.
func machineScript(t *testing.T, dir string, crontabs []file) string {
	t.Helper()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("set -e; umask 022")
	for _, folder := range []string{"/run", "/home", "/var/spool/cron", "/var/lib", "/var/mail"} {
		line("mount -t tmpfs -o mode=755 none %s", folder)
	}
	line("cp -a /etc /run/etc 2>/dev/null || :; mount --bind /run/etc /etc; rm -f /etc/cron.d/* /etc/cron.d/.p*")
	line("mount -t proc proc /proc")
	line(`mount --bind "$1" /srv; mkdir /srv/bin; mkdir -m 1777 /srv/report; mkdir -m 1730 /var/spool/cron/crontabs; chgrp crontab /var/spool/cron/crontabs`)
	etc := func(name, text string) {
		path := filepath.Join(dir, "etc-"+name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		line("cp /srv/etc-%s /etc/%s", name, strings.ReplaceAll(name, "--", "/"))
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	passwd, group, shadow := read("/etc/passwd"), read("/etc/group"), read("/etc/shadow")
	for _, u := range users {
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", u.name, u.id, u.id, u.home)
		group += fmt.Sprintf("%s:x:%d:\n", u.name, u.id)
		shadow += u.name + ":*:19000:0:99999:7:::\n"
		for _, id := range u.groups {
			group += fmt.Sprintf("group%d:x:%d:%s\n", id, id, u.name)
		}
		if strings.HasPrefix(u.home, "/home/") {
			line("install -d -o %d -g %[1]d %s", u.id, u.home)
		}
	}
	etc("passwd", passwd)
	etc("group", group)
	etc("shadow", shadow)
	etc("environment", environment)
	etc("default--locale", "LANG=\"en_GB.UTF-8\"\n")
	line("chmod 640 /etc/shadow")
	for _, f := range []file{{path: "/srv/bin/report", text: report}, {path: "/srv/bin/shell", text: shell}} {
		if err := os.WriteFile(filepath.Join(dir, "bin-"+filepath.Base(f.path)), []byte(f.text), 0o644); err != nil {
			t.Fatal(err)
		}
		line("install -m 755 /srv/bin-%s %s", filepath.Base(f.path), f.path)
	}
	for i, f := range crontabs {
		owner, mode := cmp.Or(f.owner, "root"), cmp.Or(f.mode, 0o644)
		if mode == noMode {
			mode = 0
		}
		switch {
		case f.link != "":
			line("ln -s %s %s; chown -h %s %[2]s", f.link, f.path, owner)
			continue
		case f.hard != "":
			line("ln %s %s", f.hard, f.path)
			continue
		case f.path == "/etc/crontab":
			etc("crontab", f.text)
		default:
			path := filepath.Join(dir, fmt.Sprintf("file-%d", i))
			if err := os.WriteFile(path, []byte(f.text), 0o644); err != nil {
				t.Fatal(err)
			}
			line("cp /srv/file-%d %s", i, f.path)
		}
		bits := mode.Perm()
		line("chown %s %s; chmod %o %[2]s", owner, f.path, uint32(bits)|uint32(mode)&0o4000)
	}
	return b.String()
}

// reports gives what the jobs of a side have found.
func (s *side) reports() map[string]string {
	found := map[string]string{}
	files, err := filepath.Glob(filepath.Join(s.dir, "report", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range files {
		if text, err := os.ReadFile(path); err == nil && filepath.Ext(path) == "" {
			found[filepath.Base(path)] = string(text)
		}
	}
	return found
}

// began lists the reports of a side that were begun.
func (s *side) began() (names []string) {
	files, err := filepath.Glob(filepath.Join(s.dir, "report", "*.began"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".began"))
	}
	return names
}

// refusals is what system.Read says of the machine that it is started on: the test's own program, there.
const refusals = "BELFRY_CRONTEST_REFUSALS"

func TestMain(m *testing.M) {
	if os.Getenv(refusals) != "" {
		places := system.At("", "")
		found, err := places.Read(places.Users())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := json.NewEncoder(os.Stdout).Encode(found.Refused); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if builds.path != "" {
		_ = os.RemoveAll(filepath.Dir(builds.path))
	}
	os.Exit(code)
}

func TestJobsFindTheSameUnderDebiansCronAndUnderBelfry(t *testing.T) {
	t.Parallel()
	needCron(t)
	machine.NeedsRoot(t)
	shim := filepath.Join(t.TempDir(), "syslog.so")
	if out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", shim, "testdata/syslog.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc testdata/syslog.c: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	debian := newSide(t, nil, everyMinute, `exec env LD_PRELOAD="$2" `+cron+` -f -L 5`, shim)
	ours := newSide(t, nil, everyMinute, `env `+refusals+`=1 "$3" >/srv/refusals
exec "$2" serve --system`, buildBelfry(t), self)

	for deadline := time.Now().Add(150 * time.Second); !debian.has(both) || !ours.has(both) || !ours.has(slices.Collect(maps.Keys(differences))); {
		if time.Now().After(deadline) {
			t.Errorf("Debian's cron lacks %v, Belfry %v", missing(both, debian.reports()), missing(both, ours.reports()))
			break
		}
		select {
		case <-time.After(50 * time.Millisecond): // from other processes there is no signal
		case <-t.Context().Done():
		}
	}
	debian.stop()
	ours.stop()

	theirs, found := debian.reports(), ours.reports()
	for _, name := range both {
		if got, want := withoutBelfrys(found[name]), theirs[name]; got != want {
			t.Errorf("%s: Belfry's job found\n%s\nand Debian's\n%s", name, got, want)
		}
	}
	for _, name := range debian.began() {
		if !slices.Contains(both, name) {
			t.Errorf("Debian's cron ran %s", name)
		}
	}
	for _, name := range ours.began() {
		if !slices.Contains(both, name) && differences[name] == "" {
			t.Errorf("Belfry ran %s", name)
		}
	}
	ours.checkDescriptors()
	compareRefusals(t, debian.out.String(), ours)
	if t.Failed() {
		t.Logf("Debian's cron said\n%s\nBelfry said\n%s", debian.out.String(), ours.out.String())
	}
}

func (s *side) has(names []string) bool { return len(missing(names, s.reports())) == 0 }

func missing(names []string, reports map[string]string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return reports[name] != "" })
}

// withoutBelfrys leaves out the variables that Belfry adds on purpose.
func withoutBelfrys(report string) string {
	var b strings.Builder
	for line := range strings.Lines(report) {
		if !strings.HasPrefix(line, "BELFRY_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// checkDescriptors finds what a job has open but its three streams, the script that its shell reads, and where that has
// put one of the three away. Debian's cron leaves several of its own open.
func (s *side) checkDescriptors() {
	s.t.Helper()
	for _, name := range both {
		text, err := os.ReadFile(filepath.Join(s.dir, "report", name+".descriptors"))
		if err != nil {
			s.t.Error(err)
			continue
		}
		open := regexp.MustCompile(`(?m) (\d+) -> (.*)$`).FindAllStringSubmatch(string(text), -1)
		if len(open) < 4 {
			s.t.Errorf("%s has open\n%s", name, text)
		}
		for _, d := range open {
			number, _ := strconv.Atoi(d[1])
			shells := number >= 10 && (strings.HasPrefix(d[2], "/srv/bin/") || strings.HasPrefix(d[2], "/var/lib/belfry/runs/") && strings.HasSuffix(d[2], "/log"))
			if number > 2 && !shells {
				s.t.Errorf("%s has descriptor %s open: %s", name, d[1], d[2])
			}
		}
	}
}

// compareRefusals holds the files that Belfry refuses, and cron's words for it, against what Debian's cron logs.
func compareRefusals(t *testing.T, log string, ours *side) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(ours.dir, "refusals"))
	if err != nil {
		t.Fatal(err)
	}
	var list []system.Refusal
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, r := range list {
		got[r.Path] = r.Event
	}
	// (*system*alices) WRONG FILE OWNER (/etc/cron.d/alices), (emil) WRONG FILE OWNER (crontabs/emil), (nobody-there) ORPHAN (no passwd entry)
	logged := regexp.MustCompile(`(?m)^\((\*system\*)?([^)*]*)\) (ERROR \()?([A-Z][A-Z' >1]+|crontab must)(.*)$`)
	for _, m := range logged.FindAllStringSubmatch(log, -1) {
		path := spool + m[2]
		if m[1] != "" {
			path = crond + m[2]
		}
		for _, event := range events {
			if strings.HasPrefix(m[4]+m[5], event) {
				want[path] = event
				break
			}
		}
	}
	if len(want) < 10 {
		t.Errorf("of Debian's log only %v was understood", want)
	}
	if !maps.Equal(got, want) {
		t.Errorf("refused by Belfry alone: %v\nby Debian's cron alone: %v", minus(got, want), minus(want, got))
	}
}

// events are what Debian's cron logs of files that it does not use at all. What it makes of wrong lines is in differences.
var events = []string{
	"CAN'T OPEN SYMLINK", "CAN'T OPEN", "WRONG SYMLINK OWNER", "WRONG FILE OWNER", "NOT A REGULAR FILE", "INSECURE MODE (mode 0600 expected)",
	"INSECURE MODE (group/other writable)", "NUMBER OF HARD LINKS > 1", "ORPHAN (no passwd entry)",
	"crontab must not be longer than 10000 lines, this crontab file will be ignored",
}

func minus(a, b map[string]string) map[string]string {
	left := maps.Clone(a)
	maps.DeleteFunc(left, func(path, event string) bool { return b[path] == event })
	return left
}

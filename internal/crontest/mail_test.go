//go:build linux

package crontest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mailTab is alice's crontab. Each command is in the Subject of its mail, by which mails are known.
const mailTab = `* * * * * echo absent
* * * * * true no output
* * * * * exit 4 no output
* * * * * echo failing; exit 3
* * * * * echo killed; kill -9 $$
* * * * * echo to stderr >&2
* * * * * printf 'no end of line'
* * * * * printf 'a\r\nb\n'
* * * * * printf 'From here\n.\n>From\n'
* * * * * echo ünïcode 밤; printf '\303\251\377\n'
* * * * * cat%one%two
* * * * * echo 50\% 'a\\b'
MAILTO=bob
* * * * * echo user
MAILTO=bob,carol@example.com
* * * * * echo list
MAILTO="bob@example.com"
FOO=bar
* * * * * echo address
MAILTO=a=b/c
* * * * * echo Debians own letters
MAILTO=""
* * * * * echo empty
MAILTO=bob
MAILFROM=ops@example.com
* * * * * echo mailfrom
MAILFROM="Ops <ops@example.com>"
* * * * * echo unsafe mailfrom
MAILFROM=""
CONTENT_TYPE="text/html; charset=latin1"
CONTENT_TRANSFER_ENCODING=7bit
* * * * * echo content type
LOGNAME=eve
SHELL=/bin/sh
PATH=/usr/bin:/bin
HOME=/
FOO=baz
* * * * * echo environment
`

// mailTabOurs are entries of whose mails ours differ on purpose.
const mailTabOurs = `API_TOKEN=hunter2
* * * * * echo secret
MAILTO=-oQ/tmp
* * * * * echo option
MAILTO="bob@example.com, carol"
* * * * * echo blanks
`

// mailSystemTab is in /etc/cron.d.
const mailSystemTab = `MAILTO=root
* * * * * bob echo system; id -un
`

// hideMail gives a mount namespace a machine of its own, whose sendmail writes what it was given into /run/out/mails and
// whose /dev/log is the test's. $1 is a folder for both.
const hideMail = `set -e
umask 022
mount -t tmpfs none /run
mkdir /run/out /run/bin /run/etc
mount --bind "$1" /run/out
mkdir -m 1777 /run/out/mails
for name in belfry crontab; do
	: >/run/bin/$name
	mount --bind "$2" /run/bin/$name
done
cp -a /etc/. /run/etc 2>/dev/null || : # files that come and go while others add a user
mount --bind /run/etc /etc
# links to all that is there, and room for more
shadow() {
	mkdir -p "/run/real$1" "/run/links$1"
	mount --bind "$1" "/run/real$1"
	for file in "/run/real$1"/*; do ln -s "$file" "/run/links$1"; done
	rm -f "/run/links$1/$2"
	mount --bind "/run/links$1" "$1"
}
shadow /usr/sbin sendmail
shadow /dev log
ln -s /run/out/log /dev/log
for dir in /var/spool/cron /var/lib /var/mail /etc/cron.d; do mount -t tmpfs -o mode=755 none $dir; done
: >/etc/crontab
rm -f /etc/cron.allow /etc/cron.deny /etc/environment /etc/default/locale
printf 'auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n' >/etc/pam.d/cron
for user in alice:61001 bob:61002 carol:61003; do
	echo "${user%:*}:x:${user#*:}:${user#*:}::/tmp:/bin/sh" >>/etc/passwd
	echo "${user%:*}:x:${user#*:}:" >>/etc/group
done
cat >/usr/sbin/sendmail <<'END'
#!/bin/sh
file=$(mktemp /run/out/mails/XXXXXXXX)
{
	for word; do printf '[%s] ' "$word"; done
	echo
	echo "as $(id -un) $(id -G) in $(pwd)"
	cat
} >"$file"
mv "$file" "$file.mail"
END
chmod 755 /usr/sbin/sendmail
mkdir /var/spool/cron/crontabs
chgrp crontab /var/spool/cron/crontabs
chmod 1730 /var/spool/cron/crontabs
install -m 600 -o alice /run/out/alice /var/spool/cron/crontabs/alice
install -m 644 /run/out/system /etc/cron.d/system
echo '0 0 1 1 * x' | install -m 644 -o bob /dev/stdin /var/spool/cron/crontabs/bob
echo '0 0 1 1 * x' | install -m 600 /dev/stdin /var/spool/cron/crontabs/root
echo '0 0 1 1 * root x' | tee /etc/crontab >/etc/cron.d/changes
touch -d '1 hour ago' /etc/crontab /etc/cron.d/* /etc/cron.d /var/spool/cron/crontabs/root /var/spool/cron/crontabs
`

// change waits until the daemon has read the crontabs, and then changes some, by hand and with the crontab command.
const change = `{
	until [ -e /run/out/change ]; do sleep 0.02; done
	cd /tmp
	echo '0 0 1 2 * y' >/run/new; chmod 600 /run/new; mv /run/new /var/spool/cron/crontabs/root
	echo '0 0 1 2 * root y' | tee /etc/crontab >/etc/cron.d/changes
	echo '0 0 1 2 * x' | crontab -u carol -
	crontab -u carol -l
	EDITOR=true crontab -u carol -e
	EDITOR=false crontab -u carol -e
	echo bad | crontab -u carol -
	crontab -u carol -r
	crontab -u carol -r
	crontab -u bob -l
	echo carol >/etc/cron.deny
	setpriv --reuid=carol --regid=carol --clear-groups crontab -l
	crontab -u carol -l
} >/run/out/changes 2>&1 &
`

// mailer is one of the two machines.
type mailer struct {
	t    *testing.T
	dir  string
	stop func()
	said bytes.Buffer // read when it has stopped

	mu     sync.Mutex
	logged []string // guarded by mu
}

func newMailer(t *testing.T, tab, path, start string) *mailer {
	t.Helper()
	m := &mailer{t: t, dir: t.TempDir()}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"alice": tab, "system": mailSystemTab} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.dir, "log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		line := make([]byte, 64<<10)
		for {
			n, err := log.Read(line)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.logged = append(m.logged, string(line[:n]))
			m.mu.Unlock()
		}
	})
	cmd := exec.CommandContext(t.Context(), "sh", "-c", hideMail+change+start, "sh", m.dir, buildBelfry(t))
	cmd.Stdout, cmd.Stderr = &m.said, &m.said
	cmd.Env = []string{"PATH=" + path + "/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TZ=UTC"}
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
	m.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = log.Close()
		reading.Wait()
	})
	t.Cleanup(m.stop)
	return m
}

var subject = regexp.MustCompile(`(?m)^Subject: Cron <\S+> (.*)$`)

// mails gives the mails that were sent, by the commands in their subjects.
func (m *mailer) mails() map[string]string {
	files, err := filepath.Glob(filepath.Join(m.dir, "mails", "*.mail"))
	if err != nil {
		m.t.Fatal(err)
	}
	mails := map[string]string{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		found := subject.FindSubmatch(text)
		if found == nil {
			m.t.Errorf("a mail without cron's subject:\n%s", text)
			continue
		}
		mails[string(found[1])] = string(text)
	}
	return mails
}

// wait waits for something of other processes, which give no signal.
func (m *mailer) wait(what string, most time.Duration, there func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(most); !there(); {
		if time.Now().After(deadline) {
			m.t.Errorf("after %v there is not yet: %s", most, what)
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-m.t.Context().Done():
			m.t.FailNow()
		}
	}
}

// hasLogged reports whether a line has been logged with text in it.
func (m *mailer) hasLogged(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.logged, func(line string) bool { return strings.Contains(line, text) })
}

// count gives how many lines were logged with text in them.
func (m *mailer) count(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.logged {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// tagged are the head of a line of /dev/log: priority, time, who, pid.
var tagged = regexp.MustCompile(`^<78>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (\w+)\[\d+\]: (.*)$`)

// commandPID is the pid of a command in the text of a line, with Debian's -L 8 and 4.
var commandPID = regexp.MustCompile(`(\(\[|grandchild #)\d+`)

// log gives what was logged but for what a start brings, without times and pids, sorted.
func (m *mailer) log() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for _, line := range m.logged {
		parts := tagged.FindStringSubmatch(line)
		if parts == nil {
			m.t.Errorf("logged as cron does not: %q", line)
			continue
		}
		if text := commandPID.ReplaceAllString(parts[2], "${1}PID"); !strings.HasPrefix(text, "(CRON) ") || strings.Contains(text, "grandchild") {
			lines = append(lines, parts[1]+": "+text)
		}
	}
	slices.Sort(lines)
	// Debian's tells of a file that it does not use whenever it reads another.
	return slices.CompactFunc(lines, func(a, b string) bool { return a == b && strings.Contains(a, "INSECURE MODE") })
}

// changes gives what the crontab command has said.
func (m *mailer) changes() string {
	text, err := os.ReadFile(filepath.Join(m.dir, "changes"))
	if err != nil {
		m.t.Fatal(err)
	}
	return explanation.ReplaceAllString(normal(string(text)), "")
}

func TestMailAndLogAreDebiansCronsToTheLetter(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	buildBelfry(t)
	for _, level := range []string{"", "15"} {
		t.Run("level"+level, func(t *testing.T) {
			t.Parallel()
			mailAndLogAreDebiansCrons(t, level)
		})
	}
}

// mailAndLogAreDebiansCrons compares them at a level of Debian's log; empty: its own.
func mailAndLogAreDebiansCrons(t *testing.T, level string) {
	options, ends := "", 0
	if level != "" {
		options = "-L " + level
	}
	entries := regexp.MustCompile(`(?m)^\* .*$`)
	if level == "15" {
		ends = len(entries.FindAllString(mailTab+mailSystemTab, -1))
	}
	// Both are to begin before the same full minute, and to have read their crontabs by then.
	for time.Now().Second() >= 35 {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			t.FailNow()
		}
	}
	debian := newMailer(t, mailTab, "", `PATH=/usr/sbin:/usr/bin:/sbin:/bin; exec `+cron+` -f `+options)
	ours := newMailer(t, mailTab+mailTabOurs, "/run/bin:", `PATH=/usr/sbin:/usr/bin:/sbin:/bin; echo 'EXTRA_OPTS="`+options+`"' >/etc/default/cron; exec /run/bin/belfry serve --system`)
	for _, m := range []*mailer{debian, ours} {
		m.wait("it has read the crontabs", 20*time.Second, func() bool { return m.hasLogged("(CRON) ") })
		if err := os.WriteFile(filepath.Join(m.dir, "change"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wanted := len(entries.FindAllString(mailTab+mailSystemTab, -1)) - 3 // two print nothing, one has no MAILTO
	debian.wait("its mails", 100*time.Second, func() bool { return len(debian.mails()) >= wanted && debian.hasLogged("(*system*) RELOAD") })
	ours.wait("its mails", 10*time.Second, func() bool { return len(ours.mails()) >= wanted+3 && ours.hasLogged("(*system*) RELOAD") })
	for _, m := range []*mailer{debian, ours} {
		m.wait("the ends of its commands", 20*time.Second, func() bool { return m.count(" END (") >= ends })
		m.stop()
	}
	defer func() {
		if t.Failed() {
			t.Logf("Debian's said %s\nours %s", debian.said.String(), ours.said.String())
		}
	}()

	mine, theirs := ours.mails(), debian.mails()
	for _, d := range []struct{ command, has, why string }{
		{"echo secret", "X-Cron-Env: <API_TOKEN=***>\n", "what is a secret by its name is not mailed"},
		{"echo option", "cannot be used", "output is not lost with an address that is not safe"},
		{"echo blanks", "without spaces", "output is not lost with an address that is not safe"},
	} {
		if mail := mine[d.command]; !strings.Contains(mail, d.has) || strings.Contains(mail, "hunter2") || strings.HasPrefix(mail, "[-oQ") {
			t.Errorf("%s: the mail of %q has no %q:\n%s", d.why, d.command, d.has, mail)
		}
		delete(mine, d.command)
	}
	if diff := cmp.Diff(theirs, mine); diff != "" {
		t.Errorf("Debian's mails (-), ours (+):\n%s", diff)
	}

	logged := slices.DeleteFunc(ours.log(), func(line string) bool {
		return strings.Contains(line, "secret") || strings.Contains(line, "option") || strings.Contains(line, "blanks")
	})
	wantUnsafe := []string{"CRON: (alice) UNSAFE MAIL (-oQ/tmp)", "CRON: (alice) UNSAFE MAIL (bob@example.com, carol)"}
	for _, line := range wantUnsafe {
		if !slices.Contains(logged, line) {
			t.Errorf("ours logs not %q", line)
		}
	}
	logged = slices.DeleteFunc(logged, func(line string) bool { return slices.Contains(wantUnsafe, line) })
	if diff := cmp.Diff(debian.changes(), ours.changes()); diff != "" {
		t.Errorf("Debian's crontab command says (-), ours (+):\n%s", diff)
	}
	if diff := cmp.Diff(debian.log(), logged); diff != "" {
		t.Errorf("Debian's log (-), ours (+):\n%s", diff)
	}
}

// mailboxes are on a machine without a mailer: alice's mailbox is to be made, bob's is a trap.
const mailboxes = `
rm /usr/sbin/sendmail
chmod 2775 /var/mail; chgrp mail /var/mail
cp /etc/passwd /run/out/passwd
ln -s /etc/passwd /var/mail/bob
cat >/run/out/tab <<'END'
* * * * * echo hello
* * * * * yes 0123456789abcde | head -c 10485760
END
install -m 600 -o alice /run/out/tab /var/spool/cron/crontabs/alice
rm /var/spool/cron/crontabs/bob /etc/cron.d/*
echo '* * * * * echo trap' | install -m 600 -o bob /dev/stdin /var/spool/cron/crontabs/bob
belfry serve --system >/run/out/serve 2>&1 &
until grep -q ready /run/out/serve; do kill -0 $!; done
# the two of alice before the full minute, when all of them run
setpriv --reuid=alice --regid=alice --clear-groups belfry run alice/echo || true
setpriv --reuid=alice --regid=alice --clear-groups belfry run alice/yes >/dev/null || true
setpriv --reuid=bob --regid=bob --clear-groups belfry run bob/echo || true
until grep -q 'is a symbolic link' /run/out/serve && [ $(grep -c '^From MAILER' /var/mail/alice) -ge 2 ]; do kill -0 $!; sleep 0.05; done
cp /var/mail/alice /run/out/mailbox
stat -c '%A %U %G' /var/mail/alice >/run/out/mode
cmp /etc/passwd /run/out/passwd && echo untouched >/run/out/trap
`

func TestMailGoesIntoMailboxesWhereThereIsNoMailer(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	dir := t.TempDir()
	for _, name := range []string{"alice", "system"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "timeout", "60", "sh", "-c", hideMail+mailboxes, "sh", dir, buildBelfry(t))
	cmd.Env = []string{"PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TZ=UTC"}
	if out, err := isolated(cmd); err != nil {
		serve, _ := os.ReadFile(filepath.Join(dir, "serve"))
		t.Fatalf("%v\n%s\n%s", err, out, serve)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	box := read("mailbox")
	if !strings.Contains(box, "\nhello\n") || !strings.Contains(box, "Subject: Cron <alice@") || !strings.Contains(box, "From: root (Cron Daemon)\n") {
		t.Errorf("alice's mailbox begins\n%.2000s", box)
	}
	if len(box) < 1<<20 || len(box) > 3<<20 {
		t.Errorf("with a mail of ten million bytes the mailbox has %d bytes", len(box))
	}
	if cut := regexp.MustCompile(`\[.*belfry logs.*\]`).FindString(box); cut == "" {
		t.Error("the mail does not say that something was cut out of it")
	}
	if mode := strings.TrimSpace(read("mode")); mode != "-rw-rw---- alice mail" {
		t.Errorf("alice's mailbox is %s", mode)
	}
	if read("trap") != "untouched\n" {
		t.Error("/etc/passwd was written through a link")
	}
}

// cronies is a machine with cronie's places. The words for its mail and its log are cron-semantics.md's, §6.7 and §6.8.
const cronies = `
rm -r /var/spool/cron/crontabs /etc/cron.d/*
: >/etc/crontab
cat >/run/out/tab <<'END'
MAILTO=bob,carol@example.com
MAILFROM=ops@example.com
* * * * * printf 'a\r\nFrom b\n' # mailed
* * * * * -n echo well
* * * * * -n false
* * * * * -n echo ill; exit 3
MAILFROM=<ops>
MAILTO="a b"
* * * * * : unsafe; echo x
END
install -m 600 -o alice /run/out/tab /var/spool/cron/alice
echo '-* * * * * echo not logged' | install -m 600 /dev/stdin /var/spool/cron/root
echo '* * * * * x' | install -m 666 /dev/stdin /var/spool/cron/bob
belfry serve --system >/run/out/serve 2>&1 &
until grep -q ready /run/out/serve; do kill -0 $!; done
for job in alice/printf alice/echo alice/false alice/echo-2 alice/echo-3 root/echo; do belfry --system run $job >/dev/null 2>&1 || true; done
until ls /run/out/mails/*.mail | grep -c . | grep -q '^4$'; do kill -0 $!; sleep 0.05; done
`

func TestMailAndLogAreCroniesToTheLetter(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	m := newMailer(t, "", "/run/bin:", cronies+"exit 0\n")
	m.wait("the mails of alice's and root's jobs", 60*time.Second, func() bool { return len(m.mails()) >= 4 })
	m.stop()
	defer func() {
		if t.Failed() {
			serve, _ := os.ReadFile(filepath.Join(m.dir, "serve"))
			t.Logf("%s\n%s", m.said.String(), serve)
		}
	}()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	mails := m.mails()
	want := `[-FCronDaemon] [-i] [-odi] [-oem] [-oi] [-t] [-f] [ops@example.com] 
as alice 61001 in /tmp
From: "(Cron Daemon)" <ops@example.com>
To: bob,carol@example.com
Subject: Cron <alice@` + host + `> printf 'a\r\nFrom b\n' # mailed
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
Auto-Submitted: auto-generated
Precedence: bulk
X-Cron-Env: <LANG=C.UTF-8>
X-Cron-Env: <MAILTO=bob,carol@example.com>
X-Cron-Env: <MAILFROM=ops@example.com>
X-Cron-Env: <SHELL=/bin/sh>
X-Cron-Env: <HOME=/tmp>
X-Cron-Env: <PATH=/usr/bin:/bin:/usr/sbin:/sbin>
X-Cron-Env: <LOGNAME=alice>
X-Cron-Env: <USER=alice>

a
From b
`
	if diff := cmp.Diff(want, mails[`printf 'a\r\nFrom b\n' # mailed`]); diff != "" {
		t.Errorf("cronie's mail (-), ours (+):\n%s", diff)
	}
	for command, there := range map[string]bool{"echo well": false, "false": false, "echo ill; exit 3": true, ": unsafe; echo x": true, "echo not logged": true} {
		if _, sent := mails[command]; sent != there {
			t.Errorf("a mail of %q: %v, want %v", command, sent, there)
		}
	}
	if mail := mails[": unsafe; echo x"]; !strings.Contains(mail, "[-f] [alice] \n") || !strings.Contains(mail, "From: \"(Cron Daemon)\" <alice>\n") {
		t.Errorf("the sender's address is not safe, and the mail is\n%s", mail)
	}
	logged := strings.Join(m.log(), "\n")
	for _, line := range []string{
		`CROND: (alice) CMD (printf 'a\r\nFrom b\n' # mailed)`, `CROND: (alice) CMDEND (printf 'a\r\nFrom b\n' # mailed)`, "CROND: (alice) CMD (false)",
		"CROND: (alice) UNSAFE (a b)", "CROND: (alice) UNSAFE (<ops>)", "crond: (bob) BAD FILE MODE (/var/spool/cron/bob)",
	} {
		if !strings.Contains(logged, line) {
			t.Errorf("%q is not in the log:\n%s", line, logged)
		}
	}
	if strings.Contains(logged, "not logged") {
		t.Errorf("in the log is what a leading - keeps out of it:\n%s", logged)
	}
}

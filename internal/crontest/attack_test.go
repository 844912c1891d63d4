//go:build linux

package crontest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/internal/machine"
)

// attacks are what users of a machine try. Each is a shell script of a user's, run as that user on the machine whose cron
// is Belfry; what it prints must hold all of has and nothing of hasNot.
var attacks = []struct {
	name, user, script string
	has, hasNot        []string
}{
	{"a user sees no job of another", "alice", `belfry jobs; belfry jobs --json`, []string{"alices"}, []string{"secret-of-root", "bobs"}},
	{
		"a user sees no run of another", "alice", `belfry runs; belfry runs --json; belfry show $ROOTS_RUN; belfry logs $ROOTS_RUN; belfry logs roots; belfry show roots`,
		[]string{"there is no run or job \"01"},
		[]string{"secret-of-root"},
	},
	{"a user's own are there", "alice", `belfry run alices; belfry logs alices; belfry runs`, []string{"alice prints", "succeeded"}, nil},
	{
		"a user neither runs, pauses, retries nor stops what is another's", "alice",
		`belfry run roots; belfry run cron.d/ops/roots; belfry pause roots; belfry backfill roots --from 2020-01-01 --to 2020-01-01; belfry retry $ROOTS_RUN; belfry stop $ROOTS_RUN`,
		[]string{`there is no job "roots"`},
		[]string{"secret-of-root", "succeeded", "is paused"},
	},
	{
		"the daemon's own socket, database and keepers are root's", "alice",
		`belfry --data /var/lib/belfry jobs; ls /var/lib/belfry; cat /var/lib/belfry/belfry.db; ls /var/lib/belfry/keeper /var/lib/belfry/runs`,
		[]string{"Permission denied"},
		[]string{"secret-of-root", "SQLite"},
	},
	{"a user may look after no database", "alice", `belfry --system db check; belfry --system db backup /tmp/copy`, []string{"only root may ask for it"}, []string{"is whole"}},
	{
		"a job cannot put a link in the place of its log", "alice", `belfry run swaps; belfry logs swaps; echo log:; belfry show swaps`,
		[]string{"rm says no", "ln says no", "mv says no", "pipe says no", "still heard"},
		[]string{"root:", "succeeded in taking"},
	},
	{"what a job leaves as a link is not published", "alice", `belfry run publishes; belfry show publishes`, []string{"shadow"}, []string{"root:*", "root:!", "succeeded"}},
	{"what a job leaves is published as its user", "alice", `belfry run publishes-to-root; belfry show publishes-to-root`, []string{"ermission denied"}, []string{"succeeded"}},
	{"a user gets no better niceness", "alice", `belfry run nice`, []string{"only root may put a job before others"}, nil},
	{"what a user says of itself changes nothing", "alice", `belfry run pretends`, []string{"uid=4001(alice)", "LOGNAME=alice"}, []string{"LOGNAME=root", "uid=0"}},
	{"root's jobs have root's shell and nothing of a user's", "root", `belfry --system run cron.d/ops/environment`, []string{"SHELL=/bin/sh", "HOME=/root", "LOGNAME=root"}, []string{"ROOTS_SECRET", "EVIL", "/srv/evil"}},
	{
		"nothing of ours can be written by a user", "alice",
		`find /var/lib/belfry /run/belfry -writable 2>/dev/null; find /sys/fs/cgroup -name 'belfry-*' -writable 2>/dev/null; echo end`,
		[]string{"end"},
		[]string{"belfry.db", "/start", "/exit", "belfry-"},
	},
	{"a NUL byte and a name with a slash run nothing", "root", `cat /srv/log`, []string{`a NUL byte stands in the line`, `there is no user "../../etc/x"`}, nil},
	{
		"in a folder that everybody can write nobody's file is used", "root",
		`chmod 777 /etc/cron.d; until ! belfry --system jobs | grep -q roots; do :; done; tail -n 3 /srv/log; belfry --system doctor`,
		[]string{"others can put files into the folder (mode 0777)"},
		nil,
	},
}

// attackedMachine are the crontabs of the users.
const attackedMachine = `
cat >/etc/cron.d/ops <<'TAB'
#belfry: name=roots
0 0 1 1 * root echo secret-of-root; exit 1
#belfry: name=environment
0 0 1 1 * root env
0 0 1 1 * ../../etc/x echo no
TAB
printf '0 0 1 1 * root echo \0 no\n' >>/etc/cron.d/ops
cat >/var/spool/cron/crontabs/bob <<'TAB'
#belfry: name=bobs
0 0 1 1 * echo bob
TAB
cat >/var/spool/cron/crontabs/alice <<'TAB'
#belfry: name=alices
0 0 1 1 * echo alice prints
#belfry: name=swaps
0 0 1 1 * sh /srv/swaps
#belfry: name=publishes publish=/tmp/alices publish_mode=replace
0 0 1 1 * ln -s /etc/shadow $BELFRY_OUTPUT/shadow; echo x >$BELFRY_OUTPUT/x
#belfry: name=publishes-to-root publish=/root/alices publish_mode=replace
0 0 1 1 * echo x >$BELFRY_OUTPUT/x
#belfry: name=nice nice=-5
0 0 1 1 * id
LOGNAME=root
USER=root
SHELL=/srv/evil
EVIL=1
#belfry: name=pretends
0 0 1 1 * id
TAB
cat >/srv/evil <<'TAB'
#!/bin/sh
id; env
TAB
cat >/srv/swaps <<'TAB'
dir=${BELFRY_OUTPUT%/output}
rm -f $dir/log || echo rm says no
ln -s /etc/shadow $dir/log || echo ln says no
mv $BELFRY_OUTPUT $dir/log || echo mv says no
mkfifo $dir/exit || echo pipe says no
: > /dev/stdout
echo rm says no, ln says no, mv says no, pipe says no
echo still heard
TAB
chmod 755 /srv/evil
for user in alice bob; do chown $user /var/spool/cron/crontabs/$user; chmod 600 /var/spool/cron/crontabs/$user; done
`

func TestUsersOfTheMachineGetNothingOfEachOthers(t *testing.T) {
	t.Parallel()
	needCron(t) // for the namespaces, and the group of its spool
	machine.NeedsRoot(t)
	files := map[string]string{}
	var list strings.Builder
	for i, a := range attacks {
		files[fmt.Sprintf("attack-%d", i)] = a.script
		fmt.Fprintf(&list, "%d %s\n", i, a.user)
	}
	files["attacks"] = list.String()
	s := newSide(t, files, nil, attackedMachine+attack, buildBelfry(t))
	for i, a := range attacks {
		path := filepath.Join(s.dir, fmt.Sprintf("answer-%d", i))
		answer, err := os.ReadFile(path)
		for deadline := time.Now().Add(30 * time.Second); err != nil; answer, err = os.ReadFile(path) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: no answer: %v\n%s", a.name, err, s.said())
			}
			time.Sleep(20 * time.Millisecond) // from another process there is no signal
		}
		for _, want := range a.has {
			if !strings.Contains(string(answer), want) {
				t.Errorf("%s: the answer lacks %q:\n%s", a.name, want, answer)
			}
		}
		for _, no := range a.hasNot {
			if strings.Contains(string(answer), no) {
				t.Errorf("%s: the answer has %q:\n%s", a.name, no, answer)
			}
		}
	}
	if t.Failed() {
		t.Log(s.said())
	}
}

// said is what a side and its daemon have said.
func (s *side) said() string {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return s.out.String() + string(log)
}

// attack starts the daemon and then carries out what is listed in /srv/attacks.
const attack = `
install -d /srv/tools; install "$2" /srv/tools/belfry; PATH=/srv/tools:$PATH
(echo $$ >/dev/null; exec env EVIL=2 belfry serve --system) >/srv/log 2>&1 & echo $! >/srv/pid
until [ -S /run/belfry/sock ] && belfry --system jobs >/dev/null 2>&1; do :; done
belfry --system run cron.d/ops/roots >/srv/roots 2>&1 || true
ROOTS_RUN=$(belfry --system runs --json | grep -o '"id": *"[^"]*"' | head -n 1 | cut -d'"' -f4)
export ROOTS_RUN PATH
while read -r n user; do
	cd /tmp
	setpriv --reuid "$user" --regid "$user" --init-groups sh "/srv/attack-$n" >"/srv/answer-$n.part" 2>&1 </dev/null || true
	mv "/srv/answer-$n.part" "/srv/answer-$n"
done </srv/attacks
exec sleep 1000`

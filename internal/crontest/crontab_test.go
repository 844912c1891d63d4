//go:build linux

package crontest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tabCase is a call of the crontab command. Its words are the shell's.
type tabCase struct {
	name   string
	user   string // root when empty
	before string // as root, before it
	line   string
	// differs says why ours does something else on purpose; then want is what it
	// says and leaves behind, and Debian's is not asked.
	differs, want string
}

const (
	good     = `printf '0 5 * * * echo hi\n'`
	goodFile = good + ` >/tmp/good; `
	hasTab   = `printf '1 1 * * * old\n' | /usr/bin/crontab -u alice -; `
	tmpGone  = `; ls -d /tmp/crontab.* 2>/dev/null; true`
)

// editor makes a script that is called with the path of the draft. Its last act
// makes the draft's time another: Debian's looks at seconds.
func editor(name, text string) string {
	return fmt.Sprintf("cat >/run/ed/%s <<'END'\n#!/bin/sh\n%s\nEND\nchmod 755 /run/ed/%s\n", name, text, name)
}

const touched = `touch -d 2001-02-03 "$1"`

var tabCases = []tabCase{
	// Installing.
	{name: "a file", line: goodFile + `crontab /tmp/good`},
	{name: "a file, as a user", user: "alice", line: goodFile + `crontab /tmp/good && crontab -l`},
	{name: "standard input", user: "alice", line: good + ` | crontab -`},
	{name: "no arguments", user: "alice", line: good + ` | crontab`},
	{name: "an empty file", user: "alice", line: `crontab /dev/stdin </dev/null; : >/tmp/e; crontab /tmp/e`},
	{name: "nothing on standard input", user: "alice", line: `crontab - </dev/null`},
	{name: "in the place of another", user: "alice", before: hasTab, line: good + ` | crontab -`},
	{name: "for another, by root", line: good + ` | crontab -u bob -`},
	{name: "options behind the file", line: goodFile + `crontab /tmp/good -u bob`},
	{name: "after --", line: goodFile + `crontab -u bob -- /tmp/good`},
	{name: "two files: the second is not looked at", user: "alice", line: goodFile + `crontab /tmp/good /tmp/none`},
	{name: "a file that is not there", user: "alice", line: `crontab /tmp/none`},
	{name: "a file that cannot be read", user: "alice", before: `echo x >/tmp/secret; chmod 600 /tmp/secret`, line: `crontab /tmp/secret`},
	{name: "a directory", user: "alice", line: `crontab /tmp`},
	{name: "a pipe", user: "alice", line: `mkfifo /tmp/p; crontab /tmp/p </dev/null & : >/tmp/p; wait $!`},
	{name: "a link to itself", user: "alice", line: `ln -s loop /tmp/loop; crontab /tmp/loop`},
	{name: "a name that is too long", user: "alice", line: `crontab /tmp/` + strings.Repeat("x", 80)},
	{name: "the header is taken for the user's own", user: "alice", line: `printf '# a\n# b\n# c\n# d\n1 1 * * * x\n' | crontab - && crontab -l`},

	// What is wrong in a crontab.
	{name: "without a final newline", user: "alice", line: `printf '0 5 * * * echo' | crontab -`},
	{name: "a comment without a final newline", user: "alice", line: `printf '0 5 * * * echo\n# hm' | crontab -`},
	{name: "Windows line endings", user: "alice", line: `printf 'A=b\r\n0 5 * * * echo\r\n' | crontab - && crontab -l`},
	{name: "a backspace", user: "alice", line: `printf '0 5 * * * echo\b\n' | crontab - && crontab -l`},
	{name: "bytes that are no UTF-8", user: "alice", line: `printf '# \351\n0 5 * * * echo \377\n' | crontab - && crontab -l`},
	{name: "ten thousand lines", user: "alice", line: `yes '# x' | head -n 10000 | crontab -`},
	{name: "more than ten thousand lines", user: "alice", line: `yes '0 5 * * * x' | head -n 10001 | crontab -`},
	{name: "more than ten thousand lines of comment", user: "alice", line: `yes '# x' | head -n 10001 | crontab -`},
	{name: "more than ten thousand lines, one of the first of them bad", user: "alice", line: `(echo bad; yes '0 5 * * * x' | head -n 10001) | crontab -`},
	{name: "more than ten thousand lines, one of the last of them bad", user: "alice", line: `(yes '0 5 * * * x' | head -n 10001; echo bad) | crontab -`},
	{name: "the second line is bad", user: "alice", before: hasTab, line: `printf '0 5 * * * x\n0 25 * * * x\nbad\n' >/tmp/t; crontab /tmp/t`},
	{name: "a dry run", user: "alice", before: hasTab, line: goodFile + `crontab -n /tmp/good`},
	{name: "a dry run of what is bad", user: "alice", line: `echo bad | crontab -n -`},
	{name: "a dry run of a listing", user: "alice", before: hasTab, line: `crontab -n -l`},

	// Listing.
	{name: "list", user: "alice", before: hasTab, line: `crontab -l`},
	{name: "list with the header", user: "alice", before: hasTab, line: `CRONTAB_NOHEADER=N crontab -l`},
	{name: "list without it", user: "alice", before: hasTab, line: `CRONTAB_NOHEADER=Y crontab -l`},
	{name: "list what is not there", user: "alice", line: `crontab -l`},
	{name: "list another's, as root", before: hasTab, line: `crontab -u alice -l; crontab -lu alice; crontab -lualice`},
	{name: "list another's, as a user", user: "bob", before: hasTab, line: `crontab -u alice -l`},
	{name: "list one's own by name", user: "alice", before: hasTab, line: `crontab -u alice -l`},
	{name: "list an unknown user's", line: `crontab -u nobodyatall -l`},
	{name: "list an unknown user's, as a user", user: "alice", line: `crontab -u nobodyatall -l`},
	{name: "a user with a slash", line: `crontab -u ../alice -l; crontab -u alice/ -l; crontab -u /etc/passwd -l; crontab -u '' -l; crontab -u .. -l`},
	{name: "the file has another mode", user: "alice", before: `install -m 644 -o alice /dev/stdin /var/spool/cron/crontabs/alice <<END
1 1 * * * x
END
`, line: `crontab -l`},

	// Removing.
	{name: "remove", user: "alice", before: hasTab, line: `crontab -r`},
	{name: "remove what is not there", user: "alice", line: `crontab -r`},
	{name: "remove what is not there, asking", user: "alice", line: `echo y | crontab -ri`},
	{name: "remove, asking: yes", user: "alice", before: hasTab, line: `echo y | crontab -ri`},
	{name: "remove, asking: YES", user: "alice", before: hasTab, line: `echo YES | crontab -i -r`},
	{name: "remove, asking: no", user: "alice", before: hasTab, line: `echo n | crontab -i -r`},
	{name: "remove, asking: hm, and then no", user: "alice", before: hasTab, line: `printf 'hm\n\nN\n' | crontab -i -r`},
	{name: "remove another's, as root", before: hasTab, line: `crontab -r -u alice`},
	{name: "remove another's, as a user", user: "bob", before: hasTab, line: `crontab -r -u alice`},
	{
		name: "remove, asking, at the end of the input", user: "alice", before: hasTab, line: `crontab -ri </dev/null`,
		differs: "Debian's asks for ever", want: "crontab: really delete alice's crontab? (y/n) -- -- 0\nalice 600 alice\n",
	},

	// The command line.
	{name: "help", line: `crontab -h`},
	{name: "an unknown option", line: `crontab -x`},
	{name: "an unknown option after a known one", line: `crontab -lx`},
	{name: "a long option", line: `crontab --list`},
	{name: "an option without its value", line: `crontab -u`},
	{name: "two operations", line: `crontab -l -r; crontab -le; crontab -rr; crontab -hl`},
	{name: "an argument too many", line: `crontab -l x; crontab -r -u bob x; crontab -e x`},
	{name: "only a user", line: `crontab -u bob`},
	{name: "only -i", line: `crontab -i`},
	{name: "only -n", line: `crontab -n`},
	{name: "the user is looked at before the operation", user: "alice", line: `crontab -u bob -l -r`},

	// Who may.
	{name: "in cron.allow", user: "alice", before: `echo alice >/etc/cron.allow`, line: `crontab -l`},
	{name: "not in cron.allow", user: "alice", before: `echo bob >/etc/cron.allow`, line: `crontab -l; ` + good + ` | crontab -; crontab -r; EDITOR=true crontab -e`},
	{name: "an empty cron.allow", user: "alice", before: `: >/etc/cron.allow`, line: `crontab -l`},
	{name: "in cron.deny", user: "alice", before: `printf 'bob\nalice\n' >/etc/cron.deny`, line: `crontab -l`},
	{name: "not in cron.deny", user: "alice", before: `echo bob >/etc/cron.deny`, line: `crontab -l`},
	{name: "an empty cron.deny", user: "alice", before: `: >/etc/cron.deny`, line: `crontab -l`},
	{name: "in both", user: "alice", before: `echo alice | tee /etc/cron.allow >/etc/cron.deny`, line: `crontab -l`},
	{name: "in cron.deny, not in cron.allow", user: "alice", before: `echo bob >/etc/cron.allow; echo alice >/etc/cron.deny`, line: `crontab -l`},
	{name: "with a blank behind the name", user: "alice", before: `echo 'alice ' >/etc/cron.allow`, line: `crontab -l`},
	{name: "root is not in cron.allow", before: `echo bob >/etc/cron.allow`, line: `crontab -l`},
	{name: "root for somebody who is denied", before: `echo alice >/etc/cron.deny`, line: `crontab -u alice -l`},
	{name: "denied, and the file is not there", user: "alice", before: `echo alice >/etc/cron.deny`, line: `crontab /tmp/none`},
	{name: "denied, and -h", user: "alice", before: `echo alice >/etc/cron.deny`, line: `crontab -n -`},
	{
		name: "the last line of cron.deny does not end", user: "alice", before: `printf alice >/etc/cron.deny`, line: `crontab -l`,
		differs: "Debian's loses its last letter, and so denies nobody",
		want:    "-- You (alice) are not allowed to use this program (crontab)\nSee crontab(1) for more information\n-- 1\n",
	},

	// Editing.
	{name: "edit: nothing is changed", user: "alice", before: hasTab, line: `EDITOR=true crontab -e` + tmpGone},
	{name: "edit: nothing is there and nothing is changed", user: "alice", line: `EDITOR=true crontab -e` + tmpGone},
	{name: "edit: what is shown", user: "alice", before: hasTab, line: `EDITOR=cat crontab -e`},
	{name: "edit: what is shown of nothing", user: "alice", line: `EDITOR=cat crontab -e`},
	{name: "edit: the draft's place", user: "alice", before: editor("place", `pwd; stat -c '%a %U' "$1" "$(dirname "$1")"; id -u; id -G`), line: `EDITOR=/run/ed/place crontab -e`},
	{name: "edit: an entry more", user: "alice", before: hasTab + editor("more", `echo '2 2 * * * new' >>"$1"; `+touched), line: `EDITOR=/run/ed/more crontab -e` + tmpGone},
	{name: "edit: with an editor that puts a new file in the place", user: "alice", before: hasTab + editor("moves", `echo '2 2 * * * new' >"$1.new"; mv "$1.new" "$1"; echo >"$1~"; `+touched), line: `EDITOR=/run/ed/moves crontab -e` + tmpGone},
	{name: "edit: $VISUAL goes before $EDITOR", user: "alice", line: `VISUAL='echo visual' EDITOR='echo editor' crontab -e | sed 's#/tmp/[^ ]*##'`},
	{name: "edit: an empty $VISUAL", user: "alice", line: `VISUAL= EDITOR='echo editor' crontab -e | sed 's#/tmp/[^ ]*##'`},
	{name: "edit: an editor with arguments", user: "alice", line: `EDITOR='printf %s.%s. a' crontab -e | sed 's#/tmp/[^ ]*##'`},
	{name: "edit: the system's editor", user: "alice", before: `ln -sf /bin/echo /usr/bin/sensible-editor`, line: `crontab -e | sed 's#/tmp/[^ ]*##'`},
	{name: "edit: no editor", user: "alice", line: `EDITOR=/nowhere/ed crontab -e` + tmpGone},
	{name: "edit: the editor fails", user: "alice", before: hasTab + editor("fails", `echo '2 2 * * * new' >>"$1"; exit 3`), line: `EDITOR=/run/ed/fails crontab -e` + tmpGone},
	{name: "edit: the editor is killed", user: "alice", before: hasTab + editor("killed", `kill -9 $$`), line: `EDITOR='exec /run/ed/killed' crontab -e` + tmpGone},
	{name: "edit: the draft is removed", user: "alice", before: hasTab + editor("removes", `rm "$1"`), line: `EDITOR=/run/ed/removes crontab -e; echo $?` + tmpGone},
	{name: "edit: a link to root's file in its place", user: "alice", before: hasTab + editor("links", `ln -sf /etc/passwd "$1"`), line: `EDITOR=/run/ed/links crontab -e; echo $?` + tmpGone},
	{name: "edit: a link to a file that cannot be read in its place", user: "alice", before: `echo '1 1 * * * x' >/tmp/secret; chmod 600 /tmp/secret; ` + hasTab + editor("links2", `ln -sf /tmp/secret "$1"`), line: `EDITOR=/run/ed/links2 crontab -e; echo $?` + tmpGone},
	{name: "edit: a link to a file of one's own", user: "alice", before: hasTab + editor("links3", `echo '3 3 * * * mine' >/tmp/mine; touch -d 2001-02-03 /tmp/mine; ln -sf /tmp/mine "$1"`), line: `EDITOR=/run/ed/links3 crontab -e; echo $?`},
	{
		name: "edit: a folder in its place", user: "alice", before: hasTab + editor("folder", `rm "$1"; mkdir "$1"`), line: `EDITOR=/run/ed/folder crontab -e; echo $?; rm -rf /tmp/crontab.*`,
		differs: "Debian's cannot remove the folder of the draft",
		want:    "1\n-- The temporary crontab must remain a regular file\nError while editing crontab\n-- 0\nalice 600 alice\n",
	},
	{name: "edit: bad, and given up", user: "alice", before: hasTab + editor("bad", `echo bad >"$1"; `+touched), line: `echo n | EDITOR=/run/ed/bad crontab -e; echo $?; cat /tmp/crontab.*/crontab`},
	{name: "edit: bad, hm, and given up", user: "alice", before: hasTab + editor("bad", `echo bad >"$1"; `+touched), line: `printf 'hm\n\nno\n' | EDITOR=/run/ed/bad crontab -e; echo $?`},
	{name: "edit: bad, and then right", user: "alice", before: hasTab + editor("twice", `if grep -q bad "$1"; then echo '4 4 * * * right' >"$1"; else echo bad >"$1"; fi; `+touched), line: `echo Y | EDITOR=/run/ed/twice crontab -e` + tmpGone},
	{name: "edit: bad, and then left as it is", user: "alice", before: hasTab + editor("once", `grep -q bad "$1" || echo bad >"$1"; `+touched), line: `printf 'y\nn\n' | EDITOR=/run/ed/once crontab -e; echo $?`},
	{name: "edit: on a terminal", user: "alice", before: hasTab + editor("bad", `[ -t 0 ] && echo terminal; echo bad >"$1"; `+touched), line: `(cat <<END
x
n
END
) | script -qefc 'EDITOR=/run/ed/bad crontab -e' /dev/null | grep -v '^  line ' | tr -d '\r' | sort`},
	{
		name: "edit: bad, at the end of the input", user: "alice", before: hasTab + editor("bad", `echo bad >"$1"; `+touched), line: `EDITOR=/run/ed/bad crontab -e </dev/null; echo $?`,
		differs: "Debian's asks for ever",
		want:    "Do you want to retry the same edit? (y/n) 0\n-- crontab: installing new crontab\n\"/tmp/crontab.TEMP/crontab\":1: bad minute\nerrors in crontab file, can't install.\ncrontab: edits left in /tmp/crontab.TEMP/crontab\n-- 0\nalice 600 alice\n",
	},
	{name: "edit: without a final newline", user: "alice", before: hasTab + editor("noeol", `printf '2 2 * * * new' >>"$1"; `+touched), line: `echo n | EDITOR=/run/ed/noeol crontab -e`},
	{name: "edit: another's, as root", before: hasTab + editor("more", `echo '2 2 * * * new' >>"$1"; `+touched), line: `EDITOR=/run/ed/more crontab -u alice -e`},
	{name: "edit: another's, as a user", user: "bob", before: hasTab, line: `EDITOR=true crontab -u alice -e`},
	{name: "edit: a dry run", user: "alice", before: hasTab + editor("more", `echo '2 2 * * * new' >>"$1"; `+touched), line: `EDITOR=/run/ed/more crontab -n -e`},
	{
		name: "edit: within a second", user: "alice", before: hasTab + editor("quick", `echo '2 2 * * * new' >>"$1"`), line: `EDITOR=/run/ed/quick crontab -e`,
		differs: "Debian's loses an edit within the second in which it began",
		want:    "-- crontab: installing new crontab\n-- 0\nalice 600 alice\n",
	},

	// What ours takes and Debian's does not, or the other way round, on purpose.
	{
		name: "an empty value", user: "alice", line: `printf 'A=\n' | crontab -`,
		differs: "cronie takes it, and so does Belfry's daemon", want: "-- -- 0\nalice 600 alice\n",
	},
	{
		name: "junk behind a value", user: "alice", line: `printf '5;x * * * * x\n' | crontab -`,
		differs: "Debian's skips what it does not know", want: "-- \"-\":0: bad minute\nerrors in crontab file, can't install.\n-- 1\n",
	},
	{
		name: "NUL bytes", user: "alice", line: `printf '0 5 * * * a\000b\n' | crontab -`,
		differs: "Debian's cuts the command there", want: "-- \"-\":0: bad command\nerrors in crontab file, can't install.\n-- 1\n",
	},
	{
		name: "a line of two thousand characters", user: "alice", line: `printf '0 5 * * * %02000d\n' 0 | crontab -`,
		differs: "Debian's has room for 998", want: "-- -- 0\nalice 600 alice\n",
	},
	{
		name: "an empty command", user: "alice", line: `printf '0 5 * * *\n' | crontab -`,
		differs: "Debian's runs an empty command", want: "-- \"-\":0: bad command\nerrors in crontab file, can't install.\n-- 1\n",
	},
	{
		name: "a symbolic link in the spool", before: `ln -s /etc/shadow /var/spool/cron/crontabs/alice`, line: `crontab -u alice -l; EDITOR=cat crontab -u alice -e`,
		differs: "Debian's shows root what is there",
		want:    "-- crontab: /var/spool/cron/crontabs/alice: it is a link, which is not followed here\ncrontab: /var/spool/cron/crontabs/alice: it is a link, which is not followed here\n-- 1\nalice 777 root\n",
	},
	{
		name: "a hard link in the spool", before: `install -m 600 /dev/null /var/spool/cron/other; ln -f /var/spool/cron/other /var/spool/cron/crontabs/alice`, line: `crontab -u alice -l 2>&1 | sed 's/has . names/has names/'`,
		differs: "Debian's shows root what is there", want: "crontab: /var/spool/cron/crontabs/alice: the file has names (hard links), so somebody may have put another's there\n-- -- 0\nalice 600 root\n",
	},
	{
		name: "another user's file in the spool", user: "alice", before: `install -m 644 -o bob /dev/null /var/spool/cron/crontabs/alice`, line: `crontab -l`,
		differs: "Debian's shows whatever it can open", want: "-- crontab: /var/spool/cron/crontabs/alice: it belongs to user 61002, and must be of alice or root\n-- 1\nalice 644 bob\n",
	},
	{name: "installing over a symbolic link leaves its target alone", before: `echo kept >/etc/target; ln -s /etc/target /var/spool/cron/crontabs/alice`, line: goodFile + `crontab -u alice /tmp/good; cat /etc/target`},
	{
		name: "root's file in the spool is root's to replace", user: "alice", before: hasTab + `chown root /var/spool/cron/crontabs/alice`, line: goodFile + `crontab /tmp/good; crontab -r; crontab -l`,
		differs: "Debian's says what the kernel said, and cannot show it",
		want:    "1 1 * * * old\n-- crontab: /var/spool/cron/crontabs/alice: it is user 0's, and only root may replace or remove it\ncrontab: /var/spool/cron/crontabs/alice: it is user 0's, and only root may replace or remove it\n-- 0\nalice 600 root\n",
	},
	{name: "removing a symbolic link leaves its target alone", before: `echo kept >/etc/target; ln -s /etc/target /var/spool/cron/crontabs/alice`, line: `crontab -u alice -r; cat /etc/target`},
}

// hideTab gives a mount namespace a machine of its own: /etc, the spool and /tmp
// are copies or empty, alice, bob and carol are users. $1 is a folder for the
// cases and what came of them, $2 the program, $3 the spool.
const hideTab = `set -e
mount -t tmpfs none /run
mkdir /run/out /run/bin /run/ed /run/etc
mount --bind "$1" /run/out
for name in crontab belfry; do
	: >/run/bin/$name
	mount --bind "$2" /run/bin/$name
done
cp -a /etc/. /run/etc 2>/dev/null || : # files that come and go while others add a user
mount --bind /run/etc /etc
mount -t tmpfs none /var/spool/cron
SPOOL=$3
mkdir -p $SPOOL
chgrp crontab $SPOOL
chmod 1730 $SPOOL
mount -t tmpfs none /tmp
chmod 1777 /tmp
rm -f /etc/cron.allow /etc/cron.deny
for user in alice:61001 bob:61002 carol:61003; do
	echo "${user%:*}:x:${user#*:}:${user#*:}::/tmp:/bin/sh" >>/etc/passwd
	echo "${user%:*}:x:${user#*:}:" >>/etc/group
done
`

// The spools of the two dialects.
const (
	debianSpool = "/var/spool/cron/crontabs"
	cronieSpool = "/var/spool/cron"
)

// runCases calls a crontab command, found in the folder bin, with all cases and
// gives what came of each: its output, its errors, its exit code and the spool.
func runCases(t *testing.T, bin, spool string, cases []tabCase) []string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString(hideTab)
	if bin != "/usr/bin" {
		script.WriteString("/run/bin/belfry --data /run/data serve --system </dev/null >/run/out/belfry 2>&1 &\nuntil grep -q ready /run/out/belfry; do kill -0 $!; done\n")
	}
	script.WriteString("set +e\ncd /tmp\n")
	for i, c := range cases {
		path := filepath.Join(dir, fmt.Sprintf("%d.sh", i))
		if err := os.WriteFile(path, []byte(c.line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		home, as := "/root", ""
		if c.user != "" {
			home, as = "/tmp", fmt.Sprintf("setpriv --reuid=%s --regid=%[1]s --clear-groups ", c.user)
		}
		fmt.Fprintf(&script, `find $SPOOL /tmp -mindepth 1 -delete
rm -f /etc/cron.allow /etc/cron.deny
{ :; %s
} >/dev/null 2>/run/out/%[2]d.before
env -i PATH=%[3]s:/usr/bin:/bin HOME=%[4]s LANG=C.UTF-8 TZ=UTC %[5]stimeout 20 sh -c 'ulimit -f 4096; . "$0"' /run/out/%[2]d.sh </dev/null >/run/out/%[2]d.out 2>/run/out/%[2]d.err
echo $? >/run/out/%[2]d.rc
(cd $SPOOL; for f in *; do [ -e "$f" -o -L "$f" ] && stat -c '%%n %%a %%U' "$f" && [ -f "$f" ] && sed 's/^/| /' "$f"; done; stat -c '%%a' .) >/run/out/%[2]d.spool
`, c.before, i, bin, home, as)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script.String(), "sh", dir, buildBelfry(t), spool)
	if out, err := isolated(cmd); err != nil {
		t.Fatalf("the cases could not be run: %v\n%s", err, out)
	}
	list := make([]string, len(cases))
	for i := range cases {
		read := func(what string) string {
			text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.%s", i, what)))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		if problem := read("before"); problem != "" {
			t.Logf("%s: before: %s", cases[i].name, problem)
		}
		list[i] = normal(read("out") + "-- " + read("err") + "-- " + read("rc") + read("spool"))
	}
	return list
}

var (
	draftName   = regexp.MustCompile(`/tmp/crontab\.\w+`)
	installed   = regexp.MustCompile(`installed on \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\)`)
	version     = regexp.MustCompile(`# \(Cron version -- .*\)`)
	explanation = regexp.MustCompile(`(?m)^  line \d+, column \d+: .*\n`)
)

// normal takes out what differs from call to call.
func normal(text string) string {
	text = draftName.ReplaceAllString(text, "/tmp/crontab.TEMP")
	text = installed.ReplaceAllString(text, "installed on DATE)")
	return version.ReplaceAllString(text, "# (Cron version -- VERSION)")
}

// badLines makes a case of each line that Debian's refuses.
func badLines(t *testing.T) []tabCase {
	t.Helper()
	text, err := os.ReadFile("../../crontab/testdata/vectors/invalid.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		ID, Line string
		By       []string `json:"rejected_by"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	var cases []tabCase
	for _, v := range vectors {
		if slices.Contains(v.By, "debian_3.0pl1-162") {
			quoted := "'" + strings.ReplaceAll(v.Line, "'", `'\''`) + "'"
			if v.Line == "\r" || strings.HasPrefix(v.Line, "\ufeff") {
				continue // an editor's, and nothing can be meant by it: both are taken
			}
			cases = append(cases, tabCase{name: v.ID, user: "alice", line: "printf '%s\\n' " + quoted + " | crontab -"})
		}
	}
	return cases
}

func TestCrontabCommandSaysAndDoesWhatDebiansDoes(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	cases := append(slices.Clone(tabCases), badLines(t)...)
	mine := runCases(t, "/run/bin", debianSpool, cases)
	debians := runCases(t, "/usr/bin", debianSpool, cases)
	for i, c := range cases {
		// Debian's looks at the time of the draft before it has written all of it: at
		// the turn of a second it takes its own writing for an edit. On a busy machine that
		// happens twice in a row.
		for again := 0; again < 5 && c.differs == "" && strings.HasPrefix(c.name, "edit") && explanation.ReplaceAllString(mine[i], "") != debians[i]; again++ {
			debians[i] = runCases(t, "/usr/bin", debianSpool, cases[i:i+1])[0]
		}
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, want := mine[i], debians[i]
			if strings.Contains(got, "errors in crontab file") && !strings.Contains(c.name, "terminal") && !explanation.MatchString(got) {
				t.Errorf("%s\nsays not what would be right:\n%s", c.line, got)
			}
			got = explanation.ReplaceAllString(got, "")
			if c.differs != "" {
				if got == want {
					t.Errorf("%s\nis no difference, although %s:\n%s", c.line, c.differs, got)
				}
				// What stands in the spool is told by name, mode and owner.
				got = regexp.MustCompile(`(?m)^\| .*\n|^1730\n`).ReplaceAllString(got, "")
				want = c.want
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\nDebian's (-), ours (+):\n%s", c.line, diff)
			}
		})
	}
}

// asks speaks to the system's socket as no crontab command would.
const asks = `cat >/tmp/ask.py <<'END'
import base64, http.client, json, socket
def ask(method, user, text=None):
    c = http.client.HTTPConnection("belfry")
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.connect("/run/belfry/sock")
    body = None if text is None else json.dumps({"from": "x\n* * * * * id", "text": base64.b64encode(text.encode()).decode()})
    c.request(method, "/api/v1/crontabs/" + user, body)
    answer = c.getresponse()
    print(method, user, answer.status, json.loads(answer.read() or "{}").get("code"))
END
cat >>/tmp/ask.py <<END
$1
END
python3 /tmp/ask.py
`

func TestSocketGivesNobodyAnothersCrontab(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	ask := func(calls ...string) string { return "set -- '" + strings.Join(calls, "\n") + "'\n" + asks }
	every := ask(`ask("GET", "bob")`, `ask("PUT", "bob", "1 1 * * * mine\n")`, `ask("DELETE", "bob")`)
	cases := []tabCase{
		{
			name: "another's", user: "alice", before: `echo '2 2 * * * theirs' | /usr/bin/crontab -u bob -`, line: every,
			want: "GET bob 403 forbidden\nPUT bob 403 forbidden\nDELETE bob 403 forbidden\n-- -- 0\nbob 600 bob\n| # DO NOT EDIT THIS FILE - edit the master and reinstall.\n| # (- installed on DATE)\n| # (Cron version -- VERSION)\n| 2 2 * * * theirs\n",
		},
		{name: "root's", user: "alice", line: ask(`ask("GET", "root")`, `ask("PUT", "root", "* * * * * id\n")`), want: "GET root 403 forbidden\nPUT root 403 forbidden\n-- -- 0\n"},
		{
			name: "what is no user", user: "alice", line: ask(`ask("PUT", "..%2f..%2f..%2fetc%2fcron.d%2fx", "* * * * * root id\n")`, `ask("GET", "alice%2f..%2fbob")`, `ask("GET", "%00")`, `ask("GET", "61002")`),
			want: "PUT ..%2f..%2f..%2fetc%2fcron.d%2fx 403 forbidden\nGET alice%2f..%2fbob 403 forbidden\nGET %00 403 forbidden\nGET 61002 403 forbidden\n-- -- 0\n",
		},
		{
			name: "one's own, denied", user: "alice", before: `echo alice >/etc/cron.deny`, line: ask(`ask("GET", "alice")`, `ask("PUT", "alice", "1 1 * * * x\n")`, `ask("DELETE", "alice")`),
			want: "GET alice 403 forbidden\nPUT alice 403 forbidden\nDELETE alice 403 forbidden\n-- -- 0\n",
		},
		{name: "one's own, with a mistake", user: "alice", line: ask(`ask("PUT", "alice", "bad\n")`, `ask("PUT", "alice", "1 1 * * * x")`), want: "PUT alice 422 bad_file\nPUT alice 422 bad_file\n-- -- 0\n"},
		{
			name: "a name of a file that would be a line", user: "alice", line: ask(`ask("PUT", "alice", "1 1 * * * x\n")`),
			want: "PUT alice 200 None\n-- -- 0\nalice 600 alice\n| # DO NOT EDIT THIS FILE - edit the master and reinstall.\n| # (x?* * * * * id installed on DATE)\n| # (Cron version -- VERSION)\n| 1 1 * * * x\n",
		},
		{name: "by root, anybody's", line: every, want: "GET bob 200 None\nPUT bob 200 None\nDELETE bob 200 None\n-- -- 0\n"},
		{
			name: "what was done is in the account", line: `belfry --data /run/data audit --json | python3 -c 'import json, sys
for act in json.load(sys.stdin): print(act["person"], act["action"], act["detail"])' | sort | uniq`,
			want: "alice crontab of alice\nroot crontab -r of bob\nroot crontab of bob\n-- -- 0\n",
		},
		{name: "by nobody the machine knows", line: ask(`import os; os.setuid(61999)`, `ask("GET", "alice")`), want: "GET alice 403 forbidden\n-- -- 0\n"},
	}
	for i, got := range runCases(t, "/run/bin", debianSpool, cases) {
		t.Run(cases[i].name, func(t *testing.T) {
			if diff := cmp.Diff(cases[i].want, strings.TrimSuffix(got, "1730\n")); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
		})
	}
}

//go:build linux

package crontest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const cronieTab = `printf '1 1 * * * old\n' | install -m 600 -o alice /dev/stdin $SPOOL/alice; `

const cronieUsage = `Usage:
 crontab [options] file
 crontab [options]
 crontab -n [hostname]

Options:
 -u <user>  define user
 -e         edit user's crontab
 -l         list user's crontab
 -r         delete user's crontab
 -i         prompt before deleting
 -n <host>  set host in cluster to run users' crontabs
 -c         get host in cluster to run users' crontabs
 -T <file>  test a crontab file syntax
 -V         print version and exit
 -b         delete without a backup

Default operation is replace, per 1003.2
`

const (
	kept    = "alice 600 alice\n| 1 1 * * * old\n"
	everyOK = `: >/etc/cron.deny; `
)

// cronie is not in Debian's archive. What its command says is written down in
// cron-semantics.md §5.7.
var cronieCases = []tabCase{
	{
		name: "a file, without a header", user: "alice", before: everyOK, line: goodFile + `crontab /tmp/good && crontab -l`,
		want: "0 5 * * * echo hi\n-- -- 0\nalice 600 alice\n| 0 5 * * * echo hi\n",
	},
	{
		name: "no arguments, and no terminal", user: "alice", before: everyOK, line: good + ` | crontab`,
		want: "-- -- 0\nalice 600 alice\n| 0 5 * * * echo hi\n",
	},
	{
		name: "no arguments, on a terminal", line: `script -qefc 'crontab' /dev/null | tr -d '\r'`,
		want: "crontab: usage error: file name or - (for stdin) must be specified\n" + cronieUsage + "-- -- 0\n",
	},
	{
		name: "a directory", user: "alice", before: everyOK, line: `crontab /tmp`,
		want: "-- invalid crontab file: '/tmp' is a directory\n-- 1\n",
	},
	{
		name: "a file that is not there", user: "alice", before: everyOK, line: `crontab /tmp/none`,
		want: "-- /tmp/none: No such file or directory\n-- 1\n",
	},
	{
		name: "a mistake", user: "alice", before: everyOK + cronieTab, line: `echo '61 * * * * x' | crontab -`,
		want: "-- \"-\":0: bad minute\nInvalid crontab file, can't install.\n-- 1\n" + kept,
	},
	{
		name: "without a final newline", user: "alice", before: everyOK, line: `printf '1 1 * * * x\n1 1 * * * y' | crontab -`,
		want: "-- \"-\":2: premature EOF\nInvalid crontab file, can't install.\n-- 1\n",
	},
	{
		name: "a leading -, not root's", user: "alice", before: everyOK, line: `echo '-1 1 * * * x' | crontab -`,
		want: "-- \"-\":0: bad option\nInvalid crontab file, can't install.\n-- 1\n",
	},
	{
		name: "a leading -, root's", line: `echo '-1 1 * * * x' | crontab -`,
		want: "-- -- 0\nroot 600 root\n| -1 1 * * * x\n",
	},
	{
		name: "test what is right", user: "alice", before: everyOK, line: goodFile + `crontab -T /tmp/good`,
		want: "-- No syntax issues were found in the crontab file.\n-- 0\n",
	},
	{
		name: "test what is wrong", user: "alice", before: everyOK, line: `echo bad | crontab -T -`,
		want: "-- \"-\":1: bad minute\nInvalid crontab file. Syntax issues were found.\n-- 1\n",
	},
	{name: "list", user: "alice", before: everyOK + cronieTab, line: `crontab -l`, want: "1 1 * * * old\n-- -- 0\n" + kept},
	{name: "list nothing", user: "alice", before: everyOK, line: `crontab -l`, want: "-- no crontab for alice\n-- 1\n"},
	{
		name: "remove, with a copy", user: "alice", before: everyOK + cronieTab, line: `crontab -r; cat /tmp/.cache/crontab/crontab.bak`,
		want: "Backup of alice's previous crontab saved to /tmp/.cache/crontab/crontab.bak\n1 1 * * * old\n-- -- 0\n",
	},
	{
		name: "remove, with a copy elsewhere", user: "alice", before: everyOK + cronieTab, line: `XDG_CACHE_HOME=/tmp/c crontab -r`,
		want: "Backup of alice's previous crontab saved to /tmp/c/crontab/crontab.bak\n-- -- 0\n",
	},
	{
		name: "remove another's, with a copy that is root's", before: cronieTab, line: `HOME=/tmp XDG_CACHE_HOME=/tmp crontab -u alice -r; cat /root/.cache/crontab/crontab.alice.bak; ls -A /tmp`,
		want: "Backup of alice's previous crontab saved to /root/.cache/crontab/crontab.alice.bak\n1 1 * * * old\n-- -- 0\n",
	},
	{name: "remove, without a copy", user: "alice", before: everyOK + cronieTab, line: `crontab -r -b; ls -A /tmp`, want: "-- -- 0\n"},
	{
		name: "remove, asking: no", user: "alice", before: everyOK + cronieTab, line: `echo no | crontab -ri`,
		want: "crontab: really delete alice's crontab? -- -- 0\n" + kept,
	},
	{
		name: "remove, asking: anything", user: "alice", before: everyOK + cronieTab, line: `echo hm | crontab -ri`,
		want: "crontab: really delete alice's crontab? -- -- 0\n" + kept,
	},
	{
		name: "remove, asking: yes", user: "alice", before: everyOK + cronieTab, line: `echo yes | crontab -rib`,
		want: "crontab: really delete alice's crontab? -- -- 0\n",
	},
	{
		name: "a pipe that nobody writes to", user: "alice", before: everyOK + cronieTab + `mkfifo -m 666 /run/pipe; `, line: `crontab /run/pipe`,
		want: "-- /run/pipe: it is a pipe, and nobody writes to it\n-- 1\n" + kept,
	},
	{name: "remove nothing", user: "alice", before: everyOK, line: `crontab -r`, want: "-- no crontab for alice\n-- 1\n"},
	{name: "one's own by name", user: "alice", before: everyOK, line: `crontab -u alice -l`, want: "-- must be privileged to use -u\n-- 1\n"},
	{name: "an unknown user's", line: `crontab -u nobodyatall -l`, want: "-- crontab:  user `nobodyatall' unknown\n-- 1\n"},
	{name: "a host, not root's", user: "alice", before: everyOK, line: `crontab -n other`, want: "-- must be privileged to set host with -n\n-- 1\n"},
	{name: "help", line: `crontab -h`, want: "-- crontab: invalid option -- 'h'\ncrontab: usage error: unrecognized option\n" + cronieUsage + "-- 1\n"},
	{name: "two operations", line: `crontab -le`, want: "-- crontab: usage error: only one operation permitted\n" + cronieUsage + "-- 1\n"},
	{name: "an argument too many", line: `crontab -l x`, want: "-- crontab: usage error: no arguments permitted after this option\n" + cronieUsage + "-- 1\n"},

	{
		name: "neither file: a user", user: "alice", line: `crontab -l`,
		want: "-- You (alice) are not allowed to use this program (crontab)\nSee crontab(1) for more information\n-- 1\n",
	},
	{name: "neither file: root", line: `crontab -l`, want: "-- no crontab for root\n-- 1\n"},
	{name: "root for somebody who is denied", before: `echo alice >/etc/cron.deny; ` + cronieTab, line: `crontab -u alice -l`, want: "1 1 * * * old\n-- -- 0\n" + kept},
	{name: "in cron.allow", user: "alice", before: `echo alice >/etc/cron.allow`, line: `crontab -l`, want: "-- no crontab for alice\n-- 1\n"},
	{
		name: "in cron.deny", user: "alice", before: `echo alice >/etc/cron.deny`, line: `crontab -l`,
		want: "-- You (alice) are not allowed to use this program (crontab)\nSee crontab(1) for more information\n-- 1\n",
	},

	{
		name: "edit: nothing is changed", user: "alice", before: everyOK + cronieTab, line: `EDITOR=true crontab -e` + tmpGone,
		want: "-- crontab: no changes made to crontab\n-- 0\n" + kept,
	},
	{
		name: "edit: nothing is there", user: "alice", before: everyOK, line: `EDITOR=cat crontab -e`,
		want: "-- no crontab for alice - using an empty one\ncrontab: no changes made to crontab\n-- 0\n",
	},
	{
		name: "edit: an entry more, at once", user: "alice", before: everyOK + cronieTab + editor("quick", `echo '2 2 * * * new' >>"$1"`), line: `EDITOR=/run/ed/quick crontab -e` + tmpGone,
		want: "-- crontab: installing new crontab\n-- 0\n" + kept + "| 2 2 * * * new\n",
	},
	{
		name: "edit: the editor fails", user: "alice", before: everyOK + cronieTab, line: `EDITOR=false crontab -e` + tmpGone,
		want: "-- crontab: \"false\" exited with status 1\n-- 0\n" + kept,
	},
	{
		name: "edit: a link in its place", user: "alice", before: everyOK + cronieTab + editor("links", `ln -sf /etc/passwd "$1"`), line: `EDITOR=/run/ed/links crontab -e` + tmpGone,
		want: "-- crontab: illegal crontab\n-- 0\n" + kept,
	},
	{
		name: "edit: bad, and given up", user: "alice", before: everyOK + cronieTab + editor("bad", `echo bad >"$1"`), line: `printf 'x\nN\n' | EDITOR=/run/ed/bad crontab -e`,
		want: "Do you want to retry the same edit? (Y/N) Do you want to retry the same edit? (Y/N) -- crontab: installing new crontab\n\"/tmp/crontab.TEMP\":1: bad minute\nInvalid crontab file, can't install.\nEnter Y or N\ncrontab: edits left in /tmp/crontab.TEMP\n-- 0\n" + kept,
	},
}

func TestCrontabCommandSaysAndDoesWhatCroniesDoes(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	for i, got := range runCases(t, "/run/bin", cronieSpool, cronieCases) {
		c := cronieCases[i]
		t.Run(c.name, func(t *testing.T) {
			got = strings.TrimSuffix(explanation.ReplaceAllString(got, ""), "1730\n")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\ncronie's (-), ours (+):\n%s", c.line, diff)
			}
		})
	}
}

package crontab

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lintPrelude stands in front of every example that is not whole.
const lintPrelude = "MAILTO=ops@example.com\nCRON_TZ=Asia/Seoul\n"

// machine is what the examples know of one: it has all programs and files, with a few exceptions.
func machine() LintOptions {
	return LintOptions{
		Zone:     time.UTC,
		Now:      time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
		LoadZone: time.LoadLocation,
		LookPath: func(program, path string) (found, executable bool) {
			switch {
			case program == "snakemake":
				found = slices.Contains(strings.Split(path, ":"), "/opt/conda/bin")
				return found, found
			case strings.Contains(program, "missing"), program == "root":
				return false, false
			}
			return true, !strings.Contains(program, "plain")
		},
		UserExists: func(name string) bool { return slices.Contains([]string{"root", "ana", "backup", "sync"}, name) },
		Duration: func(e Entry) time.Duration {
			if strings.Contains(e.Command, "slow") {
				return 20 * time.Minute
			}
			return 0
		},
	}
}

// lintExample lints src as the words in its mode say: whole, system, debian, portable, bare (no machine is known), escaped, zone=,
// name=, and silence= for a rule that is silenced at the top of the file.
func lintExample(t testing.TB, mode, src string) []Finding {
	o, name := machine(), "ops"
	whole, top := false, ""
	for _, word := range strings.Fields(mode) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "whole":
			whole = true
		case "system":
			o.System = true
		case "debian":
			o.Debian = true
		case "portable":
			o.Portable = true
		case "bare":
			o = LintOptions{Options: o.Options}
		case "zone":
			zone, err := time.LoadLocation(value)
			if err != nil {
				t.Fatal(err)
			}
			o.Zone = zone
		case "name":
			name = value
		case "silence":
			top = "# belfry: ignore " + value + "\n\n"
		case "escaped":
			src = strings.NewReplacer(`\r`, "\r", `\ufeff`, "\ufeff", "…", strings.Repeat("x", 1000)).Replace(src)
		default:
			t.Fatalf("there is no mode %q", word)
		}
	}
	if !whole && !o.Portable {
		top += lintPrelude
	}
	if text, ok := strings.CutPrefix(src, "\ufeff"); ok {
		top, src = "\ufeff"+top, text
	}
	found := Lint(name, []byte(top+src), o)
	for i := range found {
		found[i].Line -= strings.Count(top, "\n")
	}
	return found
}

// lintCases is where each rule speaks, and where it must not. want is the place, and empty for silence.
var lintCases = []struct {
	rule, mode, src, want, why string
}{
	{"syntax", "", "0 25 * * * /x\n", "1:3", "what Parse says"},
	{"syntax", "", "0 5 * * * /x", "1:13", "no newline at the end"},
	{"syntax", "", "0 23 * * * /x\n", "", "nothing wrong"},

	{"or-days", "", "0 6 1-7 * 1 /x\n", "1:5", "not the first Monday"},
	{"or-days", "", "0\t6\t1-31\t*\tmon /x\n", "1:5", "all days are enough"},
	{"or-days", "", "0 6 13 * 0-6 /x\n", "1:10", "all weekdays are enough"},
	{"or-days", "", "0 6 * * 1 /x\n", "", "one field"},
	{"or-days", "", "0 6 1-31 * 0-6 /x\n", "", "either way every day"},
	{"or-days", "", "@weekly /x\n", "", "a nickname"},

	{"and-days", "", "0 9 */2 * 1 /x\n", "1:5", "odd days that are Mondays"},
	{"and-days", "", "0 9 1-7 * */2 /x\n", "1:11", "the star in the weekday"},
	{"and-days", "", "0 9 */100,1-7 * 1 /x\n", "", "the known trick for the first Monday"},
	{"and-days", "", "0 9 */1 * 1 /x\n", "", "*/1 is all"},
	{"and-days", "", "0 9 *,1 * 1 /x\n", "", "so is *,1"},

	{"uneven-step", "", "*/7 * * * * /x\n", "1:1", "56 and then 00"},
	{"uneven-step", "", "*/45 * * * * /x\n", "1:1", "45 and then 00"},
	{"uneven-step", "", "3-59/7 * * * * /x\n", "1:1", "a range that fills the hour"},
	{"uneven-step", "", "0 */5 * * * /x\n", "1:3", "20 and then 00"},
	{"uneven-step", "", "0 0 */2 * * /x\n", "1:5", "31 and then 1"},
	{"uneven-step", "", "0 0 1 */5 * /x\n", "1:7", "November and then January"},
	{"uneven-step", "", "0 0 * * */2 /x\n", "1:9", "Saturday and then Sunday"},
	{"uneven-step", "", "*/15 */6 * */3 * /x\n", "", "all of it divides"},
	{"uneven-step", "", "*/7 3 * * * /x\n", "", "one hour of the day, which ends"},
	{"uneven-step", "", "*/7 */2 * * * /x\n", "", "no two hours in a row"},
	{"uneven-step", "", "5-59/15 0-20/4 * * 1-5/2 /x\n", "", "even, or a list of days"},
	{"uneven-step", "", "0-30/7 8-18/3 2-30/2 * * /x\n", "", "windows"},
	{"uneven-step", "", "0 0 1-7 * */7 /x\n", "", "dow */7 is Sunday"},
	{"uneven-step", "", "0 */5 1 * * /x\n", "", "one day, which ends"},

	{"large-step", "", "*/60 * * * * /x\n", "1:1", "the minute 00"},
	{"large-step", "", "0 */24 * * * /x\n", "1:3", "the hour 00"},
	{"large-step", "", "0,10-20/15 * * * * /x\n", "1:3", "in a list"},
	{"large-step", "", "*/30 */12 * * * /x\n", "", "two values each"},
	{"large-step", "", "0 9 */100,1-7 * 1 /x\n", "", "the trick again"},

	{"every-minute", "", "* 2 * * * /x\n", "1:1", "60 times"},
	{"every-minute", "", "* */2 * * * /x\n", "1:1", "60 times every other hour"},
	{"every-minute", "", "* * 1 * * /x\n", "1:1", "1440 times on the first"},
	{"every-minute", "", "* 8-17 * * * /x\n", "", "office hours"},
	{"every-minute", "", "* * * * 1-5 /x\n", "", "weekdays"},
	{"every-minute", "", "*/5 2 * * * /x\n", "", "a step"},
	{"every-minute", "", "@daily /x\n", "", "a nickname"},

	{"never", "", "0 0 31 4,6 * /x\n", "1:5", "neither month has it"},
	{"never", "", "0 0 30 2 1 /x\n", "", "on Mondays it does"},
	{"never", "", "@reboot /x\n", "", "not by time"},

	{"short-month", "", "0 0 31 * * /x\n", "1:5", "five months"},
	{"short-month", "", "0 0 29 2 * /x\n", "1:5", "leap years"},
	{"short-month", "", "0 0 29-31 * * /x\n", "1:5", "February"},
	{"short-month", "", "0 0 31 1,3 * /x\n", "", "both have it"},
	{"short-month", "", "0 0 28-31 * * /x\n", "", "all months have the 28th"},
	{"short-month", "", "0 0 31 * 1 /x\n", "", "and on Mondays"},

	{"dst-skipped", "", "CRON_TZ=America/New_York\n30 2 * * * /x\n", "2:1", "2027-03-14"},
	{"dst-skipped", "", "CRON_TZ=America/New_York\n*/30 2 * * * /x\n", "2:1", "a wildcard that has no other hour"},
	{"dst-skipped", "", "CRON_TZ=America/Santiago\n@daily /x\n", "2:1", "midnight"},
	{"dst-skipped", "whole zone=Europe/Berlin", "0 2 * * 7 /x\n", "1:1", "the machine's zone"},
	{"dst-skipped", "", "CRON_TZ=America/New_York\n30 2 * * 1-5 /x\n", "", "never on a weekday"},
	{"dst-skipped", "", "CRON_TZ=America/New_York\n*/30 * * * * /x\n", "", "it follows elapsed time"},
	{"dst-skipped", "", "CRON_TZ=America/New_York\n*/30 0-5 * * * /x\n", "", "the other hours remain"},
	{"dst-skipped", "", "CRON_TZ=America/New_York\n30 3 * * * /x\n", "", "after it"},
	{"dst-skipped", "", "30 2 * * * /x\n", "", "Seoul does not change"},
	{"dst-skipped", "bare", "CRON_TZ=America/New_York\n30 2 * * * /x\n", "", "no zones are known"},

	{"dst-repeated", "", "CRON_TZ=America/New_York\n30 1 * * * /x\n", "2:1", "2027-11-07"},
	{"dst-repeated", "", "CRON_TZ=America/New_York\n*/20 1 * * * /x\n", "2:1", "six times"},
	{"dst-repeated", "", "CRON_TZ=America/New_York\n0 * * * * /x\n", "", "every real hour"},
	{"dst-repeated", "", "CRON_TZ=America/New_York\n30 2 * * * /x\n", "", "after it"},

	{"no-zone", "whole", "MAILTO=a\n*/5 * * * * /x\n0 5 * * * /y\n0 6 * * * /z\n", "3:1", "once, at the first time of day"},
	{"no-zone", "whole", "MAILTO=a\n0 * 1 * * /x\n", "2:1", "a day"},
	{"no-zone", "whole", "MAILTO=a\n*/5 * * * * /x\n@reboot /y\n", "", "no time of day"},
	{"no-zone", "whole system", "MAILTO=a\n0 5 * * * root /y\n", "", "the system's"},
	{"no-zone", "portable", "MAILTO=a\n0 5 * * * /y\n", "", "there is no way to say it"},
	{"no-zone", "", "0 5 * * * /y\n", "", "stated"},

	{"late-zone", "whole", "MAILTO=a\n0 5 * * * /x\nCRON_TZ=Asia/Seoul\n0 6 * * * /y\n", "3:1", "one entry stays"},
	{"late-zone", "", "0 5 * * * /x\nCRON_TZ=UTC\n0 6 * * * /y\n", "", "each has its own"},

	{"tz-only", "whole", "MAILTO=a\nTZ=Asia/Seoul\n0 * * * * /x\n", "2:1", "the schedules stay"},
	{"tz-only", "whole", "TZ=Asia/Seoul 0 5 * * * /x\n", "1:1", "not an entry at all"},
	{"tz-only", "", "TZ=Asia/Seoul\n0 5 * * * /x\n", "", "CRON_TZ is there too"},

	{"unknown-zone", "", "CRON_TZ=Asia/Soul\n0 5 * * * /x\n", "1:9", "no such zone"},
	{"unknown-zone", "", "CRON_TZ=UTC\n0 5 * * * /x\n", "", "UTC"},
	{"unknown-zone", "bare", "CRON_TZ=Asia/Soul\n0 5 * * * /x\n", "", "not known here"},

	{"env-expansion", "", "PATH=/opt/bin:$PATH\n0 5 * * * /x\n", "1:15", "not expanded"},
	{"env-expansion", "", "DATA='~/data'\n0 5 * * * /x\n", "1:7", "nor is ~"},
	{"env-expansion", "", "WHEN=`date`\n0 5 * * * /x\n", "1:6", "nor is `"},
	{"env-expansion", "", "A=/a\nB=${A}/b\n0 5 * * * /x\n", "2:3", "a variable of the file"},
	{"env-expansion", "", "SALT=pa$word$1$x\nPRICE=5$\n0 5 * * * /x\n", "", "dollars that are meant"},
	{"env-expansion", "", "PATH=/usr/bin:/bin\n0 5 * * * /x\n", "", "no dollars"},

	{"env-comment", "", "MAILTO=a@b.c # me\n0 5 * * * /x\n", "1:14", "part of the address"},
	{"env-comment", "", "COLOR=#fff\nNAME=\"a # b\"\n0 5 * * * /x\n", "", "values"},

	{"bad-mailto", "", "MAILTO=\"a@b.c, d@e.f\"\n0 5 * * * /x\n", "1:15", "a blank"},
	{"bad-mailto", "", "MAILTO=<a@b.c>\n0 5 * * * /x\n", "1:8", "brackets"},
	{"bad-mailto", "", "MAILTO=a@b.c,d+e@f.g\n0 5 * * * /x\n", "", "good"},
	{"bad-mailto", "", "MAILTO=\"\"\n0 5 * * * /x\n", "", "no mail"},

	{"no-mailto", "whole", "@reboot /x\n@hourly /y\n", "1:1", "once"},
	{"no-mailto", "whole", "@hourly /y >>/var/log/y 2>&1\n@hourly /z\n", "2:1", "the first that prints"},
	{"no-mailto", "whole", "@hourly /y >>/var/log/y 2>&1\n", "", "nothing is printed"},
	{"no-mailto", "", "@hourly /y\n", "", "stated"},

	{"secret", "", "DB_PASSWORD=hunter2\n@hourly /x\n", "1:1", "in the mail's header"},
	{"secret", "", "@hourly PGPASSWORD=hunter2 /usr/bin/psql\n", "1:9", "in the command"},
	{"secret", "", "@hourly mysqldump -phunter2 shop\n", "1:19", "mysql's -p"},
	{"secret", "", "@hourly curl -sS https://bot:hunter2@example.com/\n", "1:30", "in an address"},
	{"secret", "", "@hourly /x --api-key=abc\n", "1:12", "an option"},
	{"secret", "", "DB_PASSWORD_FILE=/run/pw\nMY_TOKEN=/run/token\n@hourly /x --token=$T --password-file=/x\n", "", "places, not secrets"},
	{"secret", "", "MAILTO=\"\"\nTOKEN=abc\n@hourly /x\n", "", "no mail is sent"},

	{"odd-name", "", "* = 5\n@hourly /x\n", "1:1", "no name"},
	{"odd-name", "", "A-B=1\n@hourly /x\n", "1:1", "no shell reads it"},
	{"odd-name", "", "a_B1=1\n@hourly /x\n", "", "a name"},

	{"misspelled-name", "", "MAIL_TO=a@b.c\n@hourly /x\n", "1:1", "MAILTO"},
	{"misspelled-name", "", "Path=/bin\n@hourly /x\n", "1:1", "PATH"},
	{"misspelled-name", "", "MAILER=x\nmy_path=x\n@hourly /x\n", "", "other names"},

	{"fixed-name", "", "LOGNAME=ana\n@hourly /x\n", "1:1", "cron sets it"},
	{"fixed-name", "", "USER=ana\n@hourly /x\n", "1:1", "cronie sets it"},
	{"fixed-name", "debian", "USER=ana\n@hourly /x\n", "", "Debian's cron does not"},
	{"fixed-name", "debian", "LOGNAME=ana\n@hourly /x\n", "1:1", "but this"},
	{"fixed-name", "", "USERNAME=ana\n@hourly /x\n", "", "another name"},

	{"dead-assignment", "", "@hourly /x\nA=1\n", "2:1", "below"},
	{"dead-assignment", "", "A=1\nA=2\n@hourly /x\n", "1:1", "replaced"},
	{"dead-assignment", "", "A=1\n@hourly /x\nA=2\n@hourly /y\n", "", "each has its entry"},
	{"dead-assignment", "", "@hourly /x\nA=1\n61 * * * * /y\n", "", "a line that cannot be read may be meant for one"},

	{"no-locale", "", "@hourly sort /a | uniq\n", "1:9", "by which order?"},
	{"no-locale", "", "@hourly LC_ALL=C sort /a\n", "", "stated in the command"},
	{"no-locale", "", "LANG=ko_KR.UTF-8\n@hourly sort /a\n", "", "stated"},

	{"unescaped-percent", "", "@hourly date +%F\n", "1:15", "date"},
	{"unescaped-percent", "", "@hourly /x \"$(date '+%F')\"\n", "1:22", "in quotes"},
	{"unescaped-percent", "", "@hourly /x \\%F $((5 % 2))\n", "1:21", "behind one that is escaped"},
	{"unescaped-percent", "", "@hourly for f in /a/*.gz; do /x ${f%.gz}; done\n", "1:36", "in a loop"},
	{"unescaped-percent", "", "@hourly curl -sS https://example.com/a%20b\n", "1:39", "an address"},
	{"unescaped-percent", "", "@hourly /x 90%\n", "1:14", "nothing follows"},
	{"unescaped-percent", "", "@hourly date +\\%F\n", "", "escaped"},
	{"unescaped-percent", "", "@hourly mail -s hi boss%Dear boss,%%bye%\n", "", "meant"},

	{"bashism", "", "@hourly [[ -f /a ]] && /x\n", "1:9", "[["},
	{"bashism", "", "@hourly source /a && /x\n", "1:9", "source"},
	{"bashism", "", "@hourly /x &> /tmp/x\n", "1:12", "&>"},
	{"bashism", "", "@hourly /x {1..3}\n", "1:12", "braces"},
	{"bashism", "", "@hourly diff <(/a) <(/b)\n", "1:14", "<("},
	{"bashism", "", "@hourly sleep $RANDOM && /x\n", "1:15", "$RANDOM"},
	{"bashism", "", "@hourly [ a == b ] && /x\n", "1:13", "=="},
	{"bashism", "", "@hourly /x ${A//b/c}\n", "1:12", "${A//b/c}"},
	{"bashism", "", "@hourly set -o pipefail; /x | gzip >/a\n", "1:16", "pipefail"},
	{"bashism", "", "SHELL=/bin/bash\n@hourly [[ -f /a ]] && source /b &> /tmp/x\n", "", "bash"},
	{"bashism", "", "@hourly bash -c '[[ -f {1..3} ]] &> /a' && echo \"[[ {a,b} ]]\" '${A//b/c}' ${A:-b} ${A%.x} ${#A}\n", "", "quoted, or known to sh"},
	{"bashism", "", "@hourly curl -O https://example.com/{a,b} && echo \"$'x'\" \\$RANDOM {}\n", "", "curl's braces, and no expansions"},
	{"bashism", "", "@hourly . /a && [ a = b ] && awk '{print $1,$2}' /a >/b 2>&1\n", "", "sh"},

	{"relative-path", "", "@hourly ./run.sh\n", "1:9", "the program"},
	{"relative-path", "", "@hourly python3 -u daily.py\n", "1:20", "the script"},
	{"relative-path", "", "@hourly /x >>out.txt\n", "1:14", "the file"},
	{"relative-path", "", "@hourly nice -n 5 bin/run\n", "1:19", "behind nice"},
	{"relative-path", "", "@hourly 한글=값 ./실행\n", "", "not an assignment to a shell: nothing is known of the rest"},
	{"relative-path", "", "SHELL=bash\n@hourly /x\n", "1:7", "the shell"},
	{"relative-path", "", "@hourly cd /srv && ./run.sh >out.txt\n", "", "after cd"},
	{"relative-path", "", "@hourly python3 -m daily\n", "", "a module"},
	{"relative-path", "", "@hourly ~/bin/run && $HOME/x && rsync -a src/ b:/dst\n", "", "home, and arguments of others"},

	{"hidden-output", "", "@hourly /x >/dev/null 2>&1\n", "1:12", "both"},
	{"hidden-output", "", "@hourly /x &>/dev/null\n", "1:12", "bash's both"},
	{"hidden-output", "", "@hourly /x >/dev/null 2>/dev/null\n", "1:12", "one after the other"},
	{"hidden-output", "", "@hourly /x >/dev/null\n", "", "errors are shown"},
	{"hidden-output", "", "@hourly /x 2>&1 >/dev/null\n", "", "errors are shown"},
	{"hidden-output", "", "@hourly /x && curl -fsS https://hc.example.com >/dev/null 2>&1\n", "", "a word to a monitor"},
	{"hidden-output", "", "@hourly pgrep x >/dev/null 2>&1 || /x\n", "", "a test"},

	{"redirect-order", "", "@hourly /x 2>&1 >>/var/log/x\n", "1:12", "errors to cron"},
	{"redirect-order", "", "@hourly /x >>/var/log/x 2>&1\n", "", "both"},
	{"redirect-order", "", "@hourly /x 2>&1 >/dev/null\n", "", "errors alone by mail, on purpose"},

	{"pipe-status", "", "@hourly pg_dump shop | gzip >/b/shop.gz\n", "1:22", "gzip succeeds"},
	{"pipe-status", "", "@hourly cd /a && /x 2>&1 | tee -a /var/log/x\n", "1:26", "so does tee"},
	{"pipe-status", "", "SHELL=/bin/bash\n@hourly set -o pipefail; pg_dump shop | gzip >/b/shop.gz\n", "", "pipefail"},
	{"pipe-status", "", "@hourly echo hi | mail a@b.c\n", "", "echo does not fail"},
	{"pipe-status", "", "@hourly /x | grep -q y\n", "", "grep's status is meant"},

	{"unchecked-cd", "", "@hourly cd /srv; /bin/rm -rf tmp\n", "1:16", "elsewhere"},
	{"unchecked-cd", "", "@hourly cd /srv && /x; /y\n", "", "checked"},
	{"unchecked-cd", "", "@hourly set -e; cd /srv; /x\n", "", "checked"},

	{"background", "", "@hourly /x >/var/log/x 2>&1 &\n", "1:29", "left behind"},
	{"background", "", "@reboot /x &\n", "", "nobody waits for it"},
	{"background", "", "@hourly /x & /y; wait\n", "", "waited for"},

	{"no-terminal", "", "@hourly docker exec -it db backup\n", "1:21", "no TTY"},
	{"no-terminal", "", "@hourly top >/var/log/top\n", "1:9", "no TTY"},
	{"no-terminal", "", "@hourly docker exec db ls -it\n", "", "another's option"},
	{"no-terminal", "", "@hourly top -b -n 1 >/var/log/top\n", "", "in batches"},

	{"pasted-character", "", "@hourly echo “hi”\n", "1:14", "quotes"},
	{"pasted-character", "", "@hourly 한글 –all\n", "1:12", "a dash, in characters"},
	{"pasted-character", "", "@hourly echo '“hi” – you'\n", "", "quoted"},

	{"reboot-network", "", "@reboot curl -fsS https://example.com\n", "1:9", "too early"},
	{"reboot-network", "", "@reboot sleep 60 && curl -fsS https://example.com\n", "", "it waits"},
	{"reboot-network", "", "@hourly curl -fsS https://example.com\n", "", "not at boot"},

	{"user-column", "", "* * * * * root /usr/bin/apt-get update\n", "1:11", "a user's crontab"},
	{"user-column", "bare", "* * * * * root /usr/bin/apt-get update\n", "1:11", "root is always a user"},
	{"user-column", "system", "@hourly /usr/bin/x y\n", "1:9", "a system crontab"},
	{"user-column", "", "* * * * * sync /x\n", "", "a program of that name"},
	{"user-column", "system", "@hourly ana /usr/bin/x -v\n", "", "a user"},

	{"unknown-user", "system", "@hourly bob /usr/bin/x\n", "1:9", "nobody of that name"},
	{"unknown-user", "system bare", "@hourly bob /usr/bin/x\n", "", "not known here"},
	{"unknown-user", "system", "@hourly ana /usr/bin/x\n", "", "a user"},

	{"not-on-path", "", "@hourly snakemake -j4\n", "1:9", "not in cron's PATH"},
	{"not-on-path", "", "@hourly cd /srv && nice snakemake -j4\n", "1:25", "behind cd and nice"},
	{"not-on-path", "", "PATH=/opt/conda/bin:/bin\n@hourly snakemake -j4\n", "", "in PATH"},
	{"not-on-path", "", "@hourly command -v snakemake && snakemake\n", "", "tested for"},
	{"not-on-path", "", "@hourly . /srv/env && snakemake\n", "", "another PATH"},
	{"not-on-path", "bare", "@hourly snakemake -j4\n", "", "not known here"},

	{"missing-file", "", "@hourly /srv/missing.sh\n", "1:9", "the program"},
	{"missing-file", "", "@hourly cd /a && python3 /srv/missing.py\n", "1:26", "the script"},
	{"missing-file", "", "SHELL=/bin/missing\n@hourly /x\n", "2:9", "the shell"},
	{"missing-file", "", "@hourly test -x /srv/missing.sh && /srv/missing.sh\n", "", "tested for"},
	{"missing-file", "", "@hourly cat /srv/missing.txt\n", "", "an argument of a program that is not known"},

	{"not-executable", "", "@hourly /srv/plain.sh\n", "1:9", "no x"},
	{"not-executable", "", "@hourly sh /srv/plain.sh\n", "", "not needed"},

	{"same-file", "", "0 3 * * * /a >/var/log/n\n*/30 3 * * * /b >>/var/log/n\n", "2:19", "at 03:00"},
	{"same-file", "", "0 3 * * * /a | tee /var/log/n | grep -q b\n0 3 1 * * /b >/var/log/n\n", "2:15", "tee"},
	{"same-file", "", "0 3 * * * /a >/var/log/n\n5 3 * * * /b >>/var/log/n\n", "", "never at one minute"},
	{"same-file", "", "0 3 * * * /a >/dev/null\n0 3 * * * /b >/dev/null\n", "", "no file"},
	{"same-file", "", "0 3 * * * cd /a && /x >n\n0 3 * * * cd /b && /x >n\n", "", "two folders"},
	{"same-file", "", "0 3 1-7 * * /a >/var/log/n\n0 3 8-14 * * /b >/var/log/n\n", "", "never on one day"},

	{"duplicate-entry", "", "0 3 * * * /a\n0  3 * * * /a\n", "2:1", "again"},
	{"duplicate-entry", "", "0 3 * * * /a\nCRON_TZ=UTC\n0 3 * * * /a\n", "", "in another zone"},

	{"crowded-minute", "", "0 0 * * * /a\n@daily /b\n@daily /c\n@weekly /d\n@monthly /e\n", "5:1", "five at midnight on one day"},
	{"crowded-minute", "", "0 0 * * * /a\n@daily /b\n@daily /c\n5 0 * * * /d\n0 * * * * /e\n", "", "three"},
	{"crowded-minute", "", "0 0 * * 1 /a\n0 0 * * 2 /b\n0 0 * * 3 /c\n0 0 * * 4 /d\n0 0 * * 5 /e\n", "", "each on its day"},

	{"overlap", "", "*/15 * * * * /slow\n", "1:1", "20 minutes every 15"},
	{"overlap", "", "*/30 * * * * /slow\n", "", "time enough"},
	{"overlap", "", "*/15 * * * * flock -n /tmp/l /slow\n", "", "a lock"},
	{"overlap", "", "#belfry: overlap=skip\n*/15 * * * * /slow\n", "", "said so"},

	{"carriage-return", "whole", "# a\r\nMAILTO=a\r\n@hourly /x\r\n", "2:9", "once"},
	{"carriage-return", "", "@hourly /x\n", "", "Unix"},
	{"byte-order-mark", "whole", "\ufeffMAILTO=a\n@hourly /x\n", "1:1", "in front"},
	{"byte-order-mark", "whole", "MAILTO=a\n@hourly /x\n", "", "none"},

	{"file-name", "system name=/etc/cron.d/backup.sh", "@hourly ana /x\n", "-1:1", "a dot"},
	{"file-name", "system name=/etc/cron.d/backup~", "@hourly ana /x\n", "-1:1", "an editor's"},
	{"file-name", "system name=/etc/cron.d/back_up-2", "@hourly ana /x\n", "", "good"},
	{"file-name", "system name=/home/ana/backup.sh", "@hourly ana /x\n", "", "another place"},

	{"orphan-options", "", "#belfry: name=a\n# b\n@hourly /x\n", "1:1", "a comment between"},
	{"orphan-options", "", "@hourly /x\n#belfry: name=a\n", "2:1", "nothing below"},
	{"orphan-options", "", "#belfry: name=a\n# belfry: ignore no-zone\n@hourly /x\n", "", "an ignore comment does not part them"},
	{"orphan-options", "", "#belfry: name=a\n#0 5 * * * /x\n", "", "commented out together"},

	{"bad-ignore", "", "# belfry: ignore uneven-steps\n*/5 * * * * /x\n", "1:18", "no such rule"},
	{"bad-ignore", "", "# belfry: ignore\n*/5 * * * * /x\n", "1:1", "no name"},
	{"bad-ignore", "", "@hourly /x\n# belfry: ignore uneven-step\n\n*/7 * * * * /x\n", "2:1", "not directly above"},
	{"bad-ignore", "", "# belfry: ignore uneven-step, or-days\n*/5 * * * * /x\n", "", "names"},
	{"bad-ignore", "", "# belfry ignores nobody\n@hourly /x\n", "", "prose"},

	{"portable-sunday", "portable", "MAILTO=a\n@reboot /x\n* * * * 5-7 /x\n", "3:9", "7"},
	{"portable-sunday", "", "0 5 * * 7 /x\n", "", "only when asked"},
	{"portable-sunday", "portable", "MAILTO=a\n* * * * 0 /x\n", "", "0"},
	{"portable-zone", "portable", lintPrelude + "0 5 * * * /x\n", "2:1", "an ordinary variable"},
	{"portable-zone", "portable", "MAILTO=a\n@hourly /x\n", "", "none"},
	{"portable-random", "portable", "MAILTO=a\n~ * * * * /x\n", "2:1", "drawn anew"},
	{"portable-random", "portable", "MAILTO=a\n5 * * * * /x\n", "", "none"},
	{"portable-range", "portable", "MAILTO=a\n* * * * fri-sun /x\n", "2:9", "empty elsewhere"},
	{"portable-range", "portable", "MAILTO=a\n5-64/30 * * * * /x\n", "2:1", "past the end"},
	{"portable-range", "portable", "MAILTO=a\n5-59/30 * * * 1-5 /x\n", "", "within"},
	{"portable-empty", "portable", "MAILTO=\n@hourly /x\n", "1:1", "an error elsewhere"},
	{"portable-empty", "portable", "MAILTO=\"\"\n@hourly /x\n", "", "quoted"},
	{"portable-option", "portable system", "MAILTO=a\n-@hourly root /x\n", "2:1", "-"},
	{"portable-option", "portable", "MAILTO=a\n@hourly -n /x\n", "2:9", "-n"},
	{"portable-option", "portable", "MAILTO=a\n@hourly /x -n\n", "", "the command's own"},
	{"portable-backslash", "portable", "MAILTO=a\n@hourly printf 'a\\\\n'\n", "2:18", "one there, two here"},
	{"portable-backslash", "portable", "MAILTO=a\n@hourly printf 'a\\n'\n", "", "single"},
	{"portable-length", "portable", "MAILTO=a\n@hourly /x " + strings.Repeat("y", 999) + "\n", "2:9", "too long for Debian"},
	{"portable-length", "portable", "MAILTO=a\nA=" + strings.Repeat("y", 999) + "\n@hourly /x\n", "2:1", "cut off"},
	{"portable-length", "portable", "MAILTO=a\n@hourly /x\n", "", "short"},
}

func TestEachRuleSpeaksWhereItShouldAndNowhereElse(t *testing.T) {
	t.Parallel()
	spoke, silent := map[string]bool{}, map[string]bool{}
	for _, c := range lintCases {
		t.Run(c.rule+"/"+c.why, func(t *testing.T) {
			found := lintExample(t, c.mode, c.src)
			var places []string
			for _, f := range found {
				if f.Rule == c.rule {
					places = append(places, fmt.Sprintf("%d:%d", f.Line, f.Column))
				}
				if f.Message == "" || f.Fix == "" && f.Rule != "syntax" {
					t.Errorf("%v says nothing, or not what to do (%q)", f, f.Fix)
				}
			}
			if got := strings.Join(places, " "); got != c.want {
				t.Errorf("%s (%s) in %q\n got %q\nwant %q\n of %v", c.rule, c.why, c.src, got, c.want, found)
			}
		})
		if c.want != "" {
			spoke[c.rule] = true
		} else {
			silent[c.rule] = true
		}
	}
	for _, rule := range Rules() {
		if !spoke[rule.Name] || !silent[rule.Name] {
			t.Errorf("%s has no case in which it speaks, or none in which it is silent", rule.Name)
		}
		if rule.Summary == "" || rule.Name != strings.ToLower(rule.Name) || (rule.file == nil && rule.entry == nil) {
			t.Errorf("the rule %+v is not whole", rule)
		}
	}
}

func TestLintFindsInWholeFilesWhatAPersonWould(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/crontabs/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no crontabs: %v", err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := LintOptions{Zone: time.UTC, Now: machine().Now, LoadZone: time.LoadLocation}
		o.System = strings.HasPrefix(name, "system") || strings.HasPrefix(name, "cron.d")
		var b strings.Builder
		for _, f := range Lint(name, src, o) {
			fmt.Fprintln(&b, f)
			if f.Fix != "" {
				fmt.Fprintln(&b, "\t"+f.Fix)
			}
		}
		golden := filepath.Join("testdata", "lint", name)
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s (go test -update writes it anew)\n got %s\nwant %s", name, b.String(), want)
		}
	}
}

func TestACommentSilencesRulesForALineOrTheFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, src, want string }{
		{"nothing is silenced", "*/7 * * * * ./x\n", "uneven-step:1 relative-path:1"},
		{"one rule", "# belfry: ignore uneven-step\n*/7 * * * * ./x\n", "relative-path:2"},
		{"two rules", "# belfry: ignore uneven-step, relative-path\n*/7 * * * * ./x\n", ""},
		{"two rules without a comma", "\t#belfry-free\n# belfry:ignore: uneven-step relative-path\n*/7 * * * * ./x\n", ""},
		{"in a block of comments", "# why:\n# belfry: ignore uneven-step\n# more\n*/7 * * * * /x\n", ""},
		{"for one line only", "# belfry: ignore uneven-step\n*/7 * * * * /x\n*/7 * * * * /y\n", "uneven-step:3"},
		{"an empty line parts it", "@hourly /z\n# belfry: ignore uneven-step\n\n*/7 * * * * /x\n", "bad-ignore:2 uneven-step:4"},
		{"above an assignment", "# belfry: ignore env-expansion\nPATH=/a:$PATH\n@hourly /x\n", ""},
		{"above a line that cannot be read", "# belfry: ignore syntax\n61 * * * * /x\n", ""},
		{"a rule of the whole file, at its first place", "# belfry: ignore crowded-minute\n@hourly /x\n", ""},
		{"an unknown name silences nothing", "# belfry: ignore everything\n*/7 * * * * /x\n", "bad-ignore:1 uneven-step:2"},
		{"beside options", "#belfry: name=a\n# belfry: ignore uneven-step\n*/7 * * * * /x\n", ""},
	} {
		var got []string
		for _, f := range lintExample(t, "", c.src) {
			got = append(got, fmt.Sprintf("%s:%d", f.Rule, f.Line))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q\n got %q\nwant %q", c.why, c.src, strings.Join(got, " "), c.want)
		}
	}

	top := "# ours\n# belfry: ignore uneven-step, no-mailto, no-zone\n\n"
	if found := Lint("ops", []byte(top+"*/7 * * * * /x\n0 5 * * * /y\n*/7 * * * * /z\n"), machine()); len(found) != 0 {
		t.Errorf("at the top of the file: got %v, want none", found)
	}
	if found := Lint("ops", []byte(top[:len(top)-1]+"*/7 * * * * /x\n*/7 * * * * /z\n"), machine()); len(found) != 1 || found[0].Line != 4 {
		t.Errorf("without the empty line: got %v, want that of line 4", found)
	}
}

func TestAnIgnoreCommentMayStandBetweenOptionsAndTheirEntry(t *testing.T) {
	t.Parallel()
	f, err := Parse("ops", []byte("#belfry: name=a\n# belfry: ignore no-zone\n@hourly x\n"), Options{})
	if err != nil || len(f.Entries[0].Options) != 1 {
		t.Errorf("got %+v, %v; want the option name", f.Entries, err)
	}
}

func TestPositionsAreCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, rule, text string }{
		{"\t*/7 * * * * /x\n", "uneven-step", "*/7"},
		{"0\t*/5\t* * * /x\n", "uneven-step", "*/5"},
		{"@daily echo '한글과 탭\t' \\% \\\\ ä >>보고서\n", "relative-path", "보고서"},
		{"이름=값\nPATH='/한/글:$PATH'\n@hourly /x\n", "env-expansion", "$PATH"},
		{"@hourly /한글 \\% && python3 보고.py\n", "relative-path", "보고.py"},
		{"@hourly echo 한글\\%글 +%F\n", "unescaped-percent", "%F"},
		{"@hourly /한글 \\%\\%\\%>/dev/null 2>&1\n", "hidden-output", ">/dev/null"},
	} {
		at := -1
		for _, f := range lintExample(t, "", c.src) {
			if f.Rule == c.rule {
				line := []rune(strings.Split(c.src, "\n")[f.Line-1])
				if strings.HasPrefix(string(line[f.Column-1:]), c.text) {
					at = f.Column
				} else {
					t.Errorf("%s in %q is at %d:%d, want it at %q", c.rule, c.src, f.Line, f.Column, c.text)
				}
			}
		}
		if at < 0 {
			t.Errorf("%s is not found in %q", c.rule, c.src)
		}
	}
}

func TestMessagesSayWhatHappens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, message, fix string }{
		{"*/7 * * * * /x\n", `"*/7" in the minute field fires at 00, 07 … 56 and then at 00 again: after 4 minutes, not 7`, `write a step that divides 60, such as "*/6", or list the minutes`},
		{"0 */5 * * * /x\n", `at 00, 05 … 20 o'clock and then at 00 again: after 4 hours, not 5`, `"*/4"`},
		{"0 0 */2 * * /x\n", "fires on 1, 3 … 31 and then on 1 again: after 1 day in a month of 31, not 2", `begin the command with [ $(( $(date +\%s) / 86400 \% 2 )) = 0 ] || exit 0;`},
		{"0 0 * * */2 /x\n", "on Sunday, Tuesday, Thursday and Saturday and then on Sunday again: after 1 day, not 2", "mon,wed,fri"},
		{"0 6 1-7 * 1 /x\n", "it runs at 06:00 on the 1st to the 7th of every month, and also every Monday", `[ "$(TZ=Asia/Seoul date +\%u)" = 1 ] || exit 0;`},
		{"0 6 1-7 * 0,6 /x\n", "and also every", `TZ=Asia/Seoul date +\%u | grep -q "[67]" || exit 0;`},
		{"*/90 * * * * /x\n", "it is 0 and nothing else, once in each hour", "0 0-23/3 and 30 1-23/3"},
		{"*/120 * * * * /x\n", "it is 0 and nothing else", `"0 */2"`},
		{"* 2 * * * /x\n", "it runs 60 times a day, from 02:00 on", `"0 2 * * *"`},
		{"0 0 31 * * /x\n", "February, April, June, September and November have no day 31: it does not run in those months", "28-31"},
		{"0 0 29 * * /x\n", "February has no day 29, except in leap years", "28-31"},
		{"CRON_TZ=America/New_York\n30 2 * * * /x\n", "02:30 does not exist on 2027-03-14 in America/New_York, where the clocks go from 02:00 to 03:00: it runs at 03:00 then", "outside 02:00–02:59"},
		{"CRON_TZ=America/New_York\n*/30 2 * * * /x\n", "it does not run at all that day", "02:00–02:59"},
		{"CRON_TZ=Europe/Berlin\n15 2 * * * /x\n", "02:15 comes twice on 2027-10-31 in Europe/Berlin, where the clocks go back from 03:00 to 02:00: it runs the first time only", "02:00–02:59"},
		{"@hourly date +%F\n", `the shell is given "date +"`, `write \%`},
		{"@hourly /x &> /tmp/x\n", "sh puts the command in the background", "SHELL=/bin/bash"},
		{"0 3 * * * /a >/n\n*/30 3 * * * /b >>/n\n", `line 3 writes "/n" too, and both run at 03:00 (on 2026-01-01, for one): one of them overwrites`, "file of its own"},
		{"@hourly snakemake\n", `"snakemake" is not in the PATH that cron gives (/usr/bin:/bin:/usr/sbin:/sbin)`, "command -v snakemake"},
		{"*/15 * * * * /slow\n", "expected to take 20m, and the next one begins 15m after it", "overlap=skip"},
		{"# belfry: ignore uneven-steps\n@hourly /x\n", `there is no rule "uneven-steps"`, `write "uneven-step"`},
	} {
		ok := false
		var all []string
		for _, f := range lintExample(t, "", c.src) {
			ok = ok || strings.Contains(f.Message, c.message) && strings.Contains(f.Fix, c.fix)
			all = append(all, f.String()+"\n\t"+f.Fix)
		}
		if !ok {
			t.Errorf("%q\n got %s\nwant %s\n\t%s", c.src, strings.Join(all, "\n"), c.message, c.fix)
		}
	}
}

// The page shows for each rule a file that it finds something in, and one that nothing is found in.
func TestThePageSaysWhatTheRulesDo(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), strings.ReplaceAll("    "+strings.TrimSuffix(lintPrelude, "\n"), "\n", "\n    ")) {
		t.Errorf("the page does not show what stands above its examples:\n%s", lintPrelude)
	}
	known := map[string]bool{}
	for _, rule := range Rules() {
		known[rule.Name] = true
		_, section, ok := strings.Cut(string(page), "\n### "+rule.Name+"\n")
		if !ok {
			t.Errorf("%s has no section in docs/lint.md", rule.Name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		if !strings.Contains(section, "`# belfry: ignore "+rule.Name+"`") {
			t.Errorf("the section on %s does not say how to silence it", rule.Name)
		}
		bad, good := 0, 0
		for _, block := range strings.Split(section, "\n```crontab ")[1:] {
			mode, rest, _ := strings.Cut(block, "\n")
			src, _, _ := strings.Cut(rest, "```")
			kind, mode, _ := strings.Cut(mode, " ")
			found := lintExample(t, mode, src)
			var names []string
			for _, f := range found {
				names = append(names, f.Rule)
			}
			names = slices.Compact(names)
			switch kind {
			case "bad":
				bad++
				if len(names) != 1 || names[0] != rule.Name {
					t.Errorf("%s: the bad example %q makes %v", rule.Name, src, found)
				}
				if found := lintExample(t, mode+" silence="+rule.Name, src); len(found) > 0 {
					t.Errorf("%s, silenced: the bad example %q makes %v", rule.Name, src, found)
				}
			case "good":
				good++
				if len(found) > 0 {
					t.Errorf("%s: the good example %q makes %v", rule.Name, src, found)
				}
			default:
				t.Errorf("%s: a block is %q, neither bad nor good", rule.Name, kind)
			}
		}
		if bad == 0 || good == 0 {
			t.Errorf("%s has %d bad and %d good examples on the page, want both", rule.Name, bad, good)
		}
	}
	for _, part := range strings.Split(string(page), "\n### ")[1:] {
		if name, _, _ := strings.Cut(part, "\n"); !known[name] {
			t.Errorf("the page has a section on %q, which is no rule", name)
		}
	}
}

// It would take minutes if the entries were compared each with each.
func TestLintReadsALargeFile(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 10000 {
		if i%10 == 0 {
			fmt.Fprintf(&b, "A%d=1\n", i)
		}
		fmt.Fprintf(&b, "%d 3 * * * /x >>/var/log/all\n", i%60)
	}
	if found := Lint("ops", []byte(b.String()), machine()); len(found) < 1000 {
		t.Errorf("got %d findings, want one for nearly each entry", len(found))
	}
}

func FuzzLint(f *testing.F) {
	for _, c := range lintCases {
		f.Add([]byte(c.src), strings.Contains(c.mode, "system"))
	}
	o := machine()
	o.Portable = true
	f.Fuzz(func(t *testing.T, src []byte, system bool) {
		o := o
		o.System = system
		lines := strings.Split(strings.TrimPrefix(string(src), "\ufeff"), "\n")
		for _, finding := range Lint("fuzz", src, o) {
			if finding.Line < 1 || finding.Line > len(lines) || finding.Column < 1 || finding.Column > utf8.RuneCountInString(lines[finding.Line-1])+1 || finding.Message == "" {
				t.Errorf("Lint(%q): a finding without a place or a message: %+v", src, finding)
			}
		}
	})
}

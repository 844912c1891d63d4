//go:build linux

// Package crontest answers whether schedules fire when the cron of Debian runs them. It is tests only.
//
// The daemon is the binary of Debian's package, unchanged, with its own crontab parser, main loop and queue. What it
// gets from us is a clock: testdata/clock.c is preloaded into it, time() stands still but for sleep(), which moves it on
// by exactly what was asked for, and so two days take a few seconds. The commands of jobs are not executed. A job's process
// is forked and prepared as always, but for the session, which PAM is not asked for; it ends with the line that cron logs
// for it, `(root) CMD (17)`, which is also how we see what ran. Beside the time we note the minute for which it ran: find_jobs takes every minute that it looks at apart
// with gmtime, which the shim overhears. The two differ when the clocks have skipped something, because cron catches up
// minute by minute and pauses ten seconds after every one that started a job; some of what it then runs, it runs twice.
//
// It runs as root in mount and process namespaces of its own: the machine's crontabs and its own daemon, if it has
// one, neither see it nor are seen, and no process and no mount outlives the test, in whatever way that ends.
package crontest

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/machine"
)

var seed = flag.Uint64("seed", 0, "draw the schedules from this; 0 takes a new one")

const (
	cron      = "/usr/sbin/cron"
	schedules = 150 // a window
	length    = 40 * time.Hour
	often     = 41 // firings in a window, enough for one in every hour: a process for each takes its time
)

// windows are forty hours each, begun a day or so before what they are there for. change is what the clocks do in
// them; that tzdata agrees is checked.
var windows = []struct {
	name, zone, from string
	change           time.Duration
}{
	{"an hour is skipped in New York", "America/New_York", "2026-03-07 06:00", time.Hour},
	{"an hour is repeated in New York", "America/New_York", "2026-10-31 00:00", -time.Hour},
	{"an hour is skipped in Berlin", "Europe/Berlin", "2026-03-28 02:30", time.Hour},
	{"an hour is repeated in Berlin", "Europe/Berlin", "2026-10-24 00:00", -time.Hour},
	{"half an hour is skipped on Lord Howe Island", "Australia/Lord_Howe", "2026-10-03 05:15", 30 * time.Minute},
	{"half an hour is repeated on Lord Howe Island", "Australia/Lord_Howe", "2026-04-04 00:45", -30 * time.Minute},
	{"midnight is skipped in Santiago", "America/Santiago", "2026-09-05 00:20", time.Hour},
	{"the hour before midnight is repeated in Santiago", "America/Santiago", "2026-04-03 20:00", -time.Hour},
	{"nothing happens in Seoul", "Asia/Seoul", "2026-03-07 12:00", 0},
	{"a leap day in UTC", "UTC", "2028-02-28 20:00", 0},
	{"a year ends in UTC", "UTC", "2026-12-30 23:00", 0},
}

// firing is a time that a schedule fired at, and the local time that it named, read as UTC.
type firing struct{ at, named int64 }

func (f firing) String() string {
	at, named := time.Unix(f.at, 0).UTC(), time.Unix(f.named, 0).UTC()
	return fmt.Sprintf("%s for local %s", at.Format("2006-01-02 15:04Z"), named.Format("01-02 15:04"))
}

func TestSchedulesFireWhenDebiansCronRunsThem(t *testing.T) {
	t.Parallel()
	shim := needCron(t)
	seed := cmp.Or(*seed, rand.Uint64())
	t.Logf("seed %d", seed)
	for i, w := range windows {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, w.zone)
			from, err := time.ParseInLocation("2006-01-02 15:04", w.from, loc)
			if err != nil {
				t.Fatal(err)
			}
			to := from.Add(length)
			change := changeIn(t, from, to, w.change)

			r := rand.New(rand.NewPCG(seed, uint64(i)))
			exprs := make([]string, schedules)
			tabs := map[bool]*bytes.Buffer{false: {}, true: {}} // by whether they are in system form
			for n := range exprs {
				for exprs[n] = randomSchedule(r, from); firesOften(exprs[n], from, to) && r.IntN(40) != 0; {
					exprs[n] = randomSchedule(r, from)
				}
				if system := n%2 == 1; system {
					fmt.Fprintf(tabs[true], "%s root %d\n", exprs[n], n)
				} else {
					fmt.Fprintf(tabs[false], "%s %d\n", exprs[n], n)
				}
			}

			ran := runCron(t, shim, w.zone, from, to, tabs[false].Bytes(), tabs[true].Bytes())
			wrong, total := 0, 0
			for system, tab := range tabs {
				file, err := crontab.Parse("sample", tab.Bytes(), crontab.Options{System: system, Root: true})
				if err != nil {
					t.Errorf("seed %d: cron accepts what we do not: %v", seed, err)
				}
				for _, entry := range file.Entries {
					n, err := strconv.Atoi(entry.Command)
					if err != nil {
						t.Fatal(err)
					}
					var ours []firing
					for at := range entry.Schedule.Between(from, to) {
						ours = append(ours, firing{at.Unix(), entry.Schedule.Named(at).Unix()})
					}
					debians, err := settle(ran[n], loc, change)
					if err != nil {
						t.Errorf("seed %d: %s: %v", seed, exprs[n], err)
					}
					total += len(debians)
					if slices.Equal(ours, debians) {
						continue
					}
					if wrong++; wrong <= 10 {
						t.Errorf("seed %d, %s, (%v, %v]: %s\n\tours only: %v\n\tcron only: %v", seed, w.zone, from, to, exprs[n],
							without(ours, debians), without(debians, ours))
					}
				}
			}
			if wrong > 10 {
				t.Errorf("and %d more", wrong-10)
			}
			t.Logf("%d schedules, %d firings", schedules, total)
		})
	}
}

// settle makes firings of what cron ran: what it ran late, catching up after the clocks skipped something at change, it
// ran for the minute that it named, or for the end of the gap. Several runs for one minute are one firing.
func settle(ran []firing, loc *time.Location, change time.Time) ([]firing, error) {
	local := func(t time.Time) int64 {
		_, offset := t.Zone()
		return t.Unix() + int64(offset)
	}
	var late error
	firings := make([]firing, 0, len(ran))
	for _, f := range ran {
		f.at -= f.at % 60
		if at := time.Unix(f.at, 0).In(loc); local(at) != f.named {
			if change.IsZero() || at.Before(change) || at.After(change.Add(15*time.Minute)) {
				late = fmt.Errorf("cron ran it at %v and had nothing to catch up with", f)
			}
			f.at = max(change.Unix(), f.named-local(change)+change.Unix())
		}
		firings = append(firings, f)
	}
	slices.SortStableFunc(firings, func(a, b firing) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return int(a.named - b.named)
	})
	return slices.CompactFunc(firings, func(a, b firing) bool { return a.at == b.at }), late
}

func without(list, other []firing) []firing {
	list = slices.DeleteFunc(slices.Clone(list), func(f firing) bool { return slices.Contains(other, f) })
	return list[:min(len(list), 10)]
}

// randomSchedule draws one that both accept: Debian's cron is the more lenient. It leans to the days of the window and
// the hours in which clocks change, to stars in odd places, and away from what runs every minute.
func randomSchedule(r *rand.Rand, from time.Time) string {
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	n := func(low, high int) string { return strconv.Itoa(low + r.IntN(high-low+1)) }
	span := func(low, high int) string {
		a, b := low+r.IntN(high-low+1), low+r.IntN(high-low+1)
		return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
	}
	if r.IntN(20) == 0 {
		return pick("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
	}
	day := from.AddDate(0, 0, r.IntN(3))
	today, month, weekday := strconv.Itoa(day.Day()), strconv.Itoa(int(day.Month())), strconv.Itoa(int(day.Weekday()))
	monthName, weekdayName := strings.ToLower(day.Month().String()[:3]), day.Weekday().String()[:3]

	minute := pick("*/"+n(5, 70), "0", "30", "59", "00", n(0, 59), n(0, 59), n(0, 59), n(0, 59)+","+n(0, 59), "0,30", "0,30,30",
		span(0, 59)+"/"+n(7, 70), "0-59/"+n(10, 30), "5,*/20", "*/20,5")
	hour := pick("*", "*/"+n(1, 30), "0", "1", "2", "3", "23", "02", n(0, 23), n(0, 23), "0-4", "0-"+n(0, 23), "0-23", "0,"+n(0, 23), "1-3",
		"2,*", "*,2", "0-23/"+n(1, 5), "22-23,0-2", span(0, 23)+"/"+n(1, 30))
	if r.IntN(12) == 0 { // often in an hour, but then not in every hour
		minute, hour = pick("*", "*/2", "0-59", "1,*", span(0, 59)), pick("0", "1", "2", "3", "23", "1-3", "*/12", "0-2/2", "2,3")
	}
	if r.IntN(300) == 0 {
		minute, hour = pick("*", "0-59"), pick("*", "0-23")
	}
	dom := pick("*", "*", "*", "*", "*", "*/2", "*/"+n(1, 40), today, today, n(1, 31), "1-31", "1,15", span(1, 31), today+",*", "*,"+today, "28-31",
		span(1, 31)+"/"+n(1, 9))
	months := pick("*", "*", "*", "*", "*", "*", month, monthName, strings.ToUpper(monthName), "*/"+n(1, 14), "1-12", "jan-dec/3", "2,feb,3-sep", n(1, 12))
	dow := pick("*", "*", "*", "*", "*", "0", "7", weekday, weekdayName, "1-5", "Mon-Fri", "*/2", "*/7", "0-6", "6-7", "5,0", "sat,sun", n(0, 7),
		span(0, 7), span(0, 7)+"/"+n(1, 9))
	return strings.Join([]string{minute, hour, dom, months, dow}, pick(" ", " ", "\t", "  "))
}

// firesOften thins out the sample; it has no say in what is right.
func firesOften(expr string, from, to time.Time) bool {
	s, err := crontab.ParseSchedule(expr)
	count := 0
	for range s.Between(from, to) {
		count++
	}
	return err == nil && count > often
}

// changeIn returns when the clocks change between two times, the zero Time when they do not, and fails when it is not
// by as much as expected.
func changeIn(t *testing.T, from, to time.Time, by time.Duration) time.Time {
	t.Helper()
	_, change := from.ZoneBounds()
	if change.IsZero() || change.After(to) {
		if by != 0 {
			t.Fatalf("tzdata has no change between %v and %v; the test wants one of %v", from, to, by)
		}
		return time.Time{}
	}
	_, before := from.Zone()
	_, after := change.Zone()
	got := time.Duration(after-before) * time.Second
	if got != by {
		t.Fatalf("tzdata changes the clocks by %v at %v; the test wants %v", got, change, by)
	}
	if got == 0 {
		return time.Time{} // the turn of a year, which ZoneBounds may take for one
	}
	return change
}

// zone reads the file that cron reads, and not one that the Go tools may have brought along.
func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/usr/share/zoneinfo", name))
	if err != nil {
		t.Fatal(err)
	}
	loc, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// setUp hides what the machine has of cron's files and makes the shell's process cron's.
const setUp = `set -e
mount -t tmpfs none /run
mount -t tmpfs none /etc/cron.d
mount -t tmpfs none /var/spool/cron
if [ -e /etc/crontab ]; then
	: >/run/crontab
	mount --bind /run/crontab /etc/crontab
fi
mkdir /var/spool/cron/crontabs
install -m 600 "$1" /var/spool/cron/crontabs/root
install -m 644 "$2" /etc/cron.d/sample
exec env LD_BIND_NOW=1 LD_PRELOAD="$3" ` + cron + ` -f`

// runCron lets cron have a user crontab of root's and a system crontab from one time to another, and returns what it
// ran by the number that is the command.
func runCron(t *testing.T, shim, zone string, from, to time.Time, user, system []byte) map[int][]firing {
	t.Helper()
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "user"), filepath.Join(dir, "system")}
	for i, text := range [][]byte{user, system} {
		if err := os.WriteFile(files[i], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", setUp, "sh", files[0], files[1], shim)
	// A second after the minute, as cron arranges for itself from the first minute on.
	cmd.Env = append(os.Environ(), "TZ="+zone, fmt.Sprintf("CRONTEST_NOW=%d", from.Unix()+1), fmt.Sprintf("CRONTEST_END=%d", to.Unix()+1))
	out, err := isolated(cmd)
	if err != nil {
		t.Fatalf("%s: %v\n%s", cron, err, out)
	}

	ran := map[int][]firing{}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for i, line := range lines {
		var f firing
		var user, event, detail string
		if n, _ := fmt.Sscanf(line, "%d %d %s %s %s", &f.at, &f.named, &user, &event, &detail); n < 3 {
			t.Fatalf("cron logs %q", line)
		}
		switch {
		case event == "CMD":
			n, err := strconv.Atoi(strings.Trim(detail, "()"))
			if err != nil {
				t.Fatalf("cron ran what is not in the sample: %q", line)
			}
			ran[n] = append(ran[n], f)
		case user == "END" && i == len(lines)-1:
			return ran
		case event != "INFO":
			t.Errorf("cron logs %q", line)
		}
	}
	t.Fatalf("cron ended before its time; the last that it logs is %q", lines[len(lines)-1])
	return nil
}

// isolated runs cmd with mounts and processes of its own, and returns what it prints. It dies with the test.
func isolated(cmd *exec.Cmd) (string, error) {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNS, // which also makes the mounts private
		Pdeathsig:    syscall.SIGKILL,
	}
	runtime.LockOSThread() // the death signal comes with the death of the thread
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	return out.String() + problems.String(), err
}

// needCron returns the clock, compiled. What a developer's machine may lack is a reason to skip; what is lacking where
// the tests may install it, as root, is a failure.
func needCron(t *testing.T) (shim string) {
	t.Helper()
	needNamespaces(t)
	shim = filepath.Join(t.TempDir(), "clock.so")
	gcc := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", shim, "testdata/clock.c", "-ldl")
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("gcc testdata/clock.c (tools/test.sh installs gcc and libc6-dev): %v\n%s", err, out)
	}
	return shim
}

// needNamespaces says what the machine lacks to run Debian's cron, and ours, apart
// from its own.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		machine.Lacks(t, "root: cron runs with mounts and processes of its own")
	}
	if out, err := isolated(exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "none", "/run")); err != nil {
		machine.Lacks(t, "mount and process namespaces (CAP_SYS_ADMIN): %v %s", err, out)
	}
	if _, err := os.Stat(cron); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("Debian's package cron is missing: tools/test.sh installs it")
	}
	version, err := exec.CommandContext(t.Context(), "dpkg-query", "-W", "-f", "${Version}", "cron").Output()
	if err != nil || len(version) == 0 {
		t.Fatalf("%s is not of Debian's package cron: dpkg-query -W cron: %v", cron, err)
	}
	t.Logf("cron %s", version)
}

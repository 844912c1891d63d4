//go:build linux

package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/machine"
	"belfry/internal/project"
	"belfry/internal/run"
)

// A machine's crontabs in a folder: path → the example it is a copy of.
var machines = map[string]map[string]string{
	"debian": {
		"var/spool/cron/crontabs/analyst": "analyst", "var/spool/cron/crontabs/broken": "broken", "var/spool/cron/crontabs/ec2-user": "ec2-user",
		"var/spool/cron/crontabs/chain": "ec2-user-chain", "etc/crontab": "system-debian", "etc/cron.d/backup": "cron.d-no-newline",
		"etc/cron.d/sysstat": "system-rhel", "etc/anacrontab": "anacrontab",
	},
	"cronie": {
		"var/spool/cron/analyst": "analyst", "var/spool/cron/broken": "broken", "var/spool/cron/ec2-user": "ec2-user", "var/spool/cron/chain": "ec2-user-chain",
		"etc/crontab": "system-rhel", "etc/cron.d/backup.old": "cron.d-no-newline", "etc/cron.d/debian": "system-debian", "etc/anacrontab": "anacrontab",
	},
}

var users = []string{"root", "backup", "analyst", "broken", "ec2-user", "chain"}

// newMachine makes such a folder.
func newMachine(t *testing.T, files map[string]string) string {
	t.Helper()
	machine.NeedsRoot(t) // files of several users
	root := t.TempDir()
	passwd, group := "", ""
	for id, name := range users {
		home := "/home/" + name
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", name, id, id, home)
		group += fmt.Sprintf("%s:x:%d:\n", name, id)
	}
	put := func(path, text string, mode os.FileMode) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if id := slices.Index(users, filepath.Base(path)); id > 0 && strings.Contains(path, "/spool/") {
			if err := os.Chown(path, id, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("etc/passwd", passwd, 0o644)
	put("etc/group", group, 0o644)
	put("etc/timezone", "America/New_York\n", 0o644)
	put("etc/hostname", "etl.example.com\n", 0o644)
	for path, example := range files {
		text, err := os.ReadFile("../../crontab/testdata/crontabs/" + example)
		if err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.Contains(path, "spool") {
			mode = 0o600
		}
		put(path, string(text), mode)
	}
	put("etc/cron.daily/logrotate", "#!/bin/sh\n", 0o755)
	put("etc/cron.daily/notes", "not a program\n", 0o644)
	put("etc/cron.weekly/man-db", "#!/bin/sh\n", 0o755)
	return root
}

func TestImportMissesNoEntryAndWhatItWritesFiresAtTheSameTimes(t *testing.T) {
	t.Parallel()
	for dialect, files := range machines {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t, files)
			p := newPlace(t)
			out, said, code := p.belfry("import", "--root", root, "--json", "-o", "all.yaml")
			if code != exitBadFile { // of broken, and of the file without a last newline
				t.Errorf("import exits with %d; want %d\n%s", code, exitBadFile, said)
			}
			var found imported
			if err := json.Unmarshal([]byte(out), &found); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if string(found.Dialect) != dialect || found.Timezone != "America/New_York" || len(found.Crontabs) != len(files) {
				t.Errorf("it found %d files of %s's in %s; want %d of %s's in New York", len(found.Crontabs), found.Dialect, found.Timezone, len(files), dialect)
			}
			newYork := zoneOr("America/New_York")
			written, err := project.Load(p.path("all.yaml"), project.Defaults{Owner: "root", Zone: time.UTC})
			if err != nil {
				t.Fatal(err)
			}
			byName := map[string]*job.Job{}
			for _, j := range written.Jobs {
				byName[j.Name] = j
			}
			total := 0
			for _, f := range found.Crontabs {
				if f.Project == "etc/anacrontab" {
					total += len(f.Entries)
					continue
				}
				text, err := os.ReadFile(f.Path)
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := crontab.Parse(f.Path, text, crontab.Options{System: f.User == "", Root: f.User == "root", Debian: dialect == "debian", Seed: "etl" + strings.TrimPrefix(f.Path, root)})
				jobs, _ := job.FromCrontab(parsed, job.Crontab{Project: f.Project, Owner: f.User, File: f.Path, Zone: newYork})
				if len(f.Entries) != len(jobs) || (err != nil) != (len(f.Errors) > 0) {
					t.Fatalf("%s: %d entries and errors %q; there are %d, and %v", f.Path, len(f.Entries), f.Errors, len(jobs), err)
				}
				for i, e := range f.Entries {
					total++
					meansTheSame(t, byName[e.Name], jobs[i], dialect)
				}
			}
			if total != len(written.Jobs) {
				t.Errorf("%d jobs were written of %d entries", len(written.Jobs), total)
			}
			for _, folder := range found.Folders {
				if folder.RunBy == "" || !strings.Contains(folder.RunBy, "crontab:") && !strings.Contains(folder.RunBy, "cron.d/") {
					t.Errorf("%s is run by %q", folder.Path, folder.RunBy)
				}
			}
			if daily := found.Folders[0].Scripts; len(daily) != 2 || daily[0].Skipped != "" || daily[1].Skipped != "it is not executable" {
				t.Errorf("/etc/cron.daily has %+v", daily)
			}
			if _, _, code := p.belfry("import", "--root", root, "-o", "all.yaml"); code != exitRefused {
				t.Errorf("over a file that is there import exits with %d; want %d", code, exitRefused)
			}
		})
	}
}

// meansTheSame compares the job that a belfry.yaml has with the crontab's.
func meansTheSame(t *testing.T, got, want *job.Job, dialect string) {
	t.Helper()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if a, b := year(got, from), year(want, from); !slices.Equal(a, b) {
		t.Errorf("%s fires %d times in the year as %s, and in %s %d times as %s", got.Name, len(a), got.DrawnTexts(), want.Source, len(b), want.DrawnTexts())
	}
	if !slices.Equal(got.Command.Argv(), want.Command.Argv()) || got.Stdin != want.Stdin || got.CatchUp != want.CatchUp || got.Overlap != want.Overlap {
		t.Errorf("%s is %+v %q %s %s; %s is %+v %q %s %s", got.Name, got.Command, got.Stdin, got.CatchUp, got.Overlap, want.Source, want.Command, want.Stdin, want.CatchUp, want.Overlap)
	}
	var has run.Environ
	for _, v := range got.Env {
		value, err := job.Expand(v.Value, has.Lookup)
		if err != nil {
			t.Errorf("%s: %s: %v", got.Name, v.Name, err)
		}
		has.Set(v.Name, value)
	}
	wants := run.CronEnviron(want, run.Host{User: want.Owner, Home: "/home/" + want.Owner, Debian: dialect == "debian"})
	a, b := has.Strings(), wants.Strings()
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("%s has the environment %q; %s has %q", got.Name, a, want.Source, b)
	}
	if home, _ := wants.Lookup("HOME"); got.Dir != home {
		t.Errorf("%s runs in %q; %s in %s", got.Name, got.Dir, want.Source, home)
	}
	mailto, set := wants.Lookup("MAILTO")
	if !set || strings.Contains(mailto, "#") { // cron mails to nobody who has such a name
		mailto = want.Owner
	}
	if strings.Join(got.Notify.To, ",") != mailto || !slices.Equal(got.Notify.On, want.Notify.On) {
		t.Errorf("%s tells %v of %v; %s tells %s of %v", got.Name, got.Notify.To, got.Notify.On, want.Source, mailto, want.Notify.On)
	}
}

// year gives when a job fires within a year.
func year(j *job.Job, from time.Time) (list []int64) {
	for _, s := range j.Schedules {
		for at := range s.Between(from.In(j.Zone), from.AddDate(1, 0, 0).In(j.Zone)) {
			list = append(list, at.Unix())
		}
	}
	return list
}

func TestImportSaysWhatItFoundInWords(t *testing.T) {
	t.Parallel()
	root := newMachine(t, machines["debian"])
	if err := os.WriteFile(filepath.Join(root, "etc/cron.d/ops.conf"), []byte("* * * * * root true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "var/spool/cron/crontabs/chain"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	out, _, code := p.belfry("import", "--root", root)
	if code != exitBadFile {
		t.Errorf("import exits with %d", code)
	}
	for _, want := range []string{
		"crontabs/analyst: of analyst, 10 jobs\n",
		"  8: rsync, every 15 minutes (00, 15, 30 and 45) from 08:00 to 19:45, every weekday (Monday to Friday), 48 times a day\n",
		"differs: CRON_TZ=Asia/Seoul is an ordinary variable to Debian's cron, and so to belfry: it fires in America/New_York\n",
		"differs: Debian's cron ignores the whole file for what is wrong in it",
		"differs: cron does not mail what it prints: MAILTO \"me@example.com # mine\"",
		"wrong: " + root + "/var/spool/cron/crontabs/broken:3:3: \"25\" is not an hour",
		"lint: pipe-status:",
		"etc/cron.d/ops.conf: not read: Debian's cron passes over names",
		"crontabs/chain: not read: its mode is 0644, and must be 0600\n",
		"etc/anacrontab: of root, 3 jobs\n  differs: anacron is not installed here",
		"etc/cron.daily: 2 files, run by " + root + "/etc/crontab:7\n  logrotate\n  notes: passed over, it is not executable\n",
		"; the machine's cron is debian, its time zone America/New_York\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	out, _, code = p.belfry("import", "--root", root, "--user", "ec2-user", "-o", "-")
	if code != 0 && code != exitBadFile || strings.Count(out, "schedule:") != 1 || !strings.Contains(out, "ttandaudio_to_s3.py") || strings.Contains(out, "several users") {
		t.Errorf("ec2-user's jobs, exit code %d:\n%s", code, out)
	}
	if _, said, code := p.belfry("import", "--root", t.TempDir()); code != exitNotFound || !strings.Contains(said, "there is no crontab") {
		t.Errorf("of an empty folder import says %q and exits with %d", said, code)
	}
}

// asNobody installs a crontab of nobody's with Debian's own command, in a spool
// of its own, and becomes nobody.
const asNobody = `set -e
mount -t tmpfs none /var/spool/cron
install -d -m 1730 -g crontab /var/spool/cron/crontabs
chmod 755 /var/spool/cron
printf '5 4 * * * /usr/bin/python3 /srv/songs.py --all\n' | crontab -u nobody -
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"`

func TestImportShowsAnOrdinaryUserTheirOwnCrontab(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	if _, err := exec.LookPath("crontab"); err != nil {
		t.Fatal("Debian's package cron is missing: tools/test.sh installs it")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // nobody must get there
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "belfry"))
	cmd := exec.Command("unshare", "--mount", "sh", "-c", asNobody, "sh", filepath.Join(dir, "belfry"), "import")
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TZ=UTC"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := string(out); !strings.HasPrefix(text, "crontab -l: of nobody, 1 job\n") || !strings.Contains(text, ": songs, every day at 04:05\n") {
		t.Errorf("it says\n%s", text)
	}
}

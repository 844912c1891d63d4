//go:build linux

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/secrets"
	"belfry/internal/system"
)

// well is a set-up with which nothing is wrong.
func well(t *testing.T) *Setup {
	t.Helper()
	dir := t.TempDir()
	s := &Setup{
		Data: filepath.Join(dir, "data"), Version: "1", Zone: time.UTC, Spool: filepath.Join(dir, "mail"), User: "alice", Key: filepath.Join(dir, "key"),
		Health:   api.Health{Version: "1", PID: 7, Plans: true, Since: time.Date(2026, 7, 8, 0, 0, 0, 0, time.UTC), Keepers: []api.Keeper{{ID: "k", PID: 8, RSS: 15 << 20}}},
		Jobs:     []*job.Job{{ID: job.ID{Project: "p", Name: "nightly"}, Settings: &job.Settings{EnvFile: filepath.Join(dir, "env"), Secrets: []string{"TOKEN"}, SecretsFile: filepath.Join(dir, secrets.FileName), Python: job.Python{Version: ">=3.9"}}}},
		Crontabs: []string{filepath.Join(dir, "jobs.cron")},
		Lint:     func(string) (int, error) { return 0, nil },
		Missed:   func(context.Context) ([]api.Run, error) { return nil, nil },

		CheckStore: func(context.Context) ([]string, error) { return nil, nil },
		CanPunch:   func(string) error { return nil },
		Python:     func(job.Versions) (string, error) { return "Python 3.11", nil },
		Now:        time.Date(2026, 7, 9, 12, 0, 0, 0, time.UTC),
		Machine: Machine{
			Shell: filepath.Join(dir, "sh"), Proc: filepath.Join(dir, "proc"), ZoneInfo: []string{filepath.Join(dir, "zoneinfo")},
			Crontabs: filepath.Join(dir, "spool"), System: []string{filepath.Join(dir, "crontab")},
			Space:  func(string) (Space, error) { return Space{100 << 30, 50 << 30, 1e6, 5e5}, nil },
			InSync: func() (bool, error) { return true, nil },
		},
	}
	write(t, filepath.Join(dir, "env"), "A=1\n", 0o600)
	file := secrets.File{Path: s.Jobs[0].SecretsFile, Key: s.Key}
	if _, err := file.Change(nil, func(set *secrets.Set) error { return set.Put("TOKEN", "hunter2") }); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "jobs.cron"), "0 1 * * * true\n", 0o644)
	write(t, filepath.Join(dir, "zoneinfo", "UTC"), "", 0o644)
	write(t, filepath.Join(dir, "zoneinfo", "tzdata.zi"), "# version 2026a\n", 0o644)
	write(t, filepath.Join(dir, "dash"), "", 0o755)
	write(t, filepath.Join(dir, "proc", "1", "comm"), "init\n", 0o644)
	write(t, filepath.Join(dir, "proc", "12", "comm"), "cron\n", 0o644)
	write(t, filepath.Join(dir, "spool", "bob"), "0 2 * * * false\n", 0o600)
	if err := os.Symlink("dash", s.Machine.Shell); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{s.Data, s.Spool} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func TestNothingIsWrongWithAGoodSetUp(t *testing.T) {
	t.Parallel()
	found := Examine(t.Context(), well(t))
	if len(found) != len(checks) {
		t.Errorf("%d of %d checks found something to look at", len(found), len(checks))
	}
	for _, f := range found {
		if f.Level != Fine || f.Message == "" || f.Next != "" {
			t.Errorf("%s: %+v; want it fine", f.Check, f)
		}
	}
}

func TestEachCheckSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	space := func(s Space) func(*testing.T, *Setup) {
		return func(_ *testing.T, setup *Setup) {
			setup.Machine.Space = func(string) (Space, error) { return s, nil }
		}
	}
	tested := map[string]bool{}
	for _, c := range []struct {
		check string
		spoil func(t *testing.T, s *Setup)
		level Level
		want  string
	}{
		{"daemon", func(_ *testing.T, s *Setup) { s.Health = api.Health{} }, Wrong, "no daemon is running"},
		{"daemon", func(_ *testing.T, s *Setup) { s.Health.Plans = false }, Wrong, "process 7, only finishes a command"},
		{"daemon", func(_ *testing.T, s *Setup) { s.Health.Error = "the planner has not come round" }, Wrong, "is not well: the planner has not"},
		{"version", func(_ *testing.T, s *Setup) { s.Version = "2" }, Warning, "the daemon is belfry 1, and this command is 2"},
		{"jobs", func(_ *testing.T, s *Setup) { s.Broken = errors.New("belfry.yaml:2:3: x") }, Wrong, "belfry.yaml:2:3: x"},
		{"jobs", func(_ *testing.T, s *Setup) { s.LeftOut = []string{"a:1:1: x", "a:2:1: y"} }, Wrong, "a:1:1: x (and 1 more)"},
		{"jobs", func(_ *testing.T, s *Setup) { s.Lint = func(string) (int, error) { return 2, nil } }, Warning, "1 job; 2 things in them"},
		{"jobs", func(_ *testing.T, s *Setup) { s.Lint = func(string) (int, error) { return 0, os.ErrNotExist } }, Wrong, "read crontab"},
		{"env files", func(t *testing.T, s *Setup) { write(t, s.Jobs[0].EnvFile, "A=1\n", 0o622) }, Wrong, "env can be written by others (mode 0622); chmod 600 "},
		{"env files", func(t *testing.T, s *Setup) { write(t, s.Jobs[0].EnvFile, "A=1\n", 0o644) }, Wrong, "env can be read by others (mode 0644); chmod 600 "},
		{"env files", func(_ *testing.T, s *Setup) { s.Jobs[0].EnvFile += "-gone" }, Wrong, "no such file"},
		{"python", func(_ *testing.T, s *Setup) {
			s.Python = func(v job.Versions) (string, error) { return "", fmt.Errorf("no Python in PATH is %s", v) }
		}, Wrong, "the virtual environment of nightly cannot be made: no Python in PATH is >=3.9"},
		{"secrets", func(_ *testing.T, s *Setup) { s.Jobs[0].Secrets = append(s.Jobs[0].Secrets, "OTHER") }, Wrong, "the secret OTHER of nightly is not in "},
		{"secrets", func(_ *testing.T, s *Setup) { s.Jobs[0].SecretsFile += "-gone" }, Wrong, "no such file"},
		{"secrets", func(t *testing.T, s *Setup) { write(t, s.Jobs[0].SecretsFile, "age", 0o600) }, Wrong, "is damaged, or not a file of age"},
		{"secrets", func(_ *testing.T, s *Setup) { s.Key += "-gone" }, Wrong, "the key that opens "},
		{"secrets", func(t *testing.T, s *Setup) { write(t, s.Key, "x", 0o644) }, Wrong, "can be read by others (mode 0644); chmod 600 "},
		{"time zone", func(_ *testing.T, s *Setup) { s.Machine.ZoneInfo = []string{s.Data} }, Warning, "zone data that came with this binary"},
		{"clock", func(_ *testing.T, s *Setup) { s.Machine.InSync = func() (bool, error) { return false, nil } }, Warning, "nothing keeps this machine's clock right"},
		{"data folder", func(_ *testing.T, s *Setup) { s.Data = "/proc/nobody" }, Wrong, "is not there and cannot be made"},
		{"disk", space(Space{100 << 30, 1 << 20, 1e6, 5e5}), Wrong, "1 MB of 102400 are free"},
		{"disk", space(Space{100 << 30, 1 << 29, 1e6, 5e5}), Warning, "512 MB of 102400 are free"},
		{"disk", space(Space{100 << 30, 50 << 30, 1e6, 12}), Wrong, "only 12 of 1000000 inodes"},
		{"disk", space(Space{100 << 30, 50 << 30, 1e6, 12000}), Warning, "only 12000 of 1000000 inodes"},
		{"log limit", func(_ *testing.T, s *Setup) { s.CanPunch = func(string) error { return errors.ErrUnsupported } }, Warning, "log_limit does not hold here"},
		{"account", func(_ *testing.T, s *Setup) {
			s.CheckStore = func(context.Context) ([]string, error) { return []string{"row 3 missing from index"}, nil }
		}, Wrong, "row 3 missing from index"},
		{"keeper", func(_ *testing.T, s *Setup) { s.Health.Keepers[0].Error = "timeout" }, Wrong, "keeper k does not answer: timeout"},
		{"keeper", func(_ *testing.T, s *Setup) { s.Health.Keepers[0].RSS = 300 << 20 }, Warning, "process 8, has 300 MB"},
		{"shell", func(_ *testing.T, s *Setup) { s.Machine.Shell += "-none" }, Wrong, "there is no "},
		{"shell", func(t *testing.T, s *Setup) { write(t, s.Machine.Shell, "", 0o644) }, Wrong, "cannot be executed"},
		{"mail", func(_ *testing.T, s *Setup) { s.Spool += "/none" }, Warning, "mail cannot be put into "},
		{"owed", func(_ *testing.T, s *Setup) { s.Health.Owed, s.Health.OwedError = 2, "no route to host" }, Warning, "2 publishes or messages could not be sent yet; the first: no route to host"},
		{"missed", func(_ *testing.T, s *Setup) {
			s.Missed = func(context.Context) ([]api.Run, error) {
				return []api.Run{
					{Job: "nightly", Count: 3, FiresAt: s.Now.Add(-time.Hour), Reason: "belfry was not running"},
					{Job: "nightly", Count: 50, FiresAt: s.Now.Add(-30 * time.Hour)},
				}, nil
			}
		}, Warning, "3 missed firings in the last day; the newest: nightly at 2026-07-09 11:00 UTC: belfry was not running"},
		{"cron", func(t *testing.T, s *Setup) {
			write(t, filepath.Join(s.Machine.Crontabs, "alice"), "0 1 * * * true\n\n", 0o600)
		}, Wrong, "cron, process 12, runs "},
		{"cron", func(_ *testing.T, s *Setup) { s.Machine.System = s.Crontabs }, Wrong, "cron, process 12, runs "},
	} {
		t.Run(c.check+"/"+c.want, func(t *testing.T) {
			t.Parallel()
			s := well(t)
			c.spoil(t, s)
			for _, f := range Examine(t.Context(), s) {
				if f.Check == c.check {
					if f.Level != c.level || !strings.Contains(f.Message, c.want) || f.Next == "" {
						t.Errorf("it finds %+v; want %s with %q and a next step", f, c.level, c.want)
					}
					return
				}
			}
			t.Errorf("the check %q found nothing to look at", c.check)
		})
		tested[c.check] = true
	}
	for _, c := range checks {
		if !tested[c.name] {
			t.Errorf("the check %q has no test of what is wrong", c.name)
		}
	}
}

func TestEachCrontabThatIsNotUsedHasARow(t *testing.T) {
	t.Parallel()
	s := well(t)
	s.Refused = []*system.Refusal{
		{Path: "/etc/cron.d/ops", Reason: "others can write it", Next: "chmod go-w /etc/cron.d/ops"},
		{Path: "/var/spool/cron/eve", Reason: "there is no user of that name", Next: "remove it"},
	}
	var rows []string
	for _, f := range Examine(t.Context(), s) {
		if f.Check == "crontab" && f.Level == Wrong {
			rows = append(rows, f.Message+"; "+f.Next)
		}
	}
	want := []string{
		"it is not used: /etc/cron.d/ops: others can write it; chmod go-w /etc/cron.d/ops",
		"it is not used: /var/spool/cron/eve: there is no user of that name; remove it",
	}
	if !slices.Equal(rows, want) {
		t.Errorf("the rows are %q, want %q", rows, want)
	}
}

func TestTheMachineIsAsked(t *testing.T) {
	t.Parallel()
	here := Here()
	if space, err := here.Space(t.TempDir()); err != nil || space.Bytes == 0 || space.FreeBytes > space.Bytes {
		t.Errorf("room on this machine: %+v, %v", space, err)
	}
	if _, err := here.InSync(); err != nil {
		t.Errorf("this machine's clock: %v", err)
	}
}

//go:build linux

package doctor

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"belfry/api"
	"belfry/internal/daemon"
	"belfry/internal/job"
	"belfry/internal/secrets"
)

func fine(format string, args ...any) *Finding {
	return &Finding{Level: Fine, Message: fmt.Sprintf(format, args...)}
}

func warning(next, format string, args ...any) *Finding {
	return &Finding{Level: Warning, Message: fmt.Sprintf(format, args...), Next: next}
}

func wrong(next, format string, args ...any) *Finding {
	return &Finding{Level: Wrong, Message: fmt.Sprintf(format, args...), Next: next}
}

func daemonRuns(_ context.Context, s *Setup) *Finding {
	h := s.Health
	switch {
	case s.Silent != "":
		return wrong("its process may be stopped, or waiting for a disk; jobs that are running outlive its restart", "%s", s.Silent)
	case h.PID == 0:
		return wrong("belfry serve starts one", "no daemon is running: nobody keeps the times")
	case !h.Plans:
		return wrong("belfry serve keeps them", "the owner of the data, process %d, only finishes a command: nobody keeps the times", h.PID)
	case h.Error != "":
		return wrong(cmp.Or(h.Hint, "look at the daemon's log"), "the daemon, process %d, is not well: %s", h.PID, h.Error)
	}
	return fine("process %d is well, since %s", h.PID, h.Since.Format("2006-01-02 15:04:05 MST"))
}

func sameVersion(_ context.Context, s *Setup) *Finding {
	switch {
	case s.Health.PID == 0:
		return nil
	case s.Health.Version != s.Version:
		return warning("restart the daemon; jobs that are running go on", "the daemon is belfry %s, and this command is %s", s.Health.Version, s.Version)
	}
	return fine("the daemon and this command are belfry %s", s.Version)
}

func jobFiles(_ context.Context, s *Setup) *Finding {
	switch {
	case s.Broken != nil:
		next := "mend it: without that no daemon starts"
		if s.Health.PID != 0 {
			next = "mend it: the daemon goes on with the jobs as they were, and takes the mended file by itself"
		}
		return wrong(next, "the job files cannot be used: %v", s.Broken)
	case len(s.LeftOut) > 0:
		return wrong("mend it: such a line runs nothing", "%s", s.LeftOut[0]+andMore(len(s.LeftOut)-1))
	}
	count := 0
	for _, file := range s.Crontabs {
		n, err := s.Lint(file)
		if err != nil {
			return wrong("check the path", "read crontab %s: %v", file, err)
		}
		count += n
	}
	if count > 0 {
		return warning("belfry lint "+strings.Join(s.Crontabs, " "), "%s; %s in them may surprise you", number(len(s.Jobs), "job"), number(count, "thing"))
	}
	return fine("%s", number(len(s.Jobs), "job"))
}

func envFiles(_ context.Context, s *Setup) *Finding {
	seen := map[string]bool{}
	for _, j := range s.Jobs {
		if j.EnvFile == "" || seen[j.EnvFile] {
			continue
		}
		seen[j.EnvFile] = true
		if err := secrets.CheckPrivate(j.EnvFile); errors.Is(err, fs.ErrNotExist) {
			return wrong("write it, or take env_file away: the job cannot be started", "the env_file of %s: %v", j.Name, err)
		} else if err != nil {
			return wrong("the job is not started until then", "the env_file of %s: %v", j.Name, err)
		}
	}
	if len(seen) == 0 {
		return nil
	}
	return fine("%s, nobody else can read or write them", number(len(seen), "file"))
}

func pythons(_ context.Context, s *Setup) *Finding {
	found := map[job.Versions]string{}
	for _, j := range s.Jobs {
		if _, looked := found[j.Python.Version]; looked || !j.Python.Wanted() {
			continue
		}
		which, err := s.Python(j.Python.Version)
		if err != nil {
			return wrong("install it: the job cannot be started. This is by the PATH of this command; the daemon may have another, and the job one in env", "the virtual environment of %s cannot be made: %v", j.Name, err)
		}
		found[j.Python.Version] = which
	}
	if len(found) == 0 {
		return nil
	}
	return fine("%s", strings.Join(slices.Compact(slices.Sorted(maps.Values(found))), "; "))
}

func secretFiles(_ context.Context, s *Setup) *Finding {
	names := map[string]bool{}
	files := map[string]*secrets.Set{}
	for _, j := range s.Jobs {
		if len(j.Secrets) == 0 {
			continue
		}
		set := files[j.SecretsFile]
		if set == nil {
			var err error
			set, err = secrets.File{Path: j.SecretsFile, Key: s.Key}.Read()
			if errors.Is(err, fs.ErrNotExist) {
				return wrong("belfry secrets set "+j.Secrets[0], "%s: %v", j.Name, err)
			} else if err != nil {
				return wrong("the job is not started until then", "%s: %v", j.Name, err)
			}
			files[j.SecretsFile] = set
		}
		for _, name := range j.Secrets {
			if _, known := set.Lookup(name); !known {
				return wrong("belfry secrets set "+name, "the secret %s of %s is not in %s: the job is not started", name, j.Name, j.SecretsFile)
			}
			names[name] = true
		}
	}
	if len(files) == 0 {
		return nil
	}
	return fine("%s, opened by the key in %s", number(len(names), "secret"), s.Key)
}

func timeZone(_ context.Context, s *Setup) *Finding {
	for _, dir := range s.Machine.ZoneInfo {
		if _, err := os.Stat(filepath.Join(dir, "UTC")); err != nil {
			continue
		}
		if version := zoneVersion(dir); version != "" {
			return fine("%s, by zone data %s in %s", s.Zone, version, dir)
		}
		return fine("%s, by the zone data in %s, which does not say its version", s.Zone, dir)
	}
	return warning("install the package tzdata: rules change several times a year", "%s, by zone data that came with this binary", s.Zone)
}

// zoneVersion finds the name of a release of zone data, as 2025b.
func zoneVersion(dir string) string {
	if text, err := os.ReadFile(filepath.Join(dir, "+VERSION")); err == nil {
		return strings.TrimSpace(string(text))
	}
	file, err := os.Open(filepath.Join(dir, "tzdata.zi"))
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // it was only read
	line, err := bufio.NewReader(file).ReadString('\n')
	version, found := strings.CutPrefix(strings.TrimSpace(line), "# version ")
	if err != nil || !found {
		return ""
	}
	return version
}

func clockInSync(_ context.Context, s *Setup) *Finding {
	now := s.Now.In(s.Zone).Format("2006-01-02 15:04:05 MST")
	inSync, err := s.Machine.InSync()
	switch {
	case err != nil:
		return warning("compare it with another one", "it is %s; whether the clock is right cannot be found out: %v", now, err)
	case !inSync:
		return warning("have it set by systemd-timesyncd, chrony or ntpd (in a container: on its host)", "it is %s; nothing keeps this machine's clock right", now)
	}
	return fine("it is %s, and the clock is synchronised", now)
}

// clockKept asks the kernel whether something keeps its clock.
func clockKept() (bool, error) {
	const outOfSync, unsynchronised = 5, 0x40 // TIME_ERROR, STA_UNSYNC
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return state != outOfSync && t.Status&unsynchronised == 0, err
}

func dataFolder(_ context.Context, s *Setup) *Finding {
	if _, err := os.Stat(s.Data); errors.Is(err, fs.ErrNotExist) {
		if err := daemon.TryWrite(filepath.Dir(s.Data)); err != nil {
			return wrong("make it, writable for you, or choose another with --data", "%s is not there and cannot be made: %v", s.Data, err)
		}
		return fine("%s will be made", s.Data)
	}
	if err := daemon.TryWrite(s.Data); err != nil {
		return wrong("make room or make it writable: until then no run is started", "%s cannot be written: %v", s.Data, err)
	}
	return fine("%s can be written", s.Data)
}

const mega = 1 << 20

func diskSpace(_ context.Context, s *Setup) *Finding {
	dir := s.Data
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	space, err := s.Machine.Space(dir)
	if err != nil {
		return warning("check the path", "how much room there is cannot be found out: %v", err)
	}
	next := "make room; when the disk is full no run is started"
	room := fmt.Sprintf("%d MB of %d are free", space.FreeBytes/mega, space.Bytes/mega)
	switch {
	case space.FreeBytes < 64*mega:
		return wrong(next, "%s", room)
	case space.Inodes > 0 && space.FreeInodes < 1000:
		return wrong("remove small files: without inodes no run is started", "%s, but only %d of %d inodes", room, space.FreeInodes, space.Inodes)
	case space.FreeBytes < 1024*mega && space.FreeBytes < space.Bytes/10:
		return warning(next, "%s", room)
	case space.Inodes > 0 && space.FreeInodes < space.Inodes/50:
		return warning("remove small files", "%s, but only %d of %d inodes", room, space.FreeInodes, space.Inodes)
	}
	return fine("%s", room)
}

// statfs asks the kernel for the room on a file system.
func statfs(dir string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := uint64(st.Bsize)
	return Space{Bytes: st.Blocks * size, FreeBytes: st.Bavail * size, Inodes: st.Files, FreeInodes: st.Ffree}, nil
}

func holes(_ context.Context, s *Setup) *Finding {
	if _, err := os.Stat(s.Data); err != nil || s.CanPunch == nil {
		return nil
	}
	if err := s.CanPunch(s.Data); err != nil {
		return warning("put the data on ext4, XFS, btrfs or tmpfs", "log_limit does not hold here: the file system of %s cannot give back the middle of a file (%v)", s.Data, err)
	}
	return fine("a job that prints without end is kept within its log_limit")
}

func storeCheck(ctx context.Context, s *Setup) *Finding {
	if s.CheckStore == nil {
		return nil
	}
	found, err := s.CheckStore(ctx)
	var answer *api.Error
	switch {
	case errors.As(err, &answer) && answer.Code == api.NotFound:
		return nil // there is none yet
	case err != nil:
		return wrong("look at the file system, and have a copy at hand (belfry db backup)", "the account cannot be read: %v", err)
	case len(found) > 0:
		return wrong("stop the daemon and put back a copy of belfry.db", "the account is damaged: %s", found[0]+andMore(len(found)-1))
	}
	return fine("belfry.db is whole")
}

func keepers(_ context.Context, s *Setup) *Finding {
	if s.Health.PID == 0 || len(s.Health.Keepers) == 0 {
		return nil // none is needed while nothing runs
	}
	var list []string
	for _, k := range s.Health.Keepers {
		if k.Error != "" {
			return wrong("see keeper/log in the data folder; its jobs go on", "keeper %s does not answer: %s", k.ID, k.Error)
		}
		if k.RSS > 200*mega {
			return warning("tell us: 20 MB are usual", "the keeper, process %d, has %d MB", k.PID, k.RSS/mega)
		}
		list = append(list, fmt.Sprintf("process %d has %d MB", k.PID, k.RSS/mega))
	}
	return fine("%s", strings.Join(list, ", "))
}

func shell(_ context.Context, s *Setup) *Finding {
	target, err := filepath.EvalSymlinks(s.Machine.Shell)
	if err != nil {
		return wrong("install a shell there: crontab entries and commands that are a text need it", "there is no %s: %v", s.Machine.Shell, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm()&0o111 == 0 {
		return wrong("make it executable", "%s cannot be executed", target)
	}
	return fine("%s is %s", s.Machine.Shell, filepath.Base(target))
}

func mailSpool(_ context.Context, s *Setup) *Finding {
	if len(s.Jobs) == 0 {
		return nil
	}
	box := filepath.Join(s.Spool, s.User)
	err := unix.Access(box, unix.W_OK)
	if errors.Is(err, unix.ENOENT) {
		err = unix.Access(s.Spool, unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return warning("make it (a mail system's package does), or choose another folder: daemon: {mail: {spool: …}}", "mail cannot be put into %s: %v", box, err)
	}
	return fine("%s takes mail", box)
}

func owed(_ context.Context, s *Setup) *Finding {
	if s.Health.Owed == 0 {
		return fine("nothing waits to be sent again")
	}
	return warning("belfry show RUN tells of each", "%s could not be sent yet; the first: %s", number(s.Health.Owed, "publish or message"), s.Health.OwedError)
}

func missedFirings(ctx context.Context, s *Setup) *Finding {
	runs, err := s.Missed(ctx)
	if err != nil {
		return warning("belfry runs --state missed", "the account cannot be read: %v", err)
	}
	count, newest := 0, ""
	for _, r := range runs {
		last := r.FiresAt
		if r.FiresUntil != nil {
			last = *r.FiresUntil
		}
		if last.After(s.Now.Add(-24 * time.Hour)) {
			count += r.Count
			newest = cmp.Or(newest, fmt.Sprintf("%s at %s: %s", r.Job, last.Format("2006-01-02 15:04 MST"), r.Reason))
		}
	}
	if count > 0 {
		return warning("belfry runs --state missed lists them, belfry run JOB --date D makes up for one", "%s in the last day; the newest: %s", number(count, "missed firing"), newest)
	}
	return fine("no firing was missed in the last day")
}

// otherCron finds a cron that runs the same crontabs: every job runs twice then.
func otherCron(_ context.Context, s *Setup) *Finding {
	pid := cronProcess(s.Machine.Proc)
	if pid == 0 || len(s.Crontabs) == 0 {
		return nil
	}
	users, _ := filepath.Glob(filepath.Join(s.Machine.Crontabs, "*")) // the pattern is right
	theirs := append(users, s.Machine.System...)
	for _, file := range s.Crontabs {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // jobs tells
		}
		for _, other := range theirs {
			same := file == other || strings.HasPrefix(file, other+"/")
			if !same && slices.Contains(users, other) {
				copied, err := os.ReadFile(other)
				same = err == nil && bytes.Equal(bytes.TrimSpace(copied), bytes.TrimSpace(text)) && len(bytes.TrimSpace(text)) > 0
			}
			if same {
				return wrong("stop cron, or take the crontab away from it with crontab -r: every job of it runs twice", "cron, process %d, runs %s too (%s)", pid, file, other)
			}
		}
	}
	return fine("cron, process %d, runs none of these crontabs", pid)
}

func cronProcess(proc string) int {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(proc, entry.Name(), "comm"))
		if err == nil && slices.Contains([]string{"cron", "crond", "cronie", "fcron"}, strings.TrimSpace(string(name))) {
			return pid
		}
	}
	return 0
}

// Here is the machine that this process runs on.
func Here() Machine {
	return Machine{
		Shell: "/bin/sh", Proc: "/proc", Crontabs: "/var/spool/cron/crontabs", System: []string{"/etc/crontab", "/etc/cron.d"},
		ZoneInfo: []string{"/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"},
		Space:    statfs, InSync: clockKept,
	}
}

func number(n int, what string) string {
	if n != 1 {
		if rest, found := strings.CutPrefix(what, "publish or "); found {
			what = "publishes or " + rest
		}
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

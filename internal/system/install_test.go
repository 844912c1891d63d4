package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"belfry/internal/machine"
)

// withCron makes the files of a machine with Debian's cron.
func withCron(t *testing.T) (root string) {
	t.Helper()
	machine.NeedsRoot(t) // dpkg asks for it
	for _, tool := range []string{"systemctl", "dpkg-divert"} {
		if _, err := exec.LookPath(tool); err != nil {
			machine.Lacks(t, "%s", tool)
		}
	}
	root = t.TempDir()
	for path, text := range map[string]string{
		"usr/lib/systemd/system/cron.service": "[Unit]\nDescription=cron\n[Service]\nExecStart=/usr/sbin/cron -f\n[Install]\nWantedBy=multi-user.target\n",
		"usr/bin/crontab":                     "cron's own\n",
		"var/lib/dpkg/status":                 "",
		"var/spool/cron/crontabs/alice":       "* * * * * true\n",
		"etc/crontab":                         "* * * * * root true\n",
		"self":                                "belfry\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("systemctl", "--root="+root, "enable", "cron.service").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

// tree gives what is below root: path → kind, mode and text. What dpkg keeps for
// itself, and folders, are left out.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(root, path)
		if err := errors.Join(err, relErr); err != nil || entry.IsDir() {
			return err
		}
		if strings.HasPrefix(rel, "var/lib/dpkg/") && rel != "var/lib/dpkg/diversions" {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			text, err = os.Readlink(path)
		} else {
			var read []byte
			read, err = os.ReadFile(path)
			text = string(read)
		}
		if rel == "var/lib/dpkg/diversions" && text == "" { // as good as none
			return err
		}
		found[rel] = info.Mode().String() + " " + text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// carryOut does all steps, or takes them back, as the command does. interrupt may
// end it before any command of the machine's, and after.
func carryOut(root string, back bool, interrupt func() bool) error {
	errInterrupted := errors.New("interrupted")
	i := Installation{Places: At(root, ""), Self: filepath.Join(root, "self")}
	i.Run = func(name string, args ...string) (string, error) {
		if interrupt() {
			return "", errInterrupted
		}
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		if interrupt() {
			return "", errInterrupted
		}
		return string(out), nil
	}
	steps, err := i.Steps()
	if err != nil {
		return err
	}
	if back {
		if !i.Installed() {
			return nil
		}
		slices.Reverse(steps)
	}
	for _, s := range steps {
		pending, err := s.Pending(back)
		if err == nil && interrupt() {
			err = errInterrupted
		}
		if err == nil && pending {
			err = s.Do(back)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestWhoeverIsInterruptedFinishesOrGoesBack(t *testing.T) {
	t.Parallel()
	never := func() bool { return false }
	root := withCron(t)
	before := tree(t, root)
	if err := carryOut(root, false, never); err != nil {
		t.Fatal(err)
	}
	installed := tree(t, root)
	for path, want := range map[string]string{
		"etc/systemd/system/cron.service":                           "Lrwxrwxrwx /dev/null",
		"etc/systemd/system/multi-user.target.wants/belfry.service": "Lrwxrwxrwx /etc/systemd/system/belfry.service",
		"etc/systemd/system/multi-user.target.wants/cron.service":   before["etc/systemd/system/multi-user.target.wants/cron.service"],
		"usr/bin/crontab":               "Lrwxrwxrwx /usr/local/bin/belfry",
		"usr/bin/crontab.belfry-kept":   before["usr/bin/crontab"],
		"usr/local/bin/belfry":          before["self"],
		"var/lib/dpkg/diversions":       "-rw-r--r-- /usr/bin/crontab\n/usr/bin/crontab.belfry-kept\n:\n",
		"var/spool/cron/crontabs/alice": before["var/spool/cron/crontabs/alice"],
		"etc/crontab":                   before["etc/crontab"],
	} {
		if installed[path] != want {
			t.Errorf("%s is %q; want %q", path, installed[path], want)
		}
	}
	if unit := installed["etc/systemd/system/belfry.service"]; !strings.Contains(unit, "ExecStart=/usr/local/bin/belfry serve --system\n") || !strings.Contains(unit, "Conflicts=cron.service\n") {
		t.Errorf("the unit is\n%s", unit)
	}
	if err := carryOut(root, false, never); err != nil {
		t.Errorf("a second time: %v", err)
	}
	same(t, "after a second time", tree(t, root), installed)
	if err := carryOut(root, true, never); err != nil {
		t.Fatal(err)
	}
	same(t, "after going back", tree(t, root), before)

	for _, back := range []bool{false, true} { // what is interrupted
		for point := 1; ; point++ {
			interrupted := false
			for _, then := range []bool{false, true} { // what is done after it
				root := withCron(t)
				if back {
					if err := carryOut(root, false, never); err != nil {
						t.Fatal(err)
					}
				}
				n := 0
				err := carryOut(root, back, func() bool { n++; return n == point })
				interrupted = err != nil
				left := tree(t, root)
				_, cron := left["etc/systemd/system/multi-user.target.wants/cron.service"]
				_, ours := left["etc/systemd/system/multi-user.target.wants/belfry.service"]
				if masked := left["etc/systemd/system/cron.service"] != ""; !ours && (!cron || masked) {
					t.Errorf("interrupted at %d (back: %v): the machine would start without a cron", point, back)
				}
				if err := carryOut(root, then, never); err != nil {
					t.Fatalf("interrupted at %d (back: %v), and then (back: %v): %v", point, back, then, err)
				}
				want := installed
				if then {
					want = before
				}
				same(t, fmt.Sprintf("interrupted at %d (back: %v), and then (back: %v)", point, back, then), tree(t, root), want)
			}
			if !interrupted {
				t.Logf("%d points (back: %v)", point-1, back)
				if point < 8 {
					t.Error("there are too few points to be interrupted at")
				}
				break
			}
		}
	}
}

func same(t *testing.T, when string, got, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestTheSwitchIsNotMadeAtTheTurnOfAMinute(t *testing.T) {
	t.Parallel()
	for second, want := range map[int]int{0: 5, 4: 5, 5: 5, 30: 30, 44: 44, 45: 5, 59: 5} {
		at := time.Date(2026, 7, 9, 1, 2, second, 0, time.UTC)
		awayFromTheMinute(func() time.Time { return at }, func(d time.Duration) { at = at.Add(d) })
		if at.Second() != want {
			t.Errorf("at second %d it is made at second %d; want %d", second, at.Second(), want)
		}
	}
}

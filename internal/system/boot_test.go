package system

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhoeverHasRunTheRebootJobsLeavesCronsOwnMark(t *testing.T) {
	t.Parallel()
	for dialect, mark := range map[Dialect]string{Debian: "run/crond.reboot", Cronie: "run/cron.reboot"} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		p := At(root, dialect)
		if p.RebootDone() {
			t.Errorf("%s: they are run before the machine has started", dialect)
		}
		for range 2 {
			if err := p.MarkReboot(); err != nil {
				t.Fatal(err)
			}
		}
		if info, err := os.Stat(filepath.Join(root, mark)); err != nil || info.Mode() != 0 || !p.RebootDone() {
			t.Errorf("%s: the mark is %v, %v; want %s with no mode", dialect, info, err, mark)
		}
	}
}

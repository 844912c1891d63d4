package system

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheLogLevelIsThatOfDebiansCron(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		dialect Dialect
		want    int
	}{
		{"", Debian, 1},
		{"EXTRA_OPTS=\"-L 15\"\n", Debian, 15},
		{"READ_ENV=\"yes\"\nEXTRA_OPTS='-l -L5'\n", Debian, 5},
		{"EXTRA_OPTS=-L0 # nothing\n", Debian, 0},
		{"EXTRA_OPTS=\"-l\"\n", Debian, 1},
		{"#EXTRA_OPTS=\"-L 15\"\n", Debian, 1},
		{"EXTRA_OPTS=\"-L 15\"\nEXTRA_OPTS=\"\"\n", Debian, 1},
		{"EXTRA_OPTS=\"-L\"\n", Debian, 1},
		{"EXTRA_OPTS=\"-L all\"\n", Debian, 1},
		{"EXTRA_OPTS=\"-L 15\"\n", Cronie, 1},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc/default"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc/default/cron"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := At(root, c.dialect).LogLevel(); got != c.want {
			t.Errorf("%s, with %q: %d, want %d", c.dialect, c.text, got, c.want)
		}
	}
	if got := At(t.TempDir(), Debian).LogLevel(); got != 1 {
		t.Errorf("without a file: %d, want 1", got)
	}
}

//go:build linux

package proc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyOneMakesTheStartRecord(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		dir := t.TempDir()
		if prepared {
			if err := Prepare(dir); err != nil {
				t.Fatal(err)
			}
		}
		first, err := createStart(dir, startRecord{Run: "r", Attempt: 1, Keeper: "first"})
		if err != nil {
			t.Fatalf("prepared %v: %v", prepared, err)
		}
		defer first.close()
		if prepared { // what a second preparation leaves is no second start
			if err := Prepare(dir); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := createStart(dir, startRecord{Run: "r", Attempt: 1, Keeper: "second"}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("prepared %v: the second keeper got %v, want that there is one", prepared, err)
		}
		if start, err := readStart(dir, "r", 1); err != nil || start.Keeper != "first" {
			t.Errorf("prepared %v: the record says %+v, %v", prepared, start, err)
		}
		if _, err := os.Stat(filepath.Join(dir, logName)); prepared != (err == nil) {
			t.Errorf("prepared %v: the log: %v", prepared, err)
		}
	}
}

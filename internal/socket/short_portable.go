//go:build !linux || portable

package socket

import (
	"os"
	"path/filepath"
)

// shortened goes through a link, in a folder that nobody else can change: what
// is behind it may be as long as it likes. It is not $TMPDIR, which is long
// itself on macOS.
func shortened(dir string, do func(short string) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("/tmp", "belfry-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) //nolint:errcheck // an empty link; nothing is behind it any more
	short := filepath.Join(temp, "d")
	if err := os.Symlink(dir, short); err != nil {
		return err
	}
	return do(short)
}

package site

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"belfry/internal/secrets"
)

// Key is the key that opens a project's secrets, a line as age-keygen writes it.
type Key struct {
	Text string `json:"text"`
}

// WriteKey puts a key beside those that this user has. None is ever taken away:
// what was encrypted with it would be lost.
func (s *Site) WriteKey(ctx context.Context, k Key) (changed bool, err error) {
	err = s.atHome(ctx, func() error {
		changed, err = writeKey(k)
		return err
	})
	return changed, err
}

func writeKey(k Key) (changed bool, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return false, err
	}
	path := secrets.KeyPath(home)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	next := string(text)
	if next != "" && !strings.HasSuffix(next, "\n") {
		next += "\n"
	}
	for line := range strings.Lines(k.Text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") && !strings.Contains(next, line) {
			next, changed = next+line+"\n", true
		}
	}
	if !changed {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, err
	}
	return true, replace(path, []byte(next), 0o600)
}

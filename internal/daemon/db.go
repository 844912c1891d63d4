package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"belfry/api"
	"belfry/internal/store"
)

// Backup copies the account and the logs into a folder that must not be there
// yet, as whoever owns the data, or looks at it, writes files.
func (h *history) Backup(ctx context.Context, path string) error {
	if err := h.exists(); err != nil {
		return err
	}
	switch {
	case !filepath.IsAbs(path):
		return &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%q is not an absolute path", path)}
	case filepath.Clean(path) == filepath.Join(h.data, "lock"), filepath.Clean(path) == filepath.Join(h.data, api.SocketName):
		return &api.Error{Code: api.Invalid, Message: path + " is a name that belfry uses itself", Hint: "choose another"}
	}
	if _, err := os.Lstat(path); err == nil {
		return &api.Error{Code: api.Refused, Message: path + " is there already", Hint: "choose another name, or remove it first"}
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return &api.Error{Code: api.NotFound, Message: "there is no folder " + filepath.Dir(path), Hint: "make it first"}
	}
	err := h.store.Backup(ctx, path)
	var full *store.UnavailableError
	if errors.As(err, &full) || errors.Is(err, os.ErrPermission) || unavailable(err) {
		return &api.Error{Code: api.Unavailable, Message: err.Error(), Hint: "make room or make it writable, or choose another place"}
	}
	return err
}

// Check gives what is wrong in the account, a sentence each.
func (h *history) Check(ctx context.Context) ([]string, error) {
	if err := h.exists(); err != nil {
		return nil, err
	}
	return h.store.Check(ctx)
}

func (h *history) exists() error {
	if _, err := os.Stat(filepath.Join(h.data, store.FileName)); err != nil {
		return &api.Error{Code: api.NotFound, Message: "there is no account in " + h.data, Hint: "it begins with the first run, or belfry serve"}
	}
	return nil
}

// Vacuum gives the room that removed runs have left back to the disk.
func (b *backend) Vacuum(ctx context.Context) error { return b.store.Vacuum(ctx) }

func (l *onlooker) Vacuum(context.Context) error { return errNobody }

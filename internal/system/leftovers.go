package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// PassedOver lists the files that look like crontabs and are not read, without
// a word from cron: their names are not what the dialect takes, or they lie where
// another dialect has its spool.
func (p Places) PassedOver() ([]*Refusal, error) {
	var list []*Refusal
	add := func(folder string, wanted func(fs.DirEntry) bool, reason, next string) error {
		entries, err := os.ReadDir(folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if !entry.IsDir() && entry.Name() != ".placeholder" && wanted(entry) {
				list = append(list, &Refusal{Path: filepath.Join(folder, entry.Name()), Reason: reason, Next: next})
			}
		}
		return nil
	}
	why := "cron passes over files of that name"
	if p.Dialect == Debian {
		why = "Debian's cron passes over names with other characters than letters, digits, - and _"
	}
	err := add(p.Folder, func(entry fs.DirEntry) bool { return !p.isCrontab(p.Folder, entry.Name()) }, why, "rename it, if it is to be read")
	if err == nil && p.Dialect == Debian {
		err = add(filepath.Dir(p.Spool), func(fs.DirEntry) bool { return true }, "Debian's cron reads the users' crontabs below "+p.Spool, "if it is a user's: crontab -u USER FILE")
	}
	return list, err
}

package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Periodic is a folder whose programs run-parts runs one after the other, when a
// line of a crontab or an anacrontab tells it to.
type Periodic struct {
	Path    string // below the machine's root
	Name    string // as lines name it: /etc/cron.daily
	Scripts []Script
}

// Script is a file of such a folder.
type Script struct {
	Name    string
	Skipped string // why run-parts passes it over; empty: it runs it
}

// PeriodicFolders gives the folders of programs for each hour, day, week and
// month that there are.
func (p Places) PeriodicFolders() ([]Periodic, error) {
	var list []Periodic
	for _, name := range []string{"/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly", "/etc/cron.yearly"} {
		folder := Periodic{Path: filepath.Join(p.Root, name), Name: name}
		entries, err := os.ReadDir(folder.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.Name() == ".placeholder" { // Debian's, so that the folder stays
				continue
			}
			folder.Scripts = append(folder.Scripts, Script{entry.Name(), p.passedOver(filepath.Join(folder.Path, entry.Name()))})
		}
		list = append(list, folder)
	}
	return list, nil
}

// passedOver says why the dialect's run-parts does not run a file.
func (p Places) passedOver(path string) string {
	name := filepath.Base(path)
	switch {
	case p.Dialect == Debian && !debianName.MatchString(name):
		return "its name has other characters than letters, digits, - and _"
	case p.Dialect == Cronie && slices.ContainsFunc([]string{"~", ",", ".rpmsave", ".rpmorig", ".rpmnew", ".swp", ",v", ".cfsaved"}, func(suffix string) bool {
		return strings.HasSuffix(name, suffix)
	}):
		return "its name ends like that of a backup"
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Sprintf("it cannot be read: %v", errors.Unwrap(err))
	case info.IsDir():
		return "it is a folder"
	case info.Mode().Perm()&0o111 == 0:
		return "it is not executable"
	}
	return ""
}

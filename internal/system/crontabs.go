package system

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Crontab is one of the machine's crontabs, as it was read.
type Crontab struct {
	Project string // alice, etc/crontab, cron.d/ops
	Path    string
	User    string // whose it is; empty: a system crontab, whose lines name their users
	Text    []byte
}

// Found is what there is of crontabs.
type Found struct {
	Crontabs []Crontab
	Refused  []*Refusal
}

// The projects of crontabs that are not a user's.
const (
	crontabProject = "etc/crontab"
	folderProject  = "cron.d/"
)

// Read reads the crontabs of the machine: /etc/crontab, those of /etc/cron.d and
// those of the spool, each kind in the order of names. What is unsafe, or nobody's,
// is among the refused; an error is a fault of the machine.
func (p Places) Read(users *Users) (Found, error) {
	var found Found
	add := func(c Crontab, open func() (*os.File, error)) error {
		var err error
		c.Text, err = p.read(c, open)
		var refusal *Refusal
		switch {
		case errors.As(err, &refusal):
			found.Refused = append(found.Refused, refusal)
		case errors.Is(err, fs.ErrNotExist): // removed since it was listed
		case err != nil:
			return err
		default:
			found.Crontabs = append(found.Crontabs, c)
		}
		return nil
	}
	if err := add(Crontab{Project: crontabProject, Path: p.Crontab}, func() (*os.File, error) { return p.openSystem(p.Crontab) }); err != nil {
		return found, err
	}
	for _, folder := range []string{p.Folder, p.Spool} {
		names, err := p.names(folder)
		var refusal *Refusal
		if errors.As(err, &refusal) {
			found.Refused = append(found.Refused, refusal)
			continue
		}
		if err != nil {
			return found, err
		}
		for _, name := range names {
			path := filepath.Join(folder, name)
			if folder == p.Folder {
				err = add(Crontab{Project: folderProject + name, Path: path}, func() (*os.File, error) { return p.openSystem(path) })
			} else {
				err = add(Crontab{Project: name, Path: path, User: name}, func() (*os.File, error) { return p.openSpooled(path, name, users) })
			}
			if err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// openSpooled opens the crontab of whoever it is called after.
func (p Places) openSpooled(path, name string, users *Users) (*os.File, error) {
	user, err := users.Lookup(name)
	var unknown *UnknownUserError
	if errors.As(err, &unknown) {
		return nil, orphan(path, "there is no user of that name; it will be used when there is one", "remove it, or make the user")
	}
	if err != nil { // the others have no part in it
		return nil, orphan(path, err.Error(), "it is looked up again within a minute")
	}
	return p.OpenUser(user)
}

func orphan(path, reason, next string) *Refusal {
	return &Refusal{Path: path, Event: "ORPHAN (no passwd entry)", Reason: reason, Next: next, Orphan: true}
}

// read reads a crontab as far as the dialect's cron would.
func (p Places) read(c Crontab, open func() (*os.File, error)) ([]byte, error) {
	file, err := open()
	if err != nil {
		return nil, err
	}
	text, err := readAll(file)
	if err != nil {
		return nil, err
	}
	switch {
	case p.Dialect == Debian && bytes.Count(text, []byte("\n")) > maxLines:
		return nil, refuse(c.Path, "crontab must not be longer than 10000 lines, this crontab file will be ignored",
			fmt.Sprintf("it is longer than %d lines", maxLines), "make it shorter")
	case p.Dialect == Cronie && c.User != "" && jobLines(text) > maxLines:
		return nil, refuse(c.Path, "TOO MANY ENTRIES", fmt.Sprintf("it has more than %d lines that run something", maxLines), "make it shorter")
	}
	return text, nil
}

// maxLines is Debian's limit of a crontab's lines, and cronie's of a user's entries.
const maxLines = 10000

// jobLines counts the lines that are neither empty nor comments.
func jobLines(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		if line = bytes.TrimLeft(line, " \t\n"); len(line) > 0 && line[0] != '#' {
			n++
		}
	}
	return n
}

// names lists the files of a folder that the dialect takes for crontabs. One that
// is not there has none.
func (p Places) names(folder string) ([]string, error) {
	err := checkFolder(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if name := entry.Name(); !entry.IsDir() && p.isCrontab(folder, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

var debianName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// isCrontab reports whether a file of that name is one that the dialect reads.
// The others are passed over without a word: they are backups, and what package
// managers leave.
func (p Places) isCrontab(folder, name string) bool {
	switch {
	case p.Dialect == Debian && folder == p.Folder:
		return debianName.MatchString(name)
	case p.Dialect == Debian:
		return name[0] != '.' && !strings.HasPrefix(name, "tmp.") // the last is of its crontab command
	}
	return name[0] != '.' && name[0] != '#' && !slices.ContainsFunc([]string{"~", ".rpmsave", ".rpmorig", ".rpmnew"}, func(suffix string) bool {
		return strings.HasSuffix(name, suffix)
	})
}

// Folders are those in which crontabs come and go.
func (p Places) Folders() []string { return []string{p.Folder, p.Spool} }

// Files lists the files whose change may change what Read finds: the crontabs, as
// far as they are named like ones, the folders, and where users are written down.
func (p Places) Files() []string {
	files := []string{p.Crontab, p.Folder, p.Spool, filepath.Join(p.Root, "etc/passwd"), filepath.Join(p.Root, "etc/group")}
	for _, folder := range p.Folders() {
		names, _ := p.names(folder) // Read says what is wrong
		for _, name := range names {
			files = append(files, filepath.Join(folder, name))
		}
	}
	return files
}

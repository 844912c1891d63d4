// Package system answers: which crontabs does the machine have, whose are they,
// and may they be used? It knows where cron keeps its files, by which rules they
// are safe, and who the machine's users are. It runs nothing: daemon makes jobs
// of what it reads, and cli has the crontab command of it.
package system

import (
	"cmp"
	"os"
	"path/filepath"
)

// Dialect is whose rules are followed where the crons differ.
type Dialect string

// The dialects.
const (
	Cronie Dialect = "cronie" // Fedora, RHEL, Arch …
	Debian Dialect = "debian" // Debian and Ubuntu's cron 3.0pl1
)

// Dialects are all there are, as they are told to people.
var Dialects = []Dialect{Cronie, Debian}

// Places are where a machine keeps what belongs to its cron, as absolute paths.
type Places struct {
	Root    string // what the others lie below: "/", or a folder of a test
	Dialect Dialect
	Spool   string // folder of the users' crontabs, each called after its user
	Crontab string // /etc/crontab
	Folder  string // /etc/cron.d
	Allow   string // /etc/cron.allow
	Deny    string // /etc/cron.deny
	Mail    string // folder of mailboxes
}

// At gives the places of the machine whose file system begins at root; empty:
// this one. Without a dialect it is that of the places: Debian's where there is
// a folder var/spool/cron/crontabs, else cronie's.
func At(root string, dialect Dialect) Places {
	root = cmp.Or(root, "/")
	at := func(path string) string { return filepath.Join(root, path) }
	debians := at("var/spool/cron/crontabs")
	if dialect == "" {
		dialect = Cronie
		if info, err := os.Stat(debians); err == nil && info.IsDir() {
			dialect = Debian
		}
	}
	p := Places{
		Root: root, Dialect: dialect, Spool: at("var/spool/cron"), Crontab: at("etc/crontab"), Folder: at("etc/cron.d"),
		Allow: at("etc/cron.allow"), Deny: at("etc/cron.deny"), Mail: at("var/spool/mail"),
	}
	if dialect == Debian {
		p.Spool, p.Mail = debians, at("var/mail")
	}
	return p
}

// UserCrontab is the path of a user's crontab. The name must be one that
// Users.Lookup gave: it becomes a part of a path.
func (p Places) UserCrontab(user string) string { return filepath.Join(p.Spool, user) }

package system

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Refusal says why a file, or a folder of files, is not used.
type Refusal struct {
	Path   string
	Event  string // cron's word for it, as it stands in its log: WRONG FILE OWNER
	Reason string // in words for people
	Next   string // what would be right
	Orphan bool   // it waits for its user
}

func refuse(path, event, reason, next string) *Refusal {
	return &Refusal{Path: path, Event: event, Reason: reason, Next: next}
}

func (r *Refusal) Error() string { return r.Path + ": " + r.Reason }

// maxSize bounds what is read of a crontab: ten thousand lines of the longest that
// Debian's cron takes.
const maxSize = 16 << 20

// OpenUser opens the crontab that a user has in the spool and checks it by the
// rules of the dialect: a regular file with one name, the user's or root's, that
// nobody else can write. The error is fs.ErrNotExist when there is none, and a
// *Refusal when it must not be used. No link is followed.
func (p Places) OpenUser(user User) (*os.File, error) {
	path := p.UserCrontab(user.Name)
	file, err := openTab(path)
	if err != nil {
		return nil, err
	}
	return checked(file, func(st *unix.Stat_t) *Refusal { return p.CheckUser(path, st, user) })
}

// openTab opens a file of the spool, whatever may stand there: it follows no link
// and waits for no pipe.
func openTab(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, cannotOpen(path, err)
	}
	return file, nil
}

// readRegular reads a file of root's, and waits for no pipe in its place.
func readRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is not a regular file")}
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// CheckUser says what is wrong with a user's crontab, of which st is what fstat
// says; nil: nothing.
func (p Places) CheckUser(path string, st *unix.Stat_t, user User) *Refusal {
	mode := st.Mode &^ unix.S_IFMT
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return notRegular(path, p.Dialect)
	case st.Uid != user.UID && st.Uid != 0:
		return wrongOwner(path, st.Uid, user.Name)
	case p.Dialect == Debian && mode != 0o600:
		return refuse(path, "INSECURE MODE (mode 0600 expected)", fmt.Sprintf("its mode is %04o, and must be 0600", mode), "chmod 600 "+path)
	case p.Dialect == Cronie && mode&0o7533 != 0o400:
		return badMode(path, mode)
	case st.Nlink > 1: // none: it was replaced since it was opened, and is whole
		return links(path, st, p.Dialect)
	}
	return nil
}

// openSystem opens /etc/crontab or a file of /etc/cron.d and checks it: it must
// be root's and writable by nobody else. A link is followed when it is root's
// too.
func (p Places) openSystem(path string) (*os.File, error) {
	var link unix.Stat_t
	if err := unix.Lstat(path, &link); err != nil {
		return nil, cannotOpen(path, &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	isLink := link.Mode&unix.S_IFMT == unix.S_IFLNK
	if isLink && link.Uid != 0 {
		return nil, refuse(path, "WRONG SYMLINK OWNER", fmt.Sprintf("it is a link of user %d, and must be root's", link.Uid), "chown -h root "+path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		if isLink && errors.Is(err, fs.ErrNotExist) {
			return nil, refuse(path, "CAN'T OPEN SYMLINK", "it is a link to a file that is not there", "put the file there, or remove the link")
		}
		return nil, cannotOpen(path, err)
	}
	return checked(file, func(st *unix.Stat_t) *Refusal { return p.checkSystem(path, st) })
}

func (p Places) checkSystem(path string, st *unix.Stat_t) *Refusal {
	mode := st.Mode &^ unix.S_IFMT
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return notRegular(path, p.Dialect)
	case st.Uid != 0:
		return wrongOwner(path, st.Uid, "")
	case p.Dialect == Debian && mode&0o022 != 0:
		return writable(path, mode)
	case p.Dialect == Cronie && mode&0o7533 != 0o400:
		return badMode(path, mode)
	case p.Dialect == Debian && st.Nlink > 1:
		return links(path, st, p.Dialect)
	}
	return nil
}

// CheckRoots says why a file that decides what root runs may not be used: anybody
// but root can write it. One that is not there is fs.ErrNotExist.
func CheckRoots(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Uid != 0:
		return wrongOwner(path, st.Uid, "")
	case st.Mode&0o022 != 0:
		return writable(path, st.Mode&^unix.S_IFMT)
	}
	return nil
}

// checkFolder says why the files of a folder are not used: whoever can put one
// there could run anything as anybody. A group may where it cannot touch the
// files of others (Debian's spool), as the owners of the files are looked at.
func checkFolder(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	mode := st.Mode &^ unix.S_IFMT
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return refuse(path, "NOT A DIRECTORY", "it is not a folder", "mkdir "+path)
	case st.Uid != 0:
		return refuse(path, "WRONG FILE OWNER", fmt.Sprintf("the folder belongs to user %d, and must be root's: none of its files is used", st.Uid), "chown root "+path)
	case mode&0o002 != 0, mode&0o020 != 0 && mode&unix.S_ISVTX == 0:
		return refuse(path, "INSECURE MODE (group/other writable)", fmt.Sprintf("others can put files into the folder (mode %04o): none of its files is used", mode), "chmod go-w "+path)
	}
	return nil
}

// checked closes a file that is refused.
func checked(file *os.File, check func(st *unix.Stat_t) *Refusal) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "stat", Path: file.Name(), Err: err}, file.Close())
	}
	if refusal := check(&st); refusal != nil {
		return nil, errors.Join(refusal, file.Close())
	}
	return file, nil
}

// readAll reads a crontab that was checked.
func readAll(file *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxSize {
		return nil, refuse(file.Name(), "TOO LONG", fmt.Sprintf("it is longer than %d MiB", maxSize>>20), "make it shorter")
	}
	return text, nil
}

// cannotOpen makes a refusal of what keeps a crontab from being opened; one that
// is not there is fs.ErrNotExist.
func cannotOpen(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, unix.ELOOP):
		return refuse(path, "CAN'T OPEN", "it is a link, which is not followed here", "put the file itself there")
	}
	return refuse(path, "CAN'T OPEN", "it cannot be opened: "+errors.Unwrap(err).Error(), "ls -l "+filepath.Dir(path))
}

func notRegular(path string, d Dialect) *Refusal {
	event := "NOT A REGULAR FILE"
	if d == Cronie {
		event = "NOT REGULAR"
	}
	return refuse(path, event, "it is not a regular file", "remove it")
}

func wrongOwner(path string, uid uint32, user string) *Refusal {
	right := "root"
	if user != "" && user != right {
		right = user + " or root"
	}
	return refuse(path, "WRONG FILE OWNER", fmt.Sprintf("it belongs to user %d, and must be of %s", uid, right), "if its lines are right: chown root "+path)
}

// modeBits is how wide st_mode is: on Linux and on macOS.
type modeBits interface{ uint32 | uint16 }

func writable[M modeBits](path string, mode M) *Refusal {
	return refuse(path, "INSECURE MODE (group/other writable)", fmt.Sprintf("others can write it (mode %04o)", mode), "chmod go-w "+path)
}

func badMode[M modeBits](path string, mode M) *Refusal {
	return refuse(path, "BAD FILE MODE", fmt.Sprintf("its mode is %04o, and must be 0600 or 0644", mode), "chmod 600 "+path)
}

func links(path string, st *unix.Stat_t, d Dialect) *Refusal {
	event := "NUMBER OF HARD LINKS > 1"
	if d == Cronie {
		event = "BAD LINK COUNT"
	}
	return refuse(path, event, fmt.Sprintf("the file has %d names (hard links), so somebody may have put another's there", st.Nlink), "find its other name and remove it, or copy the file")
}

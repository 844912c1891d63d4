package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/outbox"
)

// box is a mailbox that is open and locked against everybody.
type box struct {
	path    string
	f       *os.File
	dotlock *os.File // nil where the folder allows none
	created bool     // its name may not be on the disk
}

// deliver appends mail to the mailbox at path unless a mail called id is there.
func (m *Mailbox) deliver(ctx context.Context, reader account, path, id string, mail []byte) error {
	b, err := m.lock(ctx, path, reader)
	if err != nil {
		return finalIfRefused(err)
	}
	defer b.unlock()
	return finalIfRefused(b.append(id, mail))
}

// finalIfRefused marks what only a person can mend. A full disk, a quota and a
// lock that is held mend themselves.
func finalIfRefused(err error) error {
	var refused refusal
	if errors.As(err, &refused) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENAMETOOLONG) {
		return outbox.Final(err)
	}
	return err
}

// lockPatience is how long a mailbox that is locked is waited for at a time.
const lockPatience = 30 * time.Second

// lock opens the mailbox and locks it as Debian's policy (11.6) asks: fcntl, then
// dotlock, neither waited for while the other is held, because a program that
// takes them in the other order would wait for us. A mailbox that stays locked is
// tried again later: whoever holds it does not hold up the mail to others.
func (m *Mailbox) lock(ctx context.Context, path string, reader account) (*box, error) {
	const longest = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	created := false // by this or an earlier round
	for wait := time.Millisecond; ; wait = min(2*wait, longest) {
		b, busy, err := m.tryLock(path, reader, &created)
		if err != nil {
			return nil, err
		}
		if busy == "" {
			return b, nil
		}
		if m.waiting != nil {
			m.waiting(busy)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for %s: %w", busy, context.Cause(ctx))
		}
	}
}

// tryLock does one round of lock. busy names what another program holds.
func (m *Mailbox) tryLock(path string, reader account, created *bool) (locked *box, busy string, err error) {
	b, err := openBox(path, reader, created)
	if errors.Is(err, fs.ErrExist) { // somebody made it since we looked
		return nil, path, nil
	}
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if locked == nil {
			_ = b.f.Close() // and with it the fcntl lock
		}
	}()

	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err = unix.FcntlFlock(b.f.Fd(), setLock, &whole)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, "the fcntl lock of " + path, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("lock %s: %w", path, err)
	}
	b.dotlock, err = takeDotlock(path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, path + ".lock", nil
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS):
		// As other delivery programs of Debian do: fcntl is the lock that all have
		// in common, and a mailbox in such a folder can be used by no other.
		m.noDotlock.Do(func() {
			m.log.Warn("the folder of mailboxes allows no dotlock, locking with fcntl alone", "folder", filepath.Dir(path), "error", err)
		})
	case err != nil:
		return nil, "", err
	}
	// A mail reader may have put a new file in its place while we waited.
	if !b.inPlace() {
		b.removeDotlock()
		return nil, path + ", which was replaced", nil
	}
	if err := b.own(reader); err != nil {
		b.removeDotlock()
		return nil, "", err
	}
	return b, "", nil
}

// openBox opens the mailbox, or makes it, and refuses what is none: a link, a
// second name of some file, a file of somebody else.
func openBox(path string, reader account, created *bool) (*box, error) {
	const flags = os.O_RDWR | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK
	b := &box{path: path}
	var err error
	// Not with O_CREAT alone: in a sticky folder fs.protected_regular would refuse
	// even root the mailboxes of others.
	b.f, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if us := os.Geteuid(); us != 0 && us != reader.uid {
			return nil, refusal(fmt.Sprintf("%s does not exist, and only root or %s can make it", path, reader.name))
		}
		b.f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
		*created = *created || err == nil
		if errors.Is(err, fs.ErrNotExist) {
			return nil, refusal(fmt.Sprintf("there is no folder of mailboxes %s", filepath.Dir(path)))
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, refusal(path + " is a symbolic link, not a mailbox")
	}
	if err != nil {
		return nil, fmt.Errorf("open mailbox: %w", err)
	}
	b.created = *created
	if err := b.check(reader); err != nil {
		_ = b.f.Close()
		return nil, err
	}
	return b, nil
}

func (b *box) check(reader account) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(b.f.Fd()), &st); err != nil {
		return fmt.Errorf("stat mailbox %s: %w", b.path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return refusal(b.path + " is not a regular file, so not a mailbox")
	case st.Nlink > 1:
		return refusal(b.path + " has another name (hard link), so it may be another file than a mailbox")
	case int(st.Uid) != reader.uid && st.Uid != 0:
		return refusal(fmt.Sprintf("%s belongs to user id %d, not to %s", b.path, st.Uid, reader.name))
	}
	return nil
}

// own gives a mailbox that root has made to its reader, with the group mail, so
// that mail programs can write it too. Without the right to do so, or without
// such a group, it stays the reader's alone. One that is empty and root's was
// left by a crash before this.
func (b *box) own(reader account) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(b.f.Fd()), &st); err != nil {
		return fmt.Errorf("stat mailbox %s: %w", b.path, err)
	}
	left := st.Size == 0 && st.Uid == 0 && reader.uid != 0 && os.Geteuid() == 0
	if !b.created && !left {
		return nil
	}
	if mail, ok := mailGroup(); ok && b.f.Chown(reader.uid, mail) == nil {
		if err := b.f.Chmod(0o660); err != nil {
			return fmt.Errorf("make mailbox: %w", err)
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if err := b.f.Chown(reader.uid, reader.gid); err != nil {
		return fmt.Errorf("give mailbox to %s: %w", reader.name, err)
	}
	return nil
}

// mailGroup is the group that mail programs run with, where there is one.
func mailGroup() (gid int, ok bool) {
	g, err := user.LookupGroup("mail")
	if err != nil {
		return 0, false
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, err == nil
}

// inPlace reports whether the file that is locked still is the one at its path.
func (b *box) inPlace() bool {
	there, err := os.Lstat(b.path)
	if err != nil {
		return false
	}
	here, err := b.f.Stat()
	return err == nil && os.SameFile(here, there)
}

func (b *box) unlock() {
	b.removeDotlock()
	// By hand, and not only by Close: a child that is just being started still has
	// the descriptor until its exec, and would hold the lock so long.
	unlock := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart}
	_ = unix.FcntlFlock(b.f.Fd(), setLock, &unlock) // Close does it else
	_ = b.f.Close()                                 // what was written is on the disk already
}

// append writes mail, whole or not at all, and returns when it is on the disk. A
// mail with the same id that stands there already is the same mail, from before a
// crash: it is left alone, or written anew when the crash left half of it.
func (b *box) append(id string, mail []byte) error {
	info, err := b.f.Stat()
	if err != nil {
		return fmt.Errorf("stat mailbox: %w", err)
	}
	size := info.Size()
	from := max(0, size-max(4<<20, 2*int64(len(mail))))
	tail, err := io.ReadAll(io.NewSectionReader(b.f, from, size-from))
	if err != nil {
		return fmt.Errorf("read mailbox: %w", err)
	}
	if start, end, ok := find(tail, id, from == 0); ok {
		if end < len(tail) || whole(tail[start:], mail) {
			b.created = true // perhaps, and its name not yet on the disk
			return b.sync()
		}
		size = from + int64(start)
		tail = tail[:start]
		if err := b.f.Truncate(size); err != nil {
			return fmt.Errorf("remove half a mail: %w", err)
		}
	}
	if _, err := b.f.Write(append(blankLine(tail), mail...)); err != nil {
		return b.undo(size, fmt.Errorf("append to mailbox: %w", err))
	}
	if err := b.sync(); err != nil {
		return b.undo(size, err)
	}
	return nil
}

// undo takes off what a failed append has left.
func (b *box) undo(size int64, cause error) error {
	if err := b.f.Truncate(size); err != nil {
		return fmt.Errorf("%w; and half a mail stays in the mailbox: %v", cause, err)
	}
	return cause
}

// sync waits until the mailbox, and its name when that is new, is on the disk.
func (b *box) sync() error {
	if err := b.f.Sync(); err != nil {
		return fmt.Errorf("sync mailbox: %w", err)
	}
	if !b.created {
		return nil
	}
	folder, err := os.Open(filepath.Dir(b.path))
	if errors.Is(err, fs.ErrPermission) {
		return nil // may be written but not read; then the name is there a little later
	}
	if err != nil {
		return fmt.Errorf("sync folder of mailboxes: %w", err)
	}
	defer func() { _ = folder.Close() }()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("sync folder of mailboxes: %w", err)
	}
	return nil
}

// blankLine is what has to follow tail so that it ends in a blank line. Something
// does when a program died while it was appending, or never ended its mail.
func blankLine(tail []byte) []byte {
	switch {
	case len(tail) == 0 || bytes.HasSuffix(tail, []byte("\n\n")):
		return nil
	case tail[len(tail)-1] == '\n':
		return []byte("\n")
	}
	return []byte("\n\n")
}

// find looks for the mail with the header Message-ID: id, the last if there are
// several, and returns where in tail it starts and ends. atStart says that tail
// is the whole mailbox and so begins with a mail.
func find(tail []byte, id string, atStart bool) (start, end int, ok bool) {
	want := []byte("Message-ID: " + id)
	blank, inHeader := atStart, false
	mail, pos := 0, 0
	for line := range bytes.Lines(tail) {
		text := bytes.TrimRight(line, "\r\n")
		switch {
		case blank && bytes.HasPrefix(line, []byte("From ")):
			if ok && end < 0 {
				end = pos
			}
			mail, inHeader = pos, true
		case inHeader && len(text) == 0:
			inHeader = false
		case inHeader && bytes.EqualFold(text, want):
			start, end, ok = mail, -1, true
		}
		blank = len(text) == 0
		pos += len(line)
	}
	if ok && end < 0 {
		end = len(tail)
	}
	return start, end, ok
}

// whole reports whether the last mail of a mailbox, which has the id of ours, is
// complete. It may differ from ours by what a mail reader has put into its header.
func whole(last, ours []byte) bool {
	half := len(last) < len(ours) && bytes.HasPrefix(ours, last)
	return !half && bytes.HasSuffix(last, []byte("\n\n"))
}

// staleAfter is the age at which a dotlock is one that a crash has left, as in
// liblockfile.
const staleAfter = 5 * time.Minute

// takeDotlock makes path.lock, or says fs.ErrExist. O_EXCL follows no link and is
// atomic, on NFS too since version 3. The caller holds the fcntl lock.
func takeDotlock(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		if err := breakStale(name); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("make dotlock: %w", err)
	}
	// For people, and for programs that look whether its holder lives.
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		_ = f.Close()
		_ = os.Remove(name) // the cause is the error to tell
		return nil, fmt.Errorf("make dotlock: %w", err)
	}
	return f, nil
}

// breakStale removes a dotlock that is too old to be held, else it says
// fs.ErrExist. It moves it aside first, so that of two programs that find the
// same old lock none removes the new one of the other.
func breakStale(name string) error {
	held, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at dotlock: %w", err)
	}
	if time.Since(held.ModTime()) < staleAfter {
		return fs.ErrExist
	}
	aside := name + "." + strconv.Itoa(os.Getpid())
	if err := os.Rename(name, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("break stale dotlock: %w", err)
	}
	defer func() { _ = os.Remove(aside) }()
	moved, err := os.Lstat(aside)
	if err == nil && (!os.SameFile(held, moved) || !held.ModTime().Equal(moved.ModTime())) {
		// A lock that is held. Back with it, unless its place is taken already.
		if err := os.Link(aside, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("put dotlock back: %w", err)
		}
		return fs.ErrExist
	}
	return nil
}

// removeDotlock removes ours, which is open so that no other can have its inode;
// not that of somebody who found ours too old.
func (b *box) removeDotlock() {
	if b.dotlock == nil {
		return
	}
	defer func() { _ = b.dotlock.Close() }()
	ours, err := b.dotlock.Stat()
	if err != nil {
		return // then it is stale in five minutes
	}
	there, err := os.Lstat(b.dotlock.Name())
	if err == nil && os.SameFile(ours, there) {
		_ = os.Remove(b.dotlock.Name())
	}
}

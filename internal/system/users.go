package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// User is a user of the machine.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary, GID among them, as initgroups gives them
	Home   string
	Shell  string
}

// UnknownUserError says that the machine has no such user.
type UnknownUserError struct{ Name string }

func (e *UnknownUserError) Error() string {
	return fmt.Sprintf("there is no user %q on this machine", e.Name)
}

// CheckUserName refuses what cannot be the name of a user: names become parts of
// paths and arguments.
func CheckUserName(name string) error {
	bad := func(r rune) bool { return r == '/' || r == ':' || r <= ' ' || r == 0x7f }
	if name == "" || name == "." || name == ".." || name[0] == '-' || strings.ContainsFunc(name, bad) {
		return &UnknownUserError{name}
	}
	return nil
}

// Users looks the machine's users up: in its etc/passwd and etc/group, and, for
// those who are kept elsewhere (LDAP, sssd), through getent, as the C library
// would. What it has found it remembers until one of the two files changes, what
// getent said for half a minute.
type Users struct {
	root string

	mu     sync.Mutex
	stamps [2]fileTime         // guarded by mu; of passwd and group
	local  map[string]User     // guarded by mu
	remote map[string]answered // guarded by mu
}

type fileTime struct {
	inode uint64
	size  int64
	mtime time.Time
}

// answered is what getent said of one name; user.Name is empty when there is none.
type answered struct {
	user User
	at   time.Time
}

const remember = 30 * time.Second

// Users gives the users of the machine.
func (p Places) Users() *Users { return &Users{root: p.Root} }

// Lookup finds a user by name. The error is an UnknownUserError when there is
// none, another when that cannot be told.
func (u *Users) Lookup(name string) (User, error) {
	if err := CheckUserName(name); err != nil {
		return User{}, err
	}
	return u.find(name, func(user User) bool { return user.Name == name })
}

// LookupID finds a user by id: the first in etc/passwd with it.
func (u *Users) LookupID(uid uint32) (User, error) {
	return u.find(strconv.FormatUint(uint64(uid), 10), func(user User) bool { return user.UID == uid })
}

// find takes what getent is asked for, and how the right user is known: getent
// takes a number for an id, whatever was meant.
func (u *Users) find(key string, right func(User) bool) (User, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.read(); err != nil {
		return User{}, err
	}
	if user, ok := u.local[key]; ok && right(user) {
		return user, nil
	}
	known, asked := u.remote[key]
	if !asked || time.Since(known.at) > remember {
		u.mu.Unlock() // it may take long, and the starts of others' jobs need no answer of it
		user, err := u.ask(key)
		u.mu.Lock()
		if err != nil {
			return User{}, err
		}
		known = answered{user, time.Now()}
		u.remote[key] = known
	}
	if known.user.Name == "" || !right(known.user) {
		return User{}, &UnknownUserError{key}
	}
	return known.user, nil
}

// read reads passwd and group unless they are as they were. Its caller holds mu.
func (u *Users) read() error {
	paths := [2]string{filepath.Join(u.root, "etc/passwd"), filepath.Join(u.root, "etc/group")}
	var stamps [2]fileTime
	for i, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look up users: %w", err)
		}
		stamps[i] = fileTime{size: info.Size(), mtime: info.ModTime()}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			stamps[i].inode = stat.Ino
		}
	}
	if u.local != nil && stamps == u.stamps {
		return nil
	}
	passwd, err := os.ReadFile(paths[0])
	if err != nil {
		return fmt.Errorf("look up users: %w", err)
	}
	group, err := os.ReadFile(paths[1])
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look up users: %w", err)
	}
	memberOf := map[string][]uint32{}
	for line := range strings.Lines(string(group)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 4 {
			continue
		}
		gid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			memberOf[member] = append(memberOf[member], uint32(gid))
		}
	}
	u.local, u.remote, u.stamps = map[string]User{}, map[string]answered{}, stamps
	for line := range strings.Lines(string(passwd)) {
		user, ok := parsePasswd(line)
		if !ok {
			continue
		}
		user.Groups = groups(user.GID, memberOf[user.Name])
		// By name and by id; as in the C library the first line wins.
		for _, key := range []string{user.Name, strconv.FormatUint(uint64(user.UID), 10)} {
			if _, taken := u.local[key]; !taken {
				u.local[key] = user
			}
		}
	}
	return nil
}

// parsePasswd reads a line of passwd; false where it is none. Lines that begin
// with + or - are of an old way to include others.
func parsePasswd(line string) (User, bool) {
	fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
	if len(fields) != 7 || CheckUserName(fields[0]) != nil || fields[0][0] == '+' {
		return User{}, false
	}
	uid, err := strconv.ParseUint(fields[2], 10, 32)
	gid, err2 := strconv.ParseUint(fields[3], 10, 32)
	if err != nil || err2 != nil {
		return User{}, false
	}
	return User{Name: fields[0], UID: uint32(uid), GID: uint32(gid), Home: fields[5], Shell: fields[6]}, true
}

// groups puts a user's own group first and leaves out what is there twice.
func groups(own uint32, more []uint32) []uint32 {
	list := []uint32{own}
	for _, gid := range more {
		if !slices.Contains(list, gid) {
			list = append(list, gid)
		}
	}
	return list
}

// patience is how long a directory service may take.
const patience = 10 * time.Second

// ask asks the C library's databases, through getent: this program has no C
// library. A name nobody has gives a User without a name. On a machine of a test
// there is nobody to ask.
func (u *Users) ask(key string) (User, error) {
	if u.root != "/" {
		return User{}, nil
	}
	line, err := getent("passwd", key)
	if err != nil || line == "" {
		return User{}, err
	}
	user, ok := parsePasswd(line)
	if !ok {
		return User{}, nil
	}
	line, err = getent("initgroups", user.Name) // NAME GID GID …
	if err != nil {
		return User{}, err
	}
	var more []uint32
	if _, list, found := strings.Cut(strings.TrimSpace(line), " "); found {
		for field := range strings.FieldsSeq(list) {
			if gid, err := strconv.ParseUint(field, 10, 32); err == nil {
				more = append(more, uint32(gid))
			}
		}
	}
	user.Groups = groups(user.GID, more)
	return user, nil
}

// getent gives the first line of an answer, empty when there is none. A machine
// without getent has no users but those of its passwd.
func getent(database, key string) (string, error) {
	path, err := exec.LookPath("getent")
	if err != nil {
		return "", nil // as a C library without that program would have it
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, database, key)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 2: // not found
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look up %s in %s: getent: %w", key, database, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line), nil
}

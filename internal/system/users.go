package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	library "os/user"
	"path/filepath"
	"runtime"
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
// getent said for half a minute; whom that found less than five minutes ago is
// as they were while it is asked anew, so that nobody waits for it who comes every
// minute.
//
// A directory that does not answer, or answers slowly, holds nobody up for more
// than a moment: whoever was known before is as they were, for a day, and of the
// others it cannot be told. Nobody can tell a directory that is away from one that
// no longer has a user, so that day is also how long a user lives on whom the
// directory has lost. A user of etc/passwd is gone with the line.
type Users struct {
	root   string
	getent string        // the program
	asks   chan struct{} // bounds how many are asked at once
	// elsewhere asks for those who are not in passwd, by name or id; nil: there are
	// none. Somebody whom it does not have gives a User without a name.
	elsewhere func(key string) (User, error)

	mu     sync.Mutex
	stamps [2]fileTime        // guarded by mu; of passwd and group
	local  map[string]User    // guarded by mu
	remote map[string]*remote // guarded by mu; by what getent is asked
	slow   bool               // guarded by mu; the last answer was not there in time
}

type fileTime struct {
	inode uint64
	size  int64
	mtime time.Time
}

// remote is what getent said of one name or id. Its fields are guarded by Users.mu.
type remote struct {
	user   User          // as they were found last; no name: never
	found  time.Time     // when that was
	asked  time.Time     // when there was an answer last, or none; zero: group has changed since
	err    error         // of the last time: it cannot be told
	answer chan struct{} // not nil while it is asked; then closed
}

const (
	remember = 30 * time.Second // what getent said
	recent   = 5 * time.Minute  // whom it found: it is not waited for
	outlive  = 24 * time.Hour   // a user whom it finds no more
	patience = 2 * time.Second  // of whoever looks somebody up
	longest  = 20 * time.Second // that getent may take
	most     = 10_000           // names that are remembered
)

// Users gives the users of the machine.
func (p Places) Users() *Users {
	u := &Users{root: p.Root, asks: make(chan struct{}, 4), remote: map[string]*remote{}}
	if p.Root != "/" { // on a machine of a test there is nobody to ask
		return u
	}
	if runtime.GOOS == "darwin" { // where people are in Open Directory, and there is no getent
		u.elsewhere = byLibrary
	} else if getent, err := exec.LookPath("getent"); err == nil {
		u.getent, u.elsewhere = getent, u.look
	}
	return u
}

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
	if u.elsewhere == nil {
		return User{}, &UnknownUserError{key}
	}
	r := u.ask(key)
	familiar := !r.asked.IsZero() && time.Since(r.found) < recent
	if r.answer != nil && !u.slow && !familiar {
		answer, timer := r.answer, time.NewTimer(patience)
		u.mu.Unlock()
		select {
		case <-answer:
		case <-timer.C:
		}
		timer.Stop()
		u.mu.Lock()
		u.slow = u.slow || r.answer == answer
	}
	switch known := r.user.Name != "" && time.Since(r.found) < outlive; {
	case known && right(r.user):
		return r.user, nil
	case !known && r.err != nil:
		return User{}, r.err
	case !known && r.answer != nil:
		return User{}, unanswered(key)
	}
	return User{}, &UnknownUserError{key}
}

func unanswered(key string) error {
	return fmt.Errorf("look up user %q: the directory of users does not answer", key)
}

// ask gives what is known of a name or an id, and has it looked up where that is
// old. Its caller holds mu.
func (u *Users) ask(key string) *remote {
	r := u.remote[key]
	if r == nil {
		if len(u.remote) >= most {
			maps.DeleteFunc(u.remote, func(_ string, r *remote) bool { return r.user.Name == "" && r.answer == nil })
		}
		r = &remote{}
		u.remote[key] = r
	}
	if r.answer != nil || time.Since(r.asked) < remember {
		return r
	}
	answer := make(chan struct{})
	r.answer = answer
	// Nobody waits for its end: getent is killed when it takes too long.
	go func() {
		u.asks <- struct{}{}
		began := time.Now()
		user, err := u.elsewhere(key)
		<-u.asks
		u.mu.Lock()
		defer u.mu.Unlock()
		r.asked, r.err, r.answer = time.Now(), err, nil
		if user.Name != "" {
			r.user, r.found = user, r.asked
		}
		u.slow = time.Since(began) >= patience
		close(answer)
	}()
	return r
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
	u.local, u.stamps = map[string]User{}, stamps
	for _, r := range u.remote { // a line of group may speak of them
		r.asked = time.Time{}
	}
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

// byLibrary asks the C library of macOS, which Go calls without being linked to it.
func byLibrary(key string) (User, error) {
	lookup := library.Lookup
	if _, err := strconv.ParseUint(key, 10, 32); err == nil {
		lookup = library.LookupId
	}
	found, err := lookup(key)
	if errors.As(err, new(library.UnknownUserError)) || errors.As(err, new(library.UnknownUserIdError)) {
		return User{}, nil
	}
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", key, err)
	}
	u, ok := parsePasswd(strings.Join([]string{found.Username, "x", found.Uid, found.Gid, "", found.HomeDir, ""}, ":"))
	if !ok {
		return User{}, nil
	}
	ids, err := found.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", key, err)
	}
	var more []uint32
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			more = append(more, uint32(gid))
		}
	}
	u.Groups = groups(u.GID, more)
	return u, nil
}

// look asks the C library's databases, through getent: this program has no C
// library.
func (u *Users) look(key string) (User, error) {
	line, err := u.entry("passwd", key)
	if err != nil || line == "" {
		return User{}, err
	}
	user, ok := parsePasswd(line)
	if !ok {
		return User{}, nil
	}
	line, err = u.entry("initgroups", user.Name) // NAME GID GID …
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

// entry gives the first line of getent's answer, empty when there is none.
func (u *Users) entry(database, key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, u.getent, database, key)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 2: // not found
		return "", nil
	case ctx.Err() != nil:
		return "", unanswered(key)
	case err != nil:
		return "", fmt.Errorf("look up user %q: getent %s: %w", key, database, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line), nil
}

package system

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/internal/machine"
)

// newMachine is a machine whose places are root's, as on any, and whose users are root, alice and bob.
func newMachine(t *testing.T, dialect Dialect) Places {
	t.Helper()
	machine.NeedsRoot(t)
	root := t.TempDir()
	for _, folder := range []string{"etc/cron.d", "var/spool/cron"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if dialect == Debian {
		if err := os.Mkdir(filepath.Join(root, "var/spool/cron/crontabs"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nalice:x:4001:4001::/home/alice:/bin/sh\nbob:x:4002:4002:Bob:/home/bob:/bin/bash\n", 0o644, 0)
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\nadm:x:4:bob,root\nusers:x:100:alice,bob\nbob:x:4002:bob\n", 0o644, 0)
	return At(root, "")
}

func write(t *testing.T, path, text string, mode os.FileMode, owner int) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), 0o600)
	if err == nil {
		err = os.Chown(path, owner, owner)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheDialectIsThatOfThePlaces(t *testing.T) {
	t.Parallel()
	for _, d := range Dialects {
		if p := newMachine(t, d); p.Dialect != d {
			t.Errorf("a machine of %s is taken for %s", d, p.Dialect)
		}
	}
	if p := At(newMachine(t, Debian).Root, Cronie); p.Dialect != Cronie || filepath.Base(p.Spool) != "cron" {
		t.Errorf("asked for cronie's places: %+v", p)
	}
}

// What Debian's cron refuses is held against the real one in internal/crontest.
func TestFilesAreRefusedByTheRulesOfTheDialect(t *testing.T) {
	t.Parallel()
	const alice, bob = 4001, 4002
	for _, c := range []struct {
		name           string
		put            func(t *testing.T, p Places)
		path           func(p Places) string
		cronie, debian string // the event; empty: it is used
	}{
		{"a user's", putUser("alice", 0o600, alice), user("alice"), "", ""},
		{"a user's, of root's hand", putUser("alice", 0o600, 0), user("alice"), "", ""},
		{"a user's that others can read", putUser("alice", 0o644, alice), user("alice"), "", "INSECURE MODE (mode 0600 expected)"},
		{"a user's that a group can write", putUser("alice", 0o620, alice), user("alice"), "BAD FILE MODE", "INSECURE MODE (mode 0600 expected)"},
		{"a user's with setuid", putUser("alice", 0o600|os.ModeSetuid, alice), user("alice"), "BAD FILE MODE", "INSECURE MODE (mode 0600 expected)"},
		{"a user's of another", putUser("alice", 0o600, bob), user("alice"), "WRONG FILE OWNER", "WRONG FILE OWNER"},
		{"nobody's", putUser("eve", 0o600, 0), user("eve"), "ORPHAN (no passwd entry)", "ORPHAN (no passwd entry)"},
		{"a user's that is a link", func(t *testing.T, p Places) {
			write(t, filepath.Join(p.Root, "elsewhere"), "", 0o600, alice)
			must(t, os.Symlink(filepath.Join(p.Root, "elsewhere"), p.UserCrontab("alice")))
		}, user("alice"), "CAN'T OPEN", "CAN'T OPEN"},
		{"a user's with two names", func(t *testing.T, p Places) {
			putUser("alice", 0o600, alice)(t, p)
			must(t, os.Link(p.UserCrontab("alice"), filepath.Join(p.Root, "elsewhere")))
		}, user("alice"), "BAD LINK COUNT", "NUMBER OF HARD LINKS > 1"},
		{"a user's that is a pipe", func(t *testing.T, p Places) {
			must(t, syscall.Mkfifo(p.UserCrontab("alice"), 0o600))
			must(t, os.Chown(p.UserCrontab("alice"), alice, alice))
		}, user("alice"), "NOT REGULAR", "NOT A REGULAR FILE"},
		{"a user's that is too long", func(t *testing.T, p Places) {
			write(t, p.UserCrontab("alice"), strings.Repeat("* * * * * x\n", 10_001), 0o600, alice)
		}, user("alice"), "TOO MANY ENTRIES", "crontab must not be longer than 10000 lines, this crontab file will be ignored"},
		{"a system's", putSystem("ops", 0o644, 0), system("ops"), "", ""},
		{"a system's that can be executed", putSystem("ops", 0o755, 0), system("ops"), "BAD FILE MODE", ""},
		{"a system's without any mode", putSystem("ops", 0, 0), system("ops"), "BAD FILE MODE", ""},
		{"a system's that others can write", putSystem("ops", 0o646, 0), system("ops"), "BAD FILE MODE", "INSECURE MODE (group/other writable)"},
		{"a system's of a user", putSystem("ops", 0o644, alice), system("ops"), "WRONG FILE OWNER", "WRONG FILE OWNER"},
		{"a system's that is a pipe", func(t *testing.T, p Places) { must(t, syscall.Mkfifo(system("ops")(p), 0o644)) }, system("ops"), "NOT REGULAR", "NOT A REGULAR FILE"},
		{"a system's that is root's link to root's", func(t *testing.T, p Places) {
			write(t, filepath.Join(p.Root, "elsewhere"), "", 0o644, 0)
			must(t, os.Symlink(filepath.Join(p.Root, "elsewhere"), system("ops")(p)))
		}, system("ops"), "", ""},
		{"a system's that is root's link to a user's", func(t *testing.T, p Places) {
			write(t, filepath.Join(p.Root, "elsewhere"), "", 0o644, alice)
			must(t, os.Symlink(filepath.Join(p.Root, "elsewhere"), system("ops")(p)))
		}, system("ops"), "WRONG FILE OWNER", "WRONG FILE OWNER"},
		{"a system's that is a user's link to root's", func(t *testing.T, p Places) {
			write(t, filepath.Join(p.Root, "elsewhere"), "", 0o644, 0)
			must(t, os.Symlink(filepath.Join(p.Root, "elsewhere"), system("ops")(p)))
			must(t, os.Lchown(system("ops")(p), alice, alice))
		}, system("ops"), "WRONG SYMLINK OWNER", "WRONG SYMLINK OWNER"},
		{"one in a folder that everybody can write", func(t *testing.T, p Places) {
			putSystem("ops", 0o644, 0)(t, p)
			must(t, os.Chmod(p.Folder, 0o777))
		}, func(p Places) string { return p.Folder }, "INSECURE MODE (group/other writable)", "INSECURE MODE (group/other writable)"},
		{"one in a user's folder", func(t *testing.T, p Places) {
			putSystem("ops", 0o644, 0)(t, p)
			must(t, os.Chown(p.Folder, alice, alice))
		}, func(p Places) string { return p.Folder }, "WRONG FILE OWNER", "WRONG FILE OWNER"},
	} {
		for dialect, want := range map[Dialect]string{Cronie: c.cronie, Debian: c.debian} {
			t.Run(string(dialect)+"/"+c.name, func(t *testing.T) {
				p := newMachine(t, dialect)
				c.put(t, p)
				found, err := p.Read(p.Users())
				if err != nil {
					t.Fatal(err)
				}
				if want == "" {
					if len(found.Crontabs) != 1 || found.Crontabs[0].Path != c.path(p) || len(found.Refused) > 0 {
						t.Errorf("found %+v", found)
					}
					return
				}
				if len(found.Crontabs) != 0 || len(found.Refused) != 1 {
					t.Fatalf("found %+v", found)
				}
				r := found.Refused[0]
				if r.Path != c.path(p) || r.Event != want || r.Reason == "" || r.Next == "" {
					t.Errorf("it was refused as %+v, want %q", r, want)
				}
			})
		}
	}
}

func user(name string) func(p Places) string {
	return func(p Places) string { return p.UserCrontab(name) }
}

func system(name string) func(p Places) string {
	return func(p Places) string { return filepath.Join(p.Folder, name) }
}

func putUser(name string, mode os.FileMode, owner int) func(t *testing.T, p Places) {
	return func(t *testing.T, p Places) { t.Helper(); write(t, p.UserCrontab(name), "* * * * * x\n", mode, owner) }
}

func putSystem(name string, mode os.FileMode, owner int) func(t *testing.T, p Places) {
	return func(t *testing.T, p Places) {
		t.Helper()
		write(t, filepath.Join(p.Folder, name), "* * * * * root x\n", mode, owner)
	}
}

func TestFilesAreReadByTheirNames(t *testing.T) {
	t.Parallel()
	names := []string{"ops", "OPS_2-x", "with.dot", "backup~", "x.rpmsave", "x.dpkg-old", ".hidden", "#x#"}
	for dialect, want := range map[Dialect][]string{
		Debian: {"cron.d/OPS_2-x", "cron.d/ops"},
		Cronie: {"cron.d/OPS_2-x", "cron.d/ops", "cron.d/with.dot", "cron.d/x.dpkg-old"},
	} {
		p := newMachine(t, dialect)
		for _, name := range names {
			putSystem(name, 0o644, 0)(t, p)
		}
		must(t, os.Mkdir(filepath.Join(p.Folder, "folder"), 0o755))
		putUser("alice", 0o600, 4001)(t, p)
		putUser(".alice", 0o600, 4001)(t, p)
		write(t, p.Crontab, "", 0o644, 0)
		found, err := p.Read(p.Users())
		if err != nil || len(found.Refused) > 0 {
			t.Fatalf("%s: %v %+v", dialect, err, found.Refused)
		}
		var got []string
		for _, c := range found.Crontabs {
			got = append(got, c.Project)
		}
		if want := slices.Concat([]string{"etc/crontab"}, want, []string{"alice"}); !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", dialect, got, want)
		}
	}
}

func TestAMachineWithoutCrontabsHasNone(t *testing.T) {
	t.Parallel()
	p := newMachine(t, Debian)
	must(t, os.RemoveAll(p.Folder))
	must(t, os.RemoveAll(p.Spool))
	if found, err := p.Read(p.Users()); err != nil || len(found.Crontabs)+len(found.Refused) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := p.OpenUser(User{Name: "alice", UID: 4001}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a crontab that is not there: %v", err)
	}
}

func TestUsersAreLookedUp(t *testing.T) {
	t.Parallel()
	p := newMachine(t, Debian)
	users := p.Users()
	bob, err := users.Lookup("bob")
	if err != nil || bob.UID != 4002 || bob.Home != "/home/bob" || bob.Shell != "/bin/bash" || !slices.Equal(bob.Groups, []uint32{4002, 4, 100}) {
		t.Errorf("bob is %+v, %v", bob, err)
	}
	if again, err := users.LookupID(4002); err != nil || again.Name != "bob" {
		t.Errorf("user 4002 is %+v, %v", again, err)
	}
	var unknown *UnknownUserError
	for _, name := range []string{"", "eve", "4002", "../bob", "bob:x", ".", "..", "-x", "b ob", "bob\n"} {
		if user, err := users.Lookup(name); !errors.As(err, &unknown) {
			t.Errorf("%q is %+v, %v", name, user, err)
		}
	}
	passwd := filepath.Join(p.Root, "etc/passwd")
	write(t, passwd+".new", "eve:x:4003:4003::/home/eve:/bin/sh\na/b:x:0:0::/:/bin/sh\n", 0o644, 0)
	must(t, os.Rename(passwd+".new", passwd))
	if eve, err := users.Lookup("eve"); err != nil || eve.UID != 4003 {
		t.Errorf("eve, who is new, is %+v, %v", eve, err)
	}
	for _, name := range []string{"bob", "a/b"} {
		if user, err := users.Lookup(name); !errors.As(err, &unknown) {
			t.Errorf("%q is %+v, %v", name, user, err)
		}
	}
}

func TestUsersOfOtherPlacesAreAskedOfTheCLibrary(t *testing.T) {
	t.Parallel()
	users := At("/", "").Users()
	root, err := users.look("root")
	if err != nil || root.Name != "root" || root.UID != 0 || len(root.Groups) == 0 {
		t.Errorf("getent says root is %+v, %v", root, err)
	}
	// getent takes a number for an id: the user of that id is not the one of that name.
	var unknown *UnknownUserError
	if user, err := users.Lookup("00"); !errors.As(err, &unknown) {
		t.Errorf("a user called 00 is %+v, %v", user, err)
	}
}

// As on a Mac, whose people are in no passwd.
func TestUsersWhomOnlyTheLibraryKnowsAreFound(t *testing.T) {
	t.Parallel()
	p := newMachine(t, Debian)
	must(t, os.WriteFile(filepath.Join(p.Root, "etc/passwd"), nil, 0o644))
	users := p.Users()
	users.elsewhere = byLibrary
	root, err := users.Lookup("root")
	if err != nil || root.UID != 0 || root.Home == "" || !slices.Contains(root.Groups, 0) {
		t.Errorf("root is %+v, %v", root, err)
	}
	if again, err := users.LookupID(0); err != nil || again.Name != "root" {
		t.Errorf("user 0 is %+v, %v", again, err)
	}
	if _, err := users.Lookup("no-such-user"); !errors.As(err, new(*UnknownUserError)) {
		t.Errorf("somebody unknown gives %v", err)
	}
}

func TestADirectoryOfUsersThatHangsHoldsNobodyUpForLong(t *testing.T) {
	t.Parallel()
	p := newMachine(t, Debian)
	users := p.Users()
	users.getent, users.elsewhere = filepath.Join(t.TempDir(), "getent"), users.look
	hung, knows := filepath.Join(p.Root, "hung"), filepath.Join(p.Root, "knows")
	write(t, users.getent, `#!/bin/sh
[ ! -e `+hung+` ] || read -r _ < `+hung+`
[ -e `+knows+` ] || exit 2
case "$*" in
"passwd carol") echo carol:x:5001:5001::/home/carol:/bin/sh ;;
"initgroups carol") echo "carol  5001 100 7" ;;
*) exit 2 ;;
esac
`, 0o755, 0)
	write(t, knows, "", 0o600, 0)
	old := func() { // what getent said
		users.mu.Lock()
		defer users.mu.Unlock()
		for _, r := range users.remote {
			r.asked = time.Time{}
		}
	}
	isCarol := func(when string) {
		t.Helper()
		if carol, err := users.Lookup("carol"); err != nil || carol.UID != 5001 || !slices.Equal(carol.Groups, []uint32{5001, 100, 7}) {
			t.Errorf("%s carol is %+v, %v", when, carol, err)
		}
	}
	isCarol("at first")
	must(t, syscall.Mkfifo(hung, 0o600))
	users.mu.Lock()
	users.remote["carol"].asked = time.Now().Add(-time.Minute)
	users.mu.Unlock()
	beganAgain := time.Now()
	isCarol("a minute later")
	if took := time.Since(beganAgain); took > patience/2 {
		t.Errorf("whom the directory found a minute ago is waited for: %v", took)
	}
	old()
	isCarol("while the directory hangs") // and is waited for
	began := time.Now()
	unknown := new(UnknownUserError)
	for _, name := range []string{"carol", "dave", "erin", "alice"} {
		_, err := users.Lookup(name)
		if known := name == "carol" || name == "alice"; known != (err == nil) || errors.As(err, &unknown) {
			t.Errorf("while the directory hangs %s gives %v", name, err)
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("the next four look-ups took %v", took)
	}

	must(t, os.Rename(hung, hung+".not"))
	for _, name := range []string{"carol", "dave", "erin"} {
		users.mu.Lock()
		answer := users.remote[name].answer
		users.mu.Unlock()
		for waiting := answer != nil; waiting; {
			select {
			case <-answer:
				waiting = false
			default: // each of them opens the pipe anew
				pipe, err := os.OpenFile(hung+".not", os.O_WRONLY|syscall.O_NONBLOCK, 0)
				if err == nil {
					_ = pipe.Close()
				}
			}
		}
	}
	nobody := func(name, when string) {
		t.Helper()
		old()
		var err error
		for deadline := time.Now().Add(30 * time.Second); !errors.As(err, &unknown); {
			if _, err = users.Lookup(name); time.Now().After(deadline) {
				t.Fatalf("%s %s gives %v", when, name, err)
			}
		}
	}
	nobody("dave", "when it answers again")
	must(t, os.Remove(knows))
	old()
	isCarol("when the directory has lost everybody")
	users.mu.Lock()
	users.remote["carol"].found = time.Now().Add(-outlive)
	users.mu.Unlock()
	nobody("carol", "a day later")
}

func TestTheEnvironmentIsReadAsPamEnvDoes(t *testing.T) {
	t.Parallel()
	p := newMachine(t, Debian)
	write(t, filepath.Join(p.Root, "etc/environment"), `# a comment
PLAIN=a b
  export QUOTED="a 'b'" # c
SINGLE='x'
CUT=a#b
EMPTY=
not one
BAD-NAME=x
=x
INNER=a"b"
`, 0o644, 0)
	must(t, os.Mkdir(filepath.Join(p.Root, "etc/default"), 0o755))
	write(t, filepath.Join(p.Root, "etc/default/locale"), "LANG=ko_KR.UTF-8\n", 0o644, 0)
	want := []string{"PLAIN=a b", "QUOTED=a b", "SINGLE=x", "CUT=a", "EMPTY=", `INNER=a"b"`, "LANG=ko_KR.UTF-8"}
	if got, err := p.Environment(); err != nil || !slices.Equal(got, want) {
		t.Errorf("it is %q, %v; want %q", got, err, want)
	}
	p.Dialect = Cronie
	if got, err := p.Environment(); err != nil || !slices.Equal(got, want[:6]) {
		t.Errorf("cronie's is %q, %v", got, err)
	}
}

func TestTheMachinesSettingsAreRootsAlone(t *testing.T) {
	t.Parallel()
	p := newMachine(t, Debian)
	path := filepath.Join(p.Root, "etc/belfry.yaml")
	if err := CheckRoots(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	for mode, owners := range map[os.FileMode]map[int]bool{0o644: {0: true, 4001: false}, 0o664: {0: false}, 0o646: {0: false}} {
		for owner := range maps.Keys(owners) {
			write(t, path, "", mode, owner)
			if err := CheckRoots(path); (err == nil) != owners[owner] {
				t.Errorf("mode %o, owner %d: %v", mode, owner, err)
			}
		}
	}
}

package system

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// aMachine has one user, alice, who is whoever runs the test.
func aMachine(t *testing.T, d Dialect) Tabs {
	t.Helper()
	root := t.TempDir()
	p := At(root, d)
	for _, dir := range []string{p.Spool, filepath.Join(root, "etc")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(root, "etc/passwd"), fmt.Sprintf("alice:x:%d:%d::/tmp:/bin/sh\nbob:x:4242:4242::/tmp:/bin/sh\n", os.Getuid(), os.Getgid()))
	put(t, filepath.Join(root, "etc/group"), "")
	tabs := Tabs{Places: p, Users: p.Users()}
	var err error
	if tabs.Caller, err = tabs.Users.Lookup("alice"); err != nil {
		t.Fatal(err)
	}
	return tabs
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhoeverLooksSeesAWholeCrontab(t *testing.T) {
	t.Parallel()
	tabs := aMachine(t, Cronie)
	text := func(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d 1 * * * x\n", n), 2000) }
	var writers sync.WaitGroup
	defer writers.Wait()
	for n := range 4 {
		writers.Go(func() {
			for range 25 {
				if err := tabs.Install("alice", "-", text(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writers.Wait()
		close(done)
	}()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		default:
		}
		tab, err := tabs.Look("alice")
		if err != nil {
			t.Fatal(err)
		}
		if tab.There && !bytes.Equal(tab.Text, text(int(tab.Text[0]-'0'))) {
			t.Fatalf("a crontab of %d bytes is not one that was installed", len(tab.Text))
		}
	}
	names, err := os.ReadDir(tabs.Places.Spool)
	if err != nil || len(names) != 1 {
		t.Errorf("in the spool there are %v (%v), want alice's crontab alone", names, err)
	}
}

func TestWhatCannotBeInstalledLeavesTheOldCrontab(t *testing.T) {
	t.Parallel()
	tabs := aMachine(t, Debian)
	if err := tabs.Install("alice", "-", []byte("1 1 * * * old\n")); err != nil {
		t.Fatal(err)
	}
	before, err := tabs.Look("alice")
	if err != nil {
		t.Fatal(err)
	}
	var mistakes *Mistakes
	if err := tabs.Install("alice", "-", []byte("bad\n")); !errors.As(err, &mistakes) {
		t.Errorf("Install of a bad crontab: %v, want *Mistakes", err)
	}
	// A folder in its place cannot be replaced by a file.
	if err := os.Mkdir(tabs.Places.UserCrontab("bob"), 0o700); err != nil {
		t.Fatal(err)
	}
	tabs.Caller.UID = 0
	if err := tabs.Install("bob", "-", []byte("1 1 * * * new\n")); err == nil {
		t.Error("Install over a folder succeeds")
	}
	after, err := tabs.Look("alice")
	if err != nil || !bytes.Equal(before.Text, after.Text) {
		t.Errorf("the crontab is %q (%v), want %q", after.Text, err, before.Text)
	}
	left, err := filepath.Glob(filepath.Join(tabs.Places.Spool, ".tmp.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

func TestACallerHasOnlyTheirOwnCrontab(t *testing.T) {
	t.Parallel()
	tabs := aMachine(t, Debian)
	tabs.Caller = User{Name: "mallory", UID: 4343}
	for name, want := range map[string]error{"alice": ErrNotPrivileged, "bob": ErrNotPrivileged, "nobody-knows": ErrNotPrivileged} {
		if _, err := tabs.Look(name); !errors.Is(err, want) {
			t.Errorf("Look(%q): %v, want %v", name, err, want)
		}
		if err := tabs.Install(name, "-", nil); !errors.Is(err, want) {
			t.Errorf("Install(%q): %v, want %v", name, err, want)
		}
		if err := tabs.Remove(name); !errors.Is(err, want) {
			t.Errorf("Remove(%q): %v, want %v", name, err, want)
		}
	}
	var unknown *UnknownUserError
	for _, name := range []string{"", ".", "..", "../alice", "alice/", "/etc/passwd", "al\x00ice", "mallory", "4242"} {
		tabs.Caller = User{Name: name, UID: 4343}
		if _, err := tabs.Look(name); !errors.As(err, &unknown) {
			t.Errorf("Look(%q) as %q: %v, want that there is no such user", name, name, err)
		}
		tabs.Caller = User{Name: "root"}
		if _, err := tabs.Look(name); !errors.As(err, &unknown) {
			t.Errorf("Look(%q): %v, want that there is no such user", name, err)
		}
	}
}

func TestOnlyWhatIsACrontabIsShown(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(path, secret string) error{
		"a symbolic link": func(path, secret string) error { return os.Symlink(secret, path) },
		"a hard link":     func(path, secret string) error { return os.Link(secret, path) },
		"a folder":        func(path, _ string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tabs := aMachine(t, Debian)
			secret := filepath.Join(t.TempDir(), "secret")
			put(t, secret, "secret")
			if err := prepare(tabs.Places.UserCrontab("alice"), secret); err != nil {
				t.Fatal(err)
			}
			var refusal *Refusal
			if tab, err := tabs.Look("alice"); !errors.As(err, &refusal) {
				t.Errorf("Look gives %q, %v, want a *Refusal", tab.Text, err)
			}
		})
	}
}

func TestWhoMayUseTheCommand(t *testing.T) {
	t.Parallel()
	root, alice, bob := User{Name: "root"}, User{Name: "alice", UID: 1}, User{Name: "bob", UID: 2}
	for _, tt := range []struct {
		allow, deny    string // "-": no such file
		caller, target User
		debian, cronie bool
		why            string
	}{
		{"-", "-", alice, alice, true, false, "neither file: Debian's lets everybody, cronie root alone"},
		{"-", "-", root, root, true, true, "neither file, root"},
		{"alice\n", "-", alice, alice, true, true, "listed"},
		{"bob\nalice\n", "-", alice, alice, true, true, "listed further down"},
		{"bob\n", "-", alice, alice, false, false, "not listed"},
		{"", "-", alice, alice, false, false, "an empty list"},
		{"bob\n", "-", root, alice, false, true, "Debian's asks for the target, cronie for the caller"},
		{"bob\n", "-", root, root, true, true, "root needs no list"},
		{"-", "bob\n", alice, alice, true, true, "not denied"},
		{"-", "alice\n", alice, alice, false, false, "denied"},
		{"-", "alice", alice, alice, false, false, "denied in a line that does not end"},
		{"alice", "-", alice, alice, true, true, "listed in a line that does not end"},
		{"-", "alice \n", alice, alice, true, true, "a blank makes another name of it"},
		{"-", "alic\nalicea\n", alice, alice, true, true, "whole lines only"},
		{"alice\n", "alice\n", alice, alice, true, true, "the first file alone counts"},
		{"-", "", bob, bob, true, true, "an empty cron.deny denies nobody"},
	} {
		for d, want := range map[Dialect]bool{Debian: tt.debian, Cronie: tt.cronie} {
			p := At(t.TempDir(), d)
			if err := os.MkdirAll(filepath.Dir(p.Allow), 0o700); err != nil {
				t.Fatal(err)
			}
			for path, text := range map[string]string{p.Allow: tt.allow, p.Deny: tt.deny} {
				if text != "-" {
					put(t, path, text)
				}
			}
			if got, err := p.allowed(tt.caller, tt.target); got != want || err != nil {
				t.Errorf("%s: %s: allowed = %v, %v; want %v", d, tt.why, got, err, want)
			}
		}
	}
}

func TestAListThatCannotBeReadAllowsNobody(t *testing.T) {
	t.Parallel()
	for _, d := range Dialects {
		p := At(t.TempDir(), d)
		if err := os.MkdirAll(p.Deny, 0o700); err != nil { // a folder: also root cannot read it
			t.Fatal(err)
		}
		if got, err := p.allowed(User{Name: "alice", UID: 1}, User{Name: "alice", UID: 1}); got || err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: allowed = %v, %v; want an error", d, got, err)
		}
	}
}

func TestMistakesAreToldInTheDialectAndInWords(t *testing.T) {
	t.Parallel()
	err := Debian.Check("tab", []byte("# fine\n0 25 * * * x\n1 1 * * * y\n1 1 32 * * z\n"), User{})
	want := strings.Join([]string{
		`"tab":1: bad hour`,
		`errors in crontab file, can't install.`,
		`  line 2, column 3: "25" is not an hour (0–23)`,
		`  line 4, column 5: "32" is not a day of the month (1–31)`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("Check: %v\nwant %s", err, want)
	}
}

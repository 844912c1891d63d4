package secrets

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"belfry/internal/machine"
)

func newFile(t *testing.T) File {
	t.Helper()
	dir := t.TempDir()
	return File{Path: filepath.Join(dir, FileName), Key: filepath.Join(dir, "config", "belfry", "key.txt")}
}

func (f File) put(t *testing.T, name, value string) (made bool) {
	t.Helper()
	made, err := f.Change(nil, func(s *Set) error { return s.Put(name, value) })
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (f File) text(t *testing.T) string {
	t.Helper()
	set, err := f.Read()
	if err != nil {
		t.Fatal(err)
	}
	return set.Text()
}

func TestTheFirstSecretMakesTheFileAndTheKeyAndLaterOnesNeither(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	if _, err := f.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there gives %v", err)
	}
	if made := f.put(t, "A", "one"); !made {
		t.Error("the first secret makes no key")
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	if made := f.put(t, "B", "two"); made {
		t.Error("the second makes a key")
	}
	again, err := os.ReadFile(f.Key)
	if err != nil || string(again) != string(key) {
		t.Errorf("the key is another one: %v", err)
	}
	if got := f.text(t); got != "A=one\nB=two\n" {
		t.Errorf("the file holds %q", got)
	}
	for path, want := range map[string]fs.FileMode{f.Path: 0o600, f.Key: 0o600, filepath.Dir(f.Key): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	sealed, err := os.ReadFile(f.Path)
	if err != nil || strings.Contains(string(sealed), "one") || !strings.HasPrefix(string(sealed), "-----BEGIN AGE ENCRYPTED FILE-----\n") {
		t.Errorf("the file is\n%s%v", sealed, err)
	}
	for _, dir := range []string{filepath.Dir(f.Path), filepath.Dir(f.Key)} {
		entries, err := os.ReadDir(dir)
		if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }) {
			t.Errorf("something is left in %s: %v, %v", dir, entries, err)
		}
	}
}

func TestNoKeyIsMadeForAFileThatAnotherOneOpens(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	f.put(t, "A", "one")
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Change(nil, func(s *Set) error { return s.Put("B", "two") }); err == nil || !strings.Contains(err.Error(), "the key that opens "+f.Path) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(f.Key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a key: %v", err)
	}
}

func TestAChangeThatFailsLeavesTheFileAsItIs(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	f.put(t, "A", "one")
	if err := os.Chmod(f.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no")
	if _, err := f.Change(nil, func(s *Set) error { s.Remove("A"); return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadFile(f.Path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %v", err)
	}
	f.put(t, "A", "two")
	if info, err := os.Stat(f.Path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("its mode is %v, %v; want that it stays 0644", info.Mode(), err)
	}
}

func TestChangesAtOnceAreAllKept(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	var group sync.WaitGroup
	names := strings.Split("ABCDEFGHIJKLMNOP", "")
	for _, name := range names {
		group.Go(func() {
			if _, err := f.Change(func() {}, func(s *Set) error { return s.Put(name, "value of "+name) }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	set, err := f.Read()
	if err != nil || !slices.Equal(set.Names(), names) {
		t.Errorf("the file holds %v, %v; want %v", set.Names(), err, names)
	}
}

func TestAFolderIsNotKeptFromOthersWhileItsSecretsAreEdited(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	put := func(change func()) {
		t.Helper()
		if _, err := f.Change(nil, func(s *Set) error {
			change()
			return s.Put("TOKEN", "hunter22")
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(func() {})
	put(func() { // who publishes to a folder in the project's locks that
		folder, err := os.Open(filepath.Dir(f.Path))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = folder.Close() }()
		if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Errorf("the project's folder is locked: %v", err)
		}
	})
}

func TestWhatWasReplacedIsKnownForAWhile(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	f.put(t, "A", "first")
	f.put(t, "A", "second\nline")
	f.put(t, "A", "third")
	f.put(t, "A", "third")
	if _, err := f.Change(nil, func(s *Set) error { return s.Edit("B=new\n") }); err != nil {
		t.Fatal(err)
	}
	set, err := f.Read()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"first", "second\nline", "third"}; !slices.Equal(set.Former(), want) || set.Text() != "B=new\n" {
		t.Errorf("former values are %q of %q, want %q", set.Former(), set.Text(), want)
	}
	for range 30 {
		f.put(t, "B", "x"+set.values["B"])
		if set, err = f.Read(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(set.Former()); n != keptFormer {
		t.Errorf("%d former values are kept, want %d", n, keptFormer)
	}
}

func TestATextIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		for range rapid.IntRange(0, 5).Draw(t, "secrets") {
			name := rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_]{0,5}`).Draw(t, "name")
			held := func(value string) bool { return !strings.ContainsRune(value, 0) } // by an environment
			value := rapid.OneOf(rapid.StringN(1, 20, -1).Filter(held), rapid.Custom(func(t *rapid.T) string {
				return string(rapid.SliceOfN(rapid.SampledFrom([]byte(" \t\n\r\"'#=\\`a\x80")), 1, 8).Draw(t, "bytes"))
			})).Draw(t, "value")
			if err := s.Put(name, value); err != nil {
				t.Fatal(err)
			}
		}
		back, err := parse(s.all())
		if err != nil {
			t.Fatalf("%q: %v", s.all(), err)
		}
		if back.Text() != s.Text() || !slices.Equal(back.Former(), s.Former()) {
			t.Fatalf("%q is read as %q", s.all(), back.all())
		}
		for _, name := range s.Names() {
			if got, _ := back.Lookup(name); got != s.values[name] {
				t.Fatalf("%s is %q, want %q", name, got, s.values[name])
			}
		}
	})
}

func TestWhatAPersonTypesIsUnderstoodOrToldByLineWithoutItsValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want, err string }{
		{text: "# a comment\n\n A = one two \nB='it is'\nC=\"x\\ny\"\n", want: "A=one two\nB=it is\nC=\"x\\ny\"\n"},
		{text: "A==\n", want: "A==\n"},
		{text: "A=1\ns3cret\n", err: "line 2: not a NAME=VALUE line"},
		{text: "A=1\nMIIs3cret/+=\n", err: "line 2: what stands before the = cannot be the name of a secret; use letters, digits and underscores, and not BELFRY_"},
		{text: "BELFRY_RUN=s3cret", err: "line 1: what stands before the = cannot"},
		{text: "A=\"s3cret", err: "line 1: the value of A begins with a quote and does not end with one"},
		{text: "A=s3cret\nA=2", err: "line 2: A stands twice"},
		{text: "A=", err: "line 1: A: the value is empty"},
		{text: "A=\"s3cret\\x00\"", err: "line 1: A: the value holds a NUL"},
	} {
		var s Set
		err := s.Edit(c.text)
		switch {
		case c.err == "" && (err != nil || s.Text() != c.want):
			t.Errorf("%q is read as %q, %v; want %q", c.text, s.Text(), err, c.want)
		case c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%q gives %v, want %s", c.text, err, c.err)
		}
	}
}

func TestPrivateFilesAreTheUsersOrRootsAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadPrivate(path); err != nil || string(text) != "x" {
		t.Errorf("a private file is %q, %v", text, err)
	}
	for mode, want := range map[fs.FileMode]string{
		0o400: "", 0o700: "", 0o640: "can be read by others (mode 0640); chmod 600 ", 0o604: "can be read by others", 0o620: "can be written by others (mode 0620); chmod 600 ", 0o602: "can be written by others",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadPrivate(path)
		checked := CheckPrivate(path)
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) || checked == nil || checked.Error() != err.Error()) {
			t.Errorf("mode %04o gives %v and %v, want %q", mode, err, checked, want)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivate(fifo); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a FIFO gives %v", err)
	}
	if os.Geteuid() != 0 {
		machine.Lacks(t, "the right to give a file to another user")
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivate(path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") || !strings.Contains(err.Error(), "chown 0 ") {
		t.Errorf("a file of another user gives %v", err)
	}
}

func TestAgeItselfReadsTheFileWithTheKey(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("age"); err != nil {
		machine.Lacks(t, "the program age (Debian's package age)")
	}
	f := newFile(t)
	f.put(t, "KEY", "line\nline")
	out, err := exec.Command("age", "--decrypt", "--identity", f.Key, f.Path).CombinedOutput()
	if err != nil || string(out) != "KEY=\"line\\nline\"\n" {
		t.Errorf("age says %q, %v", out, err)
	}
	recipient, err := exec.Command("age-keygen", "-y", f.Key).Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("age", "--encrypt", "--recipient", strings.TrimSpace(string(recipient)), "--output", f.Path) // in binary
	cmd.Stdin = strings.NewReader("KEY=of age\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if got := f.text(t); got != "KEY=of age\n" {
		t.Errorf("what age wrote is read as %q", got)
	}
}

func TestAnotherMachineIsGivenTheOneKeyThatOpensTheFile(t *testing.T) {
	t.Parallel()
	f, other := newFile(t), newFile(t)
	f.put(t, "TOKEN", "a")
	other.put(t, "TOKEN", "b")
	mine, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Key, append(theirs, mine...), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := f.Opener()
	if err != nil || !strings.HasPrefix(key, "AGE-SECRET-KEY-") || !strings.Contains(string(mine), key+"\n") {
		t.Errorf("the key for another machine is not the one that opens the file: %d bytes, %v", len(key), err)
	}
}

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain is also the process that the tests kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BELFRY_TEST_STORE"); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// victim owns a store, writes, and never ends by itself.
func victim(dir string) error {
	s, err := Open(context.Background(), dir)
	if err != nil {
		return err
	}
	err = s.update(context.Background(), "write", func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO clock (scope, mark, high) VALUES ('victim', 1, 1)`)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Println("written")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// killOwner has a process own the store in dir, and kills it in the middle.
func killOwner(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), must(os.Executable())(t))
	cmd.Env = append(os.Environ(), "BELFRY_TEST_STORE="+dir)
	stdin := must(cmd.StdinPipe())(t)
	defer stdin.Close() //nolint:errcheck // only held open
	out := must(cmd.StdoutPipe())(t)
	check(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "written\n" {
		t.Fatalf("the owner said %q, %v", line, err)
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	if info, err := os.Stat(filepath.Join(dir, FileName+"-wal")); err != nil || info.Size() == 0 {
		t.Fatalf("it left no log: %v", err)
	}
}

func leaveMark(t *testing.T, s *Store) {
	write(t, s, `INSERT INTO clock (scope, mark, high) VALUES ('victim', 1, 1)`)
}

func TestWhatAKilledOwnerCommittedIsReadAndTakenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killOwner(t, dir)
	reader, err := OpenReadOnly(dir)
	check(t, err)
	defer func() { check(t, reader.Close()) }()
	const count = `SELECT COUNT(*) FROM clock WHERE scope = 'victim'`
	if n := must(one(t.Context(), reader.read, value[int], count))(t); n != 1 {
		t.Errorf("a reader finds %d rows, want 1", n)
	}
	s := openIn(t, dir)
	if n := must(one(t.Context(), s.read, value[int], count))(t); n != 1 {
		t.Errorf("the next owner finds %d rows, want 1", n)
	}
}

func TestFilesThatAreNoDatabaseAreNamedWithWhatToDo(t *testing.T) {
	t.Parallel()
	whole := func(t *testing.T) []byte {
		dir := t.TempDir()
		s, err := Open(t.Context(), dir)
		check(t, err)
		family(t, s, nightly("a"))
		check(t, s.Close())
		return must(os.ReadFile(filepath.Join(dir, FileName)))(t)
	}(t)
	for _, c := range []struct {
		why  string
		text []byte
	}{
		{"something else", []byte(strings.Repeat("not a database\n", 500))},
		{"cut off", whole[:len(whole)/2]},
		{"overwritten", append(make([]byte, 4096), whole[4096:]...)},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		check(t, os.WriteFile(path, c.text, 0o600))
		_, err := Open(t.Context(), dir)
		_, readErr := OpenReadOnly(dir)
		for _, err := range []error{err, readErr} {
			if !errors.As(err, new(*CorruptError)) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore a backup") {
				t.Errorf("%s: %v", c.why, err)
			}
		}
		if left := must(os.ReadFile(path))(t); string(left) != string(c.text) {
			t.Errorf("%s: it was changed", c.why)
		}
	}
	dir := t.TempDir() // an owner that died right after it had made the file
	check(t, os.WriteFile(filepath.Join(dir, FileName), nil, 0o600))
	if _, err := OpenReadOnly(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("to read an empty file gives %v", err)
	}
	family(t, openIn(t, dir), nightly("a"))
}

// long is a text that differs everywhere from that of the next n: SQLite leaves
// alone what stays.
func long(n int) string { return strings.Repeat(string(rune('a'+n%26)), 60_000) }

func TestAReaderInAnotherProcessIsNeverInTheWayNorLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openIn(t, dir)
	ids := family(t, s, nightly("a"))
	reader, err := OpenReadOnly(dir) // its own connections, as another process has them
	check(t, err)
	defer func() { check(t, reader.Close()) }()
	look := must(reader.pool.BeginTx(t.Context(), nil))(t) // a long one
	var runs int
	check(t, look.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM run`).Scan(&runs))
	const writers, changes = 4, 300
	done := make(chan error)
	for w := range writers {
		go func() {
			for i := range changes {
				if err := s.Note(context.Background(), map[string]string{ids["a"]: long(w + i)}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		go func() {
			for range changes {
				if _, err := reader.Run(context.Background(), ids["a"]); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 * writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wal := filepath.Join(dir, FileName+"-wal")
	if size := must(os.Stat(wal))(t).Size(); size < walAtMost {
		t.Fatalf("the log has only %d bytes: nothing is to be given back, this test is blind", size)
	}
	check(t, look.Rollback())
	check(t, reader.Close())
	for i := range 300 { // past the next two checkpoints, the second of which begins the log anew
		check(t, s.Note(t.Context(), map[string]string{ids["a"]: long(i)}))
	}
	if size := must(os.Stat(wal))(t).Size(); size > walAtMost {
		t.Errorf("the log still has %d bytes when the reader has gone, want %d at most", size, walAtMost)
	}
}

func TestAFileThatItsOwnerChangesUnderAReaderIsNotCalledDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner := must(Open(t.Context(), dir))(t)
	record(t, owner, due(night, save(t, owner, night.Add(-time.Hour), nightly("a"))...), night)
	check(t, owner.Close())
	path := filepath.Join(dir, FileName)
	change := func() {
		text := must(os.ReadFile(path))(t)
		clear(text[4096:])
		check(t, os.WriteFile(path, text, 0o600))
	}
	reader := must(look(path, immutable))(t)
	defer func() { check(t, reader.Close()) }()
	change()
	_, err := reader.Runs(t.Context(), RunFilter{})
	if err == nil || !strings.Contains(err.Error(), "ask again") || errors.As(err, new(*CorruptError)) {
		t.Errorf("changed after it was opened: %v", err)
	}
	if _, err := look(path, immutable); !errors.As(err, new(*CorruptError)) {
		t.Errorf("damaged before: %v", err)
	}
}

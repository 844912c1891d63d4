package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
	"belfry/internal/outbox"
)

func TestPythonReadsWhatWeWrote(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	first := note("")
	first.Attempt = 3
	m.output = func(_ context.Context, run string, attempt int, _ int64) (head, tail []byte, length int64, err error) {
		if run != first.Run || attempt != 3 {
			t.Errorf("asked for attempt %d of %s", attempt, run)
		}
		return []byte("보고서\nFrom 서울 with love\n\nFrom the same\n\xff\xfe"), nil, 60, nil
	}
	first.Command = "보고서 만들기"
	send(t, m, "1", first)
	send(t, m, "2", note(""))
	send(t, m, "3", note("\n\n\n"))

	mails := parse(t, filepath.Join(dir, "alice"))
	if len(mails) != 3 {
		t.Fatalf("python sees %d mails: %+v", len(mails), mails)
	}
	got := mails[0]
	if want := "MAILER-DAEMON Sun Nov 22 08:00:00 2026"; got.From != want {
		t.Errorf("From_ is %q, want %q", got.From, want)
	}
	if want := "Cron <alice@belfry> 보고서 만들기"; got.header("Subject") != want {
		t.Errorf("Subject is %q, want %q", got.header("Subject"), want)
	}
	if want := latin1("보고서\n>From 서울 with love\n\n>From the same\n\xff\xfe\n"); got.Body != want {
		t.Errorf("body is %q, want %q", got.Body, want)
	}
	if mails[1].Body != "" || mails[2].Body != "\n\n\n" {
		t.Errorf("bodies are %q and %q", mails[1].Body, mails[2].Body)
	}
}

// sendWaiting sends in a goroutine and returns when that waits, and for what.
func sendWaiting(ctx context.Context, t *testing.T, m *Mailbox, msg Message) (what string, sent <-chan error) {
	t.Helper()
	waits, done := make(chan string, 1), make(chan error, 1)
	m.waiting = func(what string) {
		select {
		case waits <- what:
		default:
		}
	}
	it := item(t, "1", msg)
	go func() {
		_, err := m.Send(ctx, it, noSave)
		done <- err
	}()
	select {
	case what = <-waits:
	case err := <-done:
		t.Fatalf("Send did not wait: %v", err)
	}
	return what, done
}

const lockfPython = `
import fcntl, sys
f = open(sys.argv[1], 'a+b')
fcntl.lockf(f, fcntl.LOCK_EX)
print('locked')
sys.stdin.readline()
f.write(b'From python Sun Nov 22 08:00:00 2026\nSubject: python\n\nbody\n\n')
f.flush()
fcntl.lockf(f, fcntl.LOCK_UN)
sys.stdin.readline()
`

func TestSendDoesNotWaitForEverForAMailboxThatIsLocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, dir := spool(t)
		write(t, "", dir, "alice")
		held, err := m.lock(t.Context(), filepath.Join(dir, "alice"), account{"alice", os.Geteuid(), os.Getegid()})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = m.Send(t.Context(), item(t, "1", note("ours\n")), noSave)
		if err == nil || outbox.IsFinal(err) || !strings.Contains(err.Error(), waitsFor) {
			t.Errorf("Send: %v, want one that is tried again", err)
		}
		if waited := time.Since(began); waited != lockPatience {
			t.Errorf("it waited for %s", waited)
		}
		held.unlock()
		send(t, m, "1", note("ours\n"))
	})
}

func TestSendWaitsForTheFcntlLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	p := startPython(t, lockfPython, filepath.Join(dir, "alice"))
	p.hear("locked")
	what, sent := sendWaiting(t.Context(), t, m, note("ours\n"))
	if want := "the fcntl lock of " + filepath.Join(dir, "alice"); what != want {
		t.Errorf("waits for %q, want %q", what, want)
	}
	p.say("release")
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	p.say("end")
	p.wait()
	mails := parse(t, filepath.Join(dir, "alice"))
	if len(mails) != 2 || mails[0].header("Subject") != "python" || mails[1].Body != "ours\n" {
		t.Errorf("got %+v", mails)
	}
}

func TestAnotherProcessSeesOurLocks(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "alice")
	a, err := m.lookup("alice")
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.lock(t.Context(), path, a)
	if err != nil {
		t.Fatal(err)
	}
	p := startPython(t, `
import fcntl, mailbox, os, sys
f = open(sys.argv[1], 'r+b')
def lockf():
    try:
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(f, fcntl.LOCK_UN)
        print('free')
    except OSError:
        print('locked')
def box():
    try:
        b = mailbox.mbox(sys.argv[1]); b.lock(); b.unlock()
        print('free')
    except mailbox.ExternalClashError:
        print('locked')
lockf(); print('dotlock' if os.path.exists(sys.argv[1] + '.lock') else 'none')
sys.stdin.readline()
lockf(); box()
`, path)
	p.hear("locked")
	p.hear("dotlock")
	b.unlock()
	p.say("look again")
	p.hear("free")
	p.hear("free")
	p.wait()
}

func TestSendWaitsUntilTheDotlockIsRemoved(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "alice")
	// It takes the fcntl lock too while it has the dotlock: the other order. Who
	// held one while waiting for the other would wait for ever.
	p := startPython(t, `
import fcntl, os, sys
os.close(os.open(sys.argv[1] + '.lock', os.O_CREAT | os.O_EXCL))
print('locked')
sys.stdin.readline()
f = open(sys.argv[1], 'a+b')
fcntl.lockf(f, fcntl.LOCK_EX)
f.write(b'From python Sun Nov 22 08:00:00 2026\nSubject: python\n\nbody\n\n')
f.close()
os.remove(sys.argv[1] + '.lock')
`, path)
	p.hear("locked")
	what, sent := sendWaiting(t.Context(), t, m, note("ours\n"))
	if want := path + ".lock"; what != want {
		t.Errorf("waits for %q, want %q", what, want)
	}
	p.say("release")
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	p.wait()
	mails := parse(t, path)
	if len(mails) != 2 || mails[0].header("Subject") != "python" || mails[1].Body != "ours\n" {
		t.Errorf("got %+v", mails)
	}
	if _, err := os.Lstat(path + ".lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("our dotlock is left: %v", err)
	}
}

func TestWaitingForALockEndsWithTheContextAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "alice")
	write(t, "", path+".lock")
	ctx, cancel := context.WithCancel(t.Context())
	_, sent := sendWaiting(ctx, t, m, note("ours\n"))
	cancel()
	err := <-sent
	if err == nil || !strings.Contains(err.Error(), "wait for "+path+".lock") || outbox.IsFinal(err) {
		t.Errorf("got %v, want one that is tried again and names the lock", err)
	}
	if read(t, path) != "" || read(t, path+".lock") != "" {
		t.Error("something was written")
	}
}

func TestStaleDotlockIsBroken(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "alice")
	write(t, "1\n", path+".lock")
	old := time.Now().Add(-staleAfter - time.Minute)
	if err := os.Chtimes(path+".lock", old, old); err != nil {
		t.Fatal(err)
	}
	m.waiting = func(what string) { t.Errorf("waits for %s", what) }
	send(t, m, "1", note("ours\n"))
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left in the folder: %v, %v", names, err)
	}
}

func TestTwoSendersAppendWholeMails(t *testing.T) {
	t.Parallel()
	_, dir := spool(t)
	const each = 200
	var wg sync.WaitGroup
	for s := range 2 {
		m := newMailbox(dir)
		wg.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", s, n)
				if _, err := m.Send(t.Context(), item(t, id, note(strings.Repeat(id+"\n", 50))), noSave); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, mail := range parse(t, filepath.Join(dir, "alice")) {
		id := strings.TrimSuffix(strings.TrimPrefix(mail.header("Message-ID"), "<01JRUN."), "@belfry.example.com>")
		if mail.Body != strings.Repeat(id+"\n", 50) {
			t.Errorf("mail %s has body %q", id, mail.Body)
		}
		seen[id] = true
	}
	if len(seen) != 2*each {
		t.Errorf("%d mails, want %d", len(seen), 2*each)
	}
}

func TestWhatIsNoMailboxIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		make func(dir, path string) error
		want string
	}{
		{"symlink", func(dir, path string) error { return os.Symlink(filepath.Join(dir, "other"), path) }, "symbolic link"},
		{"dangling symlink", func(dir, path string) error { return os.Symlink(filepath.Join(dir, "none"), path) }, "symbolic link"},
		{"hard link", func(dir, path string) error { return os.Link(filepath.Join(dir, "other"), path) }, "hard link"},
		{"fifo", func(_, path string) error { return unix.Mkfifo(path, 0o600) }, "not a regular file"},
		{"folder", func(_, path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, dir := spool(t)
			write(t, "precious\n", dir, "other")
			if err := tt.make(dir, filepath.Join(dir, "alice")); err != nil {
				t.Fatal(err)
			}
			_, err := m.Send(t.Context(), item(t, "1", note("ours\n")), noSave)
			wantFinal(t, err, tt.want, filepath.Join(dir, "alice"))
			if read(t, dir, "other") != "precious\n" {
				t.Error("the other file was written")
			}
			if _, err := os.Lstat(filepath.Join(dir, "none")); err == nil {
				t.Error("a file was made through the link")
			}
		})
	}
}

func TestMailboxOfAnotherOwnerIsRefused(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "mallory")
	write(t, "", path)
	if os.Geteuid() == 0 {
		// Root's own is allowed; so give it to a third.
		if err := os.Chown(path, 999, 999); err != nil {
			t.Fatal(err)
		}
	}
	msg := note("ours\n")
	msg.To = []string{"mallory"}
	_, err := m.Send(t.Context(), item(t, "1", msg), noSave)
	wantFinal(t, err, path+" belongs to user id", "not to mallory")
}

func TestMailboxIsMadeForItsReader(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	msg := note("ours\n")
	msg.To = []string{"mallory"}
	path := filepath.Join(dir, "mallory")
	if os.Geteuid() != 0 {
		_, err := m.Send(t.Context(), item(t, "1", msg), noSave)
		wantFinal(t, err, "only root or mallory can make it")
		send(t, m, "1", note("ours\n"))
		if info, err := os.Stat(filepath.Join(dir, "alice")); err != nil || info.Mode().Perm()&^0o660 != 0 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		return
	}
	check := func() {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		mail, ok := mailGroup()
		mode := 0o660
		if !ok {
			mail, mode = os.Getegid(), 0o600
		}
		if st.Uid != 4321 || int(st.Gid) != mail || int(st.Mode&0o7777) != mode {
			t.Errorf("owner %d:%d, mode %o; want 4321:%d, %o", st.Uid, st.Gid, st.Mode&0o7777, mail, mode)
		}
	}
	send(t, m, "1", msg)
	check()

	// Died between making it and giving it away.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, "", path)
	send(t, m, "1", msg)
	check()

	// The reader's own choice stays.
	if err := errors.Join(os.Truncate(path, 0), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	send(t, m, "1", msg)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode became %v, %v", info.Mode(), err)
	}
}

func TestWhatAUsersChildLeavesBehindHoldsUpNoMail(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t) // who writes the mailboxes of others
	m, dir := spool(t)
	m.as = func(*exec.Cmd, int, int) (func() error, error) { return func() error { return nil }, nil }
	left := filepath.Join(t.TempDir(), "left")
	m.child = []string{"/bin/sh", "-c", `cat >/dev/null; /bin/sleep 1000 & echo $! >"$0"; echo {}`, left}
	msg := note("ours\n")
	msg.To = []string{"mallory"}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		_, err := m.Send(ctx, item(t, "1", msg), noSave)
		sent <- err
	}()
	select {
	case err := <-sent:
		if err != nil {
			t.Errorf("Send: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the mail is waited for as long as what was left behind lives")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, left)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what was left behind: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mallory")); err != nil {
		t.Error(err) // root made it
	}
}

func TestMissingFolderOfMailboxesIsFinal(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	none := filepath.Join(dir, "none")
	m.spool = func() string { return none }
	_, err := m.Send(t.Context(), item(t, "1", note("ours\n")), noSave)
	wantFinal(t, err, "there is no folder of mailboxes "+none)
}

func TestFolderWithoutDotlocksIsLockedWithFcntlAlone(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "belfry-notify-") //nolint:usetesting // t.TempDir is in a folder that only root may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "alice")
	write(t, "", path)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	m := newMailbox(dir)
	owner := os.Geteuid()
	if owner == 0 {
		owner = 65534
	}
	m.lookup = func(name string) (account, error) { return account{name, owner, owner}, nil }
	it := item(t, "1", note("ours\n"))
	asNobody(t, func() {
		if _, err := m.Send(t.Context(), it, noSave); err != nil {
			t.Error(err)
		}
	})
	if got := read(t, path); !strings.HasSuffix(got, "\n\nours\n\n") {
		t.Errorf("got %q", got)
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		it.ID = "2"
		if _, err := m.Send(t.Context(), it, noSave); !outbox.IsFinal(err) || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("a mailbox that may not be written: %v", err)
		}
	})
}

func TestMailThatStandsThereIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "alice")
	send(t, m, "1", note("first\n"))
	once := read(t, path)
	send(t, m, "1", note("first\n"))
	if got := read(t, path); got != once {
		t.Errorf("a repeat wrote\n%s", got[len(once):])
	}
	// Another notice of the same run is another mail.
	send(t, m, "2", note("second\n"))
	twice := read(t, path)
	if len(twice) <= len(once) {
		t.Fatal("the second notice of a run is not there")
	}
	// A mail reader has marked it, and more mail came.
	read := strings.Replace(twice, "Precedence: bulk\n", "Precedence: bulk\nStatus: RO\n", 1)
	write(t, read, path)
	send(t, m, "1", note("first\n"))
	send(t, m, "2", note("second\n"))
	if got, err := os.ReadFile(path); err != nil || string(got) != read {
		t.Errorf("a repeat made of\n%s\n%s", read, got)
	}
	// An id that somebody quotes is not a mail.
	send(t, m, "3", note("Message-ID: <01JRUN.4@belfry.example.com>\n\nFrom x\nMessage-ID: <01JRUN.4@belfry.example.com>\n"))
	send(t, m, "4", note("fourth\n"))
	if got := parse(t, path); len(got) != 4 || got[3].Body != "fourth\n" {
		t.Errorf("got %+v", got)
	}
}

func TestTailOfACrashIsRepaired(t *testing.T) {
	t.Parallel()
	const foreign = "From eve Sun Nov 22 08:00:00 2026\nSubject: x\n\nbody"
	for _, tail := range []string{"", "\n", "\n\n"} {
		m, dir := spool(t)
		write(t, foreign+tail, dir, "alice")
		send(t, m, "1", note("ours\n"))
		got := read(t, dir, "alice")
		if !strings.HasPrefix(got, foreign+"\n\nFrom MAILER-DAEMON ") || len(parse(t, filepath.Join(dir, "alice"))) != 2 {
			t.Errorf("after %q: %q", tail, got)
		}
	}
}

func TestHalfAMailIsWrittenAnewWhereverTheCrashCutIt(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	path := filepath.Join(dir, "alice")
	send(t, m, "0", note("before\n"))
	before := len(read(t, path))
	msg := note("one\n\ntwo\n\nFrom three\n\n")
	send(t, m, "1", msg)
	whole := read(t, path)
	for cut := strings.LastIndex(whole, "belfry.example.com>\n") + len("belfry.example.com>\n"); cut < len(whole); cut++ {
		write(t, whole[:cut], path)
		send(t, m, "1", msg)
		if got := read(t, path); got != whole {
			t.Fatalf("cut at %d of %d (mail begins at %d): got\n%s", cut, len(whole), before, got)
		}
	}
	write(t, whole[:len(whole)-9]+strings.Repeat("\x00", 9), path) // what power loss leaves
	send(t, m, "1", msg)
	if got := read(t, path); got != whole {
		t.Errorf("got %q", got)
	}
}

// TestMain lets the test binary be the process that runs out of room.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BELFRY_TEST_SPOOL"); dir != "" {
		os.Exit(outOfRoom(dir))
	}
	os.Exit(m.Run())
}

// outOfRoom sends a mail of 100 kB with a limit of 40 kB to the size of files.
// The kernel writes what fits, then it refuses.
func outOfRoom(dir string) int {
	limit := unix.Rlimit{Cur: 40_000, Max: 40_000}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	payload := []byte(os.Getenv("BELFRY_TEST_PAYLOAD"))
	_, err := newMailbox(dir).Send(context.Background(), outbox.Item{ID: "big", Payload: payload}, noSave)
	fmt.Print(err)
	if err == nil || !strings.Contains(err.Error(), unix.EFBIG.Error()) || outbox.IsFinal(err) {
		return 1
	}
	return 0
}

func TestFailedAppendLeavesNothing(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	send(t, m, "1", note("before\n"))
	before := read(t, dir, "alice")
	big := item(t, "big", note(strings.Repeat("0123456789\n", 9_000)))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "BELFRY_TEST_SPOOL="+dir, "BELFRY_TEST_PAYLOAD="+string(big.Payload))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := read(t, dir, "alice"); got != before {
		t.Errorf("%d bytes are left, want %d", len(got), len(before))
	}
}

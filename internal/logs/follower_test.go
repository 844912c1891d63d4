package logs_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"belfry/internal/logs"
	"belfry/internal/machine"
)

// noise is a text of n bytes that differs everywhere.
func noise(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		sum := sha256.Sum256([]byte(fmt.Sprint(i)))
		fmt.Fprintf(&b, "%d %s\n", i, hex.EncodeToString(sum[:]))
	}
	return b.String()[:n]
}

func TestWhatIsPrintedIsStoredWholeAndTheFileGoes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a line":              "hello\n",
		"no newline":          "hello",
		"an endless line":     strings.Repeat("x", 700<<10),
		"binary":              "\x00\x01\xff\xfe\x00\r\n" + strings.Repeat("\x00", 200<<10) + "\x1b[2J",
		"characters at edges": "a" + strings.Repeat("종", 100<<10),
		"much":                noise(3 << 20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, logs.Attempt{})
			f, _ := p.follow()
			// In three pieces, of which each is stored before the next comes, and read
			// live by a Reader that was there from the beginning.
			live := p.reader(f)
			var seen string
			for i := range 3 {
				from, to := i*len(text)/3, (i+1)*len(text)/3
				p.print(text[from:to])
				seen += p.rest(live, false)
				p.until("a third is stored", func() bool { return p.stored() == int64(to) })
				if name == "a line" && seen != text[:to] {
					t.Errorf("a live reader has seen %q, want %q", seen, text[:to])
				}
			}
			seen += p.rest(live, false)
			f.Ended(p.a.Run, 1)
			p.until("it is closed", p.closed)
			if _, err := os.Stat(p.log()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
			if got := p.read(0); got != text {
				t.Errorf("the store has %d bytes, want %d of %.40q", len(got), len(text), text)
			}
			if seen += p.rest(live, true); seen != text {
				t.Errorf("a live reader has seen %d bytes, want %d", len(seen), len(text))
			}
			for _, offset := range []int{1, len(text) / 2, len(text)} {
				if got := p.read(int64(offset)); got != text[offset:] {
					t.Errorf("from %d on there are %d bytes, want %d", offset, len(got), len(text)-offset)
				}
			}
		})
	}
}

func TestAChattyJobDoesNotMakeARowForEachLine(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	f, _ := p.follow()
	var want int64
	for i := range 12 {
		p.print(fmt.Sprintf("line %d\n", i))
		want += int64(len(fmt.Sprintf("line %d\n", i)))
		p.until("a line is stored", func() bool { return p.stored() == want })
	}
	f.Ended(p.a.Run, 1)
	c, _, err := p.store.ChunkBefore(t.Context(), p.a.Run, 1, 1<<62)
	p.check(err)
	if c.Start != 0 || c.End() != want {
		t.Errorf("the last chunk is from %d to %d, want one from 0 to %d", c.Start, c.End(), want)
	}
	if p.read(7) != p.read(0)[7:] {
		t.Error("from its middle it reads otherwise")
	}
}

func TestOfALongLogTheEndsAreKept(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	text := noise(6 << 20)
	p := newPlace(t, logs.Attempt{Limit: limit})
	f, _ := p.follow()
	for i := range 3 { // faster than it is stored, and with pauses
		p.print(text[i*len(text)/3 : (i+1)*len(text)/3])
		p.until("the newest is stored", func() bool { return p.stored() == int64((i+1)*len(text)/3) })
	}
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	got := p.read(0)
	if !strings.HasPrefix(got, text[:limit/2]) || !strings.HasSuffix(got, text[len(text)-limit/2:]) {
		t.Error("its first and last half MiB are not whole")
	}
	if len(got) > limit+300<<10 {
		t.Errorf("%d bytes are kept of a limit of %d", len(got), limit)
	}
	_, rest, found := strings.Cut(got, "\n[belfry: ")
	line, _, _ := strings.Cut(rest, "\n")
	if !found || !strings.HasSuffix(line, " MiB left out here, log_limit is 1 MiB]") || strings.Count(got, "[belfry") != 1 {
		t.Errorf("the line that says so is %q", line)
	}
}

func TestWithoutALimitAllIsKept(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	text := strings.Repeat("y\n", 40<<20)
	p.print(text)
	f, _ := p.follow()
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got := p.read(0); got != text {
		t.Errorf("%d bytes are there, want %d", len(got), len(text))
	}
}

func TestDiskIsGivenBackWhileTheJobRuns(t *testing.T) {
	needsLinux(t)
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	p.print(noise(1000))
	p.follow()
	text := noise(24 << 20)
	p.print(text[1000:])
	p.until("it is stored", func() bool { return p.stored() == int64(len(text)) })
	p.print("more\n")
	p.until("more is stored", func() bool { return p.stored() == int64(len(text)+5) })
	if n := p.blocks(); n > 9<<20 {
		t.Errorf("%d MiB of %d are on the disk", n>>20, len(text)>>20)
	}
	if got := p.read(0); got != text+"more\n" {
		t.Errorf("%d bytes can be read, want %d", len(got), len(text)+5)
	}
}

func TestWhatTheStoreRefusesIsReadAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	p.store.failWith(errors.New("the disk is full"))
	p.follow()
	p.print("one\n")
	<-p.store.saved
	p.print("two\n")
	<-p.store.saved
	if got := p.read(0); got != "one\ntwo\n" {
		t.Errorf("a reader gets %q", got)
	}
	p.store.failWith(nil)
	p.until("it is stored", func() bool { return p.stored() == 8 })
	if got := p.read(0); got != "one\ntwo\n" {
		t.Errorf("a reader gets %q", got)
	}
}

func TestAJobMayTruncateItsOutput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, first, second, want string }{
		{"to something shorter", "hello\n", "new\n", "hello\n[belfry: the job truncated its output here]\nnew\n"},
		{"to something as long", "hello\n", "HELLO\n", "hello\n[belfry: the job truncated its output here]\nHELLO\n"},
		{"to something longer", "hello\n", "something longer\n", "hello\n[belfry: the job truncated its output here]\nsomething longer\n"},
		{"within a line", "hello", "new\n", "hello\n[belfry: the job truncated its output here]\nnew\n"},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, restarted), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, logs.Attempt{})
				f, stop := p.follow()
				live := p.reader(f)
				p.print(c.first)
				p.until("it is stored", func() bool { return p.stored() == int64(len(c.first)) })
				seen := p.rest(live, false)
				if restarted {
					stop()
				}
				p.check(os.WriteFile(p.log(), []byte(c.second), 0o600)) // truncates
				seen += p.rest(live, false)
				if restarted {
					f, _ = p.follow()
				}
				p.until("the rest is stored", func() bool { return p.stored() == int64(len(c.first+c.second)) })
				p.print("last\n")
				f.Ended(p.a.Run, 1)
				p.until("it is closed", p.closed)
				if got := p.read(0); got != c.want+"last\n" {
					t.Errorf("it is %q, want %q", got, c.want+"last\n")
				}
				if seen += p.rest(live, true); seen != c.want+"last\n" {
					t.Errorf("a live reader has seen %q", seen)
				}
			})
		}
	}
}

func TestWhatIsPrintedAfterATruncationIsNotGivenBack(t *testing.T) {
	t.Parallel()
	for _, size := range []int{2<<20 - 10, 8 << 20} { // within what was read, and past it
		p := newPlace(t, logs.Attempt{})
		first, second := noise(2<<20), strings.ToUpper(noise(size))
		// Right before disk is given back, and after the last look at the file.
		p.store.atNextSync(func() { p.check(os.WriteFile(p.log(), []byte(second), 0o600)) })
		p.print(first)
		f, _ := p.follow()
		p.until("all is stored", func() bool { return p.stored() == int64(len(first)+len(second)) })
		f.Ended(p.a.Run, 1)
		p.until("it is closed", p.closed)
		want := first + "[belfry: the job truncated its output here]\n" + second
		if !strings.HasSuffix(first, "\n") {
			want = first + "\n[belfry: the job truncated its output here]\n" + second
		}
		if got := p.read(0); got != want {
			t.Errorf("of %d bytes behind a truncation: there are %d bytes, want %d; they differ at %d", size, len(got), len(want), differ(got, want))
		}
	}
}

func TestAFileThatWasTruncatedAtItsEndIsNotRemoved(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	// Right before the file is removed, and after the last look at it.
	p.store.atNextSync(func() { p.check(os.WriteFile(p.log(), []byte("new\n"), 0o600)) })
	p.print("hello\n")
	f, _ := p.follow()
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got, want := p.read(0), "hello\n[belfry: the job truncated its output here]\nnew\n"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

func TestAJobMayRemoveItsLog(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	text := noise(2 << 20)
	p.store.atNextSync(func() { p.check(os.Remove(p.log())) })
	p.print(text)
	f, _ := p.follow()
	p.until("it is stored", func() bool { return p.stored() == int64(len(text)) })
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got := p.read(0); got != text {
		t.Errorf("there are %d bytes, want %d", len(got), len(text))
	}
}

func TestSecretsAreNeitherStoredNorShown(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{Secrets: []string{"hunter22", "correct horse"}})
	f, stop := p.follow()
	live := p.reader(f)
	p.print("pw: hun")
	p.until("what is sure is stored", func() bool { return p.stored() == 4 })
	if got := p.rest(live, false); got != "pw: " {
		t.Errorf("a live reader sees %q while a secret may have begun", got)
	}
	stop() // the daemon is restarted within the secret
	f, _ = p.follow()
	p.print("ter22 correct horse hunt\n")
	p.until("it is stored", func() bool { return p.stored() == 32 })
	want := "pw: ******** ************* hunt\n"
	if got := p.rest(live, false); got != want[4:] {
		t.Errorf("a live reader sees %q", got)
	}
	p.print("hunter2")
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got := p.read(0); got != want+"hunter2" {
		t.Errorf("it is stored as %q", got)
	}
}

func TestSecretsThatAHoleHasCutAreNotShown(t *testing.T) {
	needsLinux(t)
	t.Parallel()
	const limit = 2 << 20
	for _, secret := range []string{"hunter22", "correct horse battery staple"} {
		p := newPlace(t, logs.Attempt{Limit: limit, Secrets: []string{secret}})
		p.print(strings.Repeat(secret+"\n", 4*limit/(len(secret)+1)))
		file, err := os.OpenFile(p.log(), os.O_WRONLY, 0)
		p.check(err)
		p.check(punch(file, limit/2, 3*limit))
		p.check(file.Close())
		hidden := func(where string) {
			t.Helper()
			got := p.read(0)
			line := regexp.MustCompile(`\[belfry: .*\]\n`)
			if shown := strings.Trim(line.ReplaceAllString(got, ""), "*\n"); shown != "" || len(got) < limit || !line.MatchString(got) {
				t.Errorf("of %q are shown, %s: %.100q of %d bytes", secret, where, shown, len(got))
			}
		}
		hidden("from the file")
		f, _ := p.follow()
		f.Ended(p.a.Run, 1)
		p.until("it is closed", p.closed)
		hidden("from the store")
	}
}

func TestFromBehindItsEndALogIsReadFromItsEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	r := logs.NewReader(p.store, p.a)
	r.From(7)
	if got := p.rest(r, false); got != "" {
		t.Errorf("before anything is printed there is %q", got)
	}
	_, stop := p.follow()
	p.print("one\n")
	p.until("it is stored", func() bool { return p.stored() == 4 })
	stop()
	p.print("two\n") // only in the file
	for _, offset := range []int64{8, 9, 1 << 40} {
		r := logs.NewReader(p.store, p.a)
		r.From(offset)
		if got := p.rest(r, false); got != "" {
			t.Errorf("from %d on there is %q", offset, got)
		}
	}
	r = logs.NewReader(p.store, p.a)
	r.From(9)
	if got := p.rest(r, false); got != "" {
		t.Errorf("from 9 on there is %q", got)
	}
	p.print("three\n")
	if got := p.rest(r, false); got != "three\n" {
		t.Errorf("what comes then is %q", got)
	}
	f, _ := p.follow()
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got := p.read(1 << 40); got != "" {
		t.Errorf("at last there is %q", got)
	}
}

func TestALogWhoseFileWasRemovedBeforeItWasClosedIsClosed(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]func(p *place){
		"no file":       func(*place) {},
		"an empty file": func(p *place) { p.print("") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, logs.Attempt{})
			f, stop := p.follow()
			p.print("hello\n")
			f.Ended(p.a.Run, 1)
			p.until("it is closed", p.closed)
			stop()
			// As a daemon leaves it that is killed right after it has removed the file.
			p.check(p.store.SaveLogs(t.Context(), []logs.Change{{Log: logs.Log{Run: p.a.Run, Number: 1}}}))
			left(p)
			f, _ = p.follow()
			f.Ended(p.a.Run, 1)
			p.until("it is closed again", p.closed)
			if got := p.read(0); got != "hello\n" {
				t.Errorf("it is %q", got)
			}
		})
	}
}

func TestAProcessThatAJobLeavesBehindIsHeard(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	left, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.check(err)
	f, _ := p.follow()
	p.print("the job\n")
	f.Ended(p.a.Run, 1)
	p.until("it is stored", func() bool { return p.stored() == 8 })
	_, err = left.WriteString("the daemon that it left behind\n")
	p.check(err)
	p.until("that is stored too", func() bool { return p.stored() == 39 })
	if p.closed() {
		t.Error("the log was closed while somebody could write to it")
	}
	p.check(left.Close())
	p.until("it is closed", p.closed)
}

func TestALogThatIsNotTheJobsIsNotRead(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(p *place, other string) error{
		"a link":      func(p *place, other string) error { return os.Symlink(other, p.log()) },
		"a hard link": func(p *place, other string) error { return os.Link(other, p.log()) },
		"a folder":    func(p *place, _ string) error { return os.Mkdir(p.log(), 0o700) },
		"another's, in a folder of the job's user": func(p *place, _ string) error {
			dir := filepath.Dir(p.log())
			return errors.Join(os.WriteFile(p.log(), []byte("secret\n"), 0o600), os.Chown(dir, 12345, 12345))
		},
		"another's, in a folder that others can write": func(p *place, _ string) error {
			dir := filepath.Dir(p.log())
			return errors.Join(os.WriteFile(p.log(), []byte("secret\n"), 0o600), os.Chown(p.log(), 12345, 12345), os.Chmod(dir, 0o777))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(name, "another's") { // only root can give a file away
				machine.NeedsRoot(t)
			}
			p := newPlace(t, logs.Attempt{})
			other := p.log() + ".other"
			p.check(os.WriteFile(other, []byte("secret\n"), 0o600))
			p.check(put(p, other))
			f, stop := p.follow()
			if _, err := p.reader(f).Next(t.Context(), true); err == nil || strings.Contains(err.Error(), "EOF") {
				t.Errorf("a reader gets %v, want a refusal", err)
			}
			f.Ended(p.a.Run, 1)
			stop()
			if _, follows := f.Reader(p.a.Run, 1); follows || p.stored() != 0 {
				t.Error("it was followed or stored")
			}
		})
	}
}

func TestSinceAndTailFindTheirOffset(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	f, stop := p.follow()
	p.print("one\n")
	p.until("it is stored", func() bool { return p.stored() == 4 })
	between := time.Now()
	for time.Now().UnixMilli() == between.UnixMilli() { // marks have milliseconds
		runtime.Gosched()
	}
	between = time.Now()
	p.print("two\nthree\n")
	p.until("it is stored", func() bool { return p.stored() == 14 })
	stop()
	p.print("four\nfive") // only in the file
	r := p.reader(f)
	for _, c := range []struct {
		n    int
		want int64
	}{{0, 23}, {1, 19}, {2, 14}, {3, 8}, {4, 4}, {5, 0}, {9, 0}} {
		if got, err := r.Tail(context.Background(), c.n); got != c.want || err != nil {
			t.Errorf("the last %d lines begin at %d, %v, want %d", c.n, got, err, c.want)
		}
	}
	for _, c := range []struct {
		at   time.Time
		want int64
	}{{between.Add(-time.Hour), 0}, {between, 4}, {time.Now().Add(time.Hour), 14}} {
		if got, err := r.Since(context.Background(), c.at); got != c.want || err != nil {
			t.Errorf("since %v is %d, %v, want %d", c.at, got, err, c.want)
		}
	}
	head, tail, length, err := r.Ends(context.Background(), 10)
	if string(head) != "one\nt" || string(tail) != "\nfive" || length != 23 || err != nil {
		t.Errorf("its ends are %q and %q of %d, %v", head, tail, length, err)
	}
	head, tail, _, err = r.Ends(context.Background(), 23)
	if string(head) != "one\ntwo\nthree\nfour\nfive" || tail != nil || err != nil {
		t.Errorf("the whole is %q and %q, %v", head, tail, err)
	}
}

func TestAJobThatPrintsNothingLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, logs.Attempt{})
	needsLinux(t)
	p.print("")
	f, stop := p.follow()
	f.Ended(p.a.Run, 1)
	stop()
	if _, err := os.Stat(p.log()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file is still there: %v", err)
	}
	if _, follows := f.Reader(p.a.Run, 1); follows {
		t.Error("it is still followed")
	}
	select {
	case <-p.store.saved:
		t.Error("something was saved for it")
	default:
	}
}

func TestOutputWhoseSecretsAreNotKnownStaysInItsFile(t *testing.T) {
	t.Parallel()
	unknown := errors.New("env_file is gone")
	p := newPlace(t, logs.Attempt{Ask: func(context.Context) ([]string, error) { return nil, unknown }})
	p.print("pw: hunter22\n")
	f, stop := p.follow()
	f.Ended(p.a.Run, 1)
	p.until("the log is known to be open", func() bool {
		open, err := p.store.OpenLogs(t.Context())
		p.check(err)
		return len(open) == 1 && open[0].Run == p.a.Run
	})
	if _, ok := f.Reader(p.a.Run, 1); ok {
		t.Error("there is a reader that hides nothing")
	}
	stop()
	text, err := os.ReadFile(p.log())
	if p.check(err); p.stored() != 0 || string(text) != "pw: hunter22\n" {
		t.Errorf("%d bytes are stored, and the file holds %q", p.stored(), text)
	}
	p.a.Ask = func(context.Context) ([]string, error) { return []string{"hunter22"}, nil }
	f, _ = p.follow()
	f.Ended(p.a.Run, 1)
	p.until("it is closed", p.closed)
	if got := p.read(0); got != "pw: ********\n" {
		t.Errorf("it is stored as %q", got)
	}
}

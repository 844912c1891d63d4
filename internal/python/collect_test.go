package python

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhatNobodyUsesAnyMoreIsRemoved(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.fifo("begun")
	p.fifo("go")
	at := map[string]string{}
	for name, requirements := range map[string]string{"loaded": "# one\n", "removed": "tiny==1.0\n", "working": "tiny==2.0\n"} {
		p.write("requirements.txt", requirements)
		script := "print('ran')"
		if name == "working" {
			script = `open("begun", "w").close(); open("go").read(); ` + showTiny
			defer p.start(name, script).ends(0)
			read(t, p.path("begun"))
		} else {
			p.run(name, script)
		}
		at[name] = Of(p.data(), name)
	}
	half := filepath.Join(p.data(), DirName, "half")
	if err := os.MkdirAll(filepath.Join(half, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	collect := func(later time.Duration, jobs ...string) int {
		t.Helper()
		n, err := Collect(context.Background(), p.data(), time.Now().Add(later), func(job string) bool { return slices.Contains(jobs, job) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	there := func(dir string) bool { _, err := os.Stat(dir); return err == nil }

	if n := collect(6*24*time.Hour, "loaded"); n != 0 {
		t.Errorf("%d were removed within a week", n)
	}
	if n := collect(8*24*time.Hour, "loaded"); n != 2 || there(at["removed"]) || there(at["removed"]+lockExt) || there(half) {
		t.Errorf("after a week %d were removed; that of a removed job is there: %t, a half one: %t", n, there(at["removed"]), there(half))
	}
	for _, name := range []string{"loaded", "working"} {
		if !there(at[name]) || Of(p.data(), name) != at[name] {
			t.Errorf("the environment of the %s job is gone", name)
		}
	}
	if links, _ := os.ReadDir(filepath.Join(p.data(), DirName, jobsName)); len(links) != 2 {
		t.Errorf("links %v, want those of the two that are there", links)
	}
	held, err := lock(at["loaded"], nil) // somebody makes it, or so it looks
	if err != nil {
		t.Fatal(err)
	}
	if n := collect(8 * 24 * time.Hour); n != 0 {
		t.Errorf("%d were removed under somebody's lock", n)
	}
	_ = held.Close()
	write(t, p.path("go"))
}

func TestAnEnvironmentThatIsRemovedWhileItIsAskedForIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, markName)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	remover, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = remover.Close() }()
	if err := flock(remover, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		used bool
		err  error
	}
	asked := make(chan answer)
	go func() {
		used, err := use(dir)
		asked <- answer{used, err}
	}()
	waits := regexp.MustCompile(fmt.Sprintf(`-> FLOCK +ADVISORY +READ +%d `, os.Getpid()))
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		if waits.Match(locks) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the remover")
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := flock(remover, unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if a := <-asked; a.used || a.err != nil {
		t.Errorf("it is used: %+v", a)
	}
}

//go:build linux

package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
)

// seen is a command that prints its attributes.
const seen = `umask; cut -d' ' -f19 /proc/self/stat; cat /proc/self/limits; ls /proc/self/fd | tr '\n' ' '`

func limitsOf(text string) map[string]string {
	limits := make(map[string]string)
	for line := range strings.Lines(text) {
		for resource, name := range map[string]string{
			"open_files": "Max open files", "processes": "Max processes", "file_size": "Max file size", "core_size": "Max core file size",
			"cpu_time": "Max cpu time", "memory": "Max address space", "stack": "Max stack size",
		} {
			if values, found := strings.CutPrefix(line, name); found {
				fields := strings.Fields(values)
				limits[resource] = fields[0] + " " + fields[1]
			}
		}
	}
	return limits
}

func TestJobHasTheLimitsThatItsDaemonWasStartedWith(t *testing.T) {
	h := newHost(t)
	// Go raises the number of open files for itself.
	h.command = append([]string{"/bin/sh", "-c", `ulimit -S -n 123; ulimit -c 0; exec "$@"`, "sh"}, h.command...)
	d := h.open()
	s := h.spec(seen)
	d.start(s)
	d.exit(s)
	limits := limitsOf(h.log(s))
	if soft, _, _ := strings.Cut(limits["open_files"], " "); soft != "123" || limits["core_size"] != "0 0" {
		t.Errorf("limits %v, want 123 open files and no core", limits)
	}
}

func TestAttributesAreSet(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec(seen)
	s.Umask, s.Nice = "27", 5
	want := map[string]string{}
	for i, resource := range []string{"open_files", "processes", "file_size", "core_size", "cpu_time", "memory", "stack"} {
		value := int64(100+i) << 20
		if resource == "open_files" || resource == "processes" { // not more than there is
			value = 100
		}
		s.Limits = append(s.Limits, Limit{resource, value})
		want[resource] = fmt.Sprintf("%d %d", value, value)
	}
	d.start(s)
	if exit := d.exit(s); exit.Code != 0 || exit.Error != "" {
		t.Fatalf("exit %+v, log %q", exit, h.log(s))
	}
	lines := strings.SplitN(h.log(s), "\n", 3)
	if lines[0] != "0027" || lines[1] != "5" {
		t.Errorf("umask %s, nice %s; want 0027 and 5", lines[0], lines[1])
	}
	if got := limitsOf(lines[2]); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("limits %v, want %v", got, want)
	}
	if !strings.HasSuffix(lines[2], "0 1 2 3 ") || strings.HasSuffix(lines[2], "3 4 ") { // 3 is what ls reads
		t.Errorf("descriptors %q", lines[2][strings.LastIndex(lines[2], "\n")+1:])
	}
}

func TestAttributesLeaveTheProgramsWordsAndPIDAlone(t *testing.T) {
	h := newHost(t)
	d := h.open()
	s := h.spec("")
	s.Args = []string{"sh", "-c", `echo "$0|$1|$2|$$"; cat`, "a b", "$HOME", "'"}
	s.Umask, s.Stdin = "077", []byte("in")
	d.start(s)
	exit := d.exit(s)
	if want := fmt.Sprintf("a b|$HOME|'|%d\nin", d.started(s).PID); exit.Code != 0 || h.log(s) != want {
		t.Errorf("exit %+v, log %q; want %q", exit, h.log(s), want)
	}
}

func TestAttributesLeaveTheEnvironmentAsItIs(t *testing.T) {
	h := newHost(t)
	d := h.open()
	env := []string{"PATH=/usr/bin:/bin", "x=1", "no.name=2", "1=3", "=4", "bytes=\xff\n", "OLDPWD=/o", "PWD=/p", "SHLVL=7", "_=u", "IFS=i", "GODEBUG=netdns=go"}
	environ := func(umask string) string {
		s := h.spec("")
		s.Args, s.Env, s.Umask = []string{"/bin/cat", "/proc/self/environ"}, env, umask
		d.start(s)
		if exit := d.exit(s); exit.Code != 0 {
			t.Fatalf("exit %+v", exit)
		}
		return strings.ReplaceAll(h.log(s), s.Run, "RUN")
	}
	if plain, attributed := environ(""), environ("027"); plain != attributed {
		t.Errorf("environment\n%q, want\n%q", attributed, plain)
	}
}

func TestAttributesThatCannotBeHadAreSaidInWords(t *testing.T) {
	h := newHost(t)
	d := h.open()
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Umask: "999"}, `start umask "999": not an octal number up to 777`},
		{Spec{Limits: []Limit{{"air", 1}}}, "start limit air: there is no such resource"},
		{Spec{Limits: []Limit{{"open_files", 1 << 40}}}, "start limit open_files to 1099511627776: at most "},
		{Spec{Nice: 5, Args: []string{"nosuch"}}, "start nosuch: no such program in PATH"},
		{Spec{Nice: 5, Cwd: "/no/such"}, "start folder /no/such: no such directory"},
	} {
		s := h.spec(`echo it ran`)
		s.Umask, s.Nice, s.Limits = c.spec.Umask, c.spec.Nice, c.spec.Limits
		if c.spec.Args != nil {
			s.Args = c.spec.Args
		}
		if c.spec.Cwd != "" {
			s.Cwd = c.spec.Cwd
		}
		d.start(s)
		if exit := d.exit(s); !strings.HasPrefix(exit.Error, c.want) || exit.Code != -1 || h.log(s) != "" {
			t.Errorf("exit %+v, log %q; want %q", exit, h.log(s), c.want)
		}
	}
}

func TestOnlyRootMayPutAJobBeforeOthers(t *testing.T) {
	h := newUserHost(t)
	d := h.open()
	s := h.spec(`echo it ran`)
	s.Nice = -5
	d.start(s)
	if exit := d.exit(s); exit.Error != "start nice -5: only root may put a job before others" || h.log(s) != "" {
		t.Errorf("exit %+v, log %q", exit, h.log(s))
	}
	hard := h.spec(`echo it ran`)
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	hard.Limits = []Limit{{"open_files", int64(now.Max) + 1}}
	d.start(hard)
	if exit := d.exit(hard); exit.Error != fmt.Sprintf("start limit open_files to %d: at most %d is allowed here", now.Max+1, now.Max) {
		t.Errorf("exit %+v", exit)
	}
}

// newUserHost is a host whose keepers, and so its jobs, are not root's.
func newUserHost(t *testing.T) *host {
	machine.NeedsRoot(t)
	h := newHost(t)
	// t.TempDir and the test binary's folder are for root only.
	data, err := os.MkdirTemp("", "belfry-proc-") //nolint:usetesting // it cannot be entered by others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	exe, err := os.ReadFile(h.command[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(data, "keeper.test")
	if err := os.WriteFile(copied, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	h.command = append([]string{h.command[0], "nobody", copied}, h.command[1:]...)
	h.data, h.owner = data, nobody
	h.own(data)
	h.own(h.folder("keeper"))
	return h
}

const nobody = 65534

// becomeNobody executes a command as a user without rights.
func becomeNobody(command []string) error {
	if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(nobody, nobody, nobody), unix.Setresuid(nobody, nobody, nobody)); err != nil {
		return err
	}
	return unix.Exec(command[0], command, os.Environ())
}

// folder makes one in the data folder, for the host's user.
func (h *host) folder(name string) string {
	h.Helper()
	path := filepath.Join(h.data, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		h.Fatal(err)
	}
	h.own(path)
	return path
}

func (h *host) own(path string) {
	h.Helper()
	if err := os.Chown(path, h.owner, h.owner); err != nil {
		h.Fatal(err)
	}
}

//go:build !portable

package proc

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
)

func init() { bodies["witness"] = func([]string) error { return witness(os.Stdout) } }

// witness prints all that a program can see of how it was executed.
func witness(out io.Writer) error {
	fmt.Fprintf(out, "argv %q\n", os.Args)
	for _, entry := range slices.Sorted(slices.Values(os.Environ())) {
		fmt.Fprintf(out, "environ %q\n", entry)
	}
	cwd, err := os.Readlink("/proc/self/cwd")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "cwd %q\n", cwd)
	for fd := range 20 {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || fd > 2 && (strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/sys/fs/cgroup/")) { // the Go runtime's own
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		kind, _, _ := strings.Cut(target, ":[")
		fmt.Fprintf(out, "fd %d %q flags %o\n", fd, kind, flags)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		for _, name := range []string{"SigBlk:", "SigIgn:", "ShdPnd:", "Umask:", "NoNewPrivs:"} {
			if strings.HasPrefix(line, name) {
				fmt.Fprint(out, line)
			}
		}
	}
	self, err := readProcess(os.Getpid())
	if err != nil {
		return err
	}
	// Not whether it leads them: some releases of dash fork here, and wait.
	fmt.Fprintf(out, "in a session and group of its attempt: %v\n",
		self.session == self.group && (self.session == self.pid || self.session == self.parent))
	return nil
}

func TestProgramThatIsExecutedDirectlySeesWhatDashWouldHaveGivenIt(t *testing.T) {
	if !shellIsDash() {
		machine.Lacks(t, "dash as /bin/sh")
	}
	h := newHost(t)
	d := h.open()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why   string
		words string
		env   []string
		cwd   string
		shell bool // there is something that dash would change
	}{
		{why: "as cron has it", words: "a b", env: []string{"SHELL=/bin/sh", "HOME=/root", "PATH=/usr/bin:/bin", "LOGNAME=root", "USER=root"}, cwd: dir},
		{why: "every character", words: "\t aZ09_./:@%+,-  k=v,w=x:y\t--o=/a%b@c+d  "},
		{why: "no environment and no folder", words: "a", env: nil},
		{why: "names that no shell gives", words: "a", env: []string{"A.B=1", "1A=2", "=3", "é=4", "nothing", "A1_=5", "_=u", "EMPTY="}, cwd: dir},
		{why: "the last of two values", words: "a", env: []string{"A=1", "B=2", "A=3"}, cwd: dir},
		{why: "PWD is right", words: "a", env: []string{"PWD=" + dir, "OLDPWD=/usr"}, cwd: dir},
		{why: "PWD is another name of the folder", words: "a", env: []string{"PWD=" + link}, cwd: dir},
		{why: "the folder is a link", words: "a", cwd: link},
		{why: "the folder is a link, and PWD is its name", words: "a", env: []string{"PWD=" + link}, cwd: link},
		{why: "the folder is written in a roundabout way", words: "a", env: []string{"PWD=" + dir + "/../" + filepath.Base(dir)}, cwd: dir + "/."},
		{why: "PWD is that roundabout way", words: "a", env: []string{"PWD=" + dir + "/."}, cwd: dir + "/."},
		{why: "PWD is wrong", words: "a", env: []string{"PWD=/usr"}, cwd: dir},
		{why: "PWD is no path", words: "a", env: []string{"PWD=."}, cwd: dir},
		{why: "PWD is empty", words: "a", env: []string{"PWD="}, cwd: dir},
		{why: "PWD does not exist", words: "a", env: []string{"PWD=/no/such"}, cwd: dir},
		{why: "variables that dash has too", words: "a", env: []string{"PS1=x", "PS2=y", "PS4=z", "MAIL=m", "MAILPATH=n", "TERM=t", "HISTSIZE=1", "ENV=/no/such", "FUNCNAME=f", "CDPATH=/", "LANG=C.UTF-8"}, cwd: dir},
		{why: "dash would set IFS", words: "a", env: []string{"IFS=x"}, cwd: dir, shell: true},
		{why: "dash would set PPID", words: "a", env: []string{"PPID=1"}, cwd: dir, shell: true},
		{why: "dash would refuse OPTIND", words: "a", env: []string{"OPTIND=7"}, cwd: dir, shell: true},
	} {
		plain, quoted := h.spec(""), h.spec("")
		plain.Args = []string{"/bin/sh", "-c", exe + " witness " + c.words}
		quoted.Args = []string{"/bin/sh", "-c", "'" + exe + "' witness " + c.words}
		for _, s := range []*Spec{&plain, &quoted} {
			s.Env, s.Cwd, s.Dir, s.Run = c.env, c.cwd, quoted.Dir, plain.Run // what it sees shall not differ by them
		}
		if _, _, ok := direct(plain, environment(plain)); ok == c.shell {
			t.Errorf("%s: executed directly: %v, want %v", c.why, ok, !c.shell)
		}
		if _, _, ok := direct(quoted, environment(quoted)); ok {
			t.Errorf("%s: %q is executed directly", c.why, quoted.Args)
		}
		var logs []string
		for _, s := range []Spec{plain, quoted} {
			d.forgetHeard()
			d.start(s)
			if exit := d.exit(s); exit.Code != 0 || exit.Error != "" {
				t.Fatalf("%s: %q: exit %+v, log %q", c.why, s.Args, exit, h.log(s))
			}
			logs = append(logs, h.log(s))
			for _, name := range []string{startName, exitName, logName} {
				if err := os.Remove(filepath.Join(s.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Forget(s.Run, s.Attempt); err != nil {
				t.Fatal(err)
			}
		}
		if logs[0] != logs[1] || logs[0] == "" {
			t.Errorf("%s: the program sees\n%s\nand through the shell\n%s", c.why, logs[0], logs[1])
		}
	}
}

func TestCommandThatOnlyAShellUnderstandsIsLeftToIt(t *testing.T) {
	for command, plain := range map[string]bool{
		"/bin/true":             true,
		" \t/bin/true a=b ":     true,
		"/bin/true -a --b=c":    true,
		"true":                  false, // looked up, or a builtin
		"./true":                false,
		"":                      false,
		" ":                     false,
		"A=1 /bin/true":         false,
		"/bin/a=b":              false,
		"/bin/true; /bin/ls":    false,
		"/bin/true &":           false,
		"/bin/true >x":          false,
		"/bin/true $HOME":       false,
		"/bin/true ~":           false,
		"/bin/true *":           false,
		"/bin/true a?":          false,
		"/bin/true [a]":         false,
		"/bin/true 'a'":         false,
		"/bin/true \\a":         false,
		"/bin/true `a`":         false,
		"/bin/true #a":          false,
		"/bin/true !":           false,
		"/bin/true {a,b}":       false,
		"/bin/true\n/bin/ls":    false,
		"/bin/true caf\xc3\xa9": false,
		"/bin/true a\x00b":      false,
	} {
		if _, got := plainWords(command); got != plain {
			t.Errorf("%q is plain: %v, want %v", command, got, plain)
		}
	}
}

func TestPlainCommandThatCannotBeExecutedFailsAsInTheShell(t *testing.T) {
	if !shellIsDash() {
		machine.Lacks(t, "dash as /bin/sh")
	}
	h := newHost(t)
	d := h.open()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain", "x", 0o644)
	script := file("script", "echo $0 $1; exit 4\n", 0o755)
	orphan := file("orphan", "#!/no/such/interpreter\n", 0o755)
	for _, c := range []struct {
		command string
		code    int
		log     string
	}{
		{"/no/such/program arg", 127, "/bin/sh: 1: /no/such/program: not found\n"},
		{plain, 126, "/bin/sh: 1: " + plain + ": Permission denied\n"},
		{filepath.Dir(plain), 126, "/bin/sh: 1: " + filepath.Dir(plain) + ": Permission denied\n"},
		{orphan, 127, "/bin/sh: 1: " + orphan + ": not found\n"},
		{script + " a", 4, script + " a\n"}, // one without #! is the shell's
	} {
		s := h.spec("")
		s.Args = []string{"/bin/sh", "-c", c.command}
		s.Stdin = []byte("kept for the second try")
		d.start(s)
		if exit := d.exit(s); exit.Code != c.code || exit.Error != "" || h.log(s) != c.log {
			t.Errorf("%q: exit %+v, log %q; want code %d, log %q", c.command, exit, h.log(s), c.code, c.log)
		}
	}
}

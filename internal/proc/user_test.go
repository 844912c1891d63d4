//go:build linux

package proc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"belfry/internal/machine"
)

// newOthersHost is a host of root's whose jobs are another user's, and that user.
func newOthersHost(t *testing.T) (*host, *Credential) {
	machine.NeedsRoot(t)
	h := newHost(t)
	// t.TempDir is for root only.
	data, err := os.MkdirTemp("", "belfry-proc-") //nolint:usetesting // it cannot be entered by others
	if err == nil {
		err = os.Chmod(data, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	h.data = data
	return h, &Credential{UID: nobody, GID: nobody, Groups: []uint32{nobody, 4242}}
}

func TestAnAttemptRunsAsItsUser(t *testing.T) {
	h, user := newOthersHost(t)
	h.command = append([]string{"/bin/sh", "-c", `ulimit -S -n 123; exec "$@"`, "sh"}, h.command...)
	d := h.open()
	for name, command := range map[string]string{
		"of a shell":         `id -u; id -g; id -G; umask; ulimit -n; ls /proc/self/fd | tr '\n' ' '; echo; pwd; grep -E '^(CapEff|SigBlk)' /proc/self/status; echo again >>/dev/stderr; cat`,
		"of a plain command": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := h.spec(command)
			s.Credential, s.Cwd, s.Stdin = user, "/", []byte("input\n")
			if command == "" {
				s.Args = []string{"/bin/sh", "-c", "/usr/bin/id -u"}
			}
			d.start(s)
			if exit := d.exit(s); exit.Code != 0 || exit.Error != "" {
				t.Fatalf("exit %+v: %s", exit, h.log(s))
			}
			want := "65534\n65534\n65534 4242\n0022\n123\n0 1 2 3 \n/\nSigBlk:\t0000000000000000\nCapEff:\t0000000000000000\nagain\ninput\n"
			if command == "" {
				want = "65534\n"
			}
			if got := h.log(s); got != want {
				t.Errorf("it printed\n%s\nwant\n%s", got, want)
			}
			for file, owner := range map[string]uint32{"": 0, logName: nobody, startName: 0, exitName: 0} {
				var st unix.Stat_t
				if err := unix.Lstat(filepath.Join(s.Dir, file), &st); err != nil || st.Uid != owner {
					t.Errorf("%q belongs to %d, %v; want %d", file, st.Uid, err, owner)
				}
			}
		})
	}
}

func TestWhatAUserCannotHaveIsItsAttemptsError(t *testing.T) {
	h, user := newOthersHost(t)
	d := h.open()
	secret := filepath.Join(h.data, "secret")
	for _, err := range []error{os.Mkdir(secret, 0o700), os.WriteFile(filepath.Join(secret, "program"), []byte("#!/bin/sh\n"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		spec  func(s *Spec)
		error string // empty: it runs
	}{
		{"a folder of root's", func(s *Spec) { s.Cwd = secret }, "start folder " + secret + ": permission denied"},
		{"a folder of root's, and another to be in then", func(s *Spec) { s.Cwd, s.CwdElse = secret, "/" }, ""},
		{"a program in a folder of root's", func(s *Spec) { s.Args = []string{filepath.Join(secret, "program")} }, "start " + filepath.Join(secret, "program") + ": permission denied"},
		{"one that only root finds", func(s *Spec) { s.Args, s.Env = []string{"program"}, []string{"PATH=" + secret} }, "start program: no such program in PATH (" + secret + ")"},
		{"one that is found by its name", func(s *Spec) { s.Args, s.Env = []string{"true"}, []string{"PATH=" + secret + ":/usr/bin:/bin"} }, ""},
		{"to go before others", func(s *Spec) { s.Nice = -1 }, "start nice -1: only root may put a job before others"},
		{"to go after others", func(s *Spec) { s.Nice = 1 }, ""},
		{"none of its variables is the prelude's", func(s *Spec) { s.Env = append(s.Env, "GODEBUG=inittrace=1", "GOMEMLIMIT=x") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := h.spec("exit 0")
			s.Credential, s.Cwd = user, "/"
			c.spec(&s)
			d.start(s)
			exit := d.exit(s)
			want := Exit{Error: c.error}
			if c.error != "" {
				want.Code = -1
			}
			if exit.Code != want.Code || exit.Error != want.Error || exit.Signal != "" {
				t.Errorf("exit %+v, want %q", exit, c.error)
			}
			if log := h.log(s); strings.TrimSpace(log) != "" {
				t.Errorf("it printed %s", log)
			}
		})
	}
}

func TestAnAttemptIsEndedWhoeverItRunsAs(t *testing.T) {
	h, user := newOthersHost(t)
	d := h.open()
	s := h.spec("trap '' TERM; while :; do sleep 0.1; done")
	s.Credential, s.Cwd = user, "/"
	d.start(s)
	d.started(s)
	if err := d.Signal(s.Run, s.Attempt, Kill); err != nil {
		t.Fatal(err)
	}
	if exit := d.exit(s); !exit.Stopped || exit.Signal != "SIGKILL" {
		t.Errorf("exit %+v", exit)
	}
}

func TestNobodysJobWaitsForAUserWhoHaltsTheirOwn(t *testing.T) {
	h, user := newOthersHost(t)
	user.UID = 64321 // whose processes are these alone
	d := h.open()
	halts := h.spec("while :; do kill -s STOP -- -1; done")
	halts.Credential, halts.Cwd = user, "/"
	d.start(halts)
	d.started(halts)
	var halted []Spec
	for range 30 {
		s := h.spec("exit 0")
		s.Credential, s.Cwd = user, "/"
		halted = append(halted, s)
	}
	d.start(halted...)
	s := h.spec("exit 0")
	d.start(s)
	if exit := d.exit(s); exit.Code != 0 || exit.Error != "" {
		t.Errorf("exit %+v", exit)
	}
	for _, s := range append(halted, halts) {
		_ = d.Signal(s.Run, s.Attempt, Kill) // some have ended
		d.exit(s)
	}
}

func TestNobodyWaitsForAUserWhoHaltsWhatIsStartedAsThem(t *testing.T) {
	machine.NeedsRoot(t)
	user := &Credential{UID: 64323, GID: nobody} // whose processes are these alone
	start := func(args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
		refusal, err := As(cmd, user)
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
			if err := refusal(); err != nil {
				t.Errorf("%s: %v", args, err)
			}
		})
	}
	start("/bin/sh", "-c", "while :; do kill -s STOP -- -1; done")
	for range 30 {
		start("/bin/true")
	}
}

func TestAProgramIsStartedAsItsUser(t *testing.T) {
	machine.NeedsRoot(t)
	user := &Credential{UID: nobody, GID: nobody, Groups: []uint32{nobody, 4242}}
	secret := t.TempDir() // for root only
	if err := os.WriteFile(filepath.Join(secret, "program"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir, command string
		says, refusal      string
	}{
		{"what it inherits", "/", `id -u; id -g; id -G; ls /proc/self/fd | tr '\n' ' '; echo; env`, "65534\n65534\n65534 4242\n0 1 2 3 \nA=b\nPWD=/\n", ""},
		{"a folder of root's", secret, "pwd", "/\n", ""},
		{"a program of root's", "/", "", "", filepath.Join(secret, "program") + ": permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", c.command)
			if c.command == "" {
				cmd = exec.Command(filepath.Join(secret, "program"))
			}
			cmd.Dir, cmd.Env = c.dir, []string{"A=b"}
			refusal, err := As(cmd, user)
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.Output()
			if string(out) != c.says || (err == nil) != (c.refusal == "") {
				t.Errorf("it printed %q, %v; want %q", out, err, c.says)
			}
			if err := refusal(); err == nil && c.refusal != "" || err != nil && err.Error() != c.refusal {
				t.Errorf("refused: %v, want %q", err, c.refusal)
			}
		})
	}
}

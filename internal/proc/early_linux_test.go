//go:build !portable

package proc

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"belfry/internal/machine"
	"belfry/internal/proc/early"
)

// prelude has this very binary become a program by an order, and gives what the
// runtime says of the packages that it initialized before.
func prelude(t *testing.T, spec Spec) (out, inits string) {
	t.Helper()
	order, err := preludeOrder(spec)
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	if _, err := write.Write(order); err != nil { // a pipe holds more
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	var said, traced strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env, cmd.ExtraFiles = []string{early.Name}, []string{"GODEBUG=inittrace=1"}, []*os.File{read}
	cmd.Stdout, cmd.Stderr = &said, &traced
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, traced.String())
	}
	return said.String(), traced.String()
}

func TestAUsersPlainCommandIsStartedBeforeTheRestOfUsIsPrepared(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	user := &Credential{UID: nobody, GID: nobody, Groups: []uint32{nobody}}
	const ids = "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n"
	for _, c := range []struct {
		why   string
		spec  Spec
		early bool
		want  string
	}{
		{"what the shell would only execute", Spec{Args: []string{"/bin/sh", "-c", "/usr/bin/env"}, Env: []string{"A=b"}, Cwd: "/usr", Credential: user}, true, "A=b\nPWD=/usr\n"},
		{"a command for the shell", Spec{Args: []string{"/bin/sh", "-c", "id; pwd"}, Env: []string{"PATH=/usr/bin"}, Cwd: "/usr", Credential: user}, true, ids + "/usr\n"},
		{"the other folder", Spec{Args: []string{"/bin/pwd"}, Cwd: "/nowhere", CwdElse: "/usr", Credential: user}, true, "/usr\n"},
		{"a program of PATH", Spec{Args: []string{"id"}, Env: []string{"PATH=/usr/bin"}, Cwd: "/", Credential: user}, false, ids},
		{"a umask", Spec{Args: []string{"/bin/sh", "-c", "umask"}, Umask: "027", Cwd: "/", Credential: user}, false, "0027\n"},
		{"a program that is not there, and which the shell finds another way", Spec{Args: []string{"/bin/sh", "-c", "/nowhere/x || id"}, Env: []string{"PATH=/usr/bin"}, Cwd: "/", Credential: user}, true, ids},
	} {
		out, inits := prelude(t, c.spec)
		if out != c.want {
			t.Errorf("%s: it prints %q, want %q", c.why, out, c.want)
		}
		if rest := strings.Contains(inits, "init net "); rest == c.early || !strings.Contains(inits, "init os ") {
			t.Errorf("%s: that the rest was prepared is %v, want %v:\n%s", c.why, rest, !c.early, inits)
		}
	}
}

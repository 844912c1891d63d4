//go:build !portable

package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Most commands of a crontab are a program and its arguments. A shell between
// the keeper and such a program only starts it and waits, and costs more than
// the program's own start. Where /bin/sh is dash, which is small enough to
// know all that it would do, the keeper does it itself; a test holds what
// programs see both ways beside each other. One thing differs, for the better:
// a program that a signal ended is told of by its signal, where the shell would
// have exited with 128 and the signal's number.

// shellIsDash is asked once: what a shell is changes with the machine's
// packages, not within a keeper's life.
var shellIsDash = sync.OnceValue(func() bool {
	path, err := filepath.EvalSymlinks("/bin/sh")
	return err == nil && filepath.Base(path) == "dash"
})

// direct gives the arguments and the environment that dash would execute the
// command of spec with, when that is all it would do. env is the environment
// that dash would get.
func direct(spec Spec, env []string) (args, dashEnv []string, ok bool) {
	args, ok = directWords(spec)
	if !ok {
		return nil, nil, false
	}
	dashEnv, ok = dashEnviron(env, spec.Cwd)
	return args, dashEnv, ok
}

// simply gives what a process executes that has no more to do before than to become
// its user and enter the folder, and whether PWD, its name, is to be added to the
// environment; no arguments where more must be known.
func simply(spec Spec) (args, env []string, pwd bool) {
	words, plain := directWords(spec)
	kept, was, ok := shellEnviron(spec.Env)
	switch {
	case plain && ok && was == "":
		return words, kept, true
	case !plain && len(spec.Args) > 0 && strings.HasPrefix(spec.Args[0], "/"):
		return spec.Args, spec.Env, false
	}
	return nil, nil, false
}

// directWords gives the arguments alone.
func directWords(spec Spec) ([]string, bool) {
	if len(spec.Args) != 3 || spec.Args[0] != "/bin/sh" || spec.Args[1] != "-c" || !shellIsDash() {
		return nil, false
	}
	return plainWords(spec.Args[2])
}

// plainWords gives the words of a command in which the shell has nothing to
// expand, quote, assign or look up.
func plainWords(command string) ([]string, bool) {
	if !strings.HasPrefix(strings.TrimLeft(command, " \t"), "/") {
		return nil, false
	}
	first := true // in the first word
	for i := range len(command) {
		switch c := command[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_./:@%+,-", c) >= 0:
		case c == '=' && !first:
		case c == ' ' || c == '\t':
			first = first && strings.TrimLeft(command[:i], " \t") == ""
		default:
			return nil, false
		}
	}
	return strings.Fields(command), true
}

// dashEnviron gives the environment that dash passes on: variables with a
// name that the shell could have given them, and PWD, which it sets unless
// what it was given is another name of the folder it is in. It is not ok where
// dash would change a variable, or the folder cannot be told.
func dashEnviron(env []string, cwd string) (_ []string, ok bool) {
	kept, pwd, ok := shellEnviron(env)
	if !ok {
		return nil, false
	}
	pwd, ok = dashPWD(pwd, cwd)
	return append(kept, "PWD="+pwd), ok
}

// shellEnviron gives all of them but PWD, and that.
func shellEnviron(env []string) (kept []string, pwd string, ok bool) {
	kept = make([]string, 0, len(env)+1)
	for _, entry := range env {
		name, value, found := strings.Cut(entry, "=")
		switch {
		case !found || !isShellName(name):
		case name == "PWD":
			pwd = value
		case name == "IFS" || name == "OPTIND" || name == "PPID" || name == "LINENO":
			return nil, "", false
		default:
			kept = append(kept, entry)
		}
	}
	return kept, pwd, true
}

func isShellName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// dashPWD gives what dash makes of PWD in cwd: what it was, when that is an
// absolute name of the same folder, else what getcwd says.
func dashPWD(pwd, cwd string) (string, bool) {
	if cwd == "" {
		cwd = "/"
	}
	if pwd == cwd && filepath.IsAbs(cwd) {
		return pwd, true
	}
	fd, err := unix.Open(cwd, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer func() { _ = unix.Close(fd) }()
	if strings.HasPrefix(pwd, "/") {
		var here, there unix.Stat_t
		if unix.Fstat(fd, &here) == nil && unix.Stat(pwd, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino {
			return pwd, true
		}
	}
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)") {
		return "", false
	}
	return path, true
}

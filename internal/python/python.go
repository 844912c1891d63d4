// Package python answers: which Python does a job's command see? It makes the
// virtual environment that a job asks for with “python:”, once, and has the
// command run in it. run and the hidden command “belfry python” import it, and
// daemon and doctor to clean up and to look; it knows neither runs nor the store.
//
// The attempt itself makes its environment. The keeper starts “belfry python”
// in the place of the job's command; that makes the environment if it is not
// there, and then executes the command in its own place, with the environment's
// bin first in PATH. So what pip prints is in the attempt's log, the job's env
// (PIP_INDEX_URL, proxies) and its timeout, stop and retry hold for the install,
// the daemon waits for nothing, and no process is left between the keeper and
// the job. That costs a start of this program also when there is nothing to
// make, 6 to 9 ms where python itself takes 13: a second way of starting, for
// environments that the daemon would have to know to be whole, is not worth that.
//
// An environment is a folder of the data folder that nobody changes once it is
// whole:
//
//	python/HASH/           what was made, from the content that HASH is of
//	python/HASH/.belfry    written last: the environment is whole
//	python/HASH.lock       held by who makes or removes it
//	python/jobs/JOB        a link to the environment that a job began in last
//
// HASH is of what the requirements say (with the files they include and the
// local ones they name), of the interpreter, the machine's architecture and
// where the folder lies, since a virtual environment holds its own path. Other
// content is another environment beside the first, so a change, and an install
// that fails, never touch what is in use; jobs that say the same share one.
//
// It is made in its place, and its mark put when everything is on the disk: a
// maker that is killed, at whatever moment, leaves a folder without a mark, which
// the next one removes and makes anew. The installer has the maker's lock too:
// one that outlives its maker is waited for.
//
// Whoever runs in an environment holds its mark locked, shared, by a descriptor
// that the command inherits; the mark's time says when it was used last. What no
// job names any more and nobody has used for a week is removed, under both locks.
package python

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"belfry/internal/job"
	"belfry/internal/secrets"
)

// ExitRefused is how “belfry python” ends when it has not begun the command: then
// Refusal tells why.
const ExitRefused = 70

// DirName is the name of the environments' folder in the data folder.
const DirName = "python"

const (
	jobsName    = "jobs"
	refusalName = "refused"
)

// order is what “belfry python” is told, as its first argument; the command
// follows.
type order struct {
	Dir     string     `json:"dir"` // of all environments
	Job     string     `json:"job"`
	Python  job.Python `json:"python"`
	Attempt string     `json:"attempt"`           // the attempt's directory
	Secrets []string   `json:"secrets,omitempty"` // names of variables whose values are not written down
}

// Args gives what is executed in the place of a job's command. self executes
// this program, data is the data folder and attempt the attempt's directory.
func Args(self []string, data string, j *job.Job, attempt string) []string {
	text, err := json.Marshal(order{Dir: filepath.Join(data, DirName), Job: j.Name, Python: j.Python, Attempt: attempt, Secrets: j.Secrets})
	if err != nil {
		panic(err) // strings only
	}
	return slices.Concat(self, []string{"python", string(text)}, j.Command.Argv())
}

// Refusal tells why an attempt, which ended with ExitRefused, has not begun its
// command; empty: it has.
func Refusal(attempt string) string {
	// The job's user may have put anything there.
	fd, err := unix.Open(filepath.Join(attempt, refusalName), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	file := os.NewFile(uintptr(fd), refusalName)
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, 4<<10))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(text), "")
}

// Begin is the body of the hidden command “belfry python”: it becomes the
// command that args end with, in its environment. What it prints until then goes
// to out, the attempt's log. It returns only when the command could not be begun.
func Begin(args, env []string, out *os.File) error {
	var o order
	if len(args) < 2 {
		return errors.New("it is executed by belfry in the place of a job's command")
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("read what is to be done: %w", err)
	}
	err := o.begin(args[1:], env, out)
	if noteErr := os.WriteFile(filepath.Join(o.Attempt, refusalName), []byte(o.hush(err.Error(), env)), 0o600); noteErr != nil {
		err = fmt.Errorf("%w (and this could not be noted: %w)", err, noteErr)
	}
	return err
}

// hush stars the secrets in a text: pip may have quoted the address of a package.
func (o order) hush(text string, env environ) string {
	var values []string
	for _, name := range o.Secrets {
		values = append(values, env.get(name))
	}
	return secrets.Veil(values)(text)
}

func (o order) begin(command, variables []string, out *os.File) error {
	env := environ(variables)
	dir, err := o.environment(env, out)
	if err != nil {
		return fmt.Errorf("its Python environment could not be made: %w", err)
	}
	env.set("VIRTUAL_ENV", dir)
	env.set("PATH", filepath.Join(dir, "bin")+string(filepath.ListSeparator)+env.get("PATH"))
	env.unset("PYTHONHOME") // it would lead python away from where it is
	program, err := env.lookPath(command[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, command, env))
}

// environment gives the folder of the order's environment, whole, which this
// process and what it executes use from now on.
func (o order) environment(env environ, out *os.File) (dir string, err error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, jobsName), 0o700); err != nil {
		return "", err
	}
	// Without links: a release of a project has one, of its own, to the data.
	if o.Dir, err = filepath.EvalSymlinks(o.Dir); err != nil {
		return "", err
	}
	p, err := find(env, o.Python.Version)
	if err != nil {
		return "", err
	}
	hash, err := identity(o.Dir, p, o.Python.Requirements)
	if err != nil {
		return "", err
	}
	e := environment{dir: filepath.Join(o.Dir, hash), python: p, requirements: o.Python.Requirements}
	for {
		used, err := use(e.dir)
		if err != nil {
			return "", err
		}
		if used {
			o.note(hash)
			return e.dir, nil
		}
		if err := e.make(env, out); err != nil {
			return "", err
		}
	}
}

// note makes the job's link point at its environment. Without it the environment
// is one that no job names; it is not for that to fail a run.
func (o order) note(hash string) {
	link, target := filepath.Join(o.Dir, jobsName, o.Job), filepath.Join("..", hash)
	if at, err := os.Readlink(link); err == nil && at == target {
		return
	}
	temp := filepath.Join(o.Dir, jobsName, fmt.Sprintf(".%s.%d", o.Job, os.Getpid())) // no job's name begins with a dot
	if os.Symlink(target, temp) != nil || os.Rename(temp, link) != nil {
		_ = os.Remove(temp)
	}
}

// Of gives the folder of the environment that a job began in last; empty: none.
func Of(data, name string) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(data, DirName, jobsName, name))
	if err != nil {
		return ""
	}
	return dir
}

// environ are variables as execve takes them, each name once.
type environ []string

func (e environ) get(name string) string {
	for _, v := range e {
		if value, found := strings.CutPrefix(v, name+"="); found {
			return value
		}
	}
	return ""
}

func (e *environ) set(name, value string) {
	e.unset(name)
	*e = append(*e, name+"="+value)
}

func (e *environ) unset(name string) {
	*e = slices.DeleteFunc(slices.Clone(*e), func(v string) bool { return strings.HasPrefix(v, name+"=") })
}

// lookPath finds a program as execvp would.
func (e environ) lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // exec itself says what is wrong with it
	}
	path := cmp.Or(e.get("PATH"), "/usr/bin:/bin")
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); executable(file) {
			if !filepath.IsAbs(file) {
				file = "./" + file
			}
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: no such program in PATH (%s)", name, path)
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil
}

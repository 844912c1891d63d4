package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"belfry/internal/project"
	"belfry/internal/secrets"
)

func (c *command) secretsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Keep passwords and tokens for jobs, encrypted",
		Long: `Keep what jobs need and nobody else is to see in secrets.age beside belfry.yaml, which
may stand in a repository: it is encrypted (by age), and the key is in a file of its own,
~/.config/belfry/key.txt or $BELFRY_KEY_FILE. The first "belfry secrets set" makes both.
Keep a copy of the key: without it nobody can read the secrets any more.

A job with "secrets: [SPOTIFY_TOKEN]" gets that variable when it starts, with the value
that it has then. In what it prints, secrets are starred; they are in no other file.`,
		Example: "  belfry secrets set SPOTIFY_TOKEN",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.secretsSetCommand(), c.secretsListCommand(), c.secretsEditCommand(), c.secretsRmCommand())
	return cmd
}

// secretsFile is the encrypted file of the project, whether it is there or not.
func (c *command) secretsFile() (secrets.File, error) {
	removeKilledEdits()
	here, err := os.Getwd()
	if err != nil {
		return secrets.File{}, err
	}
	file, err := project.Find(here)
	if err != nil {
		return secrets.File{}, err
	}
	h, err := host()
	return secrets.File{Path: filepath.Join(filepath.Dir(file), secrets.FileName), Key: h.Key}, err
}

// changeSecrets changes the project's secrets, and says when that has made a key.
func (c *command) changeSecrets(file secrets.File, change func(*secrets.Set) error) error {
	made, err := file.Change(func() { c.tell("waiting for another belfry secrets to end") }, change)
	if made {
		c.tell("made a key in " + file.Key + "; keep a copy of it in a safe place: without it nobody can read the secrets")
	}
	return err
}

func (c *command) secretsSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME",
		Short: "Give a secret a value, from a prompt or standard input",
		Long: `Give the secret NAME a value: what is typed at a prompt that does not show it or, when
standard input is not a terminal, what that gives, without one line end at its end. A
value on the command line would be seen by everybody.

Runs that begin from now on get it. What running jobs print of the value before is still
starred.

Exit codes: 128 and the signal's number when one ended it at the prompt (130 after
Ctrl-C). Otherwise those of "belfry --help".`,
		Example: "  belfry secrets set SPOTIFY_TOKEN\n  belfry secrets set GCP_KEY < key.json",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage("the name of the secret is missing").hint("belfry secrets set NAME, and then its value at the prompt")
			case len(args) > 1, strings.Contains(args[0], "="):
				return usage("a value on the command line is seen by everybody on this machine, and stays in the shell's history").
					hint("give the name alone and the value at the prompt, or through standard input; if it was a real one, have it replaced")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if err := secrets.CheckName(name); err != nil {
				return usage("%v", err)
			}
			file, err := c.secretsFile()
			if err != nil {
				return err
			}
			value, err := c.hiddenValue(name)
			if err != nil {
				return err
			}
			if err := c.changeSecrets(file, func(set *secrets.Set) error { return set.Put(name, value) }); err != nil {
				return err
			}
			if len(value) < secrets.Shortest {
				c.tell(fmt.Sprintf("%s is shorter than %d characters: so little is not hidden in what jobs print", name, secrets.Shortest))
			}
			return nil
		},
	}
}

// hiddenValue reads a value that nobody sees.
func (c *command) hiddenValue(name string) (string, error) {
	if terminal(c.in) {
		value, err := c.readHidden(fmt.Sprintf("Value of %s (it is not shown): ", name))
		if err == nil && value == "" {
			err = usage("no value was typed")
		}
		return value, err
	}
	text, err := io.ReadAll(c.in)
	if err != nil {
		return "", fmt.Errorf("read the value of %s from standard input: %w", name, err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		return "", usage("standard input gave no value for %s", name)
	}
	return value, nil
}

// readHidden reads a line from the terminal, which does not echo it. It is as it
// was afterwards, also after Ctrl-C.
func (c *command) readHidden(prompt string) (string, error) {
	fd := int(c.in.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return "", fmt.Errorf("ask on the terminal: %w", err)
	}
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(stops)
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &quiet); err != nil {
		return "", fmt.Errorf("ask on the terminal: %w", err)
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, setTermios, before) // it may be gone
		fmt.Fprintln(c.err)
	}()
	fmt.Fprint(c.err, prompt) // now that it echoes no more
	type answer struct {
		line string
		err  error
	}
	typed := make(chan answer, 1)
	go func() { // which ends with the process, should nothing be typed
		var line []byte
		for b := make([]byte, 1); ; {
			n, err := c.in.Read(b)
			switch {
			case n == 1 && b[0] != '\n':
				line = append(line, b[0])
			case n == 1:
				typed <- answer{string(line), nil}
				return
			case errors.Is(err, io.EOF): // Ctrl-D
				typed <- answer{err: context.Canceled}
				return
			case err != nil:
				typed <- answer{err: err}
				return
			}
		}
	}()
	select {
	case s := <-stops:
		return "", interrupted(s)
	case a := <-typed:
		return a.line, a.err
	}
}

func (c *command) secretsListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the names of the secrets",
		Long: `List the names of the secrets, never a value.

Exit codes: those of "belfry --help".`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			set, _, err := c.readSecrets()
			if err != nil {
				return err
			}
			type secret struct {
				Name string `json:"name"`
			}
			list := []secret{}
			for _, name := range set.Names() {
				list = append(list, secret{name})
			}
			if asJSON {
				return printJSON(c.out, list)
			}
			for _, s := range list {
				fmt.Fprintln(c.out, s.Name)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of secrets")
	return cmd
}

// readSecrets reads the project's secrets, which are none when there is no file.
func (c *command) readSecrets() (*secrets.Set, secrets.File, error) {
	file, err := c.secretsFile()
	if err != nil {
		return nil, file, err
	}
	if _, err := os.Stat(file.Path); errors.Is(err, os.ErrNotExist) {
		return new(secrets.Set), file, nil
	}
	set, err := file.Read()
	return set, file, err
}

func (c *command) secretsRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME…",
		Short: "Remove secrets",
		Long: `Remove secrets. Runs of a job that asks for one fail from then on.

Exit codes: 66 when there is no such secret; nothing is removed then. Otherwise those of
"belfry --help".`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := c.secretsFile()
			if err != nil {
				return err
			}
			return c.changeSecrets(file, func(set *secrets.Set) error {
				for _, name := range args {
					if !set.Remove(name) {
						return &problem{err: fmt.Errorf("there is no secret %q", name), next: "belfry secrets list lists them", code: exitNotFound}
					}
				}
				return nil
			})
		},
	}
}

func (c *command) secretsEditCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "edit",
		Short: "Edit all secrets in $EDITOR",
		Long: `Open all secrets in $VISUAL, $EDITOR or vi, a NAME=VALUE line each; a value in double
quotes may hold \n and \". While they are edited they stand in a file that only you can
read, in memory where the machine has a place for that ($XDG_RUNTIME_DIR or /dev/shm); it
is removed at the end or, after a kill -9, by the next "belfry secrets". Nobody else can
change the secrets meanwhile.

Exit codes: 1 when the editor fails, 128 and the signal's number when one ended it (143
after TERM, 129 after HUP): nothing is changed then. Otherwise those of "belfry --help".`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file, err := c.secretsFile()
			if err != nil {
				return err
			}
			err = c.changeSecrets(file, c.editSet)
			if errors.Is(err, errUnchanged) {
				c.tell("nothing was changed")
				return nil
			}
			return err
		},
	}
}

var errUnchanged = errors.New("nothing was changed")

// editorGrace is how long an editor may take to end when it is told to.
const editorGrace = 2 * time.Second

const editHead = "# The secrets of this project: NAME=VALUE, a line each. Lines that begin with # are not kept.\n"

// editSet has a person edit a set. Nothing is left of the text wherever it ends.
func (c *command) editSet(set *secrets.Set) (err error) {
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(stops)
	dir, err := os.MkdirTemp(privateDir(), editName) // 0700; an editor puts its copies beside the file
	if err != nil {
		return fmt.Errorf("make a folder to edit in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lock, err := lockEdit(dir)
	if err != nil {
		return fmt.Errorf("lock the folder to edit in: %w", err)
	}
	defer func() { _ = lock.Close() }()
	path, before := filepath.Join(dir, "secrets"), editHead+set.Text()
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		return fmt.Errorf("write the secrets to edit: %w", err)
	}
	for {
		if err := c.editor(path, stops); err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the edited secrets: %w", err)
		}
		if bytes.Equal(text, []byte(before)) {
			return errUnchanged
		}
		wrong := set.Edit(string(text))
		if wrong == nil {
			return nil
		}
		if !terminal(c.in) {
			return &problem{err: fmt.Errorf("the edited secrets cannot be used, nothing was changed: %w", wrong), code: exitBadFile}
		}
		if _, err := c.readHidden(fmt.Sprintf("belfry: %v. Enter opens the editor again, Ctrl-C gives up. ", wrong)); err != nil {
			return err
		}
	}
}

// editName begins the name of a folder that secrets are edited in.
const editName = "belfry-secrets-"

// lockEdit locks such a folder for as long as this process lives; an editor that
// outlives it does not have the lock.
func lockEdit(dir string) (*os.File, error) {
	lock, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// removeKilledEdits removes what edits have left that were killed: the folders that
// nobody has locked. Those of other users cannot be opened, but by root.
func removeKilledEdits() {
	for _, dir := range append(memoryDirs(), os.TempDir()) {
		edits, _ := filepath.Glob(filepath.Join(dir, editName+"*")) // a folder that cannot be read holds none of ours
		for _, edit := range edits {
			if lock, err := lockEdit(edit); err == nil {
				_ = os.RemoveAll(edit) // the next command tries again
				_ = lock.Close()
			}
		}
	}
}

// editor runs the person's editor. Ctrl-C is the editor's own affair; what ends
// this process ends it.
func (c *command) editor(path string, stops <-chan os.Signal) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	cmd := exec.Command("/bin/sh", "-c", "exec "+editor+` "$1"`, "sh", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.err, c.err
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the editor %s: %w", editor, err)
	}
	ended := make(chan struct{})
	var failed error // to be read once it has ended
	go func() {
		defer close(ended)
		failed = cmd.Wait()
	}()
	for {
		select {
		case s := <-stops:
			if s == os.Interrupt || s == syscall.SIGQUIT {
				continue
			}
			_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
			select {
			case <-ended:
			case <-time.After(editorGrace):
				_ = cmd.Process.Kill()
				<-ended
			}
			return interrupted(s)
		case <-ended:
			if failed != nil {
				return fmt.Errorf("the editor %s failed (%w); nothing was changed", editor, failed)
			}
			return nil
		}
	}
}

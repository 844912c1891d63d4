package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// As has cmd, which is not started yet, run as a user of the machine; where its
// folder cannot be entered, in /. It is for what a daemon starts itself. With
// SysProcAttr.Credential whoever forks waits until the child executes, and Go
// waits with all of its threads: a user who halts the child in between, or whose
// home never answers, would halt the daemon. So the child becomes that user when
// it has executed us (preludeName), and nobody waits for it.
//
// refusal is called once, when cmd has ended or could not be started, and says
// what kept the process from becoming the program.
func As(cmd *exec.Cmd, user *Credential) (refusal func() error, err error) {
	order, err := preludeOrder(Spec{Args: cmd.Args, Env: cmd.Env, Cwd: cmd.Dir, CwdElse: "/", Credential: user})
	if err != nil {
		return nil, err
	}
	// In a file, and not through a pipe: nobody has to wait until it is read.
	file, err := scratch()
	if err != nil {
		return nil, fmt.Errorf("hand over what is to be started: %w", err)
	}
	_, err = file.Write(order)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hand over what is to be started: %w", err), file.Close())
	}
	cmd.Path, cmd.Args, cmd.Env, cmd.Dir = Self(), []string{preludeName}, []string{}, "/"
	cmd.ExtraFiles = []*os.File{file} // 3
	return func() error {
		defer func() { _ = file.Close() }()
		var answer preludeError
		// It may be the user who speaks.
		if json.NewDecoder(io.NewSectionReader(file, int64(len(order)), 1<<20)).Decode(&answer) != nil {
			return nil // it has become the program, or was ended before
		}
		return errors.New(answer.Text)
	}, nil
}

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Inspect decides from its records, the keepers and the processes what became
// of an attempt whose event never came. dir is the attempt's directory. The
// outcome is given with Exited. An attempt without any record is NeverStarted
// also when its directory was made in another boot: whether it shall be
// started then is for the caller to say.
func (c *Client) Inspect(dir, run string, attempt int) (Status, *Exit, error) {
	status, exit, err := c.inspect(dir, run, attempt)
	if err != nil {
		return "", nil, fmt.Errorf("inspect attempt %d of run %s: %w", attempt, run, err)
	}
	return status, exit, nil
}

func (c *Client) inspect(dir, run string, attempt int) (Status, *Exit, error) {
	exit, err := readExit(dir, run, attempt)
	switch {
	case err != nil:
		return "", nil, err
	case exit != nil:
		return Exited, exit, nil
	}

	record, err := readStart(dir, run, attempt)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		status, exit, err := c.inspectQueues(run, attempt, NeverStarted)
		if status == NeverStarted {
			// Unless its keeper took it from the queue since we looked, and
			// died. A record does not go away, so this ends.
			if _, err := readStart(dir, run, attempt); !errors.Is(err, fs.ErrNotExist) {
				return c.inspect(dir, run, attempt)
			}
		}
		return status, exit, err
	case err != nil:
		return "", nil, err
	case record.Keeper == "":
		// A keeper is about to write the first line, or died there.
		return c.inspectQueues(run, attempt, Lost)
	}
	boot, err := bootID()
	if err != nil {
		return "", nil, err
	}
	if record.Boot != boot {
		return Lost, nil, nil
	}
	alive, err := keeperAlive(filepath.Join(c.dir, record.Keeper))
	if err != nil {
		return "", nil, err
	}
	if alive { // it may have ended without leaving a record: the disk was full
		return c.inspectQueues(run, attempt, Running)
	}

	// It may have recorded the exit since we looked, and ended.
	exit, err = readExit(dir, run, attempt)
	switch {
	case err != nil:
		return "", nil, err
	case exit != nil:
		return Exited, exit, nil
	}
	// Its second line too. What the dead keeper wrote stays as it is now.
	record, err = readStart(dir, run, attempt)
	if err != nil {
		return "", nil, err
	}
	// Twice, because a reading of /proc can miss a process that has just been
	// forked. Nothing new comes to a tree that is empty.
	for range 2 {
		left, err := survivors(record)
		if err != nil {
			return "", nil, err
		}
		if len(left) > 0 {
			return Survivor, nil, nil
		}
	}
	return Lost, nil, nil
}

// inspectQueues asks the living keepers for an attempt that no record tells all
// about; otherwise is the status if none has it.
func (c *Client) inspectQueues(run string, attempt int, otherwise Status) (Status, *Exit, error) {
	var status Status
	var exit *Exit
	err := c.ask(message{Type: typeList, Run: run, Attempt: attempt}, func(list message) bool {
		for _, a := range list.Attempts {
			status, exit = Running, a.Exit
			if exit != nil {
				status = Exited // its record could not be written
			}
		}
		return status != ""
	})
	switch {
	case errors.Is(err, ErrUnknownAttempt):
		return otherwise, nil, nil
	case errors.Is(err, errSilent) && otherwise != Lost:
		// What a keeper that is stopped has in its queue, another may start:
		// the record will say whose it is. What it runs goes on.
		return otherwise, nil, nil
	case err != nil:
		return "", nil, err
	}
	return status, exit, nil
}

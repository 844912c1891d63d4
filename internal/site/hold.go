package site

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// HoldName is the part of a site that the one deploy that is at work holds locked,
	// with who that is.
	HoldName = "deploying.lock"

	// Silence is how long a deploy may say nothing before the site is another's:
	// sshd learns of a laptop that is gone only hours later.
	Silence = 30 * time.Second
)

// Deploying is a deploy, a rollback or a removal that is at work on a site.
type Deploying struct {
	ID    string    `json:"id"`   // by which its steps are known
	By    string    `json:"by"`   // alice@laptop
	Does  string    `json:"does"` // deploys release 0123456789abcdef
	Since time.Time `json:"since"`
}

// Asking is a deploy that asks for a site.
type Asking struct {
	Deploying
	Wait time.Duration `json:"wait"` // for others to end
}

// Turn is what it is told.
type Turn struct {
	Held  bool      `json:"held,omitempty"`  // the site is its own
	Late  bool      `json:"late,omitempty"`  // it was another's for as long as was waited
	Other Deploying `json:"other,omitempty"` // whose it is
}

// Hold keeps the site for one deploy at a time. It reads who asks from in, then
// tells out of whose turn it is, and again when that changes, and ends, letting the
// site go, when in ends or nothing has come from it for Silence.
func (s *Site) Hold(ctx context.Context, in io.Reader, out io.Writer) error {
	var me Asking
	signs := bufio.NewReader(heard(in))
	head, err := signs.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(head, &me)
	}
	if err != nil {
		return fmt.Errorf("keep the project's folder: %w", err)
	}
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	go func() {
		defer gone()
		_, _ = io.Copy(io.Discard, signs) // why it ends does not matter
	}()
	// The belfry that this deploy sent is in no history yet, and is not to be
	// collected while it waits.
	if self, err := os.Executable(); err == nil {
		_ = os.Chtimes(filepath.Dir(self), time.Now(), time.Now()) // it is sent again then
	}
	file, err := os.OpenFile(s.path(HoldName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("keep the project's folder: %w", err)
	}
	defer file.Close() //nolint:errcheck // it held a lock and a name
	answers := json.NewEncoder(out)
	var told Deploying
	waits, cancel := context.WithTimeout(ctx, me.Wait)
	defer cancel()
	err = flock(waits, file, func() error {
		other, written := s.deploying()
		if !written || other == told {
			return nil
		}
		told = other
		if me.Wait <= 0 {
			return nil // it ends at once
		}
		return answers.Encode(Turn{Other: other})
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return answers.Encode(Turn{Late: true, Other: told})
	}
	if err != nil {
		return err
	}
	if here, err := os.Stat(file.Name()); err != nil || !sameFile(here, file) {
		return errors.New("the project was removed from the host meanwhile: the same command again puts it there")
	}
	me.Since = time.Now().UTC()
	text, err := json.Marshal(me.Deploying)
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(text, 0)
	}
	if err == nil {
		err = answers.Encode(Turn{Held: true})
	}
	if err != nil {
		return fmt.Errorf("keep the project's folder: %w", err)
	}
	<-ctx.Done()
	return nil
}

// deploying is whose turn it is, or was last.
func (s *Site) deploying() (d Deploying, written bool) {
	text, err := os.ReadFile(s.path(HoldName))
	return d, err == nil && json.Unmarshal(text, &d) == nil
}

// heard gives what comes from another machine, until nothing has come for Silence.
func heard(from io.Reader) io.ReadCloser {
	given, out := io.Pipe()
	go func() { // it ends with the process: a read of a standard stream does not
		part := make([]byte, 32<<10)
		for {
			silence := time.AfterFunc(Silence, func() { _ = out.CloseWithError(errSilent) }) // it never fails
			n, err := from.Read(part)
			silence.Stop()
			if _, over := out.Write(part[:n]); over != nil {
				return
			}
			if err != nil {
				_ = out.CloseWithError(err) // it never fails
				return
			}
		}
	}()
	return given
}

var errSilent = fmt.Errorf("nothing has come for %s: the same command again goes on", Silence)

func sameFile(info os.FileInfo, file *os.File) bool {
	ours, err := file.Stat()
	return err == nil && os.SameFile(info, ours)
}

// flock waits until a file is locked by us. busy is called each time that it is
// another's.
func flock(ctx context.Context, file *os.File, busy func() error) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		if err := busy(); err != nil {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// locked does a step of a deploy that only one at a time may do: one that was cut
// short may still be at it. The step of a deploy whose laptop fell asleep, and whose
// turn is another's since, is refused.
func (s *Site) locked(ctx context.Context, work func() error) error {
	if err := os.MkdirAll(s.Root, 0o700); err != nil {
		return fmt.Errorf("make the project's folder: %w", err)
	}
	file, err := os.OpenFile(s.path(LockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make the project's folder: %w", err)
	}
	return lockedBy(ctx, file, func() error {
		if now, _ := s.deploying(); s.Deploy != "" && now.ID != s.Deploy {
			return fmt.Errorf("nothing was heard of this deploy for %s, and its turn went to %s, who %s (since %s): the same command again goes on", Silence, now.By, now.Does, now.Since.Format("15:04:05 MST"))
		}
		return work()
	})
}

// atHome changes files of the user that belong to no project, which other projects'
// deploys may be changing too. What is locked is the folder that all of them lie in,
// so that nothing is left of it.
func (s *Site) atHome(ctx context.Context, work func() error) error {
	dir, err := os.Open(filepath.Dir(s.Root))
	if err != nil {
		return fmt.Errorf("open the folder of the user's projects: %w", err)
	}
	return lockedBy(ctx, dir, work)
}

// lockedBy works while file is locked, and closes it.
func lockedBy(ctx context.Context, file *os.File, work func() error) error {
	defer file.Close() //nolint:errcheck // it held a lock and nothing else
	waits, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	switch err := flock(waits, file, func() error { return nil }); {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("what an earlier deploy began on the host has not ended within 3 minutes: try again later")
	case err != nil:
		return err
	}
	return work()
}

package notify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"belfry/internal/outbox"
)

// Mailer is the machine's sendmail, as a user starts it.
type Mailer struct {
	Path string // of the program; empty: the machine has none
	Dir  string // the user's home
	Env  []string
	// As has a command run as the user, in / where they have no home or may not
	// enter it, and refusal says afterwards why it could not be started. It is never
	// root for the mail of others: what they can make a mailer do, they could do
	// themselves.
	As func(cmd *exec.Cmd) (refusal func() error, err error)
	// Told hears of a mail that was not taken, in cron's words.
	Told func(detail string)
}

// mailerPatience is how long a mailer may take. Most only put the mail into their
// queue.
const mailerPatience = 5 * time.Minute

// refusing are the exit codes (sysexits.h) of a mailer that will not take this
// mail tomorrow either: how it was called, what is in it, whom it is for.
var refusing = []int{64, 65, 67, 68, 77}

// hand gives the mail to the mailer, with cron's arguments. When we die in the
// middle the mail may go out twice: a mailer has no way to be asked.
func (m Mailer) hand(ctx context.Context, msg Message, mail []byte) error {
	ctx, cancel := context.WithTimeout(ctx, mailerPatience)
	defer cancel()
	args := []string{"-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", sender(msg)}
	if msg.Debian {
		args = []string{"-FCronDaemon", "-i", "-B8BITMIME", "-oem", recipients(msg)}
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, m.Path, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = cmp.Or(msg.Dir, m.Dir), m.Env, bytes.NewReader(mail)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // a mailer's children may keep what it was given
	refusal, err := m.As(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Path, err)
	}
	err = cmd.Run()
	if why := refusal(); why != nil {
		return fmt.Errorf("start %s: %w", m.Path, why)
	}
	var exited *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case !errors.As(err, &exited):
		return fmt.Errorf("hand the mail to %s: %w", m.Path, err)
	}
	status, _ := exited.Sys().(syscall.WaitStatus)
	_, body, _ := bytes.Cut(mail, []byte("\n\n"))
	if m.Told != nil {
		m.Told(notTaken(len(body), status, msg.Debian))
	}
	err = fmt.Errorf("%s did not take the mail: %w: %s", m.Path, err, strings.TrimSpace(said.String()))
	if slices.Contains(refusing, exited.ExitCode()) {
		return outbox.Final(err)
	}
	return err
}

// notTaken is cron's word for a mailer that failed.
func notTaken(n int, status syscall.WaitStatus, debian bool) string {
	s, from := "s", ""
	if n == 1 {
		s = ""
	}
	if debian {
		from = " from MTA"
	}
	return fmt.Sprintf("mailed %d byte%s of output but got status 0x%04x%s\n", n, s, uint32(status), from)
}

package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// rebootMark is the file by which cron knows that it has run what is to run when
// the machine starts. It goes with the machine's /run.
func (p Places) rebootMark() string {
	if p.Dialect == Debian {
		return filepath.Join(p.Root, "run/crond.reboot")
	}
	return filepath.Join(p.Root, "run/cron.reboot")
}

// RebootDone reports whether the machine's cron has run its @reboot jobs since the
// machine has started.
func (p Places) RebootDone() bool {
	_, err := os.Lstat(p.rebootMark())
	return err == nil
}

// MarkReboot keeps a cron that takes over again from running the @reboot jobs.
func (p Places) MarkReboot() error {
	file, err := os.OpenFile(p.rebootMark(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	supervisorName = "supervisor.lock" // held by the supervisor, with its process id
	logName        = "serve.log"
	logLimit       = 16 << 20 // bytes of what the daemon says, before the next file
)

// supervisedPath is the PATH of a daemon that a supervisor starts: the one that
// systemd gives, whoever started the supervisor.
const supervisedPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// startSupervisor starts the process that keeps the daemon running. It outlives
// us and the connection that we were started by.
func startSupervisor(s *Site) error {
	if err := os.MkdirAll(s.path(DataName), 0o700); err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	defer null.Close() //nolint:errcheck // it is nothing
	cmd := exec.Command(s.path(BinaryName), "internal-site", "supervise", s.Root)
	cmd.Dir = s.Root
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	return cmd.Process.Release()
}

// stopSupervisor ends the supervisor and with it the daemon, if there is one.
func stopSupervisor(ctx context.Context, s *Site) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for told := false; ; {
		file, err := os.OpenFile(s.path(supervisorName), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return s.endDaemon(ctx)
		}
		if err != nil {
			return fmt.Errorf("stop the service: %w", err)
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		text, _ := os.ReadFile(s.path(supervisorName))
		_ = file.Close() // it was only looked at
		if err == nil {
			return s.endDaemon(ctx)
		}
		// Its id may not be written yet.
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 && !told {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the service: %w", err)
			}
			told = true
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("stop the service: the process that keeps it running does not end")
		}
	}
}

// endDaemon ends a daemon that nobody keeps running: one whose supervisor was
// killed would hold the data folder against the next for ever.
func (s *Site) endDaemon(ctx context.Context) error {
	for told := 0; ; {
		health, err := s.health(ctx)
		if err != nil || !health.Plans { // nobody, or somebody's command, which ends by itself
			return nil //nolint:nilerr // that nobody answers is what is wanted
		}
		if health.PID != told {
			told = health.PID
			if err := syscall.Kill(told, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stop the daemon: %w", err)
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("stop the daemon: process %d does not end", told)
		}
	}
}

// Start starts the supervisor where there is none.
func (s *Site) Start() error { return startSupervisor(s) }

// Supervise keeps the daemon running until TERM, which it passes on.
func (s *Site) Supervise(ctx context.Context) error {
	lock, err := os.OpenFile(s.path(supervisorName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it held a lock and an id
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil // another one does it
	}
	if err := lock.Truncate(0); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(lock, os.Getpid()); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	for {
		began := time.Now()
		err := s.serve(ctx)
		if ctx.Err() != nil {
			return nil // it was told to end
		}
		s.note(fmt.Sprintf("belfry serve ended (%v) and is started again", err))
		pause := time.Second
		if time.Since(began) < 10*time.Second {
			pause = 2 * time.Second
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// serve runs the daemon once.
func (s *Site) serve(ctx context.Context) error {
	log, err := s.openLog()
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the daemon wrote it
	cmd := exec.CommandContext(ctx, s.path(BinaryName), "serve")
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.path(CurrentName), log, log
	cmd.Env = environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd.Run()
}

// environ is what a daemon is started with: the same after a login, a reboot and a
// deploy.
func environ() []string {
	var list []string
	for _, v := range os.Environ() { //nolint:forbidigo // of this process, whose daemon it is
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ":
			list = append(list, v)
		default:
			if strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "BELFRY_") {
				list = append(list, v)
			}
		}
	}
	return append(list, "PATH="+supervisedPath)
}

func (s *Site) openLog() (*os.File, error) {
	path := s.path(DataName, logName)
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// note writes a line where the daemon writes its own.
func (s *Site) note(text string) {
	log, err := s.openLog()
	if err != nil {
		return // there is nobody else to tell
	}
	_, _ = fmt.Fprintln(log, text) // nor here
	_ = log.Close()
}

package site

import (
	"context"
	"errors"
	"fmt"
	"io"
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

	// A supervisor waits so long for the one before to end, which gives its daemon
	// 20 s, and looks so often whether it has.
	succession      = time.Minute
	successionPause = 50 * time.Millisecond
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

// restartSupervisor has another supervisor, and with it another daemon, take the
// place of the one there is. The next one waits before the first is told to end:
// were we killed between the two, somebody would still keep the daemon running.
func restartSupervisor(ctx context.Context, s *Site) error {
	pid, err := s.supervisor(ctx)
	if err != nil {
		return err
	}
	if pid == 0 {
		if err := s.endDaemon(ctx); err != nil {
			return err
		}
		return startSupervisor(s)
	}
	return errors.Join(startSupervisor(s), end(pid))
}

// stopSupervisor ends the supervisor and with it the daemon, if there is one.
func stopSupervisor(ctx context.Context, s *Site) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for told := 0; ; {
		pid, err := s.supervisor(ctx)
		if err != nil {
			return err
		}
		if pid == 0 {
			return s.endDaemon(ctx)
		}
		if pid != told {
			told = pid
			if err := end(pid); err != nil {
				return err
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("stop the service: the process that keeps it running does not end")
		}
	}
}

// supervisor finds the process that keeps the daemon running; 0: there is none.
func (s *Site) supervisor(ctx context.Context) (pid int, err error) {
	for {
		file, err := os.OpenFile(s.path(supervisorName), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look for what keeps the daemon running: %w", err)
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		text, _ := io.ReadAll(file) // its id may not be written yet
		_ = file.Close()            // it was only looked at
		if err == nil {
			return 0, nil
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			return pid, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return 0, errors.New("look for what keeps the daemon running: it does not say which process it is")
		}
	}
}

// end tells a process to end.
func end(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return nil
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
			if err := end(told); err != nil {
				return err
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
	for waited := time.Duration(0); syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; waited += successionPause {
		if waited > succession {
			return nil // another one does it
		}
		time.Sleep(successionPause)
	}
	if _, err := s.service(); err != nil {
		return nil // it was removed meanwhile
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

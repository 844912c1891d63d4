package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"belfry/internal/service"
)

// The ways in which the daemon of a site is kept running.
const (
	System     = "systemd"      // a unit of the machine's systemd
	User       = "systemd-user" // a unit of the user's own
	Background = "background"   // a process of ours that starts it again, for a host without an init system that we know
)

// Service says how the daemon is kept running.
type Service struct {
	Kind string `json:"kind"`
	User string `json:"user"` // who it runs as
	Sudo bool   `json:"sudo"` // root is reached through sudo
	// Cron says that a line of the user's crontab starts a process in the background
	// with the machine.
	Cron bool `json:"cron,omitempty"`
}

// ServiceName is the part of a site that says which service it has; without one it has none.
const ServiceName = "service.json"

// service reads how the daemon of this site is kept running.
func (s *Site) service() (Service, error) {
	var service Service
	text, err := os.ReadFile(s.path(ServiceName))
	if err == nil {
		err = json.Unmarshal(text, &service)
	}
	if err != nil {
		return Service{}, fmt.Errorf("read which service this is: %w", err)
	}
	return service, nil
}

// UnitName is what the unit is called.
func (v Service) UnitName(s *Site) string {
	name := filepath.Base(s.Root)
	if v.Kind == System {
		name = v.User + "-" + name // the machine's units are everybody's
	}
	return "belfry-" + name + ".service"
}

// Unit is the unit, for a version of systemd.
func (v Service) Unit(s *Site, version int) service.Unit {
	u := service.Unit{
		Description: "Belfry, the jobs of " + filepath.Base(s.Root) + " (made by belfry deploy, which writes it anew)",
		// Where SELinux is enforced, systemd itself executes nothing in a home and follows
		// no link there, not even to a working folder; what it executes elsewhere may. Env
		// comes before the shell, which as systemd's own would not be a common service.
		Command: []string{"/usr/bin/env", "sh", "-c", `cd -P "$1" && exec "$2" serve`, "belfry", s.path(CurrentName), s.path(BinaryName)},
		PerUser: v.Kind != System,
		Version: version,
	}
	if v.Kind == System {
		u.User = v.User
	}
	return u
}

// install makes the service known to whoever keeps it, if it is not yet.
func (v Service) install(ctx context.Context, s *Site) error {
	was, err := s.service()
	if err == nil && was != v { // it was kept by somebody else, who must let it go
		if err := was.remove(ctx, s); err != nil {
			return err
		}
	}
	if was != v { // on a full disk one can still go back
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := replace(s.path(ServiceName), text, 0o600); err != nil {
			return fmt.Errorf("install the service: %w", err)
		}
	}
	switch v.Kind {
	case System:
		err = v.installUnit(ctx, s, filepath.Join("/etc/systemd/system", v.UnitName(s)))
	case User:
		home, homeErr := os.UserHomeDir()
		if homeErr != nil {
			return homeErr
		}
		dir := filepath.Join(home, ".config", "systemd", "user")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("install the service: %w", err)
		}
		if err = v.installUnit(ctx, s, filepath.Join(dir, v.UnitName(s))); err == nil {
			err = v.linger(ctx)
		}
	case Background:
		err = v.atReboot(ctx, s, true)
	default:
		err = fmt.Errorf("%q is no kind of service", v.Kind)
	}
	if err != nil {
		return fmt.Errorf("install the service: %w", err)
	}
	return nil
}

// linger has the user's systemd run while nobody is logged in. Where root has said
// so already, the user need not be allowed to.
func (v Service) linger(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join("/var/lib/systemd/linger", v.User)); err == nil {
		return nil
	}
	return command(ctx, nil, "loginctl", "enable-linger", v.User)
}

func (v Service) installUnit(ctx context.Context, s *Site, file string) error {
	said, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return fmt.Errorf("systemctl --version: %w", err)
	}
	unit := v.Unit(s, service.Version(string(said))).String()
	if there, err := os.ReadFile(file); err != nil || string(there) != unit {
		// Root may not read what is in a home, where that is another machine's.
		if err := v.root(ctx, strings.NewReader(unit), "install", "-m", "644", "/dev/stdin", file); err != nil {
			return err
		}
		if err := v.systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	return v.systemctl(ctx, "enable", "--quiet", v.UnitName(s))
}

// restart ends the daemon, if it runs, and starts it. Jobs go on.
func (v Service) restart(ctx context.Context, s *Site) error {
	if v.Kind == Background {
		return restartSupervisor(ctx, s)
	}
	// It may take as long as the daemon needs to be well, which is waited for
	// elsewhere.
	return v.systemctl(ctx, "restart", "--no-block", v.UnitName(s))
}

// remove ends the daemon and has nobody start it again. Jobs go on.
func (v Service) remove(ctx context.Context, s *Site) error {
	var err error
	switch v.Kind {
	case Background:
		err = errors.Join(v.atReboot(ctx, s, false), stopSupervisor(ctx, s))
	default:
		file := filepath.Join("/etc/systemd/system", v.UnitName(s))
		if v.Kind == User {
			home, homeErr := os.UserHomeDir()
			if homeErr != nil {
				return homeErr
			}
			file = filepath.Join(home, ".config", "systemd", "user", v.UnitName(s))
		}
		if _, there := os.Stat(file); errors.Is(there, fs.ErrNotExist) {
			break
		}
		err = errors.Join(v.systemctl(ctx, "disable", "--quiet", "--now", v.UnitName(s)), v.root(ctx, nil, "rm", "-f", file), v.systemctl(ctx, "daemon-reload"))
	}
	if err != nil {
		return fmt.Errorf("remove the service: %w", err)
	}
	if err := os.Remove(s.path(ServiceName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the service: %w", err)
	}
	return nil
}

// log is the end of what the daemon said.
func (v Service) log(s *Site) string {
	if v.Kind == Background {
		text, err := os.ReadFile(s.path(DataName, logName))
		if err != nil {
			return ""
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return strings.Join(lines[max(len(lines)-15, 0):], "\n")
	}
	args := []string{"journalctl", "--no-pager", "-n", "15", "-o", "cat", "-u", v.UnitName(s)}
	if v.Kind == User {
		args = append(args, "--user")
	}
	if v.Kind == System && v.Sudo {
		args = append([]string{"sudo", "-n"}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		return "" // it is an extra
	}
	return strings.TrimSpace(string(out))
}

func (v Service) systemctl(ctx context.Context, args ...string) error {
	if v.Kind == User {
		return command(ctx, nil, "systemctl", append([]string{"--user"}, args...)...)
	}
	return v.root(ctx, nil, "systemctl", args...)
}

// root executes a command as root for the machine's systemd, else as it is.
func (v Service) root(ctx context.Context, in io.Reader, name string, args ...string) error {
	if v.Kind == System && v.Sudo {
		return command(ctx, in, "sudo", append([]string{"-n", name}, args...)...)
	}
	return command(ctx, in, name, args...)
}

func command(ctx context.Context, in io.Reader, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = in
	cmd.Env = os.Environ() //nolint:forbidigo // systemctl --user finds its bus by it
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// atReboot has cron start the daemon with the machine, or no longer. Where it does not,
// nobody does, which the plan says.
func (v Service) atReboot(ctx context.Context, s *Site, wanted bool) error {
	if !v.Cron {
		return nil
	}
	return s.atHome(ctx, func() error { return crontabLine(ctx, rebootLine(s), wanted) })
}

// crontabLine puts a line into the user's crontab, or takes it out.
func crontabLine(ctx context.Context, line string, wanted bool) error {
	old, err := exec.CommandContext(ctx, "crontab", "-l").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // 1: there is no crontab yet
		return err
	}
	var text bytes.Buffer
	there := false
	for l := range strings.Lines(string(old)) {
		if strings.TrimSuffix(l, "\n") == line {
			there = true
			if !wanted {
				continue
			}
		}
		text.WriteString(strings.TrimSuffix(l, "\n") + "\n")
	}
	if there == wanted {
		return nil
	}
	if wanted {
		text.WriteString(line + "\n")
	}
	return command(ctx, &text, "crontab", "-")
}

// rebootLine is the crontab's line for a site.
func rebootLine(s *Site) string {
	quoted := "'" + strings.ReplaceAll(s.Root, "'", `'\''`) + "'"
	return "@reboot cd " + strings.ReplaceAll(quoted, "%", `\%`) + " && exec ./" + BinaryName + " internal-site start ."
}

package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
}

const serviceName = "service.json"

// service reads how the daemon of this site is kept running.
func (s *Site) service() (Service, error) {
	var service Service
	text, err := os.ReadFile(s.path(serviceName))
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

// Unit is the text of the unit.
func (v Service) Unit(s *Site) string {
	var user, wanted, after string
	switch v.Kind {
	case System:
		user, wanted = "User="+v.User+"\n", "multi-user.target"
		after = "After=network-online.target nss-user-lookup.target\nWants=network-online.target\n"
	default:
		wanted = "default.target"
	}
	return fmt.Sprintf(`# Made by belfry deploy, which writes it anew.
[Unit]
Description=Belfry, the jobs of %s
%sStartLimitIntervalSec=0

[Service]
Type=notify
%sWorkingDirectory=%s
# By way of env: where SELinux is enforced, systemd itself executes nothing in a home.
ExecStart=/usr/bin/env %s serve
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
# Belfry ends; its keeper and the jobs go on, and the next daemon finds them.
KillMode=process
# A job that took too much memory is the job's end, not belfry's.
OOMPolicy=continue
# As many processes as the jobs need: cron has no limit either.
TasksMax=infinity
# Killed and started again when a loop hangs. The jobs notice nothing.
WatchdogSec=1min

[Install]
WantedBy=%s
`, filepath.Base(s.Root), after, user, unitPath(s.path(CurrentName)), unitWord(s.path(BinaryName)), wanted)
}

// unitPath writes a path for a setting that takes one and no quotes.
func unitPath(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// unitWord writes a word of a command line.
func unitWord(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`).Replace(word) + `"`
}

// install makes the service known to whoever keeps it, if it is not yet.
func (v Service) install(ctx context.Context, s *Site) error {
	was, err := s.service()
	if err == nil && was != v { // it was kept by somebody else, who must let it go
		if err := was.remove(ctx, s); err != nil {
			return err
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := replace(s.path(serviceName), text, 0o600); err != nil {
		return fmt.Errorf("install the service: %w", err)
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
	return command(ctx, "loginctl", "enable-linger", v.User)
}

func (v Service) installUnit(ctx context.Context, s *Site, file string) error {
	unit := v.Unit(s)
	if there, err := os.ReadFile(file); err != nil || string(there) != unit {
		ours := s.path(v.UnitName(s))
		if err := replace(ours, []byte(unit), 0o644); err != nil {
			return err
		}
		if err := v.root(ctx, "install", "-m", "644", ours, file); err != nil {
			return err
		}
		if err := os.Remove(ours); err != nil {
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
		err = errors.Join(v.systemctl(ctx, "disable", "--quiet", "--now", v.UnitName(s)), v.root(ctx, "rm", "-f", file), v.systemctl(ctx, "daemon-reload"))
	}
	if err != nil {
		return fmt.Errorf("remove the service: %w", err)
	}
	if err := os.Remove(s.path(serviceName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
		return command(ctx, "systemctl", append([]string{"--user"}, args...)...)
	}
	return v.root(ctx, "systemctl", args...)
}

// root executes a command as root for the machine's systemd, else as it is.
func (v Service) root(ctx context.Context, name string, args ...string) error {
	if v.Kind == System && v.Sudo {
		return command(ctx, "sudo", append([]string{"-n", name}, args...)...)
	}
	return command(ctx, name, args...)
}

func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = os.Environ() //nolint:forbidigo // systemctl --user finds its bus by it
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// atReboot has cron start the daemon with the machine, or no longer. Without cron
// nobody does, which the plan says.
func (v Service) atReboot(ctx context.Context, s *Site, wanted bool) error {
	if _, err := exec.LookPath("crontab"); err != nil {
		return nil //nolint:nilerr // there is no cron
	}
	old, err := exec.CommandContext(ctx, "crontab", "-l").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // 1: there is no crontab yet
		return err
	}
	line := rebootLine(s)
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
	cmd := exec.CommandContext(ctx, "crontab", "-")
	cmd.Stdin = &text
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("crontab: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// rebootLine is the crontab's line for a site.
func rebootLine(s *Site) string {
	quoted := "'" + strings.ReplaceAll(s.Root, "'", `'\''`) + "'"
	return "@reboot cd " + strings.ReplaceAll(quoted, "%", `\%`) + " && exec ./" + BinaryName + " internal-site start ."
}

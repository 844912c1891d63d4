package site

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/machine"
	"belfry/internal/project"
	"belfry/internal/service"
)

func TestTheUnitsAreOnesThatSystemdTakes(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		machine.Lacks(t, "systemd-analyze")
	}
	said, err := exec.Command(analyze, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := service.Version(string(said))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{System, User} {
		for _, home := range []string{"plain", `100% "odd" $HOME \o it's`} {
			dir := t.TempDir()
			s := &Site{Root: filepath.Join(dir, home, "belfry", "music")}
			if err := os.MkdirAll(s.path(CurrentName), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(self, s.path(BinaryName)); err != nil {
				t.Fatal(err)
			}
			v := Service{Kind: kind, User: "daemon"}
			unit := v.Unit(s, version).String()
			file := filepath.Join(dir, v.UnitName(s))
			if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
				t.Fatal(err)
			}
			args := []string{"verify", file}
			if kind == User {
				args = append(args, "--user")
			}
			cmd := exec.Command(analyze, args...)
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), v.UnitName(s)+":") {
				t.Errorf("%s in %s: systemd-analyze verify: %v\n%s\n%s", kind, home, err, out, unit)
			}
		}
	}
	v := Service{Kind: System, User: "ec2-user"}
	unit := v.Unit(&Site{Root: "/home/ec2-user/belfry/music"}, 0).String()
	for _, line := range []string{"User=ec2-user", `ExecStart=/usr/bin/env sh -c "cd -P \"$$1\" && exec \"$$2\" serve" belfry /home/ec2-user/belfry/music/current /home/ec2-user/belfry/music/belfry`, "KillMode=process", "OOMPolicy=continue", "TasksMax=infinity", "Restart=always", "StartLimitIntervalSec=0", "WantedBy=multi-user.target"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no line %s:\n%s", line, unit)
		}
	}
}

func TestTheUnitsCommandBeginsInTheReleaseThatIsCurrent(t *testing.T) {
	t.Parallel()
	s := &Site{Root: filepath.Join(t.TempDir(), `100% "odd" $HOME \o it's`, "belfry", "music")}
	release := s.path(project.ReleasesName, "1")
	err := errors.Join(os.MkdirAll(release, 0o755), os.Symlink(release, s.path(CurrentName)),
		os.WriteFile(s.path(BinaryName), []byte("#!/bin/sh\nprintf '%s:' \"$PWD\" \"$@\"\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	command := Service{Kind: System}.Unit(s, 0).Command
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if want := release + ":serve:"; err != nil || string(out) != want {
		t.Errorf("%q prints %q, %v; want %q", command, out, err, want)
	}
}

func TestCronsLineIsReadBackByAShell(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"/home/u/belfry/music", `/home/it's "100%" $(x)/belfry/music`} {
		line := rebootLine(&Site{Root: root})
		command := strings.ReplaceAll(strings.TrimPrefix(line, "@reboot "), `\%`, "%") // as cron does
		command = strings.Replace(command, "cd ", "printf %s ", 1)
		command, _, _ = strings.Cut(command, " && exec")
		if out, err := exec.Command("sh", "-c", command).Output(); err != nil || string(out) != root {
			t.Errorf("%s is read as %q, %v", line, out, err)
		}
	}
}

func TestAServiceThatIsInstalledIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	s := &Site{Root: t.TempDir()}
	var files [2]os.FileInfo
	for i := range files {
		if err := (Service{Kind: Background, User: "me"}).install(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		var err error
		if files[i], err = os.Stat(s.path(ServiceName)); err != nil {
			t.Fatal(err)
		}
	}
	if !os.SameFile(files[0], files[1]) {
		t.Error("it is, and so needs room on a disk that is full when one goes back")
	}
}

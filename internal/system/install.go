package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"belfry/internal/service"
)

// Installation is belfry in the place of the machine's cron: what has to be there,
// and how it is put there and taken away. Each step knows by the machine itself
// whether it is done, so that whoever was interrupted begins again, in either
// direction. No file of cron's is removed and no crontab is touched.
type Installation struct {
	Places Places
	// Self is the program that is to run as root; it is copied to Program unless
	// only root can write it where it is.
	Self string
	// Run carries out a command of the machine's and gives what it printed; nil:
	// it is executed.
	Run func(name string, args ...string) (string, error)

	was record
}

// Step is one change to the machine.
type Step struct {
	Does string // "mask cron.service"
	Undo string // what taking it back is called

	done   func() (bool, error)
	do     func() error
	undo   func() error
	undone func() (bool, error) // nil: not done
}

// record is what has to be known to go back. It is written before anything is
// changed, and removed last.
type record struct {
	Cron    string `json:"cron"`    // the unit that was the machine's cron
	Active  bool   `json:"active"`  // it ran
	Program string `json:"program"` // of belfry
	Copied  bool   `json:"copied"`  // Program was put there by us …
	Had     bool   `json:"had"`     // … over an older one, which is not taken away
}

const (
	unitName = "belfry.service"
	program  = "usr/local/bin/belfry"
	keptName = ".belfry-kept" // what is appended to the name of cron's crontab command
)

// ErrNoSystemd says that the machine has another service manager.
var ErrNoSystemd = errors.New("this machine is not run by systemd")

func (i *Installation) at(path string) string { return filepath.Join(i.Places.Root, path) }

// live reports whether it is the running machine, and not the files of one.
func (i *Installation) live() bool { return i.Places.Root == "/" }

func (i *Installation) run(name string, args ...string) (string, error) {
	if i.Run != nil {
		return i.Run(name, args...)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}

// systemctl asks systemd, or changes what it will find in the files of a machine.
func (i *Installation) systemctl(args ...string) (string, error) {
	if !i.live() {
		args = append([]string{"--root=" + i.Places.Root}, args...)
	}
	return i.run("systemctl", args...)
}

// Steps looks at the machine and gives what is to be done, in order.
func (i *Installation) Steps() ([]Step, error) {
	if i.live() {
		if _, err := os.Stat("/run/systemd/system"); err != nil {
			return nil, ErrNoSystemd
		}
	}
	if err := i.look(); err != nil {
		return nil, err
	}
	steps := []Step{i.recording(), i.copying(), i.unit()}
	if _, err := os.Lstat(i.at("usr/bin/crontab")); err == nil || i.kept() {
		steps = append(steps, i.crontabCommand())
	}
	// At each moment one of the two would be started with the machine: should it go
	// down in the middle, it comes up with a cron. Where both would be, systemd
	// starts one, since they conflict.
	steps = append(steps, i.enabling())
	if i.was.Cron != "" {
		if i.live() {
			steps = append(steps, i.stopping())
		}
		steps = append(steps, i.masking()) // in this order: back, nothing masked can be started
	}
	if i.live() {
		steps = append(steps, i.starting())
	}
	return steps, nil
}

// look finds out what the machine's cron is, or was before a first attempt.
func (i *Installation) look() error {
	text, err := os.ReadFile(i.recordPath())
	if err == nil {
		if err := json.Unmarshal(text, &i.was); err != nil {
			return fmt.Errorf("read %s: %w", i.recordPath(), err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	i.was = record{Program: "/" + program, Copied: true, Had: there(i.at(program))}
	if self, err := filepath.EvalSymlinks(i.Self); err == nil && i.live() && rootsAlone(self) {
		i.was.Program, i.was.Copied = self, false
	}
	for _, unit := range []string{"cron.service", "crond.service", "cronie.service"} {
		for _, dir := range []string{"usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"} {
			if info, err := os.Stat(i.at(filepath.Join(dir, unit))); err == nil && info.Mode().IsRegular() {
				i.was.Cron = unit
			}
		}
		if i.was.Cron != "" {
			break
		}
	}
	if i.was.Cron != "" && i.live() {
		_, err := i.systemctl("is-active", "--quiet", i.was.Cron)
		i.was.Active = err == nil
	}
	return nil
}

// rootsAlone reports whether only root decides what a program is: nobody else can
// write it, nor a folder that leads to it.
func rootsAlone(path string) bool {
	for ; ; path = filepath.Dir(path) {
		if err := CheckRoots(path); err != nil {
			return false
		}
		if path == filepath.Dir(path) {
			return true
		}
	}
}

func (i *Installation) recordPath() string { return i.at("var/lib/belfry/installed.json") }

// Installed reports whether belfry was put, or half put, in the place of cron.
func (i *Installation) Installed() bool {
	_, err := os.Stat(i.recordPath())
	return err == nil
}

func (i *Installation) recording() Step {
	return Step{
		Does: "note what the machine's cron is, to go back to", Undo: "forget what the machine's cron was",
		done: func() (bool, error) { return i.Installed(), nil },
		do: func() error {
			text, err := json.Marshal(i.was)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(i.recordPath()), 0o711); err != nil {
				return err
			}
			return putWhole(i.recordPath(), text, 0o644)
		},
		undo: func() error { return removeSynced(i.recordPath()) },
	}
}

func (i *Installation) copying() Step {
	to := i.at(program)
	return Step{
		Does: "copy belfry to /" + program, Undo: "remove /" + program,
		done: func() (bool, error) {
			if !i.was.Copied {
				return true, nil
			}
			return sameFiles(i.Self, to)
		},
		undone: func() (bool, error) { return !i.was.Copied || i.was.Had || !there(to), nil },
		do: func() error {
			text, err := os.ReadFile(i.Self)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return putWhole(to, text, 0o755)
		},
		undo: func() error { return removeSynced(to) },
	}
}

func (i *Installation) unit() Step {
	path := i.at("etc/systemd/system/" + unitName)
	text := func() ([]byte, error) {
		u := service.Unit{Description: "Belfry, the machine's cron", Command: []string{i.was.Program, "serve", "--system"}}
		if i.was.Cron != "" { // whoever starts that one by mistake does not get every job twice
			u.After, u.Conflicts = []string{i.was.Cron}, []string{i.was.Cron}
		}
		said, err := i.run("systemctl", "--version")
		if err != nil {
			return nil, err
		}
		if fields := strings.Fields(said); len(fields) > 1 {
			u.Version, _ = strconv.Atoi(fields[1])
		}
		return []byte(u.String()), nil
	}
	return Step{
		Does: "write /etc/systemd/system/" + unitName, Undo: "remove /etc/systemd/system/" + unitName,
		done: func() (bool, error) {
			want, err := text()
			if err != nil {
				return false, err
			}
			have, err := os.ReadFile(path)
			return err == nil && bytes.Equal(have, want), nil
		},
		undone: func() (bool, error) { return !there(path), nil },
		do: func() error {
			want, err := text()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := putWhole(path, want, 0o644); err != nil {
				return err
			}
			return i.reload()
		},
		undo: func() error {
			if err := removeSynced(path); err != nil {
				return err
			}
			return i.reload()
		},
	}
}

func (i *Installation) reload() error {
	if !i.live() {
		return nil
	}
	_, err := i.systemctl("daemon-reload")
	return err
}

// kept reports whether cron's crontab command was put aside.
func (i *Installation) kept() bool { return there(i.at("usr/bin/crontab" + keptName)) }

// crontabCommand makes /usr/bin/crontab a link to belfry. There is one at every
// moment: cron's gets a second name, and then the link takes its first.
func (i *Installation) crontabCommand() Step {
	path := i.at("usr/bin/crontab")
	kept := path + keptName
	ours := func() bool {
		to, err := os.Readlink(path)
		return err == nil && to == i.was.Program
	}
	return Step{
		Does: "make /usr/bin/crontab belfry's, and keep cron's as crontab" + keptName, Undo: "make /usr/bin/crontab cron's again",
		done: func() (bool, error) { return ours() && (i.diverted() || !i.dpkg()), nil },
		// Both names of one file are the middle of the way back.
		undone: func() (bool, error) { return !ours() && !i.kept() && !i.diverted(), nil },
		do: func() error {
			if err := i.divert("--add"); err != nil {
				return err
			}
			if !i.kept() {
				if err := os.Link(path, kept); err != nil {
					return err
				}
			}
			link := path + ".belfry-new"
			if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := os.Symlink(i.was.Program, link); err != nil {
				return err
			}
			return renameSynced(link, path)
		},
		undo: func() error {
			if err := i.divert("--remove"); err != nil || !i.kept() {
				return err
			}
			if ours() || !there(path) {
				return renameSynced(kept, path)
			}
			return removeSynced(kept) // a second name, or an older one
		},
	}
}

// divert tells dpkg that its package's crontab command lies under another name, so
// that an upgrade replaces that one.
func (i *Installation) divert(change string) error {
	if !i.dpkg() {
		return nil
	}
	_, err := i.run("dpkg-divert", "--root="+i.Places.Root, "--quiet", "--local", "--no-rename", "--divert", "/usr/bin/crontab"+keptName, change, "/usr/bin/crontab")
	return err
}

func (i *Installation) dpkg() bool { return there(i.at("var/lib/dpkg/status")) }

func (i *Installation) diverted() bool {
	text, _ := os.ReadFile(i.at("var/lib/dpkg/diversions")) // without one nothing is
	return strings.Contains("\n"+string(text), "\n/usr/bin/crontab\n/usr/bin/crontab"+keptName+"\n")
}

func (i *Installation) masking() Step {
	link := i.at("etc/systemd/system/" + i.was.Cron)
	masked := func() (bool, error) {
		to, err := os.Readlink(link)
		return err == nil && to == "/dev/null", nil
	}
	return Step{
		Does: "mask " + i.was.Cron + ", so that nothing starts it", Undo: "unmask " + i.was.Cron,
		done: masked,
		do:   func() error { _, err := i.systemctl("mask", i.was.Cron); return err },
		undo: func() error { _, err := i.systemctl("unmask", i.was.Cron); return err },
	}
}

func (i *Installation) stopping() Step {
	active := func() bool { _, err := i.systemctl("is-active", "--quiet", i.was.Cron); return err == nil }
	return Step{
		Does: "stop " + i.was.Cron + "; the jobs that it has started go on", Undo: "start " + i.was.Cron,
		done:   func() (bool, error) { return !active(), nil },
		undone: func() (bool, error) { return !i.was.Active || active(), nil },
		do: func() error {
			awayFromTheMinute(time.Now, time.Sleep)
			_, err := i.systemctl("stop", i.was.Cron)
			return err
		},
		undo: func() error { _, err := i.systemctl("start", i.was.Cron); return err },
	}
}

// awayFromTheMinute waits until neither of two crons that take turns can miss a
// minute, or run it after the other.
func awayFromTheMinute(now func() time.Time, wait func(time.Duration)) {
	switch second := now().Second(); {
	case second < 5:
		wait(time.Duration(5-second) * time.Second)
	case second >= 45:
		wait(time.Duration(65-second) * time.Second)
	}
}

func (i *Installation) enabling() Step {
	link := i.at("etc/systemd/system/multi-user.target.wants/" + unitName)
	return Step{
		Does: "have the machine start " + unitName, Undo: "have the machine start " + unitName + " no more",
		done: func() (bool, error) { return there(link), nil },
		do:   func() error { _, err := i.systemctl("enable", unitName); return err },
		undo: func() error { _, err := i.systemctl("disable", unitName); return err },
	}
}

func (i *Installation) starting() Step {
	return Step{
		Does: "start " + unitName, Undo: "stop " + unitName + "; its jobs go on",
		done: func() (bool, error) {
			_, err := i.systemctl("is-active", "--quiet", unitName)
			return err == nil, nil
		},
		do: func() error { _, err := i.systemctl("start", unitName); return err },
		undo: func() error {
			awayFromTheMinute(time.Now, time.Sleep)
			_, err := i.systemctl("stop", unitName)
			return err
		},
	}
}

// Pending reports whether the step is to be done, or, back, to be taken back.
func (s Step) Pending(back bool) (bool, error) {
	if !back {
		done, err := s.done()
		return !done, err
	}
	if s.undone != nil {
		undone, err := s.undone()
		return !undone, err
	}
	return s.done()
}

// Do does the step or, back, takes it back.
func (s Step) Do(back bool) error {
	if back {
		if err := s.undo(); err != nil {
			return fmt.Errorf("%s: %w", s.Undo, err)
		}
		return nil
	}
	if err := s.do(); err != nil {
		return fmt.Errorf("%s: %w", s.Does, err)
	}
	return nil
}

func there(path string) bool { _, err := os.Lstat(path); return err == nil }

func sameFiles(a, b string) (bool, error) {
	one, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	other, err := os.ReadFile(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Equal(one, other), err
}

// putWhole writes a file whole or not at all.
func putWhole(path string, text []byte, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(text)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	return renameSynced(file.Name(), path)
}

func renameSynced(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func removeSynced(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

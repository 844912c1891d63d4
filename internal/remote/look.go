package remote

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"belfry/internal/site"
)

//go:embed look.sh
var lookScript string

// Facts are what a host is found to be before anything on it is changed.
type Facts struct {
	User         string        `json:"user"`
	Home         string        `json:"home"`
	System       string        `json:"system"`       // as uname says: Linux
	Machine      string        `json:"machine"`      // as uname says: x86_64
	Arch         string        `json:"arch"`         // as Go says: amd64; empty: none that belfry is built for
	Distribution string        `json:"distribution"` // for people
	Init         string        `json:"init"`         // systemd, or the name of process 1
	UserUnits    bool          `json:"user_units"`   // the user has a systemd of their own
	Linger       bool          `json:"linger"`       // which outlives the session, or is allowed to
	SELinux      string        `json:"selinux"`      // enforcing or permissive; empty: it is off
	Root         string        `json:"root"`         // yes: the user is root; sudo: it becomes root unasked; empty: it does not
	Free         int64         `json:"free"`         // bytes, in the home
	ClockOff     time.Duration `json:"clock_off"`    // how far its clock is ahead of ours
	Zone         string        `json:"zone"`
	Python       string        `json:"python"` // version; empty: there is none
	Venv         bool          `json:"venv"`
	Packages     string        `json:"packages"` // what installs packages
	Cron         string        `json:"cron"`     // a cron that is running
	Crontab      bool          `json:"crontab"`  // the user may have a crontab
	Entries      int           `json:"entries"`  // in the user's crontab
	Hash         string        `json:"-"`        // what computes SHA-256
	Gzip         bool          `json:"-"`

	Release   string        `json:"release,omitempty"` // of the project, that is current there
	Binary    string        `json:"binary,omitempty"`
	HasBinary bool          `json:"-"` // the one that is meant
	Service   *site.Service `json:"service,omitempty"`
	Others    []string      `json:"others,omitempty"` // other projects that are deployed there
}

// arches are the machines that there is a belfry for.
var arches = map[string]string{"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

// bootsByCron reports whether a cron is there, and running, that a line of the
// crontab has start something with the machine.
func (f Facts) bootsByCron() bool { return f.Crontab && f.Cron != "" }

// Look finds out what the host is. It changes nothing there.
func (h *Host) Look(ctx context.Context, project, binary string) (Facts, error) {
	began := time.Now()
	out, err := h.script(ctx, lookScript, project, binary)
	if err != nil {
		return Facts{}, fmt.Errorf("look at %s: %w", h.Name(), err)
	}
	// Halfway between is when it looked at its clock, within what ssh takes.
	f, err := parseFacts(out, began.Add(time.Since(began)/2))
	if err != nil {
		return f, fmt.Errorf("look at %s: %w", h.Name(), err)
	}
	h.confined.Store(f.SELinux == "enforcing")
	return f, nil
}

func parseFacts(text string, now time.Time) (Facts, error) {
	said := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		said[name] = value
	}
	if said["done"] != "yes" {
		return Facts{}, fmt.Errorf("it did not answer to the end; it said %q", text[:min(len(text), 1000)])
	}
	f := Facts{
		User: said["user"], Home: said["home"], System: said["system"], Machine: said["machine"], Arch: arches[said["machine"]],
		Distribution: cmp.Or(said["distribution"], "an unknown distribution"), Init: said["init"], UserUnits: said["user_units"] == "yes", Linger: said["linger"] == "yes",
		SELinux: said["selinux"], Root: said["root"], Zone: said["zone"], Python: said["python"], Venv: said["venv"] == "yes",
		Packages: said["packages"], Cron: said["cron"], Crontab: said["crontab"] == "yes", Hash: said["hash"], Gzip: said["gzip"] == "yes",
		Release: said["release"], Others: strings.Fields(said["others"]), Binary: said["binary"], HasBinary: said["has_binary"] == "yes",
	}
	if kilobytes, err := strconv.ParseInt(said["free"], 10, 64); err == nil {
		f.Free = kilobytes << 10
	}
	if seconds, err := strconv.ParseInt(said["clock"], 10, 64); err == nil {
		f.ClockOff = time.Unix(seconds, 0).Sub(now).Round(time.Second)
	}
	f.Entries, _ = strconv.Atoi(said["entries"]) // there may be no crontab
	if service := said["service"]; service != "" {
		if err := json.Unmarshal([]byte(service), &f.Service); err != nil {
			f.Service = nil // it is written anew
		}
	}
	return f, nil
}

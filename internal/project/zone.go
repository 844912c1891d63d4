package project

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"belfry/internal/job"
)

// HostZone finds the machine's time zone by name: TZ, /etc/timezone, or where
// /etc/localtime leads. A machine without any is in UTC, as for the C library.
func HostZone(environ []string) (*time.Location, error) {
	for _, v := range environ {
		if name, found := strings.CutPrefix(v, "TZ="); found && name != "" {
			zone, err := hostZone(strings.TrimPrefix(name, ":"))
			if err != nil {
				return nil, fmt.Errorf("the environment's TZ: %w", err)
			}
			return zone, nil
		}
	}
	if link, err := filepath.EvalSymlinks("/etc/localtime"); err == nil {
		if name := zoneIn(link); name != "" {
			return hostZone(name)
		}
	}
	if text, err := os.ReadFile("/etc/timezone"); err == nil && strings.TrimSpace(string(text)) != "" {
		return hostZone(strings.TrimSpace(string(text)))
	}
	if _, err := os.Stat("/etc/localtime"); err == nil {
		return nil, fmt.Errorf("the machine's time zone has no name (/etc/localtime is a plain file and /etc/timezone is not there); set TZ to one like Asia/Seoul")
	}
	return time.UTC, nil
}

// zoneIn is the name of the zone whose file this is; empty: it is none of the machine's.
func zoneIn(file string) string {
	for _, folder := range []string{"zoneinfo/", "zoneinfo.default/"} { // the second of a Mac that has had no update of the zones
		if _, name, found := strings.Cut(file, folder); found {
			return strings.TrimPrefix(name, "posix/")
		}
	}
	return ""
}

// hostZone loads a zone by the name that the machine has for it. UTC has
// several; people know one.
func hostZone(name string) (*time.Location, error) {
	switch name {
	case "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal":
		return time.UTC, nil
	}
	return job.LoadZone(name)
}

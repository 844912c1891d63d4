package project

import (
	"strings"
	"testing"
)

func TestTheHostsZoneHasAName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ env, want string }{
		{"TZ=Asia/Seoul", "Asia/Seoul"},
		{"TZ=:Europe/Berlin", "Europe/Berlin"},
		{"TZ=Etc/UTC", "UTC"},
	} {
		zone, err := HostZone([]string{c.env})
		if err != nil || zone.String() != c.want {
			t.Errorf("%s: %v, %v; want %s", c.env, zone, err, c.want)
		}
	}
	if _, err := HostZone([]string{"TZ=Asia/Soul"}); err == nil || !strings.Contains(err.Error(), "Asia/Soul") {
		t.Errorf("an unknown zone gives %v", err)
	}
}

func TestAZoneIsNamedByItsFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ file, want, where string }{
		{"/usr/share/zoneinfo/Asia/Seoul", "Asia/Seoul", "Linux"},
		{"/usr/share/zoneinfo/posix/UTC", "UTC", "Linux"},
		{"/private/var/db/timezone/tz/2026a.1.0/zoneinfo/America/Argentina/Salta", "America/Argentina/Salta", "macOS"},
		{"/usr/share/zoneinfo.default/Asia/Seoul", "Asia/Seoul", "macOS as it was installed"},
		{"/etc/localtime", "", "a plain file"},
	} {
		if got := zoneIn(c.file); got != c.want {
			t.Errorf("%s (%s): %q, want %q", c.file, c.where, got, c.want)
		}
	}
}

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

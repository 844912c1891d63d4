//go:build host

package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"belfry/api"
)

// directory has an LDAP server on the host, from which it takes users beside those
// of its passwd: bob, who is in the groups bakers and, by its group, mail.
func (d *debian) directory() (bob int64) {
	d.t.Helper()
	bob = d.users
	d.users++
	d.do(fmt.Sprintf(`export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends slapd nslcd libnss-ldapd procps
systemctl stop slapd nslcd
slapadd -n 1 <<END
dn: uid=bob,dc=nodomain
objectClass: account
objectClass: posixAccount
cn: Bob
uid: bob
uidNumber: %[1]d
gidNumber: %[1]d
homeDirectory: /home/bob
loginShell: /bin/sh

dn: cn=bakers,dc=nodomain
objectClass: posixGroup
cn: bakers
gidNumber: 777
memberUid: bob
END
chown -R openldap: /var/lib/ldap
sed -i 's/^base .*/base dc=nodomain/' /etc/nslcd.conf
sed -i -E 's/^(passwd|group):.*/& ldap/' /etc/nsswitch.conf
sed -i 's/^mail:.*/&bob/' /etc/group
systemctl start slapd nslcd
install -d -o %[1]d -g %[1]d /home/bob`, bob))
	d.is("grep -c bob /etc/passwd; id -u bob", fmt.Sprintf("0\n%d", bob))
	return bob
}

func TestUsersOfADirectoryHaveJobsOnAHostWithSystemdAlsoWhenItIsAway(t *testing.T) {
	t.Parallel()
	d := newDebian(t, systemd)
	d.packages()
	d.program()
	d.account("carol")
	bob := d.directory()
	d.do("/tmp/belfry install --system")
	const belfry = "/usr/local/bin/belfry "
	d.is("systemctl show --property=After --value belfry | grep -c nss-user-lookup.target", "1")
	// The tables are bob's to write only through the socket.
	d.do(`runuser -u bob -- crontab - <<'END'
* * * * * grep -E '^(Uid|Gid|Groups):' /proc/self/status > ids
END`)
	d.do("echo '* * * * * true' | crontab -u carol -")
	d.is("runuser -u bob -- crontab -l | grep -c ids; stat -c %U:%a /var/spool/cron/crontabs/bob", "1\nbob:600")
	d.is("runuser -u bob -- "+belfry+"jobs --system --json | grep -c '\"name\"'", "1") // not carol's
	if said := d.said(belfry + "audit --system"); !strings.Contains(said, "bob") {
		t.Errorf("who has installed a crontab is not in the audit:\n%s", said)
	}

	// ran waits for a user's job of a minute after since, and is about its run.
	ran := func(user, since, when string) {
		t.Helper()
		var run api.Run
		d.until(when+" a job of "+user+" has run", 3*time.Minute, func() (bool, string) {
			said := d.said(belfry + "runs --system --limit 20 --json")
			var list []api.Run
			if err := json.Unmarshal([]byte(said), &list); err != nil {
				t.Fatalf("runs --json: %v\n%s", err, said)
			}
			for _, r := range list {
				if r.Project == user && r.Finished() && r.FiresAt.Format(time.RFC3339) > since {
					run = r
				}
			}
			return run.ID != "", said
		})
		switch {
		case run.State != "succeeded":
			t.Errorf("%s the job of %s is %s: %s", when, user, run.State, run.Reason)
		case run.StartedAt.Sub(run.FiresAt) > 5*time.Second:
			t.Errorf("%s the job of %s starts at %s and not at %s", when, user, run.StartedAt, run.FiresAt)
		}
	}
	now := func() string { return d.said("date -u +%FT%TZ") }
	later := func() string { return d.said("date -u -d '+40 seconds' +%FT%TZ") } // when nobody remembers what getent said
	orphan := func() bool {
		return strings.Contains(d.said(belfry+"doctor --system"), "/var/spool/cron/crontabs/bob: ")
	}
	ran("bob", now(), "at first")
	d.is("tr '\\t' ' ' < /home/bob/ids", fmt.Sprintf("Uid: %[1]d %[1]d %[1]d %[1]d\nGid: %[1]d %[1]d %[1]d %[1]d\nGroups: 8 777 %[1]d", bob))

	d.do("pkill -STOP nslcd") // who asks hangs
	since := later()
	ran("carol", since, "while the directory hangs")
	ran("bob", since, "while the directory hangs")
	d.do("systemctl restart belfry")
	ran("carol", now(), "after a start while the directory hangs")
	if !orphan() {
		t.Errorf("belfry doctor does not say that bob cannot be found:\n%s", d.said(belfry+"doctor --system"))
	}
	d.do("pkill -CONT nslcd")
	ran("bob", now(), "when the directory is back")
	if orphan() {
		t.Error("belfry doctor goes on saying that bob cannot be found")
	}

	d.do("systemctl stop slapd") // who asks hears that there is no bob
	d.is("getent passwd bob; echo $?", "2")
	ran("bob", later(), "while there is no directory")
	d.is("runuser -u carol -- "+belfry+"jobs --system --json | grep -c '\"name\"'", "1")
}

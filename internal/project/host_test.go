package project

import (
	"slices"
	"testing"
)

func TestHostsHaveAnAddressOrMore(t *testing.T) {
	t.Parallel()
	p := parsed(t, `
jobs: {a: {command: x}}
hosts:
  staging: me@music:2222
  prod: {address: &there music, identity: ~/.ssh/k, aws_profile: lake}
  near: {address: *there, identity: keys/k}
  far: {address: 10, identity: /etc/k}
`)
	want := []Host{{"staging", "me@music:2222", "", ""}, {"prod", "music", "/home/me/.ssh/k", "lake"}, {"near", "music", "/srv/shop/keys/k", ""}, {"far", "10", "/etc/k", ""}}
	if !slices.Equal(p.Hosts, want) {
		t.Errorf("got %+v\nwant %+v", p.Hosts, want)
	}
}

func TestWhatIsWrongWithAHostIsToldWithItsPlace(t *testing.T) {
	t.Parallel()
	const noHost = " is not a host; write USER@HOST, as in ec2-user@203.0.113.7, and a port (1–65535) as HOST:PORT"
	for _, c := range []struct{ why, hosts, want string }{
		{"nothing", "", "2:7: here stands nothing where hosts are wanted, as in {prod: ec2-user@203.0.113.7}"},
		{"an address alone", "me@music", `2:8: here stands "me@music" where hosts are wanted, as in {prod: ec2-user@203.0.113.7}`},
		{"a host without anything", "{prod: }", "2:15: here stands nothing where an address is wanted"},
		{"a list", "{prod: [music]}", `2:15: here stands a list where a key of a host is wanted, as in "address: …"`},
		{"no address", "{prod: {identity: k}}", "2:9: prod has no address"},
		{"an empty address", "{prod: {address: ''}}", `2:25: ""` + noHost},
		{"an unknown key", "{prod: {address: a, identty: k}}", `2:28: "identty" is not a key of a host; did you mean "identity"?`},
		{"an option of ssh", "{prod: -oProxyCommand=x}", `2:15: "-oProxyCommand=x"` + noHost},
		{"a line break", `{prod: "me@a\nb"}`, `2:15: "me@a\nb"` + noHost},
		{"a port that is none", "{prod: me@a:99999}", `2:15: "me@a:99999"` + noHost},
		{"an empty path", "{prod: {address: a, identity: ''}}", "2:38: the path of the key is empty"},
		{"an empty profile", "{prod: {address: a, aws_profile: ''}}", "2:41: the name of the profile is empty"},
		{"a name that is none", "{Prod: a}", `2:9: "Prod" cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "prod"`},
		{"a flag's name", "{-prod: a}", `2:9: "-prod" cannot be the name of a host: it begins as a flag does`},
		{"a command's name", "{status: a}", `2:9: "status" cannot be the name of a host: belfry deploy status is a command`},
		{"a name twice", "{prod: a, prod: b}", `2:18: "prod" stands twice, first in line 2`},
	} {
		wants(t, c.why, "jobs: {a: {command: x}}\nhosts: "+c.hosts+"\n", c.want)
	}
}

func TestNoKeyOfAHostIsPartOfARelease(t *testing.T) {
	t.Parallel()
	p := folder(t, "belfry.yaml", "jobs: {a: {command: x}}\nhosts: {prod: {address: a, identity: keys/prod}, old: {address: b, identity: keys/old}}\n",
		"keys/prod", "KEY", "keys/old", "KEY", "keys/readme", "", ".belfryignore", "!keys/*\n")
	if got, want := paths(release(t, p)), []string{".belfryignore", "belfry.yaml", "keys/readme"}; !slices.Equal(got, want) {
		t.Errorf("the release has %q, want %q", got, want)
	}
}

package remote

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAConfigurationOfAMacIsUnderstood(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte(`
# Added by OrbStack: 'orb' SSH host for Linux machines
Include ~/.orbstack/ssh/config

Host music
	HostName 203.0.113.7
	User ec2-user
	IdentityAgent "~/Library/Group Containers/2BUA8C4S2C.com.1password/t/agent.sock"

Host *
	IgnoreUnknown UseKeychain
	UseKeychain yes
	AddKeysToAgent yes
	IdentityFile ~/.ssh/id_ed25519
`), 0o600); err != nil {
		t.Fatal(err)
	}
	stations, err := route(t.Context(), Options{Address: "music", User: "me", Home: home, Agent: "/private/tmp/com.apple.launchd.5uZzkvBDGn/Listeners"})
	if err != nil {
		t.Fatal(err)
	}
	got := stations[len(stations)-1]
	want := filepath.Join(home, "Library/Group Containers/2BUA8C4S2C.com.1password/t/agent.sock")
	if got.user != "ec2-user" || got.address != "203.0.113.7:22" || got.agent != want || len(got.identities) != 1 {
		t.Errorf("it is %s at %s by the agent %s and %v; want ec2-user at 203.0.113.7:22 by %s and one key", got.user, got.address, got.agent, got.identities, want)
	}
}

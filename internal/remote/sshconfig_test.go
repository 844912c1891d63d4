package remote

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"belfry/internal/machine"
	"belfry/internal/project"
)

// TestTheConfigurationIsReadAsSSHReadsIt compares what is read with what ssh -G says.
func TestTheConfigurationIsReadAsSSHReadsIt(t *testing.T) {
	t.Parallel()
	settings := []string{"hostname", "user", "port", "identityfile", "certificatefile", "proxyjump", "proxycommand", "hostkeyalias", "identitiesonly", "connecttimeout", "serveraliveinterval"}
	for why, text := range map[string]string{
		"the first value counts":     "Host music\n Port 1\nHost *\n Port 2\n User other\n",
		"before any Host":            "Port 1\nHost music\n Port 2\n",
		"patterns":                   "Host m?s*c\n Port 1\nHost *.example\n Port 2\n",
		"an exception":               "Host * !music\n Port 1\nHost music\n Port 2\n",
		"an exception comes last":    "Host music !m*\n Port 1\n",
		"several files":              "IdentityFile /a\nHost music\n IdentityFile /b\n IdentityFile /a\n",
		"equals and case":            "HOST=music\n port = 7\n\tUSER\t=\tyou\n",
		"quotes":                     "Host \"music\"\n IdentityFile \"/a b\"\n User 'you'\n",
		"comments":                   "# Port 1\nHost music # mine\n Port 2 # here\n  # Port 3\n",
		"no newline at the end":      "Host music\n Port 2",
		"hostname with a token":      "Host music\n HostName %h.example\n",
		"Match all":                  "Host other\n Port 1\nMatch all\n Port 2\n",
		"Match host":                 "Match host other,music\n Port 1\n",
		"Match host of HostName":     "Host music\n HostName 10.0.0.1\nMatch host music\n Port 1\nMatch host 10.0.0.*\n Port 2\n",
		"Match originalhost":         "Host music\n HostName 10.0.0.1\nMatch originalhost music\n Port 1\n",
		"Match user":                 "Host music\n User you\nMatch user me\n Port 1\nMatch user you\n Port 2\n",
		"Match host and user":        "Host music\n User you\nMatch host music user me\n Port 1\nMatch host music user you\n Port 2\n",
		"Match with not":             "Match !host music\n Port 1\nMatch host music !user you\n Port 2\n",
		"Match exec":                 "Match host music exec \"test %n = music\"\n Port 1\nMatch exec false\n User you\n",
		"Match exec is not executed": "Match host other exec \"touch DIR/executed\"\n Port 1\n",
		"Match final":                "Match final host music\n Port 1\nHost music\n User you\n",
		"Match canonical":            "Match canonical all\n Port 1\nHost music\n Port 2\n",
		"Include":                    "Include DIR/inner*\nPort 9\n",
		"Include in a Host":          "Host other\n Include DIR/inner*\nHost music\n Port 9\n",
		"Include of nothing":         "Include DIR/none*\nPort 9\n",
		"after an Include":           "Host music\n Include DIR/inner-a\n User me\n",
		"ProxyCommand":               "Host music\n ProxyCommand nc -X connect \"%h\" %p # all of it\n",
		"ProxyCommand first":         "Host music\n ProxyCommand nc %h %p\n ProxyJump door\n",
		"ProxyJump none":             "Host music\n ProxyJump none\n ProxyCommand nc %h %p\nHost *\n ProxyJump door\n",
		"case of letters":            "Host MUSIC\n Port 1\nHost music\n User you\nMatch host MUSIC\n Port 2\nMatch user YOU\n HostKeyAlias alias\n",
		"Match canonical final":      "Match canonical final\n Port 1\n",
		"ProxyJump first":            "Host music\n ProxyJump you@door:7\n ProxyCommand nc %h %p\n",
		"numbers":                    "Host music\n ConnectTimeout 7\n ServerAliveInterval 30\n",
		"more":                       "Host music\n HostKeyAlias alias\n IdentitiesOnly yes\n CertificateFile /c\n",
	} {
		home := t.TempDir()
		dir := filepath.Join(home, ".ssh")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"config": text, "inner-a": "Host music\n Port 3\nHost other\n Port 4\n", "inner-b": "Host music\n User inner\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("ssh", "-G", "-F", filepath.Join(dir, "config"), "music").Output()
		if err != nil {
			t.Fatalf("%s: ssh -G: %v\n%s", why, err, text)
		}
		ssh := map[string][]string{}
		for line := range bytes.Lines(out) {
			name, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
			ssh[name] = append(ssh[name], value)
		}
		c, err := readConfig(t.Context(), "music", "", "", Options{Home: home, User: "root"})
		if err != nil {
			t.Errorf("%s: %v\n%s", why, err, text)
			continue
		}
		ours := map[string][]string{"hostname": {c.hostName()}, "port": {c.portName()}, "user": {c.userName()}, "proxyjump": slices.DeleteFunc([]string{c.jumps()}, func(jumps string) bool { return jumps == "" })}
		for _, name := range settings {
			got, want := c.values[name], ssh[name]
			if list, ok := ours[name]; ok {
				got = list
			}
			if len(got) == 0 && name != "proxyjump" && name != "proxycommand" {
				continue // ssh has a default
			}
			if name == "user" && c.get("user") == "" {
				continue // who runs the test
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s is %q, ssh says %q\n%s", why, name, got, want, text)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "executed")); err == nil {
			t.Errorf("%s: the command was executed", why)
		}
	}
}

func TestAProxyJumpMayHaveTokens(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte("Host music\n ProxyJump %r@door-%h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	way, err := route(t.Context(), Options{Address: "me@music", Home: home, User: "you"})
	if err != nil || len(way) != 2 || way[0].user != "me" || way[0].name != "door-music" {
		t.Errorf("the way is %+v, %v", way, err)
	}
}

func TestNamesOfFilesMayHaveVariables(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte("Host music\n IdentityFile ${KEYS}/%n\nHost other\n IdentityAgent ${NONE}\nHost agent\n IdentityAgent $KEYS\nHost agentless\n IdentityAgent $NONE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Address: "music", Home: home, User: "me", Getenv: func(name string) string { return map[string]string{"KEYS": "/100%h"}[name] }}
	way, err := route(t.Context(), o)
	if err != nil || !slices.Equal(way[0].identities, []string{"/100%h/music"}) {
		t.Errorf("the way is %+v, %v", way, err)
	}
	o.Address = "other"
	if _, err := route(t.Context(), o); err == nil || !strings.Contains(err.Error(), "${NONE}") {
		t.Errorf("of one that is not set is said: %v", err)
	}
	for host, want := range map[string]string{"agent": "/100%h", "agentless": ""} { // a variable alone
		o.Address, o.Agent = host, "/launchd"
		if way, err := route(t.Context(), o); err != nil || way[0].agent != want {
			t.Errorf("%s: the way is %+v, %v; want the agent %q", host, way, err, want)
		}
	}
}

func TestAnAddressHoldsNothingForAShell(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte("ProxyCommand nc %r %h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, right := range map[string]bool{
		"me@music": true, "me.too-1_2@music": true, `DOMAIN\me@music`: true, "me@example@music": true,
		"$(id)@music": false, "`id`@music": false, "me;id@music": false, "me|id@music": false, "me\nid@music": false, "'@music": false,
		"-oX@music": false, "me -oX@music": false, `me\@music`: false, "me@$(id)": false, "me@{id,x}": false, "music:$(id)": false,
		"music:22": true, "music:0": false, "music:99999": false, "music:ssh": false,
	} {
		_, err := route(t.Context(), Options{Address: address, Home: home, User: "me"})
		var wrong *project.AddressError
		if errors.As(err, &wrong) == right || right && err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestWhatIsWrongInTheConfigurationIsSaidWithItsLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"Port 1\nMatch localnetwork 10.0.0.0/8\n", "config:2: the criterion localnetwork of Match is not understood"},
		{"Match host\n", "config:1: the criterion host of Match is without a value"},
		{"Host \"music\n", "config:1: a quote does not end"},
		{"Include config\n", "includes itself"},
		{"Port x\n", `the ssh configuration of music: "x" is not a port`},
		{"ProxyCommand nc %Z\n", "%Z in \"nc %Z\" is not understood"},
		{"ProxyCommand nc 100%\n", "ends with a %"},
		{"Host other\nMatch originalhost other localnetwork 10.0.0.0/8\n", ""}, // it decides nothing
	} {
		home := t.TempDir()
		if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := route(t.Context(), Options{Address: "music", Home: home, User: "me"})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: the error is %v, want %q", c.text, err, c.want)
		}
	}
}

func TestAConfigurationThatOthersCanWriteIsNotRead(t *testing.T) {
	t.Parallel()
	machine.NeedsRoot(t)
	const daemon = 1 // a group that is not root's
	for _, c := range []struct {
		name  string // of the file that is not as it should be
		owner int
		mode  os.FileMode
		want  string
	}{
		{"config", 0, 0o600, ""},
		{"config", 0, 0o644, ""},
		{"config", 0, 0o602, "others can write"},
		{"config", 0, 0o620, "others can write"},
		{"config", 4001, 0o600, "belongs to another user"},
		{"inner", 0, 0o666, "others can write"},
	} {
		home := t.TempDir()
		dir := filepath.Join(home, ".ssh")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		executed := filepath.Join(home, "executed")
		for name, text := range map[string]string{"config": "Include inner\n", "inner": "Match exec \"touch " + executed + "\"\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		odd := filepath.Join(dir, c.name)
		if err := os.Chown(odd, c.owner, daemon); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(odd, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := readConfig(t.Context(), "music", "", "", Options{Home: home, User: "me"})
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), odd)) {
			t.Errorf("%s of %d with mode %o: the error is %v, want %q", c.name, c.owner, c.mode, err, c.want)
		}
		if _, err := os.Stat(executed); (err == nil) != (c.want == "") {
			t.Errorf("%s of %d with mode %o: that the command was executed: %v", c.name, c.owner, c.mode, err == nil)
		}
	}
}

package site

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"belfry/api"
)

// cutSite names, to the process that is killed, the site whose release it changes.
const cutSite = "BELFRY_TEST_CUT_SITE"

// A host that loses its power in a switch has the new links when it is there again. What it
// then goes back to is what ran before.
func TestASwitchThatWasCutShortIsGoneBackFromOnce(t *testing.T) {
	if root := os.Getenv(cutSite); root != "" {
		s := &Site{Root: root, Check: func(context.Context, string) error { return nil }}
		to, err := os.ReadFile(filepath.Join(root, "to"))
		if err != nil {
			t.Fatal(err)
		}
		if name := string(to); name != "" {
			_, err = s.Switch(t.Context(), Change{Release: strings.Repeat(name, 16), Binary: strings.Repeat("b"+name, 8), Service: Service{Kind: User}})
		} else {
			_, err = s.Rollback(t.Context(), 1)
		}
		t.Fatalf("it was not killed: %v", err)
	}
	// Its systemd kills who asks for a restart: the links are at the new release by then.
	bin := t.TempDir()
	for name, script := range map[string]string{"systemctl": "case $* in *restart*) kill -9 $PPID ;; *--version*) echo systemd 252 ;; esac", "loginctl": ""} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil { //nolint:gosec // it is executed
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		why, to       string // to: the release, or back
		runs, history string
	}{
		{why: "gone back from, it is no release to go back to", to: "", runs: "4", history: "1234"},
		{why: "deployed again, it is the newest: one goes back to what ran before it", to: "2", runs: "2", history: "1345"},
	} {
		s, _ := daemon(t, &api.Health{Plans: true})
		releases, err := s.History()
		if err != nil {
			t.Fatal(err)
		}
		service, err := json.Marshal(Service{Kind: User})
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{s.path(ServiceName): string(service), s.path("to"): c.to}
		for _, d := range releases {
			files[s.list(d.Release)] = "[]"
		}
		for path, text := range files {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$") //nolint:gosec // this test
		cmd.Env = append(os.Environ(), cutSite+"="+s.Root, "HOME="+t.TempDir(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err == nil || err.Error() != "signal: killed" {
			t.Fatalf("%s: %v\n%s", c.why, err, out)
		}
		history, err := s.History()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range history {
			names = append(names, d.Release[:1])
		}
		if runs := s.Running().Release; runs != strings.Repeat(c.runs, 16) || !slices.Equal(names, strings.Split(c.history, "")) {
			t.Errorf("%s: %s runs, and the history is %v; want %s, %s", c.why, runs, names, c.runs, c.history)
		}
	}
}

// A release that could not be left is still the newest, also where it does not run either.
func TestARollbackThatFailsLeavesTheHistoryAsItWas(t *testing.T) {
	t.Parallel()
	s, _ := daemon(t, &api.Health{Plans: true})
	s.Check = func(context.Context, string) error { return nil }
	before, err := s.History()
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{s.path(ServiceName): "{}", s.list(before[3].Release): "[]"} { // of no kind: it can neither be left nor kept
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Rollback(t.Context(), 1)
	if err != nil || r.Stuck == "" {
		t.Fatalf("it says %+v, %v", r, err)
	}
	after, err := s.History()
	if err != nil || !slices.EqualFunc(before, after, func(a, b Deployed) bool { return a.same(b) && a.At.Equal(b.At) }) || !s.Running().same(before[4]) {
		t.Errorf("%+v runs, and the history is %+v, %v; it was %+v", s.Running(), after, err, before)
	}
}

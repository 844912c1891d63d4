// Package service answers: what must a machine's service manager know to keep a
// daemon? It makes texts and changes nothing; who installs them is in system
// and site.
package service

import (
	"fmt"
	"strconv"
	"strings"
)

// Unit is a systemd service that keeps a daemon.
type Unit struct {
	Description string
	User        string   // empty: the manager's own, so root where it is the machine's
	Command     []string // the first word is an absolute path
	Environment []string // NAME=VALUE
	// After and Conflicts name other units: it starts after the first, and not
	// beside the second.
	After     []string
	Conflicts []string
	// PerUser says that it is for a user's own manager (systemctl --user).
	PerUser bool
	// Version is systemd's. Before 253 it has no notify-reload. 0: a newer one.
	Version int
}

// Version reads what systemctl --version says; 0: it does not say.
func Version(said string) int {
	fields := strings.Fields(said)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1]) // 0 then
	return n
}

// String gives the text of the unit's file.
func (u Unit) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=%s", literal(u.Description))
	// By the second those are there who are in no passwd: its own user, or jobs'.
	after, target := append([]string{"network-online.target", "nss-user-lookup.target"}, u.After...), "multi-user.target"
	if u.PerUser { // its manager knows no network
		after, target = u.After, "default.target"
	} else {
		line("Wants=network-online.target")
	}
	if len(after) > 0 {
		line("After=%s", strings.Join(after, " "))
	}
	if len(u.Conflicts) > 0 {
		line("Conflicts=%s", strings.Join(u.Conflicts, " "))
	}
	b.WriteString(patience)
	line("")
	line("[Service]")
	if u.Version > 0 && u.Version < 230 {
		line("StartLimitInterval=0")
	}
	if u.Version > 0 && u.Version < 253 {
		line("Type=notify")
		line("ExecReload=kill -HUP $MAINPID")
	} else {
		line("Type=notify-reload")
	}
	if u.User != "" {
		line("User=%s", literal(u.User))
	}
	for _, v := range u.Environment {
		line("Environment=%s", word(v))
	}
	words := make([]string, len(u.Command))
	for i, w := range u.Command {
		words[i] = strings.ReplaceAll(word(w), "$", "$$")
	}
	line("ExecStart=%s", strings.Join(words, " "))
	b.WriteString(keeping)
	line("")
	line("[Install]")
	line("WantedBy=%s", target)
	return b.String()
}

// patience keeps systemd from giving up: what keeps the daemon from starting may
// pass, as a full disk does.
const patience = `# However often it ends at once, it is started again.
StartLimitIntervalSec=0
`

// keeping is what makes the jobs outlive the daemon.
const keeping = `Restart=always
RestartSec=1
# Belfry ends; its keeper and the jobs go on, and the next daemon finds them.
KillMode=process
# A job that took too much memory is the job's end, not belfry's.
OOMPolicy=continue
# As many processes as the jobs need: cron has no limit either.
TasksMax=infinity
# Killed and started again when a loop hangs. The jobs notice nothing.
WatchdogSec=1min
`

// literal keeps systemd from expanding a text.
func literal(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// word is a text as one word of a systemd setting.
func word(text string) string {
	text = literal(text)
	if text != "" && !strings.ContainsAny(text, " \t\n\"'\\;") {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(text) + `"`
}

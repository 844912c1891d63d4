package crontab

import (
	"fmt"
	"slices"
	"strings"
)

// destinations returns where a command's output and its errors go: "" is to cron, "|" is to the next command.
func (c *simpleCommand) destinations() (out, err string) {
	if c.op == "|" {
		out = "|"
	}
	for _, r := range c.redirects {
		switch {
		case r.op == "&>" || r.op == "&>>" || r.op == ">&" && r.fd < 0 && strings.Trim(r.target.raw, "0123456789-") != "":
			out, err = r.target.text, r.target.text
		case r.op == ">&" && r.target.raw == "1" && r.fd == 2:
			err = out
		case r.op == ">&" && r.target.raw == "2" && r.fd != 2:
			out = err
		case r.op == ">" || r.op == ">>" || r.op == ">|":
			if r.fd == 2 {
				err = r.target.text
			} else if r.fd < 0 || r.fd == 1 {
				out = r.target.text
			}
		}
	}
	return out, err
}

// silent reports whether nothing that the commands print comes back to cron.
func (s *script) silent() bool {
	if !s.ok || len(s.commands) == 0 {
		return false
	}
	for i := range s.commands {
		c := &s.commands[i]
		out, err := c.destinations()
		switch c.name() {
		case "cd", "[", "test", "sleep", "true", "umask", "export", "set":
			continue
		}
		if out == "" || err == "" || c.depth > 0 {
			return false
		}
	}
	return true
}

// hiddenOutput finds a last command of which nobody sees anything.
func (l *linter) hiddenOutput(e *lintEntry) {
	n := len(e.shell.commands)
	if !e.shell.ok || n == 0 {
		return
	}
	c := &e.shell.commands[n-1]
	out, err := c.destinations()
	if out != "/dev/null" || err != "/dev/null" {
		return
	}
	if n > 1 {
		switch before := e.shell.commands[n-2]; {
		case before.op == "||": // what is done after a failure; the failure was seen
			return
		case base(c.name()) == "curl" || base(c.name()) == "wget": // says to a monitor that the job is well
			return
		}
	}
	for _, r := range c.redirects {
		if r.target.text == "/dev/null" {
			l.report(e.Line, e.in(r.at),
				"output and errors both go to /dev/null: when it fails, nothing tells anybody why",
				"leave the errors out of it (>/dev/null alone), or write both to a log file")
			return
		}
	}
}

// redirectOrder finds 2>&1 in front of >file: the errors go where the output went before.
func (l *linter) redirectOrder(e *lintEntry) {
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		for j, r := range c.redirects {
			if r.op != ">&" || r.fd != 2 || r.target.raw != "1" || c.op == "|" {
				continue
			}
			for _, later := range c.redirects[j+1:] {
				if (later.op == ">" || later.op == ">>") && later.fd != 2 && later.target.text != "/dev/null" {
					l.report(e.Line, e.in(r.at),
						fmt.Sprintf("2>&1 stands in front of %s%s, so the errors go where the output went before, and not into the file", later.op, later.target.raw),
						fmt.Sprintf("write %s%s 2>&1", later.op, later.target.raw))
					return
				}
			}
		}
	}
}

// pipeStatus finds a pipeline that ends in a program which succeeds whatever it is given.
func (l *linter) pipeStatus(e *lintEntry) {
	if !e.shell.ok || strings.Contains(e.Command, "pipefail") || strings.Contains(e.Command, "PIPESTATUS") {
		return
	}
	filters := []string{"tee", "logger", "gzip", "pigz", "bzip2", "xz", "zstd", "lz4", "ts", "cat", "mail", "mailx", "head", "tail", "sort", "gpg", "openssl", "split"}
	harmless := []string{"echo", "printf", "cat", "date", "yes", "true", ":"}
	first := 0
	for i := range e.shell.commands {
		c := &e.shell.commands[i]
		if !c.piped || i == 0 {
			first = i
			continue
		}
		name := base(c.name())
		if c.op == "|" || !slices.Contains(filters, name) || slices.Contains(harmless, base(e.shell.commands[first].name())) {
			continue
		}
		what := base(e.shell.commands[first].name())
		if what == "" {
			what = "what stands in front of it"
		}
		at := e.shell.commands[i-1].opAt
		l.report(e.Line, e.in(at),
			fmt.Sprintf("the pipeline ends as %s does: when %s fails, the run still counts as a success", name, what),
			"write SHELL=/bin/bash above the entry and begin the command with set -o pipefail;")
		return
	}
}

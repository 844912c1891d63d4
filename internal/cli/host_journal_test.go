//go:build host

package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// kept is what the journal keeps of a line, as far as it does not change with each.
type kept struct {
	Transport, Identifier, Facility, Priority, Message string
	PID                                                bool // it is there
}

// journal lists what journalctl finds, the oldest first.
func (d *debian) journal(args string) (list []kept) {
	d.t.Helper()
	for line := range strings.Lines(d.said("journalctl --sync; journalctl -q -o json --all " + args)) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			d.t.Fatalf("the journal has %q: %v", line, err)
		}
		field := func(name string) string {
			text, _ := entry[name].(string)
			return text
		}
		list = append(list, kept{
			field("_TRANSPORT"), field("SYSLOG_IDENTIFIER"), field("SYSLOG_FACILITY"), field("PRIORITY"), field("MESSAGE"),
			field("SYSLOG_PID") != "",
		})
	}
	return list
}

func TestTheJournalOfAHostWithSystemdKeepsBelfrysLinesAsCrons(t *testing.T) {
	t.Parallel()
	d := newDebian(t, systemd)
	d.packages()
	d.program()
	d.account("bell")
	const pipe = "/home/bell/minute"
	// What cron logs while a crontab is installed, runs, is changed, and runs.
	cron := func(by string) []kept {
		since := d.said("journalctl --sync; date +%s.%N")
		for _, word := range []string{"one", "two"} {
			d.do(fmt.Sprintf("echo '* * * * * echo %s höre > minute' | crontab -u bell -", word))
			for got := ""; !t.Failed() && !strings.HasPrefix(got, word); {
				got = d.next(pipe, by)
			}
		}
		d.do("crontab -u bell -l && crontab -u bell -r")
		return d.journal("SYSLOG_FACILITY=9 --since=@" + since)
	}
	want := cron("cron")
	d.do("/tmp/belfry install --system")
	d.is("systemctl is-active belfry", "active")
	got := cron("belfry")
	t.Logf("cron's lines\n%+v\nand belfry's\n%+v", want, got)
	order := func(list []kept) []kept { // a minute more or less makes no difference, nor who is first within one
		slices.SortFunc(list, func(a, b kept) int { return strings.Compare(a.Identifier+a.Message, b.Identifier+b.Message) })
		return slices.Compact(list)
	}
	if got, want := order(got), order(want); !slices.Equal(got, want) {
		t.Errorf("the journal keeps\n%+v\nof belfry, and\n%+v\nof cron", got, want)
	}
	const grep = `journalctl -q -t CRON --since=-10min | grep -c 'CRON\[[0-9]*\]: (bell) CMD (echo two h'`
	if n := d.said(grep); n == "0" || n == "1" {
		t.Errorf("who greps the journal finds %s lines, and none of belfry's", n)
	}

	// What belfry says itself has its rank.
	d.do("echo '* * * * 8 root true' > /etc/cron.d/wrong")
	d.do("systemd-run --quiet --wait --unit=nothing /tmp/belfry serve --crontab /nowhere || true")
	ranks := func(unit string) map[string]string {
		found := map[string]string{}
		for _, k := range d.journal("--since=-10min _TRANSPORT=stdout -u " + unit) {
			found[k.Message] = k.Priority
		}
		return found
	}
	wants := func(unit, what, priority string) {
		t.Helper()
		list := ranks(unit)
		for message, got := range list {
			if strings.HasPrefix(message, "<") {
				t.Errorf("the journal keeps %q", message)
			}
			if strings.Contains(message, what) {
				if got != priority {
					t.Errorf("%q has the priority %s, want %s", message, got, priority)
				}
				return
			}
		}
		t.Errorf("the journal of %s does not have %q: %v", unit, what, list)
	}
	d.until("the wrong line is told", time.Minute, func() (bool, string) {
		said := fmt.Sprint(ranks("belfry"))
		return strings.Contains(said, "/etc/cron.d/wrong"), said
	})
	wants("belfry", "/etc/cron.d/wrong", "4")
	wants("belfry", "msg=started", "6")
	wants("nothing", "belfry: ", "3")
}

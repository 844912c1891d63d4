package notify

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"belfry/internal/outbox"
)

func TestMailGoesToLocalUsersAndInTheirAbsenceToTheOwner(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		to      []string
		mailbox string
		want    string
	}{
		{nil, "", "alice"},
		{nil, "bob", "bob"},
		{[]string{"bob"}, "alice", "bob"},
		{[]string{"bob", "alice", "bob"}, "alice", "bob alice"},
		{[]string{"bob@localhost", "alice@belfry", "bob@belfry.example.com"}, "", "bob alice"},
		{[]string{"bob@gmail.com"}, "alice", "alice"},
		{[]string{"bob", "ann@gmail.com"}, "alice", "bob alice"},
		{[]string{"../../etc/passwd", "-x", ".bob", ""}, "alice", "alice"},
	} {
		m, dir := spool(t)
		msg := note("x\n")
		msg.To, msg.Mailbox = tt.to, tt.mailbox
		got, err := m.Send(t.Context(), item(t, "1", msg), noSave)
		var want result
		for name := range strings.FieldsSeq(tt.want) {
			want.Mailboxes = append(want.Mailboxes, filepath.Join(dir, name))
		}
		text, _ := json.Marshal(want)
		if err != nil || string(got) != string(text) {
			t.Errorf("to %q, else %q: result %s, %v; want %s", tt.to, tt.mailbox, got, err, text)
		}
		if names, _ := os.ReadDir(dir); len(names) != len(want.Mailboxes) {
			t.Errorf("to %q: in the folder are %v", tt.to, names)
		}
	}
}

func TestMailThatCanNeverBeDeliveredIsFinal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, want string }{
		{"../x", "cannot be the name of a mailbox"},
		{".x", "cannot be the name of a mailbox"},
		{"bob.lock", "cannot be the name of a mailbox"},
		{"ghost", `no user "ghost" on this machine to put the mail for ann@gmail.com in the mailbox of`},
		{"", "no user to put the mail"},
	} {
		m, dir := spool(t)
		msg := note("x\n")
		msg.To, msg.Mailbox, msg.User = []string{"ann@gmail.com"}, tt.name, tt.name
		_, err := m.Send(t.Context(), item(t, "1", msg), noSave)
		wantFinal(t, err, tt.want)
		if names, _ := os.ReadDir(dir); len(names) != 0 {
			t.Errorf("%q: in the folder are %v", tt.name, names)
		}
	}
	m, _ := spool(t)
	_, err := m.Send(t.Context(), outbox.Item{ID: "1", Payload: json.RawMessage(`{"to":7}`)}, noSave)
	wantFinal(t, err, "read notice 1")
}

func TestWhoHasTheMailIsNotSentItAgainWithThoseWhoDoNot(t *testing.T) {
	t.Parallel()
	m, dir := spool(t)
	msg := note("x\n")
	msg.To = []string{"alice", "bob"}
	it := item(t, "1", msg)
	save := func(p json.RawMessage) error { it.Progress = p; return nil }
	write(t, "", dir, "bob.lock")
	ctx, cancel := context.WithCancel(t.Context())
	m.waiting = func(string) { cancel() }
	if _, err := m.Send(ctx, it, save); err == nil || outbox.IsFinal(err) || !strings.Contains(err.Error(), "mail to bob: wait for") {
		t.Fatalf("got %v, want one that is tried again and names bob", err)
	}
	// Alice has read and removed it; then bob's mailbox is free.
	if err := errors.Join(os.Truncate(filepath.Join(dir, "alice"), 0), os.Remove(filepath.Join(dir, "bob.lock"))); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Send(t.Context(), it, save); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "alice"); got != "" {
		t.Errorf("alice got it again:\n%s", got)
	}
	if len(parse(t, filepath.Join(dir, "bob"))) != 1 {
		t.Error("bob did not get it")
	}
}

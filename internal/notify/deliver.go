package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"belfry/internal/outbox"
)

// A daemon that is root's writes the mailboxes of others as local delivery agents
// do (exim's, say): a child that is the mailbox's user, with the group mail for the
// sake of the folder and the dotlock. What a user may not write, or has no quota
// for, is not written for them by root.

// errand is what such a child is told.
type errand struct {
	Path string `json:"path"`
	ID   string `json:"id"`
	User string `json:"user"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	Mail []byte `json:"mail"`
}

// delivery is what it answers.
type delivery struct {
	Error string `json:"error,omitempty"`
	Final bool   `json:"final,omitempty"`
}

// Child is the body of the hidden command `belfry deliver`: it reads an errand from
// stdin, carries it out as whoever it runs as, and answers on stdout.
func Child(stdin io.Reader, stdout io.Writer) error {
	var e errand
	if err := json.NewDecoder(stdin).Decode(&e); err != nil {
		return fmt.Errorf("read what is to be delivered: %w", err)
	}
	m := New(Options{Log: slog.New(slog.DiscardHandler)})
	var d delivery
	if err := m.deliver(context.Background(), account{e.User, e.UID, e.GID}, e.Path, e.ID, e.Mail); err != nil {
		d = delivery{err.Error(), outbox.IsFinal(err)}
	}
	return json.NewEncoder(stdout).Encode(d)
}

// deliverAs is deliver in a child that is reader. Whoever may halt the child, its
// user, keeps nobody's mail waiting but what it waits for anyway.
func (m *Mailbox) deliverAs(ctx context.Context, reader account, path, id string, mail []byte) error {
	if err := prepare(path, reader); err != nil {
		return finalIfRefused(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*lockPatience)
	defer cancel()
	order, err := json.Marshal(errand{path, id, reader.name, reader.uid, reader.gid, mail})
	if err != nil {
		return err
	}
	gid, ok := mailGroup()
	if !ok {
		gid = reader.gid
	}
	var answer bytes.Buffer
	cmd := exec.CommandContext(ctx, m.child[0], m.child[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout = []string{}, "/", bytes.NewReader(order), &answer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // where the group is its user's own, they may have it leave somebody behind
	refusal, err := m.as(cmd, reader.uid, gid)
	if err != nil {
		return err
	}
	err = cmd.Run()
	if why := refusal(); why != nil {
		err = why
	}
	var d delivery
	switch {
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
	case json.Unmarshal(answer.Bytes(), &d) != nil:
		err = errors.New("it gave no answer")
	case d.Error == "":
		return nil
	case d.Final:
		return outbox.Final(errors.New(d.Error))
	default:
		return errors.New(d.Error)
	}
	return fmt.Errorf("deliver as %s: %w", reader.name, err)
}

// prepare makes a mailbox that is not there, empty, and its reader's: they may not
// be allowed to make files in its folder.
func prepare(path string, reader account) error {
	made := false
	b, err := openBox(path, reader, &made)
	if errors.Is(err, os.ErrExist) { // just made by somebody
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = b.f.Close() }() // nothing was written
	info, err := b.f.Stat()
	if err != nil {
		return fmt.Errorf("stat mailbox: %w", err)
	}
	if info.Size() > 0 {
		return nil
	}
	b.created = true // perhaps, and its name not yet on the disk: the child has not seen it made
	if err := b.own(reader); err != nil {
		return err
	}
	return b.sync()
}

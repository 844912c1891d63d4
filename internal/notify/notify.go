// Package notify answers: how does news about a run reach people? It sends the
// outbox's items of kind Notice: through the machine's mailer, as cron does, or
// into the mailbox of a local user, as cron and a mail server together would have
// done it.
//
// Nobody imports it but the daemon, which wires it to the outbox. Whether there
// is news, and for whom, is decided where a run changes its state.
package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"belfry/internal/outbox"
)

// Message is the payload of an outbox item of kind Notice. What a person or a
// job put into it may hold anything: nothing in it can add a header or a mail.
type Message struct {
	// From is a user name or MAILFROM; User when it is empty or unsafe, as in cron.
	From string `json:"from,omitempty"`
	// To are addresses or names of local users, as asked for: cron's MAILTO, or
	// mailto: without its scheme.
	To []string `json:"to,omitempty"`
	// Mailbox is the local user who gets the mail in the place of those in To who
	// are not local users, or when To is empty; User when it is empty.
	Mailbox string `json:"mailbox,omitempty"`

	// User, Host and Command make cron's subject: Cron <user@host> command. User
	// is the one that the job ran as.
	User    string `json:"user,omitempty"`
	Host    string `json:"host,omitempty"`
	Command string `json:"command,omitempty"`
	// Dir is where the mailer is started; empty: in the user's home.
	Dir string `json:"dir,omitempty"`
	// Debian says that the mail is Debian's cron's, not cronie's.
	Debian bool `json:"debian,omitempty"`
	// Subject is there instead of cron's when it is not empty.
	Subject string `json:"subject,omitempty"`

	// Env becomes X-Cron-Env lines. The caller has masked the secrets.
	Env []string `json:"env,omitempty"`
	// ContentType is text/plain; charset=UTF-8 when empty.
	ContentType string `json:"content_type,omitempty"`
	// TransferEncoding is 8bit when empty. As in cron it only names what the body
	// is said to be: nothing is encoded.
	TransferEncoding string `json:"transfer_encoding,omitempty"`

	// Intro are lines before the body that say what happened.
	Intro string `json:"intro,omitempty"`
	// Body is the text of the mail when Attempt is 0. In JSON it can only be
	// UTF-8; what an attempt printed is sent as it is.
	Body string `json:"body,omitempty"`
	// Attempt is the one of Run whose output is the body, read when the mail is
	// sent.
	Attempt int `json:"attempt,omitempty"`
	// BodyLimit is how many bytes of the body are sent, half of them from its
	// beginning and half from its end; 1 MiB when zero.
	BodyLimit int64 `json:"body_limit,omitempty"`

	// At is when the news is from, for the Date; when the item was made if zero.
	At time.Time `json:"at,omitzero"`
	// Run is the run that the news is about, for the Message-ID and for a hint
	// where to read what was cut.
	Run string `json:"run,omitempty"`
}

// Options are what a Mailbox needs. The zero value is the machine's own.
type Options struct {
	// Spool gives the folder of mailboxes as it is to be now; nil or empty: /var/mail.
	Spool func() string
	Log   *slog.Logger // slog.Default when nil
	// Mailer gives how mail about jobs of a user is handed to the machine's mailer;
	// nil, or no path in it: it goes into mailboxes.
	Mailer func(user string) (Mailer, error)
	// Lookup finds a user of this machine; the error is a user.UnknownUserError when
	// there is none.
	Lookup func(name string) (uid, gid int, err error)
	// As has a command run as a user, with a group. Child is how to execute Child: by
	// it root writes the mailboxes of others. Without As this process does.
	As    func(cmd *exec.Cmd, uid, gid int) (refusal func() error, err error)
	Child []string
	// Output gives what an attempt printed, without its secrets: all of it as
	// head when it is no longer than limit bytes, else its first and last half of
	// that. length is that of the whole.
	Output func(ctx context.Context, run string, attempt int, limit int64) (head, tail []byte, length int64, err error)
}

// Mailbox is the outbox.Sender that appends to the mailboxes of local users, or
// hands the mail to the machine's mailer where there is one.
type Mailbox struct {
	spool  func() string
	mailer func(user string) (Mailer, error)
	log    *slog.Logger
	output func(ctx context.Context, run string, attempt int, limit int64) (head, tail []byte, length int64, err error)
	lookup func(name string) (account, error)
	as     func(cmd *exec.Cmd, uid, gid int) (refusal func() error, err error)
	child  []string
	// waiting, when set, hears each time what Send waits for. For tests.
	waiting func(what string)

	noDotlock sync.Once // for one line in the log, not one a mail
}

var _ outbox.Sender = (*Mailbox)(nil)

// New returns a Mailbox.
func New(o Options) *Mailbox {
	return &Mailbox{
		spool:  o.folder,
		mailer: o.Mailer,
		log:    cmp.Or(o.Log, slog.Default()),
		output: o.Output,
		as:     o.As,
		child:  o.Child,
		lookup: func(name string) (account, error) {
			uid, gid, err := o.Lookup(name)
			return account{name, uid, gid}, err
		},
	}
}

func (o Options) folder() string {
	var set string
	if o.Spool != nil {
		set = o.Spool()
	}
	return cmp.Or(set, "/var/mail")
}

// progress is what Send keeps for its next try.
type progress struct {
	Done []string `json:"done,omitempty"` // users whose mailbox has the mail
}

// result is what an item that was sent keeps.
type result struct {
	Mailboxes []string `json:"mailboxes,omitempty"`
	Mailer    string   `json:"mailer,omitempty"` // its path, when it took the mail
}

// Send appends the message to the mailbox of everybody it is for, and returns
// when it is on the disk. A mailbox that has the mail already, known by its
// Message-ID, does not get it again. Refusals (a mailbox that is a link, or not
// its user's) are final; a full disk or a lock that is held is not.
func (m *Mailbox) Send(ctx context.Context, item outbox.Item, save func(progress json.RawMessage) error) (json.RawMessage, error) {
	var msg Message
	if err := json.Unmarshal(item.Payload, &msg); err != nil {
		return nil, outbox.Final(fmt.Errorf("read notice %s: %w", item.ID, err))
	}
	var state progress
	if len(item.Progress) > 0 {
		if err := json.Unmarshal(item.Progress, &state); err != nil {
			return nil, outbox.Final(fmt.Errorf("read progress of notice %s: %w", item.ID, err))
		}
	}
	if msg.At.IsZero() {
		msg.At = item.Created
	}
	body, err := m.body(ctx, msg)
	if err != nil {
		return nil, err
	}
	if m.mailer != nil {
		mailer, err := m.mailer(msg.User)
		if err != nil {
			return nil, err
		}
		if mailer.Path != "" {
			if err := mailer.hand(ctx, msg, cronsMail(msg, body)); err != nil {
				return nil, err
			}
			return json.Marshal(result{Mailer: mailer.Path})
		}
	}
	readers, err := m.readers(msg)
	if err != nil {
		return nil, err
	}
	id := messageID(msg.Run, item.ID, msg.Host)
	mail := mailboxMail(msg, id, body)

	var sent result
	var errs []error
	for _, reader := range readers {
		path := filepath.Join(m.spool(), reader.name)
		if !slices.Contains(state.Done, reader.name) {
			deliver := m.deliver
			if m.as != nil && os.Geteuid() == 0 && reader.uid != 0 {
				deliver = m.deliverAs
			}
			if err := deliver(ctx, reader, path, id, mail); err != nil {
				errs = append(errs, fmt.Errorf("mail to %s: %w", reader.name, err))
				continue
			}
			m.log.Info("mail delivered", "run", msg.Run, "mailbox", path)
			state.Done = append(state.Done, reader.name)
		}
		sent.Mailboxes = append(sent.Mailboxes, path)
	}
	if len(errs) > 0 {
		return nil, m.partly(errs, state, save)
	}
	return json.Marshal(sent)
}

// partly makes one error of those of several mailboxes: final when all are. For
// the next try it keeps who has the mail, because by then that may have been moved.
func (m *Mailbox) partly(errs []error, state progress, save func(json.RawMessage) error) error {
	final := true
	words := make([]string, len(errs))
	for i, err := range errs {
		final = final && outbox.IsFinal(err)
		words[i] = err.Error()
	}
	err := errs[0]
	if len(errs) > 1 {
		// Not wrapped: one of several that is final does not make the whole final.
		err = errors.New(strings.Join(words, "; "))
	}
	if final {
		return outbox.Final(err)
	}
	if len(state.Done) == 0 {
		return err
	}
	kept, saveErr := json.Marshal(state)
	if saveErr == nil {
		saveErr = save(kept)
	}
	if saveErr != nil {
		return fmt.Errorf("%w; and keep who has the mail: %v", err, saveErr)
	}
	return err
}

// account is a local user.
type account struct {
	name     string
	uid, gid int
}

// readers says in whose mailboxes msg goes: the local users among To, and the
// owner of Mailbox for the others.
func (m *Mailbox) readers(msg Message) ([]account, error) {
	var readers []account
	add := func(a account) {
		if !slices.Contains(readers, a) {
			readers = append(readers, a)
		}
	}
	elsewhere := len(msg.To) == 0
	for _, to := range msg.To {
		a, err := m.local(to, msg.Host)
		switch {
		case isUnknown(err):
			elsewhere = true
		case err != nil:
			return nil, err
		default:
			add(a)
		}
	}
	if !elsewhere {
		return readers, nil
	}
	name := cmp.Or(msg.Mailbox, msg.User)
	if err := checkUser(name); err != nil {
		return nil, outbox.Final(err)
	}
	a, err := m.lookup(name)
	if isUnknown(err) {
		return nil, outbox.Final(fmt.Errorf("no user %q on this machine to put the mail for %s in the mailbox of", name, strings.Join(msg.To, ",")))
	}
	if err != nil {
		return nil, err
	}
	add(a)
	return readers, nil
}

// local returns the user of this machine that an address is: by name alone, or
// at this host. Any other is a user.UnknownUserError.
func (m *Mailbox) local(address, host string) (account, error) {
	name, at, _ := strings.Cut(address, "@")
	short, _, _ := strings.Cut(host, ".")
	if at != "" && at != "localhost" && at != host && at != short {
		return account{}, user.UnknownUserError(address)
	}
	if checkUser(name) != nil {
		return account{}, user.UnknownUserError(address)
	}
	return m.lookup(name)
}

func isUnknown(err error) bool {
	var unknown user.UnknownUserError
	return errors.As(err, &unknown)
}

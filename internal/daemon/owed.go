package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"belfry/internal/job"
	"belfry/internal/notify"
	"belfry/internal/outbox"
	"belfry/internal/proc"
	"belfry/internal/project"
	"belfry/internal/publish"
	"belfry/internal/run"
	"belfry/internal/system"
)

// publishItem makes what a run owes to its targets.
func (d *Daemon) publishItem(j *job.Job, r run.Run, began time.Time, output string, targets []job.Target) outbox.Item {
	order := publish.Order{
		Job: j.Name, Run: r.ID, Attempt: r.Attempt, Began: began.UTC(), FiresAt: r.FiresAt.UTC(), Date: r.Date(),
		User: j.Owner, Output: output, Lock: filepath.Join(filepath.Dir(output), run.PublishLock), IfEmpty: j.IfEmpty,
		Targets: targets,
	}
	order.Release, _, _ = project.ReleaseAt(j.Dir)
	item := outbox.Item{Run: r.ID, Kind: outbox.Publish}
	for _, t := range targets {
		place := publish.Place(t.To)
		if d.o.System != nil { // who halts their publisher holds up no other user's, wherever that goes
			place = j.Owner + " " + place
		}
		item.Targets = append(item.Targets, place)
	}
	item.Payload = mustJSON(order)
	return item
}

// publishAs gives what publishes a run's output what the run had.
func publishAs(r *run.Runner) func(ctx context.Context, id string) (publish.Means, error) {
	return func(ctx context.Context, id string) (publish.Means, error) {
		env, user, hush, err := r.Environ(ctx, id)
		with := publish.Means{Env: env, Hush: hush}
		if user != nil {
			with.As = func(cmd *exec.Cmd) (func() error, error) { return proc.As(cmd, user) }
		}
		return with, err
	}
}

// whose gives the user of the machine whose item it is, or who gets root's mail, each
// of whom can have it wait; empty: what else root publishes, and what a daemon with
// one user does.
func (d *Daemon) whose(item outbox.Item) string {
	var of struct { // of a notify.Message and of a publish.Order
		User string
		To   []string
	}
	switch {
	case d.o.System == nil || json.Unmarshal(item.Payload, &of) != nil:
		return ""
	case of.User == "root":
		return strings.Join(of.To, ",")
	}
	return of.User
}

// notices makes what is owed to people for a piece of news: cron's mail for a
// crontab's entry, a notice of ours for the others.
func (d *Daemon) notices(n run.News) []outbox.Item {
	message := notify.Message{
		Mailbox: n.Job.Owner, User: n.Job.Owner, Host: d.o.Host.Name, Attempt: n.Attempt, At: n.At, Run: n.Run.ID,
	}
	if n.Job.Crontab {
		host, err := d.o.Host.Of(n.Job.Owner)
		if err != nil { // the user is gone, and with it the mailbox
			d.o.Log.Warn("nobody to tell about a run", "run", n.Run.ID, "job", n.Job.String(), "error", err)
			return nil
		}
		if !d.cronMail(&message, n, host) {
			return nil
		}
	} else {
		message.From, message.To = n.Job.Owner, n.Job.Notify.To
		message.Subject = fmt.Sprintf("[belfry] %s %s (%s)", n.Job.Name, told[n.Event], n.Run.Date())
		message.Intro = d.intro(n)
	}
	return []outbox.Item{{Run: n.Run.ID, Kind: outbox.Notice, Payload: mustJSON(message)}}
}

// told says an event in a subject.
var told = map[job.Event]string{
	job.OnFailure:  "failed",
	job.OnRecovery: "succeeded again",
	job.OnSuccess:  "succeeded",
	job.OnLate:     "is late",
	job.OnOutput:   "printed something",
}

// cronMail fills in cron's mail to the letter; false when there is none: MAILTO
// wants none, or the command has failed and printed nothing.
func (d *Daemon) cronMail(message *notify.Message, n run.News, host run.Host) bool {
	if d.o.Output != nil && d.o.System == nil {
		if _, err := os.Stat(cmp.Or(d.spool(), "/var/mail")); errors.Is(err, fs.ErrNotExist) {
			return false // as in most containers; what it would say is printed
		}
	}
	if info, err := os.Stat(n.Log); n.Event == job.OnFailure && n.State == run.Failed && n.Run.State == run.Running && (err != nil || info.Size() == 0) {
		return false
	}
	environ := run.CronEnviron(n.Job, host)
	message.Debian = host.Debian
	message.Command = n.Job.Command.Text
	if host.Debian && d.cron.level&system.LogFailures != 0 && n.State != run.Succeeded && n.State != run.Publishing {
		message.Command += " (failed)"
	}
	message.Dir, _ = environ.Lookup("HOME")
	message.From, _ = environ.Lookup("MAILFROM")
	if message.From != "" && !notify.SafeAddress(message.From, host.Debian) {
		d.cron.unsafe(host.User, message.From)
	}
	message.ContentType, _ = environ.Lookup("CONTENT_TYPE")
	message.TransferEncoding, _ = environ.Lookup("CONTENT_TRANSFER_ENCODING")
	if to, set := environ.Lookup("MAILTO"); set {
		if to == "" {
			return false
		}
		list, err := notify.ParseMailTo(to, host.Debian)
		if err != nil { // cron refuses to send it; we tell the owner
			message.Intro = fmt.Sprintf("MAILTO=%q cannot be used: %v", to, err)
			d.cron.unsafe(host.User, to)
		}
		message.To = list
	}
	if host.Debian { // it does not tell what PAM has set
		environ = run.CrontabEnviron(n.Job, host)
	}
	for _, v := range environ {
		value := v.Value
		if run.Secret(v.Name) {
			value = "***"
		}
		message.Env = append(message.Env, v.Name+"="+value)
	}
	if n.Event == job.OnFailure && n.Run.State == run.Publishing {
		message.Intro = "The command succeeded, but its output was not published: " + n.Reason
	}
	return true
}

func (d *Daemon) intro(n run.News) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s %s\n", name, value)
		}
	}
	line("job", n.Job.String())
	line("run", n.Run.ID)
	line("firing", n.Run.FiresAt.In(n.Job.Zone).Format("2006-01-02 15:04:05 MST"))
	line("state", string(n.State))
	line("reason", n.Reason)
	line("attempt", fmt.Sprint(n.Attempt))
	line("node", d.o.Host.Name)
	fmt.Fprintf(&b, "\nbelfry show %s tells more. Its output:\n", n.Run.ID)
	return b.String()
}

// mustJSON writes a value that consists of strings, numbers and times.
func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

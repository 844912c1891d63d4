package daemon

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"belfry/internal/job"
	"belfry/internal/notify"
	"belfry/internal/outbox"
	"belfry/internal/project"
	"belfry/internal/publish"
	"belfry/internal/run"
)

// publishItem makes what a run owes to its targets.
func (d *Daemon) publishItem(j *job.Job, r run.Run, output string, targets []job.Target) outbox.Item {
	order := publish.Order{
		Job: j.Name, Run: r.ID, Attempt: r.Attempt, FiresAt: r.FiresAt.UTC(), Date: r.Date(),
		Output: output, Lock: filepath.Join(filepath.Dir(output), "publish.lock"), IfEmpty: j.IfEmpty,
		Targets: targets,
	}
	order.Release, _, _ = project.ReleaseAt(j.Dir)
	item := outbox.Item{Run: r.ID, Kind: outbox.Publish}
	for _, t := range targets {
		item.Targets = append(item.Targets, publish.Place(t.To))
	}
	item.Payload = mustJSON(order)
	return item
}

// notices makes what is owed to people for a piece of news: cron's mail for a
// crontab's entry, a notice of ours for the others.
func (d *Daemon) notices(n run.News) []outbox.Item {
	message := notify.Message{
		Mailbox: n.Job.Owner, User: n.Job.Owner, Host: d.o.Host.Name, Attempt: n.Attempt, At: n.At, Run: n.Run.ID,
	}
	if n.Job.Crontab {
		if !cronMail(&message, n, d.o.Host) {
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
}

// cronMail fills in cron's mail to the letter; false when MAILTO wants none.
func cronMail(message *notify.Message, n run.News, host run.Host) bool {
	environ := run.CronEnviron(n.Job, host)
	message.Command = n.Job.Command.Text
	message.From, _ = environ.Lookup("MAILFROM")
	message.ContentType, _ = environ.Lookup("CONTENT_TYPE")
	message.TransferEncoding, _ = environ.Lookup("CONTENT_TRANSFER_ENCODING")
	if to, set := environ.Lookup("MAILTO"); set {
		if to == "" {
			return false
		}
		list, err := notify.ParseMailTo(to)
		if err != nil { // cron refuses to send it; we tell the owner
			message.Intro = fmt.Sprintf("MAILTO=%q cannot be used: %v", to, err)
		}
		message.To = list
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

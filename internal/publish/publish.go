// Package publish answers: how does a run's output reach its target whole, or
// not at all? It is the outbox's Sender of results. The work itself is done in a
// child process under the job's own environment, so that credentials are the
// job's and never the daemon's; the daemon wires the Sender, the hidden command
// `belfry publish` runs Child, and nobody else should import it. The protocol is
// DESIGN.md §6.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"belfry/internal/job"
	"belfry/internal/outbox"
)

// Order is the payload of an outbox item of the kind outbox.Publish: which
// output goes where.
type Order struct {
	// Job to Release are for the manifest.
	Job     string    `json:"job"`
	Run     string    `json:"run"`
	Attempt int       `json:"attempt"`
	Began   time.Time `json:"started_at,omitzero"` // of the attempt; zero: not known
	FiresAt time.Time `json:"fires_at"`
	Date    string    `json:"date"`
	Release string    `json:"release"`
	User    string    `json:"user"` // whom the job ran as

	Output string `json:"output"` // absolute path of $BELFRY_OUTPUT
	// Lock is the absolute path of a file beside Output. Whoever publishes it
	// holds a flock on that, so the child of a daemon that died and the child
	// of the next one never work at the same time.
	Lock    string       `json:"lock"`
	Targets []job.Target `json:"targets"`  // To is "s3://bucket/prefix/" or an absolute directory, expanded
	IfEmpty job.IfEmpty  `json:"if_empty"` // "" is IfEmptyError
}

// Result is what the Sender gives back for an item that was sent.
type Result struct {
	Targets    []Published  `json:"targets"`
	Superseded []Superseded `json:"superseded,omitempty"`
	Warnings   []string     `json:"warnings,omitempty"`
}

// Superseded is a target that was left as it is: there stands the set of a run of
// the same job that began later.
type Superseded struct {
	To  string `json:"to"`
	Run string `json:"run"`
}

// Published is what stands at one target now.
type Published struct {
	To       string `json:"to"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"`
	Manifest string `json:"manifest"` // the manifest's SHA-256, in hex
}

// Options are what a Sender needs.
type Options struct {
	// Command runs the child: {"/proc/self/exe", "publish"}.
	Command []string
	// Env gives what the child of a run works with. It is asked at each try and
	// stored nowhere.
	Env func(ctx context.Context, run string) (Means, error)
	// Progress, when there is one, is told how far a run's publish has come, at
	// most four times a second; it must not block.
	Progress func(run string, p Progress)
	Log      *slog.Logger // nil is no log
}

// Means are what a child works with.
type Means struct {
	Env []string // the whole environment of the run's job
	// As has the child, before it is started, run as whom the run ran as, and refusal
	// says afterwards why it could not be started; nil is the daemon's own user.
	As   func(cmd *exec.Cmd) (refusal func() error, err error)
	Hush func(text string) string // stars the secrets in what the child says; nil for none
}

// Progress is how far the work on one target has come. Files and Bytes count
// what has arrived, or was read back.
type Progress struct {
	Target     string `json:"target"`
	Files      int    `json:"files"`
	FilesTotal int    `json:"files_total"`
	Bytes      int64  `json:"bytes"`
	BytesTotal int64  `json:"bytes_total"`
}

// Sender is the outbox.Sender of results.
type Sender struct {
	o Options
}

// New returns a Sender.
func New(o Options) *Sender {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Sender{o}
}

var _ outbox.Sender = (*Sender)(nil)

// request is the first line that the child reads: an order to carry out, or a
// target to look at.
type request struct {
	Order   Order       `json:"order,omitzero"`
	Inspect *inspection `json:"inspect,omitempty"`
}

// renewed is the line that the child reads after each line of its own with Renew.
type renewed struct {
	Error string `json:"error,omitempty"`
}

// reply is a line that the child writes. The last one has Result, Inspection or
// Error.
type reply struct {
	Renew      bool        `json:"renew,omitempty"` // the claim, before it goes on
	Progress   *Progress   `json:"progress,omitempty"`
	Warning    string      `json:"warning,omitempty"`
	Result     *Result     `json:"result,omitempty"`
	Inspection *Inspection `json:"inspection,omitempty"`
	Error      string      `json:"error,omitempty"`
	Final      bool        `json:"final,omitempty"`
}

// Send implements outbox.Sender. That the child died, by a signal or because ctx
// ended, is never final: every step of a publish can be done again. Nothing need
// be known of earlier tries, so what is saved says only that this one goes on.
func (s *Sender) Send(ctx context.Context, item outbox.Item, save func(json.RawMessage) error) (json.RawMessage, error) {
	var order Order
	if err := json.Unmarshal(item.Payload, &order); err != nil {
		return nil, outbox.Final(fmt.Errorf("read publish order: %w", err))
	}
	answer, err := s.ask(ctx, order, request{Order: order}, func() error { return save(json.RawMessage("{}")) })
	if err != nil {
		return nil, err
	}
	if answer.Result == nil {
		return nil, errors.New("publisher answered another question")
	}
	for _, p := range answer.Result.Targets {
		s.o.Log.Info("published", "run", order.Run, "job", order.Job, "to", p.To, "files", p.Files, "bytes", p.Bytes)
	}
	return json.Marshal(answer.Result)
}

// ask starts a child in the environment of the order's job, and returns its
// answer to r.
func (s *Sender) ask(ctx context.Context, order Order, r request, renew func() error) (*reply, error) {
	with, err := s.o.Env(ctx, order.Run)
	if err != nil {
		return nil, fmt.Errorf("environment of run %s: %w", order.Run, err)
	}
	hush := with.Hush
	if hush == nil {
		hush = strings.Clone
	}
	log := s.o.Log.With("run", order.Run, "job", order.Job)

	childCtx, kill := context.WithCancel(ctx)
	defer kill()
	cmd := exec.CommandContext(childCtx, s.o.Command[0], s.o.Command[1:]...)
	cmd.Env = append([]string{}, with.Env...) // nil would be the daemon's environment
	cmd.Dir = "/"
	// A group of its own: Ctrl-C in a terminal is not for it, and what it starts
	// (a credential_process) goes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	stderr := &tail{log: log, hush: hush}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start publisher: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start publisher: %w", err)
	}
	refusal := func() error { return nil }
	if with.As != nil {
		if refusal, err = with.As(cmd); err != nil {
			return nil, fmt.Errorf("start publisher: %w", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start publisher: %w", err), refusal())
	}

	answer, talkErr := talk(stdin, stdout, r, hush, func(m reply) error {
		switch {
		case m.Renew:
			return renew()
		case m.Warning != "":
			log.Warn("publisher warns", "warning", m.Warning)
		case m.Progress != nil && s.o.Progress != nil:
			s.o.Progress(order.Run, *m.Progress)
		}
		return nil
	})
	if talkErr != nil && !hungUp(talkErr) {
		kill() // it does not understand us, or must not go on
	}
	_ = stdin.Close()
	waitErr := cmd.Wait()
	stderr.flush()
	if why := refusal(); why != nil {
		return nil, fmt.Errorf("start publisher: %w", why)
	}
	switch {
	case answer != nil && answer.Error == "":
		return answer, nil
	case answer != nil && answer.Final:
		return nil, outbox.Final(errors.New(answer.Error))
	case answer != nil:
		return nil, errors.New(answer.Error)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("publishing was interrupted: %w", context.Cause(ctx))
	case talkErr != nil && !hungUp(talkErr):
		return nil, talkErr
	case waitErr != nil:
		return nil, fmt.Errorf("publisher ended without an answer: %w%s", waitErr, stderr.said())
	}
	return nil, fmt.Errorf("publisher ended without an answer%s", stderr.said())
}

// mostSaid is how many bytes of a child are listened to.
const mostSaid = 256 << 20

// talk speaks with a child until its answer. hear is told what it says before,
// and may fail at a Renew. All its sentences go through hush.
func talk(stdin io.Writer, stdout io.Reader, r request, hush func(string) string, hear func(reply) error) (*reply, error) {
	// The child runs as the job's user, who may be able to speak in its place.
	enc, dec := json.NewEncoder(stdin), json.NewDecoder(io.LimitReader(stdout, mostSaid))
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("write to publisher: %w", err)
	}
	for {
		var m reply
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("read from publisher: %w", err)
		}
		m.hush(hush)
		if m.Result != nil || m.Inspection != nil || m.Error != "" {
			return &m, nil
		}
		if err := hear(m); err != nil {
			return nil, fmt.Errorf("renew the claim: %w", err)
		}
		if m.Renew {
			if err := enc.Encode(renewed{}); err != nil {
				return nil, fmt.Errorf("write to publisher: %w", err)
			}
		}
	}
}

func (m *reply) hush(hush func(string) string) {
	m.Error, m.Warning = hush(m.Error), hush(m.Warning)
	if m.Result != nil {
		for i, text := range m.Result.Warnings {
			m.Result.Warnings[i] = hush(text)
		}
	}
	if m.Inspection != nil {
		for i, text := range m.Inspection.Problems {
			m.Inspection.Problems[i] = hush(text)
		}
		for i, name := range m.Inspection.Foreign {
			m.Inspection.Foreign[i] = hush(name)
		}
	}
}

// hungUp reports whether err of a pipe says no more than that the other end is gone.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed)
}

// tail hands lines to a log and keeps the last of them.
type tail struct {
	log  *slog.Logger
	hush func(string) string
	mu   sync.Mutex
	part []byte   // guarded by mu
	last []string // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, whole := strings.Cut(string(rest), "\n")
		t.part = append(t.part, line...)
		if whole || len(t.part) > 4096 {
			t.end()
		}
		rest = []byte(after)
	}
	return len(p), nil
}

// end closes the line that is open. The caller holds mu.
func (t *tail) end() {
	if len(t.part) == 0 {
		return
	}
	line := t.hush(string(t.part))
	t.part = t.part[:0]
	t.log.Warn("publisher says", "line", line)
	t.last = append(t.last, line)
	if len(t.last) > 5 {
		t.last = t.last[1:]
	}
}

func (t *tail) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// said is what the child wrote last, as the end of an error.
func (t *tail) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == 0 {
		return ""
	}
	return ": " + strings.Join(t.last, " | ")
}

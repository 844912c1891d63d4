package run_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/run"
	"belfry/internal/secrets"
	"belfry/internal/store"
)

func TestAPersonMayHaveARunTriedOnceMore(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{Code: 3})
		s.want(id, run.Failed, "exit status 3")
		s.later(48 * time.Hour)
		if err := s.runner.Retry(s.t.Context(), id, alice); err != nil {
			s.t.Fatal(err)
		}
		r := s.want(id, run.Running, "")
		if r.Attempt != 2 || !r.AskedAt.Equal(time.Now()) || !r.StartedAt.Equal(time.Now()) { // what it takes is not counted from the first
			s.t.Errorf("it runs as %+v", r)
		}
		var refused *run.RetryError
		if err := s.runner.Retry(s.t.Context(), id, alice); !errors.As(err, &refused) {
			s.t.Errorf("a running run is tried again: %v", err)
		}
		s.exits(id, proc.Exit{})
		s.want(id, run.Succeeded, "")
		if err := s.runner.Retry(s.t.Context(), id, alice); !errors.As(err, &refused) {
			s.t.Errorf("a run that succeeded is tried again: %v", err)
		}
		if err := s.runner.Retry(s.t.Context(), "nobody", alice); !errors.Is(err, run.ErrNotFound) {
			s.t.Errorf("a run that is not there: %v", err)
		}
	}, simple("a"))
}

func TestARetryThatAPersonAskedForWaitsItsTurn(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		s.exits(first, proc.Exit{Code: 3})
		second := s.queue("a", time.Now().Add(time.Hour))
		if err := s.runner.Retry(s.t.Context(), first, alice); err != nil {
			s.t.Fatal(err)
		}
		s.want(first, run.Queued, "turn: run "+second+" has not ended")
		s.exits(second, proc.Exit{})
		s.want(first, run.Running, "")
	}, simple("a"))
}

func TestARunThatAPersonMendsHasRecovered(t *testing.T) {
	play(t, func(s *scene) {
		first := s.queue("a", time.Now())
		s.exits(first, proc.Exit{})
		s.tells()
		second := s.queue("a", time.Now())
		s.exits(second, proc.Exit{Code: 3})
		s.tells("failure failed")
		if err := s.runner.Retry(s.t.Context(), second, alice); err != nil {
			s.t.Fatal(err)
		}
		s.want(second, run.Running, "")
		s.exits(second, proc.Exit{})
		s.want(second, run.Succeeded, "")
		s.tells("failure failed", "recovery succeeded")
	}, with(simple("a"), func(j *job.Job) { j.Notify.On = []job.Event{job.OnFailure, job.OnRecovery} }))
}

func TestAPublishThatAPersonMendsHasRecovered(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{})
		s.refuse(id)
		if err := s.runner.PublishAgain(s.t.Context(), id, alice); err != nil {
			s.t.Fatal(err)
		}
		item, err := s.store.PublishOf(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		item.State, item.Result = outbox.Sent, json.RawMessage(`[]`)
		if err := s.runner.Published(s.t.Context(), item, nil); err != nil {
			s.t.Fatal(err)
		}
		s.tells("failure failed", "recovery succeeded")
	}, with(publisher("a"), func(j *job.Job) { j.Notify.On = []job.Event{job.OnFailure, job.OnRecovery} }))
}

// refuse ends the publish that a run owes, as one that its target refuses.
func (s *scene) refuse(id string) {
	s.t.Helper()
	item, err := s.store.PublishOf(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	item.State, item.Error = outbox.Refused, "no such bucket"
	if err := s.runner.Published(s.t.Context(), item, errors.New(item.Error)); err != nil {
		s.t.Fatal(err)
	}
	s.want(id, run.Failed, "no such bucket")
}

// redefine changes a job as an edit of its file does.
func (s *scene) redefine(name string, change func(j *job.Job)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.jobs[s.keys[name]]
	settings := *p.Settings
	edited := *p.Job
	edited.Settings = &settings
	change(&edited)
	p.Job = &edited
	s.jobs[s.keys[name]] = p
}

func TestARefusedPublishIsMadeAgainWithoutAnotherAttempt(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC))
		s.exits(id, proc.Exit{})
		s.refuse(id)
		s.later(48 * time.Hour)
		s.restart()
		s.redefine("a", func(j *job.Job) { // the next attempt would go elsewhere, and otherwise
			j.Publish, j.IfEmpty = []job.Target{{To: "/pond", Mode: job.ModeReplace}}, job.IfEmptyOK
		})
		if err := s.runner.PublishAgain(s.t.Context(), id, alice); err != nil {
			s.t.Fatal(err)
		}
		r := s.want(id, run.Publishing, "")
		if r.Attempt != 1 || !r.EndedAt.IsZero() || !r.AskedAt.Equal(time.Now()) || !r.StartedAt.Equal(time.Now()) || r.ExitCode == nil || *r.ExitCode != 0 {
			s.t.Errorf("it is published as %+v", r)
		}
		s.starts(1)
		if want := []string{"/lake/2026-07-09", "/lake/2026-07-09 replace ok"}; !slices.Equal(s.ordered, want) {
			s.t.Errorf("to be published were %q, want %q", s.ordered, want)
		}
		item, err := s.store.PublishOf(s.t.Context(), id)
		if err != nil || item.Tries != 0 || !item.Created.Equal(time.Now()) || string(item.Payload) != fmt.Sprintf("%q", filepath.Join(s.dir, id, "1", "output")) {
			s.t.Errorf("it owes %+v, %v", item, err)
		}
		item.State, item.Result = outbox.Sent, json.RawMessage(`[]`)
		if err := s.runner.Published(s.t.Context(), item, nil); err != nil {
			s.t.Fatal(err)
		}
		s.want(id, run.Succeeded, "")
	}, publisher("a"))
}

func TestWhatIsPublishedAgainHasTheOptionsAndTheEnvironmentOfToday(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("AWS_PROFILE=lake\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	play(t, func(s *scene) {
		id := s.queue("a", time.Date(2026, 7, 9, 16, 0, 0, 0, time.UTC))
		s.exits(id, proc.Exit{})
		s.refuse(id)
		mend := func(key string) {
			s.redefine("a", func(j *job.Job) { // its credentials are in a file that it did not have
				j.EnvFile, j.Env = file, []crontab.Var{{Name: "KEY", Value: "alias/lake"}}
				j.Publish = []job.Target{{To: "/lake/$BELFRY_DATE", KMSKey: key, Metadata: map[string]string{"made": "for-$BELFRY_DATE"}}}
			})
		}
		mend("$MISSING")
		var refused *run.RetryError
		if err := s.runner.PublishAgain(s.t.Context(), id, alice); !errors.As(err, &refused) || !strings.Contains(err.Error(), "$MISSING is not set") {
			s.t.Errorf("with an option that cannot be read: %v", err)
		}
		s.want(id, run.Failed, "no such bucket")
		mend("$KEY")
		if err := s.runner.PublishAgain(s.t.Context(), id, alice); err != nil {
			s.t.Fatal(err)
		}
		if got, want := s.ordered[len(s.ordered)-1], "/lake/2026-07-09 alias/lake for-2026-07-09"; got != want {
			s.t.Errorf("to be published is %q, want %q", got, want)
		}
		env, _, _, err := s.runner.Environ(s.t.Context(), id)
		if err != nil || !slices.Contains(env, "AWS_PROFILE=lake") || !slices.Contains(env, "KEY=alias/lake") {
			s.t.Errorf("its publisher's environment is %q, %v", env, err)
		}
		s.redefine("a", func(j *job.Job) { j.Owner = "bob" })
		if env, _, _, err := s.runner.Environ(s.t.Context(), id); err != nil || slices.Contains(env, "AWS_PROFILE=lake") {
			s.t.Errorf("with what is another's since, it is %q, %v", env, err)
		}
	}, publisher("a"))
}

func TestNothingIsPublishedAgainThatWouldWriteDownASecret(t *testing.T) {
	dir := t.TempDir()
	file := secrets.File{Path: filepath.Join(dir, secrets.FileName), Key: filepath.Join(dir, "key")}
	if _, err := file.Change(nil, func(set *secrets.Set) error { return set.Put("API_TOKEN", "hunter22") }); err != nil {
		t.Fatal(err)
	}
	play(t, func(s *scene) {
		s.key = file.Key
		s.restart()
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{})
		s.refuse(id)
		s.redefine("a", func(j *job.Job) {
			j.Secrets, j.SecretsFile = []string{"API_TOKEN"}, file.Path
			j.Publish = []job.Target{{To: "/lake/$BELFRY_DATE", Metadata: map[string]string{"made": "by-$API_TOKEN"}}}
		})
		var refused *run.RetryError
		err := s.runner.PublishAgain(s.t.Context(), id, alice)
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "metadata made holds the secret API_TOKEN") || strings.Contains(err.Error(), "hunter22") {
			s.t.Errorf("got %v", err)
		}
		s.want(id, run.Failed, "no such bucket")
	}, publisher("a"))
}

func TestOnlyAPublishThatWasRefusedIsMadeAgain(t *testing.T) {
	published := func(s *scene) string {
		id := s.queue("a", time.Now())
		s.exits(id, proc.Exit{})
		return id
	}
	for _, c := range []struct {
		why  string
		make func(s *scene) string
		want string
	}{
		{"it is under way", published, "is being published already"},
		{"it was given up", func(s *scene) string {
			id := published(s)
			if err := s.runner.Stop(s.t.Context(), id, false, alice); err != nil {
				s.t.Fatal(err)
			}
			return id
		}, "was given up: stopped by a person"},
		{"it runs", func(s *scene) string { return s.queue("a", time.Now()) }, "is running: only one that failed"},
		{"the command failed", func(s *scene) string {
			id := s.queue("a", time.Now())
			s.exits(id, proc.Exit{Code: 3})
			return id
		}, "did not fail in publishing: exit status 3"},
		{"the command took too long, and ended well", func(s *scene) string {
			id := s.queue("a", time.Now())
			s.exits(id, proc.Exit{TimedOut: true})
			return id
		}, "did not fail in publishing: timeout"},
		{"a later attempt failed", func(s *scene) string {
			id := published(s)
			s.refuse(id)
			if err := s.runner.Retry(s.t.Context(), id, alice); err != nil {
				s.t.Fatal(err)
			}
			s.want(id, run.Running, "")
			s.exits(id, proc.Exit{Code: 4})
			return id
		}, "did not fail in publishing: exit status 4"},
		{"its output is gone", func(s *scene) string {
			id := published(s)
			s.refuse(id)
			if err := os.RemoveAll(filepath.Join(s.dir, id, "1", "output")); err != nil {
				s.t.Fatal(err)
			}
			return id
		}, "is gone: there is no folder "},
		{"its job is gone", func(s *scene) string {
			id := published(s)
			s.refuse(id)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.jobs = map[string]plan.Job{}
			return id
		}, "was removed"},
	} {
		t.Run(c.why, func(t *testing.T) {
			play(t, func(s *scene) {
				id := c.make(s)
				before, n := s.read(id), len(s.items(id))
				var refused *run.RetryError
				if err := s.runner.PublishAgain(s.t.Context(), id, alice); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), id) {
					s.t.Errorf("got %v, want it refused: %q", err, c.want)
				}
				if after := s.read(id); after.State != before.State || len(s.items(id)) != n {
					s.t.Errorf("it was %s and is %s; it owed %d items and owes %d", before.State, after.State, n, len(s.items(id)))
				}
			}, publisher("a"))
		})
	}
}

func TestWhatAPersonDoesToARunIsNoted(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		do := func(f func() error) {
			s.t.Helper()
			if err := f(); err != nil {
				s.t.Fatal(err)
			}
			s.later(time.Second) // each has a time of its own
		}
		do(func() error { return s.runner.Stop(s.t.Context(), id, false, alice) })
		do(func() error { return s.runner.Stop(s.t.Context(), id, true, run.Person{UID: 0, Name: "root"}) })
		s.exits(id, proc.Exit{Signal: "SIGKILL", Stopped: true})
		do(func() error { return s.runner.Retry(s.t.Context(), id, alice) })
		s.exits(id, proc.Exit{})
		s.refuse(id)
		do(func() error { return s.runner.PublishAgain(s.t.Context(), id, alice) })
		do(func() error { return s.runner.Stop(s.t.Context(), id, false, alice) })
		if err := s.runner.PublishAgain(s.t.Context(), id, alice); err == nil {
			s.t.Error("what was given up is published")
		}
		acts, err := s.store.Acts(s.t.Context(), store.ActFilter{Run: id})
		if err != nil {
			s.t.Fatal(err)
		}
		var got []string
		for _, a := range slices.Backward(acts) {
			got = append(got, a.Name+" "+string(a.Action))
		}
		if want := []string{"alice stop", "root stop --kill", "alice retry", "alice retry --publish", "alice stop"}; !slices.Equal(got, want) {
			s.t.Errorf("noted are %q, want %q", got, want)
		}
	}, publisher("a"))
}

func TestARunIsStoppedThoughNobodyCanWriteDownByWhom(t *testing.T) {
	play(t, func(s *scene) {
		id := s.queue("a", time.Now())
		s.store.mu.Lock()
		s.store.fail["Act"] = 1
		s.store.mu.Unlock()
		if err := s.runner.Stop(s.t.Context(), id, false, alice); err != nil {
			s.t.Error(err)
		}
		if want := []string{id + "/1 stop"}; !slices.Equal(s.procs.signals, want) {
			s.t.Errorf("the keeper was told %v, want %v", s.procs.signals, want)
		}
	}, simple("a"))
}

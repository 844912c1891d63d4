package project

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"belfry/crontab"
	"belfry/internal/job"
)

func TestWhatIsWrittenIsReadAsItWas(t *testing.T) {
	t.Parallel()
	seoul, err := time.LoadLocation("Asia/Seoul")
	if err != nil {
		t.Fatal(err)
	}
	base := job.Settings{
		Owner: "root", Zone: seoul, Dir: "/srv/a b", KillAfter: 10 * time.Second, CatchUp: job.CatchUpNone, Overlap: job.OverlapAllow,
		Retry: job.DefaultRetry, IfEmpty: job.IfEmptyError, Notify: job.Notify{On: []job.Event{job.OnOutput}},
	}
	nightly, other, odd := base, base, base
	nightly.Env = []crontab.Var{{Name: "PATH", Value: "/bin"}, {Name: "A", Value: "a: b # c"}}
	other.Zone, other.Env = time.UTC, []crontab.Var{{Name: "PATH", Value: "/bin"}}
	other.Timeout, other.Retry.Attempts, other.Umask, other.Nice, other.LogLimit = 90*time.Minute, 3, "027", -5, -1
	other.Notify = job.Notify{To: []string{"me@example.com", "root"}, On: []job.Event{job.OnFailure, job.OnLate}}
	other.CatchUp, other.CatchUpWindow, other.FinishBy, other.StartWithin = job.CatchUpLatest, 48*time.Hour, time.Hour, time.Minute
	odd.Notify.On, odd.Dir = nil, "/"
	odd.Env = []crontab.Var{{Name: "PATH", Value: "/bin"}, {Name: "B", Value: "yes"}}
	want := []*job.Job{
		{
			ID: job.ID{Project: "p", Name: "nightly"}, Settings: &nightly, Schedules: []crontab.Schedule{crontab.MustParseSchedule("0 1 * * *")},
			Command: job.Command{Text: "echo 'it''s' \"$HOME\" # 아이유 \\ \x01 " + strings.Repeat("long ", 100), Shell: "/bin/sh"}, Stdin: "one\n\n  two: [\nlast",
		},
		{
			ID: job.ID{Project: "p", Name: "other"}, Settings: &other, Schedules: []crontab.Schedule{crontab.MustParseSchedule("@reboot"), crontab.MustParseSchedule("*/5 * * * *")},
			Command: job.Command{Args: []string{"/bin/bash", "-c", "true\nfalse", "", "no", "1e3"}},
		},
		{ID: job.ID{Project: "p", Name: "odd"}, Settings: &odd, Schedules: []crontab.Schedule{crontab.MustParseSchedule("0 2 * * sun")}, Command: job.Command{Text: "yes", Shell: "/bin/sh"}, Stdin: "\n"},
	}
	draft := Draft{Comment: "Two\nlines.", Zone: seoul}
	for _, j := range want {
		draft.Jobs = append(draft.Jobs, DraftJob{j, "of " + j.Name})
	}
	text, err := draft.Text()
	if err != nil {
		t.Fatal(err)
	}
	read, err := Parse(text, "/p/belfry.yaml", Defaults{Owner: "root", Zone: time.UTC})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for i, j := range read.Jobs {
		got, want := *j, *want[i]
		if got.Definition().Hash != want.Definition().Hash {
			t.Errorf("%s is read as\n%s\nand was\n%s", want.Name, got.Definition().JSON, want.Definition().JSON)
		}
		env := map[string]string{}
		for _, v := range got.Env {
			env[v.Name] = v.Value
		}
		for _, v := range want.Env {
			if env[v.Name] != v.Value {
				t.Errorf("%s: %s is %q, want %q", want.Name, v.Name, env[v.Name], v.Value)
			}
		}
		if diff := cmp.Diff(want.Env, got.Env); len(got.Env) != len(want.Env) {
			t.Errorf("%s: env (-want +got):\n%s", want.Name, diff)
		}
	}
	for _, comment := range []string{"# Two\n# lines.\n", "# of nightly\n  nightly:"} {
		if !strings.Contains(string(text), comment) {
			t.Errorf("there is no %q in\n%s", comment, text)
		}
	}
}

func TestWhatABelfryYamlCannotHoldIsNotWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		job  job.Job
		want string
	}{
		{"bytes that are no text", job.Job{Command: job.Command{Text: "echo \xff"}}, "not UTF-8"},
		{"a name that is ours", job.Job{Settings: &job.Settings{Env: []crontab.Var{{Name: "BELFRY_RUN", Value: "x"}}}}, `"BELFRY_RUN" cannot be`},
		{"a name with a blank", job.Job{Settings: &job.Settings{Env: []crontab.Var{{Name: "a b", Value: "x"}}}}, `"a b" cannot be`},
	} {
		if c.job.Settings == nil {
			c.job.Settings = &job.Settings{}
		}
		c.job.Zone, c.job.Name = time.UTC, "j"
		if _, err := (Draft{Zone: time.UTC, Jobs: []DraftJob{{&c.job, ""}}}).Text(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want an error with %q", c.why, err, c.want)
		}
	}
}

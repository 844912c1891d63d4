package project

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
)

var update = flag.Bool("update", false, "write the golden files anew")

func defaults(t testing.TB) Defaults {
	t.Helper()
	zone, err := job.LoadZone("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	return Defaults{Owner: "me", Zone: zone, Now: time.Date(2026, 7, 10, 12, 0, 0, 0, time.UTC), Home: "/home/me"}
}

// parse reads a text that stands in a folder called shop.
func parse(t testing.TB, text string) (*Project, error) {
	t.Helper()
	return Parse([]byte(text), "/srv/shop/belfry.yaml", defaults(t))
}

func parsed(t testing.TB, text string) *Project {
	t.Helper()
	p, err := parse(t, text)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return p
}

// wants checks the errors of a text, without the name of the file.
func wants(t testing.TB, why, text, want string) {
	t.Helper()
	_, err := parse(t, text)
	if err == nil {
		t.Errorf("%s: %q is read, want %s", why, text, want)
		return
	}
	if got := strings.ReplaceAll(err.Error(), "/srv/shop/belfry.yaml:", ""); got != want {
		t.Errorf("%s: %q\n got %s\nwant %s", why, text, got, want)
	}
}

func TestTheExampleIsRead(t *testing.T) {
	t.Parallel()
	p, err := Load(filepath.Join("..", "..", "examples", "ttandaudio", FileName), defaults(t))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "ttandaudio" || p.Zone.String() != "Asia/Seoul" || len(p.Jobs) != 2 || !filepath.IsAbs(p.Dir) || filepath.Base(p.Dir) != "ttandaudio" {
		t.Fatalf("got %+v", p)
	}
	top, related := p.Jobs[0], p.Jobs[1]
	if top.String() != "ttandaudio/top-tracks" || top.Owner != "me" || top.Timeout != 30*time.Minute || !reflect.DeepEqual(top.Retry, job.Retry{Attempts: 3, Backoff: time.Minute, MaxBackoff: time.Hour}) {
		t.Errorf("top-tracks is %+v", top)
	}
	if want := []job.Target{{From: "top-tracks", To: "lake/top-tracks/dt=$BELFRY_DATE/"}, {From: "audio-features", To: "lake/audio-features/dt=$BELFRY_DATE/"}}; !reflect.DeepEqual(top.Publish, want) {
		t.Errorf("top-tracks publishes %+v, want %+v", top.Publish, want)
	}
	if got := top.Next(time.Date(2024, 5, 15, 0, 0, 0, 0, time.UTC)).UTC().Format(time.RFC3339); got != "2024-05-15T16:00:00Z" {
		t.Errorf("top-tracks fires at %s, want one in the morning in Seoul", got)
	}
	if !slices.Equal(related.After, []string{"top-tracks"}) || len(related.Inherited) != 1 || !related.Inherited[0].Equal(top.Rhythms()[0]) || related.Schedules != nil || related.Timeout != 30*time.Minute {
		t.Errorf("related-artists is %+v", related)
	}
	if want := []job.Target{{To: "lake/related-artists/dt=$BELFRY_DATE/"}}; !reflect.DeepEqual(related.Publish, want) {
		t.Errorf("related-artists publishes %+v, want %+v", related.Publish, want)
	}
}

func TestTheDocumentedFileIsReadAndHoldsEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", FileName))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // where the files are that it names
	for name, content := range map[string][]byte{FileName: text, "requirements.txt": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Load(filepath.Join(dir, FileName), defaults(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range (&parser{}).jobKeys(&job.Job{Settings: &job.Settings{}}) {
		if !strings.Contains(string(text), "\n    "+k.name+":") {
			t.Errorf("the key %q of a job is not documented", k.name)
		}
	}
	j := p.Jobs[0]
	if j.CatchUpWindow != job.DefaultCatchUpWindow || j.StartWithin != 10*time.Minute || j.FinishBy != 2*time.Hour || !slices.Equal(j.Retry.OnExit, []int{75, 1}) ||
		j.Python != (job.Python{Requirements: filepath.Join(dir, "requirements.txt"), Version: ">=3.9,<3.14"}) || !slices.Equal(j.Pools, []string{"api"}) || j.Umask != "027" || j.Nice != 5 || j.LogLimit != job.DefaultLogLimit {
		t.Errorf("got %+v", j.Settings)
	}
	limits := []job.Limit{{Resource: "open_files", Value: 1024}, {Resource: "processes", Value: 500}, {Resource: "file_size", Value: 2 << 30}, {Resource: "core_size"}, {Resource: "cpu_time", Value: 1800}, {Resource: "memory", Value: 4 << 30}, {Resource: "stack", Value: 16 << 20}}
	if !slices.Equal(j.Limits, limits) {
		t.Errorf("limits %+v, want %+v", j.Limits, limits)
	}
	if want := []Host{{"prod", "ec2-user@ec2-3-35-0-1.ap-northeast-2.compute.amazonaws.com", "/home/me/.ssh/key-pair.pem", "music"}}; !slices.Equal(p.Hosts, want) {
		t.Errorf("the hosts are %+v, want %+v", p.Hosts, want)
	}
	want := Daemon{
		Slots: 8, Pools: map[string]int{"api": 2}, Listen: "127.0.0.1:8080", MailSpool: "/var/mail", PublishPatience: 24 * time.Hour,
		Retention: Retention{Age: DefaultRetention.Age, FailedAge: DefaultRetention.FailedAge, PerJob: 1000},
	}
	if !reflect.DeepEqual(p.Daemon, want) {
		t.Errorf("the daemon's settings are %+v, want %+v", p.Daemon, want)
	}
}

func TestRetentionKeepsFailedRunsAtLeastAsLong(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for text, want := range map[string]Retention{
		"{}":                                  {90 * day, 365 * day, 0},
		"{age: 30d}":                          {30 * day, 365 * day, 0},
		"{age: 1000d}":                        {1000 * day, 1000 * day, 0},
		"{age: forever}":                      {Forever, Forever, 0},
		"{failed_age: forever, runs: 5}":      {90 * day, Forever, 5},
		"{age: 2d, failed_age: 2d}":           {2 * day, 2 * day, 0},
		"{age: forever, failed_age: forever}": {Forever, Forever, 0},
	} {
		if got := parsed(t, "daemon: {retention: "+text+"}\njobs: {a: {command: x}}\n").Daemon.Retention; got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	wants(t, "failed runs would go first", "daemon: {retention: {age: forever, failed_age: 1d}}\njobs: {a: {command: x}}\n",
		"1:48: failed runs are what one looks for later: failed_age cannot be shorter than age")
}

func TestLimitsAndPoolsOfDefaultsHoldForEachJob(t *testing.T) {
	t.Parallel()
	p := parsed(t, "daemon: {pools: {api: 1, gpu: 2}}\ndefaults: {pools: api, limits: {stack: 1MiB, open_files: 5}}\njobs:\n  a: {command: x}\n  b: {command: x, pools: [gpu, api], limits: {open_files: unlimited, core_size: 0}}\n")
	if got, want := fmt.Sprint(p.Jobs[0].Pools, p.Jobs[0].Limits), "[api] [{open_files 5} {stack 1048576}]"; got != want {
		t.Errorf("a has %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(p.Jobs[1].Pools, p.Jobs[1].Limits), "[gpu api] [{open_files -1} {core_size 0} {stack 1048576}]"; got != want {
		t.Errorf("b has %s, want %s", got, want)
	}
	wants(t, "once, however many jobs have it", "defaults: {pools: api}\njobs:\n  a: {command: x}\n  b: {command: x}\n",
		"1:19: \"api\" is not a pool: there are none; give its size in belfry.yaml, as in “daemon: {pools: {api: 2}}”")
}

func TestWhatInitWritesIsRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{fmt.Sprintf(Init, "Asia/Seoul"), strings.Replace(fmt.Sprintf(Init, "UTC"), "# publish:", "publish:", 1)} {
		p := parsed(t, text)
		if p.Name != "shop" || len(p.Jobs) != 1 || p.Jobs[0].Name != "hello" || p.Jobs[0].Timeout != 10*time.Minute {
			t.Errorf("%s\nis %+v", text, p.Jobs[0])
		}
	}
}

func TestAJobHasTheDefaultsOfTheDesign(t *testing.T) {
	t.Parallel()
	j := parsed(t, "jobs:\n  a:\n    command: x\n").Jobs[0]
	want := job.Job{
		ID: job.ID{Project: "shop", Name: "a"}, Source: job.Source{File: "/srv/shop/belfry.yaml", Line: 2},
		Command: job.Command{Text: "x", Shell: "/bin/sh"},
		Settings: &job.Settings{
			Owner: "me", Zone: j.Zone, Dir: "/srv/shop", KillAfter: 10 * time.Second, CatchUp: job.CatchUpLatest, Overlap: job.OverlapSkip,
			Retry: job.DefaultRetry, IfEmpty: job.IfEmptyError, Notify: job.Notify{On: []job.Event{job.OnFailure, job.OnRecovery, job.OnLate}},
		},
	}
	if !reflect.DeepEqual(*j, want) || j.Zone.String() != "America/New_York" {
		t.Errorf("in %v\n got %+v %+v\nwant %+v %+v", j.Zone, *j, *j.Settings, want, *want.Settings)
	}
}

func TestValuesHaveSeveralForms(t *testing.T) {
	t.Parallel()
	get := func(text string) *job.Job {
		t.Helper()
		jobs := parsed(t, "jobs:\n  a:\n    command: x\n    "+strings.ReplaceAll(text, "\n", "\n    ")+"\n").Jobs
		return jobs[0]
	}
	targets := func(j *job.Job) string {
		text, err := json.Marshal(j.Publish)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	command := func(text string) string {
		return fmt.Sprintf("%q", parsed(t, "jobs: {a: {command: "+text+"}}").Jobs[0].Command.Argv())
	}
	for _, c := range []struct{ why, got, want string }{
		{"a schedule", fmt.Sprint(get(`schedule: "0 1 * * *"`).Schedules), "[0 1 * * *]"},
		{"a schedule without quotes", fmt.Sprint(get(`schedule: 0 1 * * *`).Schedules), "[0 1 * * *]"},
		{"a list of schedules", fmt.Sprint(get(`schedule: ["0 1 * * *", "@daily"]`).Schedules), "[0 1 * * * @daily]"},
		{"a nickname", fmt.Sprint(get(`schedule: "@hourly"`).Schedules), "[@hourly]"},
		{"retry as a number", fmt.Sprint(get(`retry: 5`).Retry), "{5 1m0s 1h0m0s []}"},
		{"retry as a mapping", fmt.Sprint(get(`retry: {attempts: 2, backoff: 5s, max_backoff: 1m}`).Retry), "{2 5s 1m0s []}"},
		{"a target", targets(get(`publish: out/`)), `[{"to":"out/"}]`},
		{"a target as a mapping", targets(get(`publish: {to: "s3://b/p/", from: x, mode: append, if_empty: ok}`)), `[{"from":"x","to":"s3://b/p/","mode":"append"}]`},
		{"options of S3", targets(get(`publish: {to: "s3://b/", parallel: 4, part_size: 16MiB, storage_class: STANDARD_IA, kms_key: $KEY, metadata: {team: $TEAM, v: 1}, path_style: false}`)), `[{"to":"s3://b/","parallel":4,"part_size":16777216,"storage_class":"STANDARD_IA","sse":"aws:kms","kms_key":"$KEY","metadata":{"team":"$TEAM","v":"1"},"path_style":false}]`},
		{"options of a bucket in a variable", targets(get(`publish: {to: $LAKE/, sse: AES256}`)), `[{"to":"$LAKE/","sse":"AES256"}]`},
		{"targets", targets(get("publish:\n  - a\n  - {from: x, to: b}")), `[{"to":"a"},{"from":"x","to":"b"}]`},
		{"if_empty is the job's", string(get(`publish: {to: a, if_empty: ok}`).IfEmpty), "ok"},
		{"an address", fmt.Sprint(get(`notify: {to: "mailto:me", on: success}`).Notify), "{[me] [success]}"},
		{"addresses", fmt.Sprint(get(`notify: {to: ["mailto:me", "mailto:you@example.com"]}`).Notify), "{[me you@example.com] [failure recovery late]}"},
		{"numbers and booleans are text in env", fmt.Sprint(get(`env: {A: 007, B: yes, C: 1.50, D: ""}`).Env), "[{A 007} {B yes} {C 1.50} {D }]"},
		{"a file beside belfry.yaml", get(`env_file: .env`).EnvFile, "/srv/shop/.env"},
		{"a file elsewhere", get(`env_file: /etc/../etc/env`).EnvFile, "/etc/env"},
		{"no timeout", get(`timeout: 0`).Timeout.String(), "0s"},
		{"a zone of its own", get(`timezone: UTC`).Zone.String(), "UTC"},
		{"no events", fmt.Sprint(get(`notify: {on: []}`).Notify.On), "[]"},
		{"a command as text", command(`echo "$HOME" | wc`), `["/bin/sh" "-c" "echo \"$HOME\" | wc"]`},
		{"a command as a list", command(`[python3, x.py, 3, ""]`), `["python3" "x.py" "3" ""]`},
		{"a command over lines", fmt.Sprintf("%q", parsed(t, "jobs:\n a:\n  command: |\n   cd x\n   ./y.sh\n").Jobs[0].Command.Argv()), `["/bin/sh" "-c" "cd x\n./y.sh\n"]`},
		{"a command that is a word of YAML", command(`true`), `["/bin/sh" "-c" "true"]`},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.why, c.got, c.want)
		}
	}
}

func TestAJobsOwnValueWinsOverDefaults(t *testing.T) {
	t.Parallel()
	p := parsed(t, `
jobs:
  a: {command: x}
  b: {command: [y], timeout: 1m, env: {B: own, C: c}, retry: 2, notify: {on: success}, publish: [], schedule: [], timezone: UTC}
  c: {}
defaults:
  command: [default, command]
  schedule: "@daily"
  timezone: Asia/Seoul
  timeout: 30m
  env: {A: a, B: b}
  retry: {attempts: 3, backoff: 5s}
  notify: {to: "mailto:me"}
  publish: out/$BELFRY_JOB/$BELFRY_DATE
`)
	var got []string
	for _, j := range p.Jobs {
		got = append(got, fmt.Sprint(j.Name, " ", j.Command.Argv(), j.Schedules, j.Zone, j.Timeout, j.Env, j.Retry, j.Notify, len(j.Publish) > 0 && j.Publish[0].To == "out/$BELFRY_JOB/$BELFRY_DATE"))
	}
	want := []string{
		"a [/bin/sh -c x] [@daily] Asia/Seoul 30m0s [{A a} {B b}] {3 5s 1h0m0s []} {[me] [failure recovery late]} true",
		"b [y] [] UTC 1m0s [{A a} {B own} {C c}] {2 5s 1h0m0s []} {[me] [success]} false",
		"c [default command] [@daily] Asia/Seoul 30m0s [{A a} {B b}] {3 5s 1h0m0s []} {[me] [failure recovery late]} true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if text := p.Jobs[1].Command.Text + p.Jobs[2].Command.Text; text != "" {
		t.Errorf("a command as a list has the text %q too", text)
	}
}

func TestSettingsOfTheDaemonAndTheProject(t *testing.T) {
	t.Parallel()
	p := parsed(t, "project: my.shop\ntimezone: UTC\ndaemon: {slots: 7, mail: {spool: mail}}\njobs: {a: {command: x}}\n")
	if p.Name != "my.shop" || p.Jobs[0].Project != "my.shop" || p.Zone != time.UTC || !reflect.DeepEqual(p.Daemon, Daemon{Slots: 7, MailSpool: "/srv/shop/mail", Retention: DefaultRetention}) || p.Dir != "/srv/shop" {
		t.Errorf("got %+v", p)
	}
}

func TestAProjectIsCalledAfterItsFolder(t *testing.T) {
	t.Parallel()
	for folder, want := range map[string]string{"shop": "shop", "My Shop": "my-shop", "R&D (old)": "r-d-old", "shop.v2": "shop.v2", "env": "env", "이름": "job", "": "job"} {
		p, err := Parse([]byte("jobs: {a: {command: x}}"), "/"+folder+"/belfry.yaml", defaults(t))
		if err != nil || p.Name != want {
			t.Errorf("in folder %q: %v, %v, want %q", folder, p, err, want)
		}
	}
}

func TestParentsComeBeforeTheirChildren(t *testing.T) {
	t.Parallel()
	p := parsed(t, `
jobs:
  d: {command: x, after: [b, c]}
  c: {command: x, after: a}
  z: {command: x}
  b: {command: x, after: [a]}
  a: {command: x, schedule: ["0 1 * * *", "@daily"], timezone: Asia/Seoul}
`)
	var got []string
	for _, j := range p.Jobs {
		got = append(got, fmt.Sprint(j.Name, " ", len(j.Inherited), " ", len(j.Rhythms()[0].Schedules), " ", j.Zone))
	}
	if want := []string{"a 0 2 Asia/Seoul", "b 1 2 Asia/Seoul", "c 1 2 Asia/Seoul", "d 1 2 Asia/Seoul", "z 0 0 America/New_York"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: with the rhythm and zone of the parents", got, want)
	}
}

func TestAChildInheritsEachRhythmOfItsParentsOnce(t *testing.T) {
	t.Parallel()
	p := parsed(t, `
timezone: UTC
jobs:
  a: {command: x, schedule: ["0 1 * * *", "0 2 * * *"]}
  same: {command: x, schedule: ["0 2 * * *", "0 1 * * *"]}
  seoul: {command: x, schedule: ["0 1 * * *", "0 2 * * *"], timezone: Asia/Seoul}
  never: {command: x}
  one: {command: x, after: [a, same, never]}
  two: {command: x, after: [a, seoul]}
  three: {command: x, after: [two, one]}
  own: {command: x, after: [two], schedule: "0 5 * * *"}
  four: {command: x, after: [three, own]}
`)
	var got []string
	for _, j := range p.Jobs {
		var zones []string
		for _, r := range j.Inherited {
			zones = append(zones, fmt.Sprintf("%s %d", r.Zone, len(r.Schedules)))
		}
		got = append(got, fmt.Sprint(j.Name, zones, " ", j.Zone))
	}
	want := []string{"a[] UTC", "same[] UTC", "seoul[] Asia/Seoul", "never[] UTC", "one[UTC 2] UTC", "two[UTC 2 Asia/Seoul 2] Asia/Seoul", "three[UTC 2 Asia/Seoul 2] UTC", "own[] UTC", "four[UTC 2 Asia/Seoul 2 UTC 1] UTC"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestAnchorsAndAliasesAreFollowed(t *testing.T) {
	t.Parallel()
	p := parsed(t, `
jobs:
  a: {command: &c [python3, x.py], schedule: &s "0 1 * * *", env: &e {A: "1"}, notify: &n {to: [&me "mailto:me"]}, publish: [&p {to: out, mode: replace}]}
  b: {command: *c, schedule: [*s, "@daily"], env: *e, notify: {to: *me}, publish: *p}
`)
	a, b := p.Jobs[0], p.Jobs[1]
	if !slices.Equal(a.Command.Args, b.Command.Args) || !slices.Equal(a.Env, []crontab.Var{{Name: "A", Value: "1"}}) || !slices.Equal(a.Env, b.Env) ||
		len(b.Schedules) != 2 || b.Schedules[0] != a.Schedules[0] || !slices.Equal(a.Notify.To, b.Notify.To) || !reflect.DeepEqual(a.Publish, b.Publish) {
		t.Errorf("a %+v\nb %+v", a, b)
	}
}

func TestEverythingThatIsWrongIsToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join("testdata", "wrong.yaml"), defaults(t))
	var wrong Errors
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v, want Errors", err)
	}
	golden := filepath.Join("testdata", "wrong.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, readErr := os.ReadFile(golden)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err.Error()+"\n" != string(want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestFilesThatAreNoProjects(t *testing.T) {
	t.Parallel()
	const empty = "1:1: the file is empty; “belfry init” writes one to begin with"
	for _, c := range []struct{ why, text, want string }{
		{"an empty file", "", empty},
		{"blanks and comments", "\n  # jobs:\n\n", empty},
		{"null", "~\n", `1:1: here stands nothing where a key of belfry.yaml is wanted, as in "project: …"`},
		{"text", "hello\n", `1:1: here stands "hello" where a key of belfry.yaml is wanted, as in "project: …"`},
		{"a list", "- a\n", `1:1: here stands a list where a key of belfry.yaml is wanted, as in "project: …"`},
		{"no jobs", "timezone: UTC\n", "1:1: there are no jobs; add “jobs:” with at least one"},
		{"nothing under jobs", "jobs:\n", "1:6: here stands nothing where jobs are wanted: a name for each, and its keys below it"},
		{"an empty mapping of jobs", "jobs: {}\n", "1:7: here stands a mapping where jobs are wanted: a name for each, and its keys below it"},
		{"a list of jobs", "jobs: [a]\n", "1:7: here stands a list where jobs are wanted: a name for each, and its keys below it"},
		{"a tab", "jobs:\n\ta: {command: x}\n", "2:1: this is not YAML: found character that cannot start any token"},
		{"a bracket that is not closed", "jobs: {a: {command: [x}\n", "1:23: this is not YAML: did not find expected ',' or ']'"},
		{"two documents", "jobs: {a: {command: x}}\n---\njobs: {}\n", "1:1: this is not YAML: expected single document, found multiple"},
		{"an unknown alias", "jobs: {a: *b}\n", "1:11: this is not YAML: unknown anchor 'b' referenced"},
		{"an anchor within itself", "jobs: &j {a: *j}\n", "1:11: \"a\" is not a key of a job; there are schedule, timezone, command, dir, stdin, env, env_file, secrets, python, timeout, kill_after, catch_up, catch_up_window, start_within, finish_by, overlap, retry, pools, after, publish, notify, umask, nice, limits, log_limit\n1:11: a has no command"},
		{"a binary file", "\x01ELF\x00\x00", "1:1: this is not YAML: control characters are not allowed (value: 1)"},
		{"half of UTF-16", "\xff\xfe\x00", "1:1: this is not YAML: incomplete UTF-16 character"},
		{"deep nesting", "jobs: " + strings.Repeat("[", 20000), "1:10007: this is not YAML: exceeded max depth of 10000"},
	} {
		if len(c.text) < 1000 {
			wants(t, c.why, c.text, c.want)
		} else if _, err := parse(t, c.text); err == nil || !strings.Contains(err.Error(), "exceeded max depth") {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func TestErrorsOfASchedulePointIntoItsText(t *testing.T) {
	t.Parallel()
	const hour = `: "25" is not an hour (0–23)`
	for _, c := range []struct{ why, value, want string }{
		{"double quotes", `"0 25 * * *"`, "3:18" + hour},
		{"single quotes", `'0 25 * * *'`, "3:18" + hour},
		{"no quotes", `0 25 * * *`, "3:17" + hour},
		{"in a list", `["@daily", "0 25 * * *"]`, "3:29" + hour},
		{"Korean in front", `["0 1 * * *", # 매일` + "\n      '0 25 * * *']", "4:10" + hour},
		{"a block, by its beginning", "|\n      0 25 * * *", "3:15" + hour},
	} {
		wants(t, c.why, "jobs:\n  a:\n    schedule: "+c.value+"\n    command: x\n", c.want)
	}
}

func TestSecretsAreNamedAndStandBesideTheFile(t *testing.T) {
	t.Parallel()
	jobs := parsed(t, "defaults: {secrets: [A_TOKEN, B]}\njobs:\n  a: {command: x}\n  b: {command: x, secrets: C}\n  c: {command: x, secrets: []}\n").Jobs
	for i, want := range []string{"[A_TOKEN B] /srv/shop/secrets.age", "[C] /srv/shop/secrets.age", "[] "} {
		if got := fmt.Sprint(jobs[i].Secrets, " ", jobs[i].SecretsFile); got != want {
			t.Errorf("%s gets %s, want %s", jobs[i].Name, got, want)
		}
	}
	for _, c := range []struct{ why, keys, want string }{
		{"not a variable", "secrets: [a-b]", `2:29: "a-b" cannot be the name of a secret; use letters, digits and underscores, as in SPOTIFY_TOKEN`},
		{"ours", "secrets: [BELFRY_RUN]", `2:29: BELFRY_RUN is set by belfry; choose another name`},
		{"twice", "secrets: [A, A]", `2:32: the secret A stands twice`},
		{"in env too", "secrets: [A], env: {A: x}", `2:3: a is to have A from its secrets and from its env: take it away in one of them`},
		{"a value", "secrets: {A: x}", `2:28: here stands a mapping where the name of a secret is wanted`},
	} {
		wants(t, c.why, "jobs:\n  a: {command: x, "+c.keys+"}\n", c.want)
	}
}

func TestTargetsThatFiringsShareAreToldWithTheirPlace(t *testing.T) {
	t.Parallel()
	same := func(to, firings, remedy string) string {
		return fmt.Sprintf("%q is the same place for the firings of %s: the second would replace what the first has published. Add %s to it, or say what is meant: “mode: replace”, or “mode: append” to keep the files of both", to, firings, remedy)
	}
	const nights, hours = "2026-07-11 01:00 and 2026-07-12 01:00 (America/New_York)", "2026-07-10 09:00 and 2026-07-10 10:00 (America/New_York)"
	for _, c := range []struct{ why, jobs, want string }{
		{"a text", `a: {command: x, schedule: "0 1 * * *", publish: out/}`, `2:51: a: ` + same("out/", nights, "$BELFRY_DATE")},
		{"a mapping", `a: {command: x, schedule: "@hourly", publish: {from: y, to: out/$BELFRY_DATE}}`, `2:63: a: ` + same("out/$BELFRY_DATE", hours, "$BELFRY_STAMP")},
		{"the second of a list", `a: {command: x, schedule: "0 1 * * *", publish: ["a/$BELFRY_DATE", b]}`, `2:70: a: ` + same("b", nights, "$BELFRY_DATE")},
		{"two that are not apart", `a: {command: x, publish: [a/b, a]}`, `2:29: a: "a/b" lies in "a", another target of the job: each target is replaced whole. Give each a place of its own`},
		{"a child's firings are its parents'", "a: {command: x, schedule: '@hourly'}\n  b: {command: x, after: a, publish: out/$BELFRY_DATE}", `3:38: b: ` + same("out/$BELFRY_DATE", hours, "$BELFRY_STAMP")},
		{"two jobs", "a: {command: x, schedule: '@daily', publish: out/$BELFRY_DATE/}\n  b: {command: x, schedule: '0 5 * * *', publish: {to: out/$BELFRY_DATE/b}}", `3:56: b: "out/$BELFRY_DATE/b" lies in "out/$BELFRY_DATE/" of a, on 2026-07-11: one would replace what the other has published. Give each a place of its own`},
	} {
		wants(t, c.why, "jobs:\n  "+c.jobs+"\n", c.want)
	}
	wants(t, "two jobs in a bucket, where one may add to the other", "jobs:\n  a: {command: x, schedule: '@daily', publish: 's3://lake/$BELFRY_DATE'}\n  b: {command: x, schedule: '@daily', publish: 's3://lake/$BELFRY_DATE'}\n",
		`3:48: b: "s3://lake/$BELFRY_DATE" is where a publishes too, on 2026-07-11: one would replace what the other has published. Give each a place of its own, or say what is meant: “mode: replace”, or “mode: append” to keep the files of both`)
	parsed(t, "defaults: {publish: {to: out, mode: append}}\njobs:\n  a: {command: x, schedule: '@hourly'}\n  b: {command: x, schedule: '@hourly'}\n")
	wants(t, "defaults", "defaults: {publish: out/$BELFRY_DATE}\njobs:\n  a: {command: x, schedule: '@daily'}\n  b: {command: x, schedule: '@daily'}\n",
		`1:21: b: "out/$BELFRY_DATE" is where a publishes too, on 2026-07-11: one would replace what the other has published. Give each a place of its own`)
}

func TestJobsThatWaitForEachOtherAreShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, text, want string }{
		{"three", "a: {command: x, after: c}\n  b: {command: x, after: a}\n  c: {command: x, after: [b]}", "2:26: these jobs wait for each other: a → c → b → a"},
		{"itself", "a: {command: x, after: a}", "2:26: these jobs wait for each other: a → a"},
		{"behind a good one", "z: {command: x, after: a}\n  a: {command: x, after: b}\n  b: {command: x, after: a}", "3:26: these jobs wait for each other: a → b → a"},
		{"an unknown one", "top-tracks: {command: x}\n  b: {command: x, after: [toptracks]}", `3:26: b comes after "toptracks", which is not a job of this file; did you mean "top-tracks"?`},
		{"at a boot it waits for nobody", "a: {command: x}\n  b: {command: x, after: a, schedule: '@reboot'}", "3:26: b runs at @reboot only, and so comes after nothing; take after away, or give it a time"},
		{"twice", "a: {command: x}\n  b: {command: x, after: [a, a]}", `3:26: b comes after "a" twice`},
		{"a parent that fires at @reboot only", "a: {command: x, schedule: '@reboot'}\n  b: {command: x, after: a}", `3:26: b comes after "a", which runs at @reboot only: nothing comes after that`},
	} {
		wants(t, c.why, "jobs:\n  "+c.text+"\n", c.want)
	}
	// as wide and deep as a file gets
	var text strings.Builder
	text.WriteString("jobs:\n  j0: {command: x, schedule: '@daily'}\n")
	for i := 1; i < 3000; i++ {
		fmt.Fprintf(&text, "  j%d: {command: x, after: j%d}\n", i, i-1)
	}
	if p := parsed(t, text.String()); len(p.Jobs) != 3000 || len(p.Jobs[2999].Inherited) != 1 {
		t.Error("a chain of 3000 jobs is not read")
	}
}

func TestSuggestionsAreWhatWasMeant(t *testing.T) {
	t.Parallel()
	keys := (&parser{}).jobKeys(&job.Job{Settings: &job.Settings{}})
	for word, want := range map[string]string{
		"shedule": "schedule", "schedules": "schedule", "Schedule": "schedule", "comand": "command", "commands": "command", "retries": "retry",
		"timezome": "timezone", "time_zone": "timezone", "kill-after": "kill_after", "env-file": "env_file", "envfile": "env_file", "timout": "timeout",
		"notifiy": "notify", "pubish": "publish", "catchup": "catch_up", "overlaps": "overlap", "afer": "after",
		// none of these is a slip of the finger: all keys are shown
		"cron": "", "user": "", "cwd": "", "description": "", "depends_on": "", "on_failure": "", "environment": "", "name": "", "cmd": "", "at": "", "when": "", "output": "", "image": "", "tags": "", "": "", "한글": "",
	} {
		got := suggestion(word, keys)
		if want == "" {
			if !strings.HasPrefix(got, "; there are schedule, timezone, ") {
				t.Errorf("%q: got %q, want all keys", word, got)
			}
		} else if got != fmt.Sprintf("; did you mean %q?", want) {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestFindLooksUpward(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	deep := filepath.Join(top, "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(deep); !errors.Is(err, ErrNoProject) || !strings.Contains(err.Error(), deep) {
		t.Errorf("without a file: %v, want ErrNoProject with the folder", err)
	}
	want := filepath.Join(top, FileName)
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{top, deep} {
		if got, err := Find(from); got != want || err != nil {
			t.Errorf("from %s: %s, %v, want %s", from, got, err, want)
		}
	}
	if err := os.MkdirAll(filepath.Join(deep, FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(deep); got != want {
		t.Errorf("a folder of that name is no project: got %s, %v, want %s", got, err, want)
	}
}

func TestLoadSaysWhichFileItCannotRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), FileName)
	if _, err := Load(file, defaults(t)); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{filepath.Join("..", "..", "examples", "ttandaudio", FileName), filepath.Join("testdata", "wrong.yaml")} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{fmt.Sprintf(Init, "UTC"), "", "jobs: &j {a: *j}", "jobs: {a: {after: a, command: x}}", "? [a]\n: b", "- a", "<<: {jobs: 1}", "!!binary x: y", "jobs: {a: {command: [], env: {? {}: 1}}}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text, "/srv/shop/belfry.yaml", Defaults{Owner: "me", Zone: time.UTC})
		if err != nil {
			var wrong Errors
			if p != nil || !errors.As(err, &wrong) || len(wrong) == 0 {
				t.Fatalf("%q: %v, %v: want Errors and no project", text, p, err)
			}
			for _, e := range wrong {
				if e.Line < 1 || e.Column < 1 || e.Message == "" {
					t.Fatalf("%q: %+v has no place or no message", text, e)
				}
			}
			return
		}
		names := map[string]bool{}
		for _, j := range p.Jobs {
			if names[j.Name] || job.CheckName(j.Name) != nil || j.Zone == nil || len(j.Command.Argv()) == 0 || j.Command.Argv()[0] == "" {
				t.Fatalf("%q: %+v is no job, or another has its name", text, j)
			}
			for _, parent := range j.After {
				if !names[parent] {
					t.Fatalf("%q: %s stands before its parent %s", text, j.Name, parent)
				}
			}
			names[j.Name] = true
			if _, err := job.ParseDefinition(j.Definition().JSON); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

func TestPromisesThatCanNeverBeKeptAreTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"start_within: 2h, finish_by: 1h", "belfry.yaml:2:3: a is to begin within 2h of its firing (start_within) and to have ended by 1h (finish_by)"},
		{"retry: {attempts: 2, backoff: 2h, max_backoff: 1h}", "belfry.yaml:2:3: a waits 2h before its second attempt (backoff) and 1h at most (max_backoff)"},
		{"start_within: 1h, finish_by: 1h", ""},
		{"start_within: 2h", ""},
		{"retry: {attempts: 2, backoff: 30m}", ""},
	} {
		_, err := Parse([]byte("jobs:\n  a: {command: x, "+c.text+"}\n"), "/srv/shop/belfry.yaml", defaults(t))
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}

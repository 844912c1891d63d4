package run

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/secrets"
)

var host = Host{User: "alice", Home: "/home/alice", Environ: []string{
	"PATH=/opt/bin:/bin", "HOME=/home/alice", "LANG=ko_KR.UTF-8", "LC_TIME=C", "LANGUAGE=ko", "TZ=Asia/Seoul", "AWS_SECRET_ACCESS_KEY=daemons", "SHELL=/bin/zsh", "BELFRY_RUN=outer", "USER=root",
}}

func seoul(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Seoul")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// nightly fires at 01:00 in Seoul.
func nightly(t *testing.T) (*job.Job, Run) {
	t.Helper()
	j := &job.Job{ID: job.ID{Project: "lake", Name: "top"}, Settings: &job.Settings{Zone: seoul(t)}, Schedules: []crontab.Schedule{crontab.MustParseSchedule("0 1 * * *")}}
	return j, Run{ID: "R1", Cause: plan.CatchUp, FiresAt: night, Named: j.Named(night)}
}

func vars(pairs ...string) []crontab.Var {
	var list []crontab.Var
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		list = append(list, crontab.Var{Name: name, Value: value})
	}
	return list
}

func wantEnviron(t *testing.T, got Environ, want ...string) {
	t.Helper()
	have := got.Strings()
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("got  %q\nwant %q", have, want)
	}
}

// belfrys are the variables of every attempt of nightly's run.
var belfrys = []string{
	"BELFRY_JOB=top", "BELFRY_RUN=R1", "BELFRY_ATTEMPT=2", "BELFRY_CAUSE=catch-up", "BELFRY_OUTPUT=/out",
	"BELFRY_FIRES_AT=2026-07-09T16:00:00Z", "BELFRY_DATE=2026-07-10", "BELFRY_HOUR=01", "BELFRY_STAMP=20260709T160000Z",
	"BELFRY_INTERVAL_START=2026-07-08T16:00:00Z", "BELFRY_INTERVAL_END=2026-07-09T16:00:00Z", "BELFRY_START_DATE=2026-07-09",
}

func TestACrontabsJobHasExactlyCronsEnvironment(t *testing.T) {
	t.Parallel()
	j, r := nightly(t)
	j.Crontab = true
	j.Env = vars("MAILTO=me", "PATH=/usr/local/bin", "LOGNAME=mallory", "USER=mallory", "HOME=/srv", "SHELL=/bin/bash", "X=$HOME %", "X=again", "BELFRY_DATE=1999-01-01")
	env, err := environ(j, r, 2, "/out", host)
	if err != nil {
		t.Fatal(err)
	}
	wantEnviron(t, env, append([]string{
		"SHELL=/bin/bash", "HOME=/srv", "PATH=/usr/local/bin", "LOGNAME=alice", "USER=alice", "MAILTO=me", "X=again",
		"LANG=ko_KR.UTF-8", "LC_TIME=C", "LANGUAGE=ko",
	}, belfrys...)...)
	j.Env = nil
	wantEnviron(t, CronEnviron(j, Host{User: "bob", Home: "/home/bob"}),
		"SHELL=/bin/sh", "HOME=/home/bob", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LOGNAME=bob", "USER=bob")
}

func TestInstallersAreToldWhatTheDaemonIs(t *testing.T) {
	t.Parallel()
	j, r := nightly(t)
	daemon := host
	daemon.Environ = append(slices.Clone(host.Environ), "PIP_INDEX_URL=http://mirror", "UV_CACHE_DIR=/cache", "https_proxy=http://proxy", "NO_PROXY=localhost", "PIPELINE=x")
	more := func() (list []string) {
		env, err := environ(j, r, 2, "/out", daemon)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"PIP_INDEX_URL", "UV_CACHE_DIR", "https_proxy", "NO_PROXY", "PIPELINE"} {
			if value, ok := env.Lookup(name); ok {
				list = append(list, name+"="+value)
			}
		}
		return list
	}
	if got := more(); got != nil {
		t.Errorf("a job without an environment of its own has %q", got)
	}
	j.Python.Requirements, j.Env = "/srv/requirements.txt", vars("PIP_INDEX_URL=http://own")
	if got, want := more(), []string{"PIP_INDEX_URL=http://own", "UV_CACHE_DIR=/cache", "https_proxy=http://proxy", "NO_PROXY=localhost"}; !slices.Equal(got, want) {
		t.Errorf("a job with one has %q, want %q", got, want)
	}
}

func TestAJobOfAProjectHasTheEnvironmentOfTheDesign(t *testing.T) {
	t.Parallel()
	j, r := nightly(t)
	env, err := environ(j, r, 2, "/out", host)
	if err != nil {
		t.Fatal(err)
	}
	wantEnviron(t, env, append([]string{"PATH=/opt/bin:/bin", "HOME=/home/alice", "LANG=ko_KR.UTF-8", "TZ=Asia/Seoul", "PYTHONUNBUFFERED=1"}, belfrys...)...)

	env, err = environ(j, r, 2, "/out", Host{User: "alice", Home: "/home/alice", Environ: []string{"LANG=", "PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	wantEnviron(t, env, append([]string{"PATH=/bin", "HOME=/home/alice", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"}, belfrys...)...)
}

func TestLaterSourcesOfTheEnvironmentGoBeforeEarlierOnes(t *testing.T) {
	t.Parallel()
	j, r := nightly(t)
	j.EnvFile = envFile(t, 0o600, "PATH=/file\nPYTHONUNBUFFERED=0\nA=file\nB=file\nBELFRY_RUN=file\n")
	j.Env = vars("A=env", "C=$B-$BELFRY_DATE-${A}", "PYTHONUNBUFFERED=env", "BELFRY_JOB=env", "D=$$5")
	env, err := environ(j, r, 2, "/out", host)
	if err != nil {
		t.Fatal(err)
	}
	wantEnviron(t, env, append([]string{
		"PATH=/file", "HOME=/home/alice", "LANG=ko_KR.UTF-8", "TZ=Asia/Seoul", "PYTHONUNBUFFERED=env", "A=env", "B=file", "C=file-2026-07-10-env", "D=$5",
	}, belfrys...)...)
}

func TestTheIntervalIsThatOfTheScheduleAndUnsetWithoutOne(t *testing.T) {
	t.Parallel()
	j, r := nightly(t)
	for _, c := range []struct {
		why        string
		change     func(j *job.Job, r *Run)
		start, day string
	}{
		{"a firing", func(*job.Job, *Run) {}, "2026-07-08T16:00:00Z", "2026-07-09"},
		{"by hand at noon: from the firing before", func(_ *job.Job, r *Run) { r.FiresAt = night.Add(11 * time.Hour) }, "2026-07-09T16:00:00Z", "2026-07-10"},
		{"after others: that of the parents", func(j *job.Job, _ *Run) { j.Inherited, j.Schedules = j.Rhythms(), nil }, "2026-07-08T16:00:00Z", "2026-07-09"},
		{"@reboot has none", func(_ *job.Job, r *Run) { r.Cause = plan.Reboot }, "", ""},
		{"nor has a job without a schedule", func(j *job.Job, _ *Run) { j.Schedules = nil }, "", ""},
	} {
		settings := *j.Settings
		j, r := *j, r
		j.Settings = &settings
		c.change(&j, &r)
		env, err := environ(&j, r, 1, "/out", host)
		if err != nil {
			t.Fatal(err)
		}
		start, _ := env.Lookup("BELFRY_INTERVAL_START")
		day, set := env.Lookup("BELFRY_START_DATE")
		end, _ := env.Lookup("BELFRY_INTERVAL_END")
		if start != c.start || day != c.day || set != (c.day != "") || set && end != r.FiresAt.Format(time.RFC3339) {
			t.Errorf("%s: %q %q %q, want %q and %q", c.why, start, end, day, c.start, c.day)
		}
	}
}

func TestAnUnsetNameInEnvNamesTheVariableAndNotItsValue(t *testing.T) {
	t.Parallel()
	j, r := nightly(t)
	j.Env = vars("URL=postgres://me:s3cret@$NO")
	_, err := environ(j, r, 1, "/out", host)
	if err == nil || !strings.Contains(err.Error(), "URL") || !strings.Contains(err.Error(), "$NO") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

func envFile(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask has no say
		t.Fatal(err)
	}
	return path
}

func TestEnvFileIsReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	got, err := readEnvFile(envFile(t, 0o600, strings.Join([]string{
		"# a comment", "", "A=1", "  B = two words ", "export C=3", `D="in quotes "`, "E='$A # no'", "F=", `G="`, "H=a=b", "I=it's\r", "A=again",
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := vars("A=1", "B=two words", "C=3", "D=in quotes ", "E=$A # no", "F=", `G="`, "H=a=b", "I=it's", "A=again")
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestEnvFileErrorsShowNoValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why, text string
		mode      os.FileMode
		want      string
	}{
		{"the world may write", "A=s3cret", 0o602, "can be written by others (mode 0602)"},
		{"a group may write", "A=s3cret", 0o620, "can be written by others (mode 0620)"},
		{"the world may read", "A=s3cret", 0o604, "can be read by others (mode 0604)"},
		{"a group may read", "A=s3cret", 0o640, "can be read by others (mode 0640)"},
		{"no name", "A=1\n=s3cret", 0o600, ":2: not a NAME=VALUE line"},
		{"no equals sign", "A=1\n\ns3cret", 0o600, ":3: not a NAME=VALUE line"},
		{"a name in quotes", `"s3cret"=1`, 0o600, ":1: not a NAME=VALUE line"},
		{"a command", "source s3cret=1", 0o600, ":1: not a NAME=VALUE line"},
	} {
		if _, err := readEnvFile(envFile(t, c.mode, c.text)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %q without the text", c.why, err, c.want)
		}
	}
	if _, err := readEnvFile("/no/such/.env"); err == nil || !strings.Contains(err.Error(), "env_file") {
		t.Errorf("a file that is not there gives %v", err)
	}
}

// secretsFile makes a file of secrets, and its key, in a folder of its own.
func secretsFile(t *testing.T, pairs ...string) secrets.File {
	t.Helper()
	dir := t.TempDir()
	file := secrets.File{Path: filepath.Join(dir, secrets.FileName), Key: filepath.Join(dir, "key")}
	put(t, file, pairs...)
	return file
}

func put(t *testing.T, file secrets.File, pairs ...string) {
	t.Helper()
	if _, err := file.Change(nil, func(set *secrets.Set) error {
		for _, v := range vars(pairs...) {
			if err := set.Put(v.Name, v.Value); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAJobGetsTheSecretsThatItNamesAndNoOthers(t *testing.T) {
	t.Parallel()
	file := secretsFile(t, "API_TOKEN=hunter22", "DSN=postgres://me", "OTHER=not for this job")
	host := host
	host.Key = file.Key
	j, r := nightly(t)
	j.SecretsFile, j.Secrets = file.Path, []string{"API_TOKEN", "DSN"}
	j.EnvFile = envFile(t, 0o600, "API_TOKEN=of the file\n")
	j.Env = vars("AUTH=Bearer $API_TOKEN")
	env, err := environ(j, r, 2, "/out", host)
	if err != nil {
		t.Fatal(err)
	}
	wantEnviron(t, env, append([]string{
		"PATH=/opt/bin:/bin", "HOME=/home/alice", "LANG=ko_KR.UTF-8", "TZ=Asia/Seoul", "PYTHONUNBUFFERED=1",
		"API_TOKEN=hunter22", "DSN=postgres://me", "AUTH=Bearer hunter22",
	}, belfrys...)...)
	if got, want := hidden(j, env, host), []string{"hunter22", "of the file", "postgres://me"}; !slices.Equal(got, want) {
		t.Errorf("hidden are %q, want %q", got, want)
	}

	// The next attempt gets what it is by then; what it was is still hidden.
	put(t, file, "DSN=postgres://you")
	env, err = environ(j, r, 3, "/out", host)
	if value, _ := env.Lookup("DSN"); err != nil || value != "postgres://you" {
		t.Errorf("after the change DSN is %q, %v", value, err)
	}
	if got := hidden(j, env, host); !slices.Contains(got, "postgres://me") || !slices.Contains(got, "postgres://you") {
		t.Errorf("after the change hidden are %q", got)
	}

	// A place is written down, and so holds no secret.
	j.Publish = []job.Target{{To: "s3://lake/$AUTH/"}}
	if _, err := targets(j, env); err == nil || !strings.Contains(err.Error(), "API_TOKEN") || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("a target with a secret gives %v", err)
	}
	j.Publish = []job.Target{{To: "s3://lake/x/", Metadata: map[string]string{"by": "$AUTH"}}}
	if _, err := targets(j, env); err == nil || !strings.Contains(err.Error(), "metadata by holds the secret API_TOKEN") {
		t.Errorf("metadata with a secret gives %v", err)
	}
}

func TestWhyASecretIsNotThereIsSaidInASentence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why   string
		spoil func(file secrets.File, j *job.Job)
		want  string
	}{
		{"a missing secret", func(_ secrets.File, j *job.Job) { j.Secrets = append(j.Secrets, "OTHER") }, "the secret OTHER is not in FILE; put it there with “belfry secrets set OTHER”"},
		{"a missing file", func(file secrets.File, _ *job.Job) { remove(t, file.Path) }, "read the secrets: open FILE: no such file or directory; make it with “belfry secrets set API_TOKEN”"},
		{"a missing key", func(file secrets.File, _ *job.Job) { remove(t, file.Key) }, "the key that opens FILE is not in KEY; copy that file from where the secrets were made, or name it in BELFRY_KEY_FILE"},
		{"another key", func(file secrets.File, _ *job.Job) { overwrite(t, file.Key, read(t, secretsFile(t, "A=bcdefg").Key)) }, "FILE was made with another key than the one in KEY; copy that one here, or name it in BELFRY_KEY_FILE"},
		{"a key that others can read", func(file secrets.File, _ *job.Job) {
			if err := os.Chmod(file.Key, 0o640); err != nil {
				t.Fatal(err)
			}
		}, "the key of the secrets: KEY can be read by others (mode 0640); chmod 600 KEY"},
		{"a broken key", func(file secrets.File, _ *job.Job) { overwrite(t, file.Key, "AGE-SECRET-KEY-1HUNTER22") }, "there is no key in KEY: a line AGE-SECRET-KEY-1… is missing or damaged; put back a copy of it"},
		{"a damaged file", func(file secrets.File, _ *job.Job) {
			text := read(t, file.Path)
			overwrite(t, file.Path, text[:len(text)/2])
		}, "FILE is damaged, or not a file of age ("},
		{"an empty file", func(file secrets.File, _ *job.Job) { overwrite(t, file.Path, "") }, "FILE is damaged, or not a file of age ("},
	} {
		file := secretsFile(t, "API_TOKEN=hunter22")
		host := host
		host.Key = file.Key
		j, r := nightly(t)
		j.SecretsFile, j.Secrets = file.Path, []string{"API_TOKEN"}
		c.spoil(file, j)
		_, err := environ(j, r, 1, "/out", host)
		want := strings.NewReplacer("BELFRY_KEY_FILE", "BELFRY_KEY_FILE", "AGE-SECRET-KEY", "AGE-SECRET-KEY", "FILE", file.Path, "KEY", file.Key).Replace(c.want)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(strings.ToLower(err.Error()), "hunter22") {
			t.Errorf("%s\n got %v\nwant %s", c.why, err, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestTargetsAreExpandedAndAbsolute(t *testing.T) {
	t.Parallel()
	env := Environ(vars("HOME=/home/alice", "BELFRY_DATE=2026-07-10"))
	for _, c := range []struct{ to, dir, want, why string }{
		{"s3://lake/dt=$BELFRY_DATE/", "/p", "s3://lake/dt=2026-07-10/", "a bucket"},
		{"/lake/$BELFRY_DATE", "/p", "/lake/2026-07-10", "an absolute folder"},
		{"out/$BELFRY_DATE", "/p", "/p/out/2026-07-10", "relative to the project"},
		{"../out/", "/p/q", "/p/out", "above it"},
		{"out", "", "/home/alice/out", "relative to home, for a crontab"},
	} {
		got, err := targets(&job.Job{Settings: &job.Settings{Dir: c.dir, Publish: []job.Target{{From: "f", To: c.to}}}}, env)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], job.Target{From: "f", To: c.want}) {
			t.Errorf("%s: %+v, %v, want %s", c.why, got, err, c.want)
		}
	}
	for _, lake := range []string{"s3:hunter22", "~/hunter22", "gs://hunter22"} {
		_, err := targets(&job.Job{Settings: &job.Settings{Dir: "/p", Publish: []job.Target{{To: "$LAKE/x"}}}}, append(env, vars("LAKE="+lake)...))
		if err == nil || !strings.Contains(err.Error(), "publish to $LAKE/x: that is neither a folder nor s3://bucket/prefix/") || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("of %s it says %v", lake, err)
		}
	}
	written := job.Target{To: "s3://x/", KMSKey: "$KEY", Metadata: map[string]string{"day": "of $BELFRY_DATE"}, Mode: job.ModeAppend, Parallel: 3}
	want := job.Target{To: "s3://x/", KMSKey: "arn", Metadata: map[string]string{"day": "of 2026-07-10"}, Mode: job.ModeAppend, Parallel: 3}
	settings := &job.Settings{Publish: []job.Target{written}}
	got, err := targets(&job.Job{Settings: settings}, append(env, vars("KEY=arn")...))
	if err != nil || !reflect.DeepEqual(got, []job.Target{want}) || settings.Publish[0].Metadata["day"] != "of $BELFRY_DATE" {
		t.Errorf("got %+v, %v, want %+v; the job has %+v now", got, err, want, settings.Publish)
	}
	if _, err := targets(&job.Job{Settings: settings}, env); err == nil || !strings.Contains(err.Error(), "kms_key: $KEY is not set") {
		t.Errorf("a key that is not set gives %v", err)
	}
	if _, err := targets(&job.Job{Settings: &job.Settings{Publish: []job.Target{{To: "s3://x/$NO"}}}}, env); err == nil || !strings.Contains(err.Error(), "$NO") || !strings.Contains(err.Error(), "s3://x/") {
		t.Errorf("a name that is not set gives %v", err)
	}
}

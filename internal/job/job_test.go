package job

import (
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"belfry/crontab"
)

func TestAnIDIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want ID
	}{
		{"top-tracks", ID{"", "top-tracks"}},
		{"alice/rsync", ID{"alice", "rsync"}},
		{"etc/crontab/cron.daily", ID{"etc/crontab", "cron.daily"}}, // a project may have a slash
	} {
		got := ParseID(c.text)
		if got != c.want {
			t.Errorf("ParseID(%q) = %+v, want %+v", c.text, got, c.want)
		}
		if c.want.Project != "" && got.String() != c.text {
			t.Errorf("%+v is written %q, want %q", got, got, c.text)
		}
	}
}

func TestACommandIsWrittenAsAShellReadsIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command Command
		argv    []string
		text    string
	}{
		{Command{Text: "echo $HOME | wc", Shell: "/bin/sh"}, []string{"/bin/sh", "-c", "echo $HOME | wc"}, "echo $HOME | wc"},
		{Command{Args: []string{"python3", "x.py", "--date=today"}}, []string{"python3", "x.py", "--date=today"}, "python3 x.py --date=today"},
		{Command{Args: []string{"echo", "a b", "", "it's", "$x", "한글"}}, []string{"echo", "a b", "", "it's", "$x", "한글"}, `echo 'a b' '' 'it'\''s' '$x' 한글`},
		{Command{Args: []string{"ls", "~", "[a]", "{a,b}", "#x", "!"}}, []string{"ls", "~", "[a]", "{a,b}", "#x", "!"}, "ls '~' '[a]' '{a,b}' '#x' '!'"},
	} {
		if got := c.command.Argv(); !slices.Equal(got, c.argv) {
			t.Errorf("%+v: argv %q, want %q", c.command, got, c.argv)
		}
		if got := c.command.String(); got != c.text {
			t.Errorf("%+v: %s, want %s", c.command, got, c.text)
		}
	}
}

func TestAShellTakesACommandApartIntoTheSameWords(t *testing.T) {
	t.Parallel()
	letters := rapid.StringOfN(rapid.RuneFrom([]rune("ab ~#'\"\\$`*?;&|<>()[]{}!=\n\t\r한")), 0, 6, -1)
	var lists [][]string
	rapid.Check(t, func(t *rapid.T) { lists = append(lists, rapid.SliceOfN(letters, 1, 4).Draw(t, "args")) })
	var script, want strings.Builder
	for _, args := range lists {
		script.WriteString(Command{Args: append([]string{"printf", `<%s>`}, args...)}.String() + "\n")
		want.WriteString("<" + strings.Join(args, "><") + ">")
	}
	got, err := exec.Command("/bin/sh", "-c", script.String()).CombinedOutput()
	if err != nil || string(got) != want.String() {
		t.Errorf("the shell said %q (%v)\nwant %q", got, err, want.String())
	}
}

// someJob draws a job as crontabs and belfry.yaml files make them.
func someJob(t *rapid.T) *Job {
	text := rapid.StringMatching(`[a-z $'"<&한]{1,12}`)
	schedules := func(what string) (list []crontab.Schedule) {
		for range rapid.IntRange(0, 2).Draw(t, what) {
			list = append(list, crontab.MustParseSchedule(rapid.SampledFrom([]string{"0 1 * * *", "*/5 * * * 1-5", "@daily", "@reboot", "30 2 29 feb *"}).Draw(t, what)))
		}
		return list
	}
	durations := rapid.SampledFrom([]time.Duration{0, time.Second, 90 * time.Minute, 48 * time.Hour})
	zone, err := LoadZone(rapid.SampledFrom([]string{"UTC", "Asia/Seoul", "America/New_York"}).Draw(t, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	name := rapid.StringMatching(`[a-z]{1,5}`).Draw(t, "name")
	j := &Job{ID: ID{"p", name}, Schedules: schedules("schedules"), Settings: &Settings{
		Owner: "me", Crontab: rapid.Bool().Draw(t, "crontab"), Zone: zone,
		Dir: "/srv", EnvFile: rapid.SampledFrom([]string{"", "/srv/.env"}).Draw(t, "env file"),
		Timeout: durations.Draw(t, "timeout"), KillAfter: durations.Draw(t, "kill after"),
		CatchUp: rapid.SampledFrom(CatchUps).Draw(t, "catch up"), Overlap: rapid.SampledFrom(Overlaps).Draw(t, "overlap"),
		CatchUpWindow: durations.Draw(t, "window"), StartWithin: durations.Draw(t, "start within"), FinishBy: durations.Draw(t, "finish by"),
		Retry: Retry{Attempts: rapid.IntRange(0, 3).Draw(t, "attempts"), Backoff: durations.Draw(t, "backoff"), MaxBackoff: durations.Draw(t, "max backoff")},
		Umask: rapid.SampledFrom([]string{"", "027"}).Draw(t, "umask"), Nice: rapid.IntRange(-20, 19).Draw(t, "nice"),
		LogLimit: rapid.SampledFrom([]int64{-1, 0, 1 << 30}).Draw(t, "log limit"),
	}}
	if rapid.Bool().Draw(t, "as a list") {
		j.Command.Args = rapid.SliceOfN(text, 1, 3).Draw(t, "args")
	} else {
		j.Command = Command{Text: text.Draw(t, "command"), Shell: "/bin/sh"}
	}
	if j.Crontab {
		j.Stdin = rapid.SampledFrom([]string{"", "Dear\n"}).Draw(t, "stdin")
	}
	for range rapid.IntRange(0, 2).Draw(t, "rhythms") {
		zone, err := LoadZone(rapid.SampledFrom([]string{"UTC", "Asia/Seoul"}).Draw(t, "rhythm's zone"))
		if err != nil {
			t.Fatal(err)
		}
		r := Rhythm{append(schedules("rhythm"), crontab.MustParseSchedule("0 5 * * *")), zone}
		j.Inherited = append(j.Inherited, r)
	}
	if rapid.Bool().Draw(t, "more") {
		j.After = []string{"a", "b"}
		j.Publish = []Target{{From: "x", To: "s3://lake/dt=$BELFRY_DATE/", Mode: ModeAppend, Parallel: 2, PartSize: 16 << 20, StorageClass: "GLACIER", SSE: EncryptKMS, KMSKey: "k", Metadata: map[string]string{"team": "$TEAM"}, PathStyle: new(bool)}, {To: "lake"}}
		j.IfEmpty = IfEmptyOK
		j.Secrets, j.SecretsFile = []string{"API_TOKEN"}, "/srv/secrets.age"
		j.Pools, j.Retry.OnExit = []string{"api", "gpu"}, []int{1, 75}
		j.Limits = []Limit{{"open_files", 1024}, {"core_size", 0}, {"memory", Unlimited}}
		j.Notify = Notify{To: []string{"me@example.com"}, On: []Event{OnFailure}}
		j.Python = Python{Requirements: "/srv/requirements.txt", Version: ">=3.9"}
	}
	return j
}

func TestADefinitionIsReadAsItWasWrittenWithoutSecrets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		j := someJob(t)
		bare := j.Definition()
		back, err := ParseDefinition(bare.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, j) {
			t.Fatalf("%s\n got %+v\nwant %+v", bare.JSON, back, j)
		}
		j.Source = Source{"/elsewhere", 7}
		if j.Definition().Hash != bare.Hash {
			t.Error("another place of the same job has another hash")
		}
		j.Env = []crontab.Var{{Name: "API_TOKEN", Value: "HUSH-" + rapid.StringMatching(`[A-Z]{8}`).Draw(t, "secret")}}
		d := j.Definition()
		if strings.Contains(string(d.JSON), "HUSH-") {
			t.Errorf("the definition holds the value of a variable: %s", d.JSON)
		}
		if !strings.Contains(string(d.JSON), `"API_TOKEN"`) || d.Hash == bare.Hash {
			t.Errorf("the definition does not name the variable: %s", d.JSON)
		}
	})
}

func TestADefinitionKeepsWhatWasDrawnForATilde(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 5, 15, 0, 0, 0, 0, time.UTC)
	for i := range 20 {
		jobs, _ := fromText(t, "0~59 1 * * * x "+strings.Repeat("y", i)+"\n")
		back, err := ParseDefinition(jobs[0].Definition().JSON)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := back.Next(at), jobs[0].Next(at); !got.Equal(want) {
			t.Errorf("the stored job fires at %v, the one that was read at %v", got, want)
		}
		if got := jobs[0].ScheduleTexts(); got[0] != "0~59 1 * * *" {
			t.Errorf("people are shown %q, want what they wrote", got)
		}
	}
}

func TestDefinitionsShareTheirZone(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, "CRON_TZ=Asia/Seoul\n0 1 * * * x\n0 2 * * * y\n")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	a, err := ParseDefinition(jobs[0].Definition().JSON)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseDefinition(jobs[1].Definition().JSON)
	if err != nil {
		t.Fatal(err)
	}
	if a.Zone != b.Zone || a.Zone.String() != "Asia/Seoul" {
		t.Errorf("%p is %v, %p is %v: want one for all, it holds kilobytes", a.Zone, a.Zone, b.Zone, b.Zone)
	}
}

func TestTimingChangesWithTheFiringsAndNothingElse(t *testing.T) {
	t.Parallel()
	of := func(text string) string {
		jobs, errs := fromText(t, text+"\n")
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return jobs[0].Timing()
	}
	base := of("0 1 * * * x")
	for _, c := range []struct {
		text  string
		equal bool
		why   string
	}{
		{"0 1 * * * y --more", true, "a command"},
		{"A=1\n#belfry: timeout=5m\n0 1 * * * x", true, "policies"},
		{"0 2 * * * x", false, "a schedule"},
		{"CRON_TZ=Asia/Seoul\n0 1 * * * x", false, "a zone"},
	} {
		if got := of(c.text) == base; got != c.equal {
			t.Errorf("%q: the same timing: %t, want %t after an edit of %s", c.text, got, c.equal, c.why)
		}
	}
	differ := false
	for i := range 20 { // the whole line decides what is drawn
		differ = differ || of("0~59 1 * * * x") != of("0~59 1 * * * x "+strings.Repeat("y", i))
	}
	if !differ {
		t.Error("an edited command draws another minute for ~, and the timing does not show it")
	}
}

func TestFiringsOfSeveralSchedules(t *testing.T) {
	t.Parallel()
	j := &Job{Settings: &Settings{Zone: zone(t, "America/New_York")}, Schedules: []crontab.Schedule{crontab.MustParseSchedule("30 2 * * *"), crontab.MustParseSchedule("0 12 * * *")}}
	before := time.Date(2024, 3, 10, 0, 0, 0, 0, j.Zone)
	gap := j.Next(before)
	if got, want := gap.Format(time.RFC3339), "2024-03-10T03:00:00-04:00"; got != want {
		t.Errorf("next %s, want %s: 02:30 is skipped that night", got, want)
	}
	if got, want := j.Named(gap).Format("2006-01-02 15:04"), "2024-03-10 02:30"; got != want {
		t.Errorf("named %s, want %s", got, want)
	}
	noon := j.Next(gap)
	if got, want := noon.Format(time.RFC3339), "2024-03-10T12:00:00-04:00"; got != want {
		t.Errorf("then %s, want %s", got, want)
	}
	if got := j.Prev(noon); !got.Equal(gap) {
		t.Errorf("before noon %v, want %v", got, gap)
	}
	child := &Job{Settings: &Settings{Zone: j.Zone, Inherited: j.Rhythms(), After: []string{"x"}}}
	if got := child.Prev(noon); !got.Equal(gap) {
		t.Errorf("a child has its parents' rhythm: got %v, want %v", got, gap)
	}
	never := &Job{Settings: &Settings{Zone: time.UTC}}
	if !never.Next(before).IsZero() || !never.Prev(before).IsZero() {
		t.Error("a job without a schedule fires")
	}
	at := time.Date(2024, 3, 10, 16, 30, 20, 0, time.UTC)
	if got, want := j.Named(at).Format("2006-01-02 15:04:05"), "2024-03-10 12:30:20"; got != want {
		t.Errorf("an instant without a firing is named %s, want %s, its reading", got, want)
	}
}

func TestOnlyZonesThatPeopleCanMeanAreZones(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "Local", "KST9", "../etc/passwd", "Asia/Soul"} {
		if z, err := LoadZone(name); err == nil {
			t.Errorf("LoadZone(%q) = %v, want an error", name, z)
		}
	}
}

package job

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := LoadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// fromText makes jobs of a crontab's text, whose lines must all be good to
// the crontab language.
func fromText(t testing.TB, text string) ([]*Job, crontab.Errors) {
	t.Helper()
	file, err := crontab.Parse("ops", []byte(text), crontab.Options{Seed: "host"})
	if err != nil {
		t.Fatal(err)
	}
	return FromCrontab(file, Crontab{Project: "alice", Owner: "alice", File: "ops", Zone: time.UTC, Pools: map[string]int{"api": 2, "gpu": 1}})
}

func TestRealCrontabsBecomeJobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file   string
		system bool
		want   []string // name owner schedule zone
	}{
		{"ec2-user", false, []string{"ttandaudio_to_s3 me 0 16 * * * UTC"}},
		{"ec2-user-chain", false, []string{"ttandaudio_to_s3 me 20 17 * * * UTC", "related_artists me 30 17 * * * UTC"}},
		{"analyst", false, []string{
			"daily me 7 0 * * * Asia/Seoul",
			"rsync me */15 8-19 * * 1-5 Asia/Seoul",
			"first_monday me 0 6 1-7 * 1 Asia/Seoul",
			"echo me 0 9 */2 * 1 Asia/Seoul",
			"leap me 30 2 29 2 * Asia/Seoul",
			"tunnel me @reboot Asia/Seoul",
			"find me @daily Asia/Seoul",
			"mysqldump me 0 4 * * sun Asia/Seoul",
			"mail me 5 5 * * * Asia/Seoul",
			"true me * * * * * Asia/Seoul",
		}},
		{"system-debian", true, []string{
			"cron.hourly root 17 *\t* * * UTC",
			"cron.daily root 25 6\t* * * UTC",
			"cron.weekly root 47 6\t* * 7 UTC",
			"cron.monthly root 52 6\t1 * * UTC",
		}},
		{"system-rhel", true, []string{
			"sa1 root */10 * * * * UTC",
			"sa2 root 53 23 * * * UTC",
			"cron.hourly root 01 * * * * UTC",
			"heartbeat root */1 * * * * UTC",
		}},
		{"broken", false, []string{
			"echo me */45 * * * * UTC",
			"echo-2 me 0 0 31 4,6,9,11 * UTC", // never fires, and is a job all the same
			"echo-3 me 0 3 * * * UTC",
		}},
		{"cron.d-no-newline", true, nil},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", "..", "crontab", "testdata", "crontabs", c.file))
			if err != nil {
				t.Fatal(err)
			}
			file, err := crontab.Parse(c.file, text, crontab.Options{System: c.system})
			if wrong := (crontab.Errors{}); err != nil && !errors.As(err, &wrong) {
				t.Fatal(err)
			}
			jobs, errs := FromCrontab(file, Crontab{Project: "p", Owner: "me", File: c.file, Zone: time.UTC})
			if len(errs) > 0 {
				t.Errorf("errors: %v", errs)
			}
			if len(jobs) != len(file.Entries) {
				t.Errorf("%d entries became %d jobs", len(file.Entries), len(jobs))
			}
			Match(jobs, nil)
			var got []string
			for _, j := range jobs {
				got = append(got, fmt.Sprint(j.Name, " ", j.Owner, " ", j.Schedules[0], " ", j.Zone))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("jobs of %s\n got %s\nwant %s", c.file, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
			}
		})
	}
}

func TestAnEntryHasCronsPolicies(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, "SHELL=/bin/bash\nHOME=/srv\nTOKEN=hush\n0 1 * * * mail bob%Dear Bob,%bye\n0 2 * * * -n ./x.sh\n")
	if len(errs) > 0 || len(jobs) != 2 {
		t.Fatalf("got %d jobs, errors %v", len(jobs), errs)
	}
	j := jobs[0]
	if got, want := j.Command.Argv(), []string{"/bin/bash", "-c", "mail bob"}; !slices.Equal(got, want) {
		t.Errorf("argv %q, want %q", got, want)
	}
	if j.Stdin != "Dear Bob,\nbye\n" {
		t.Errorf("standard input %q, want two lines", j.Stdin)
	}
	if j.Dir != "/srv" || !j.Crontab || j.CatchUp != CatchUpNone || j.Overlap != OverlapAllow || j.Timeout != 0 || j.Retry.Attempts != 0 {
		t.Errorf("got %+v, want HOME as the folder and cron's policies: no catching up, overlap allowed, no timeout, one attempt", j)
	}
	if !j.Notify.Wants(OnOutput) || j.Notify.Wants(OnFailure) {
		t.Errorf("told on %v, want output only, as cron does", j.Notify.On)
	}
	if n := jobs[1].Notify; n.Wants(OnOutput) || !n.Wants(OnFailure) {
		t.Errorf("with -n told on %v, want failure only", n.On)
	}
	if jobs[1].Stdin != "" || !jobs[1].Crontab {
		t.Errorf("an entry without %% reads %q, want an empty pipe", jobs[1].Stdin)
	}
	if got, want := j.Source.String(), "ops:4"; got != want {
		t.Errorf("source %s, want %s", got, want)
	}
}

func TestCronTZHoldsForTheLinesBelowIt(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, "0 1 * * * a\nCRON_TZ=Asia/Seoul\n0 1 * * * b\nCRON_TZ=America/New_York\n0 1 * * * c\nCRON_TZ=Mars/Base\n0 1 * * * d\nCRON_TZ=Local\n0 1 * * * e\n")
	var got []string
	for _, j := range jobs {
		got = append(got, j.Command.Text+" "+j.Next(time.Date(2024, 7, 1, 0, 0, 0, 0, time.UTC)).UTC().Format("02 15:04"))
	}
	if want := []string{"a 01 01:00", "b 01 16:00", "c 01 05:00"}; !slices.Equal(got, want) {
		t.Errorf("next firings %q, want %q", got, want)
	}
	want := `ops:7:1: CRON_TZ "Mars/Base" above this line is not a time zone; write a name like Asia/Seoul or UTC
ops:9:1: CRON_TZ "Local" above this line is not a time zone; write a name like Asia/Seoul or UTC`
	if errs.Error() != want {
		t.Errorf("errors\n got %v\nwant %s", errs, want)
	}
}

func TestOptionsOfAnEntryAreApplied(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, "#belfry: name=top-tracks timeout=30m kill_after=5s retry=3 catch_up=latest overlap=skip\n#belfry: publish_mode=append\n#belfry: publish=/lake/dt=$BELFRY_DATE/\n0 1 * * * x.py\n0 2 * * * y.py\n")
	if len(errs) > 0 || len(jobs) != 2 {
		t.Fatalf("got %d jobs, errors %v", len(jobs), errs)
	}
	j := jobs[0]
	if j.Name != "top-tracks" || j.Timeout != 30*time.Minute || j.KillAfter != 5*time.Second || j.CatchUp != CatchUpLatest || j.Overlap != OverlapSkip {
		t.Errorf("options were not applied: %+v", j)
	}
	if want := (Retry{Attempts: 3, Backoff: time.Minute, MaxBackoff: time.Hour}); !reflect.DeepEqual(j.Retry, want) {
		t.Errorf("retry %+v, want %+v: the waits of a belfry.yaml", j.Retry, want)
	}
	if want := []Target{{To: "/lake/dt=$BELFRY_DATE/", Mode: ModeAppend}}; !reflect.DeepEqual(j.Publish, want) || j.IfEmpty != IfEmptyError {
		t.Errorf("publish %+v, if empty %q, want %+v and error", j.Publish, j.IfEmpty, want)
	}
	if !j.Notify.Wants(OnFailure) || !j.Notify.Wants(OnOutput) {
		t.Errorf("told on %v, want output and failure: a publish that fails prints nothing", j.Notify.On)
	}
	if next := jobs[1]; next.Name != "" || next.Timeout != 0 || next.Publish != nil {
		t.Errorf("the entry below has options too: %+v", next)
	}
}

func TestAnEntryIsHeldToItsTimesPlacesAndBounds(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, `
#belfry: catch_up=all catch_up_window=2d overlap=replace pools=gpu,api start_within=5m finish_by=1h umask=027 nice=5 log_limit=1GiB
0 1 * * * x
#belfry: log_limit=none
0 2 * * * y
`)
	if len(errs) > 0 || len(jobs) != 2 {
		t.Fatalf("got %d jobs, errors %v", len(jobs), errs)
	}
	x := jobs[0]
	if x.CatchUp != CatchUpAll || x.CatchUpWindow != 48*time.Hour || x.Overlap != OverlapReplace || x.StartWithin != 5*time.Minute || x.FinishBy != time.Hour {
		t.Errorf("times were not applied: %+v", x.Settings)
	}
	if !slices.Equal(x.Pools, []string{"gpu", "api"}) || x.Umask != "027" || x.Nice != 5 || x.LogLimit != 1<<30 {
		t.Errorf("bounds were not applied: %+v", x.Settings)
	}
	if want := []Event{OnOutput, OnLate}; !slices.Equal(x.Notify.On, want) {
		t.Errorf("told on %v, want %v: a time was given to be kept", x.Notify.On, want)
	}
	if y := jobs[1]; y.LogLimit != -1 || y.Nice != 0 || y.Pools != nil || y.Notify.Wants(OnLate) {
		t.Errorf("the entry below has %+v, want its own option only", y.Settings)
	}
}

func TestEntriesShareTheirSettingsWhereTheyAreEqual(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, "A=1\n0 1 * * * a\n0 2 * * * b\n#belfry: nice=5\n0 3 * * * c\n0 4 * * * d\nA=2\n0 5 * * * e\nCRON_TZ=UTC\n0 6 * * * -n f\n0 6 * * * g\n")
	if len(errs) > 0 || len(jobs) != 7 {
		t.Fatalf("got %d jobs, errors %v", len(jobs), errs)
	}
	if jobs[0].Settings != jobs[1].Settings || jobs[0].Settings != jobs[3].Settings {
		t.Error("lines below the same assignments have settings of their own")
	}
	for _, i := range []int{2, 4, 5, 6} {
		for other, j := range jobs {
			if other != i && j.Settings == jobs[i].Settings {
				t.Errorf("%s and %s share settings: options, assignments, zones and -n make them differ", j.Command.Text, jobs[i].Command.Text)
			}
		}
	}
}

func TestWrongOptionsAreToldWithTheirPlace(t *testing.T) {
	t.Parallel()
	const all = "name, timeout, kill_after, retry, catch_up, catch_up_window, overlap, pools, start_within, finish_by, umask, nice, log_limit, publish, publish_mode"
	for _, c := range []struct{ text, want string }{
		{"#belfry: name=Top", `ops:1:10: "Top" cannot be a name; use a–z, 0–9, dot, dash and underscore, as in "top"`},
		{"#belfry: name=", `ops:1:10: a name is missing`},
		{"#belfry: name=x timeout=30", `ops:1:17: "30" is not a duration; write it as 90s, 30m, 1h30m or 2d`},
		{"#belfry: retry=0", `ops:1:10: "0" is not a number of attempts (1–100)`},
		{"#belfry: retry=many", `ops:1:10: "many" is not a number of attempts (1–100)`},
		{"#belfry: catch_up=some", `ops:1:10: "some" is not one of none, latest, all`},
		{"#belfry: catch_up_window=0", `ops:1:10: "0" is no time at all; write it as 30m or 2h, or leave it out`},
		{"#belfry: overlap=never", `ops:1:10: "never" is not one of skip, queue, replace, allow`},
		{"#belfry: colour=red", `ops:1:10: "colour" is not an option; there are ` + all},
		{"#belfry: python=requirements.txt", `ops:1:10: python is for jobs of a belfry.yaml; “belfry import” writes one of this crontab`},
		{"#belfry: after=backup", `ops:1:10: after is for jobs of a belfry.yaml; “belfry import” writes one of this crontab`},
		{"#belfry: timout=1m", `ops:1:10: "timout" is not an option; did you mean "timeout"?`},
		{"#belfry: pools=gpu,apis", `ops:1:10: "apis" is not a pool; did you mean "api"?`},
		{"#belfry: pools=gpu,gpu", `ops:1:10: the pool "gpu" stands twice; a run takes one place in each`},
		{"#belfry: umask=029", `ops:1:10: "029" is not a umask: write octal digits, as in "027"`},
		{"#belfry: nice=20", `ops:1:10: "20" is not a niceness (-20 … 19)`},
		{"#belfry: log_limit=64MB", `ops:1:10: "64MB" is not a size; write it as 64MiB, 2GiB or a number of bytes, or none`},
		{"#belfry: log_limit=1KiB", `ops:1:10: "1KiB" is too little for a log: 16KiB at least, or none`},
		{"#belfry: publish=", `ops:1:10: publish needs a target: a folder or s3://bucket/prefix/`},
		{"#belfry: publish=~/x", `ops:1:10: "~/x": only a shell knows what ~ is; write "$HOME/x"`},
		{"#belfry: publish=/x publish_mode=add", `ops:1:21: "add" is not one of replace, append, fail_if_exists`},
		{"#belfry: publish_mode=append", `ops:1:10: publish_mode says nothing without a target; write publish=TARGET beside it`},
		{"#belfry: timeout=x\n#belfry: 이름=x", "ops:1:10: \"x\" is not a duration; write it as 90s, 30m, 1h30m or 2d\nops:2:10: \"이름\" is not an option; there are " + all},
	} {
		jobs, errs := fromText(t, c.text+"\n0 1 * * * x\n0 2 * * * y\n")
		if errs.Error() != c.want {
			t.Errorf("%q\n got %v\nwant %s", c.text, errs, c.want)
		}
		if len(jobs) != 1 || jobs[0].Command.Text != "y" {
			t.Errorf("%q: want the good entry alone, got %d jobs", c.text, len(jobs))
		}
	}
}

func TestANameIsGivenOnceInAFile(t *testing.T) {
	t.Parallel()
	jobs, errs := fromText(t, "#belfry: name=a\n0 1 * * * x\n#belfry: timeout=1m name=a\n0 2 * * * y\n")
	if want := `ops:3:21: "a" is the name of line 2 already`; errs.Error() != want {
		t.Errorf("errors\n got %v\nwant %s", errs, want)
	}
	if len(jobs) != 1 || jobs[0].Command.Text != "x" {
		t.Errorf("want the first entry alone, got %d jobs", len(jobs))
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	const wrong = time.Duration(-1)
	for _, c := range []struct {
		text string
		want time.Duration
		why  string
	}{
		{"90s", 90 * time.Second, ""},
		{"30m", 30 * time.Minute, ""},
		{"1h30m", 90 * time.Minute, ""},
		{"2d", 48 * time.Hour, ""},
		{"1d12h", 36 * time.Hour, ""},
		{"1.5d", 36 * time.Hour, ""},
		{"0.5h", 30 * time.Minute, ""},
		{"1d1h1m1s", 25*time.Hour + 61*time.Second, ""},
		{"0", 0, "the way to take a default back"},
		{"0s", 0, ""},
		{"36500d", 36500 * 24 * time.Hour, "a hundred years"},
		{"", wrong, ""},
		{"30", wrong, "a unit is missing"},
		{"-5m", wrong, "negative"},
		{"+5m", wrong, ""},
		{"d", wrong, "no number"},
		{"NaNd", wrong, "not a number to a person"},
		{"infd", wrong, ""},
		{"1e3d", wrong, ""},
		{"0x1d", wrong, ""},
		{"36501d", wrong, "too long"},
		{"36500d2000000h", wrong, "more than a Duration holds"},
		{"9999999999999999999h", wrong, ""},
		{"5ms", wrong, "belfry has no such unit"},
		{"1h 30m", wrong, "a blank"},
		{"1m1h", wrong, "the wrong way round"},
		{"5 minutes", wrong, ""},
		{"1H", wrong, ""},
	} {
		got, err := ParseDuration(c.text)
		if c.want == wrong {
			if err == nil {
				t.Errorf("ParseDuration(%q) = %v, want an error %s", c.text, got, c.why)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v %s", c.text, got, err, c.want, c.why)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"90s", "1.5d", "36500d876000h", "1h30m", "NaNd", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && (d < 0 || d > 2*36500*24*time.Hour) {
			t.Errorf("ParseDuration(%q) = %v", text, d)
		}
	})
}

package job

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belfry/crontab"
)

// july is when the jobs of these tests are loaded.
var july = time.Date(2026, 7, 10, 3, 0, 0, 0, time.UTC)

func publishing(r Rhythm, name string, to ...string) *Job {
	j := &Job{ID: ID{Project: "lake", Name: name}, Schedules: r.Schedules, Settings: &Settings{Zone: r.Zone, Dir: "/srv/lake"}}
	for _, to := range to {
		j.Publish = append(j.Publish, Target{To: to})
	}
	return j
}

func TestTargetsThatTwoFiringsShareAreFound(t *testing.T) {
	t.Parallel()
	const date, hour = "s3://lake/dt=$BELFRY_DATE/", "s3://lake/dt=$BELFRY_DATE/hh=$BELFRY_HOUR/"
	nightly, hourly := inZone(t, "Asia/Seoul", "0 1 * * *"), inZone(t, "Asia/Seoul", "0 * * * *")
	berlin := inZone(t, "Europe/Berlin", "0 * * * *")
	for _, c := range []struct {
		why    string
		rhythm Rhythm
		to     string
		want   string // empty: it may stay
	}{
		{"a date for a night", nightly, date, ""},
		{"a short form of it", nightly, "lake/$BELFRY_DATE", ""},
		{"the day before", nightly, "lake/${BELFRY_START_DATE}", ""},
		{"no date", nightly, "lake/", "2026-07-11 01:00 and 2026-07-12 01:00 (Asia/Seoul): add $BELFRY_DATE"},
		{"an hour alone", nightly, "lake/$BELFRY_HOUR", "2026-07-11 01:00 and 2026-07-12 01:00 (Asia/Seoul): add $BELFRY_DATE"},
		{"a dollar is no date", nightly, "lake/$$BELFRY_DATE", "2026-07-11 01:00 and 2026-07-12 01:00 (Asia/Seoul): add $BELFRY_DATE"},
		{"hourly", hourly, date, "2026-07-10 13:00 and 2026-07-10 14:00 (Asia/Seoul): add $BELFRY_HOUR"},
		{"hourly, by the hour", hourly, hour, ""},
		{"hourly, without a date", hourly, "lake/", "2026-07-10 13:00 and 2026-07-10 14:00 (Asia/Seoul): add $BELFRY_DATE and $BELFRY_HOUR"},
		{"hourly, by the hour alone", hourly, "lake/$BELFRY_HOUR", "2026-07-10 13:00 and 2026-07-11 13:00 (Asia/Seoul): add $BELFRY_DATE"},
		{"twice a day", inZone(t, "UTC", "0 3,15 * * *"), date, "2026-07-11 03:00 and 2026-07-11 15:00 (UTC): add $BELFRY_HOUR"},
		{"twice a day, by two schedules", inZone(t, "UTC", "0 3 * * *", "30 15 * * *"), date, "2026-07-11 03:00 and 2026-07-11 15:30 (UTC): add $BELFRY_HOUR"},
		{"twice on Sundays", inZone(t, "UTC", "0 3 * * *", "0 4 * * 0"), date, "2026-07-12 03:00 and 2026-07-12 04:00 (UTC): add $BELFRY_HOUR"},
		{"twice on one day in a hundred", inZone(t, "UTC", "0 3 * * *", "0 4 1 10 *"), date, "2026-10-01 03:00 and 2026-10-01 04:00 (UTC): add $BELFRY_HOUR"},
		{"twice in an hour", inZone(t, "UTC", "0,30 * * * *"), hour, "2026-07-10 04:00 and 2026-07-10 04:30 (UTC): add $BELFRY_STAMP"},
		{"twice in an hour, by the stamp", inZone(t, "UTC", "0,30 * * * *"), "lake/$BELFRY_STAMP", ""},
		{"each minute, by the interval's end", inZone(t, "UTC", "* * * * *"), "lake/$BELFRY_INTERVAL_END", ""},
		{"each minute, by its begin", inZone(t, "UTC", "* * * * *"), "lake/$BELFRY_INTERVAL_START", ""},
		{"each run by itself", inZone(t, "UTC", "* * * * *"), "lake/$BELFRY_RUN", ""},
		{"schedules that meet are one firing", inZone(t, "UTC", "0 3 * * *", "0 3 * * 1"), date, ""},

		{"the hour that comes twice in autumn", berlin, hour, "2026-10-25 02:00 +02:00 and 2026-10-25 02:00 +01:00 (Europe/Berlin): add $BELFRY_STAMP"},
		{"hourly there, by the date", berlin, date, "2026-07-10 06:00 and 2026-07-10 07:00 (Europe/Berlin): add $BELFRY_STAMP"},
		{"a fixed schedule fires once in it", inZone(t, "Europe/Berlin", "0 1-5 * * *"), hour, ""},
		{"and moved by spring's gap it keeps its hour", inZone(t, "Europe/Berlin", "30 2,3 * * *"), hour, ""},
		{"half an hour that comes twice", inZone(t, "Australia/Lord_Howe", "45 * * * *"), hour, "2027-04-04 01:45 +11:00 and 2027-04-04 01:45 +10:30 (Australia/Lord_Howe): add $BELFRY_STAMP"},
		{"half an hour that this job is not in", inZone(t, "Australia/Lord_Howe", "15 * * * *"), hour, ""},
		{"a change in the evening", inZone(t, "America/Havana", "0 * * * *"), hour, "2026-11-01 00:00 -04:00 and 2026-11-01 00:00 -05:00 (America/Havana): add $BELFRY_STAMP"},
		{"a zone that was moved for the last time", inZone(t, "Pacific/Apia", "0 * * * *"), hour, ""},

		{"never", inZone(t, "UTC"), "lake/", ""},
		{"at boots", inZone(t, "UTC", "@reboot"), "lake/", ""},
		{"once in four years", inZone(t, "UTC", "0 0 29 2 *"), "lake/", "2028-02-29 00:00 and 2032-02-29 00:00 (UTC): add $BELFRY_DATE"},
		{"a ${ that is not closed fails by itself", nightly, "lake/${BELFRY_DATE", ""},
		{"what others set is the same always", nightly, "s3://$BUCKET/", "2026-07-11 01:00 and 2026-07-12 01:00 (Asia/Seoul): add $BELFRY_DATE"},
		{"a date in env", nightly, "s3://lake/$PART/", ""},
		{"no date in env", nightly, "s3://lake/$MARKET/", "2026-07-11 01:00 and 2026-07-12 01:00 (Asia/Seoul): add $BELFRY_DATE"},
	} {
		j := publishing(c.rhythm, "songs", c.to)
		j.Env = []crontab.Var{{Name: "MARKET", Value: "KR"}, {Name: "DAY", Value: "dt=$BELFRY_DATE"}, {Name: "PART", Value: "$MARKET/$DAY/$PART"}}
		want := ""
		if between, add, found := strings.Cut(c.want, ": add "); found {
			want = fmt.Sprintf("%q is the same place for the firings of %s: the second would replace what the first has published. Add %s to it, or say what is meant: “mode: replace”, or “mode: append” to keep the files of both", c.to, between, add)
		}
		for kind, j := range map[string]*Job{"a job": j, "after others": afterOf(j)} {
			got := ""
			if list := FindShared([]*Job{j}, july); len(list) > 0 {
				got = list[0].Message
			}
			if got != want {
				t.Errorf("%s, %s: %s\n got %s\nwant %s", kind, c.why, c.to, got, want)
			}
			for mode, want := range map[Mode]int{ModeReplace: 0, ModeAppend: 0, ModeFail: min(len(want), 1)} {
				j.Publish[0].Mode = mode
				list := FindShared([]*Job{j}, july)
				if len(list) != want || want == 1 && !strings.Contains(list[0].Message, ": the second would fail, for the first has published there. ") {
					t.Errorf("%s, %s, %s: %+v", kind, c.why, mode, list)
				}
			}
		}
	}
}

// afterOf gives a job that has the rhythm of j because it comes after one.
func afterOf(j *Job) *Job {
	settings := *j.Settings
	settings.Publish = []Target{j.Publish[0]}
	settings.Inherited = []Rhythm{j.own()}
	return &Job{ID: j.ID, Settings: &settings}
}

func TestTargetsThatTwoJobsShareAreFound(t *testing.T) {
	t.Parallel()
	night, noon, monday := inZone(t, "UTC", "0 1 * * *"), inZone(t, "UTC", "0 12 * * *"), inZone(t, "UTC", "0 1 * * 1")
	for _, c := range []struct {
		why  string
		jobs []*Job
		want string // what lies in what, on which date
	}{
		{"places of their own", []*Job{publishing(night, "a", "s3://lake/a/$BELFRY_DATE"), publishing(night, "b", "s3://lake/b/$BELFRY_DATE")}, ""},
		{"one that begins like the other", []*Job{publishing(night, "a", "s3://lake/a/$BELFRY_DATE"), publishing(night, "b", "s3://lake/a/$BELFRY_DATE-b"), publishing(night, "c", "s3://lake/ab/$BELFRY_DATE")}, ""},
		{"the same", []*Job{publishing(night, "a", "s3://lake/$BELFRY_DATE"), publishing(noon, "b", "s3://lake/${BELFRY_DATE}/")}, "b: s3://lake/${BELFRY_DATE}/ is where a publishes too, on 2026-07-11"},
		{"the same at other hours", []*Job{publishing(night, "a", "s3://lake/$BELFRY_STAMP"), publishing(noon, "b", "s3://lake/$BELFRY_STAMP")}, ""},
		{"the same when they meet", []*Job{publishing(night, "a", "s3://lake/$BELFRY_STAMP"), publishing(monday, "b", "s3://lake/$BELFRY_STAMP")}, "b: s3://lake/$BELFRY_STAMP is where a publishes too, on 2026-07-13"},
		{"one in the other", []*Job{publishing(monday, "in", "lake/$BELFRY_DATE/songs/x"), publishing(night, "out", "/srv/lake/lake/$BELFRY_DATE/")}, "in: lake/$BELFRY_DATE/songs/x in /srv/lake/lake/$BELFRY_DATE/ of out, on 2026-07-13"},
		{"one in the other, with a name between them in order", []*Job{publishing(night, "out", "lake/$BELFRY_DATE"), publishing(night, "between", "lake/$BELFRY_DATE-x"), publishing(night, "in", "lake/$BELFRY_DATE/y")}, "in: lake/$BELFRY_DATE/y in lake/$BELFRY_DATE of out, on 2026-07-11"},
		{"each named after its job", []*Job{publishing(night, "a", "lake/$BELFRY_JOB/$BELFRY_DATE"), publishing(night, "b", "lake/$BELFRY_JOB/$BELFRY_DATE")}, ""},
		{"each run by itself", []*Job{publishing(night, "a", "lake/$BELFRY_RUN"), publishing(night, "b", "lake/$BELFRY_RUN")}, ""},
		{"two of one job", []*Job{publishing(inZone(t, "UTC"), "a", "lake/x/$BELFRY_DATE", "lake/x/$BELFRY_DATE/y")}, "a: lake/x/$BELFRY_DATE/y in lake/x/$BELFRY_DATE"},
		{"two of one job, each run by itself", []*Job{publishing(night, "a", "lake/$BELFRY_RUN", "lake/$BELFRY_RUN/y")}, "a: lake/$BELFRY_RUN/y in lake/$BELFRY_RUN"},
		{"one that is run by hand", []*Job{publishing(night, "a", "lake/$BELFRY_DATE"), publishing(inZone(t, "UTC"), "b", "lake/$BELFRY_DATE")}, "b: lake/$BELFRY_DATE is where a publishes too, on 2026-07-11"},
		{"two that are run by hand", []*Job{publishing(inZone(t, "UTC"), "a", "lake/$BELFRY_DATE"), publishing(inZone(t, "Asia/Seoul", "@reboot"), "b", "lake/$BELFRY_DATE")}, "b: lake/$BELFRY_DATE is where a publishes too, on 2026-07-11"},
		{"two that are run by hand, at places of their own", []*Job{publishing(inZone(t, "UTC"), "a", "lake/a/$BELFRY_DATE"), publishing(inZone(t, "UTC"), "b", "lake/b/$BELFRY_DATE")}, ""},
	} {
		var got []string
		for _, s := range FindShared(c.jobs, july) {
			text, _, _ := strings.Cut(s.Message, ", another target of the job: ")
			text, _, _ = strings.Cut(text, ": one would replace")
			got = append(got, s.Job.Name+": "+strings.NewReplacer(`"`, "", " lies in ", " in ").Replace(text))
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.why, text, c.want)
		}
		for _, j := range c.jobs {
			for i := range j.Publish {
				j.Publish[i].Mode = ModeAppend
			}
		}
		if list := FindShared(c.jobs, july); len(list) > 0 {
			t.Errorf("%s, and meant: %+v", c.why, list)
		}
	}
	a, b := publishing(night, "a", "s3://$LAKE/$BELFRY_DATE"), publishing(night, "b", "s3://$LAKE/$BELFRY_DATE")
	a.EnvFile = "/srv/lake/.env"
	if list := FindShared([]*Job{a, b}, july); len(list) > 0 {
		t.Errorf("$LAKE may be another in each: %+v", list)
	}
	b.EnvFile = a.EnvFile
	if list := FindShared([]*Job{a, b}, july); len(list) != 1 {
		t.Errorf("$LAKE is the same in both: %+v", list)
	}
}

func TestAnEntryThatSharesItsTargetIsLeftOutAndTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{
			"#belfry: publish=/lake/$BELFRY_DATE\n0 1 * * * x\n#belfry: timeout=1m publish=/other/$BELFRY_DATE\n0 * * * * y\n",
			`ops:3:21: "/other/$BELFRY_DATE" is the same place for the firings of 2026-07-10 04:00 and 2026-07-10 05:00 (UTC): the second would replace what the first has published. Add $BELFRY_HOUR to it, or say what is meant: “publish_mode=replace”, or “publish_mode=append” to keep the files of both`,
		},
		{"#belfry: publish=/lake/$BELFRY_DATE publish_mode=replace\n0 * * * * y\n#belfry: publish=/lake/$BELFRY_JOB/$BELFRY_DATE\n0 1 * * * z\n#belfry: publish=/lake/$BELFRY_JOB/$BELFRY_DATE\n0 1 * * * z\n", ""},
	} {
		file, err := crontab.Parse("ops", []byte(c.text), crontab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		jobs, errs := FromCrontab(file, Crontab{Project: "ops", File: "/ops", Zone: time.UTC, Now: july})
		got := ""
		if len(errs) > 0 {
			got = errs.Error()
		}
		if got != c.want || len(jobs) != len(file.Entries)-len(errs) {
			t.Errorf("%s\n got %d jobs, %s\nwant %s", c.text, len(jobs), got, c.want)
		}
	}
}

// BenchmarkFindShared tells what the look at five thousand jobs takes, all of
// which publish and none of which share anything.
func BenchmarkFindShared(b *testing.B) {
	for name, c := range map[string]struct{ zone, expr, to string }{
		"nightly":              {"Europe/Berlin", "%d 1 * * *", "s3://lake/$BELFRY_JOB/dt=$BELFRY_DATE/"},
		"hourly":               {"Asia/Seoul", "%d * * * *", "s3://lake/$BELFRY_JOB/dt=$BELFRY_DATE/hh=$BELFRY_HOUR/"},
		"nightly, by interval": {"Europe/Berlin", "%d 1 * * *", "s3://lake/$BELFRY_JOB/dt=$BELFRY_START_DATE/"},
		"the name last":        {"Europe/Berlin", "%d 1 * * *", "s3://lake/dt=$BELFRY_DATE/$BELFRY_JOB/"},
		"the stamp":            {"Europe/Berlin", "%d 1 * * *", "s3://lake/$BELFRY_JOB/$BELFRY_STAMP/"},
		"the run":              {"Europe/Berlin", "%d 1 * * *", "s3://lake/$BELFRY_RUN/"},
	} {
		b.Run(name, func(b *testing.B) {
			var jobs []*Job
			for i := range 5000 {
				jobs = append(jobs, publishing(inZone(b, c.zone, fmt.Sprintf(c.expr, i%60)), fmt.Sprint("job-", i), c.to))
			}
			for b.Loop() {
				if list := FindShared(jobs, july); len(list) > 0 {
					b.Fatal(list[0].Message)
				}
			}
		})
	}
}

//go:build linux

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/api"
)

// soon is a minute that a daemon started now is there for.
func soon() time.Time { return time.Now().Add(70 * time.Second).Truncate(time.Minute) }

// firing waits for the end of the run that the schedule, or a parent's, made of
// a job. It must have been recorded.
func (p *place) firing(job string) api.Run {
	p.t.Helper()
	runs, err := p.client().Runs(context.Background(), api.RunFilter{Job: job})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range runs {
		if r.Cause == "schedule" || r.Cause == "after" {
			return p.finished(r.ID)
		}
	}
	p.t.Fatalf("%s has no firing: %+v", job, runs)
	return api.Run{}
}

func TestACrontabFiresOnTheMinuteAndItsOutputIsMailedAsCronDoes(t *testing.T) {
	t.Parallel()
	at := soon().UTC()
	seoul := at.In(time.FixedZone("KST", 9*60*60))
	p := newPlace(t, "jobs.cron", fmt.Sprintf(`# 매일 새벽 1시(KST)
LANG=ko_KR.UTF-8
API_TOKEN=hunter2
MAILTO=tester@example.com
%d %d * * * cat; echo "아이유 $BELFRY_DATE $API_TOKEN" >&2; exit 4%%표준 입력%%둘째 줄
CRON_TZ=Asia/Seoul
%d %d * * * echo "in Seoul it is $BELFRY_DATE"
MAILTO=""
%d %d * * * echo nobody reads this
99 * * * * echo never
`, at.Minute(), at.Hour(), seoul.Minute(), seoul.Hour(), seoul.Minute(), seoul.Hour()))
	serve := p.start("serve", "--crontab", "jobs.cron")
	serve.until(`this line is left out: jobs.cron:10:1: "99" is not a minute`)
	serve.until(": ready, 3 jobs")
	for range 3 {
		serve.until("msg=started")
	}

	first := p.firing("cat")
	if first.State != "failed" || *first.ExitCode != 4 || !first.FiresAt.Equal(at) {
		t.Errorf("cat: %s, exit code %d, fired at %s; want failed, 4, %s", first.State, *first.ExitCode, first.FiresAt, at)
	}
	if r := p.firing("echo"); r.State != "succeeded" || r.Date != seoul.Format(time.DateOnly) || !r.FiresAt.Equal(at) {
		t.Errorf("echo: %s for %s at %s; want succeeded for Seoul's %s at %s", r.State, r.Date, r.FiresAt, seoul.Format(time.DateOnly), at)
	}
	p.firing("echo-2")
	if out, _, _ := p.belfry("logs", "cat"); out != fmt.Sprintf("표준 입력\n둘째 줄\n아이유 %s *******\n", at.Format(time.DateOnly)) {
		t.Errorf("the output is %q", out)
	}
	for range 2 {
		serve.until("mail delivered")
	}
	mail := p.mail()
	for _, want := range []string{
		"\nFrom: \"(Cron Daemon)\" <" + jobOwner(t, p) + ">\n",
		"\nTo: tester@example.com\n",
		"\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n",
		"\nX-Cron-Env: <LANG=ko_KR.UTF-8>\n",
		"\nX-Cron-Env: <API_TOKEN=***>\n",
		"\nX-Cron-Env: <MAILTO=tester@example.com>\n",
		"> cat; echo \"아이유 $BELFRY_DATE $API_TOKEN\" >&2; exit 4\n",
		"\n\n표준 입력\n둘째 줄\n아이유 " + at.Format(time.DateOnly) + " *******\n",
	} {
		if !strings.Contains(mail, want) {
			t.Errorf("the mail lacks %q:\n%s", want, mail)
		}
	}
	if strings.Contains(mail, "nobody reads this") {
		t.Errorf("MAILTO=\"\" was mailed:\n%s", mail)
	}
}

// mail gives all mailboxes' text.
func (p *place) mail() string {
	p.t.Helper()
	boxes, err := filepath.Glob(p.path("mail/*"))
	if err != nil {
		p.t.Fatal(err)
	}
	var all strings.Builder
	for _, box := range boxes {
		text, err := os.ReadFile(box)
		if err != nil {
			p.t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func TestTheExampleRunsAtItsTimeAndTheSecondJobAfterTheFirst(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	copyExample(t, p.dir)
	seoul, err := time.LoadLocation("Asia/Seoul")
	if err != nil {
		t.Fatal(err)
	}
	at := soon().In(seoul)
	moved := strings.Replace(p.read("belfry.yaml"), `schedule: "0 1 * * *"`, fmt.Sprintf(`schedule: "%d %d * * *"`, at.Minute(), at.Hour()), 1)
	p.write("belfry.yaml", moved)
	p.serve().until("msg=started")

	first, second := p.firing("top-tracks"), p.firing("related-artists")
	day := at.Format(time.DateOnly)
	for _, r := range []api.Run{first, second} {
		if r.State != "succeeded" || r.Date != day || !r.FiresAt.Equal(at) {
			t.Errorf("%s: %s (%s) for %s at %s; want succeeded for %s at %s", r.Job, r.State, r.Reason, r.Date, r.FiresAt, day, at)
		}
	}
	if second.Cause != "after" || second.StartedAt.Before(*first.EndedAt) {
		t.Errorf("related-artists (%s) started at %s, top-tracks had ended at %s", second.Cause, second.StartedAt, first.EndedAt)
	}
	for _, set := range []string{"top-tracks", "audio-features", "related-artists"} {
		if _, err := os.Stat(p.path("lake/" + set + "/dt=" + day + "/_SUCCESS")); err != nil {
			t.Error(err)
		}
	}
	if log, _, _ := p.belfry("logs", "top-tracks"); !strings.Contains(log, "아티스트 36명") {
		t.Errorf("the log of top-tracks is\n%s", log)
	}
}

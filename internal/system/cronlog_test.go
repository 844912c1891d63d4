package system

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheLogOfEachCronSaysWhatItStarted(t *testing.T) {
	t.Parallel()
	seoul, err := time.LoadLocation("Asia/Seoul")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2027, 1, 2, 3, 0, 0, 0, seoul)
	at := func(year int, month time.Month, day, hour, minute, second int) time.Time {
		return time.Date(year, month, day, hour, minute, second, 0, seoul)
	}
	for _, c := range []struct {
		why, line string
		want      *Started
	}{
		{"rsyslog's traditional form, of this year", "Jan  2 02:17:01 db1 CRON[123]: (root) CMD (cd / && run-parts --report /etc/cron.hourly)", &Started{at(2027, 1, 2, 2, 17, 1), "root", "cd / && run-parts --report /etc/cron.hourly"}},
		{"and of the last", "Dec 31 23:59:01 db1 CRON[123]: (alice) CMD (a)", &Started{at(2026, 12, 31, 23, 59, 1), "alice", "a"}},
		{"rsyslog's form in Debian 12", "2027-01-01T17:17:01.123456+00:00 db1 CRON[9]: (root) CMD (true)", &Started{at(2027, 1, 2, 2, 17, 1).Add(123456 * time.Microsecond), "root", "true"}},
		{"the journal's", "2027-01-02T02:17:01+0900 db1 CRON[9]: (root) CMD (true)", &Started{at(2027, 1, 2, 2, 17, 1), "root", "true"}},
		{"the socket's", "<78>Jan  2 02:17:01 CRON[9]: (root) CMD (true)", &Started{at(2027, 1, 2, 2, 17, 1), "root", "true"}},
		{"cronie's", "Jan  2 02:17:01 db1 CROND[9]: (ec2-user) CMD (echo (a) CMD (b))", &Started{at(2027, 1, 2, 2, 17, 1), "ec2-user", "echo (a) CMD (b)"}},
		{"its end", "Jan  2 02:17:01 db1 CROND[9]: (ec2-user) CMDEND (true)", nil},
		{"its output, which may say anything", "Jan  2 02:17:01 db1 CROND[9]: (ec2-user) CMDOUT (CRON[1]: (root) CMD (x))", nil},
		{"a session", "Jan  2 02:17:01 db1 CRON[9]: pam_unix(cron:session): session opened for user root", nil},
		{"somebody else", "Jan  2 02:17:01 db1 sshd[9]: (root) CMD (true)", nil},
		{"no such day", "Feb 30 02:17:01 db1 CRON[9]: (root) CMD (true)", nil},
		{"a leap day", "Feb 29 02:17:01 db1 CRON[9]: (root) CMD (true)", &Started{at(2024, 2, 29, 2, 17, 1), "root", "true"}},
	} {
		got, _, err := ReadCronLog(strings.NewReader("noise\n"+c.line+"\n"), seoul, now)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
		var want []Started
		if c.want != nil {
			want = []Started{*c.want}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", c.why, c.line, diff)
		}
	}
	_, begins, err := ReadCronLog(strings.NewReader("Jan  1 02:17:01 db1 kernel: hello\nJan  2 02:17:01 db1 CRON[9]: (root) CMD (true)"), seoul, now)
	if want := at(2027, 1, 1, 2, 17, 1); err != nil || !begins.Equal(want) {
		t.Errorf("the log begins at %s, %v; want %s", begins, err, want)
	}
}

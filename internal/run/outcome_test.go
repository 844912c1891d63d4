package run

import (
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/proc"
)

func TestBackoffGrowsWithinItsBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why   string
		retry job.Retry
		n     int
		full  time.Duration // half of it at least
	}{
		{"none is asked for", job.Retry{}, 1, 0},
		{"none, however often", job.Retry{}, 1000, 0},
		{"the first", job.Retry{Backoff: time.Minute}, 1, time.Minute},
		{"it doubles", job.Retry{Backoff: time.Minute}, 2, 2 * time.Minute},
		{"and again", job.Retry{Backoff: time.Minute}, 5, 16 * time.Minute},
		{"up to its cap", job.Retry{Backoff: time.Minute, MaxBackoff: 10 * time.Minute}, 5, 10 * time.Minute},
		{"exactly its cap", job.Retry{Backoff: time.Minute, MaxBackoff: 8 * time.Minute}, 4, 8 * time.Minute},
		{"a cap below the first", job.Retry{Backoff: time.Hour, MaxBackoff: time.Minute}, 1, time.Minute},
		{"a day at most", job.Retry{Backoff: time.Minute}, 1000, 24 * time.Hour},
		{"a day, with a higher cap", job.Retry{Backoff: time.Minute, MaxBackoff: 100 * time.Hour}, 1000, 24 * time.Hour},
		{"a day, from the first", job.Retry{Backoff: 1 << 62}, 1, 24 * time.Hour},
		{"no overflow", job.Retry{Backoff: 1 << 62}, 1000, 24 * time.Hour},
	} {
		for _, chance := range []float64{0, 0.5, 0.999999} {
			got := backoff(c.retry, c.n, chance)
			want := c.full/2 + time.Duration(chance*float64(c.full/2))
			if got != want {
				t.Errorf("%s: after attempt %d of %+v by chance %v: %s, want %s", c.why, c.n, c.retry, chance, got, want)
			}
		}
	}
}

func TestOutcomeSaysWhatAnExitMeans(t *testing.T) {
	t.Parallel()
	plain, publishes := &job.Job{Settings: &job.Settings{Timeout: time.Minute}}, &job.Job{Settings: &job.Settings{Publish: []job.Target{{To: "/x"}}}}
	for _, c := range []struct {
		why    string
		job    *job.Job
		exit   proc.Exit
		state  State
		reason string
	}{
		{"it went well", plain, proc.Exit{}, Succeeded, ""},
		{"and has something to publish", publishes, proc.Exit{}, Publishing, ""},
		{"it failed", plain, proc.Exit{Code: 3}, Failed, "exit status 3"},
		{"a failed run publishes nothing", publishes, proc.Exit{Code: 3}, Failed, "exit status 3"},
		{"it was killed", plain, proc.Exit{Code: -1, Signal: "SIGSEGV"}, Failed, "killed by SIGSEGV"},
		{"it took too long", plain, proc.Exit{Code: -1, Signal: "SIGTERM", TimedOut: true}, Failed, "timeout: it ran longer than 1m0s"},
		{"it took too long and ended well", plain, proc.Exit{TimedOut: true}, Failed, "timeout: it ran longer than 1m0s"},
		{"it was stopped", plain, proc.Exit{Code: -1, Signal: "SIGTERM", Stopped: true}, Cancelled, "stopped by a person"},
		{"it was stopped and ended well", publishes, proc.Exit{Stopped: true}, Cancelled, "stopped by a person"},
		{"it was stopped when its time was over", plain, proc.Exit{TimedOut: true, Stopped: true}, Cancelled, "stopped by a person"},
		{"its lease ran out", publishes, proc.Exit{Code: -1, Signal: "SIGKILL", LeaseLost: true}, Lost, "its lease ran out, and its keeper ended it"},
		{"its lease ran out, and it ended well", publishes, proc.Exit{LeaseLost: true}, Lost, "its lease ran out, and its keeper ended it"},
		{"its lease ran out before it was started", plain, proc.Exit{Code: -1, Error: "too late", LeaseLost: true}, Lost, "too late"},
		{"it was stopped before it was started", plain, proc.Exit{Code: -1, Error: "stopped before it was started", Stopped: true}, Cancelled, "stopped by a person"},
		{"it could not be started", publishes, proc.Exit{Code: -1, Error: "no such file"}, Failed, "no such file"},
	} {
		if state, reason := outcome(c.job, Run{}, c.exit); state != c.state || reason != c.reason {
			t.Errorf("%s: %+v is %s (%q), want %s (%q)", c.why, c.exit, state, reason, c.state, c.reason)
		}
	}
	replaced := Run{Reason: "replaced by run R2"}
	if state, reason := outcome(plain, replaced, proc.Exit{Stopped: true}); state != Cancelled || reason != replaced.Reason {
		t.Errorf("one that was replaced is %s (%q)", state, reason)
	}
	if state, _ := outcome(plain, replaced, proc.Exit{}); state != Succeeded {
		t.Errorf("one that ended well before it could be replaced is %s", state)
	}
}

func TestARetryFollowsTheExitCodesItIsFor(t *testing.T) {
	t.Parallel()
	code := func(n int) *int { return &n }
	for _, c := range []struct {
		why   string
		retry job.Retry
		n     int
		code  *int
		want  bool
	}{
		{"none is asked for", job.Retry{}, 1, code(1), false},
		{"any failure", job.Retry{Attempts: 2}, 1, code(1), true},
		{"also a signal", job.Retry{Attempts: 2}, 1, nil, true},
		{"they are used up", job.Retry{Attempts: 2}, 2, code(1), false},
		{"the code is one of them", job.Retry{Attempts: 2, OnExit: []int{75, 1}}, 1, code(75), true},
		{"it is not", job.Retry{Attempts: 2, OnExit: []int{75, 1}}, 1, code(2), false},
		{"a signal is no code", job.Retry{Attempts: 2, OnExit: []int{75}}, 1, nil, false},
	} {
		if got := retries(c.retry, c.n, c.code); got != c.want {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}

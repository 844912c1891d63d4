package plan

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"
)

func TestACrontabJobFollowsACronWhoseClockIsStepped(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/clock.json")
	if err != nil {
		t.Fatal(err)
	}
	type firing struct {
		ScheduledFor string `json:"scheduled_for"`
	}
	var vectors []struct {
		ID, Expr, TZ string
		DaemonStart  time.Time `json:"daemon_start"`
		StepAt       time.Time `json:"step_at"`
		StepSeconds  int       `json:"step_seconds"`
		Cronie       []firing
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 55 {
		t.Fatalf("%d vectors, want 55", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			step := time.Duration(v.StepSeconds) * time.Second
			w := newWorld(t, v.DaemonStart.Format(time.RFC3339), newJob("x", zone(t, v.TZ), v.Expr))
			w.live(v.StepAt.Sub(v.DaemonStart))
			w.step(step)
			// cronie was watched for half an hour after a step ahead; after one
			// back for three and a half hours of the old time, or 24 firings.
			watched := 30 * time.Minute
			if step < 0 {
				watched = 3*time.Hour + 30*time.Minute - step
			}
			w.live(watched)
			var got, want []string
			for _, r := range w.runs {
				if r.Verdict == Due {
					got = append(got, r.FiresAt.In(r.Job.Zone).Format("2006-01-02T15:04"))
				}
			}
			got = got[:min(len(got), 24)]
			for _, f := range v.Cronie {
				want = append(want, f.ScheduledFor)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s in %s, stepped by %v at %v\n got %v\nwant %v", v.Expr, v.TZ, step, v.StepAt, got, want)
			}
		})
	}
}

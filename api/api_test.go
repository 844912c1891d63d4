package api_test

import (
	"testing"
	"time"

	"belfry/api"
)

func TestVersionChangesWithEachStepOfALife(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for why, r := range map[string]api.Run{
		"queued":            {State: "queued"},
		"waits for a slot":  {State: "queued", Reason: "slot: all 1 are taken"},
		"runs":              {State: "running", Attempt: 1},
		"waits for a retry": {State: "queued", Attempt: 1, Reason: "retry"},
		"runs again":        {State: "running", Attempt: 2},
		"has ended":         {State: "failed", Attempt: 2, Reason: "exit status 1"},
	} {
		v := api.Version(r)
		if other, ok := seen[v]; ok {
			t.Errorf("%s and %s have the same version %q", why, other, v)
		}
		seen[v] = why
	}
}

func TestTimeIsInUTCAndNilForNone(t *testing.T) {
	t.Parallel()
	if got := api.Time(time.Time{}); got != nil {
		t.Errorf("the zero time is %s", got)
	}
	local := time.Date(2026, 7, 10, 1, 0, 0, 0, time.FixedZone("KST", 9*3600))
	if got := api.Time(local); got == nil || got.Location() != time.UTC || !got.Equal(local) {
		t.Errorf("%s is %v", local, got)
	}
}

func TestARunIsFinishedWhenNothingComesOfItByItself(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]bool{
		"queued": false, "running": false, "publishing": false, "succeeded": true, "failed": true, "lost": true, "cancelled": true, "skipped": true, "missed": true,
	} {
		if got := (api.Run{State: state}).Finished(); got != want {
			t.Errorf("%s: %v, want %v", state, got, want)
		}
	}
}

package notify

import (
	"os"
	"testing"

	"belfry/internal/machine"
)

func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		machine.Lacks(t, "a way to be nobody on one thread")
	}
	f()
}

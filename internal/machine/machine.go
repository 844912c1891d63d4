// Package machine answers one question: what does a test need that this
// machine lacks? Only tests import it.
package machine

import (
	"fmt"
	"os"
	"testing"
)

// list names a file that gets a line for every test that was skipped.
const list = "BELFRY_SKIPPED"

// Lacks skips a test, and says what it would need. `make test` ends with all
// that was said.
func Lacks(t testing.TB, what string, args ...any) {
	t.Helper()
	what = fmt.Sprintf(what, args...)
	if path := os.Getenv(list); path != "" { //nolint:forbidigo // the test run says where it gathers them
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		if _, err := fmt.Fprintf(file, "%s: this machine lacks %s\n", t.Name(), what); err != nil {
			t.Fatal(err)
		}
	}
	t.Skipf("this machine lacks %s", what)
}

// NeedsRoot skips a test that only root can do.
func NeedsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root: the tests run as user %d", os.Geteuid())
	}
}

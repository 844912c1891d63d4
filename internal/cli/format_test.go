package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belfry/api"
)

func TestAStreamedArrayIsWrittenAsAWholeOne(t *testing.T) {
	t.Parallel()
	type item struct {
		Name string   `json:"name"`
		List []string `json:"list"`
	}
	for _, items := range [][]item{{}, {{"a<b>", nil}}, {{"종", []string{"x", "y"}}, {"", []string{}}}} {
		var whole, streamed bytes.Buffer
		if err := printJSON(&whole, items); err != nil {
			t.Fatal(err)
		}
		err := streamJSON(&streamed, func(each func(item) error) error {
			for _, i := range items {
				if err := each(i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || streamed.String() != whole.String() {
			t.Errorf("%v: %q, %v; want %q", items, &streamed, err, &whole)
		}
	}
	broken := errors.New("cut off")
	if err := streamJSON(&bytes.Buffer{}, func(func(item) error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an error of the list gives %v", err)
	}
}

func TestJobsOfSeveralProjectsAreCalledByBoth(t *testing.T) {
	t.Parallel()
	runs := []api.Run{{ID: "1", Project: "alice", Job: "echo"}, {ID: "2", Project: "bob", Job: "echo"}}
	acts := []api.Act{{Person: "alice", Project: "alice", Job: "echo"}, {Person: "bob", Project: "bob", Job: "echo"}, {Person: "bob", Action: "crontab"}}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	c := &command{out: out}
	for _, err := range []error{c.printRuns(runs), c.printActs(acts)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(out.Name())
	if err != nil || strings.Count(string(got), " alice/echo ") != 2 || strings.Count(string(got), " bob/echo ") != 2 {
		t.Errorf("whose they are is not told, %v:\n%s", err, got)
	}
	if name := namer(runs[:1], func(r api.Run) (string, string) { return r.Project, r.Job })(runs[0]); name != "echo" {
		t.Errorf("where there is one project, its job is called %q", name)
	}
}

func TestATabInACellBeginsNoColumn(t *testing.T) {
	t.Parallel()
	var table table
	table.row("SCHEDULE", "NEXT")
	table.row("17 *\t* * *", "01:17") // Debian's /etc/crontab
	var out strings.Builder
	if err := table.print(&out); err != nil || out.String() != "SCHEDULE    NEXT\n17 * * * *  01:17\n" {
		t.Errorf("%v: %q", err, out.String())
	}
}

func TestWhatHappenedIsToldToTheSecond(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 3, 46, 0, 0, time.UTC)
	ended := at.Add(time.Minute)
	code := 0
	a := api.Attempt{Number: 1, StartedAt: at, EndedAt: &ended, ExitCode: &code}
	if got, want := attemptLine(a, "Asia/Seoul"), "started 2026-11-26 12:46:00 KST, exit code 0 after 1 min 0 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

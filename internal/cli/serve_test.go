//go:build linux

package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"belfry/api"
)

// A job that tells when it has begun, waits to be let go on, and notes each
// time that it was begun.
const slowJob = `
jobs:
  slow:
    command: 'echo 시작; echo begun >> ledger; echo > begun.fifo; cat go.fifo; echo 끝; exit 3'
`

func TestAJobOutlivesADaemonThatIsKilled(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	first := p.serve()
	runs, err := p.client().Start(context.Background(), api.RunRequest{Job: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	first.kill()

	if out, _, _ := p.belfry("runs", "--json"); !strings.Contains(out, `"state": "running"`) {
		t.Errorf("while nobody serves, runs says\n%s\nwant the run as running", out)
	}
	second := p.serve()
	p.let("go.fifo")
	r := p.finished(runs[0].ID)
	if r.State != "failed" || r.ExitCode == nil || *r.ExitCode != 3 || r.Attempt != 1 {
		t.Errorf("the run ended as %s (%s), exit code %v, attempt %d; want failed, 3, 1", r.State, r.Reason, r.ExitCode, r.Attempt)
	}
	if out, _, _ := p.belfry("logs", "slow"); out != "시작\ngo\n끝\n" {
		t.Errorf("its output is %q", out)
	}
	if ledger := p.read("ledger"); ledger != "begun\n" {
		t.Errorf("it was begun %d times", strings.Count(ledger, "\n"))
	}
	if code := second.end(syscall.SIGTERM); code != 0 {
		t.Errorf("serve exits with %d after TERM", code)
	}
}

func TestAJobThatEndsWhileNobodyServesIsAccountedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	first := p.serve()
	runs, err := p.client().Start(context.Background(), api.RunRequest{Job: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	first.kill()
	p.let("go.fifo")
	// Its keeper writes the record; the next daemon reads it, whenever it comes.
	p.serve()
	r := p.finished(runs[0].ID)
	if r.State != "failed" || *r.ExitCode != 3 {
		t.Errorf("the run ended as %s, exit code %v; want failed, 3", r.State, r.ExitCode)
	}
	p.told(r.ID)
	if mail := p.read("mail/" + jobOwner(t, p)); !strings.Contains(mail, "시작") || !strings.Contains(mail, "끝") {
		t.Errorf("its mail lacks the output:\n%s", mail)
	}
}

// jobOwner is the user that jobs belong to here.
func jobOwner(t *testing.T, p *place) string {
	t.Helper()
	out, _, _ := p.belfry("jobs", "--json")
	var jobs []api.Job
	if err := json.Unmarshal([]byte(out), &jobs); err != nil || len(jobs) == 0 {
		t.Fatalf("jobs --json: %v\n%s", err, out)
	}
	return jobs[0].Owner
}

func TestASecondDaemonOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.serve()
	_, stderr, code := p.belfry("serve")
	if code != exitRefused || !strings.Contains(stderr, "in use by another belfry (belfry serve, pid ") || !strings.Contains(stderr, "--data") {
		t.Errorf("the second serve exits with %d and says\n%s", code, stderr)
	}
}

func TestServeWaitsForACommandThatOwnsTheData(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	run := p.start("run", "slow")
	p.await("begun.fifo")
	serve := p.start("serve")
	serve.until("waiting until it has ended")
	if code := serve.end(syscall.SIGTERM); code != 0 {
		t.Errorf("serve, told to end while it waits, exits with %d; want 0", code)
	}
	serve = p.start("serve")
	serve.until("waiting until it has ended")
	// Whoever looks on while it runs sees it through the command's socket.
	if health, err := p.client().Health(context.Background()); err != nil || health.Plans {
		t.Errorf("the owner says %+v, %v; want one that does not plan", health, err)
	}
	p.let("go.fifo")
	if code := run.wait(); code != 3 {
		t.Errorf("run exits with %d; want the job's 3", code)
	}
	serve.until(": ready,")
}

func TestRunBesideADaemonSurvivesItsRestart(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	first := p.serve()
	run := p.command("run", "slow")
	var out strings.Builder
	run.Stdout = &out
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	first.kill()
	p.serve()
	p.let("go.fifo")
	if err := run.Wait(); run.ProcessState.ExitCode() != 3 {
		t.Errorf("run exits with %v; want the job's 3", err)
	}
	if out.String() != "시작\ngo\n끝\n" {
		t.Errorf("run printed %q", out.String())
	}
}

func TestInterruptStopsTheRunAndKillsItTheSecondTime(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", `
jobs:
  stubborn:
    command: 'trap "echo no" TERM; echo > begun.fifo; while :; do cat go.fifo; done'
    kill_after: 1h
`)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	run := p.start("run", "stubborn")
	p.await("begun.fifo")
	run.signal(syscall.SIGINT)
	run.until("Ctrl-C again kills it at once")
	run.signal(syscall.SIGINT)
	if code := run.wait(); code != 128+9 {
		t.Errorf("run exits with %d; want 137", code)
	}
	if r := p.show("stubborn"); r.State != "cancelled" {
		t.Errorf("the run is %s (%s); want cancelled", r.State, r.Reason)
	}
}

func TestADaemonRunsWhatHasJustBeenEdited(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs:\n  job: {command: echo one}\n")
	p.serve()
	if out, _, _ := p.belfry("run", "job"); out != "one\n" {
		t.Errorf("at first it prints %q", out)
	}
	p.write("belfry.yaml", "jobs:\n  job: {command: echo another}\n  new: {command: echo new}\n")
	for job, want := range map[string]string{"job": "another\n", "new": "new\n"} {
		if out, stderr, _ := p.belfry("run", job); out != want {
			t.Errorf("after the edit %s prints %q\n%s", job, out, stderr)
		}
	}
	p.write("belfry.yaml", "jobs:\n  job: {comand: echo three}\n")
	_, stderr, code := p.belfry("run", "job")
	if code != exitBadFile || !strings.Contains(stderr, `"comand" is not a key of a job; did you mean "command"?`) {
		t.Errorf("with a mistake it exits with %d and says\n%s", code, stderr)
	}
	if out, stderr, _ := p.belfry("jobs"); !strings.Contains(out, "new") || !strings.Contains(stderr, "goes on with the jobs as they were") {
		t.Errorf("with a mistake, jobs says\n%s%s", out, stderr)
	}
}

func TestADaemonEndsWhenItsFolderIsTakenAway(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	serve := p.serve()
	if err := os.Rename(p.path(dataName), p.path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	serve.signal(syscall.SIGHUP) // it looks at once, else within a minute
	serve.until("was removed or replaced while it was in use")
	if code := serve.wait(); code != exitCannotWrite {
		t.Errorf("serve exits with %d", code)
	}
}

func TestAPublishThatCannotSucceedIsToldAndCanBeGivenUp(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", `
jobs:
  upload:
    command: echo x > $BELFRY_OUTPUT/x
    publish: s3://nowhere/x/
    env: {AWS_ENDPOINT_URL_S3: "http://127.0.0.1:1", AWS_ACCESS_KEY_ID: a, AWS_SECRET_ACCESS_KEY: b, AWS_REGION: us-east-1}
`)
	run := p.start("run", "upload")
	run.until("not published yet (try 1): ")
	// Others see why, and when it is tried again.
	if r := p.show("upload"); r.State != "publishing" || !strings.Contains(r.Reason, "127.0.0.1:1") {
		t.Errorf("meanwhile the run is %s: %q", r.State, r.Reason)
	}
	if out, _, _ := p.belfry("runs"); !strings.Contains(out, "not published yet") {
		t.Errorf("meanwhile runs says\n%s", out)
	}
	run.signal(syscall.SIGINT)
	if code := run.wait(); code != exitRunFailed {
		t.Errorf("run exits with %d", code)
	}
	if r := p.show("upload"); r.State != "cancelled" || r.Notices[0].State != "refused" {
		t.Errorf("the run is %s (%s), its publish %+v", r.State, r.Reason, r.Notices)
	}
}

func TestServeTellsAnyoneWhetherItIsWell(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob+"daemon: {listen: '127.0.0.1:0'}\n")
	serve := p.start("serve")
	address := serve.after("listening on ")
	response, err := http.Get(address + api.Path + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it has been read
	var health api.Health
	if err := json.NewDecoder(response.Body).Decode(&health); err != nil || response.StatusCode != http.StatusOK || !health.Plans || len(health.Parts) == 0 {
		t.Errorf("health is %s %+v, %v", response.Status, health, err)
	}
	_, stderr, code := p.belfry("serve", "--data", "other", "--listen", strings.TrimPrefix(address, "http://"))
	if code != exitRefused || !strings.Contains(stderr, "is taken: another process listens there") {
		t.Errorf("a second serve on the address exits with %d and says\n%s", code, stderr)
	}
	_, stderr, code = p.belfry("serve", "--listen", strings.TrimPrefix(address, "http://"))
	if code != exitRefused || !strings.Contains(stderr, "in use by another belfry") {
		t.Errorf("a second serve on the data exits with %d and says\n%s", code, stderr)
	}
}

func TestServeWaitsForRunningJobsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	serve := p.serve("--wait")
	if _, err := p.client().Start(context.Background(), api.RunRequest{Job: "slow"}); err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	serve.signal(syscall.SIGTERM)
	serve.until("waiting for 1 running job;")
	// It answers while it waits, and starts nothing.
	runs, err := p.client().Runs(context.Background(), api.RunFilter{})
	if err != nil || len(runs) != 1 || runs[0].State != "running" {
		t.Errorf("while it waits the runs are %+v, %v", runs, err)
	}
	p.let("go.fifo")
	if code := serve.wait(); code != 0 {
		t.Errorf("serve exits with %d", code)
	}
	if r := p.show("slow"); r.State != "failed" || *r.ExitCode != 3 {
		t.Errorf("the run it waited for is %s (%s)", r.State, r.Reason)
	}
}

func TestASecondSignalLeavesAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", slowJob)
	p.fifo("begun.fifo")
	p.fifo("go.fifo")
	serve := p.serve("--wait=1h")
	runs, err := p.client().Start(context.Background(), api.RunRequest{Job: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	p.await("begun.fifo")
	serve.signal(syscall.SIGTERM)
	serve.until("waiting for 1 running job;")
	if code := serve.end(syscall.SIGTERM); code != 128+15 {
		t.Errorf("serve exits with %d; want 143", code)
	}
	p.serve()
	p.let("go.fifo")
	if r := p.finished(runs[0].ID); r.State != "failed" || *r.ExitCode != 3 || r.Attempt != 1 {
		t.Errorf("the run that was left is %s (%s), attempt %d", r.State, r.Reason, r.Attempt)
	}
}

func TestDoctorFindsNothingWrongWithADaemonThatIsWell(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n")
	p.serve()
	out, stderr, code := p.belfry("doctor")
	if code != 0 || !strings.Contains(out, "✓  daemon") || strings.Contains(out, "✗") {
		t.Errorf("doctor exits with %d and says\n%s%s", code, out, stderr)
	}
}

func TestADaemonThatDoesNotAnswerIsToldAndNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "belfry.yaml", "jobs:\n  a: {command: \"true\"}\n")
	daemon := p.serve()
	daemon.signal(syscall.SIGSTOP)
	defer daemon.signal(syscall.SIGCONT)
	for _, args := range [][]string{{"runs"}, {"pause", "a"}} {
		if _, stderr, code := p.belfry(args...); code != exitUnavailable || !strings.Contains(stderr, "the daemon does not answer (belfry serve, pid ") {
			t.Errorf("belfry %v: exit %d, %q", args, code, stderr)
		}
	}
	if stdout, _, code := p.belfry("doctor"); code != exitFindings || !strings.Contains(stdout, "the daemon does not answer") {
		t.Errorf("belfry doctor: exit %d\n%s", code, stdout)
	}
}

func TestTheNameOfSeveralJobsIsAskedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "one.cron", "0 1 * * * /bin/backup\n")
	p.write("two.cron", "0 2 * * * /bin/backup\n")
	p.serve("--crontab", "one.cron", "--crontab", "two.cron")
	for _, command := range []string{"explain", "runs"} {
		_, stderr, code := p.belfry(command, "backup")
		if want := `"backup" is the name of 2 jobs`; code != exitUsage || !strings.Contains(stderr, want) || !strings.Contains(stderr, "say which: one.cron/backup, two.cron/backup") {
			t.Errorf("%s ends with %d and says %q; want %d and %q", command, code, stderr, exitUsage, want)
		}
	}
	if out, _, _ := p.belfry("explain", "two.cron/backup"); !strings.Contains(out, "every day at 02:00") {
		t.Errorf("with the project it says %q", out)
	}
}

// Package crashtest holds a campaign: a daemon with many jobs is killed with
// SIGKILL again and again, at random and at each point between a decision and
// its announcement, and afterwards its account is compared with a ledger that
// the jobs write themselves. Meanwhile some of them publish to a bucket again and
// again, and readers look at what is there. In a second campaign the keepers, the
// parents of the jobs, are killed and frozen too. The short ones are part of the
// tests; make crash runs long ones.
package crashtest

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/crash"
	"belfry/internal/machine"
	"belfry/internal/publish/s3test"
)

var (
	length = flag.Duration("campaign", 70*time.Second, "how long daemons are killed")
	scale  = flag.Int("jobs", 10, "how many jobs of each kind")
)

// kind is a sort of jobs, and what their runs must come to.
type kind struct {
	name     string
	yaml     string // of one job; NAME and NUMBER are its own
	crontab  string // or its line
	attempts int
	code     int
	state    string
	replaced bool     // or cancelled, when the next one takes its place
	asked    bool     // by a person: it has no schedule
	after    []string // the kinds of its parents
}

var kinds = []kind{
	{name: "plain", yaml: "schedule: \"* * * * *\"\n    command: [DIR/job, NAME, \"0.NUMBER\", \"0\"]\n    overlap: allow", attempts: 1, state: "succeeded"},
	{name: "long", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME $((10 + NUMBER)) 0\n    overlap: allow", attempts: 1, state: "succeeded"},
	{name: "spread", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME $((5 * NUMBER % 50)) 0\n    overlap: allow", attempts: 1, state: "succeeded"},
	{name: "failing", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME 0.NUMBER 3\n    overlap: allow", attempts: 1, code: 3, state: "failed"},
	{name: "retrying", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME 0.NUMBER 4\n    overlap: allow\n    retry: {attempts: 3, backoff: 0.2s}", attempts: 3, code: 4, state: "failed"},
	{name: "child", yaml: "after: [plain-NUMBER]\n    command: DIR/job NAME 0.NUMBER 0\n    overlap: allow", attempts: 1, state: "succeeded", after: []string{"plain"}},
	{name: "orphan", yaml: "after: [failing-NUMBER]\n    command: DIR/job NAME 0 0\n    overlap: allow", attempts: 0, state: "skipped", after: []string{"failing"}},
	{name: "diamond", yaml: "after: [plain-NUMBER, child-NUMBER]\n    command: DIR/job NAME 0 0\n    overlap: allow", attempts: 1, state: "succeeded", after: []string{"plain", "child"}},
	{name: "ruin", yaml: "after: [failing-NUMBER, orphan-NUMBER]\n    command: DIR/job NAME 0 0\n    overlap: allow", attempts: 0, state: "skipped", after: []string{"failing", "orphan"}},
	{name: "narrow", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME 0.5 0\n    overlap: allow\n    pools: [narrow]", attempts: 1, state: "succeeded"},
	{name: "newest", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME $((60 + NUMBER)) 0\n    overlap: replace\n    kill_after: 1s", attempts: 1, state: "succeeded", replaced: true},
	{name: "asked", yaml: "command: DIR/job NAME 0.NUMBER 0\n    overlap: allow", attempts: 1, state: "succeeded", asked: true},
	{name: "bucket", yaml: "command: DIR/job NAME 0 0 files\n    overlap: allow\n    env: {ENVIRONMENT}\n    publish: {to: s3://lake/NAME/, mode: replace}", attempts: 1, state: "succeeded", asked: true},
	{name: "lake", yaml: "schedule: \"* * * * *\"\n    command: DIR/job NAME 0.NUMBER 0 output\n    overlap: allow\n    publish: DIR/lake/NAME/$BELFRY_STAMP", attempts: 1, state: "succeeded"},
	{name: "direct", crontab: "#belfry: name=NAME\n* * * * * DIR/job NAME 0.NUMBER 0", attempts: 1, state: "succeeded"},
	{name: "shell", crontab: "#belfry: name=NAME\n* * * * * DIR/job NAME 0.NUMBER 5; exit $?", attempts: 1, code: 5, state: "failed"},
}

// kindOf finds the kind of a job by its name.
func kindOf(name string) kind {
	prefix, _, _ := strings.Cut(name, "-")
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == prefix })]
}

// job is what every job runs: it writes into the ledger before and after.
const job = `#!/bin/sh
read -r now rest </proc/uptime
echo "begin $BELFRY_RUN $BELFRY_ATTEMPT $now -" >>DIR/ledger
/bin/sleep "$2"
case $4 in
output) echo "$BELFRY_RUN" >"$BELFRY_OUTPUT/run" ;;
files) # of several sizes, and some that the next set does not have
	for n in 1 2 3 $$; do
		yes "$BELFRY_RUN" | head -n $n >"$BELFRY_OUTPUT/part-$n"
	done ;;
esac
read -r now rest </proc/uptime
echo "end $BELFRY_RUN $BELFRY_ATTEMPT $now $3" >>DIR/ledger
exit "$3"
`

type campaign struct {
	t      *testing.T
	dir    string
	binary string
	bucket *s3test.Server
	client *api.Client
	frail  bool // keepers are killed too

	mu     sync.Mutex
	kills  map[string]int  // guarded by mu; by where
	asked  map[string]bool // guarded by mu; runs that a daemon said it had recorded
	deaths []death         // guarded by mu; of keepers
	spared int             // guarded by mu; the pid of the keeper that nobody touches now
}

// sorts are the kinds of this campaign: those whose jobs take a minute are left out
// of a short one.
func sorts() []kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.replaced && *length < 5*time.Minute })
}

func TestNothingIsLostDoubledOrMisreportedWhenDaemonsAreKilled(t *testing.T) {
	t.Parallel()
	campaigning(t, false)
}

func TestNothingIsDoubledOrMisreportedWhenKeepersAreKilledToo(t *testing.T) {
	t.Parallel()
	campaigning(t, true)
}

func campaigning(t *testing.T, frail bool) {
	t.Helper()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import boto3").CombinedOutput(); err != nil {
		machine.Lacks(t, "boto3 (Debian's package python3-boto3): %s", out)
	}
	c := &campaign{t: t, dir: t.TempDir(), frail: frail, kills: map[string]int{}, asked: map[string]bool{}}
	c.binary = filepath.Join(c.dir, "belfry")
	build := exec.Command("go", "build", "-p", "2", "-tags", "crashpoints", "-o", c.binary, "belfry/cmd/belfry")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c.bucket = s3test.Start(t)
	c.write("job", job, 0o755)
	c.write("belfry.yaml", c.project(), 0o600)
	c.write("tab", c.crontab(), 0o600)
	c.client = api.Unix(filepath.Join(c.dir, ".belfry"))
	t.Cleanup(c.client.Close)

	first := c.serve("")
	c.ready()
	since := time.Now()
	readers := c.read()
	c.kill(first, "at first")
	hunt := c.hunt()
	// Some points are passed only when jobs fire: on the full minute.
	firing := rounds{crash.Replaced, crash.Decided, crash.Recorded, crash.Admitted, crash.Claimed, crash.Prepared, crash.Started}
	always := rounds{
		crash.Replaced, crash.Ended, crash.Settled, crash.Forgotten, crash.Begun, crash.Sent, crash.Told,
		crash.Admitted, crash.Claimed, crash.Prepared, crash.Started,
	}
	for n := 0; time.Since(since) < *length; n++ {
		switch {
		case time.Now().Second() > 54:
			c.killAt(firing.next(), 0)
		case n%2 == 0:
			c.killAtRandom()
		default:
			c.killAt(always.next(), rand.IntN(3))
		}
	}
	until := time.Now()
	hunt.end()

	last := c.serve("")
	c.ready()
	runs := c.finished(since, until)
	c.check(runs, since, until)
	readers.end(c)
	c.whole()
	c.stop(last)
	c.nothingRuns()
}

// rounds is a list that is gone through again and again.
type rounds []string

func (r rounds) next() string {
	first := r[0]
	copy(r, r[1:])
	r[len(r)-1] = first
	return first
}

func (c *campaign) write(name, text string, mode os.FileMode) {
	c.t.Helper()
	text = strings.ReplaceAll(text, "DIR", c.dir)
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), mode); err != nil {
		c.t.Fatal(err)
	}
}

func (c *campaign) project() string {
	text := "project: campaign\ntimezone: UTC\ndaemon: {slots: 10000, pools: {narrow: 2}}\n"
	if c.frail { // what a frozen keeper has in its hands takes up places for longer than a minute
		text += "defaults: {catch_up: all}\n"
	}
	text += "jobs:\n"
	for _, k := range sorts() {
		for i := range *scale {
			if k.yaml != "" {
				name := fmt.Sprintf("%s-%d", k.name, i)
				entry := strings.ReplaceAll(fill(k.yaml, name, i), "ENVIRONMENT", c.bucketEnvironment())
				text += "  " + name + ":\n    " + entry + "\n    notify: {on: []}\n"
			}
		}
	}
	return text
}

func (c *campaign) crontab() string {
	text := "MAILTO=\"\"\n"
	for _, k := range sorts() {
		for i := range *scale {
			if k.crontab != "" {
				entry := fill(k.crontab, fmt.Sprintf("%s-%d", k.name, i), i) + "\n"
				if c.frail {
					entry = strings.Replace(entry, "\n", " catch_up=all\n", 1)
				}
				text += entry
			}
		}
	}
	return text
}

func fill(text, name string, i int) string {
	return strings.NewReplacer("NAME", name, "NUMBER", strconv.Itoa(i)).Replace(text)
}

// serve starts a daemon that may kill itself at a point.
func (c *campaign) serve(point string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(c.binary, "serve", "--crontab", "tab")
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "BELFRY_CRASH="+point, "BELFRY_DATA="+filepath.Join(c.dir, ".belfry"))
	log, err := os.OpenFile(filepath.Join(c.dir, "daemon.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func (c *campaign) kill(daemon *exec.Cmd, where string) {
	c.t.Helper()
	if err := daemon.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	c.died(daemon)
	c.count(where)
}

func (c *campaign) count(where string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kills[where]++
}

// died waits for the end of a daemon, which must be a violent one.
func (c *campaign) died(daemon *exec.Cmd) {
	c.t.Helper()
	err := daemon.Wait()
	if status, ok := daemon.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		c.t.Fatalf("a daemon ended by itself: %v\n%s", err, c.tail())
	}
}

func (c *campaign) tail() string {
	log, _ := os.ReadFile(filepath.Join(c.dir, "daemon.log"))
	return string(log[max(0, len(log)-3000):])
}

// killAtRandom lets a daemon live for up to four seconds.
func (c *campaign) killAtRandom() {
	daemon := c.serve("")
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(4 * time.Second))))
	<-timer.C
	if c.frail && rand.IntN(3) == 0 {
		c.killKeepers("a keeper beside a daemon")
	}
	c.kill(daemon, "at random")
}

// killAt lets a daemon kill itself at a point, which it passes some times before;
// one that does not come there within a few seconds is killed all the same.
func (c *campaign) killAt(point string, passes int) {
	daemon := c.serve(fmt.Sprintf("%s:%d", point, passes))
	patience := time.AfterFunc(6*time.Second, func() { _ = daemon.Process.Kill() })
	ctx, cancel := context.WithCancel(c.t.Context())
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		c.ask(ctx)
	}()
	c.died(daemon)
	cancel()
	<-asking
	if patience.Stop() {
		c.count(point)
	} else {
		c.count("at random")
	}
	if c.frail && rand.IntN(4) == 0 {
		c.killKeepers("a keeper after a daemon")
	}
}

// ask asks a daemon for runs until it is dead.
func (c *campaign) ask(ctx context.Context) {
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		name := fmt.Sprintf("asked-%d", rand.IntN(*scale))
		if rand.IntN(3) == 0 {
			name = fmt.Sprintf("bucket-%d", rand.IntN(targets))
		}
		runs, err := c.client.Start(ctx, api.RunRequest{Job: name})
		if err != nil {
			continue // there is no daemon yet, or none any more
		}
		c.mu.Lock()
		for _, r := range runs {
			c.asked[r.ID] = true
		}
		c.mu.Unlock()
	}
}

// ready waits until a daemon answers.
func (c *campaign) ready() {
	c.t.Helper()
	c.until("a daemon answers", 30*time.Second, func(ctx context.Context) bool {
		_, err := c.client.Health(ctx)
		return err == nil
	})
}

// until asks again and again until it is so.
func (c *campaign) until(what string, patience time.Duration, ask func(ctx context.Context) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !ask(ctx) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			c.t.Fatalf("not within %s: %s\n%s", patience, what, c.tail())
		}
	}
}

// finished waits until each run of a stretch of time has, and gives them.
func (c *campaign) finished(since, until time.Time) []api.Run {
	c.t.Helper()
	var runs []api.Run
	c.until("every run has ended", 3*time.Minute, func(ctx context.Context) bool {
		all, err := c.client.Runs(ctx, api.RunFilter{})
		if err != nil {
			return false
		}
		runs = slices.DeleteFunc(all, func(r api.Run) bool { return !r.FiresAt.After(since) || r.FiresAt.After(until) })
		return !slices.ContainsFunc(runs, func(r api.Run) bool { return !r.Finished() })
	})
	return runs
}

// attempt is one execution of a run's command.
type attempt struct {
	run    string
	number int
}

// trace is what an attempt wrote into the ledger.
type trace struct {
	begun      int // how often
	ended      bool
	code       int
	begin, end time.Time
}

// ledger is what the jobs wrote.
func (c *campaign) ledger() map[attempt]trace {
	c.t.Helper()
	file, err := os.Open(filepath.Join(c.dir, "ledger"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	uptime, err := os.ReadFile("/proc/uptime")
	boot := time.Now()
	if err != nil {
		c.t.Fatal(err)
	}
	boot = boot.Add(-c.seconds(strings.Fields(string(uptime))[0]))
	traces := map[attempt]trace{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 5 {
			c.t.Fatalf("ledger: %q", lines.Text())
		}
		number, err := strconv.Atoi(fields[2])
		if err != nil {
			c.t.Fatalf("ledger: %q: %v", lines.Text(), err)
		}
		a := attempt{fields[1], number}
		at, was := boot.Add(c.seconds(fields[3])), traces[a]
		if fields[0] == "begin" {
			was.begun++
			was.begin = at
		} else {
			was.ended, was.end = true, at
			if was.code, err = strconv.Atoi(fields[4]); err != nil {
				c.t.Fatalf("ledger: %q: %v", lines.Text(), err)
			}
		}
		traces[a] = was
	}
	return traces
}

// seconds reads a number as /proc/uptime has it.
func (c *campaign) seconds(text string) time.Duration {
	c.t.Helper()
	d, err := time.ParseDuration(text + "s")
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

func (c *campaign) check(runs []api.Run, since, until time.Time) {
	c.t.Helper()
	traces := c.ledger()
	accounts := map[string]map[time.Time]api.Run{} // job → firing → run
	firings, asked, published, lost := 0, 0, 0, 0
	for _, k := range sorts() {
		for i := range *scale {
			if k.asked {
				continue
			}
			accounts[fmt.Sprintf("%s-%d", k.name, i)] = map[time.Time]api.Run{}
		}
	}
	for _, r := range runs {
		if kindOf(r.Job).asked {
			asked++
			delete(c.asked, r.ID)
			continue
		}
		if _, twice := accounts[r.Job][r.FiresAt.UTC()]; twice {
			c.t.Errorf("%s has two rows for %s", r.Job, r.FiresAt)
		}
		accounts[r.Job][r.FiresAt.UTC()] = r
	}
	for _, r := range runs {
		k := kindOf(r.Job)
		want, attempts := k.state, k.attempts
		if k.after != nil && !c.succeeded(r, k.after, accounts) {
			want, attempts = "skipped", 0
		}
		lostAttempts := c.attempts(r, traces)
		lost += len(lostAttempts)
		switch {
		case lostAttempts[r.Attempt]:
			want = "lost"
		case want == "succeeded" || want == "failed":
			if !k.replaced && (r.ExitCode == nil || *r.ExitCode != k.code) {
				c.t.Errorf("%s of %s ended with %v, want %d", r.Job, r.FiresAt, r.ExitCode, k.code)
			}
		}
		replaced := k.replaced && r.State == "cancelled" && strings.HasPrefix(r.Reason, "replaced by run ")
		// The one before it cannot be made to end while its keeper is frozen, which may be
		// twice in a row; then the next firing is there before this one could begin.
		if c.frail && k.replaced && r.State == "skipped" && strings.HasPrefix(r.Reason, "superseded by run ") {
			replaced, attempts = true, 0
		}
		if r.State != want && !replaced {
			c.t.Errorf("%s of %s is %s (%s), want %s", r.Job, r.FiresAt, r.State, r.Reason, want)
		}
		if r.Attempt != attempts {
			c.t.Errorf("%s of %s has had %d attempts, want %d", r.Job, r.FiresAt, r.Attempt, attempts)
		}
		published += len(r.Published)
		if k.name == "lake" {
			c.published(r)
		}
	}
	for at := since.Truncate(time.Minute).Add(time.Minute); !at.After(until); at = at.Add(time.Minute) {
		for name, rows := range accounts {
			firings++
			if _, there := rows[at.UTC()]; !there {
				c.t.Errorf("%s has no row for %s", name, at.UTC())
			}
		}
	}
	if len(runs) != firings+asked {
		c.t.Errorf("%d runs are in the account of %d firings and %d requests", len(runs), firings, asked)
	}
	for id := range c.asked {
		c.t.Errorf("the run %s was asked for and promised, and is not in the account", id)
	}
	total := 0
	for _, n := range c.kills {
		total += n
	}
	c.t.Logf("%d firings, %d runs asked for, %d attempts, %d of them lost, %d publishes, %d kills: %v", firings, asked, len(traces), lost, published, total, c.kills)
	if firings == 0 {
		c.t.Error("nothing fired: the campaign was too short")
	}
	for _, point := range crash.Points() {
		if *length > 10*time.Minute && c.kills[point] == 0 {
			c.t.Errorf("no daemon was killed at %q", point)
		}
	}
	for _, how := range cruelties {
		if c.frail && *length > 10*time.Minute && c.kills[how] == 0 {
			c.t.Errorf("there was no case of %q", how)
		}
	}
	if c.frail && lost == 0 {
		c.t.Error("no attempt was lost: no keeper was killed that mattered")
	}
}

// succeeded reports whether the runs have that r comes after.
func (c *campaign) succeeded(r api.Run, after []string, accounts map[string]map[time.Time]api.Run) bool {
	_, number, _ := strings.Cut(r.Job, "-")
	return !slices.ContainsFunc(after, func(parent string) bool {
		return accounts[parent+"-"+number][r.FiresAt.UTC()].State != "succeeded"
	})
}

// attempts compares the account of each attempt of a run with what it wrote, and
// gives those that were lost.
func (c *campaign) attempts(r api.Run, traces map[attempt]trace) (lost map[int]bool) {
	c.t.Helper()
	k := kindOf(r.Job)
	whole, err := c.client.Run(c.t.Context(), r.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(whole.Attempts) != r.Attempt {
		c.t.Errorf("%s of %s has %d attempts, and the account of %d", r.Job, r.FiresAt, r.Attempt, len(whole.Attempts))
	}
	lost = map[int]bool{}
	var before trace
	for _, a := range whole.Attempts {
		wrote := traces[attempt{r.ID, a.Number}]
		about := fmt.Sprintf("attempt %d of run %s of %s of %s", a.Number, r.ID, r.Job, r.FiresAt)
		if a.Reason == reasonLost {
			lost[a.Number] = true
			c.wasLost(about, a, wrote)
		} else if wrote.begun != 1 {
			c.t.Errorf("%s began %d times", about, wrote.begun)
		}
		// Nobody ends an attempt but who replaces it, also when its keeper is dead.
		if !k.replaced && wrote.begun > 0 && (!wrote.ended || wrote.code != k.code) {
			c.t.Errorf("%s wrote code %d (%v), want %d", about, wrote.code, wrote.ended, k.code)
		}
		if wrote.begun > 0 && before.begun > 0 && wrote.begin.Before(before.end) {
			c.t.Errorf("%s began %s before the one before it ended", about, before.end.Sub(wrote.begin))
		}
		before = wrote
	}
	if traces[attempt{r.ID, r.Attempt + 1}].begun > 0 {
		c.t.Errorf("%s of %s began an attempt that is not in its account", r.Job, r.FiresAt)
	}
	return lost
}

// published checks that what a run left is at its target, and is its own.
func (c *campaign) published(r api.Run) {
	c.t.Helper()
	target := filepath.Join(c.dir, "lake", r.Job, r.FiresAt.UTC().Format("20060102T150405Z"))
	if r.State == "lost" {
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) || len(r.Published) > 0 {
			c.t.Errorf("%s of %s was lost and has published (%v), %+v", r.Job, r.FiresAt, err, r.Published)
		}
		return
	}
	text, err := os.ReadFile(filepath.Join(target, "run"))
	if err != nil || strings.TrimSpace(string(text)) != r.ID || len(r.Published) != 1 {
		c.t.Errorf("%s of %s published %q (%v), %+v", r.Job, r.FiresAt, text, err, r.Published)
	}
	if _, err := os.Stat(filepath.Join(target, "_SUCCESS")); err != nil {
		c.t.Errorf("%s of %s: %v", r.Job, r.FiresAt, err)
	}
}

// stop ends the last daemon, once its jobs have ended.
func (c *campaign) stop(daemon *exec.Cmd) {
	c.t.Helper()
	jobs, err := c.client.Jobs(c.t.Context(), api.JobFilter{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, j := range jobs {
		if _, err := c.client.Pause(c.t.Context(), api.PauseRequest{Job: j.Project + "/" + j.Name, Paused: true}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.until("no job runs", 2*time.Minute, func(ctx context.Context) bool {
		running, err := c.client.Runs(ctx, api.RunFilter{State: "running"})
		return err == nil && len(running) == 0
	})
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := daemon.Wait(); err != nil {
		c.t.Errorf("the last daemon: %v\n%s", err, c.tail())
	}
}

// nothingRuns waits until the keepers have ended too: whatever speaks of our
// folder on its command line or in its environment is ours.
func (c *campaign) nothingRuns() {
	c.t.Helper()
	var left []process
	c.until("no process is left", time.Minute, func(context.Context) bool {
		left = c.processes()
		return len(left) == 0
	})
	if len(left) > 0 {
		c.t.Errorf("left over: %v", left)
	}
}

// process is one that speaks of our folder on its command line or in its
// environment.
type process struct {
	pid, parent int
	line        []string
}

func (c *campaign) processes() []process {
	var list []process
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if strings.Contains(string(line)+string(env), c.dir) {
			p := process{pid: pid, line: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")}
			stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
			_, _ = fmt.Sscanf(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " %c %d", new(rune), &p.parent) // else it has ended
			list = append(list, p)
		}
	}
	return list
}

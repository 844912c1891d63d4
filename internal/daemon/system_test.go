package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/machine"
	"belfry/internal/proc/proctest"
	"belfry/internal/project"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/system"
)

// systemOptions are those of a daemon that is the cron of a machine in a folder, with the users root and alice.
func systemOptions(t *testing.T) Options {
	t.Helper()
	machine.NeedsRoot(t)
	root := t.TempDir()
	for _, folder := range []string{"etc/cron.d", "var/spool/cron/crontabs", "home/alice"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inPlace(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:4001:4001::"+root+"/home/alice:/bin/sh\n")
	inPlace(t, filepath.Join(root, "etc/group"), "root:x:0:\n")
	data := filepath.Join(root, "var/lib/belfry")
	t.Cleanup(func() { proctest.EndKeepers(t, data) })
	places := system.At(root, "")
	return Options{
		Data: data, Plan: true, Project: filepath.Join(root, "etc/belfry.yaml"),
		System: &System{Places: places, Users: places.Users(), Sockets: filepath.Join(root, "run/belfry")},
		Host:   run.Host{User: "root", Home: "/root", Name: "here"}, Zone: time.UTC,
		Self: []string{"/proc/self/exe"}, Clock: ReadClock, Version: "test", Log: slog.New(slog.DiscardHandler), Told: func(string) {},
	}
}

func (o Options) crontab(t *testing.T, user string) string {
	t.Helper()
	path := o.System.UserCrontab(user)
	inPlace(t, path, "0 1 * * * true\n")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCrontabsOfTheMachineComeAndGoAtOnce(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	log, told := newLines(), make(chan string, 100)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	o.Told = func(sentence string) { told <- sentence }
	client, _ := serve(t, o)
	jobs := func() (ids []string) {
		list, err := client.Jobs(t.Context(), api.JobFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range list {
			ids = append(ids, j.Project+"/"+j.Name+" "+j.Owner)
		}
		slices.Sort(ids)
		return ids
	}
	check := func(step, line string, want ...string) {
		t.Helper()
		log.until(t, line)
		if got := jobs(); !slices.Equal(got, want) {
			t.Errorf("%s: the jobs are %q, want %q", step, got, want)
		}
	}
	ops := filepath.Join(o.System.Folder, "ops")
	inPlace(t, ops, "0 1 * * * alice /bin/clean\n0 2 * * * root /bin/back-up\n")
	check("a new file", `changed="2 jobs added"`, "cron.d/ops/back-up root", "cron.d/ops/clean alice")
	inPlace(t, ops, "0 1 * * * alice /bin/clean\n* 25 * * * root /bin/back-up\n")
	check("an edit in place, with a bad line", `changed="1 job removed"`, "cron.d/ops/clean alice")
	if sentence := <-told; !strings.Contains(sentence, `ops:2:3: "25" is not an hour`) {
		t.Errorf("of the bad line is said %q", sentence)
	}
	path := o.crontab(t, "alice")
	check("a user's", `changed="1 job added"`, "alice/true alice", "cron.d/ops/clean alice")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	check("its mode is wrong", `changed="1 job removed"`, "cron.d/ops/clean alice")
	if sentence := <-told; !strings.Contains(sentence, "its mode is 0644, and must be 0600; chmod 600 ") {
		t.Errorf("of the mode is said %q", sentence)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	check("its mode is right again", `changed="1 job added"`, "alice/true alice", "cron.d/ops/clean alice")
	orphan := o.crontab(t, "eve")
	if sentence := <-told; !strings.Contains(sentence, "there is no user of that name") {
		t.Errorf("of an orphan is said %q", sentence)
	}
	passwd := filepath.Join(o.System.Root, "etc/passwd")
	text, err := os.ReadFile(passwd)
	if err != nil {
		t.Fatal(err)
	}
	renamed(t, passwd, string(text)+"eve:x:0:0::/:/bin/sh\n")
	check("its user came", `changed="1 job added"`, "alice/true alice", "cron.d/ops/clean alice", "eve/true eve")
	for _, file := range []string{orphan, ops} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	check("they are gone", `changed="2 jobs removed"`, "alice/true alice")
	select {
	case sentence := <-told:
		t.Errorf("it was said too: %q", sentence)
	default:
	}
}

func TestAMistakeInTheMachinesSettingsKeepsNoCrontabFromRunning(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	o.crontab(t, "alice")
	inPlace(t, o.Project, "jobs:\n  nightly: {comand: x}\n")
	d, client, stop := serveDaemon(t, o)
	check := func(step string, wrong bool, want ...string) {
		t.Helper()
		list, err := client.Jobs(t.Context(), api.JobFilter{}) // which reads them anew
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, j := range list {
			names = append(names, j.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%s: the jobs are %q, want %q", step, names, want)
		}
		if problem := d.jobs.trouble(); strings.Contains(problem, `"comand" is not a key of a job`) != wrong {
			t.Errorf("%s: the problem is %q", step, problem)
		}
	}
	check("it is wrong at the start", true, "true")
	if keep := d.jobs.settings().Retention; keep != (project.Retention{}) {
		t.Errorf("runs are kept for %+v, though what is wanted is not known", keep)
	}
	inPlace(t, o.Project, "jobs:\n  nightly: {command: x}\n")
	check("it is mended", false, "nightly", "true")
	inPlace(t, o.Project, "jobs:\n  nightly: {comand: x}\n")
	if err := os.Remove(o.System.UserCrontab("alice")); err != nil {
		t.Fatal(err)
	}
	check("it is wrong again, and a crontab is gone", true, "nightly")
	stop()
	d, client, _ = serveDaemon(t, o)
	check("it is wrong at the next start", true)
	inPlace(t, o.Project, "jobs:\n  nightly: {command: x}\n")
	check("it is mended again", false, "nightly")
}

func TestAUserTriesNothingAgainThatIsAnothersNow(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	ops := filepath.Join(o.System.Root, "etc/cron.d/ops")
	inPlace(t, ops, "#belfry: name=report\n0 1 * * * alice exit 1\n")
	d, client, _ := serveDaemon(t, o)
	runs, err := client.Start(t.Context(), api.RunRequest{Job: "report"})
	if err != nil {
		t.Fatal(err)
	}
	r := runs[0]
	for !run.State(r.State).Finished() {
		if r, err = client.Await(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	alices := newBackend(d).of("alice")
	if err := alices.Retry(t.Context(), r.ID, false); err != nil {
		t.Fatalf("her own: %v", err)
	}
	if r, err = client.Run(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	for !run.State(r.State).Finished() {
		if r, err = client.Await(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	inPlace(t, ops, "#belfry: name=report\n0 1 * * * root exit 1\n")
	if _, err := client.Jobs(t.Context(), api.JobFilter{}); err != nil { // which reads it anew
		t.Fatal(err)
	}
	if _, err := alices.RunByRef(t.Context(), r.ID); err != nil {
		t.Errorf("she does not see her run any more: %v", err)
	}
	for _, publish := range []bool{false, true} {
		if err := alices.Retry(t.Context(), r.ID, publish); err == nil || !strings.Contains(err.Error(), "another user's now") {
			t.Errorf("tried again, publish %v: %v", publish, err)
		}
	}
}

func TestAUserHoldsUpNobodyElsesPublish(t *testing.T) {
	t.Parallel()
	places := func(d *Daemon, owner, to string) []string {
		j := &job.Job{Settings: &job.Settings{Owner: owner}}
		return d.publishItem(j, run.Run{}, time.Time{}, "/output", []job.Target{{To: to}}).Targets
	}
	machines := &Daemon{o: Options{System: &System{}}}
	if a, b := places(machines, "alice", "/lake"), places(machines, "root", "/lake"); slices.Equal(a, b) {
		t.Errorf("alice's publish to /lake takes %q, and root's the same", a)
	}
	if a, b := places(machines, "alice", "/lake"), places(machines, "alice", "/lake/"); !slices.Equal(a, b) {
		t.Errorf("two publishes of alice's to one folder take %q and %q", a, b)
	}
	if a, b := places(&Daemon{}, "alice", "/lake"), places(&Daemon{}, "root", "/lake"); !slices.Equal(a, b) {
		t.Errorf("two publishes of one daemon to one folder take %q and %q", a, b)
	}
}

func TestMailGoesToTheUsersThatTheMachineKnows(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)     // its alice is not in this machine's own /etc/passwd
	o.MailSpool = t.TempDir() // in which she may make no file
	if err := errors.Join(os.Chmod(o.MailSpool, 0o755), os.Chmod(filepath.Dir(o.MailSpool), 0o711)); err != nil {
		t.Fatal(err)
	}
	inPlace(t, filepath.Join(o.System.Root, "etc/cron.d/ops"), "MAILTO=alice\n#belfry: name=report\n0 1 * * * root echo printed\n")
	d, client, _ := serveDaemon(t, o)
	runs, err := client.Start(t.Context(), api.RunRequest{Job: "report"})
	if err != nil {
		t.Fatal(err)
	}
	r := runs[0]
	for {
		changed := d.changes.next()
		if r, err = client.Run(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		if len(r.Notices) > 0 && r.Notices[0].State == "refused" {
			t.Fatalf("the mail is %+v", r.Notices[0])
		}
		if len(r.Notices) > 0 && r.Notices[0].State == "sent" {
			break
		}
		<-changed
	}
	info, err := os.Stat(filepath.Join(o.MailSpool, "alice"))
	if err != nil {
		t.Fatalf("%v; the notice is %+v", err, r.Notices[0])
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 4001 {
		t.Errorf("it is not alice's: %+v", info.Sys())
	}
}

func TestRootWritesNoMailboxThatItsUserMayNotWrite(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	o.MailSpool = filepath.Join(o.System.Root, "mail")
	group, err := user.LookupGroup("mail")
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	// As Debian has it, but that only the group may make files: so it is the user's
	// child, in that group, who makes the dotlock.
	if err := errors.Join(os.Chmod(filepath.Dir(o.System.Root), 0o711), os.Mkdir(o.MailSpool, 0o700), os.Chown(o.MailSpool, 0, gid), os.Chmod(o.MailSpool, 0o775|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	box := filepath.Join(o.MailSpool, "alice")
	inPlace(t, filepath.Join(o.System.Root, "etc/cron.d/ops"), "MAILTO=alice\n#belfry: name=report\n0 1 * * * root echo printed\n")
	d, client, _ := serveDaemon(t, o)
	told := func() api.Notice {
		t.Helper()
		runs, err := client.Start(t.Context(), api.RunRequest{Job: "report"})
		if err != nil {
			t.Fatal(err)
		}
		for {
			changed := d.changes.next()
			r, err := client.Run(t.Context(), runs[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Notices) > 0 && (r.Notices[0].State == "sent" || r.Notices[0].State == "refused") {
				return r.Notices[0]
			}
			<-changed
		}
	}
	if n := told(); n.State != "sent" {
		t.Fatalf("the first mail is %+v", n)
	}
	info, err := os.Stat(box)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 4001 || int(st.Gid) != gid || info.Mode() != 0o660 {
		t.Errorf("the mailbox is %d:%d, %s; want 4001:%d, 0660", st.Uid, st.Gid, info.Mode(), gid)
	}
	if err := os.Chmod(box, 0o400); err != nil { // root could
		t.Fatal(err)
	}
	if n := told(); n.State != "refused" || !strings.Contains(n.Error, "permission denied") {
		t.Errorf("with a mailbox that she may not write the mail is %+v; want it refused", n)
	}
	if now, err := os.Stat(box); err != nil || now.Size() != info.Size() {
		t.Errorf("it has %d bytes, %v; want %d as before", now.Size(), err, info.Size())
	}
	left, err := os.ReadDir(o.MailSpool)
	if err != nil || len(left) != 1 {
		t.Errorf("beside the mailbox are %v, %v", left, err)
	}
}

func TestAUserWhoLocksAMailboxHoldsUpTheMailOfNobodyElse(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	o.MailSpool = t.TempDir()
	if err := errors.Join(os.Chmod(o.MailSpool, 0o755), os.Chmod(filepath.Dir(o.MailSpool), 0o711)); err != nil {
		t.Fatal(err)
	}
	box := filepath.Join(o.MailSpool, "alice")
	inPlace(t, box, "")
	inPlace(t, box+".lock", "")
	if err := os.Chown(box, 4001, 0); err != nil {
		t.Fatal(err)
	}
	inPlace(t, filepath.Join(o.System.Root, "etc/cron.d/ops"), "MAILTO=alice\n#belfry: name=hers overlap=allow\n0 1 * * * root echo printed\nMAILTO=root\n#belfry: name=ours\n0 1 * * * root echo printed\n")
	d, client, _ := serveDaemon(t, o)
	printed := func(job string) (notice api.Notice, id string) {
		t.Helper()
		runs, err := client.Start(t.Context(), api.RunRequest{Job: job})
		if err != nil {
			t.Fatal(err)
		}
		for {
			changed := d.changes.next()
			r, err := client.Run(t.Context(), runs[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Notices) > 0 {
				return r.Notices[0], r.ID
			}
			<-changed
		}
	}
	for range 10 { // more than are sent at once
		printed("hers")
	}
	began := time.Now()
	for notice, id := printed("ours"); notice.State != "sent"; {
		changed := d.changes.next()
		r, err := client.Run(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if notice = r.Notices[0]; notice.State != "sent" {
			<-changed
		}
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("root's mail to root waited %s for alice's mailbox", took)
	}
}

func TestAUserIsNotToldWhatStandsInRootsFile(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	o.crontab(t, "alice")
	d, _, _ := serveDaemon(t, o)
	inPlace(t, o.Project, "jobs:\n  nightly: {schedule: \"0 1 * * *\", secret-word: \"true\"}\n")
	_, err := newBackend(d).of("alice").Request(t.Context(), api.RunRequest{Job: "true"})
	if err == nil || strings.Contains(err.Error(), "secret-word") {
		t.Errorf("she is told: %v", err)
	}
	if _, err := newBackend(d).Request(t.Context(), api.RunRequest{Job: "true"}); err == nil || !strings.Contains(err.Error(), "secret-word") {
		t.Errorf("root is told: %v", err)
	}
}

func TestAUserInstallsOneCrontabAtATime(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	inPlace(t, filepath.Join(o.System.Root, "etc/cron.deny"), "")
	d, _, _ := serveDaemon(t, o)
	put := func(uid int, user string, body io.Reader) int {
		answer := httptest.NewRecorder()
		d.handler(newBackend(d), server.User, uid, nil).ServeHTTP(answer, httptest.NewRequest(http.MethodPut, api.Path+"/crontabs/"+user, body))
		return answer.Code
	}
	const text = `{"text":"MCAxICogKiAqIHRydWUK"}`
	slow, write := io.Pipe()
	first := make(chan int, 1)
	go func() { first <- put(4001, "alice", slow) }()
	if _, err := io.WriteString(write, text[:3]); err != nil { // so it is being read
		t.Fatal(err)
	}
	if code := put(4001, "alice", strings.NewReader(text)); code != http.StatusServiceUnavailable {
		t.Errorf("alice's second, beside her first: %d", code)
	}
	if code := put(0, "alice", strings.NewReader(text)); code != http.StatusOK {
		t.Errorf("root's, beside hers: %d", code)
	}
	if _, err := io.WriteString(write, text[3:]); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	if code := <-first; code != http.StatusOK {
		t.Errorf("alice's first: %d", code)
	}
	if code := put(4001, "alice", strings.NewReader(text)); code != http.StatusOK {
		t.Errorf("alice's next: %d", code)
	}
	if code := put(4001, "eve", strings.NewReader(text)); code != http.StatusForbidden {
		t.Errorf("of somebody who is not there: %d", code)
	}
}

func TestWhoIsNoUserOfTheMachineIsToldSo(t *testing.T) {
	t.Parallel()
	d, _, _ := serveDaemon(t, systemOptions(t))
	ask := func(path string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		as := context.WithValue(t.Context(), peerKey{}, 4999)
		d.peerHandler(nil).ServeHTTP(answer, httptest.NewRequestWithContext(as, http.MethodGet, api.Path+path, nil))
		return answer
	}
	if got := ask("/jobs"); got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), "user 4999, who asks, is none of this machine") {
		t.Errorf("they are answered %d %s", got.Code, got.Body)
	}
	if got := ask("/health"); got.Code != http.StatusOK {
		t.Errorf("whether the daemon is well they are answered %d", got.Code)
	}
}

func TestSettingsThatOthersCanWriteAreNotUsed(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	inPlace(t, o.Project, "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n")
	if jobs, _, err := Read(o); err != nil || len(jobs) != 1 || jobs[0].Owner != "root" {
		t.Fatalf("the jobs are %v, %v", jobs, err)
	}
	if err := os.Chmod(o.Project, 0o666); err != nil {
		t.Fatal(err)
	}
	d, client, _ := serveDaemon(t, o)
	if problem := d.jobs.trouble(); !strings.Contains(problem, "others can write it (mode 0666)") {
		t.Errorf("the problem is %q", problem)
	}
	if jobs, err := client.Jobs(t.Context(), api.JobFilter{}); err != nil || len(jobs) > 0 {
		t.Errorf("the jobs are %v, %v", jobs, err)
	}
}

func TestAMistakeOfRootsKeepsNoCrontabFromBeingRead(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	log, told := newLines(), make(chan string, 100)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	o.Told = func(sentence string) { told <- sentence }
	inPlace(t, o.Project, "jobs:\n  nightly: {schedule: \"0 1 * * *\", command: \"true\"}\n")
	client, _ := serve(t, o)
	inPlace(t, o.Project, "jobs:\n  nightly: {schdule: \"0 1 * * *\", command: \"true\"}\n")
	if sentence := <-told; !strings.Contains(sentence, "schdule") {
		t.Fatalf("of the mistake is said %q", sentence)
	}
	inPlace(t, filepath.Join(o.System.Folder, "ops"), "0 2 * * * root /bin/back-up\n")
	log.until(t, `changed="1 job added"`)
	list, err := client.Jobs(t.Context(), api.JobFilter{})
	if err != nil || len(list) != 2 {
		t.Errorf("the jobs are %v, %v; want nightly as it was, and back-up", list, err)
	}
	if health, err := client.Health(t.Context()); err != nil || !strings.Contains(health.Problem, "schdule") {
		t.Errorf("the health is %+v, %v", health, err)
	}
	if err := os.Remove(o.Project); err != nil {
		t.Fatal(err)
	}
	log.until(t, `changed="1 job removed"`)
	if health, err := client.Health(t.Context()); err != nil || health.Problem != "" {
		t.Errorf("mended, the health is %+v, %v", health, err)
	}
}

func TestNobodyTakesAllConnections(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	serve(t, o)
	client := api.Unix(o.System.Sockets)
	defer client.Close()
	if _, err := client.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	client.Close()
	dial := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", filepath.Join(o.System.Sockets, api.SocketName))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	// works reports whether a connection is served.
	works := func(conn net.Conn) bool {
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("GET " + api.Path + "/health HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			return false
		}
		_, err := conn.Read(make([]byte, 1))
		return err == nil
	}
	var open []net.Conn
	for len(open) < peersMost {
		conn := dial()
		if !works(conn) {
			t.Fatalf("connection %d is not served", len(open)+1)
		}
		open = append(open, conn)
	}
	if works(dial()) {
		t.Errorf("connection %d is served", peersMost+1)
	}
	_ = open[0].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !works(dial()) { // as soon as the daemon has seen that one is closed
		if ctx.Err() != nil {
			t.Fatal("no connection is served after one was closed")
		}
	}
}

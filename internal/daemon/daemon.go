// Package daemon wires the parts into one process that owns a data folder: it
// loads the jobs, plans, starts runs, delivers what is owed and answers
// requests. It takes no decisions: those are made in plan and run.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"belfry/api"
	"belfry/internal/crash"
	"belfry/internal/job"
	"belfry/internal/logs"
	"belfry/internal/notify"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/proc"
	"belfry/internal/publish"
	"belfry/internal/python"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
	"belfry/internal/system"
)

// Options say what a daemon serves and where.
type Options struct {
	Data     string   // the data folder; it is made if need be
	Project  string   // path of a belfry.yaml, or empty
	Crontabs []string // paths of crontabs
	System   *System  // the machine whose cron it is; nil: none's
	// Plan says that it keeps the times. Without it the daemon only does what it
	// is asked for, and Run ends when that is done.
	Plan bool
	// Shadow says that another cron runs the jobs: a daemon that plans then
	// accounts for every firing, and starts nothing.
	Shadow bool
	// Listen is an address for anyone who may reach it, above the project's
	// setting: they learn whether the daemon is well. Empty: none but the
	// project's.
	Listen string
	// Wait is how long the end of Run waits for the jobs that are running, while
	// nothing new is started; negative: until they have ended. Remaining is
	// called with their number at first, and whenever it has changed.
	Wait      time.Duration
	Remaining func(running int)
	// Grace says that no job outlives the end of Run, after Wait: those that run
	// get TERM and, so much later, KILL. Zero: they go on.
	Grace time.Duration
	// Output is given what the jobs print, from one goroutine; nil: it is in the
	// account alone.
	Output func(lines []Line)
	// Supervisor is systemd's socket for news of us, and Watchdog how often it
	// wants to hear that all is well; zero: never.
	Supervisor string
	Watchdog   time.Duration
	// Waiting is called once when a daemon that plans finds an owner that does
	// not, and waits for its end.
	Waiting func(owner string)
	// Told is given sentences for the person who wrote the files, about what is
	// wrong in them.
	Told func(sentence string)

	Host      run.Host
	Zone      *time.Location // of the machine
	MailSpool string         // folder of mailboxes, above the project's setting; empty: the project's, else the system's
	Self      []string       // how to execute this program
	Clock     func() plan.Reading
	Version   string
	Log       *slog.Logger
}

// Daemon is the owner of a data folder.
type Daemon struct {
	o         Options
	since     time.Time
	store     *account
	procs     *proc.Client
	runner    *run.Runner
	outbox    *outbox.Worker
	publisher *publisher
	logs      *logs.Follower
	echo      *echo
	jobs      *jobs
	changes   changes
	folder    *lock         // on the data folder
	listen    net.Listener  // the socket in the folder
	peers     net.Listener  // nil, or the socket that everybody on the machine may open
	public    net.Listener  // nil: there is no address for anyone
	last      *plan.Reading // of the newest decision
	finish    chan struct{} // closed when whoever opened it asks for nothing more
	woken     chan struct{} // there is something new to plan
	beats     heartbeat
	cron      *cronLog
	users     *system.Users
	installs  sync.Map // ids of users of whom a crontab is just read
	supervisor
}

// Open takes the data folder and makes everything ready; Run sets it going.
// Whoever opens a Daemon must close it.
func Open(ctx context.Context, o Options) (_ *Daemon, err error) {
	o.Log = slog.New(once{o.Log.Handler()})
	users := system.At("/", "").Users()
	if o.System != nil {
		o.Host.For, users = o.System.host(o.Host), o.System.Users
	}
	d := &Daemon{
		o: o, users: users, since: o.Clock().Wall, finish: make(chan struct{}), woken: make(chan struct{}, 1),
		beats: heartbeat{clock: o.Clock}, supervisor: supervisor{o.Supervisor, o.Log},
	}
	d.changes.reset()
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	// What is wrong in the files, or with the address, is said before anything
	// is changed.
	d.cron = newCronLog(o, d.since)
	d.jobs = newJobs(o, d.cron)
	if err := d.jobs.read(); err != nil {
		return nil, err
	}
	if address := cmp.Or(o.Listen, d.jobs.settings().Listen); o.Plan && address != "" {
		if d.public, err = listenPublic(address, o.Data); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, &FolderError{o.Data, err}
	}
	if o.System != nil {
		if err := openFolders(o.Data); err != nil {
			return nil, &FolderError{o.Data, err}
		}
	}
	if d.folder, err = own(ctx, o); err != nil {
		return nil, err
	}
	opened, err := store.Open(ctx, o.Data)
	if err != nil {
		return nil, err
	}
	d.store = newAccount(opened, o.Data, o.Log.With("component", "store"), d.now)
	if err := d.store.Resume(ctx); err != nil {
		return nil, err
	}
	if err := d.jobs.begin(ctx, d.store, d.since); err != nil {
		return nil, err
	}
	d.procs, err = proc.Open(ctx, proc.Options{DataDir: o.Data, Command: append(o.Self, "keeper"), Log: o.Log.With("component", "proc")})
	if err != nil {
		return nil, err
	}
	d.wire()
	if d.listen, err = listen(o.Data, 0o600); err != nil {
		return nil, err
	}
	if o.System != nil {
		if d.peers, err = listenPeers(o.System.Sockets); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// wire makes the parts that work on runs.
func (d *Daemon) wire() {
	var since time.Time
	if !d.o.Plan {
		since = d.since
	}
	d.runner = run.NewRunner(run.Options{
		Node: d.o.Host.Name, Boot: kernelBoot(), Dir: runsDir(d.o.Data), Limits: d.limits, Host: d.o.Host, Since: since,
		Store: d.store, Procs: d.procs, Job: d.jobs.byKey, Publish: d.publishItem, Published: published, Notices: d.notices,
		Python:      func(j *job.Job, attempt string) []string { return python.Args(d.o.Self, d.o.Data, j, attempt) },
		DropPublish: func(item string) { d.outbox.Drop(item) },
		Began:       d.began, Ended: d.ended, Started: d.started,
		Changed: d.changed, Alive: d.beats.of(runs), Now: d.now, Log: d.o.Log.With("component", "run"),
	})
	d.echo = newEcho(d.o.Output, newBackend(d).Log, func(id string, attempt int) bool { return d.logs.Follows(id, attempt) }, d.since)
	if d.o.Shadow {
		d.runner.Hold()
	}
	d.logs = logs.NewFollower(logs.Options{Store: d.store, Now: d.now, Log: d.o.Log.With("component", "logs")})
	d.publisher = newPublisher(publish.Options{Command: append(d.o.Self, "publish"), Env: publishAs(d.runner), Log: d.o.Log.With("component", "publish")})
	d.outbox = outbox.NewWorker(outbox.Options{
		Store: d.store,
		Senders: map[outbox.Kind]outbox.Sender{
			outbox.Publish: d.publisher,
			outbox.Notice: notify.New(notify.Options{
				Spool: d.spool, Mailer: d.mailer, Lookup: d.lookup, Output: d.output, Log: d.o.Log.With("component", "notify"),
				As: deliverAs, Child: slices.Concat(d.o.Self, []string{"deliver"}),
			}),
		},
		Settled: func(ctx context.Context, item outbox.Item, err error) error {
			if item.Kind == outbox.Publish {
				return d.runner.Published(ctx, item, err)
			}
			return d.store.Settle(ctx, item)
		},
		Patience: d.patience, Whose: d.whose,
		Changed: d.changed, Alive: d.beats.of(deliveries), Now: d.now, Log: d.o.Log.With("component", "outbox"),
	})
	d.store.writable = func() {
		d.wake()
		d.runner.Kick()
		d.outbox.Kick()
	}
	d.jobs.news = func() {
		d.wake()
		d.runner.Kick()
		d.changed()
	}
}

// The settings of belfry.yaml as they are now: a reload takes them anew.

func (d *Daemon) limits() run.Limits {
	settings := d.jobs.settings()
	return run.Limits{Slots: cmp.Or(settings.Slots, 4*runtime.NumCPU()), Pools: settings.Pools}
}

func (d *Daemon) spool() string {
	spool := cmp.Or(d.o.MailSpool, d.jobs.settings().MailSpool)
	if spool == "" && d.o.System != nil {
		spool = d.o.System.Mail
	}
	return spool
}

// patience is how long what is owed is tried.
func (d *Daemon) patience(kind outbox.Kind) time.Duration {
	if kind == outbox.Publish {
		return cmp.Or(d.jobs.settings().PublishPatience, outbox.DefaultPatience)
	}
	return outbox.DefaultPatience
}

// wake has the planner look now.
func (d *Daemon) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// publicAddress is where anyone is answered; empty: nowhere.
func (d *Daemon) publicAddress() string {
	if d.public == nil {
		return ""
	}
	return d.public.Addr().String()
}

func (d *Daemon) now() time.Time { return d.o.Clock().Wall }

func runsDir(data string) string { return filepath.Join(data, "runs") }

// changed tells everybody who waits, and the outbox, that something is new.
func (d *Daemon) changed() {
	d.changes.broadcast()
	d.outbox.Kick()
}

// The parts of a daemon, in the order in which they are started.
const (
	runs       = "runner"
	following  = "log follower"
	echoing    = "job output"
	deliveries = "outbox"
	probing    = "store"
	writing    = "new jobs"
	answers    = "server"
	publicly   = "public server"
	locally    = "server for users"
	reloading  = "reload"
	planning   = "planner"
	pruning    = "retention"
	assurance  = "watchdog"
)

// grace is how long the parts may take to stop, all together.
const grace = 10 * time.Second

// Run works until ctx ends or, without Plan, until what it was asked for is
// done. Then it stops planning and starting, waits for running jobs if it was
// told to, and stops its parts in the reverse of their order. Processes go on
// after it.
func (d *Daemon) Run(ctx context.Context) error {
	if d.o.Plan {
		// Before anything is started: runs that were queued when the last daemon
		// stopped may be too late by now.
		if _, err := d.decide(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // told to end in the middle of it
			}
			return err
		}
	}
	ending := make(chan struct{})
	parts := newParts(d.o.Log)
	// First, and so the last to stop: attempts end for as long as the others work.
	parts.start(following, d.followLogs)
	if d.o.Output != nil {
		parts.start(echoing, d.echo.run)
	}
	parts.start(runs, d.runner.Run)
	parts.start(deliveries, d.outbox.Run)
	parts.start(probing, d.store.probe)
	parts.start(writing, d.jobs.writeNew)
	parts.start(answers, func(ctx context.Context) error {
		return d.serve(ctx, d.listen, d.handler(newBackend(d), server.Owner, os.Geteuid(), ending))
	})
	if d.public != nil {
		parts.start(publicly, func(ctx context.Context) error {
			return d.serve(ctx, d.public, d.handler(newBackend(d), server.Anyone, nobody, ending))
		})
	}
	if d.peers != nil {
		parts.start(locally, func(ctx context.Context) error { return d.serve(ctx, d.peers, d.peerHandler(ending)) })
	}
	if d.o.Watchdog > 0 {
		parts.start(assurance, d.watchdog)
	}
	idle := make(chan error, 1)
	looking, stopLooking := context.WithCancel(ctx)
	defer stopLooking()
	var look sync.WaitGroup
	if d.o.Plan {
		for _, name := range []string{reloading, planning} {
			d.beats.of(name) // in the account of health before anybody is told that we are ready
		}
		parts.start(reloading, func(ctx context.Context) error { return d.jobs.watch(ctx, d.beats.of(reloading), d.supervisor) })
		parts.start(pruning, d.retention)
		parts.start(planning, d.plan)
		d.ready()
		d.cron.tell("CRON", "STARTUP", "belfry "+d.o.Version)
	} else {
		look.Go(func() { idle <- d.untilIdle(looking) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-parts.failed:
		// Whatever failed for want of the folder says less than this.
		err = cmp.Or(d.folder.check(), err)
	case err = <-idle:
	}
	stopLooking()
	look.Wait()
	d.tell("STOPPING=1", status("stopping"))
	d.runner.Hold()
	if d.o.Plan {
		err = errors.Join(err, parts.stop(reloading, time.Now().Add(grace)))
		d.beats.ended(reloading)
		d.beats.ended(planning)
		if err == nil && d.o.Wait != 0 {
			err = d.waitForRuns(parts.failed, d.o.Wait)
		}
		if err == nil && d.o.Grace > 0 {
			err = d.endRuns(parts.failed)
		}
	}
	close(ending)
	return errors.Join(err, parts.stopAll(time.Now().Add(grace)))
}

// ready tells systemd that the times are kept, and what comes next.
func (d *Daemon) ready() {
	n, next := d.nextFiring()
	line := status("%d jobs", n)
	if next != nil {
		line = status("%d jobs, next is %s at %s", n, next.Job, next.At.Format("2006-01-02 15:04:05 MST"))
	}
	d.tell("READY=1", line)
}

// endRuns ends the jobs that are still running.
func (d *Daemon) endRuns(failed <-chan error) error {
	const killed = 2 * time.Second // what even KILL does not end by then is left
	if err := d.runner.EndAll(context.Background(), false); err != nil {
		d.o.Log.Error("end the running jobs", "error", err)
	}
	if err := d.waitForRuns(failed, d.o.Grace); err != nil {
		return err
	}
	if err := d.runner.EndAll(context.Background(), true); err != nil {
		d.o.Log.Error("kill the running jobs", "error", err)
	}
	return d.waitForRuns(failed, killed)
}

// waitForRuns returns when no job is running any more, or after so long;
// negative: however long it takes.
func (d *Daemon) waitForRuns(failed <-chan error, wait time.Duration) error {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	// systemd ends a service that does not stop, unless it hears from it.
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for told := -1; ; {
		changed := d.changes.next()
		running, err := d.store.Running(context.Background())
		if err != nil || len(running) == 0 {
			return err
		}
		if told != len(running) {
			told = len(running)
			if d.o.Remaining != nil {
				d.o.Remaining(told)
			}
		}
		d.tell("EXTEND_TIMEOUT_USEC=30000000", status("waiting for %d running jobs", told))
		select {
		case <-changed:
		case <-ticker.C:
		case err := <-failed:
			return err
		case <-over:
			return nil
		}
	}
}

// handler answers a user of the machine, by id, what access lets them ask.
func (d *Daemon) handler(b *backend, access server.Access, uid int, ending <-chan struct{}) http.Handler {
	return server.New(d.answers(b, access, uid, ending))
}

func (d *Daemon) answers(b *backend, access server.Access, uid int, ending <-chan struct{}) server.Options {
	return server.Options{Backend: b, Access: access, Spool: d.crontabsFor(uid), Turn: func() (func(), error) { return d.installTurn(uid) }, Ending: ending, Log: d.o.Log.With("component", "server")}
}

// serve answers requests until ctx ends, and lets those that are under way end.
func (d *Daemon) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(d.o.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("answer on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(requests, 2*time.Second)
	defer cancel()
	err := srv.Shutdown(shutdown)
	if errors.Is(err, context.DeadlineExceeded) {
		abort()
		err = srv.Close()
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// plan is the loop: look at the clock, write down what is due, have it started,
// sleep until shortly before the next firing, at most a minute.
func (d *Daemon) plan(ctx context.Context) error {
	log, alive := d.o.Log.With("component", "plan"), d.beats.of(planning)
	for {
		alive()
		if err := d.folder.check(); err != nil {
			return err
		}
		d.touchAlive(log)
		next, err := d.decide(ctx)
		wake, coming := next.Wake, next.Coming
		if err != nil && ctx.Err() == nil {
			log.Error("plan", "error", err)
			wake, coming = d.o.Clock().Wall.Add(time.Second), 0
			if d.store.trouble() != "" {
				wake = wake.Add(time.Minute) // it wakes us
			}
		}
		if d.o.Shadow || coming > aheadMost {
			coming = 0 // there is nothing to have ready, or too much
		}
		timer := time.NewTimer(min(max(wake.Add(-lead(coming)).Sub(d.o.Clock().Wall), 0), time.Minute))
		select {
		case <-ctx.Done():
			timer.Stop()
			d.touchAlive(log)
			return nil
		case <-timer.C:
			if coming == 0 {
				continue
			}
			if err := d.ahead(ctx, wake); err != nil && ctx.Err() == nil {
				log.Debug("what is due was not written ahead", "error", err)
			}
		case <-d.woken:
			timer.Stop()
		}
	}
}

// decide plans once and says when to look again.
func (d *Daemon) decide(ctx context.Context) (plan.Decision, error) {
	now := d.o.Clock()
	return d.planTo(ctx, now, func(decision plan.Decision) (wrote bool, err error) {
		return d.store.Record(ctx, decision, now.Wall)
	})
}

// planTo plans up to a reading of the clocks and has the decision written.
func (d *Daemon) planTo(ctx context.Context, reading plan.Reading, write func(decision plan.Decision) (wrote bool, err error)) (plan.Decision, error) {
	d.jobs.turn.Lock()
	defer d.jobs.turn.Unlock()
	clock, err := d.store.Clock(ctx)
	if err != nil {
		return plan.Decision{}, err
	}
	if d.o.System != nil && clock.Boot == "" && d.o.System.RebootDone() {
		clock.Boot = reading.Boot // the cron before us has run what runs when the machine starts
	}
	in := plan.Input{Node: d.o.Host.Name, Now: reading, Last: d.last, Clock: clock, Jobs: d.jobs.calendar(), Shadow: d.o.Shadow}
	if in.Waits, err = d.store.Waits(ctx); err != nil {
		return plan.Decision{}, err
	}
	if d.last == nil {
		if in.Queued, err = d.store.QueuedFirings(ctx); err != nil {
			return plan.Decision{}, err
		}
		in.Alive = d.jobs.alive
	}
	decision := plan.Decide(in)
	if len(decision.Runs) > 0 {
		crash.Point(crash.Decided)
	}
	keys := make([]string, len(decision.Runs))
	for i, r := range decision.Runs {
		keys[i] = r.Job.Key
	}
	if err := d.store.unwritten.before(ctx, keys...); err != nil {
		return plan.Decision{}, err
	}
	wrote, err := write(decision)
	if err != nil {
		return plan.Decision{}, err
	}
	if wrote {
		crash.Point(crash.Recorded)
	}
	if d.last == nil && d.o.System != nil && !d.o.Shadow {
		d.tellReboot(decision)
		if err := d.o.System.MarkReboot(); err != nil {
			d.o.Log.Warn("tell the cron that may come after us that @reboot jobs have run", "error", err)
		}
	}
	d.last = &reading
	if wrote {
		d.runner.Kick()
		d.changed()
	}
	if !d.o.Shadow {
		d.runner.Prepare(decision.Coming, decision.Wake.Sub(reading.Wall))
	}
	return decision, nil
}

// touchAlive notes that a daemon was here, so that the next one can say how
// long none was.
func (d *Daemon) touchAlive(log *slog.Logger) {
	path := filepath.Join(d.o.Data, "alive")
	now := d.o.Clock().Wall
	err := os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.WriteFile(path, nil, 0o600); err == nil {
			err = os.Chtimes(path, now, now)
		}
	}
	if err = d.store.wrote(err); err != nil {
		log.Error("touch alive", "error", err)
	}
}

// Finish says that whoever opened a daemon that does not plan will ask for
// nothing more: Run returns when everything under way is done.
func (d *Daemon) Finish() { close(d.finish) }

// untilIdle returns after Finish when every run that this daemon was asked for
// has ended and been published, and what it owes has been tried.
func (d *Daemon) untilIdle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.finish:
	}
	for {
		changed := d.changes.next()
		if idle, err := d.idle(ctx); idle || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (d *Daemon) idle(ctx context.Context) (bool, error) {
	unfinished, err := d.store.Unfinished(ctx, d.since)
	if err != nil || unfinished > 0 {
		return false, err
	}
	untried, err := d.store.Untried(ctx)
	return untried == 0, err
}

// Close gives everything back, in the reverse order of Open. Jobs go on.
func (d *Daemon) Close() error {
	var errs []error
	for _, listener := range []net.Listener{d.listen, d.public, d.peers} {
		if listener == nil {
			continue
		}
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if d.procs != nil {
		errs = append(errs, d.procs.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.folder != nil {
		errs = append(errs, d.folder.release())
	}
	if d.cron != nil {
		d.cron.close()
	}
	return errors.Join(errs...)
}

// Client talks to this daemon.
func (d *Daemon) Client() *api.Client { return api.Unix(d.o.Data) }

// Reload makes a planning daemon read its sources, and the machine's zone data,
// anew, also when no file seems to have changed.
func (d *Daemon) Reload() {
	select {
	case d.jobs.asked <- struct{}{}:
	default:
	}
}

// changes lets requests wait for the next change.
type changes struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed at the next change
}

func (c *changes) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ch = make(chan struct{})
}

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ch
}

func (c *changes) broadcast() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ch)
	c.ch = make(chan struct{})
}

// FolderError says that a data folder cannot be used.
type FolderError struct {
	Dir string
	Err error
}

func (e *FolderError) Error() string {
	return fmt.Sprintf("the data folder %s cannot be written: %v", e.Dir, errors.Unwrap(e.Err))
}

func (e *FolderError) Unwrap() error { return e.Err }

package proc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	idleTime         = 10 * time.Second // how long a keeper without daemon and jobs waits for either
	defaultKillAfter = 10 * time.Second
	recorders        = 4           // exit records written at a time: syncs share the journal's commits
	recordPause      = time.Second // for so long, starts that wait go before outcomes that wait
	crowd            = 100         // starts that wait: from so many on, attempts have no cgroup
	readyVariable    = "BELFRY_KEEPER_READY"
)

// RunKeeper is the body of `belfry keeper`: it makes a folder of its own
// below dir, listens on the socket in it, and returns when no daemon has been
// connected and no attempt has been open for 10 s, or, after TERM, when the
// last attempt has ended. It takes over the process: session, folder, mask of
// modes, signals and inherited descriptors are set for jobs, and after it has
// returned the process must exit.
func RunKeeper(dir string, log *slog.Logger) error {
	return runKeeper(dir, keeperOptions{idle: idleTime, limit: maxFrame, log: log, cgroups: newCgroups})
}

// keeperOptions are what tests make smaller, or do without.
type keeperOptions struct {
	idle  time.Duration
	pause time.Duration // 0: recordPause
	limit int           // of a frame's bytes
	log   *slog.Logger

	cgroups func(keeper string) (*cgroups, error) // newCgroups
	step    func(step)                            // nil, or told how far a start is
}

// step is how far a start is.
type step string

const (
	recorded step = "recorded" // the record's first line is written
	forked   step = "forked"   // there is a process, and no second line
)

func runKeeper(dir string, o keeperOptions) error {
	ready := readyPipe()
	dir, err := filepath.Abs(dir) // we leave this folder
	var k *keeper
	if err == nil {
		k, err = newKeeper(dir, o)
	}
	if err != nil {
		err = fmt.Errorf("start keeper in %s: %w", dir, err)
		announce(ready, "error: "+err.Error())
		return err
	}
	announce(ready, k.id)
	return k.run()
}

// readyPipe gives what the client that started this keeper listens to.
func readyPipe() *os.File {
	fd, err := strconv.Atoi(os.Getenv(readyVariable)) //nolint:forbidigo // the client that starts a keeper tells it so
	if err != nil {
		return nil
	}
	_ = os.Unsetenv(readyVariable)
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "ready")
}

func announce(ready *os.File, word string) {
	if ready != nil {
		fmt.Fprintln(ready, word)
		_ = ready.Close()
	}
}

// state is how far an attempt is, for the keeper.
type state string

const (
	stateWaiting state = "waiting" // in the queue
	stateRunning state = "running" // until its outcome is told
	stateExited  state = "exited"  // until it is forgotten
)

// attempt is the keeper's account of one.
type attempt struct {
	key
	token     int64
	dir       string
	killAfter time.Duration
	cgroup    string // "" when it has none of its own; set before it runs
	spec      Spec   // until it is spawned: environments take room

	// Guarded by keeper.mu.
	state      state
	started    *Started
	exit       *Exit
	doubt      bool
	pid        int           // also its session and group
	begun      time.Time     // with the monotonic reading
	timer      *time.Timer   // the timeout's
	reaped     bool          // the main process
	outcome    Exit          // of the main process, once reaped
	program    chan struct{} // closed when its process is the program, or will never be; nil: it was from the start
	refusal    error         // why its process did not become the program
	stop       StopKind      // what was asked for, the stronger of two
	timedOut   bool          // the timeout was first
	lease      time.Duration // when it ends, by CLOCK_BOOTTIME; 0: never
	leaseLost  bool          // its end was first
	kill       chan struct{} // not nil once it is being ended; closed when there is nothing to wait for any more
	unrecorded bool          // its outcome is nowhere but here
	forgotten  bool          // a daemon's store has its outcome
}

// keeper is the parent of all jobs.
type keeper struct {
	id     string
	pid    int
	boot   string
	idle   time.Duration
	pause  time.Duration // so long outcomes wait for starts
	limit  int           // of a frame's bytes
	log    *slog.Logger
	folder *folder
	oom    oomScore
	logs   *limiter

	cgroups *cgroups
	step    func(step)
	alarm   bootAlarm

	ctx    context.Context // the keeper's life: cancelled when its work is done
	cancel context.CancelFunc
	work   sync.WaitGroup // everything but the reaper, which may be in wait4 for ever
	stdin  sync.WaitGroup
	wake   chan struct{} // something is in the queue
	forked chan struct{} // there is a child to wait for

	// forkMu is held by the spawner from before a fork until the child is in
	// byPID, and by the reaper while it takes the dead away. So wait4(-1)
	// cannot meet a child that is not registered yet. It is not mu, because an
	// exec from a dead network disk can take for ever, and signals and
	// questions shall be answered meanwhile. It is taken before mu.
	forkMu sync.Mutex

	// mu is never held over anything that can block. A pid in byPID is not
	// reaped while mu is held, so a signal under mu never hits a stranger.
	mu         sync.Mutex
	attempts   map[key]*attempt
	byPID      map[int]*attempt
	queue      []*attempt
	open       int             // attempts whose outcome is neither on the disk nor forgotten yet
	busy       map[string]bool // cgroups of attempts that have ended, with processes in them
	sweep      bool            // some of busy may have become empty
	ends       []ending        // outcomes that are to be told and recorded
	records    []ending        // those that are told, and to be recorded
	recording  int             // recorders at work
	recordAt   *time.Timer     // not nil while outcomes wait for the starts
	recordNow  bool            // they have waited long enough
	reaps      chan struct{}   // closed and replaced when something was reaped
	peers      map[*peer]bool
	daemons    int // peers that have subscribed
	subscriber *peer
	idleTimer  *time.Timer
	alarmAt    time.Duration
	peak       int64 // bytes of memory that we have had, as far as we looked
	terminated bool  // TERM came: end with the last attempt
	ending     bool  // nothing new is taken
}

func newKeeper(dir string, o keeperOptions) (*keeper, error) {
	if err := becomeKeeper(); err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	// Sortable by age, and never the same again.
	id := fmt.Sprintf("%013x-%s", time.Now().UnixMicro(), rand.Text()[:8])
	folder, err := makeFolder(dir, id)
	if err != nil {
		return nil, err
	}
	cgroups, err := o.cgroups(id)
	if err != nil {
		o.log.Info("no cgroups for attempts", "keeper", id, "reason", err.Error())
	}
	alarm, err := newBootAlarm()
	if err != nil {
		return nil, errors.Join(err, folder.remove())
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := o.log.With("keeper", id)
	return &keeper{
		id: id, pid: os.Getpid(), boot: boot, idle: o.idle, pause: cmp.Or(o.pause, recordPause), limit: o.limit, folder: folder,
		log: log,
		logs: newLimiter(func(path string, err error) {
			log.Error("logs are not kept within their limits here", "log", path, "error", err)
		}),
		oom:      newOOMScore(),
		alarm:    alarm,
		cgroups:  cgroups,
		step:     o.step,
		ctx:      ctx,
		cancel:   cancel,
		wake:     make(chan struct{}, 1),
		forked:   make(chan struct{}, 1),
		attempts: make(map[key]*attempt),
		byPID:    make(map[int]*attempt),
		reaps:    make(chan struct{}),
		busy:     make(map[string]bool),
		peers:    make(map[*peer]bool),
	}, nil
}

// becomeKeeper sets what jobs inherit and what keeps this process from going
// down with its parent.
func becomeKeeper() error {
	unix.Setsid() //nolint:errcheck // it fails where this is a session's leader already
	if err := os.Chdir("/"); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := becomeSubreaper(); err != nil {
		return err
	}
	return closeInherited()
}

// closeInherited closes what our parent had left open for its children,
// perhaps without knowing: all of our own is close-on-exec.
func closeInherited() error {
	dir, err := os.Open(fdFolder)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	// Names alone: macOS does not say of what kind they are, and to a look at the
	// poller's own, a kqueue, it answers EBADF.
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// run does the keeper's work and blocks until it is done.
func (k *keeper) run() error {
	k.log.Info("keeper started", "pid", os.Getpid())
	signals := k.takeSignals()
	defer signal.Stop(signals)

	k.mu.Lock()
	k.considerEnd()
	k.mu.Unlock()

	k.work.Go(k.spawnAll)
	k.work.Go(func() { k.logs.run(k.ctx.Done()) })
	k.work.Go(k.enforceLeases)
	go k.reapAll()
	k.work.Go(k.accept)
	for {
		select {
		case <-k.ctx.Done():
			err := errors.Join(k.folder.remove(), k.alarm.close()) // ends accept and enforceLeases
			k.mu.Lock()
			for p := range k.peers {
				p.finish()
			}
			k.mu.Unlock()
			k.work.Wait()
			k.stdin.Wait()
			k.cgroups.close()
			k.log.Info("keeper ended")
			return err
		case s := <-signals:
			if s == unix.SIGTERM || s == unix.SIGINT {
				k.terminate(s)
			}
		}
	}
}

// takeSignals catches what could end or halt the keeper. Signals that are
// caught have their default disposition in children, whatever the keeper's
// own parent had ignored; Go itself catches all others that it can.
func (k *keeper) takeSignals() chan os.Signal {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGTERM,
		unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	return signals
}

// terminate lets the keeper end with its last attempt: what the service
// manager tells to the jobs is not for the keeper to repeat.
func (k *keeper) terminate(s os.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log.Info("keeper will end with its last attempt", "signal", s.String(), "open", k.open)
	k.terminated = true
	k.considerEnd()
}

// considerEnd ends the keeper when it has no work, at once or in a while. Its
// caller holds mu.
func (k *keeper) considerEnd() {
	if k.idleTimer != nil {
		k.idleTimer.Stop()
		k.idleTimer = nil
	}
	switch {
	case k.open > 0:
	case k.terminated:
		k.end()
	case k.daemons == 0:
		var timer *time.Timer
		timer = time.AfterFunc(k.idle, func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.idleTimer == timer {
				k.end()
			}
		})
		k.idleTimer = timer
	}
}

// end makes run return. Its caller holds mu.
func (k *keeper) end() {
	k.ending = true
	k.cancel()
}

// start takes attempts into the queue. One that is known is told of again.
// Its caller holds mu.
func (k *keeper) start(specs []wireSpec) {
	for _, w := range specs {
		spec := w.spec()
		id := key{spec.Run, spec.Attempt}
		if known := k.attempts[id]; known != nil {
			for _, event := range known.wire().events() {
				k.emit(event)
			}
			continue
		}
		a := &attempt{
			key: id, token: spec.Token, dir: spec.Dir, spec: spec, state: stateWaiting,
			killAfter: spec.KillAfter, lease: w.LeaseEnd,
		}
		if a.killAfter <= 0 {
			a.killAfter = defaultKillAfter
		}
		k.attempts[id] = a
		k.queue = append(k.queue, a)
		k.open++
	}
	k.considerEnd()
	signalTo(k.wake)
}

// signalTo leaves word in a channel of one place.
func signalTo(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// spawnAll starts what is in the queue, one at a time: more spawners are
// slower.
func (k *keeper) spawnAll() {
	// A child begins with the signal mask of the thread that forks.
	runtime.LockOSThread()
	if err := unblockSignals(); err != nil {
		k.log.Error("unblock signals", "error", err)
	}
	k.oom.spare(true)
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.wake:
		}
		k.oom.spare(false)
		for a := k.next(); a != nil; a = k.next() {
			k.spawn(a)
		}
		k.oom.spare(true)
	}
}

func (k *keeper) next() *attempt {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		k.record()
		return nil
	}
	a := k.queue[0]
	k.queue[0] = nil
	k.queue = k.queue[1:]
	return a
}

func (k *keeper) reached(s step) {
	if k.step != nil {
		k.step(s)
	}
}

// crowded reports whether so many starts wait that they shall not be made
// later by a cgroup for each, which takes a tenth of a start.
func (k *keeper) crowded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.queue) >= crowd
}

// spawn starts one attempt, or says why not.
func (k *keeper) spawn(a *attempt) {
	spec := a.spec
	a.spec = Spec{}

	at := time.Now()
	cgroup := ""
	if !k.crowded() {
		cgroup = k.cgroups.name(a.key)
	}
	record, err := createStart(a.dir, startRecord{
		Run: a.run, Attempt: a.attempt, Token: a.token,
		Keeper: k.id, Boot: k.boot, At: at.UTC(), Since: bootTicks(), Cgroup: cgroup,
	})
	if err == nil && unix.Access(a.dir+"/"+exitName, unix.F_OK) == nil {
		// Another keeper was asked before, had no room for its start record,
		// and said so.
		record.close()
		err = fs.ErrExist
	}
	if errors.Is(err, fs.ErrExist) {
		k.startedBefore(a)
		return
	}
	if err != nil {
		k.notStarted(a, at, fmt.Sprintf("start: %v", err))
		return
	}
	defer record.close()
	k.reached(recorded)

	k.mu.Lock()
	stopped := a.stop != ""
	a.leaseLost = a.lease > 0 && a.lease <= bootTime()
	k.mu.Unlock()
	switch {
	case stopped:
		k.notStarted(a, at, "stopped before it was started")
		return
	case a.leaseLost:
		k.notStarted(a, at, "its lease ran out before it was started")
		return
	}

	k.forkMu.Lock()
	defer k.forkMu.Unlock()
	begun := time.Now()
	pid, talk, err := k.spawnIn(cgroup, a, spec)
	if err != nil {
		k.notStarted(a, at, fmt.Sprintf("start %v", err))
		return
	}
	k.reached(forked)
	if err := record.add(processRecord{PID: pid, Started: bootTicks(), Session: pid}); err != nil {
		k.log.Error("complete the start record", "run", a.run, "attempt", a.attempt, "error", err)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	a.pid, a.begun, a.state = pid, begun, stateRunning
	a.started = &Started{PID: pid, At: begun.UTC()}
	k.byPID[pid] = a
	if talk != nil {
		a.program = make(chan struct{})
		k.work.Go(func() { k.hearRefusal(a, talk) })
	}
	k.emit(Event{Run: a.run, Attempt: a.attempt, Token: a.token, Started: a.started})
	if spec.Timeout > 0 {
		// Go's timers follow CLOCK_MONOTONIC: a suspend uses none of it up.
		a.timer = time.AfterFunc(spec.Timeout, func() { k.timeOut(a) })
	}
	if a.lease > 0 {
		k.setAlarm()
	}
	if spec.LogLimit > 0 {
		k.logs.add(a.key, a.dir, spec.LogLimit, func() writers { return k.writers(a) })
	}
	if a.stop != "" { // asked for during the fork
		k.endAttempt(a, a.stop)
	}
	signalTo(k.forked)
}

// spawnIn is spawn in a cgroup of the attempt's own, or without one where it
// cannot be had. Its caller holds forkMu.
func (k *keeper) spawnIn(cgroup string, a *attempt, spec Spec) (pid int, talk func() error, err error) {
	if cgroup == "" {
		return spawn(k.ctx, &k.stdin, spec, -1)
	}
	fd, err := k.cgroups.open(cgroup)
	if err != nil {
		k.log.Error("make a cgroup", "run", a.run, "attempt", a.attempt, "error", err)
		return spawn(k.ctx, &k.stdin, spec, -1)
	}
	defer func() { _ = unix.Close(fd) }()
	pid, talk, err = spawn(k.ctx, &k.stdin, spec, fd)
	if err == nil {
		a.cgroup = cgroup
		return pid, talk, nil
	}
	_ = k.cgroups.remove(cgroup)
	pid, talk, without := spawn(k.ctx, &k.stdin, spec, -1)
	if without == nil && cannotClone(err) { // and it was not the program
		k.cgroups.off = true
		k.log.Warn("no cgroups for attempts", "reason", err.Error())
	}
	return pid, talk, without
}

// hearRefusal waits until an attempt's process is its program, or says why not.
func (k *keeper) hearRefusal(a *attempt, talk func() error) {
	err := talk()
	k.mu.Lock()
	defer k.mu.Unlock()
	a.refusal = err
	close(a.program)
}

// conclude gives an attempt the outcome of its process, as soon as it is known
// whether that was its program. Its caller holds mu.
func (k *keeper) conclude(a *attempt, outcome Exit) {
	if a.program != nil && !closed(a.program) { // it is dead: its end is heard now
		k.work.Go(func() {
			<-a.program
			k.mu.Lock()
			defer k.mu.Unlock()
			k.conclude(a, outcome)
		})
		return
	}
	if a.refusal != nil {
		outcome.Code, outcome.Signal, outcome.Error = -1, "", fmt.Sprintf("start %v", a.refusal)
	}
	k.finish(a, outcome)
}

// notStarted gives an attempt the outcome of one that has no process.
func (k *keeper) notStarted(a *attempt, at time.Time, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a.state, a.reaped = stateRunning, true // there is nobody to end
	k.finish(a, Exit{
		Code: -1, Stopped: a.stop != "", LeaseLost: a.leaseLost, Error: why,
		StartedAt: at.UTC(), EndedAt: time.Now().UTC(),
	})
}

// startedBefore answers for an attempt that has a `start` record: with its
// exit record, or with a doubt.
func (k *keeper) startedBefore(a *attempt) {
	exit, err := readExit(a.dir, a.run, a.attempt)
	if err != nil {
		k.log.Error("read exit record", "run", a.run, "attempt", a.attempt, "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open--
	a.state, a.exit, a.doubt = stateExited, exit, exit == nil
	for _, event := range a.wire().events() {
		k.emit(event)
	}
	k.considerEnd()
}

// ending is an outcome on its way to the disk.
type ending struct {
	*attempt
	exit Exit
}

// finish has the outcome recorded and told. Its caller holds mu.
func (k *keeper) finish(a *attempt, exit Exit) {
	k.ends = append(k.ends, ending{a, exit})
	k.record()
}

// record has outcomes told and recorded whose time it is. Its caller holds mu.
func (k *keeper) record() {
	waiting := 0
	if k.recordDue() {
		waiting = len(k.ends) + len(k.records)
	}
	if k.sweep {
		waiting++
	}
	for range min(waiting, recorders-k.recording) {
		k.recording++
		k.work.Go(k.recordEnds)
	}
	k.holdBack()
}

// holdBack bounds how long outcomes wait for starts. Its caller holds mu.
func (k *keeper) holdBack() {
	if k.recordDue() || k.recordAt != nil || len(k.ends)+len(k.records) == 0 {
		return
	}
	k.recordAt = time.AfterFunc(k.pause, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.recordAt, k.recordNow = nil, len(k.ends)+len(k.records) > 0
		k.record()
	})
}

// recordDue reports whether it is the outcomes' turn. Starts that wait are late
// from now on, and go first. But not for long: others may wait for an outcome, and
// who finds the keeper dead would miss it. Its caller holds mu.
func (k *keeper) recordDue() bool {
	return k.recordNow || len(k.queue) == 0
}

// recordEnds tells and records outcomes as long as it is their turn. One alone is
// recorded before it is told. Of many, all are told first: what a daemon has
// committed by the time its record's turn comes needs none.
func (k *keeper) recordEnds() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		switch due := k.recordDue(); {
		case len(k.ends) > 0 && due:
			e := take(&k.ends)
			alone := len(k.ends) == 0 && len(k.records) == 0
			k.settle(e)
			if alone {
				k.recordEnd(e)
				k.tellEnd(e)
			} else {
				k.tellEnd(e)
				k.records = append(k.records, e)
			}
		case len(k.records) > 0 && due:
			k.recordEnd(take(&k.records))
		case k.sweep:
			k.sweep = false
			k.sweepBusy()
		default:
			k.recording--
			if len(k.ends)+len(k.records) == 0 {
				k.recordNow = false
			}
			k.holdBack()
			return
		}
	}
}

func take(list *[]ending) ending {
	first := (*list)[0]
	(*list)[0] = ending{}
	*list = (*list)[1:]
	return first
}

// settle brings the log of an attempt that has ended within its limit. Its
// caller holds mu, which is given away meanwhile.
func (k *keeper) settle(e ending) {
	k.mu.Unlock()
	defer k.mu.Lock()
	k.logs.settle(e.key)
}

// tellEnd tells an outcome. Its caller holds mu.
func (k *keeper) tellEnd(e ending) {
	e.state, e.attempt.exit = stateExited, &e.exit
	k.emit(Event{Run: e.run, Attempt: e.attempt.attempt, Token: e.token, Exit: e.attempt.exit})
}

// recordEnd writes an exit record, unless the outcome is forgotten by now. Its
// caller holds mu, which is given away meanwhile.
//
// A record is synced when no daemon listens. One that does commits the
// outcome to its store at once, and a thousand syncs beside a thousand starts
// make the last start a fifth later.
func (k *keeper) recordEnd(e ending) {
	sync, forgotten := k.subscriber == nil, e.forgotten
	k.mu.Unlock()
	busy := e.cgroup != "" && errors.Is(k.cgroups.remove(e.cgroup), unix.EBUSY)
	var err error
	if !forgotten {
		err = writeExit(e.dir, exitRecord{
			Run: e.run, Attempt: e.attempt.attempt, Token: e.token, Keeper: k.id, Exit: e.exit,
		}, sync)
	}
	if err != nil {
		k.log.Error("write exit record", "run", e.run, "attempt", e.attempt.attempt, "error", err)
	}
	k.mu.Lock()
	if busy {
		k.busy[e.cgroup] = true
		k.sweep = true // its last process may have gone since
	}
	// An outcome that the disk did not take keeps the keeper alive until a
	// daemon has it, unless the whole directory is gone.
	e.unrecorded = err != nil && !errors.Is(err, fs.ErrNotExist) && !e.forgotten
	if !e.unrecorded {
		k.open--
	}
	k.considerEnd()
}

// sweepBusy removes the cgroups of attempts that have ended, as far as their
// last processes have gone. Its caller holds mu, which is given away meanwhile.
func (k *keeper) sweepBusy() {
	paths := slices.Collect(maps.Keys(k.busy))
	k.mu.Unlock()
	paths = slices.DeleteFunc(paths, func(path string) bool {
		return errors.Is(k.cgroups.remove(path), unix.EBUSY)
	})
	k.mu.Lock()
	for _, path := range paths {
		delete(k.busy, path)
	}
}

// writers says who may still write an attempt's log.
func (k *keeper) writers(a *attempt) writers {
	k.mu.Lock()
	running := !a.reaped
	k.mu.Unlock()
	switch {
	case running:
		return someWriters
	case a.cgroup != "":
		if populated(a.cgroup) {
			return someWriters
		}
		return noWriters
	case unix.Kill(-a.pid, 0) == nil: // its group
		return someWriters
	default:
		return unknownWriters
	}
}

// emit tells the newest daemon; what it does not get is in the next list. Its
// caller holds mu.
func (k *keeper) emit(event Event) {
	if k.subscriber != nil {
		k.subscriber.sendEvent(event)
	}
}

// forget drops an attempt that has exited. Its caller holds mu.
func (k *keeper) forget(id key) error {
	a := k.attempts[id]
	if a == nil {
		return nil
	}
	if a.state != stateExited {
		return fmt.Errorf("attempt %d of run %s has not ended", id.attempt, id.run)
	}
	delete(k.attempts, id)
	a.forgotten = true
	if a.unrecorded {
		k.open--
		k.considerEnd()
	}
	return nil
}

// wire is what a list says of a. Its caller holds mu.
func (a *attempt) wire() wireAttempt {
	return wireAttempt{
		Run: a.run, Attempt: a.attempt, Token: a.token, State: a.state,
		Started: a.started, Exit: a.exit, Doubt: a.doubt,
	}
}

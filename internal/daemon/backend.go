package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"belfry/api"
	"belfry/internal/job"
	"belfry/internal/logs"
	"belfry/internal/outbox"
	"belfry/internal/plan"
	"belfry/internal/python"
	"belfry/internal/run"
	"belfry/internal/server"
	"belfry/internal/store"
)

// history answers what only needs to be read: it serves an owner and, beside
// it or without one, a command that looks.
type history struct {
	data  string
	store *store.Store
	jobs  func() []plan.Job
	byKey func(key string) (plan.Job, bool)
	now   func() time.Time
	// owner is the user whose jobs and runs these are, for requests of that user;
	// empty: they are all.
	owner  string
	owners map[string]string // hash of a definition → owner; nil where all may be seen
	// secrets gives what is hidden in the output of a run's newest attempt.
	secrets   func(ctx context.Context, run string) ([]string, error)
	publisher *publisher
}

func (h *history) EachJob(ctx context.Context, short bool, each func(server.Job) error) error {
	read := h.store.LastRuns
	if short {
		read = h.store.LastStates
	}
	lasts, err := read(ctx)
	if err != nil {
		return err
	}
	now := h.now()
	for _, j := range h.jobs() {
		out := server.Job{Job: j}
		if !j.Paused {
			out.Next = j.Next(now)
		}
		last, ok := lasts[j.Key]
		if ok {
			ok, err = h.sees(ctx, last)
		}
		if err != nil {
			return err
		}
		if ok {
			out.Last = &last
		}
		if j.Python.Wanted() && !short {
			out.Environment = python.Of(h.data, j.Name)
		}
		if err := each(out); err != nil {
			return err
		}
	}
	return nil
}

// sees reports whether a run is one that may be shown and steered: one that was
// of this owner, whoever owns the job now.
func (h *history) sees(ctx context.Context, r run.Run) (bool, error) {
	if h.owner == "" {
		return true, nil
	}
	owner, known := h.owners[r.Definition]
	if !known {
		var err error
		if owner, _, err = h.Meant(ctx, r); err != nil {
			return false, err
		}
		h.owners[r.Definition] = owner
	}
	return owner == h.owner, nil
}

// seesRun is sees for a run of which only the id is known.
func (h *history) seesRun(ctx context.Context, id string) bool {
	if h.owner == "" {
		return true
	}
	r, err := h.store.Run(ctx, id)
	if err != nil {
		return false
	}
	sees, err := h.sees(ctx, r)
	return err == nil && sees
}

// seen gives a run that was found unless it is somebody else's.
func (h *history) seen(ctx context.Context, ref string, found run.Run, err error) (run.Run, error) {
	if err != nil {
		return run.Run{}, err
	}
	sees, err := h.sees(ctx, found)
	if err == nil && !sees {
		err = noRun(ref)
	}
	if err != nil {
		return run.Run{}, err
	}
	return found, nil
}

func noRun(ref string) error {
	return &api.Error{Code: api.NotFound, Message: fmt.Sprintf("there is no run or job %q", ref), Hint: "belfry runs lists the runs, belfry jobs the jobs"}
}

// Zone is that of the job as it is now, or as the run found it.
func (h *history) Zone(ctx context.Context, r run.Run) string {
	if j, ok := h.byKey(r.Job); ok {
		return j.Zone.String()
	}
	if j, err := h.definition(ctx, r); err == nil {
		return j.Zone.String()
	}
	return time.UTC.String()
}

// Meant gives whose run it is and what its command is, whatever its job is now.
func (h *history) Meant(ctx context.Context, r run.Run) (owner, command string, err error) {
	j, err := h.definition(ctx, r)
	if err != nil {
		return "", "", err
	}
	return j.Owner, j.Command.String(), nil
}

// definition is the job of a run as it was when that was recorded, or begun.
func (h *history) definition(ctx context.Context, r run.Run) (*job.Job, error) {
	text, err := h.store.Definition(ctx, r.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of run %s: %w", r.ID, err)
	}
	return job.ParseDefinition(text)
}

// findAny finds a job as find does, or else one that was removed: it still has
// its runs.
func (h *history) findAny(ctx context.Context, name string) (plan.Job, error) {
	j, err := h.find(name)
	if len(h.named(name)) > 0 {
		return j, err
	}
	removed, found, storeErr := h.removed(ctx, name)
	if storeErr != nil || found {
		return removed, storeErr
	}
	return plan.Job{}, err
}

// removed finds a job that was removed.
func (h *history) removed(ctx context.Context, name string) (plan.Job, bool, error) {
	stored, err := h.store.Jobs(ctx)
	if err != nil {
		return plan.Job{}, false, err
	}
	for _, s := range slices.Backward(stored) {
		if s.Removed && (s.Name == name || s.String() == name) && (h.owner == "" || s.Owner == h.owner) {
			return s.Job, true, nil
		}
	}
	return plan.Job{}, false, nil
}

// named lists the jobs that a name may mean: a bare one, or project/name.
func (h *history) named(name string) (found []plan.Job) {
	for _, j := range h.jobs() {
		if name == j.Name || name == j.String() {
			found = append(found, j)
		}
	}
	return found
}

// find takes a bare name where it is unique, else project/name.
func (h *history) find(name string) (plan.Job, error) {
	found := h.named(name)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return plan.Job{}, h.unknown(name)
	}
	var ids []string
	for _, j := range found {
		ids = append(ids, j.String())
	}
	return plan.Job{}, &api.Error{
		Code: api.Invalid, Message: fmt.Sprintf("%q is the name of %d jobs", name, len(found)),
		Hint: "say which: " + strings.Join(ids, ", "),
	}
}

// unknown says that there is no such job, and which there are.
func (h *history) unknown(name string) error {
	all := h.jobs()
	if len(all) == 0 {
		return &api.Error{Code: api.NotFound, Message: fmt.Sprintf("there is no job %q: there are no jobs here", name), Hint: "belfry init makes a first one"}
	}
	var names []string
	for _, j := range all {
		names = append(names, j.Name)
	}
	return &api.Error{Code: api.NotFound, Message: fmt.Sprintf("there is no job %q", name), Hint: "the jobs here are: " + job.Some(names)}
}

func (h *history) EachRun(ctx context.Context, f server.RunFilter, each func(run.Run) error) error {
	filter := store.RunFilter{State: f.State, Backfill: f.Backfill, Limit: f.Limit}
	if f.State != "" && !slices.Contains(run.States(), f.State) {
		var names []string
		for _, state := range run.States() {
			names = append(names, string(state))
		}
		return &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%q is not a state of a run", f.State), Hint: "there are " + strings.Join(names, ", ")}
	}
	if f.Job != "" {
		j, err := h.findAny(ctx, f.Job)
		if err != nil {
			return err
		}
		filter.Job = j.Key
	}
	if h.owner == "" {
		return h.store.EachRun(ctx, filter, each)
	}
	filter.Limit = 0 // it counts those that are seen
	return eachSeen(f.Limit, func(r run.Run) (bool, error) { return h.sees(ctx, r) }, each, func(each func(run.Run) error) error {
		return h.store.EachRun(ctx, filter, each)
	})
}

// eachSeen gives each what all gives and a user sees, limit of it at most; 0: all.
func eachSeen[T any](limit int, sees func(T) (bool, error), each func(T) error, all func(each func(T) error) error) error {
	enough := errors.New("enough")
	given := 0
	err := all(func(v T) error {
		if sees, err := sees(v); err != nil || !sees {
			return err
		}
		if given++; limit > 0 && given > limit {
			return enough
		}
		return each(v)
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

func (h *history) RunByRef(ctx context.Context, ref string) (run.Run, error) {
	found, err := h.runByRef(ctx, ref)
	return h.seen(ctx, ref, found, err)
}

func (h *history) runByRef(ctx context.Context, ref string) (run.Run, error) {
	if run.IsID(ref) {
		if r, err := h.store.Run(ctx, ref); !errors.Is(err, run.ErrNotFound) {
			return r, err
		}
	}
	if name, when, found := strings.Cut(ref, "@"); found {
		return h.runAt(ctx, name, when)
	}
	switch found := h.named(ref); len(found) {
	case 0:
	case 1:
		return h.newest(ctx, found[0], ref)
	default:
		_, err := h.find(ref)
		return run.Run{}, err
	}
	runs, err := h.store.RunsByPrefix(ctx, strings.ToUpper(ref))
	if err != nil {
		return run.Run{}, err
	}
	runs = slices.DeleteFunc(runs, func(r run.Run) bool {
		sees, seesErr := h.sees(ctx, r)
		err = errors.Join(err, seesErr)
		return !sees
	})
	switch {
	case err != nil:
		return run.Run{}, err
	case len(runs) == 1:
		return h.store.Run(ctx, runs[0].ID)
	case len(runs) > 1:
		return run.Run{}, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%q is the beginning of several runs", ref), Hint: "write more of the id"}
	}
	removed, found, err := h.removed(ctx, ref)
	switch {
	case err != nil:
		return run.Run{}, err
	case found:
		return h.newest(ctx, removed, ref)
	}
	return run.Run{}, noRun(ref)
}

// newest is the run of a job that was recorded last.
func (h *history) newest(ctx context.Context, j plan.Job, ref string) (run.Run, error) {
	runs, err := h.store.Runs(ctx, store.RunFilter{Job: j.Key, Limit: 1})
	if err != nil {
		return run.Run{}, err
	}
	if len(runs) == 0 {
		return run.Run{}, &api.Error{Code: api.NotFound, Message: fmt.Sprintf("%s has never run", ref), Hint: "belfry run " + ref + " runs it now"}
	}
	return h.store.Run(ctx, runs[0].ID)
}

// runAt finds the run that accounts for a job's firing at a time: an RFC 3339
// time, or a local one in the job's zone, with or without its date.
func (h *history) runAt(ctx context.Context, name, when string) (run.Run, error) {
	j, err := h.findAny(ctx, name)
	if err != nil {
		return run.Run{}, err
	}
	at, err := firingAt(j, when, h.now())
	if err != nil {
		return run.Run{}, err
	}
	runs, err := h.store.Runs(ctx, store.RunFilter{Job: j.Key, Covering: at, Limit: 1})
	if err != nil {
		return run.Run{}, err
	}
	if len(runs) > 0 {
		return h.store.Run(ctx, runs[0].ID)
	}
	shown := at.In(j.Zone).Format("2006-01-02 15:04 MST")
	return run.Run{}, &api.Error{Code: api.NotFound, Message: fmt.Sprintf("%s has no run for %s", j.Name, shown), Hint: h.whyNone(j, at)}
}

// whyNone says why there is no account of a job's firing at a time.
func (h *history) whyNone(j plan.Job, at time.Time) string {
	const layout = "2006-01-02T15:04"
	fires := j.Next(at.Add(-time.Nanosecond))
	switch {
	case !fires.Equal(at):
		hint := "its schedule does not fire then"
		if prev := j.Prev(at); !prev.IsZero() {
			hint += "; the firing before is " + prev.Format(layout)
		}
		if !fires.IsZero() {
			hint += ", the one after " + fires.Format(layout)
		}
		return hint
	case at.After(h.now()) && h.there(j):
		return "it is still to come"
	case !at.After(j.Since):
		return fmt.Sprintf("the job counts from %s on: it became new, was resumed, or had its schedule edited then", j.Since.In(j.Zone).Format(layout))
	case !h.there(j):
		return "the job was removed"
	}
	return "belfry has not looked since, or its account of that time was removed after its retention"
}

// there reports whether a job was not removed.
func (h *history) there(j plan.Job) bool {
	_, there := h.byKey(j.Key)
	return there
}

// firingAt reads the TIME of JOB@TIME: an RFC 3339 time, or a local one as the
// schedule names it, with or without its date, or a date with one firing.
func firingAt(j plan.Job, when string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, when); err == nil {
		return at, nil
	}
	local := now.In(j.Zone)
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly, "15:04"} {
		at, err := time.ParseInLocation(layout, when, j.Zone)
		if err != nil {
			continue
		}
		naive, _ := time.Parse(layout, when) // not moved by a gap
		request := plan.Request{Date: naive.Format(time.DateOnly), At: naive.Format("15:04")}
		switch layout {
		case "15:04":
			at = time.Date(local.Year(), local.Month(), local.Day(), at.Hour(), at.Minute(), 0, 0, j.Zone)
			request.Date = local.Format(time.DateOnly)
		case time.DateOnly:
			request.At = ""
		}
		firing, _, err := plan.ForRequest(j.Job, request, now)
		switch {
		case err == nil:
			return firing, nil
		case layout == time.DateOnly: // it fires several times on that day
			return time.Time{}, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%s fires several times on %s", j.Name, when), Hint: "write the time too, as in " + j.Name + "@" + when + "T02:30"}
		}
		return at, nil
	}
	return time.Time{}, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%q is not a time", when), Hint: "write 02:30, 2026-07-09, 2026-07-09T02:30 or 2026-07-09T02:30:00+09:00"}
}

func (h *history) Attempts(ctx context.Context, id string) ([]run.Attempt, error) {
	return h.store.Attempts(ctx, id)
}

func (h *history) ItemsOf(ctx context.Context, id string) ([]outbox.Item, error) {
	return h.store.ItemsOf(ctx, id)
}

func (h *history) LogPath(id string, attempt int) string {
	return filepath.Join(attemptDir(h.data, id, attempt), logs.FileName)
}

// backend is what the server of an owner stands on.
type backend struct {
	*history
	d *Daemon
}

func newBackend(d *Daemon) *backend {
	return &backend{&history{data: d.o.Data, store: d.store.Store, jobs: d.jobs.planned, byKey: d.jobs.byKey, now: d.now, secrets: d.runner.Secrets, publisher: d.publisher}, d}
}

// of gives what a user of the machine may ask for.
func (b *backend) of(user string) *backend {
	h := *b.history
	h.owner, h.owners = user, map[string]string{}
	h.jobs = func() []plan.Job {
		return slices.DeleteFunc(slices.Clone(b.jobs()), func(j plan.Job) bool { return j.Owner != user })
	}
	return &backend{&h, b.d}
}

func (b *backend) Health(ctx context.Context) api.Health {
	h := b.d.health(ctx)
	if b.owner != "" {
		h.Jobs = len(b.jobs())
	}
	return h
}

// EachJob gives those of the sources as they are now.
func (b *backend) EachJob(ctx context.Context, short bool, each func(server.Job) error) error {
	b.d.jobs.reload(ctx, false)
	return b.history.EachJob(ctx, short, each)
}

func (b *backend) Changed() <-chan struct{} { return b.d.changes.next() }

// Request records the runs that a person asked for and has them started.
func (b *backend) Request(ctx context.Context, r api.RunRequest) ([]run.Run, error) {
	j, err := b.asked(ctx, r.Job)
	if err != nil {
		return nil, err
	}
	now := b.d.now()
	firesAt, named, err := plan.ForRequest(j.Job, plan.Request{Date: r.Date, At: r.At}, now)
	if err != nil {
		return nil, &api.Error{Code: api.Invalid, Message: err.Error()}
	}
	if err := b.free(ctx, j, firesAt); err != nil {
		return nil, err
	}
	runs, definitions := requested(j, b.jobs(), r.WithAfter, firesAt, named, now)
	if r.DryRun {
		return runs, nil
	}
	if err := b.d.store.AddRuns(ctx, runs, definitions, &run.Act{Person: b.d.person(ctx), At: now, Action: run.ActRun, Job: j.Key, Run: runs[0].ID}); err != nil {
		return nil, err
	}
	b.d.runner.Kick()
	b.d.changed()
	return runs, nil
}

// working refuses what a daemon that is ending would leave to the next one.
func (b *backend) working() error {
	if b.d.o.Shadow {
		return &api.Error{Code: api.Refused, Message: "the daemon looks on while another cron runs the jobs (--shadow), and starts nothing", Hint: "let the other cron run it, or switch over: belfry install --system"}
	}
	if b.d.runner.Held() {
		return &api.Error{Code: api.Refused, Message: "the daemon is ending, and starts nothing more", Hint: "ask the next one, or this command again when it has ended"}
	}
	return nil
}

// asked finds a job for somebody who wants it run. Whoever has just edited a file
// means the edited job.
func (b *backend) asked(ctx context.Context, name string) (plan.Job, error) {
	if name == "" {
		return plan.Job{}, &api.Error{Code: api.Invalid, Message: "the request names no job"}
	}
	if err := b.working(); err != nil {
		return plan.Job{}, err
	}
	b.d.jobs.reload(ctx, false)
	if trouble := b.d.jobs.trouble(); trouble != "" && b.owner != "" { // its words are of root's file
		return plan.Job{}, &api.Error{Code: api.BadFile, Message: "the newest job files are not in use: there is a mistake in " + b.d.o.Project, Hint: "ask root to mend it"}
	} else if trouble != "" {
		return plan.Job{}, &api.Error{Code: api.BadFile, Message: trouble, Hint: "mend it and try again; the daemon goes on with the jobs as they were"}
	}
	return b.find(name)
}

// requested makes the run that a person asked for and, withAfter, those of the
// jobs that come after it, directly or not. They follow each other by id too.
func requested(j plan.Job, jobs []plan.Job, withAfter bool, firesAt, named, now time.Time) ([]run.Run, []job.Definition) {
	if !withAfter {
		jobs = nil
	}
	ids := make([]string, len(jobs)+1)
	for i := range ids {
		ids[i] = run.NewID(now)
	}
	slices.Sort(ids)
	first := run.Run{
		ID: ids[0], Key: "m/" + ids[0], Job: j.Key, Project: j.Project, Name: j.Name, Cause: plan.Manual, State: run.Queued,
		FiresAt: firesAt, FiresUntil: firesAt, Count: 1, Named: named, QueuedAt: now, AskedAt: now,
	}
	runs, definitions := []run.Run{first}, []job.Definition{j.Definition()}
	asked := map[string]string{j.Name: first.ID} // job → its run in this request
	for i, child := range jobs {                 // parents come before their children
		waiting := first
		waiting.ID, waiting.Job, waiting.Name = ids[i+1], child.Key, child.Name
		waiting.Cause, waiting.Reason, waiting.Parents = plan.After, plan.DependencyReason, nil
		for _, parent := range child.After {
			if id, ok := asked[parent]; ok && child.Project == j.Project {
				waiting.Parents = append(waiting.Parents, id)
			}
		}
		if len(waiting.Parents) > 0 {
			asked[child.Name] = waiting.ID
			runs, definitions = append(runs, waiting), append(definitions, child.Definition())
		}
	}
	return runs, definitions
}

// free refuses a run by hand that would have to be skipped.
func (b *backend) free(ctx context.Context, j plan.Job, firesAt time.Time) error {
	if j.Overlap != job.OverlapSkip {
		return nil
	}
	running, err := b.d.store.Running(ctx)
	if err != nil {
		return err
	}
	waiting, err := b.d.store.Waiting(ctx)
	if err != nil {
		return err
	}
	for _, other := range append(running, waiting...) {
		if other.Job != j.Key {
			continue
		}
		if other.State == run.Running || other.Attempt > 0 || other.FiresAt.Equal(firesAt) {
			return &api.Error{
				Code: api.Refused, Message: fmt.Sprintf("%s is still running: run %s has not ended, and its overlap policy is skip", j.Name, other.ID),
				Hint: "belfry logs -f " + other.ID + " watches it, belfry stop " + other.ID + " ends it",
			}
		}
	}
	return nil
}

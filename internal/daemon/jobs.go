package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"belfry/crontab"
	"belfry/internal/job"
	"belfry/internal/plan"
	"belfry/internal/project"
	"belfry/internal/publish"
	"belfry/internal/run"
	"belfry/internal/system"
)

// jobs are the jobs of a daemon's sources, as they are loaded now.
type jobs struct {
	o     Options
	store *account
	log   *slog.Logger
	cron  *cronLog
	asked chan struct{} // to read the sources anew, whether they have changed or not
	news  func()        // called when the jobs are others than before
	alive time.Time     // when a daemon was last here before this one

	loading sync.Mutex // held while the sources are read and saved
	turn    sync.Mutex // held by a decision, and while the jobs are exchanged; taken after loading

	mu      sync.Mutex
	loaded  jobList              // guarded by mu
	dates   *plan.Calendar       // guarded by mu; of loaded, and used by the planning loop alone
	daemon  project.Daemon       // guarded by mu
	stamps  map[string]fileStamp // guarded by mu; of the sources when they were read
	orphans []string             // guarded by mu; users whose crontabs wait for them
	said    map[string]bool      // guarded by loading; sentences that the last reading told
	texts   map[string]string    // guarded by loading; path of a crontab of the machine → the stamp that was read
	own     *projectRead         // guarded by loading; what the belfry.yaml said when it was last right
	wrong   error                // guarded by mu; what is wrong with the belfry.yaml while the crontabs are read without it
	problem string               // guarded by mu: why the newest sources are not in use
	fresh   []source             // guarded by mu: what was read and is not saved yet
}

// fileStamp tells whether a file is still the one that was read, with the owner,
// the mode and the names that it had then, which its time of change tells of.
type fileStamp struct {
	size         int64
	mtime, ctime time.Time
	inode        uint64
	link         time.Time // when the path itself changed, which may be a link
}

func newJobs(o Options, cron *cronLog) *jobs {
	j := &jobs{o: o, cron: cron, log: o.Log.With("component", "jobs"), asked: make(chan struct{}, 1), news: func() {}}
	if info, err := os.Stat(filepath.Join(o.Data, "alive")); err == nil {
		j.alive = info.ModTime()
	}
	return j
}

// sources lists the files that jobs come from.
func (j *jobs) sources() []string {
	files := slices.Clone(j.o.Crontabs)
	if j.o.Project != "" {
		files = append(files, j.o.Project)
	}
	if j.o.System != nil {
		files = append(files, j.o.System.Files()...)
	}
	return files
}

// read reads all sources and their settings. With an error what was read before
// stays in use.
func (j *jobs) read() error {
	stamps := map[string]fileStamp{}
	for _, file := range j.sources() {
		stamps[file] = stampOf(file) // before it is read: a later write is seen
	}
	said := map[string]bool{}
	o := j.o
	o.Told = func(sentence string) {
		said[sentence] = true
		if !j.said[sentence] {
			j.o.Told(sentence)
		}
	}
	own, wrong := readProject(o)
	err := wrong
	if err != nil && o.System != nil { // a mistake of root's keeps no user's crontab from being read
		if j.own != nil {
			own = *j.own
		} else {
			own.settings.Retention = project.Retention{} // what it would keep is not known: all is
		}
		err = nil
		o.Told("the machine's belfry.yaml cannot be used, everything else goes on: " + wrong.Error())
	}
	var loaded []source
	var refused []*system.Refusal
	if err == nil {
		loaded, refused, err = readCrontabs(o, own)
	}
	for _, r := range refused {
		sentence := "this crontab is not used: " + r.Error() + "; " + r.Next
		if !j.said[sentence] {
			j.cron.refused(r, j.o.System.Spool)
		}
		o.Told(sentence)
	}
	j.said = said
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stamps = stamps // the same mistake is told once
	if err != nil {
		j.problem = err.Error()
		return err
	}
	j.fresh, j.daemon, j.orphans, j.wrong = loaded, own.settings, orphans(refused), wrong
	if wrong == nil {
		j.own = &own
	}
	j.tellReloaded(loaded)
	return nil
}

// tellReloaded tells the machine's log which of its crontabs are others than when
// they were read before. Its caller holds mu, and the first reading is alone.
func (j *jobs) tellReloaded(loaded []source) {
	if j.o.System == nil {
		return
	}
	texts := map[string]string{}
	for _, s := range loaded {
		texts[s.path] = s.stamp
		if before, known := j.texts[s.path]; known && before != s.stamp {
			j.cron.reloaded(s.path, j.o.System.Spool)
		}
	}
	j.texts = texts
}

// begin makes what was read the jobs of a daemon that has just taken its folder.
func (j *jobs) begin(ctx context.Context, s *account, now time.Time) error {
	j.store = s
	return j.save(ctx, now)
}

// save makes what was read last the jobs from now on. With an error nothing has
// changed.
func (j *jobs) save(ctx context.Context, now time.Time) error {
	j.mu.Lock()
	fresh := j.fresh
	j.mu.Unlock()
	if err := j.removeMissing(ctx, fresh, now); err != nil {
		return err
	}
	var all []plan.Job
	for i, source := range fresh {
		saved, err := j.saveSource(ctx, source, now)
		if err != nil {
			return err
		}
		if i == 0 {
			all = saved
		} else {
			all = append(all, saved...)
		}
	}
	list := newJobList(all)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.loaded, j.dates, j.problem, j.fresh = list, plan.NewCalendar(all), "", nil
	if j.wrong != nil {
		j.problem = j.wrong.Error()
	}
	return nil
}

// crontabsAlone reports whether the belfry.yaml cannot be used as it is.
func (j *jobs) crontabsAlone() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wrong != nil
}

// removeMissing marks the jobs of the machine's crontabs that are there no more as
// removed. Of a belfry.yaml and the crontabs that serve was given, others may be
// served tomorrow.
func (j *jobs) removeMissing(ctx context.Context, fresh []source, now time.Time) error {
	if j.o.System == nil || j.crontabsAlone() { // whose jobs are missing is not known then
		return nil
	}
	projects, err := j.store.Projects(ctx)
	if err != nil {
		return err
	}
	for _, name := range projects {
		if slices.ContainsFunc(fresh, func(s source) bool { return s.project == name }) {
			continue
		}
		if _, err := j.store.SaveJobs(ctx, name, nil, nil, now); err != nil {
			return err
		}
	}
	return nil
}

// swap saves the jobs between two decisions: what a job fires from now on is
// decided with it, and what fired before, without.
func (j *jobs) swap(ctx context.Context) error {
	j.turn.Lock()
	defer j.turn.Unlock()
	return j.save(ctx, j.o.Clock().Wall)
}

// jobList is jobs by their place and by their key. Nobody changes it: it is
// replaced.
type jobList struct {
	jobs  []plan.Job
	byKey []int32 // places in jobs, in the order of the keys: a map would be the largest thing in memory
}

func newJobList(jobs []plan.Job) jobList {
	l := jobList{jobs, make([]int32, len(jobs))}
	for i := range l.byKey {
		l.byKey[i] = int32(i)
	}
	slices.SortFunc(l.byKey, func(a, b int32) int { return strings.Compare(jobs[a].Key, jobs[b].Key) })
	return l
}

func (l jobList) find(key string) (plan.Job, bool) {
	at, ok := slices.BinarySearchFunc(l.byKey, key, func(place int32, key string) int { return strings.Compare(l.jobs[place].Key, key) })
	if !ok {
		return plan.Job{}, false
	}
	return l.jobs[l.byKey[at]], true
}

// saveSource makes what was read from a source its project's jobs. A long
// crontab that is as it was needs no matching.
func (j *jobs) saveSource(ctx context.Context, s source, now time.Time) ([]plan.Job, error) {
	if s.stamp != "" {
		kept, ok, err := j.store.KeptJobs(ctx, s.project, s.stamp, s.jobs)
		if ok || err != nil {
			return kept, err
		}
	}
	known, err := j.store.KnownJobs(ctx, s.project)
	if err != nil {
		return nil, err
	}
	keys := job.Match(s.jobs, known)
	if s.stamp == "" {
		return j.store.SaveJobs(ctx, s.project, s.jobs, keys, now)
	}
	begun, err := j.store.JobsBegun(ctx, s.project, s.stamp)
	if err != nil {
		return nil, err
	}
	added := 0
	for _, key := range keys {
		if key == "" {
			added++
		}
	}
	if added > newAtOnce || !begun.IsZero() {
		return j.saveLong(ctx, s, keys, begun, now)
	}
	saved, err := j.store.SaveJobs(ctx, s.project, s.jobs, keys, now)
	if err == nil {
		err = j.store.StampJobs(ctx, s.project, s.stamp)
	}
	return saved, err
}

// reload loads again when a source has changed, or always, and says whether it
// tried. A bad file leaves the old jobs running and is told once.
func (j *jobs) reload(ctx context.Context, always bool) (read bool) {
	j.loading.Lock()
	defer j.loading.Unlock()
	if !always && !j.changed() && !j.awaited() {
		return false
	}
	if always {
		j.said = nil // whoever asks wants to hear it again
	}
	before, settings, problem := j.current(), j.settings(), j.trouble()
	err := j.read()
	if err == nil {
		err = j.store.unwritten.all(ctx) // the new ones are matched with all that are known
	}
	if err == nil {
		err = j.swap(ctx)
	}
	var wrong *SourceError
	switch {
	case errors.As(err, &wrong):
		if text := err.Error(); always || text != problem {
			j.o.Told("the changed jobs cannot be used, the old ones go on: " + text)
		}
	case err != nil:
		j.later(settings, err)
		j.log.Error("save the changed jobs, will try again", "error", err)
	default:
		j.log.Info("read the jobs anew", "jobs", len(j.planned()), "changed", difference(before, j.current())+settingsChanged(settings, j.settings()))
		if settings.Listen != j.settings().Listen && j.o.Listen == "" {
			j.log.Warn("a changed daemon.listen counts from the next start of the daemon on")
		}
		j.news()
	}
	return true
}

// pause makes a job fire no more, or again: then from now on.
func (j *jobs) pause(ctx context.Context, key string, paused bool, by run.Person) error {
	j.loading.Lock()
	defer j.loading.Unlock()
	j.turn.Lock()
	defer j.turn.Unlock()
	now, action := j.o.Clock().Wall, run.ActResume
	if paused {
		action = run.ActPause
	}
	since, err := j.store.Pause(ctx, key, paused, now, &run.Act{Person: by, At: now, Action: action, Job: key})
	if err != nil {
		return err
	}
	j.mu.Lock()
	list := slices.Clone(j.loaded.jobs)
	for i := range list {
		if list[i].Key == key {
			list[i].Paused, list[i].Since = paused, since
		}
	}
	j.loaded.jobs, j.dates = list, plan.NewCalendar(list)
	j.mu.Unlock()
	j.news()
	return nil
}

// later has sources that were read and could not be saved loaded again.
func (j *jobs) later(settings project.Daemon, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.daemon, j.stamps, j.fresh, j.problem = settings, nil, nil, err.Error()
}

// changed reports whether a source is another than the one that was read.
func (j *jobs) changed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, file := range j.sources() {
		if stamp, read := j.stamps[file]; !read || stamp != stampOf(file) {
			return true
		}
	}
	return false
}

// awaited reports whether somebody whose crontab waits for them is there.
func (j *jobs) awaited() bool {
	j.mu.Lock()
	orphans := j.orphans
	j.mu.Unlock() // looking them up may take a while, and the planner needs none of them
	return slices.ContainsFunc(orphans, func(name string) bool {
		_, err := j.o.System.Users.Lookup(name)
		return err == nil
	})
}

// difference says in words what a reload changed.
func difference(before, after jobList) string {
	var added, removed, edited int
	same := alike{}
	for _, j := range after.jobs {
		was, known := before.find(j.Key)
		switch {
		case !known:
			added++
		case !same.jobs(was.Job, j.Job) && was.Definition().Hash != j.Definition().Hash:
			edited++
		}
	}
	for _, j := range before.jobs {
		if _, still := after.find(j.Key); !still {
			removed++
		}
	}
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{added, "added"}, {removed, "removed"}, {edited, "changed"}} {
		switch {
		case part.n == 0:
		case len(parts) > 0:
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		case part.n == 1:
			parts = append(parts, "1 job "+part.what)
		default:
			parts = append(parts, fmt.Sprintf("%d jobs %s", part.n, part.what))
		}
	}
	if len(parts) == 0 {
		return "no job changed"
	}
	return strings.Join(parts, ", ")
}

// alike knows which settings have been found equal, by their addresses: a long
// crontab has few, and to write the definitions of all its jobs takes a second.
type alike map[[2]*job.Settings]bool

// jobs reports whether nothing differs between two jobs; what does may still be
// no part of their definitions.
func (a alike) jobs(x, y *job.Job) bool {
	if x.ID != y.ID || !slices.Equal(x.Schedules, y.Schedules) || x.Stdin != y.Stdin ||
		x.Command.Text != y.Command.Text || x.Command.Shell != y.Command.Shell || !slices.Equal(x.Command.Args, y.Command.Args) {
		return false
	}
	pair := [2]*job.Settings{x.Settings, y.Settings}
	same, known := a[pair]
	if !known {
		same = reflect.DeepEqual(x.Settings, y.Settings)
		a[pair] = same
	}
	return same
}

func settingsChanged(before, after project.Daemon) string {
	if reflect.DeepEqual(before, after) {
		return ""
	}
	return "; the daemon's settings changed"
}

func stampOf(file string) fileStamp {
	var there, link unix.Stat_t
	if unix.Stat(file, &there) != nil {
		return fileStamp{size: -1}
	}
	stamp := fileStamp{size: there.Size, mtime: time.Unix(there.Mtim.Unix()), inode: there.Ino, ctime: time.Unix(there.Ctim.Unix())}
	if unix.Lstat(file, &link) == nil && link.Mode&unix.S_IFMT == unix.S_IFLNK {
		stamp.link = time.Unix(link.Ctim.Unix())
	}
	return stamp
}

func (j *jobs) current() jobList {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.loaded
}

func (j *jobs) planned() []plan.Job { return j.current().jobs }

func (j *jobs) calendar() *plan.Calendar {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.dates
}

func (j *jobs) byKey(key string) (plan.Job, bool) { return j.current().find(key) }

func (j *jobs) settings() project.Daemon {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.daemon
}

// wantPython tells of a job's name whether a job of it runs in a virtual
// environment; those stand in belfry.yaml alone.
func (j *jobs) wantPython() func(name string) bool {
	wanted := map[string]bool{}
	for _, loaded := range j.planned() {
		if loaded.Python.Wanted() {
			wanted[loaded.Name] = true
		}
	}
	return func(name string) bool { return wanted[name] }
}

func (j *jobs) trouble() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.problem
}

// source is a project's jobs as they were read, before they are matched with
// the ones that are known.
type source struct {
	project string
	path    string
	jobs    []*job.Job
	stamp   string // of a crontab's text and of all that it is read with; else empty
}

// SourceError says what is wrong in a file that a person wrote.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// Read gives the jobs and settings of the sources as a daemon would find them
// now.
func Read(o Options) ([]*job.Job, project.Daemon, error) {
	sources, settings, _, err := read(o)
	var all []*job.Job
	for _, s := range sources {
		all = append(all, s.jobs...)
	}
	return all, settings, err
}

// read reads the project and the crontabs of o. A line of a crontab that is
// wrong is told and left out, one of the machine's crontabs that may not be used
// is among the refused; anything wrong in a belfry.yaml, or a file that cannot be
// read, is an error.
func read(o Options) (sources []source, settings project.Daemon, refused []*system.Refusal, err error) {
	own, err := readProject(o)
	if err == nil {
		sources, refused, err = readCrontabs(o, own)
	}
	return sources, own.settings, refused, err
}

// projectRead is what a belfry.yaml says.
type projectRead struct {
	sources  []source // one, or none
	settings project.Daemon
}

// zoned is o with the machine's zone data as they are now.
func zoned(o Options) Options {
	if zone, err := time.LoadLocation(o.Zone.String()); err == nil {
		o.Zone = zone
	}
	return o
}

// readProject reads the belfry.yaml of o, if there is one.
func readProject(o Options) (own projectRead, err error) {
	o = zoned(o)
	own.settings = project.Daemon{Retention: project.DefaultRetention}
	there := o.Project != ""
	if there && o.System != nil {
		if there, err = o.System.settings(o.Project); err != nil {
			return own, &SourceError{err}
		}
	}
	if !there {
		return own, nil
	}
	p, err := project.Load(o.Project, project.Defaults{Owner: o.Host.User, Zone: o.Zone, Now: o.Clock().Wall})
	if err != nil {
		return own, &SourceError{err}
	}
	for _, j := range p.Jobs {
		if err := checkTargets(j, o.Host.Home, o.Data); err != nil {
			return own, &SourceError{err}
		}
	}
	return projectRead{[]source{{project: p.Name, path: o.Project, jobs: p.Jobs}}, p.Daemon}, nil
}

// readCrontabs reads the crontabs of o, and adds them to what its belfry.yaml says.
func readCrontabs(o Options, own projectRead) (sources []source, refused []*system.Refusal, err error) {
	o = zoned(o)
	sources = slices.Clone(own.sources)
	add := func(s source) error {
		if slices.ContainsFunc(sources, func(other source) bool { return other.project == s.project }) {
			return fmt.Errorf("two projects are called %q: %s is one; give the other another file name, or a project: of its own", s.project, s.path)
		}
		sources = append(sources, s)
		return nil
	}
	for _, path := range o.Crontabs {
		s, err := loadCrontab(path, o, own.settings.Pools)
		if err == nil {
			err = add(s)
		}
		for _, j := range s.jobs {
			if err == nil {
				err = checkTargets(j, o.Host.Home, o.Data)
			}
		}
		if err != nil {
			return nil, nil, &SourceError{err}
		}
	}
	if o.System == nil {
		return sources, nil, nil
	}
	crontabs, refused, err := o.System.read(o, own.settings.Pools)
	if err != nil {
		return nil, nil, &SourceError{err}
	}
	for _, s := range crontabs {
		if err := add(s); err != nil { // nobody's name may keep the others from running
			o.Told("this crontab is not used: " + err.Error())
		}
	}
	return sources, refused, nil
}

// checkTargets says what is wrong with the places that a job publishes to.
func checkTargets(j *job.Job, home, data string) error {
	for _, target := range j.Publish {
		to := run.AbsoluteTarget(target.To, cmp.Or(j.Dir, home))
		err := publish.Check(to)
		if err == nil && run.Inside(to, data) {
			err = fmt.Errorf("%q lies in belfry's own data folder; choose a place outside of %s", target.To, data)
		}
		if err != nil {
			return fmt.Errorf("%s: publish of %s: %w", j.Source, j.Name, err)
		}
	}
	return nil
}

func loadCrontab(path string, o Options, pools map[string]int) (source, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return source{}, fmt.Errorf("read crontab %s: %w", path, err)
	}
	text, err := project.ReadFile(abs)
	if err != nil {
		reason := err
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			reason = pathErr.Err
		}
		return source{}, fmt.Errorf("read crontab %s: %w", path, reason)
	}
	whose := job.Crontab{Project: projectName(abs), Owner: o.Host.User, File: abs, Zone: o.Zone, Pools: pools, Now: o.Clock().Wall}
	return parseCrontab(path, text, o, whose, crontab.Options{Root: o.Host.User == "root"})
}

// parseCrontab makes jobs of a crontab's text. What is wrong in it is told and
// left out; name is what it is called then.
func parseCrontab(name string, text []byte, o Options, whose job.Crontab, how crontab.Options) (source, error) {
	how.Seed = o.Host.Name + whose.File
	file, err := crontab.Parse(name, text, how)
	var wrong crontab.Errors
	if err != nil && !errors.As(err, &wrong) {
		return source{}, err
	}
	jobs, more := job.FromCrontab(file, whose)
	for _, e := range append(wrong, more...) {
		o.Told("this line is left out: " + e.Error())
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %q %+v %q %q\n", o.Version, whose.Owner, whose.File, how, o.Zone, slices.Sorted(maps.Keys(whose.Pools)))
	sum.Write(text)
	return source{whose.Project, whose.File, jobs, hex.EncodeToString(sum.Sum(nil))}, nil
}

// projectName calls a crontab given by its path after its file.
func projectName(path string) string { return filepath.Base(path) }

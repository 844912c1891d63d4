package daemon

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settling is how long after the first sign of a change the sources are
	// read: whoever writes a file in place empties it first.
	settling = 100 * time.Millisecond
	// breather lies between two readings, however often a file is written.
	breather = 500 * time.Millisecond
	// compare is how often the sources are compared with what was read, for
	// changes that no event tells of: a network disk, a folder that was replaced.
	compare = time.Minute
)

// watch reads the sources anew as soon as they change, when it is asked to, and
// once a minute if they are not what they were.
func (j *jobs) watch(ctx context.Context, alive func(), s supervisor) error {
	w := newWatcher(j)
	defer w.close()
	ticker := time.NewTicker(compare)
	defer ticker.Stop()
	soon := time.NewTimer(0) // the folders are watched from now on: what changed before is seen
	defer soon.Stop()
	rest()
	var last time.Time
	for waiting := true; ; {
		alive()
		always := false
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.events():
			if !waiting && w.concerns(event) {
				waiting = true
				soon.Reset(max(settling, breather-time.Since(last)))
			}
			continue
		case err := <-w.errors():
			j.log.Warn("watch the job files", "error", err) // too many events: the comparison sees the change
			continue
		case <-soon.C:
			waiting = false
		case <-ticker.C:
		case <-j.asked:
			always = true
			s.tell("RELOADING=1", monotonic(j.o.Clock().Running))
		}
		if j.reload(ctx, always) {
			rest()
		}
		last = time.Now()
		w.follow(j.sources())
		if always {
			s.tell("READY=1", status("%d jobs", len(j.planned())))
		}
	}
}

// watcher hears of changes in the folders of files. Folders, because an editor
// puts a new file in the place of the old one.
type watcher struct {
	j       *jobs
	notify  *fsnotify.Watcher // nil: the system has no room for one
	names   []string          // paths whose change may be one of a source
	folders []string
	whole   []string // folders of which every file may be a source
}

func newWatcher(j *jobs) *watcher {
	w := &watcher{j: j}
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		j.log.Warn("changed job files are seen within a minute, not at once", "error", err)
		return w
	}
	w.follow(j.sources())
	return w
}

// follow watches the folders in which each file stands: by its path, where
// links lead, and those of the links themselves.
func (w *watcher) follow(files []string) {
	if w.notify == nil {
		return
	}
	var names []string
	for _, file := range files {
		if abs, err := filepath.Abs(file); err == nil {
			names = append(names, places(abs)...)
		}
	}
	var folders []string
	for _, name := range names {
		folders = append(folders, filepath.Dir(name))
	}
	var whole []string
	if system := w.j.o.System; system != nil {
		whole = system.Folders()
		folders = append(folders, whole...)
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	for _, folder := range w.folders {
		if !slices.Contains(folders, folder) {
			_ = w.notify.Remove(folder) // it may be gone
		}
	}
	for _, folder := range folders {
		if err := w.notify.Add(folder); err != nil && !slices.Contains(w.folders, folder) && !slices.Contains(whole, folder) {
			w.j.log.Warn("watch a folder of job files", "folder", folder, "error", err)
		}
	}
	w.names, w.folders = names, folders
	w.whole = whole
}

// places lists the paths whose change may put another file at an absolute path:
// itself, where it leads, and the links on the way.
func places(path string) []string {
	list := []string{path}
	if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
		list = append(list, target)
	}
	for at := filepath.Dir(path); at != filepath.Dir(at); at = filepath.Dir(at) {
		if info, err := os.Lstat(at); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			list = append(list, at)
		}
	}
	return list
}

func (w *watcher) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	if slices.Contains(w.whole, filepath.Dir(name)) {
		return true // also when only its mode or its owner is another
	}
	return slices.Contains(w.names, name) && (event.Op != fsnotify.Chmod || w.j.o.System != nil)
}

func (w *watcher) events() <-chan fsnotify.Event {
	if w.notify == nil {
		return nil
	}
	return w.notify.Events
}

func (w *watcher) errors() <-chan error {
	if w.notify == nil {
		return nil
	}
	return w.notify.Errors
}

func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close()
	}
}

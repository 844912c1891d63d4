package project

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"belfry/internal/job"
)

// Release is what a copy of a project's folder on a host holds.
type Release struct {
	Project string        `json:"project"`
	Files   []ReleaseFile `json:"files"` // by path
	// Shared are folders that are no part of any release and outlive them all:
	// jobs publish into them. In a release each is a link.
	Shared []string `json:"shared,omitempty"`
}

// ReleaseFile is a file of a release, or with Link a symbolic link.
type ReleaseFile struct {
	Path   string      `json:"path"` // relative to the project, with slashes
	Mode   fs.FileMode `json:"mode"` // 0644, 0755; 0600 for one with secrets
	Size   int64       `json:"size"` // bytes
	SHA256 string      `json:"sha256,omitempty"`
	Link   string      `json:"link,omitempty"` // where it points
}

// Name is the release's name: 16 hexadecimal digits of the hash of its content.
func (r Release) Name() string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers only
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Size is how many bytes its files have.
func (r Release) Size() (bytes int64) {
	for _, f := range r.Files {
		bytes += f.Size
	}
	return bytes
}

var releaseName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// ReleasesName is the folder of a project on a host that has a folder for each of
// its releases.
const ReleasesName = "releases"

// SharedName is the folder of a project on a host that has what outlives the
// releases.
const SharedName = "shared"

// ReleaseAt finds out whether a folder is a release: its name, and the folder of
// the project on this host.
func ReleaseAt(dir string) (name, root string, ok bool) {
	name = filepath.Base(dir)
	parent := filepath.Dir(dir)
	if filepath.Base(parent) != ReleasesName || !releaseName.MatchString(name) {
		return "", "", false
	}
	return name, filepath.Dir(parent), true
}

// Release reads the project's folder: what is to be shipped of it. Left out is
// what its .gitignore and .belfryignore files say, except for the files that the
// jobs name, and the keys of hosts and the files in except whatever is said of them:
// absolute paths, as that of the key by which the host is reached.
func (p *Project) Release(except ...string) (Release, error) {
	r := Release{Project: p.Name, Files: []ReleaseFile{}}
	var err error
	if r.Shared, err = p.shared(); err != nil {
		return r, err
	}
	named := map[string]fs.FileMode{FileName: 0o644}
	for _, j := range p.Jobs {
		if rel, ok := p.within(j.Python.Requirements); ok {
			named[rel] = 0o644
		}
		if rel, ok := p.within(j.SecretsFile); ok {
			named[rel] = 0o600
		}
		if rel, ok := p.within(j.EnvFile); ok {
			switch _, err := os.Stat(j.EnvFile); {
			case errors.Is(err, fs.ErrNotExist):
				return r, fmt.Errorf("%s: the env_file of %s: there is no %s; write it, with mode 0600, or take env_file away", j.Source, j.Name, j.EnvFile)
			case err != nil:
				return r, fmt.Errorf("%s: the env_file of %s: %w", j.Source, j.Name, err)
			}
			named[rel] = 0o600
		}
	}
	list, err := rulesAbove(p.Dir)
	if err != nil {
		return r, err
	}
	w := walker{dir: p.Dir, left: r.Shared, named: named, release: &r}
	for _, h := range p.Hosts {
		except = append(except, h.Identity)
	}
	for _, file := range except {
		if rel, ok := p.within(file); ok {
			w.left = append(w.left, rel)
		}
		if info, err := os.Stat(file); err == nil { // whatever way leads to it
			w.keys = append(w.keys, info)
		}
	}
	for _, rel := range slices.Concat(slices.Sorted(maps.Keys(named)), r.Shared) {
		if listed := p.listed(rel); listed != rel {
			return r, fmt.Errorf("%s: %q is meant, and the folder has %q: here that is the same, and on the host it is not; write both alike", p.File, rel, listed)
		}
	}
	if err := w.folder(".", list, false); err != nil {
		return r, err
	}
	slices.SortFunc(r.Files, func(a, b ReleaseFile) int { return strings.Compare(a.Path, b.Path) })
	return r, nil
}

// listed gives a path in the project as a release lists it. Where folders are blind
// to case, and to how a letter is composed, as they are on macOS, that may be another.
func (p *Project) listed(rel string) string {
	var words []string
	for word := range strings.SplitSeq(rel, "/") {
		dir := filepath.Join(p.Dir, filepath.Join(words...))
		entries, err := os.ReadDir(dir)
		if err != nil {
			return rel // it is not there, or that is told elsewhere
		}
		words = append(words, listedAs(filepath.Join(dir, word), entries))
	}
	return path.Join(words...)
}

// listedAs gives the name by which a release has a file, of its folder's entries.
func listedAs(file string, entries []fs.DirEntry) string {
	name := filepath.Base(file)
	info, err := os.Lstat(file)
	if err != nil {
		return name
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name }) {
		return shipped(name)
	}
	for _, entry := range entries {
		if other, err := entry.Info(); err == nil && os.SameFile(info, other) {
			return shipped(entry.Name())
		}
	}
	return name
}

// within gives the path of a file of the project relative to its folder.
func (p *Project) within(file string) (string, bool) {
	if file == "" {
		return "", false
	}
	rel, err := filepath.Rel(p.Dir, file)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// shared finds the folders of the project that its jobs publish into.
func (p *Project) shared() ([]string, error) {
	var list []string
	for _, j := range p.Jobs {
		for _, t := range j.Publish {
			folder, err := p.sharedBy(t)
			if err != nil {
				return nil, fmt.Errorf("%s: %s publishes to %q: %w", j.Source, j.Name, t.To, err)
			}
			if folder != "" {
				list = append(list, folder)
			}
		}
	}
	slices.Sort(list)
	return slices.CompactFunc(list, func(a, b string) bool { return b == a || strings.HasPrefix(b, a+"/") }), nil
}

// sharedBy gives the folder that outlives the releases because of a target: the
// part of its path before the first $NAME. A target itself is exchanged as a whole
// and so cannot be a link.
func (p *Project) sharedBy(t job.Target) (string, error) {
	if strings.Contains(t.To, "://") {
		return "", nil
	}
	to := t.To
	if filepath.IsAbs(to) {
		rel, ok := p.within(to)
		if !ok {
			return "", nil
		}
		to = rel
	}
	to = path.Clean(filepath.ToSlash(to))
	if !filepath.IsLocal(to) {
		return "", fmt.Errorf("that lies beside the folder of the project, which on a host is one of its releases; write an absolute path, or a folder of the project")
	}
	words := strings.Split(to, "/")
	fixed := slices.IndexFunc(words, func(word string) bool { return strings.Contains(word, "$") })
	if fixed < 0 {
		fixed = len(words) - 1
	}
	if fixed == 0 {
		return "", fmt.Errorf("the next release would begin without it; give it a folder of its own, as in %q", "out/"+to)
	}
	return strings.Join(words[:fixed], "/"), nil
}

// settle makes the targets of a release's jobs independent of the release: the
// places are those that outlive it.
func (p *Project) settle(root string) {
	for _, j := range p.Jobs {
		for i, t := range j.Publish {
			if shared, err := p.sharedBy(t); err != nil || shared == "" || filepath.IsAbs(t.To) {
				continue
			}
			j.Publish[i].To = filepath.Join(root, SharedName, t.To)
			if strings.HasSuffix(t.To, "/") {
				j.Publish[i].To += "/"
			}
		}
	}
}

// walker collects the files of a release.
type walker struct {
	dir     string
	left    []string               // never shipped
	keys    []fs.FileInfo          // nor are these, whatever they are called here
	named   map[string]fs.FileMode // shipped whatever the rules say
	release *Release
}

// folder adds what is in a folder. out says that a rule leaves the folder out: it
// is only looked through for files that are named.
func (w *walker) folder(at string, list rules, out bool) error {
	dir := filepath.Join(w.dir, at)
	list, err := list.read(dir, at)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the project: %w", err)
	}
	for _, entry := range entries {
		file := path.Join(at, shipped(entry.Name()))
		_, named := w.named[file]
		left := out || list.ignored(file, entry.IsDir())
		switch {
		case slices.Contains(w.left, file):
		case entry.IsDir():
			if left && !w.leadsToNamed(file) {
				continue
			}
			if err := w.folder(file, list, left); err != nil {
				return err
			}
		case left && !named:
		default:
			if err := w.file(file, entry); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) leadsToNamed(folder string) bool {
	if neverShipped[path.Base(folder)] {
		return false
	}
	for name := range w.named {
		if strings.HasPrefix(name, folder+"/") {
			return true
		}
	}
	return false
}

// file adds one file, which is neither changed while it is read nor of a kind
// that cannot be shipped.
func (w *walker) file(file string, entry fs.DirEntry) error {
	from := filepath.Join(w.dir, file)
	if !utf8.ValidString(file) {
		return fmt.Errorf("the name of %q is not UTF-8; rename it, or leave it out with a line in .belfryignore", file)
	}
	info, err := entry.Info()
	if err != nil {
		return fmt.Errorf("read the project: %w", err)
	}
	if slices.ContainsFunc(w.keys, func(key fs.FileInfo) bool { return os.SameFile(info, key) }) {
		return nil
	}
	f := ReleaseFile{Path: file}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(from)
		if err != nil {
			return fmt.Errorf("read the project: %w", err)
		}
		f.Link = shipped(to)
		f.Mode = 0o777
	case info.Mode().IsRegular():
		f.Mode = 0o644
		if info.Mode()&0o100 != 0 {
			f.Mode = 0o755
		}
		if mode, named := w.named[file]; named {
			f.Mode = mode
		}
		if f.SHA256, f.Size, err = HashFile(from); err != nil {
			return fmt.Errorf("read the project: %w", err)
		}
	default:
		return fmt.Errorf("%s is neither a file nor a folder nor a link; leave it out with a line in .belfryignore", file)
	}
	w.release.Files = append(w.release.Files, f)
	return nil
}

// HashFile gives the SHA-256 of a file, in hexadecimal, and its size.
func HashFile(name string) (sum string, size int64, err error) {
	file, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	size, err = io.Copy(h, file)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
